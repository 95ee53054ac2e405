//! The rows of one sheet, one at a time.

use super::WorkbookError;
use super::archive::Archive;
use super::parts::{Strings, rich_text, unescape};
use super::serial::civil;
use super::xml::{Xml, append, attribute};
use crate::feed::columns::Value;
use crate::feed::csv::MAX_RECORD;
use crate::feed::value::shorten;
use crate::feed::{Reason, Rejection};
use jiff::civil::DateTime;
use quick_xml::events::{BytesStart, Event};
use std::borrow::Cow;
use std::ops::Range;

/// Columns that are read; a sheet has 16,384.
const MAX_COLUMNS: usize = 1_024;
const SHEET_COLUMNS: usize = 16_384;
const SHEET_ROWS: u32 = 1_048_576;
/// From here on numbers have lost digits: spreadsheets keep fifteen.
const EXACT: f64 = 1e15;

/// What cells refer to.
pub struct Context {
    pub strings: Strings,
    /// By style: whether a number is a date.
    pub formats: Vec<bool>,
    pub is_1904: bool,
}

/// A sheet that is being read.
pub struct Rows {
    xml: Xml,
    context: Context,
    row: SheetRow,
    /// Of the row before, from 1; 0 before the first.
    last: u32,
    is_done: bool,
    scratch: String,
}

/// One row with something in it.
#[derive(Default)]
pub struct SheetRow {
    /// As the spreadsheet shows it, from 1.
    pub number: u32,
    cells: Vec<Cell>,
    /// What text cells are ranges of.
    text: String,
    /// Its text is longer than a row of a feed may be; it is cut off.
    pub is_overlong: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Empty,
    Text(Range<usize>),
    Number(f64),
    Time(DateTime),
    /// A time as ISO 8601, as some programs write it.
    Iso(Range<usize>),
    /// `#N/A` and the like.
    Error(Range<usize>),
    /// A formula whose value was not stored.
    Formula,
    /// A date that no calendar has.
    NoDate(f64),
}

impl Rows {
    pub(super) fn open(archive: &Archive, path: &str, max: u64, context: Context) -> Result<Rows, WorkbookError> {
        let Some(part) = archive.part(path, max)? else {
            return Err(WorkbookError::broken("the sheet that it lists is not there"));
        };
        let mut xml = Xml::new(part);
        loop {
            match xml.next()? {
                Some(Event::Start(element)) if element.local_name().as_ref() == "sheetData" => break,
                Some(_) => {}
                None => return Err(WorkbookError::broken("the sheet has no rows")),
            }
        }
        let (row, scratch) = (SheetRow::default(), String::new());
        Ok(Rows { xml, context, row, last: 0, is_done: false, scratch })
    }

    /// The next row that is not empty.
    pub fn read(&mut self) -> Result<Option<&SheetRow>, WorkbookError> {
        while !self.is_done {
            let number = match self.xml.next()? {
                Some(Event::Start(element)) if element.local_name().as_ref() == "row" => {
                    row_number(&element, self.last)?
                }
                Some(Event::End(element)) if element.local_name().as_ref() == "sheetData" => {
                    self.xml.drain()?;
                    self.is_done = true;
                    break;
                }
                Some(_) => continue,
                None => return Err(WorkbookError::broken("the sheet does not end")),
            };
            self.last = number;
            self.row.begin(number);
            self.cells()?;
            if !self.row.is_blank() {
                return Ok(Some(&self.row));
            }
        }
        Ok(None)
    }

    /// Reads the cells of the row that was begun.
    fn cells(&mut self) -> Result<(), WorkbookError> {
        // Where the next cell stands if it does not say.
        let mut next = 0;
        loop {
            let (column, kind, is_date) = match self.xml.next()? {
                Some(Event::Start(element)) if element.local_name().as_ref() == "c" => {
                    let column = attribute(&element, "r")?.map_or(Some(next), |place| column_of(&place));
                    let Some(column) = column.filter(|column| (next..SHEET_COLUMNS).contains(column)) else {
                        let detail = format!("row {} has a cell out of its place", self.row.number);
                        return Err(WorkbookError::broken(detail));
                    };
                    let style = attribute(&element, "s")?.and_then(|style| style.trim().parse::<usize>().ok());
                    let is_date = style.and_then(|style| self.context.formats.get(style)).is_some_and(|date| *date);
                    (column, Kind::of(attribute(&element, "t")?.as_deref()), is_date)
                }
                Some(Event::End(element)) if element.local_name().as_ref() == "row" => return Ok(()),
                Some(_) => continue,
                None => return Err(WorkbookError::broken("a row does not end")),
            };
            next = column + 1;
            let has_formula = self.value()?;
            if column < MAX_COLUMNS {
                let cell = self.cell(kind, is_date, has_formula)?;
                self.row.put(column, cell);
            }
        }
    }

