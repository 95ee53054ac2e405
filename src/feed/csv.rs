//! Reads delimited text record by record, without allocating per record and in bounded memory. Every record knows its
//! byte offset, its line and its raw bytes, so that reading can go on later and what is rejected can be kept as it was.
//!
//! What the fields mean does not belong here, see [`super::columns`].

use std::io::Read;

/// A record longer than this is refused; it also bounds what one unclosed quote can swallow. Bytes.
pub const MAX_RECORD: usize = 64 * 1024;
/// Records with broken quoting that a file may have; every one costs a scan of up to [`MAX_RECORD`].
const MAX_DAMAGED: u32 = 100;
const CHUNK: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    #[error("reading the file")]
    Io(#[source] std::io::Error),
    #[error("line {0} is longer than {MAX_RECORD} bytes")]
    TooLong(u64),
    #[error("more than {MAX_DAMAGED} rows with a quotation mark that is never closed, the last in line {0}")]
    Damaged(u64),
}

/// One record. Fields are bytes: the encoding is the reader's to check.
pub struct Record<'a> {
    /// As it stands in the file, without its line end.
    pub raw: &'a [u8],
    text: &'a [u8],
    fields: &'a [(u32, u32)],
    /// Of its first line, from 1.
    pub line: u64,
    /// Whether a line end follows: the last record of a half-written file has none.
    pub ended: bool,
    /// A quotation mark was never closed; the record is the physical line, its fields are not to be trusted.
    pub damaged: bool,
}

impl<'a> Record<'a> {
    /// A record of fields that were told apart elsewhere; they are ranges of `text`.
    pub fn of(text: &'a [u8], fields: &'a [(u32, u32)], line: u64) -> Record<'a> {
        Record { raw: text, text, fields, line, ended: true, damaged: false }
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let &(start, end) = self.fields.get(index)?;
        Some(&self.text[start as usize..end as usize])
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let text = self.text;
        self.fields.iter().map(move |&(start, end)| &text[start as usize..end as usize])
    }
}

/// Where reading can go on: the byte offset of a record and its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    /// From 1.
    pub line: u64,
}

impl Place {
    pub const START: Place = Place { offset: 0, line: 1 };
}

pub struct Records<R> {
    input: R,
    delimiter: u8,
    buffer: Vec<u8>,
    /// Unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    exhausted: bool,
    /// Of `buffer[start]`.
    place: Place,
    fields: Vec<(u32, u32)>,
    /// The text of a record with quotes, unescaped.
    scratch: Vec<u8>,
    n_damaged: u32,
}

/// What the scan of a quoted record found.
enum Quoted {
    /// The record ends before this buffer index; so many bytes of line end follow; so many line feeds are inside.
    Ends {
        at: usize,
        line_end: usize,
        n_lines: u64,
    },
    NeedsMore,
    Unclosed,
}

impl<R: Read> Records<R> {
    /// `input` stands at `place`. A UTF-8 byte order mark at the very start is skipped.
    pub fn new(input: R, delimiter: u8, place: Place) -> Records<R> {
        Records {
            input,
            delimiter,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            exhausted: false,
            place,
            fields: Vec::new(),
            scratch: Vec::new(),
            n_damaged: 0,
        }
    }

