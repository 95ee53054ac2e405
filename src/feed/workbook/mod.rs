//! Reads workbooks (.xlsx) row by row in bounded memory, whatever the file says of itself.
//!
//! A library that reads a workbook whole believes what it announces (how many strings there are, how large a sheet is) and
//! keeps every cell. Here each part is unpacked as it is read, no further than it announced and than its limit allows; one
//! sheet's rows go by one at a time, and only the table of shared strings is kept. Formulas are not calculated: what the
//! program that wrote the file stored as their value counts.
//!
//! What the cells mean does not belong here, see [`super::columns`]; [`super::sheet`] makes rows of a feed of them.

mod archive;
mod parts;
mod rows;
mod serial;
#[cfg(test)]
mod tests;
mod xml;

pub use rows::{Rows, SheetRow};

use std::fmt;
use std::fs::File;
use std::sync::Arc;

/// How much of a workbook is read, in bytes as unpacked.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The table of shared strings, which is kept in memory as long as the sheet is read.
    pub strings: u64,
    /// The sheet, which goes by.
    pub sheet: u64,
}

impl Limits {
    /// Of a program that does other things beside: strings of half a million payments, and as many rows as a sheet has.
    pub const DAEMON: Limits = Limits { strings: 32 * MIB, sheet: 512 * MIB };
    /// Of a command that does nothing else.
    pub const COMMAND: Limits = Limits { strings: 1024 * MIB, sheet: 4096 * MIB };
}

const MIB: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum WorkbookError {
    #[error("reading the file")]
    Io(#[source] std::io::Error),
    /// It may still be written.
    #[error("the file is no workbook (.xlsx), or is cut off: it has no directory at its end")]
    Unfinished,
    #[error("{0}")]
    Broken(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    NoSheet(String),
}

impl WorkbookError {
    fn broken(detail: impl fmt::Display) -> WorkbookError {
        WorkbookError::Broken(format!("the workbook is damaged: {detail}"))
    }
}

/// Opens a sheet of the file, of which the first `length` bytes count: the one of that name (compared after NFC and case
/// folding), else the first that is not hidden.
pub fn open(file: File, length: u64, sheet: Option<&str>, limits: Limits) -> Result<Rows, WorkbookError> {
    let archive = archive::Archive::open(Arc::new(file), length)?;
    let book = parts::Book::read(&archive)?;
    let path = book.sheet(sheet)?;
    let formats = book.date_formats(&archive)?;
    let strings = book.strings(&archive, limits.strings)?;
    Rows::open(&archive, path, limits.sheet, rows::Context { strings, formats, is_1904: book.is_1904 })
}