    /// Reads what a cell holds into `scratch`, up to the cell's end; whether it has a formula.
    fn value(&mut self) -> Result<bool, WorkbookError> {
        self.scratch.clear();
        let (mut has_formula, mut in_value) = (false, false);
        loop {
            let Some(event) = self.xml.next()? else { return Err(WorkbookError::broken("a cell does not end")) };
            match &event {
                Event::Start(element) => match element.local_name().as_ref() {
                    "f" => has_formula = true,
                    "v" => in_value = true,
                    "is" => rich_text(&mut self.xml, "is", &mut self.scratch)?,
                    _ => {}
                },
                Event::End(element) => match element.local_name().as_ref() {
                    "v" => in_value = false,
                    "c" => return Ok(has_formula),
                    _ => {}
                },
                _ if in_value && !append(&event, &mut self.scratch)? => {
                    return Err(WorkbookError::broken("a cell is longer than a cell can be"));
                }
                _ => {}
            }
        }
    }

    /// The cell whose value is in `scratch`.
    fn cell(&mut self, kind: Kind, is_date: bool, has_formula: bool) -> Result<Cell, WorkbookError> {
        if self.scratch.is_empty() {
            return Ok(if has_formula { Cell::Formula } else { Cell::Empty });
        }
        let place = |number: u32| format!("row {number}");
        Ok(match kind {
            Kind::Shared => {
                let index = self.scratch.trim().parse().ok();
                let Some(string) = index.and_then(|index| self.context.strings.get(index)) else {
                    let detail = format!("{} names a shared string that is not there", place(self.row.number));
                    return Err(WorkbookError::broken(detail));
                };
                Cell::Text(self.row.append(string))
            }
            Kind::Text => {
                unescape(&mut self.scratch, 0);
                Cell::Text(self.row.append(&self.scratch))
            }
            Kind::Inline => Cell::Text(self.row.append(&self.scratch)),
            Kind::Error => Cell::Error(self.row.append(&self.scratch)),
            Kind::Iso => Cell::Iso(self.row.append(&self.scratch)),
            Kind::Number => match self.scratch.trim().parse::<f64>() {
                Ok(number) if !number.is_finite() => Cell::Text(self.row.append(&self.scratch)),
                Ok(number) if is_date => civil(number, self.context.is_1904).map_or(Cell::NoDate(number), Cell::Time),
                Ok(number) => Cell::Number(number),
                Err(_) => Cell::Text(self.row.append(&self.scratch)),
            },
        })
    }
}

/// What the value of a cell is, by its attribute `t`.
#[derive(Clone, Copy)]
enum Kind {
    Shared,
    /// The stored value of a formula.
    Text,
    Inline,
    Error,
    Iso,
    Number,
}

impl Kind {
    fn of(word: Option<&str>) -> Kind {
        match word {
            Some("s") => Kind::Shared,
            Some("str") => Kind::Text,
            Some("inlineStr") => Kind::Inline,
            Some("e") => Kind::Error,
            Some("d") => Kind::Iso,
            _ => Kind::Number,
        }
    }
}

fn row_number(element: &BytesStart<'_>, last: u32) -> Result<u32, WorkbookError> {
    let number = match attribute(element, "r")? {
        Some(number) => number.trim().parse().ok(),
        None => last.checked_add(1),
    };
    number
        .filter(|number| *number > last && *number <= SHEET_ROWS)
        .ok_or_else(|| WorkbookError::broken(format!("the row after row {last} is out of its place")))
}

/// From 0: 2 for `C7`.
fn column_of(place: &str) -> Option<usize> {
    let letters = place.bytes().take_while(u8::is_ascii_alphabetic);
    let column =
        letters.take(4).fold(0, |column, letter| column * 26 + usize::from(letter.to_ascii_uppercase() - b'A') + 1);
    column.checked_sub(1)
}

impl SheetRow {
    fn begin(&mut self, number: u32) {
        self.number = number;
        self.cells.clear();
        self.text.clear();
        self.is_overlong = false;
    }