    /// Of the record that comes next.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The next record; empty lines are skipped.
    pub fn read(&mut self) -> Result<Option<Record<'_>>, CsvError> {
        if self.place.offset == 0 && self.start == 0 && self.end == 0 {
            while self.end < 3 && !self.exhausted {
                self.refill()?;
            }
            if self.buffer[..self.end].starts_with(b"\xef\xbb\xbf") {
                self.advance(3, 0);
            }
        }
        let mut scanned = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            match memchr::memchr2(b'\n', b'"', &unread[scanned..]).map(|found| scanned + found) {
                Some(at) if unread[at] == b'\n' => {
                    let length = at - usize::from(at > 0 && unread[at - 1] == b'\r');
                    if length == 0 {
                        self.advance(at + 1, 1);
                        scanned = 0;
                        continue;
                    }
                    if length > MAX_RECORD {
                        return Err(CsvError::TooLong(self.place.line));
                    }
                    return Ok(Some(self.plain(length, at + 1, true)));
                }
                Some(_) => return self.quoted().map(Some),
                None if unread.len() > MAX_RECORD => return Err(CsvError::TooLong(self.place.line)),
                None if !self.exhausted => {
                    scanned = unread.len();
                    self.refill()?;
                }
                None if unread.is_empty() || unread == b"\r" => return Ok(None),
                None => {
                    let length = unread.len();
                    return Ok(Some(self.plain(length, length, false)));
                }
            }
        }
    }

    /// The record of `length` bytes without quotes; `consumed` includes its line end.
    fn plain(&mut self, length: usize, consumed: usize, ended: bool) -> Record<'_> {
        let start = self.start;
        let line = self.place.line;
        let raw = &self.buffer[start..start + length];
        self.fields.clear();
        let mut from = 0;
        for at in memchr::memchr_iter(self.delimiter, raw) {
            self.fields.push((from, at as u32));
            from = at as u32 + 1;
        }
        self.fields.push((from, length as u32));
        self.advance(consumed, u64::from(ended));
        let raw = &self.buffer[start..start + length];
        Record { raw, text: raw, fields: &self.fields, line, ended, damaged: false }
    }

    fn quoted(&mut self) -> Result<Record<'_>, CsvError> {
        loop {
            match self.scan_quoted() {
                Quoted::Ends { at, line_end, n_lines } => {
                    if at - self.start > MAX_RECORD {
                        return Err(CsvError::TooLong(self.place.line));
                    }
                    let (start, line) = (self.start, self.place.line);
                    self.advance(at - start + line_end, n_lines + u64::from(line_end > 0));
                    let raw = &self.buffer[start..at];
                    let (text, fields) = (&self.scratch, &self.fields);
                    return Ok(Record { raw, text, fields, line, ended: line_end > 0, damaged: false });
                }
                Quoted::NeedsMore => self.refill()?,
                Quoted::Unclosed => return self.damaged(),
            }
        }
    }

    /// Reads the record at `start` into `scratch` and `fields`.
    fn scan_quoted(&mut self) -> Quoted {
        self.scratch.clear();
        self.fields.clear();
        let (mut at, mut field, mut quoted, mut n_lines) = (self.start, 0_u32, false, 0);
        // A quotation mark opens a field only as its first character.
        let mut fresh = true;
        while at < self.end {
            if at - self.start > MAX_RECORD {
                return Quoted::Unclosed;
            }
            let byte = self.buffer[at];
            at += 1;
            if quoted {
                if byte != b'"' {
                    n_lines += u64::from(byte == b'\n');
                    self.scratch.push(byte);
                } else if at == self.end && !self.exhausted {
                    return Quoted::NeedsMore;
                } else if at < self.end && self.buffer[at] == b'"' {
                    self.scratch.push(b'"');
                    at += 1;
                } else {
                    quoted = false;
                }
            } else if byte == b'"' && fresh {
                (quoted, fresh) = (true, false);
            } else if byte == self.delimiter {
                self.fields.push((field, self.scratch.len() as u32));
                field = self.scratch.len() as u32;
                fresh = true;
            } else if byte == b'\n' {
                let carriage = at >= 2 && at - 2 >= self.start && self.buffer[at - 2] == b'\r';
                if carriage {
                    self.scratch.pop();
                }
                self.fields.push((field, self.scratch.len() as u32));
                let line_end = 1 + usize::from(carriage);
                return Quoted::Ends { at: at - line_end, line_end, n_lines };
            } else {
                self.scratch.push(byte);
                fresh = false;
            }
        }
        if !self.exhausted {
            return Quoted::NeedsMore;
        }
        if quoted {
            return Quoted::Unclosed;
        }
        self.fields.push((field, self.scratch.len() as u32));
        Quoted::Ends { at: self.end, line_end: 0, n_lines }
    }

    /// Gives the physical line of a record whose quotation mark is never closed, so that the rows after it are read.
    fn damaged(&mut self) -> Result<Record<'_>, CsvError> {
        self.n_damaged += 1;
        let line = self.place.line;
        if self.n_damaged > MAX_DAMAGED {
            return Err(CsvError::Damaged(line));
        }
        let unread = &self.buffer[self.start..self.end];
        let line_feed = memchr::memchr(b'\n', unread);
        let length = line_feed.unwrap_or(unread.len());
        if length > MAX_RECORD {
            return Err(CsvError::TooLong(line));
        }
        let record = self.plain(length, length + usize::from(line_feed.is_some()), line_feed.is_some());
        Ok(Record { damaged: true, ..record })
    }

    fn advance(&mut self, n_bytes: usize, n_lines: u64) {
        self.start += n_bytes;
        self.place.offset += n_bytes as u64;
        self.place.line += n_lines;
    }

    /// Moves what is unread to the front and reads behind it.
    fn refill(&mut self) -> Result<(), CsvError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // The buffer is larger than the longest record allowed, so there is room.
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.exhausted = true;
                    return Ok(());
                }
                Ok(n) => {
                    self.end += n;
                    return Ok(());
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CsvError::Io(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives a few bytes at a time, so that every record crosses a refill.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let n = self.1.min(self.0.len()).min(into.len());
            into[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn read(text: &[u8], drip: usize) -> Vec<Vec<Vec<u8>>> {
        let mut records = Records::new(Drip(text, drip), b',', Place::START);
        let mut all = Vec::new();
        while let Some(record) = records.read().unwrap() {
            all.push(record.iter().map(<[u8]>::to_vec).collect());
        }
        all
    }

    #[test]
    fn a_byte_order_mark_and_empty_lines_are_skipped_and_lines_counted() {
        let text = b"\xef\xbb\xbfa,b\r\n\r\n1,\"x\ny\"\n2,z";
        let mut records = Records::new(&text[..], b',', Place::START);
        let header = records.read().unwrap().unwrap();
        assert_eq!((header.raw, header.line), (&b"a,b"[..], 1));
        let row = records.read().unwrap().unwrap();
        assert_eq!((row.raw, row.line, row.ended), (&b"1,\"x\ny\""[..], 3, true));
        assert_eq!(row.get(1), Some(&b"x\ny"[..]));
        let place = records.place();
        assert_eq!(&text[place.offset as usize..], b"2,z");
        let last = records.read().unwrap().unwrap();
        assert_eq!((last.line, last.ended), (5, false));
        assert!(records.read().unwrap().is_none());
    }

    #[test]
    fn an_unclosed_quote_damages_one_line_only() {
        let mut records = Records::new(&b"1,\"x\n2,y\n3,z\n"[..], b',', Place::START);
        let first = records.read().unwrap().unwrap();
        assert!(first.damaged);
        assert_eq!(first.raw, b"1,\"x");
        let second = records.read().unwrap().unwrap();
        assert_eq!((second.damaged, second.get(1)), (false, Some(&b"y"[..])));
    }

    #[test]
    fn a_record_without_end_is_refused_in_bounded_memory() {
        let mut records = Records::new(std::io::repeat(b'x').take(1 << 30), b',', Place::START);
        assert!(matches!(records.read(), Err(CsvError::TooLong(1))));
        assert!(records.buffer.len() <= CHUNK);
    }

    proptest! {
        #[test]
        fn reads_what_a_writer_wrote(
            rows in prop::collection::vec(prop::collection::vec("[a\",\r\nđ ]{0,6}", 2..4), 0..8),
            drip in 1_usize..9,
        ) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let text = writer.into_inner().unwrap();
            let expected: Vec<Vec<Vec<u8>>> =
                rows.iter().map(|row| row.iter().map(|f| f.clone().into_bytes()).collect()).collect();
            prop_assert_eq!(read(&text, drip), expected);
        }
    }
}
