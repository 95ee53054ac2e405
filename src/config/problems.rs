//! The collector of everything wrong with a configuration and the files it names: rules, calendars, inventories.

use super::mask::Mask;
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing wrong, at one place. Prints as `FILE:LINE:COL: error: message`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1; 0 when the problem is the file as a whole (missing, unreadable).
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: error: {}", self.file.display(), self.line, self.column, self.message)
    }
}

/// Collects problems; reading goes on after each.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    /// What no message may say.
    secrets: Mask,
}

impl Problems {
    pub fn add(&mut self, file: &Path, line: u32, column: u32, message: impl Into<String>) {
        let message = self.secrets.hide(&message.into());
        self.list.push(Problem { file: file.to_path_buf(), line, column, message });
    }

    /// From now on the messages do not say these.
    pub fn keep_secret(&mut self, secrets: Mask) {
        self.secrets = secrets;
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// All problems, ordered by file and place, without repetitions.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.list.sort();
        self.list.dedup();
        self.list
    }
}
