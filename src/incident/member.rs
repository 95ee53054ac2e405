//! An alert as an incident has it: whether it fires, and why nobody is told of it.

use super::address::Severity;
use crate::alert::Alert;
use crate::attribution::Cause;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// An alert of an incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub alert: Alert,
    pub severity: Severity,
    /// When it ended; `None` while it fires.
    pub resolved: Option<Timestamp>,
    /// Why nobody is told of it just now; if it ended, why nobody was told at its end.
    pub excused: Option<Excused>,
    /// When its excuse ended; `None` again once `group_wait` has passed since.
    pub freed: Option<Timestamp>,
    /// When a person said that it is over although its source still calls it firing: until the source says that it
    /// ended, or that it began again, the person is believed.
    pub dismissed: Option<Timestamp>,
    /// When a source last said that it fires, or that it ended; after a restart, when it began.
    pub updated: Timestamp,
}

/// Why nobody is told of an alert just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excused {
    pub why: Why,
    /// For people: the dependency's name, the reason of the maintenance, the comment of the silence, the summary of the
    /// alert that inhibits.
    pub by: String,
    /// Since when the alert is excused.
    pub since: Timestamp,
}

/// What keeps people from being told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Not its agency's, says the attribution ledger.
    Cause(Cause),
    /// A person does not want to hear of it for a time.
    Silenced,
    /// Another alert says it all.
    Inhibited,
}

impl Why {
    /// The name it is kept by.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Cause(cause) => cause.as_str(),
            Why::Silenced => "silenced",
            Why::Inhibited => "inhibited",
        }
    }

    pub fn parse(text: &str) -> Option<Why> {
        match text {
            "silenced" => Some(Why::Silenced),
            "inhibited" => Some(Why::Inhibited),
            _ => Cause::parse(text).map(Why::Cause),
        }
    }
}

/// The alerts of an incident that are excused, by fingerprint.
pub type Excuses = BTreeMap<String, Excused>;

impl Member {
    /// Fires.
    pub fn new(alert: Alert, severity: Severity) -> Member {
        let updated = alert.starts_at;
        Member { alert, severity, resolved: None, excused: None, freed: None, dismissed: None, updated }
    }

    /// Whether the row of the one is that of the other. An announced end that moves is not written: after a restart it gets
    /// a new grace anyway.
    pub(super) fn lives_like(&self, other: &Member) -> bool {
        self.resolved == other.resolved
            && self.excused == other.excused
            && self.freed == other.freed
            && self.dismissed == other.dismissed
            && self.alert.starts_at == other.alert.starts_at
            && self.alert.annotations == other.alert.annotations
            && self.alert.ends_at.is_some() == other.alert.ends_at.is_some()
    }

    /// Whether their rows differ in times and excuses at most.
    pub(super) fn says_what(&self, other: &Member) -> bool {
        self.severity == other.severity
            && self.alert.annotations == other.alert.annotations
            && self.alert.generator_url == other.alert.generator_url
    }

    /// No notification about it starts: it is excused, or was until just now.
    pub(super) fn is_quiet(&self) -> bool {
        self.excused.is_some() || self.freed.is_some()
    }
}

/// What is known of an alert that fires, once it is posted again: it began when the first of its senders saw it, and fires
/// as long as one of them says. What the ruler calls firing has no end until the ruler says so; of ends that senders
/// named the latest counts, and any of them more than one that was assumed, as in Alertmanager. So one of two senders
/// that starts anew, or asks to be believed for a shorter time, ends nothing that the other one sees.
pub(super) fn merged(known: &Alert, posted: &Alert) -> Alert {
    let (ends_at, end_is_assumed) = match (known.ends_at, posted.ends_at) {
        (Some(earlier), Some(end)) if known.end_is_assumed || earlier <= end => (Some(end), posted.end_is_assumed),
        (Some(earlier), Some(_)) => (Some(earlier), false),
        _ => (None, false),
    };
    Alert { starts_at: posted.starts_at.min(known.starts_at), ends_at, end_is_assumed, ..posted.clone() }
}
