//! Section `evaluation`: the weekly scorecard.

use super::{Id, devices::DeviceKind, services::ServiceKind};
use jiff::civil::{Time, Weekday};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Site time. Default `Mon 07:00`.
    pub day: Weekday,
    pub time: Time,
    pub recipients: Vec<Id>,
    /// A score (0 to 100) below this is underperforming. Default 60.
    pub underperforming_below: f64,
    /// How long a leader may explain. Default 3 d.
    pub explain_within: Duration,
    /// The profile's indicators with the file's added or overriding, in order.
    pub indicators: Vec<Indicator>,
}

/// One weekly measure of every agency.
#[derive(Debug, Clone)]
pub struct Indicator {
    pub id: Id,
    /// In Vietnamese, and in English if given.
    pub title: String,
    pub title_en: Option<String>,
    pub measure: Measure,
    /// The value that earns full marks.
    pub target: f64,
    /// The value that earns none.
    pub floor: f64,
    /// Of the score; relative to the others.
    pub weight: f64,
    /// A denominator below this is "not evaluated".
    pub min: f64,
}

#[derive(Debug, Clone)]
pub enum Measure {
    /// From the attribution ledger.
    Availability(Subjects),
    /// PromQL, evaluated once at the end of the week; both give one sample an agency.
    Ratio { numerator: String, denominator: String },
    /// PromQL, one sample an agency.
    Value { query: String },
}

/// Whose availability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subjects {
    Services(Option<ServiceKind>),
    Devices(Option<DeviceKind>),
}
