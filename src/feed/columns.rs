//! Finds canonical columns in a header or in JSON and gives a row's cells by canonical index.

use super::csv::Record;
use super::value::{self, TimeFormat, fold};
use super::{Reason, Rejection};
use crate::config::feeds::{AmountScale, Column, Feed};
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Whether a canonical column must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Required,
    Optional,
}

/// Canonical names in the order of their indices.
pub type Names = &'static [(&'static str, Need)];

#[derive(Debug, Clone)]
enum Place {
    Field(usize),
    Const(String),
    Absent,
}

/// How a feed writes its values; parsed once a feed.
#[derive(Debug, Clone)]
pub struct Manner {
    /// By folded word.
    status_map: HashMap<String, String>,
    time: TimeFormat,
    amount: AmountScale,
}

impl Manner {
    pub fn of(feed: &Feed) -> Manner {
        let status_map = feed.status_map.iter().map(|(theirs, ours)| (fold(theirs), ours.clone())).collect();
        let time = TimeFormat { format: feed.time_format.clone(), zone: feed.timezone.clone() };
        Manner { status_map, time, amount: feed.amount }
    }

    /// Đồng as this feed writes them.
    pub fn amount(&self, cell: &Value<'_>) -> Result<i64, Rejection> {
        match cell {
            Value::Number(number) => value::decimal(number, self.amount),
            other => value::amount(other.as_str(), self.amount),
        }
    }
}

/// One cell as its source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// Written by people or programs, in whatever manner.
    Text(Cow<'a, str>),
    /// A number of the source's own (JSON, a database, a spreadsheet): its point is a decimal point.
    Number(Cow<'a, str>),
    /// A time of the source's own, as ISO 8601, whatever the feed's format.
    Time(Cow<'a, str>),
}

impl Value<'_> {
    pub const EMPTY: Value<'static> = Value::Text(Cow::Borrowed(""));

    pub fn as_str(&self) -> &str {
        match self {
            Value::Text(text) | Value::Number(text) | Value::Time(text) => text,
        }
    }

    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Number(text) => Value::Number(Cow::Owned(text.into_owned())),
            Value::Time(text) => Value::Time(Cow::Owned(text.into_owned())),
        }
    }

    fn borrowed(&self) -> Value<'_> {
        match self {
            Value::Text(text) => Value::Text(Cow::Borrowed(text)),
            Value::Number(text) => Value::Number(Cow::Borrowed(text)),
            Value::Time(text) => Value::Time(Cow::Borrowed(text)),
        }
    }
}

/// A row of typed cells, by field; what could not be read as a cell says so itself.
pub type Row = Vec<Result<Value<'static>, Rejection>>;

/// Where the canonical columns stand among the fields of a source.
#[derive(Debug, Clone)]
pub struct Columns {
    names: Names,
    places: Vec<Place>,
    /// Field and the folded words of which it must have one.
    only: Vec<(usize, HashSet<String>)>,
    n_fields: usize,
    manner: Manner,
    /// The text was decoded: U+FFFD stands for what could not be.
    is_doubtful: bool,
    /// By folded text.
    headers: HashMap<String, usize>,
}

