//! The line at the end of a file that says how many rows there are and what they come to: whether it holds.
//!
//! A file whose footer does not hold is refused as a whole before any of its rows is taken: which of them are wrong,
//! nobody can say.

use super::columns::{Columns, Value};
use super::csv::{CsvError, Record, Records};
use super::value::{self, fold};
use super::{Reason, Rejection};
use crate::config::feeds::{Footer, FooterCell};
use std::borrow::Cow;
use std::io::Read;

/// A footer made ready: what it begins with is folded.
#[derive(Debug, Clone)]
pub struct Check {
    begins: String,
    footer: Footer,
}

/// What became of a check.
#[derive(Debug)]
pub enum Verdict {
    Holds,
    /// There is no footer: the file may still be written.
    Missing,
    Wrong(u64, Rejection, Vec<u8>),
}

impl Check {
    pub fn new(footer: &Footer) -> Check {
        Check { begins: fold(&footer.begins), footer: footer.clone() }
    }

    /// Whether a row whose first filled cell is this is the footer.
    pub fn begins(&self, first: &str) -> bool {
        fold(first).starts_with(&self.begins)
    }

    /// Whether the record is the footer.
    pub fn is_footer(&self, record: &Record<'_>) -> bool {
        let first = record.iter().find(|cell| !cell.trim_ascii().is_empty());
        first.is_some_and(|cell| self.begins(&String::from_utf8_lossy(cell)))
    }

    /// Reads all rows; `records` stands behind the header.
    pub fn run<R: Read>(&self, records: &mut Records<R>, columns: &Columns) -> Result<Verdict, CsvError> {
        let amount = columns.field("amount");
        let mut tally = Tally::default();
        while let Some(record) = records.read()? {
            if self.is_footer(&record) {
                let cell = |field| Ok(Value::Text(String::from_utf8_lossy(record.get(field).unwrap_or_default())));
                let compared = self.compare(&tally, columns, cell);
                return Ok(Verdict::of(compared, record.line, || record.raw.to_vec()));
            }
            let cell = amount.and_then(|field| record.get(field)).and_then(|cell| std::str::from_utf8(cell).ok());
            tally.add(cell.map(|cell| Value::Text(Cow::Borrowed(cell))), columns);
        }
        Ok(Verdict::Missing)
    }

    /// Compares what the footer says with the rows before it; `cell` gives a field of the footer.
    pub fn compare<'a>(
        &self,
        tally: &Tally,
        columns: &Columns,
        cell: impl Fn(usize) -> Result<Value<'a>, Rejection>,
    ) -> Result<(), Rejection> {
        let wrong = |detail: String| Err(Rejection::new(Reason::FileTotals, detail));
        let cell = |place: &FooterCell| {
            let field = match place {
                FooterCell::Header(text) => columns.header(text),
                FooterCell::Field(number) => number.checked_sub(1),
            };
            field.map_or(Ok(Value::EMPTY), &cell)
        };
        if let Some(place) = &self.footer.count {
            let n_rows = tally.n_rows;
            let count = cell(place).and_then(|cell| match cell {
                Value::Number(number) => value::decimal_count(&number),
                other => value::count(other.as_str()),
            });
            match count {
                Ok(count) if count == n_rows => {}
                Ok(count) => return wrong(format!("the footer counts {count} rows, the file has {n_rows}")),
                Err(rejection) => return wrong(format!("the footer's count: {}", rejection.detail)),
            }
        }
        if let (Some(place), Some(sum)) = (&self.footer.total, tally.sum) {
            match cell(place).and_then(|cell| columns.manner().amount(&cell)) {
                Ok(total) if total == sum => {}
                Ok(total) => return wrong(format!("the footer's total is {total} đ, the rows come to {sum} đ")),
                Err(rejection) => return wrong(format!("the footer's total: {}", rejection.detail)),
            }
        }
        Ok(())
    }
}

/// What the rows before a footer come to.
pub struct Tally {
    n_rows: i64,
    /// `None`: a row will be rejected for its amount, so the sum says nothing.
    sum: Option<i64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { n_rows: 0, sum: Some(0) }
    }
}

impl Tally {
    /// Counts a row with its amount.
    pub fn add(&mut self, amount: Option<Value<'_>>, columns: &Columns) {
        self.n_rows += 1;
        let amount = amount.and_then(|cell| columns.manner().amount(&cell).ok());
        self.sum = self.sum.zip(amount).and_then(|(sum, amount)| sum.checked_add(amount));
    }
}

impl Verdict {
    /// Of a comparison with the footer in `line`.
    pub fn of(compared: Result<(), Rejection>, line: u64, raw: impl FnOnce() -> Vec<u8>) -> Verdict {
        match compared {
            Ok(()) => Verdict::Holds,
            Err(rejection) => Verdict::Wrong(line, rejection, raw()),
        }
    }
}
