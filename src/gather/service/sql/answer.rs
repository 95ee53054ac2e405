//! What a database answered and whether that is what it should: a number within bounds, a newest row that is not old.

use super::trouble::{Figure, Trouble};
use crate::config::probes::sql::{NewestFrom, SqlProbe};
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// Bytes of a cell that are kept: numbers and times are short.
const CELL_MAX: usize = 256;

/// The first rows of the queries.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub row: Option<Row>,
    /// Of the query for the newest row, if there is one.
    pub newest: Option<Row>,
}

pub(super) type Row = Vec<Cell>;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    pub column: String,
    /// `None` is NULL.
    pub text: Option<String>,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// `t` or `f`.
    Bool,
    /// A point in time, written in this offset.
    Moment(Offset),
    Other,
}

impl Cell {
    pub fn new(column: String, bytes: Option<&[u8]>, kind: Kind) -> Cell {
        let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(CELL_MAX)]).into_owned());
        Cell { column, text, kind }
    }

    fn number(&self) -> Option<f64> {
        let text = self.text.as_deref()?.trim();
        match (self.kind, text) {
            (Kind::Bool, "t") => Some(1.0),
            (Kind::Bool, "f") => Some(0.0),
            _ => text.parse().ok().filter(|value: &f64| value.is_finite()),
        }
    }

    /// A time without an offset is in `zone`.
    fn moment(&self, zone: &TimeZone) -> Option<Timestamp> {
        let zone = match self.kind {
            Kind::Moment(offset) => &TimeZone::fixed(offset),
            _ => zone,
        };
        moment(self.text.as_deref()?.trim(), zone)
    }
}

/// Reads what databases write: `2026-11-24 03:44:00.5+07`, without an offset, without a time, or seconds since 1970.
fn moment(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    /// Smaller numbers are no times of our days: years, dates written as numbers, ids.
    const SECONDS: std::ops::Range<f64> = 1e8..1e11;
    if let Ok(number) = text.parse::<f64>() {
        let number = SECONDS.contains(&number).then_some(number)?;
        return Timestamp::UNIX_EPOCH.checked_add(SignedDuration::try_from_secs_f64(number).ok()?).ok();
    }
    // What `parse` takes beyond that (annotations, weeks) no database writes.
    let well_formed = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | ' ' | '.' | '+' | 'T' | 'Z');
    if text.len() > 40 || !text.chars().all(well_formed) {
        return None;
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    let civil = match text.len() {
        10 => text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight()),
        _ => text.parse::<DateTime>().ok()?,
    };
    zone.to_timestamp(civil).ok()
}

#[derive(Debug, PartialEq)]
pub(super) struct Judged {
    /// The number that the query gave, within bounds or not.
    pub value: Option<f64>,
    /// The newest row's time, old or not.
    pub newest: Option<Timestamp>,
    pub verdict: Result<(), Trouble>,
}

pub(super) fn judge(probe: &SqlProbe, answers: &Answers, now: Timestamp) -> Judged {
    let first = answers.row.as_ref().and_then(|row| row.first());
    let value = first.and_then(Cell::number);
    let (newest, freshness) = match &probe.newest {
        None => (None, Ok(())),
        Some(wanted) => match newest(&wanted.from, answers, &wanted.zone) {
            Ok(newest) => (Some(newest), fresh(newest, wanted.within, now)),
            Err(trouble) => (None, Err(trouble)),
        },
    };
    let verdict = bounds(probe, first, value).and(freshness);
    Judged { value, newest, verdict }
}

fn bounds(probe: &SqlProbe, cell: Option<&Cell>, value: Option<f64>) -> Result<(), Trouble> {
    if probe.min.is_none() && probe.max.is_none() {
        return Ok(());
    }
    if cell.is_none_or(|cell| cell.text.is_none()) {
        return Err(Trouble::NoValue);
    }
    let value = value.ok_or(Trouble::NotNumber)?;
    match (probe.min, probe.max) {
        (Some(min), _) if value < min => Err(Trouble::Below { value: Figure(value), min: Figure(min) }),
        (_, Some(max)) if value > max => Err(Trouble::Above { value: Figure(value), max: Figure(max) }),
        _ => Ok(()),
    }
}

fn newest(from: &NewestFrom, answers: &Answers, zone: &TimeZone) -> Result<Timestamp, Trouble> {
    let cell = match from {
        NewestFrom::Query(_) => answers.newest.as_ref().and_then(|row| row.first()),
        NewestFrom::Column(name) => match &answers.row {
            None => None,
            Some(row) => {
                let exact = row.iter().find(|cell| cell.column == *name);
                let cell = exact.or_else(|| row.iter().find(|cell| cell.column.eq_ignore_ascii_case(name)));
                Some(cell.ok_or_else(|| Trouble::NoColumn { name: name.clone() })?)
            }
        },
    };
    let cell = cell.filter(|cell| cell.text.is_some()).ok_or(Trouble::NoNewest)?;
    cell.moment(zone).ok_or(Trouble::NotTime)
}

/// A row of the future is fresh: clocks differ.
fn fresh(newest: Timestamp, within: Duration, now: Timestamp) -> Result<(), Trouble> {
    let age = Duration::try_from(now.duration_since(newest)).unwrap_or_default();
    if age > within { Err(Trouble::Stale { age, within }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_databases_write_them() {
        let zone = TimeZone::fixed(Offset::constant(7));
        for (text, utc) in [
            ("2026-11-24 10:44:00+07", "2026-11-24T03:44:00Z"),
            ("2026-11-24 03:44:00.5+00", "2026-11-24T03:44:00.5Z"),
            ("2026-11-24 09:14:00+05:30", "2026-11-24T03:44:00Z"),
            ("2026-11-24 10:44:00", "2026-11-24T03:44:00Z"),
            ("2026-11-24T10:44:00", "2026-11-24T03:44:00Z"),
            ("2026-11-24", "2026-11-23T17:00:00Z"),
            ("1795491840", "2026-11-24T03:44:00Z"),
            ("1795491840.25", "2026-11-24T03:44:00.25Z"),
        ] {
            assert_eq!(moment(text, &zone), Some(utc.parse().unwrap()), "{text}");
        }
        for bad in ["", "infinity", "-infinity", "0000-00-00 00:00:00", "24/11/2026", "20261124", "2026", "NaN", "inf"]
        {
            assert_eq!(moment(bad, &zone), None, "{bad}");
        }
        assert_eq!(moment(&"9".repeat(300), &zone), None);
    }

    #[test]
    fn booleans_and_numbers_are_values_and_nothing_else_is() {
        let cell = |text: &str, kind| Cell::new("n".into(), Some(text.as_bytes()), kind).number();
        assert_eq!(cell("t", Kind::Bool), Some(1.0));
        assert_eq!(cell("t", Kind::Other), None);
        assert_eq!(cell(" -1234.50", Kind::Other), Some(-1234.5));
        for text in ["", "NaN", "inf", "1,5", "đ"] {
            assert_eq!(cell(text, Kind::Other), None, "{text}");
        }
    }
}
