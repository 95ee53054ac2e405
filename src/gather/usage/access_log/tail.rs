//! Follows a log through its rotations, and finds its place again after a restart. Knows no database and no line format.
//!
//! A place is a content, known by the hash of its first bytes, and an offset in it. The file's name says little: after
//! `rename` and `create` the content has another name, after `copytruncate` the name and inode have another content. So:
//!
//! - While the file of the configured name still begins as it did and is not shorter than what was read, it is read on.
//! - Else the content is looked for among the rotated files beside it (`NAME.1`, `NAME-20261126` …; compressed ones are
//!   not opened) and read to its end, then the younger ones, then the file of the name from its beginning.
//! - If it is not there either, what was written to it since is lost; that is counted.
//!
//! A file that was renamed is still open here, so it is read to its end whatever becomes of it. Writers go on for a while
//! after a rename, so the next file is begun once the old one has been quiet for [`QUIET`] looks.

use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that tell one content from another: at least its first line with its time.
const HEAD: u64 = 1_024;
/// Read at once; bounds memory and the length of a transaction.
const CHUNK: usize = 1024 * 1024;
/// A line beyond this is not kept in memory; it is skipped and counted.
pub const MAX_LINE: usize = 64 * 1024;
/// Looks without a new byte before a renamed file is left.
const QUIET: u32 = 2;
/// Looks after which it is left even if somebody writes to it for ever.
const PATIENCE: u32 = 60;

/// A place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// Of the file it was last read as, and when that was last written to: what there is to tell contents apart by of which
    /// nothing was read yet. Microseconds since 1970.
    pub inode: u64,
    pub written_us: i64,
    /// Of the file that was read to its end before this one: whatever is written to it later, it is not read again.
    pub previous: u64,
    /// The next line begins here.
    pub offset: u64,
    /// SHA-256 of the content's first `min(offset, 1024)` bytes, hexadecimal.
    pub head: String,
    /// Lines before it.
    pub line: u64,
    /// In the middle of a line that is too long.
    pub is_skipping: bool,
}

impl Mark {
    fn start(file: &File) -> io::Result<Mark> {
        let metadata = file.metadata()?;
        let written_us = written_us(&metadata);
        Ok(Mark { inode: metadata.ino(), written_us, head: digest(&[]), ..Mark::default() })
    }

    fn head_length(&self) -> u64 {
        self.offset.min(HEAD)
    }

