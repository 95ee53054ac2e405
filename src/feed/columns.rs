//! Finds canonical columns in a file's header and gives a row's cells by canonical index.

use super::csv::Record;
use super::value::{self, TimeFormat, fold};
use super::{Reason, Rejection};
use crate::config::feeds::{AmountScale, Column, Feed};
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::HashMap;

/// Whether a canonical column must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Required,
    Optional,
}

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
}

/// Where the canonical columns stand in one file.
#[derive(Debug, Clone)]
pub struct Columns {
    names: &'static [(&'static str, Need)],
    places: Vec<Place>,
    n_fields: usize,
    manner: Manner,
}

impl Columns {
    /// Finds the columns that `feed` names in a file's header; a column it does not name is looked for under its
    /// canonical name. Headers are compared after NFC and case folding.
    pub fn bind(
        header: &Record<'_>,
        feed: &Feed,
        manner: Manner,
        names: &'static [(&'static str, Need)],
    ) -> Result<Columns, Rejection> {
        let mut headers: HashMap<String, usize> = HashMap::new();
        for (index, cell) in header.iter().enumerate() {
            let Ok(cell) = std::str::from_utf8(cell) else {
                let detail = "the header is not UTF-8; export the file as UTF-8";
                return Err(Rejection::new(Reason::FileEncoding, detail));
            };
            headers.entry(fold(cell)).or_insert(index);
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
        if !missing.is_empty() {
            let detail = format!("missing in the header: {}", missing.join(", "));
            return Err(Rejection::new(Reason::FileHeader, detail));
        }
        Ok(Columns { names, places, n_fields: header.len(), manner })
    }

    /// The cells of a row, or what is wrong with it as a whole.
    pub fn cells<'a>(&'a self, record: &'a Record<'a>) -> Result<Cells<'a>, Rejection> {
        if record.damaged {
            return Err(Rejection::new(Reason::Quoting, "a quotation mark is never closed"));
        }
        if record.len() != self.n_fields {
            let detail = format!("{} fields, the header has {}", record.len(), self.n_fields);
            return Err(Rejection::new(Reason::Fields, detail));
        }
        Ok(Cells { columns: self, record })
    }
}

/// The cells of one row, by canonical index.
pub struct Cells<'a> {
    columns: &'a Columns,
    record: &'a Record<'a>,
}

impl<'a> Cells<'a> {
    fn name(&self, index: usize) -> &'static str {
        self.columns.names[index].0
    }

    /// The text in NFC, trimmed; empty if the column is not there.
    pub fn text(&self, index: usize) -> Result<Cow<'a, str>, Rejection> {
        match &self.columns.places[index] {
            Place::Absent => Ok(Cow::Borrowed("")),
            Place::Const(value) => Ok(value::text(value)),
            Place::Field(field) => {
                let bytes = self.record.get(*field).unwrap_or_default();
                let text = std::str::from_utf8(bytes)
                    .map_err(|_| Rejection::new(Reason::Encoding, format!("{} is not UTF-8", self.name(index))))?;
                Ok(value::text(text))
            }
        }
    }

    /// As [`Cells::text`], but it must not be empty.
    pub fn required(&self, index: usize) -> Result<Cow<'a, str>, Rejection> {
        let text = self.text(index)?;
        if text.is_empty() {
            return Err(Rejection::new(Reason::Missing, format!("{} is empty", self.name(index))));
        }
        Ok(text)
    }

    /// Integer đồng.
    pub fn amount(&self, index: usize) -> Result<i64, Rejection> {
        value::amount(&self.required(index)?, self.columns.manner.amount)
    }

    pub fn count(&self, index: usize) -> Result<i64, Rejection> {
        value::count(&self.required(index)?)
    }

    pub fn time(&self, index: usize) -> Result<Timestamp, Rejection> {
        self.columns.manner.time.parse(&self.required(index)?)
    }

    /// The word, translated by the feed's status map; folded.
    pub fn status(&self, index: usize) -> Result<String, Rejection> {
        let word = fold(&self.required(index)?);
        Ok(self.columns.manner.status_map.get(&word).cloned().unwrap_or(word))
    }
}
