//! Usage and dossier rows as they come from a feed.

use crate::feed::value::{fold, shorten};
use crate::feed::{Cells, Need, Reason, Rejection};
use crate::org::Org;
use crate::store::micros;
use jiff::Timestamp;
use std::collections::HashSet;

/// Event names of one application: each is a label value.
const MAX_EVENTS: usize = 50;
const MAX_EVENT: usize = 64;
const MAX_PROCEDURE: usize = 200;

/// How much an application was used in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    pub agency: String,
    pub from_us: i64,
    pub to_us: i64,
    pub active_users: Option<i64>,
    /// Name and count.
    pub event: Option<(String, i64)>,
    /// When it was last corrected; 0 if the feed does not say.
    pub updated_us: i64,
}

pub(super) const USAGE_COLUMNS: &[(&str, Need)] = &[
    ("agency", Need::Optional),
    ("app", Need::Optional),
    ("active_users", Need::Optional),
    ("event", Need::Optional),
    ("count", Need::Optional),
    ("from", Need::Required),
    ("to", Need::Required),
    ("updated", Need::Optional),
];

impl UsageRow {
    pub(super) fn parse(
        app: &str,
        cells: &Cells<'_>,
        org: &Org,
        events: &mut HashSet<String>,
    ) -> Result<UsageRow, Rejection> {
        let named = cells.text(1)?;
        if !named.is_empty() && fold(&named) != fold(app) {
            let detail = format!("{:?} is not {app:?}, the application of this feed", shorten(&named));
            return Err(Rejection::new(Reason::App, detail));
        }
        let (from, to) = period(cells, 5, 6)?;
        let agency = agency(cells, 0, org, from)?;
        let active_users = if cells.text(2)?.is_empty() { None } else { Some(cells.count(2)?) };
        let event = match cells.text(3)? {
            name if name.is_empty() => None,
            name => Some((event(&name, events)?, cells.count(4)?)),
        };
        if active_users.is_none() && event.is_none() {
            return Err(Rejection::new(Reason::Missing, "neither active_users nor event"));
        }
        let updated_us = updated(cells, 7)?;
        Ok(UsageRow { agency, from_us: micros(from), to_us: micros(to), active_users, event, updated_us })
    }
}

fn event(name: &str, events: &mut HashSet<String>) -> Result<String, Rejection> {
    let name = fold(name);
    if name.len() > MAX_EVENT || name.chars().any(char::is_control) {
        let detail = format!("{:?} is longer than {MAX_EVENT} bytes or has control characters", shorten(&name));
        return Err(Rejection::new(Reason::Event, detail));
    }
    if !events.contains(&name) {
        if events.len() >= MAX_EVENTS {
            let detail = format!("{name:?} would be the application's event number {}", MAX_EVENTS + 1);
            return Err(Rejection::new(Reason::Event, detail));
        }
        events.insert(name.clone());
    }
    Ok(name)
}

/// Declares a closed set of words with `as_str` and `ALL`.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($variant),* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }

            pub fn parse(text: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|word| word.as_str() == text)
            }

            pub(super) fn read(cells: &Cells<'_>, index: usize, reason: Reason) -> Result<$name, Rejection> {
                let word = cells.status(index)?;
                $name::parse(&word).ok_or_else(|| {
                    let allowed: Vec<&str> = $name::ALL.iter().map(|word| word.as_str()).collect();
                    Rejection::new(reason, format!("{:?} is none of {}", shorten(&word), allowed.join(", ")))
                })
            }
        }
    };
}

words! {
    /// How far a dossier has come. The label value `step`.
    Step { Submitted "submitted", Receipted "receipted", Processed "processed", Paid "paid", Returned "returned" }
}
words! {
    /// How it came. The label value `channel`.
    Channel { Online "online", Counter "counter" }
}
words! {
    /// Whether the step was in time. The label value `outcome`.
    Outcome { OnTime "on_time", Late "late", None "none" }
}

/// How many dossiers took a step in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DossierRow {
    pub agency: String,
    /// May be empty.
    pub procedure: String,
    pub step: Step,
    pub channel: Channel,
    pub outcome: Outcome,
    pub count: i64,
    pub from_us: i64,
    pub to_us: i64,
    /// When it was last corrected; 0 if the feed does not say.
    pub updated_us: i64,
}

pub(super) const DOSSIER_COLUMNS: &[(&str, Need)] = &[
    ("agency", Need::Optional),
    ("procedure", Need::Optional),
    ("step", Need::Required),
    ("channel", Need::Required),
    ("outcome", Need::Optional),
    ("count", Need::Required),
    ("from", Need::Required),
    ("to", Need::Required),
    ("updated", Need::Optional),
];

impl DossierRow {
    pub(super) fn parse(cells: &Cells<'_>, org: &Org) -> Result<DossierRow, Rejection> {
        let (from, to) = period(cells, 6, 7)?;
        let procedure = procedure(cells, 1)?;
        let no_outcome = cells.text(4)?.is_empty();
        Ok(DossierRow {
            agency: agency(cells, 0, org, from)?,
            procedure,
            step: Step::read(cells, 2, Reason::Step)?,
            channel: Channel::read(cells, 3, Reason::Channel)?,
            outcome: if no_outcome { Outcome::None } else { Outcome::read(cells, 4, Reason::Outcome)? },
            count: cells.count(5)?,
            from_us: micros(from),
            to_us: micros(to),
            updated_us: updated(cells, 8)?,
        })
    }
}

pub(super) fn procedure(cells: &Cells<'_>, index: usize) -> Result<String, Rejection> {
    let procedure = cells.text(index)?.into_owned();
    if procedure.len() > MAX_PROCEDURE {
        return Err(Rejection::new(Reason::Missing, format!("procedure is longer than {MAX_PROCEDURE} bytes")));
    }
    Ok(procedure)
}

/// A time in microseconds; 0 for an empty cell.
pub(super) fn updated(cells: &Cells<'_>, index: usize) -> Result<i64, Rejection> {
    if cells.text(index)?.is_empty() { Ok(0) } else { cells.time(index).map(micros) }
}

fn period(cells: &Cells<'_>, from: usize, to: usize) -> Result<(Timestamp, Timestamp), Rejection> {
    let (from, to) = (cells.time(from)?, cells.time(to)?);
    if to < from {
        return Err(Rejection::new(Reason::Period, format!("ends at {to}, before it begins at {from}")));
    }
    Ok((from, to))
}

/// As of the period's start; without a word, the site's.
pub(super) fn agency(cells: &Cells<'_>, index: usize, org: &Org, at: Timestamp) -> Result<String, Rejection> {
    let text = cells.text(index)?;
    if text.is_empty() {
        return Ok(org.site().to_string());
    }
    org.resolve(&text, at).map(ToString::to_string).ok_or_else(|| {
        let detail = format!("no agency has the id, code or name {:?} at that time", shorten(&text));
        Rejection::new(Reason::Agency, detail)
    })
}