impl Columns {
    /// Finds the columns that `feed` names in a header; a column it does not name is looked for under its canonical
    /// name. Headers are compared after NFC and case folding.
    pub fn bind<'h>(
        header: impl Iterator<Item = Cow<'h, str>>,
        feed: &Feed,
        manner: Manner,
        names: Names,
    ) -> Result<Columns, Rejection> {
        let mut headers: HashMap<String, usize> = HashMap::new();
        let mut n_fields = 0;
        for (index, cell) in header.enumerate() {
            headers.entry(fold(&cell)).or_insert(index);
            n_fields = index + 1;
        }
        let mut missing = Vec::new();
        let places = names.iter().map(|&(name, need)| {
            let wanted = match feed.columns.get(name) {
                Some(Column::Const(value)) => return Place::Const(value.clone()),
                Some(Column::Header(text)) => text.as_str(),
                None => name,
            };
            let place = headers.get(&fold(wanted)).copied();
            // A column that the configuration names is meant to be there, even if the row could do without.
            if place.is_none() && (need == Need::Required || feed.columns.contains_key(name)) {
                missing.push(format!("{wanted:?} ({name})"));
            }
            place.map_or(Place::Absent, Place::Field)
        });
        let places = places.collect();
        let mut only = Vec::with_capacity(feed.only.len());
        for (wanted, words) in &feed.only {
            match headers.get(&fold(wanted)) {
                Some(field) => only.push((*field, words.iter().map(|word| fold(word)).collect())),
                None => missing.push(format!("{wanted:?} (only)")),
            }
        }
        if !missing.is_empty() {
            let detail = format!("missing in the header: {}", missing.join(", "));
            return Err(Rejection::new(Reason::FileHeader, detail));
        }
        Ok(Columns { names, places, only, n_fields, manner, is_doubtful: false, headers })
    }

    /// Columns of a source that can be asked for each cell: what to ask for, in the order of the fields.
    pub fn wanted(feed: &Feed, names: Names) -> (Columns, Vec<String>) {
        let mut wanted: Vec<String> = Vec::new();
        let mut place = |text: &str| {
            wanted.push(text.to_owned());
            wanted.len() - 1
        };
        let places = names.iter().map(|(name, _)| match feed.columns.get(*name) {
            Some(Column::Const(value)) => Place::Const(value.clone()),
            Some(Column::Header(text)) => Place::Field(place(text)),
            None => Place::Field(place(name)),
        });
        let places = places.collect();
        let fold_all = |words: &[String]| words.iter().map(|word| fold(word)).collect();
        let only = feed.only.iter().map(|(text, words)| (place(text), fold_all(words))).collect();
        (
            Columns {
                names,
                places,
                only,
                n_fields: wanted.len(),
                manner: Manner::of(feed),
                is_doubtful: false,
                headers: HashMap::new(),
            },
            wanted,
        )
    }

    /// [`Columns::bind`] of a delimited file's header.
    pub fn bind_record(header: &Record<'_>, feed: &Feed, manner: Manner, names: Names) -> Result<Columns, Rejection> {
        let mut cells = Vec::with_capacity(header.len());
        for cell in header.iter() {
            let Ok(cell) = std::str::from_utf8(cell) else {
                let detail = "the header is not UTF-8; name the file's encoding, or export it as UTF-8";
                return Err(Rejection::new(Reason::FileEncoding, detail));
            };
            cells.push(Cow::Borrowed(cell));
        }
        Columns::bind(cells.into_iter(), feed, manner, names)
    }

    /// Whether U+FFFD stands for bytes that could not be decoded.
    pub fn doubt(&mut self, is_doubtful: bool) {
        self.is_doubtful = is_doubtful;
    }

    pub fn manner(&self) -> &Manner {
        &self.manner
    }

    /// The field under a header.
    pub fn header(&self, text: &str) -> Option<usize> {
        self.headers.get(&fold(text)).copied()
    }

    pub fn n_fields(&self) -> usize {
        self.n_fields
    }

    /// The field of a canonical column; `None` if it is a constant or not there.
    pub fn field(&self, name: &str) -> Option<usize> {
        let index = self.names.iter().position(|(canonical, _)| *canonical == name)?;
        match self.places[index] {
            Place::Field(field) => Some(field),
            _ => None,
        }
    }

    /// Whether the feed takes the row at all.
    pub fn takes(&self, record: &Record<'_>) -> bool {
        self.only.iter().all(|(field, words)| {
            record.get(*field).is_some_and(|cell| words.contains(&fold(&String::from_utf8_lossy(cell))))
        })
    }

    /// [`Columns::takes`] of typed cells.
    pub fn takes_row(&self, row: &Row) -> bool {
        self.only.iter().all(|(field, words)| {
            row.get(*field).is_some_and(|cell| cell.as_ref().is_ok_and(|cell| words.contains(&fold(cell.as_str()))))
        })
    }

    /// The cells of a record, or what is wrong with it as a whole.
    pub fn cells<'a>(&'a self, record: &'a Record<'a>) -> Result<Cells<'a>, Rejection> {
        if record.damaged {
            return Err(Rejection::new(Reason::Quoting, "a quotation mark is never closed"));
        }
        if record.len() != self.n_fields {
            let detail = format!("{} fields, the header has {}", record.len(), self.n_fields);
            return Err(Rejection::new(Reason::Fields, detail));
        }
        Ok(Cells { columns: self, fields: Fields::Record(record), owner: None })
    }

    /// The cells of a row that its source typed.
    pub fn cells_of<'a>(&'a self, row: &'a Row) -> Cells<'a> {
        Cells { columns: self, fields: Fields::Row(row), owner: None }
    }
}

