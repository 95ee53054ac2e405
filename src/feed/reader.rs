//! Reads one file in batches: the blocking half of a directory feed. Knows no database.

use super::columns::{Columns, Manner};
use super::csv::{CsvError, Place, Records};
use super::rejected::RejectedRow;
use super::{FeedError, Gatherer, Reason, Rejection};
use crate::config::feeds::Feed;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

/// Rows in a batch; with the bytes below it bounds memory and the length of a transaction.
const BATCH_ROWS: usize = 2_000;
const BATCH_BYTES: u64 = 4 * 1024 * 1024;

/// What a look at the whole content tells.
#[derive(Debug, Clone)]
pub struct Digested {
    /// SHA-256, hexadecimal.
    pub hash: String,
    pub length: u64,
    pub ends_with_line_feed: bool,
}

pub fn digest(path: &Path) -> Result<Digested, FeedError> {
    let failed = |error| FeedError::Read(path.into(), error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let (mut length, mut last) = (0, 0);
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        hasher.update(&buffer[..n]);
        length += n as u64;
        last = buffer[n - 1];
    }
    Ok(Digested { hash: hex(&hasher.finalize()), length, ends_with_line_feed: last == b'\n' })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An open file whose columns are found.
pub struct Reader {
    path: PathBuf,
    records: Records<Take<File>>,
    columns: Columns,
}

/// What opening a file gave.
pub enum Opened {
    Reader(Box<Reader>),
    /// The whole file is unusable; `raw` is its first line.
    Refused(RejectedRow),
}

/// The rows of one transaction.
pub struct Batch<R> {
    pub rows: Vec<R>,
    pub rejected: Vec<RejectedRow>,
    /// Where the next batch begins.
    pub place: Place,
    /// Nothing follows.
    pub finished: bool,
    /// From here on nothing can be read.
    pub broken: bool,
}

impl Reader {
    /// Opens the first `length` bytes of the file and goes to `place`.
    pub fn open<G: Gatherer>(
        path: &Path,
        feed: &Feed,
        delimiter: u8,
        length: u64,
        place: Place,
        gatherer: &G,
    ) -> Result<Opened, FeedError> {
        let failed = |error| FeedError::Read(path.into(), error);
        let open = || File::open(path).map(|file| file.take(length));
        let mut records = Records::new(open().map_err(failed)?, delimiter, Place::START);
        let refused =
            |raw: &[u8], rejection| Ok(Opened::Refused(RejectedRow { line: 1, rejection, raw: raw.to_vec() }));
        let columns = match records.read() {
            Ok(Some(header)) => {
                if header.raw.starts_with(b"\xff\xfe") || header.raw.starts_with(b"\xfe\xff") || header.raw.contains(&0)
                {
                    let detail = "the file is UTF-16 or binary; export it as UTF-8";
                    return refused(header.raw, Rejection::new(Reason::FileEncoding, detail));
                }
                match Columns::bind(&header, feed, Manner::of(feed), gatherer.columns()) {
                    Ok(columns) => columns,
                    Err(rejection) => return refused(header.raw, rejection),
                }
            }
            Ok(None) => return refused(b"", Rejection::new(Reason::FileHeader, "the file has no header")),
            Err(CsvError::Io(error)) => return Err(failed(error)),
            Err(error) => return refused(b"", Rejection::new(Reason::FileBroken, error.to_string())),
        };
        if place != Place::START {
            let mut input = File::open(path).map_err(failed)?;
            input.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
            records = Records::new(input.take(length.saturating_sub(place.offset)), delimiter, place);
        }
        Ok(Opened::Reader(Box::new(Reader { path: path.into(), records, columns })))
    }

    /// The next batch.
    pub fn batch<G: Gatherer>(&mut self, gatherer: &G, now: Timestamp) -> Result<Batch<G::Row>, FeedError> {
        let begin = self.records.place().offset;
        let (mut rows, mut rejected) = (Vec::new(), Vec::new());
        let (mut finished, mut broken) = (false, false);
        while rows.len() + rejected.len() < BATCH_ROWS && self.records.place().offset - begin < BATCH_BYTES {
            let record = match self.records.read() {
                Ok(Some(record)) => record,
                Ok(None) => {
                    finished = true;
                    break;
                }
                Err(CsvError::Io(error)) => return Err(FeedError::Read(self.path.clone(), error)),
                Err(error) => {
                    let rejection = Rejection::new(Reason::FileBroken, error.to_string());
                    rejected.push(RejectedRow { line: self.records.place().line, rejection, raw: Vec::new() });
                    (finished, broken) = (true, true);
                    break;
                }
            };
            match self.columns.cells(&record).and_then(|cells| gatherer.parse(&cells, now)) {
                Ok(row) => rows.push(row),
                Err(rejection) => {
                    rejected.push(RejectedRow { line: record.line, rejection, raw: record.raw.to_vec() });
                }
            }
        }
        Ok(Batch { rows, rejected, place: self.records.place(), finished, broken })
    }
}
