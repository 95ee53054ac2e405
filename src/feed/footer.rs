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

    /// Whether the record is the footer.
    pub fn is_footer(&self, record: &Record<'_>) -> bool {
        let first = record.iter().find(|cell| !cell.trim_ascii().is_empty());
        first.is_some_and(|cell| fold(&String::from_utf8_lossy(cell)).starts_with(&self.begins))
    }

    /// Reads all rows; `records` stands behind the header.
    pub fn run<R: Read>(&self, records: &mut Records<R>, columns: &Columns) -> Result<Verdict, CsvError> {
        let amount = columns.field("amount");
        let (mut n_rows, mut sum, mut is_summed) = (0_i64, 0_i64, true);
        while let Some(record) = records.read()? {
            if self.is_footer(&record) {
                return Ok(self.compare(&record, columns, n_rows, is_summed.then_some(sum)));
            }
            n_rows += 1;
            let cell = amount.and_then(|field| record.get(field)).and_then(|cell| std::str::from_utf8(cell).ok());
            let read = cell.and_then(|cell| columns.manner().amount(&Value::Text(Cow::Borrowed(cell))).ok());
            match read.and_then(|amount| sum.checked_add(amount)) {
                Some(more) => sum = more,
                // A row that will be rejected for its amount: then the sum says nothing.
                None => is_summed = false,
            }
        }
        Ok(Verdict::Missing)
    }

    fn compare(&self, record: &Record<'_>, columns: &Columns, n_rows: i64, sum: Option<i64>) -> Verdict {
        let wrong = |detail: String| {
            let rejection = Rejection::new(Reason::FileTotals, detail);
            Verdict::Wrong(record.line, rejection, record.raw.to_vec())
        };
        let cell = |cell: &FooterCell| {
            let field = match cell {
                FooterCell::Header(text) => columns.header(text),
                FooterCell::Field(number) => number.checked_sub(1),
            };
            let text = field.and_then(|field| record.get(field)).unwrap_or_default();
            String::from_utf8_lossy(text).trim().to_owned()
        };
        if let Some(place) = &self.footer.count {
            match value::count(&cell(place)) {
                Ok(count) if count == n_rows => {}
                Ok(count) => return wrong(format!("the footer counts {count} rows, the file has {n_rows}")),
                Err(rejection) => return wrong(format!("the footer's count: {}", rejection.detail)),
            }
        }
        if let (Some(place), Some(sum)) = (&self.footer.total, sum) {
            match columns.manner().amount(&Value::Text(cell(place).into())) {
                Ok(total) if total == sum => {}
                Ok(total) => return wrong(format!("the footer's total is {total} đ, the rows come to {sum} đ")),
                Err(rejection) => return wrong(format!("the footer's total: {}", rejection.detail)),
            }
        }
        Verdict::Holds
    }
}
