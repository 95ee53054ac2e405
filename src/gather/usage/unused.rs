//! For how many working days nobody has used an application. Pure.

use crate::org::Org;
use jiff::Timestamp;

/// What is known of an application's use at one agency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The end of the last period in which anybody used it.
    pub last: Option<Timestamp>,
    /// The beginning of what is known: of the first period that anybody reported.
    pub since: Timestamp,
    /// The end of what is known. A feed that stands still says nothing of the days after it.
    pub until: Timestamp,
}

/// Whole working days without a user: after the last day with one, before today and before the end of what is known.
pub fn unused_working_days(known: Use, org: &Org, now: Timestamp) -> u32 {
    let first = match known.last {
        // A period ends where the next begins.
        Some(last) => org.date(before(last)).tomorrow(),
        None => Ok(org.date(known.since)),
    };
    let last = org.date(before(known.until)).min(org.date(now).yesterday().unwrap_or(org.date(now)));
    first.map_or(0, |first| org.working_days(first, last))
}

fn before(end: Timestamp) -> Timestamp {
    end.checked_sub(jiff::SignedDuration::from_micros(1)).unwrap_or(end)
}
