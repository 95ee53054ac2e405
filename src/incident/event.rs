//! What a step of an incident's life brings about.

use super::escalation::Raised;
use jiff::Timestamp;

/// What a mail says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The first mail.
    Broken,
    /// Alerts came, came back or ended, and some fire.
    Changed,
    /// All alerts ended.
    Resolved,
}

/// What happened in a step, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Opened,
    /// An alert began to fire (or fires again).
    Fired(String),
    /// An alert ended.
    Ended(String),
    /// Nobody is told of an alert from now on.
    Excused(String),
    /// An alert that fires is its agency's again.
    ExcuseEnded(String),
    /// An alert fires again after all had ended.
    Reopened,
    /// All alerts ended.
    Resolved,
    /// A mail is to be written, about the incident as it stands after the step.
    Mail(News),
    /// The escalation goes on.
    Raised(Raised),
    /// It lasted so long without an answer that it is critical now.
    Worsened,
    /// A person answered; until when that stops the escalation, if it does.
    Acknowledged {
        person: String,
        until: Option<Timestamp>,
        /// The person's first answer since the escalation began or the last one expired: news to the others.
        is_first: bool,
    },
    /// A person said that it is over.
    Dismissed {
        person: String,
        reason: String,
    },
    /// What was written to a person did not arrive, and why.
    Undeliverable {
        person: String,
        reason: String,
    },
    /// It is over; the next alert of its group opens a new one.
    Closed,
}
