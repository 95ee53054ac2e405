//! Whether a body is the expected one.

use super::super::detail::{Detail, Failure};
use super::super::outcome::CheckResult;
use super::HttpCheck;

/// What is known of a body so far.
#[derive(Default)]
pub(super) struct Scan {
    pub bytes: u64,
    contains: usize,
    not_contains: usize,
}

impl Scan {
    pub fn read(&mut self, check: &HttpCheck, data: &[u8]) {
        // The bound holds exactly, whatever the size of the last chunk.
        let room = usize::try_from(check.max_body - self.bytes).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(room)];
        self.bytes += data.len() as u64;
        if let Some((_, needle)) = &check.contains {
            self.contains = needle.advance(self.contains, data);
        }
        if let Some((_, needle)) = &check.not_contains {
            self.not_contains = needle.advance(self.not_contains, data);
        }
    }

    pub fn judge(&self, check: &HttpCheck) -> Result<(), Failure> {
        if let Some((text, needle)) = &check.not_contains
            && needle.found(self.not_contains)
        {
            return Err(Failure::new(CheckResult::Content, Detail::Forbidden { text: text.clone() }));
        }
        if let Some((text, needle)) = &check.contains
            && !needle.found(self.contains)
        {
            let detail = Detail::Missing { text: text.clone(), searched: self.bytes };
            return Err(Failure::new(CheckResult::Content, detail));
        }
        Ok(())
    }
}
