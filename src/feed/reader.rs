//! Reads one file in batches: the blocking half of a directory feed. Knows no database. Delimited text is read here,
//! workbooks in [`super::sheet`].

use super::columns::{Columns, Manner};
use super::csv::{CsvError, Place, Records};
use super::footer::{Check, Verdict};
use super::rejected::RejectedRow;
use super::sheet::Sheet;
use super::transcode;
use super::{FeedError, Gatherer, Reason, Rejection};
use crate::config::feeds::{Encoding, Feed};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Rows in a batch; with the bytes below it bounds memory and the length of a transaction.
pub const BATCH_ROWS: usize = 5_000;
pub const BATCH_BYTES: u64 = 4 * 1024 * 1024;

/// Lines among which the header is looked for.
pub const HEADER_LINES: usize = 20;

/// What a look at the whole content tells.
#[derive(Debug, Clone)]
pub struct Digested {
    /// SHA-256, hexadecimal.
    pub hash: String,
    pub length: u64,
    pub begins: [u8; 2],
    pub ends: [u8; 2],
}

/// How a delimited file is written.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    pub delimiter: u8,
    pub encoding: Encoding,
}

pub fn digest(path: &Path) -> Result<Digested, FeedError> {
    let failed = |error| FeedError::Read(path.into(), error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let (mut length, mut begins, mut ends) = (0, [0; 2], [0; 2]);
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        hasher.update(&buffer[..n]);
        if length < 2 {
            for (at, byte) in buffer[..n].iter().enumerate().take(2 - length as usize) {
                begins[at + length as usize] = *byte;
            }
        }
        ends = if n > 1 { [buffer[n - 2], buffer[n - 1]] } else { [ends[1], buffer[n - 1]] };
        length += n as u64;
    }
    Ok(Digested { hash: hex(&hasher.finalize()), length, begins, ends })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An open file whose columns are found.
pub enum Reader {
    Delimited(Box<Delimited>),
    Sheet(Box<Sheet>),
}

impl Reader {
    /// The next batch.
    pub fn batch<G: Gatherer>(&mut self, gatherer: &G, now: Timestamp) -> Result<Batch<G::Ready>, FeedError> {
        match self {
            Reader::Delimited(reader) => reader.batch(gatherer, now),
            Reader::Sheet(reader) => reader.batch(gatherer, now),
        }
    }
}

/// A file of delimited text.
pub struct Delimited {
    path: PathBuf,
    records: Records<Box<dyn Read + Send>>,
    columns: Columns,
    footer: Option<Check>,
}

/// What opening a file gave.
pub enum Opened {
    Reader(Reader),
    /// The whole file is unusable.
    Refused(RejectedRow),
    /// Its footer is not there yet.
    Unfinished,
}

/// What is wrong with a file whose footer does not come.
pub fn no_footer() -> Rejection {
    let detail = "the file ends without its footer: it was cut off, or is still being written";
    Rejection::new(Reason::FileTruncated, detail)
}

/// The rows of one transaction.
pub struct Batch<R> {
    /// `None`: there is none.
    pub rows: Option<R>,
    pub accepted: u64,
    pub rejected: Vec<RejectedRow>,
    /// Where the next batch begins.
    pub place: Place,
    /// Nothing follows.
    pub finished: bool,
    /// From here on nothing can be read.
    pub broken: bool,
}

impl<R> Batch<R> {
    pub fn new<G: Gatherer<Ready = R>>(
        gatherer: &G,
        rows: Vec<G::Row>,
        rejected: Vec<RejectedRow>,
        place: Place,
        finished: bool,
    ) -> Batch<R> {
        let accepted = rows.len() as u64;
        let rows = (accepted > 0).then(|| gatherer.ready(rows));
        Batch { rows, accepted, rejected, place, finished, broken: false }
    }

    pub fn broken(self, broken: bool) -> Batch<R> {
        Batch { broken, ..self }
    }
}

impl Delimited {
    /// Opens the first `length` bytes of the file and goes to `place`. `settled`: a footer that is not there by now will
    /// not come.
    #[expect(clippy::too_many_arguments, reason = "the parts of one file's opening, used once")]
    pub fn open<G: Gatherer>(
        path: &Path,
        feed: &Feed,
        dialect: Dialect,
        footer: Option<Check>,
        length: u64,
        place: Place,
        settled: bool,
        gatherer: &G,
    ) -> Result<Opened, FeedError> {
        let failed = |error| FeedError::Read(path.into(), error);
        let Dialect { delimiter, encoding } = dialect;
        let open = || File::open(path).map(|file| transcode::utf8(file.take(length), encoding)).map_err(failed);
        let mut records = Records::new(open()?, delimiter, Place::START);
        let refused =
            |raw: &[u8], rejection| Ok(Opened::Refused(RejectedRow { line: 1, rejection, raw: raw.to_vec() }));
        // Titles may stand above the header: it is the first line with every column that is wanted.
        let mut first: Option<(Vec<u8>, Rejection)> = None;
        let mut found = None;
        for _ in 0..HEADER_LINES {
            match records.read() {
                Ok(Some(header)) => {
                    if header.raw.contains(&0) {
                        let detail = "the file is binary, or UTF-16 without a byte order mark: name its encoding";
                        return refused(header.raw, Rejection::new(Reason::FileEncoding, detail));
                    }
                    match Columns::bind_record(&header, feed, Manner::of(feed), gatherer.columns()) {
                        Ok(columns) => {
                            found = Some(columns);
                            break;
                        }
                        Err(rejection) => {
                            first.get_or_insert_with(|| (header.raw.to_vec(), rejection));
                        }
                    }
                }
                Ok(None) => break,
                Err(CsvError::Io(error)) => return Err(failed(error)),
                Err(error) => return refused(b"", Rejection::new(Reason::FileBroken, error.to_string())),
            }
        }
        let Some(mut columns) = found else {
            let none = || (Vec::new(), Rejection::new(Reason::FileHeader, "the file has no header"));
            let (raw, rejection) = first.unwrap_or_else(none);
            return refused(&raw, rejection);
        };
        columns.doubt(encoding != Encoding::Utf8);
        if let (Some(footer), true) = (&footer, place == Place::START) {
            let first = records.place();
            match footer.run(&mut records, &columns) {
                Ok(Verdict::Holds) => {}
                Ok(Verdict::Missing) if !settled => return Ok(Opened::Unfinished),
                Ok(Verdict::Missing) => return refused(b"", no_footer()),
                Ok(Verdict::Wrong(line, rejection, raw)) => {
                    return Ok(Opened::Refused(RejectedRow { line, rejection, raw }));
                }
                Err(CsvError::Io(error)) => return Err(failed(error)),
                Err(error) => return refused(b"", Rejection::new(Reason::FileBroken, error.to_string())),
            }
            // Again from behind the header, now for its rows.
            let mut text = open()?;
            std::io::copy(&mut text.by_ref().take(first.offset), &mut std::io::sink()).map_err(failed)?;
            records = Records::new(text, delimiter, first);
        }
        if place != Place::START {
            let mut input = File::open(path).map_err(failed)?;
            let rest: Box<dyn Read + Send> = if encoding == Encoding::Utf8 {
                input.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
                Box::new(input.take(length.saturating_sub(place.offset)))
            } else {
                // The place is one in the text as it was read.
                let mut text = open()?;
                std::io::copy(&mut text.by_ref().take(place.offset), &mut std::io::sink()).map_err(failed)?;
                text
            };
            records = Records::new(rest, delimiter, place);
        }
        let reader = Delimited { path: path.into(), records, columns, footer };
        Ok(Opened::Reader(Reader::Delimited(Box::new(reader))))
    }

    fn batch<G: Gatherer>(&mut self, gatherer: &G, now: Timestamp) -> Result<Batch<G::Ready>, FeedError> {
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
            if self.footer.as_ref().is_some_and(|footer| footer.is_footer(&record)) {
                finished = true;
                break;
            }
            if !record.damaged && !self.columns.takes(&record) {
                continue;
            }
            match self.columns.cells(&record).and_then(|cells| gatherer.parse(&cells, now)) {
                Ok(row) => rows.push(row),
                Err(rejection) => {
                    rejected.push(RejectedRow { line: record.line, rejection, raw: record.raw.to_vec() });
                }
            }
        }
        Ok(Batch::new(gatherer, rows, rejected, self.records.place(), finished).broken(broken))
    }
}
