//! Says of one transaction whether portal and gateway agree: the pure heart of reconciliation, shared by the daemon and
//! the one-off command.

use std::fmt;
use std::time::Duration;

/// The state of a payment on one side. The label value `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// The portal's word for money received.
    Paid,
    /// The gateway's word for money received.
    Settled,
    Pending,
    Failed,
    Refunded,
    Reversed,
}

impl Status {
    pub const ALL: [Status; 6] =
        [Status::Paid, Status::Settled, Status::Pending, Status::Failed, Status::Refunded, Status::Reversed];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Paid => "paid",
            Status::Settled => "settled",
            Status::Pending => "pending",
            Status::Failed => "failed",
            Status::Refunded => "refunded",
            Status::Reversed => "reversed",
        }
    }

    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Either side's word for "the money is there": files mix them.
    pub fn has_money(self) -> bool {
        matches!(self, Status::Paid | Status::Settled)
    }

    pub fn gave_back(self) -> bool {
        matches!(self, Status::Refunded | Status::Reversed)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How two sides can differ, in the order of precedence. The label value `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    PaidTwice,
    AmountDiffers,
    StatusConflict,
    RefundMissing,
    FeeNotReduced,
    OrphanPayment,
    PaidNotRecorded,
    RecordedNotPaid,
}

impl Kind {
    /// By precedence.
    pub const ALL: [Kind; 8] = [
        Kind::PaidTwice,
        Kind::AmountDiffers,
        Kind::StatusConflict,
        Kind::RefundMissing,
        Kind::FeeNotReduced,
        Kind::OrphanPayment,
        Kind::PaidNotRecorded,
        Kind::RecordedNotPaid,
    ];

    /// What the daemon finds; their series are there from the start.
    pub const DETECTED: [Kind; 4] =
        [Kind::AmountDiffers, Kind::StatusConflict, Kind::PaidNotRecorded, Kind::RecordedNotPaid];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::PaidTwice => "paid_twice",
            Kind::AmountDiffers => "amount_differs",
            Kind::StatusConflict => "status_conflict",
            Kind::RefundMissing => "refund_missing",
            Kind::FeeNotReduced => "fee_not_reduced",
            Kind::OrphanPayment => "orphan_payment",
            Kind::PaidNotRecorded => "paid_not_recorded",
            Kind::RecordedNotPaid => "recorded_not_paid",
        }
    }

    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// As the kind's readers call it.
    pub fn title(self, language: crate::config::site::Language) -> &'static str {
        let vietnamese = language == crate::config::site::Language::Vi;
        let (vi, en) = match self {
            Kind::PaidTwice => ("thanh toán trùng", "paid twice"),
            Kind::AmountDiffers => ("lệch số tiền", "amount differs"),
            Kind::StatusConflict => ("trái trạng thái", "status conflict"),
            Kind::RefundMissing => ("chưa hoàn tiền", "refund missing"),
            Kind::FeeNotReduced => ("chưa giảm phí", "fee not reduced"),
            Kind::OrphanPayment => ("không có hồ sơ", "no such dossier"),
            Kind::PaidNotRecorded => ("đã thanh toán nhưng chưa ghi nhận", "paid but not recorded"),
            Kind::RecordedNotPaid => ("đã ghi nhận nhưng chưa có tiền", "recorded but not paid"),
        };
        if vietnamese { vi } else { en }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one side knows of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    pub status: Status,
    /// Đồng.
    pub amount: i64,
    /// Microseconds since 1970.
    pub at_us: i64,
}

/// How long a side may lag.
pub struct Limits<'a> {
    /// Younger differences are not mismatches yet.
    pub grace: Duration,
    /// When the gateway's file must have come for a payment of that time (both microseconds since 1970).
    pub settlement_due: &'a (dyn Fn(i64) -> i64 + Sync),
}

/// What is to be thought of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Matched,
    /// Neither matched nor mismatched yet; it becomes a mismatch at `until_us` unless something arrives before. `None`:
    /// time alone changes nothing.
    Waiting {
        until_us: Option<i64>,
    },
    Mismatch {
        kind: Kind,
        /// The money concerned, đồng; for [`Kind::AmountDiffers`] the difference.
        amount: i64,
        /// When the money moved.
        since_us: i64,
    },
}

/// Compares the two sides of one transaction.
pub fn classify(portal: Option<Fact>, gateway: Option<Fact>, now_us: i64, limits: &Limits<'_>) -> Verdict {
    let grace_us = i64::try_from(limits.grace.as_micros()).unwrap_or(i64::MAX);
    let later = |due_us: i64, kind, amount, since_us| {
        if now_us < due_us {
            Verdict::Waiting { until_us: Some(due_us) }
        } else {
            Verdict::Mismatch { kind, amount, since_us }
        }
    };
    let after_grace = |kind, amount, since_us: i64| later(since_us.saturating_add(grace_us), kind, amount, since_us);
    match (portal, gateway) {
        (None, None) => Verdict::Matched,
        (Some(p), Some(g)) if p.status.has_money() && g.status.has_money() => {
            if p.amount == g.amount {
                return Verdict::Matched;
            }
            let difference = p.amount.abs_diff(g.amount).min(i64::MAX as u64) as i64;
            after_grace(Kind::AmountDiffers, difference, p.at_us.max(g.at_us))
        }
        // The portal counts on money that was refused or went back.
        (Some(p), Some(g)) if p.status.has_money() && g.status != Status::Pending => {
            after_grace(Kind::StatusConflict, p.amount, p.at_us.max(g.at_us))
        }
        (Some(p), _) if p.status.has_money() => {
            later((limits.settlement_due)(p.at_us), Kind::RecordedNotPaid, p.amount, p.at_us)
        }
        // The portal gave back what the gateway still holds: a refund on its way, which is another kind's matter.
        (Some(p), Some(g)) if p.status.gave_back() && g.status.has_money() => Verdict::Waiting { until_us: None },
        (_, Some(g)) if g.status.has_money() => after_grace(Kind::PaidNotRecorded, g.amount, g.at_us),
        (Some(p), _) if p.status == Status::Pending => Verdict::Waiting { until_us: None },
        (_, Some(g)) if g.status == Status::Pending => Verdict::Waiting { until_us: None },
        // No money moved, or it is back where it came from.
        _ => Verdict::Matched,
    }
}

/// The lag counted in working days: days on which banks do not work add themselves. Stops stretching after 60 days.
pub fn settlement_due(
    at_us: i64,
    lag: Duration,
    date_of: &dyn Fn(i64) -> jiff::civil::Date,
    is_working: &dyn Fn(jiff::civil::Date) -> bool,
) -> i64 {
    const DAY_US: i64 = 86_400_000_000;
    const LONGEST_STRETCH: i64 = 60;
    let lag_us = i64::try_from(lag.as_micros()).unwrap_or(i64::MAX);
    let mut due_us = at_us.saturating_add(lag_us);
    let mut n_stretched = 0;
    let mut date = date_of(at_us);
    while n_stretched < LONGEST_STRETCH {
        let Ok(next) = date.tomorrow() else { break };
        date = next;
        if date > date_of(due_us) {
            break;
        }
        if !is_working(date) {
            due_us = due_us.saturating_add(DAY_US);
            n_stretched += 1;
        }
    }
    due_us
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::*;

    const MINUTE: i64 = 60_000_000;

    fn fact(status: Status, amount: i64, minute: i64) -> Option<Fact> {
        Some(Fact { status, amount, at_us: minute * MINUTE })
    }

    #[test]
    fn every_pair_of_sides_has_one_verdict() {
        let limits = Limits { grace: Duration::from_secs(15 * 60), settlement_due: &|at| at + 60 * MINUTE };
        let mismatch = |kind, amount, minute: i64| Verdict::Mismatch { kind, amount, since_us: minute * MINUTE };
        let until = |minute: i64| Verdict::Waiting { until_us: Some(minute * MINUTE) };
        let waiting = Verdict::Waiting { until_us: None };
        let rows = [
            ("agree", fact(Paid, 9, 0), fact(Settled, 9, 1), 100, Verdict::Matched),
            ("amounts, young", fact(Paid, 9, 0), fact(Settled, 7, 5), 19, until(20)),
            ("amounts, old", fact(Paid, 9, 0), fact(Settled, 7, 5), 20, mismatch(Kind::AmountDiffers, 2, 5)),
            ("gateway alone, young", None, fact(Settled, 9, 0), 14, until(15)),
            ("gateway alone, old", None, fact(Settled, 9, 0), 15, mismatch(Kind::PaidNotRecorded, 9, 0)),
            ("portal hangs", fact(Pending, 9, 0), fact(Settled, 9, 0), 99, mismatch(Kind::PaidNotRecorded, 9, 0)),
            ("portal erred", fact(Failed, 9, 0), fact(Settled, 9, 0), 99, mismatch(Kind::PaidNotRecorded, 9, 0)),
            ("portal alone, young", fact(Paid, 9, 0), None, 59, until(60)),
            ("portal alone, old", fact(Paid, 9, 0), None, 60, mismatch(Kind::RecordedNotPaid, 9, 0)),
            ("gateway slow", fact(Paid, 9, 0), fact(Pending, 9, 0), 60, mismatch(Kind::RecordedNotPaid, 9, 0)),
            ("gateway refused", fact(Paid, 9, 0), fact(Failed, 9, 0), 60, mismatch(Kind::StatusConflict, 9, 0)),
            ("money back", None, fact(Refunded, 9, 0), 99, Verdict::Matched),
            ("money back, portal erred", fact(Failed, 9, 0), fact(Reversed, 9, 0), 99, Verdict::Matched),
            ("refund on its way", fact(Refunded, 9, 0), fact(Settled, 9, 0), 99, waiting),
            ("portal pending", fact(Pending, 9, 0), None, 99, waiting),
            ("nobody paid", fact(Failed, 9, 0), fact(Failed, 9, 0), 99, Verdict::Matched),
        ];
        for (name, portal, gateway, now, expected) in rows {
            assert_eq!(classify(portal, gateway, now * MINUTE, &limits), expected, "{name}");
        }
    }

    #[test]
    fn the_settlement_lag_stretches_over_days_off() {
        let date_of =
            |us: i64| jiff::Timestamp::from_microsecond(us).unwrap().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
        let is_working = |date: jiff::civil::Date| {
            !matches!(date.weekday(), jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday)
        };
        let due = |at: &str| {
            let at = at.parse::<jiff::Timestamp>().unwrap().as_microsecond();
            let due = settlement_due(at, Duration::from_secs(86_400), &date_of, &is_working);
            jiff::Timestamp::from_microsecond(due).unwrap().to_string()
        };
        assert_eq!(due("2026-11-17T10:00:00Z"), "2026-11-18T10:00:00Z", "Tuesday");
        assert_eq!(due("2026-11-20T10:00:00Z"), "2026-11-23T10:00:00Z", "Friday");
        assert_eq!(due("2026-11-21T10:00:00Z"), "2026-11-23T10:00:00Z", "Saturday");
    }
}
