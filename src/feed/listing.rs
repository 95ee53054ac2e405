//! Delimited text in which every field knows its line and column, which the `csv` crate does not tell.

use std::path::Path;

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// Without its quotes.
    pub text: String,
}

/// One line (or more, where quotes contain line breaks). Has at least one cell.
#[derive(Debug)]
pub struct Record {
    pub cells: Vec<Cell>,
    /// The field whose quote is not closed before the text ends.
    pub unclosed: Option<Cell>,
}

/// Records of a text; blank lines are passed over.
pub struct Records<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    separator: char,
    line: u32,
    column: u32,
}

impl<'a> Records<'a> {
    /// The separator is `;` if the first line has one and no `,`, as spreadsheets write it where the comma is decimal.
    pub fn new(text: &'a str) -> Records<'a> {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
        let separator = if first.contains(';') && !first.contains(',') { ';' } else { ',' };
        Records { rest: text.chars().peekable(), separator, line: 1, column: 1 }
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    /// One field, up to but without its separator or line end; the flag says whether its quote was closed.
    fn cell(&mut self) -> (Cell, bool) {
        let mut cell = Cell { line: self.line, column: self.column, text: String::new() };
        if self.rest.peek() == Some(&'"') {
            self.take();
            loop {
                match self.take() {
                    None => return (cell, false),
                    Some('"') if self.rest.peek() == Some(&'"') => {
                        self.take();
                        cell.text.push('"');
                    }
                    Some('"') => break,
                    Some(c) => cell.text.push(c),
                }
            }
        }
        while let Some(&c) = self.rest.peek() {
            if c == self.separator || c == '\n' || c == '\r' {
                break;
            }
            cell.text.push(c);
            self.take();
        }
        (cell, true)
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while matches!(self.rest.peek(), Some('\n' | '\r')) {
            self.take();
        }
        self.rest.peek()?;
        let mut cells = Vec::new();
        loop {
            let (cell, closed) = self.cell();
            if !closed {
                let unclosed = Some(Cell { text: String::new(), ..cell });
                return Some(Record { cells, unclosed });
            }
            cells.push(cell);
            match self.take() {
                Some(c) if c == self.separator => {}
                _ => return Some(Record { cells, unclosed: None }),
            }
        }
    }
}

/// Why a file of records cannot be read, and where; line and column count from 1, 0 is the file as a whole.
#[derive(Debug)]
pub struct Unreadable {
    pub line: u32,
    pub column: u32,
    pub message: String,
}

/// The text of a file that people keep by hand, without a byte order mark. `what` is what messages call it; above
/// `max_bytes` it is not read.
pub fn read_text(path: &Path, what: &str, max_bytes: u64) -> Result<String, Unreadable> {
    let whole = |message| Unreadable { line: 0, column: 0, message };
    let failed = |error: std::io::Error| whole(format!("cannot read {what}: {error}"));
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > max_bytes {
        return Err(whole(format!("{what} has {size} bytes; at most {max_bytes} are read")));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = before.matches('\n').count() as u32 + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() as u32 + 1;
        Unreadable { line, column, message: "not UTF-8; save the file as \"CSV UTF-8\"".into() }
    })
}
