//! What a mail says beside the incident itself: how far its escalation has come, and how to answer.

use jiff::Timestamp;
use std::sync::Arc;

/// Makes the link by which a person (by id) acknowledges; `None`: that person has none.
pub(in crate::incident) type AckUrl = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Nothing by default. Filled by whoever knows the escalation.
#[derive(Clone, Default)]
pub(in crate::incident) struct Extra {
    /// Opens a page; what it says takes effect only when the button there is pressed.
    pub ack_url: Option<AckUrl>,
    /// Who (ids) is told next if nobody answers, and when; in order of time. Steps without people are left out of the mail.
    pub next: Vec<(Timestamp, Vec<String>)>,
    /// Who has answered, in the order given.
    pub acknowledged: Vec<Acknowledged>,
    /// The position of the step that calls people in this round. From 1 on they are told that nobody answered before.
    pub escalated: Option<usize>,
    /// This round reminds: nobody has answered, or no answer holds any longer.
    pub is_reminder: bool,
    /// Somebody had answered, and that holds no longer.
    pub is_expired: bool,
    /// This round tells the others that somebody answered.
    pub is_acknowledgement: bool,
    /// It lasted so long without an answer that it is critical now.
    pub is_worsened: bool,
    /// Names of those who were told before and get no mail in this round.
    pub told_before: Vec<String>,
}

/// Somebody answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::incident) struct Acknowledged {
    /// A name, for people.
    pub by: String,
    pub at: Timestamp,
    /// Until when it holds; `None`: until the end, or it does not stop the escalation (yet).
    pub until: Option<Timestamp>,
}

/// What a mail is, to its reader. Decided a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Broken,
    Changed,
    Escalated,
    Reminder,
    Acknowledged,
    Resolved,
}

impl Kind {
    pub fn of(news: super::News, extra: &Extra, is_called: bool, is_new: bool) -> Kind {
        match news {
            super::News::Resolved => Kind::Resolved,
            _ if is_called && extra.escalated.is_some_and(|step| step > 0) => Kind::Escalated,
            _ if is_new => Kind::Broken,
            _ if extra.is_acknowledgement => Kind::Acknowledged,
            _ if extra.is_reminder => Kind::Reminder,
            // A round that calls somebody again, and has no other news.
            super::News::Broken | super::News::Changed => Kind::Changed,
        }
    }

    /// What templates know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Broken => "broken",
            Kind::Changed => "changed",
            Kind::Escalated => "escalated",
            Kind::Reminder => "reminder",
            Kind::Acknowledged => "acknowledged",
            Kind::Resolved => "resolved",
        }
    }
}
