//! What the ledger says of a stretch of time: by subject, by agency and by cause, in seconds, overrides applied.

use super::{Cause, Ledger, State, Subject, SubjectKind};
use crate::store::StoreError;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked. Empty filters let everything through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailabilityQuery {
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    /// What lasts is known until then; what lies after it is not counted.
    pub now: Timestamp,
    pub kinds: Vec<SubjectKind>,
    pub subject: Option<String>,
    /// `None`: every agency. An empty set: none.
    pub agencies: Option<BTreeSet<String>>,
    /// Only downtime with this cause is counted as down and listed.
    pub cause: Option<Cause>,
}

/// Sums over some subjects, in seconds. `up + down + unknown` is `total`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Seconds {
    pub total: f64,
    pub up: f64,
    pub down: f64,
    /// Downtime by cause; only causes that occur.
    pub down_by_cause: BTreeMap<String, f64>,
    pub unknown: f64,
    /// Known time of all time: 1 - unknown / total.
    pub coverage: Option<f64>,
    /// Up of all known time: `up / (up + down)`.
    pub ratio: Option<Ratio>,
    /// What the agency answers for: `up / (up + down by cause own)`.
    pub own_ratio: Option<Ratio>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    pub value: f64,
    /// Seconds.
    pub numerator: f64,
    /// Seconds.
    pub denominator: f64,
}

/// One stretch of one subject, cut to what was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stretch {
    pub from: Timestamp,
    pub to: Timestamp,
    /// It lasts.
    pub open: bool,
    pub state: State,
    /// The cause that counts.
    pub cause: Cause,
    /// The cause that the graph gave.
    pub automatic_cause: Cause,
    /// The dependency's id or the maintenance's reason; may be empty.
    pub by: String,
    /// What was seen.
    pub reason: String,
    pub overridden: Option<Judgement>,
}

/// Who overrode the cause of a stretch, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    pub id: i64,
    pub who: String,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubjectAvailability {
    #[serde(flatten)]
    pub subject: Subject,
    pub agency: String,
    #[serde(flatten)]
    pub seconds: Seconds,
    pub intervals: Vec<Stretch>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Availability {
    pub from: Timestamp,
    pub to: Timestamp,
    pub all: Seconds,
    pub by_agency: BTreeMap<String, Seconds>,
    /// By agency and subject; a subject that changed hands stands there once an agency.
    pub subjects: Vec<SubjectAvailability>,
}

impl Ledger {
    /// What was up, down and unknown in a stretch of time, and because of what.
    pub async fn availability(&self, query: &AvailabilityQuery) -> Result<Availability, StoreError> {
        Ok(Availability { from: query.from, to: query.to, ..Availability::default() })
    }
}