#[derive(Clone, Copy)]
enum Fields<'a> {
    Record(&'a Record<'a>),
    Row(&'a Row),
}

/// The cells of one row, by canonical index.
pub struct Cells<'a> {
    columns: &'a Columns,
    fields: Fields<'a>,
    /// Whose the row is if it does not say.
    owner: Option<&'a str>,
}

impl<'a> Cells<'a> {
    /// Where the column `agency` is empty it is this.
    pub fn owned_by(self, agency: Option<&'a str>) -> Cells<'a> {
        Cells { owner: agency, ..self }
    }

    fn name(&self, index: usize) -> &'static str {
        self.columns.names[index].0
    }

    fn value(&self, index: usize) -> Result<Value<'a>, Rejection> {
        let found = match &self.columns.places[index] {
            Place::Absent => Value::EMPTY,
            Place::Const(value) => Value::Text(Cow::Borrowed(value.as_str())),
            Place::Field(field) => match self.fields {
                Fields::Record(record) => {
                    let bytes = record.get(*field).unwrap_or_default();
                    let text = std::str::from_utf8(bytes)
                        .map_err(|_| Rejection::new(Reason::Encoding, format!("{} is not UTF-8", self.name(index))))?;
                    if self.columns.is_doubtful && text.contains(char::REPLACEMENT_CHARACTER) {
                        let detail = format!("{} has bytes that the file's encoding does not know", self.name(index));
                        return Err(Rejection::new(Reason::Encoding, detail));
                    }
                    Value::Text(Cow::Borrowed(text))
                }
                Fields::Row(row) => match row.get(*field) {
                    Some(Ok(value)) => value.borrowed(),
                    Some(Err(rejection)) => {
                        let detail = format!("{}: {}", self.name(index), rejection.detail);
                        return Err(Rejection::new(rejection.reason, detail));
                    }
                    None => Value::EMPTY,
                },
            },
        };
        match self.owner {
            Some(owner) if found.as_str().trim().is_empty() && self.name(index) == "agency" => {
                Ok(Value::Text(Cow::Borrowed(owner)))
            }
            _ => Ok(found),
        }
    }

    /// The text in NFC, trimmed; empty if the column is not there.
    pub fn text(&self, index: usize) -> Result<Cow<'a, str>, Rejection> {
        let value = self.value(index)?;
        // PostgreSQL keeps no such text, and would refuse the whole batch for it.
        if value.as_str().contains('\0') {
            return Err(Rejection::new(Reason::Encoding, format!("{} has a zero byte", self.name(index))));
        }
        Ok(match value {
            Value::Text(Cow::Borrowed(text))
            | Value::Number(Cow::Borrowed(text))
            | Value::Time(Cow::Borrowed(text)) => value::text(text),
            Value::Text(text) | Value::Number(text) | Value::Time(text) => Cow::Owned(value::text(&text).into_owned()),
        })
    }

    /// As [`Cells::text`], but it must not be empty.
    pub fn required(&self, index: usize) -> Result<Cow<'a, str>, Rejection> {
        let text = self.text(index)?;
        if text.is_empty() { Err(self.missing(index)) } else { Ok(text) }
    }

    fn missing(&self, index: usize) -> Rejection {
        Rejection::new(Reason::Missing, format!("{} is empty", self.name(index)))
    }

    fn required_value(&self, index: usize) -> Result<Value<'a>, Rejection> {
        let found = self.value(index)?;
        if found.as_str().trim().is_empty() { Err(self.missing(index)) } else { Ok(found) }
    }

    /// Integer đồng.
    pub fn amount(&self, index: usize) -> Result<i64, Rejection> {
        self.columns.manner.amount(&self.required_value(index)?)
    }

    pub fn count(&self, index: usize) -> Result<i64, Rejection> {
        match self.required_value(index)? {
            Value::Number(number) => value::decimal_count(&number),
            other => value::count(other.as_str()),
        }
    }

    pub fn time(&self, index: usize) -> Result<Timestamp, Rejection> {
        match self.required_value(index)? {
            Value::Time(time) => self.columns.manner.time.iso_only(&time),
            other => self.columns.manner.time.parse(other.as_str()),
        }
    }

    /// The word, translated by the feed's status map; folded.
    pub fn status(&self, index: usize) -> Result<String, Rejection> {
        let word = fold(&self.required(index)?);
        Ok(self.columns.manner.status_map.get(&word).cloned().unwrap_or(word))
    }
}