    /// Whether `file` holds the content of this place, at least up to it.
    fn is_in(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        if metadata.len() < self.offset {
            return Ok(false);
        }
        if self.offset == 0 {
            return Ok(metadata.ino() == self.inode);
        }
        let mut head = vec![0; self.head_length() as usize];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(digest(&head) == self.head),
            // Truncated in between.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn written_us(metadata: &Metadata) -> i64 {
    metadata.mtime() * 1_000_000 + metadata.mtime_nsec() / 1_000
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What one step gave.
#[derive(Debug)]
pub enum Step {
    /// Whole lines, the last with or without its line feed, and the place after them.
    Lines { first: u64, bytes: Vec<u8>, after: Mark },
    /// The beginning of a line that is too long, and the place after what was skipped of it.
    TooLong { line: u64, start: Vec<u8>, after: Mark },
    /// Went on to another file; nothing was read.
    Moved { after: Mark, lost: bool },
    /// There is nothing new now.
    Idle,
}

/// A log being followed. After each step but [`Step::Idle`] it stands where it stood until [`Tail::accept`].
pub struct Tail {
    path: PathBuf,
    held: Option<Arc<File>>,
    mark: Option<Mark>,
    /// Looks since the held file lost its name, and how many of them in a row saw nothing new.
    looks: u32,
    quiet: u32,
}

impl Tail {
    /// Goes on at `mark`; without one, begins with the file as it is.
    pub fn new(path: PathBuf, mark: Option<Mark>) -> Tail {
        Tail { path, held: None, mark, looks: 0, quiet: 0 }
    }

    /// What was read is kept: goes on after it.
    pub fn accept(&mut self, after: Mark) {
        self.mark = Some(after);
    }

    /// Reads on. Blocks.
    pub fn step(&mut self) -> io::Result<Step> {
        let Some(mark) = self.mark.clone() else {
            let file = File::open(&self.path)?;
            let mark = Mark::start(&file)?;
            self.hold(file);
            return Ok(Step::Moved { after: mark, lost: false });
        };
        let file = match &self.held {
            Some(file) => file.clone(),
            None => match find(&self.path, &mark)? {
                Some(file) => return self.go_on_in(file, mark),
                None => return self.begin_anew(),
            },
        };
        let is_unread = mark.offset == 0 && self.is_current(&file)?;
        if !mark.is_in(&file)? || (is_unread && unread_rotation(&self.path, &mark)?.is_some()) {
            // Truncated: a copy may hold the rest.
            return match find(&self.path, &mark)? {
                Some(file) => self.go_on_in(file, mark),
                None => self.begin_anew(),
            };
        }
        self.read(&file, &mark)
    }

    /// Another file holds the content.
    fn go_on_in(&mut self, file: File, mark: Mark) -> io::Result<Step> {
        let after = if mark.offset == 0 { Mark { previous: mark.previous, ..Mark::start(&file)? } } else { mark };
        self.hold(file);
        Ok(Step::Moved { after, lost: false })
    }

    fn hold(&mut self, file: File) {
        self.held = Some(Arc::new(file));
        (self.looks, self.quiet) = (0, 0);
    }

    /// The content is nowhere: what was written to it since is lost.
    fn begin_anew(&mut self) -> io::Result<Step> {
        let file = File::open(&self.path)?;
        let after = Mark::start(&file)?;
        self.hold(file);
        Ok(Step::Moved { after, lost: true })
    }

    /// Whether the file still has the configured name.
    fn is_current(&self, file: &File) -> io::Result<bool> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(metadata.ino() == file.metadata()?.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self, file: &File, mark: &Mark) -> io::Result<Step> {
        let mut bytes = vec![0; CHUNK];
        let length = read_at(file, &mut bytes, mark.offset)?;
        bytes.truncate(length);
        if let Some(end) = memchr::memrchr(b'\n', &bytes) {
            bytes.truncate(end + 1);
            return self.lines(file, mark, bytes);
        }
        if length > MAX_LINE {
            let after = advance(file, mark, length as u64, 0, true)?;
            bytes.truncate(HEAD as usize);
            // The rest of a line that was told of already is passed over in silence.
            let start = if mark.is_skipping { Vec::new() } else { bytes };
            return Ok(Step::TooLong { line: mark.line + 1, start, after });
        }
        self.at_end(file, mark, bytes)
    }

    /// Takes off what is left of a line that was too long.
    fn lines(&self, file: &File, mark: &Mark, mut bytes: Vec<u8>) -> io::Result<Step> {
        let length = bytes.len() as u64;
        let n_lines = memchr::memchr_iter(b'\n', &bytes).count() as u64;
        let after = advance(file, mark, length, n_lines, false)?;
        let mut first = mark.line + 1;
        if mark.is_skipping {
            let rest = memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |at| at + 1);
            bytes.drain(..rest);
            first += 1;
        }
        Ok(Step::Lines { first, bytes, after })
    }

    /// Nothing whole is left: waits, or leaves a file that was rotated away.
    fn at_end(&mut self, file: &File, mark: &Mark, rest: Vec<u8>) -> io::Result<Step> {
        if self.is_current(file)? || !self.path.exists() {
            // Renamed, and nothing new there yet, is no end either.
            return Ok(Step::Idle);
        }
        self.looks += 1;
        self.quiet += 1;
        if self.quiet < QUIET && self.looks < PATIENCE {
            return Ok(Step::Idle);
        }
        if !rest.is_empty() && !mark.is_skipping {
            // Nobody will end this line any more.
            let after = advance(file, mark, rest.len() as u64, 1, false)?;
            return Ok(Step::Lines { first: mark.line + 1, bytes: rest, after });
        }
        let next = successor(&self.path, &file.metadata()?)?;
        let done = file.metadata()?;
        let mut after = Mark::start(&next)?;
        (after.previous, after.written_us) = (done.ino(), after.written_us.max(written_us(&done)));
        self.hold(next);
        Ok(Step::Moved { after, lost: false })
    }

    /// Told when a look found something: the file is not quiet.
    pub fn stirred(&mut self) {
        self.quiet = 0;
    }
}

/// The place `length` bytes on.
fn advance(file: &File, mark: &Mark, length: u64, n_lines: u64, is_skipping: bool) -> io::Result<Mark> {
    let offset = mark.offset + length;
    let mut after = Mark { offset, line: mark.line + n_lines, is_skipping, ..mark.clone() };
    after.inode = file.metadata()?.ino();
    if mark.offset < HEAD {
        let mut head = vec![0; after.head_length() as usize];
        file.read_exact_at(&mut head, 0)?;
        after.head = digest(&head);
    }
    Ok(after)
}

/// As much as there is, up to the buffer's length.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The file that holds the content of `mark`: the one of the name, else a rotated one.
fn find(path: &Path, mark: &Mark) -> io::Result<Option<File>> {
    if mark.offset == 0
        && let Some(rotated) = unread_rotation(path, mark)?
    {
        return Ok(Some(rotated));
    }
    match File::open(path) {
        Ok(file) if mark.is_in(&file)? => return Ok(Some(file)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // The youngest first: that is where it usually is.
    for (rotated, _) in rotated(path)?.into_iter().rev() {
        // May be gone or compressed by now.
        let Ok(file) = File::open(&rotated) else { continue };
        if mark.is_in(&file)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Where what was written since a mark at the very beginning went: the oldest rotated file that is that file, or that was
/// written to since.
fn unread_rotation(path: &Path, mark: &Mark) -> io::Result<Option<File>> {
    for (rotated, metadata) in rotated(path)? {
        let is_done = metadata.ino() == mark.previous;
        if !is_done && (metadata.ino() == mark.inode || written_us(&metadata) > mark.written_us) {
            // May be gone or compressed by now.
            if let Ok(file) = File::open(&rotated) {
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}

/// What was written next after the content of `done`: a rotated file, or the one of the name.
fn successor(path: &Path, done: &Metadata) -> io::Result<File> {
    let order = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
    for (rotated, metadata) in rotated(path)? {
        if metadata.ino() != done.ino()
            && order(&metadata) > order(done)
            && let Ok(file) = File::open(&rotated)
        {
            return Ok(file);
        }
    }
    File::open(path)
}

/// Rotated files beside the log that are not compressed, the oldest first.
fn rotated(path: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if is_rotation(&entry.file_name(), name)
            && let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            found.push((entry.path(), metadata));
        }
    }
    found.sort_by_key(|(path, metadata)| (metadata.mtime(), metadata.mtime_nsec(), path.clone()));
    Ok(found)
}

/// `NAME.1`, `NAME-20261126`, `NAME.2026-11-26`: the name, then digits, dots and dashes.
fn is_rotation(file: &OsStr, name: &OsStr) -> bool {
    let suffix = file.as_encoded_bytes().strip_prefix(name.as_encoded_bytes()).unwrap_or_default();
    matches!(suffix.first(), Some(b'.' | b'-'))
        && suffix.len() > 1
        && suffix.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
