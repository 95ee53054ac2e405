//! Rows of a workbook as the records that the engine reads.

use super::super::guess::{Given, Mapping};
use crate::feed::columns::Value;
use crate::feed::csv::{MAX_RECORD, Record};
use crate::feed::workbook::{Rows, SheetRow, WorkbookError};
use crate::feed::{Reason, Rejection, sheet};

/// Finds the columns in one of the first rows.
pub(super) fn header(rows: &mut Rows, given: &Given) -> Result<Result<Mapping, Rejection>, WorkbookError> {
    let found = sheet::header(rows, |cells| Mapping::find_in(cells.iter().map(|cell| &**cell), given))?;
    Ok(found.map_err(|(_, rejection)| rejection))
}

/// A row as text, in memory that the next row uses again.
#[derive(Default)]
pub(super) struct Line {
    text: Vec<u8>,
    fields: Vec<(u32, u32)>,
}

impl Line {
    /// The row's cells that the mapping reads; the others stay empty.
    pub fn read(&mut self, row: &SheetRow, mapping: &Mapping) -> Result<Record<'_>, Rejection> {
        if row.is_overlong {
            let detail = format!("the row's text is longer than {MAX_RECORD} bytes");
            return Err(Rejection::new(Reason::Fields, detail));
        }
        self.text.clear();
        self.fields.clear();
        for field in 0..mapping.n_fields {
            let begin = self.text.len() as u32;
            if mapping.reads(field) {
                let value = row.value(field)?;
                self.text.extend_from_slice(value.as_str().as_bytes());
                // Three decimals would be read as a group of thousands: a number's point is a decimal point.
                if let (Value::Number(number), Some(point)) = (&value, value.as_str().find('.')) {
                    self.text.resize(self.text.len() + 4_usize.saturating_sub(number.len() - point - 1), b'0');
                }
            }
            self.fields.push((begin, self.text.len() as u32));
        }
        Ok(Record::of(&self.text, &self.fields, row.number.into()))
    }
}
