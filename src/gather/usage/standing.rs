//! How an agency's open dossiers stand on the working-time clock. Pure: dossiers, rules, calendar and moment decide.

use super::dossiers::{Dossier, moment};
use crate::config::usage::Dossiers;
use crate::org::Org;
use jiff::{SignedDuration, Timestamp};

/// What counts as late, soon and owed.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// From the submission to the receipt slip, on the wall clock.
    pub receipt_within: SignedDuration,
    /// Working time before the due date.
    pub due_soon: SignedDuration,
    /// Working time before the due date by which the letter of apology is owed.
    pub apology_before: SignedDuration,
}

impl Rules {
    pub fn of(config: &Dossiers) -> Rules {
        // The configuration keeps all three under a month.
        let signed = |length| SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
        Rules {
            receipt_within: signed(config.receipt_within),
            due_soon: signed(config.due_soon),
            apology_before: signed(config.apology_before),
        }
    }
}

/// Open dossiers, by what is to be done about them. One may stand in several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    pub open: u32,
    /// Accepted, and no receipt slip for too long.
    pub without_receipt: u32,
    pub due_soon: u32,
    pub overdue: u32,
    /// By the due date, or the time before it that the rules say, a letter of apology is owed and none was sent.
    pub without_apology: u32,
    /// Working time since the due date of the dossier that is longest overdue.
    pub longest_overdue: SignedDuration,
}

/// Further from now than this in days, working time need not be counted to know that it is more than any rule asks for.
const FAR: SignedDuration = SignedDuration::from_hours(200 * 24);

impl Standing {
    pub fn add(&mut self, dossier: &Dossier, rules: Rules, org: &Org, now: Timestamp) {
        if !dossier.is_open() {
            return;
        }
        self.open += 1;
        let submitted = moment(dossier.submitted_us).unwrap_or(now);
        if dossier.receipted_us == 0 && now.duration_since(submitted) > rules.receipt_within {
            self.without_receipt += 1;
        }
        let Some(due) = moment(dossier.due_us).map(|due| org.due(due)) else { return };
        let until = due.duration_since(now);
        let is_overdue = until < SignedDuration::ZERO;
        let left = if until > FAR { FAR } else { org.working_time(now, due) };
        if is_overdue {
            self.overdue += 1;
            self.longest_overdue = self.longest_overdue.max(org.working_time(due, now));
        } else if left <= rules.due_soon {
            self.due_soon += 1;
        }
        if dossier.apology_us == 0 && (is_overdue || left < rules.apology_before) {
            self.without_apology += 1;
        }
    }
}

/// How many dossiers are without a receipt slip, from counts by period: of those submitted in periods that ended `within` or
/// longer ago, so many as are more than all receipts since the same start. Slips are taken to go to the oldest first.
pub fn receipt_gap(submitted_before: i64, receipted: i64) -> u32 {
    u32::try_from((submitted_before - receipted).max(0)).unwrap_or(u32::MAX)
}