    fn put(&mut self, column: usize, cell: Cell) {
        if cell != Cell::Empty {
            self.cells.resize(column, Cell::Empty);
            self.cells.push(cell);
        }
    }

    fn append(&mut self, text: &str) -> Range<usize> {
        let begin = self.text.len();
        if begin + text.len() > MAX_RECORD {
            self.is_overlong = true;
            return begin..begin;
        }
        self.text.push_str(text);
        begin..self.text.len()
    }

    fn is_blank(&self) -> bool {
        !self.is_overlong
            && self.cells.iter().all(|cell| match cell {
                Cell::Empty => true,
                Cell::Text(range) => self.text[range.clone()].trim().is_empty(),
                _ => false,
            })
    }

    /// Columns up to the last with something in it.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Bytes that the row holds, more or less.
    pub fn weight(&self) -> usize {
        self.text.len() + self.cells.len() * size_of::<Cell>()
    }

    /// What a cell says, as text: numbers with a decimal point, times as ISO 8601.
    pub fn text(&self, column: usize) -> Cow<'_, str> {
        match self.cells.get(column) {
            None | Some(Cell::Empty | Cell::Formula) => Cow::Borrowed(""),
            Some(Cell::Text(range) | Cell::Iso(range) | Cell::Error(range)) => Cow::Borrowed(&self.text[range.clone()]),
            Some(Cell::Number(number) | Cell::NoDate(number)) => Cow::Owned(decimal(*number)),
            Some(Cell::Time(time)) => Cow::Owned(time.to_string()),
        }
    }

    /// A cell as the workbook types it, or why it says nothing that can be used.
    pub fn value(&self, column: usize) -> Result<Value<'_>, Rejection> {
        let refused = |detail: String| Err(Rejection::new(Reason::Cell, detail));
        match self.cells.get(column) {
            None | Some(Cell::Empty) => Ok(Value::EMPTY),
            Some(Cell::Text(range)) => Ok(Value::Text(Cow::Borrowed(&self.text[range.clone()]))),
            Some(Cell::Iso(range)) => Ok(Value::Time(Cow::Borrowed(&self.text[range.clone()]))),
            Some(Cell::Time(time)) => Ok(Value::Time(Cow::Owned(time.to_string()))),
            Some(Cell::Number(number)) if number.abs() >= EXACT => {
                let shown = decimal(*number);
                refused(format!("{:?} has lost digits: a long number must be entered as text", shorten(&shown)))
            }
            Some(Cell::Number(number)) => Ok(Value::Number(Cow::Owned(decimal(*number)))),
            Some(Cell::Error(range)) => {
                refused(format!("the cell shows the error {:?}", shorten(&self.text[range.clone()])))
            }
            Some(Cell::Formula) => refused(
                "a formula without its value: save the file in a spreadsheet program, which calculates it".into(),
            ),
            Some(Cell::NoDate(number)) => refused(format!("{:?} is no day of a calendar", shorten(&decimal(*number)))),
        }
    }

    /// The row as one line of CSV, for whoever reads what was rejected.
    pub fn raw(&self) -> Vec<u8> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
        let cells = (0..self.cells.len()).map(|column| self.text(column).into_owned());
        // Writing to memory does not fail.
        let _ = writer.write_record(cells);
        let mut raw = writer.into_inner().unwrap_or_default();
        raw.pop();
        raw
    }
}

/// A number as the spreadsheet shows it: fifteen digits, which leaves out what adding fractions left behind.
fn decimal(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < EXACT {
        return (number as i64).to_string();
    }
    let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    rounded.to_string()
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_shown() {
        for (number, expected) in [
            (150_000.0, "150000"),
            (-5.0, "-5"),
            (0.1 + 0.2, "0.3"),
            (150_000.000_000_000_03, "150000"),
            (1_234.5, "1234.5"),
            (1e-7, "0.0000001"),
            (999_999_999_999_999.0, "999999999999999"),
            (1.23e18, "1230000000000000000"),
        ] {
            assert_eq!(decimal(number), expected);
        }
    }

    #[test]
    fn columns_are_found_by_their_letters() {
        for (place, expected) in
            [("A1", Some(0)), ("z9", Some(25)), ("AA10", Some(26)), ("XFD1", Some(16_383)), ("1", None), ("", None)]
        {
            assert_eq!(column_of(place), expected, "{place}");
        }
        assert!(column_of("ZZZZZZZZZZZZZZZZZZ1").is_some_and(|column| column >= SHEET_COLUMNS));
    }
}
