//! Keeps what could not be used: `DATA_DIR/rejected/FEED/FILE.HASH.csv` with file, line, reason, what is wrong and the
//! raw row; a file that is unusable as a whole is copied beside it as `FILE.HASH.whole`.
//!
//! The rows hold personal data, so the directory is the daemon's alone.

use super::{FeedError, Rejection};
use crate::format::safe_cell;
use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A row that could not be used.
#[derive(Debug, Clone)]
pub struct RejectedRow {
    pub line: u64,
    pub rejection: Rejection,
    /// Its bytes, in whatever encoding.
    pub raw: Vec<u8>,
}

/// Where the rejected rows of a feed are kept.
pub fn rejected_dir(data_dir: &Path, feed: &str) -> PathBuf {
    data_dir.join("rejected").join(plain(feed))
}

/// A name that stays inside its directory.
fn plain(name: &str) -> String {
    let name: String = name.chars().map(|c| if matches!(c, '/' | '\\' | '\0') { '_' } else { c }).collect();
    if name.starts_with('.') { format!("_{name}") } else { name }
}

/// The kept rows of one content.
#[derive(Debug, Clone)]
pub struct Keeper {
    path: PathBuf,
    file: String,
    /// Nothing is written beyond so many bytes.
    max: u64,
}

/// Of rows that come by network, a day and a feed: whoever sends must not fill the disk. Bytes.
const MAX_DAY: u64 = 64 * 1024 * 1024;

impl Keeper {
    pub fn new(data_dir: &Path, feed: &str, file: &str, hash: &str) -> Keeper {
        let short = &hash[..hash.len().min(8)];
        let path = rejected_dir(data_dir, feed).join(format!("{}.{short}.csv", plain(file)));
        Keeper { path, file: file.to_string(), max: u64::MAX }
    }

    /// The kept rows of one day of a feed that reads no files; `label` says where they came from.
    pub fn of_day(data_dir: &Path, feed: &str, day: &str, label: &str) -> Keeper {
        let path = rejected_dir(data_dir, feed).join(format!("{}.csv", plain(day)));
        Keeper { path, file: label.to_string(), max: MAX_DAY }
    }

    /// Writes `rows` at `length`, cutting off what an unfinished transaction left behind it, and gives the new length
    /// once it is on disk.
    pub fn append(&self, length: u64, rows: &[RejectedRow]) -> Result<u64, FeedError> {
        self.try_append(length, rows).map_err(|error| FeedError::Keep(self.path.clone(), error))
    }

    fn try_append(&self, length: u64, rows: &[RejectedRow]) -> std::io::Result<u64> {
        if rows.is_empty() {
            return Ok(length);
        }
        if length >= self.max {
            tracing::error!(file = %self.path.display(), "too many rejected rows today: they are no longer kept");
            return Ok(length);
        }
        if let Some(dir) = self.path.parent() {
            private_dir(dir)?;
        }
        // What was kept may have been cleared away by hand: then it begins anew.
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        let length = length.min(file.metadata()?.len());
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        let mut writer = csv::Writer::from_writer(Vec::new());
        if length == 0 {
            writer.write_record(["file", "line", "reason", "detail", "raw"])?;
        }
        for row in rows {
            let line = row.line.to_string();
            let Rejection { reason, detail } = &row.rejection;
            let (file, detail, raw) = (safe_cell(&self.file), safe_cell(detail), safe_raw(&row.raw));
            let cells: [&[u8]; 5] =
                [file.as_bytes(), line.as_bytes(), reason.as_str().as_bytes(), detail.as_bytes(), &raw];
            writer.write_record(cells)?;
        }
        let text = writer.into_inner().map_err(|error| error.into_error())?;
        file.write_all(&text)?;
        file.sync_data()?;
        Ok(length + text.len() as u64)
    }

    /// Copies a whole file.
    pub fn copy(&self, source: &Path) -> Result<(), FeedError> {
        let target = self.path.with_extension("whole");
        let copied = self.path.parent().map_or(Ok(()), private_dir).and_then(|()| std::fs::copy(source, &target));
        copied.map(|_| ()).map_err(|error| FeedError::Keep(target, error))
    }
}

/// A row as it came, but no formula for the spreadsheet that it is looked at in.
fn safe_raw(raw: &[u8]) -> Cow<'_, [u8]> {
    // All that one could begin with stands within these bytes, unless there are as many spaces.
    let head = String::from_utf8_lossy(&raw[..raw.len().min(64)]);
    if safe_cell(&head).starts_with('\'') && !head.starts_with('\'') {
        return Cow::Owned([b"'", raw].concat());
    }
    Cow::Borrowed(raw)
}

fn private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
