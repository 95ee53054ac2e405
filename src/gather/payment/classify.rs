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

    /// How far a payment has come: no state of a smaller number follows one of a greater.
    fn stage(self) -> u8 {
        match self {
            Status::Pending => 0,
            Status::Failed => 1,
            Status::Paid => 2,
            Status::Settled => 3,
            Status::Refunded => 4,
            Status::Reversed => 5,
        }
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

impl Fact {
    /// Of several facts of one side about one transaction the greatest counts: the latest, of equal times the one that has
    /// come furthest. When it was read says nothing, so the order of rows and files changes no result.
    pub fn rank(&self) -> (i64, u8, i64) {
        (self.at_us, self.status.stage(), self.amount)
    }
}

/// How long a side may lag.
pub struct Limits<'a> {
    /// Younger differences are not mismatches yet.
    pub grace: Duration,
    /// When the gateway's file must have come for a payment of that time (both microseconds since 1970).
    pub settlement_due: &'a (dyn Fn(i64) -> i64 + Sync),
    /// How far apart the two records of one payment may be if a side has no reference.
    pub match_window: Duration,
}

impl Limits<'_> {
    pub(super) fn after_grace(&self, kind: Kind, amount: i64, since_us: i64) -> Standing {
        Standing::Differs { kind, amount, since_us, due_us: since_us.saturating_add(span_us(self.grace)) }
    }

    fn after_settlement(&self, kind: Kind, amount: i64, since_us: i64) -> Standing {
        Standing::Differs { kind, amount, since_us, due_us: (self.settlement_due)(since_us) }
    }
}

/// Microseconds, at most what fits.
pub(super) fn span_us(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Money that rows of their own give back (`refund_of`), by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Back {
    /// Đồng.
    pub portal: i64,
    /// Of the latest such row.
    pub portal_us: i64,
    pub gateway: i64,
    pub gateway_us: i64,
}

/// What two sides amount to, whatever the time: a difference counts from its due time on. So a verdict changes at no
/// other moment than when a row arrives or a due time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Matched,
    /// Its one record was paired with another transaction's, where both are judged.
    Paired,
    /// Time alone changes nothing.
    Waiting,
    Differs {
        kind: Kind,
        /// The money concerned, đồng; for [`Kind::AmountDiffers`] the difference.
        amount: i64,
        /// When the money moved.
        since_us: i64,
        due_us: i64,
    },
}

impl Standing {
    pub fn at(self, now_us: i64) -> Verdict {
        match self {
            Standing::Matched | Standing::Paired => Verdict::Matched,
            Standing::Waiting => Verdict::Waiting { until_us: None },
            Standing::Differs { due_us, .. } if now_us < due_us => Verdict::Waiting { until_us: Some(due_us) },
            Standing::Differs { kind, amount, since_us, .. } => Verdict::Mismatch { kind, amount, since_us },
        }
    }
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
        amount: i64,
        since_us: i64,
    },
}

/// A payment that was given back by rows of their own has gone back.
fn net(fact: Option<Fact>, back: i64, back_us: i64) -> Option<Fact> {
    fact.map(|fact| {
        let is_back = fact.status.has_money() && back > 0 && back >= fact.amount;
        if is_back { Fact { status: Status::Refunded, at_us: fact.at_us.max(back_us), ..fact } } else { fact }
    })
}

/// Compares the two sides of one transaction.
pub fn compare(portal: Option<Fact>, gateway: Option<Fact>, back: Back, limits: &Limits<'_>) -> Standing {
    let portal = net(portal, back.portal, back.portal_us);
    let gateway = net(gateway, back.gateway, back.gateway_us);
    match (portal, gateway) {
        (None, None) => Standing::Matched,
        (Some(p), Some(g)) if p.status.has_money() && g.status.has_money() => {
            if p.amount != g.amount {
                let difference = p.amount.abs_diff(g.amount).min(i64::MAX as u64) as i64;
                limits.after_grace(Kind::AmountDiffers, difference, p.at_us.max(g.at_us))
            } else if back.gateway > back.portal {
                // A part went back that the portal still counts on.
                limits.after_grace(Kind::StatusConflict, back.gateway - back.portal, back.gateway_us)
            } else if back.portal > back.gateway {
                limits.after_settlement(Kind::RefundMissing, back.portal - back.gateway, back.portal_us)
            } else {
                Standing::Matched
            }
        }
        // The portal counts on money that was refused or went back.
        (Some(p), Some(g)) if p.status.has_money() && g.status != Status::Pending => {
            limits.after_grace(Kind::StatusConflict, p.amount, p.at_us.max(g.at_us))
        }
        (Some(p), _) if p.status.has_money() => limits.after_settlement(Kind::RecordedNotPaid, p.amount, p.at_us),
        // The portal gave back what the gateway still holds: its refund comes with the gateway's next file.
        (Some(p), Some(g)) if p.status.gave_back() && g.status.has_money() => {
            limits.after_settlement(Kind::RefundMissing, g.amount.saturating_sub(back.gateway), p.at_us)
        }
        (_, Some(g)) if g.status.has_money() => {
            limits.after_grace(Kind::PaidNotRecorded, g.amount.saturating_sub(back.gateway), g.at_us)
        }
        (Some(p), _) if p.status == Status::Pending => Standing::Waiting,
        (_, Some(g)) if g.status == Status::Pending => Standing::Waiting,
        // No money moved, or it is back where it came from.
        _ => Standing::Matched,
    }
}

/// When the gateway's record of a payment must be there. The session of a working day runs to the eve of the next one;
/// `lag` counts from its end, in working days: days on which banks do not work add themselves. Stops stretching after 60
/// days.
pub fn settlement_due(
    at_us: i64,
    lag: Duration,
    zone: &jiff::tz::TimeZone,
    is_working: &dyn Fn(jiff::civil::Date) -> bool,
) -> i64 {
    const DAY_US: i64 = 86_400_000_000;
    const LONGEST_STRETCH: u32 = 60;
    let start_us =
        |date: jiff::civil::Date| date.to_zoned_datetime(zone.clone()).map(|start| start.timestamp().as_microsecond());
    let paid = crate::store::from_micros(at_us).to_zoned_datetime(zone.clone()).date();
    let mut n_stretched = 0;
    let mut next_working = |mut date: jiff::civil::Date| {
        while let Ok(next) = date.tomorrow() {
            date = next;
            if is_working(date) || n_stretched >= LONGEST_STRETCH {
                break;
            }
            n_stretched += 1;
        }
        date
    };
    let mut day = next_working(paid);
    let mut left_us = span_us(lag);
    // Whole days end with a working day's end, the rest lies within the next working day.
    while left_us > DAY_US {
        left_us -= DAY_US;
        day = next_working(day);
    }
    start_us(day).map_or(i64::MAX, |start| start.saturating_add(left_us))
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
        let limits = Limits {
            grace: Duration::from_secs(15 * 60),
            settlement_due: &|at| at + 60 * MINUTE,
            match_window: Duration::ZERO,
        };
        let mismatch = |kind, amount, minute: i64| Verdict::Mismatch { kind, amount, since_us: minute * MINUTE };
        let until = |minute: i64| Verdict::Waiting { until_us: Some(minute * MINUTE) };
        let waiting = Verdict::Waiting { until_us: None };
        let none = Back::default();
        let portal_back = |amount, minute: i64| Back { portal: amount, portal_us: minute * MINUTE, ..none };
        let gateway_back = |amount, minute: i64| Back { gateway: amount, gateway_us: minute * MINUTE, ..none };
        let both_back = |amount| Back { portal: amount, gateway: amount, ..none };
        let rows = [
            ("agree", fact(Paid, 9, 0), fact(Settled, 9, 1), none, 100, Verdict::Matched),
            ("amounts, young", fact(Paid, 9, 0), fact(Settled, 7, 5), none, 19, until(20)),
            ("amounts, old", fact(Paid, 9, 0), fact(Settled, 7, 5), none, 20, mismatch(Kind::AmountDiffers, 2, 5)),
            ("gateway alone, young", None, fact(Settled, 9, 0), none, 14, until(15)),
            ("gateway alone, old", None, fact(Settled, 9, 0), none, 15, mismatch(Kind::PaidNotRecorded, 9, 0)),
            ("portal hangs", fact(Pending, 9, 0), fact(Settled, 9, 0), none, 99, mismatch(Kind::PaidNotRecorded, 9, 0)),
            ("portal erred", fact(Failed, 9, 0), fact(Settled, 9, 0), none, 99, mismatch(Kind::PaidNotRecorded, 9, 0)),
            ("portal alone, young", fact(Paid, 9, 0), None, none, 59, until(60)),
            ("portal alone, old", fact(Paid, 9, 0), None, none, 60, mismatch(Kind::RecordedNotPaid, 9, 0)),
            ("gateway slow", fact(Paid, 9, 0), fact(Pending, 9, 0), none, 60, mismatch(Kind::RecordedNotPaid, 9, 0)),
            ("gateway refused", fact(Paid, 9, 0), fact(Failed, 9, 0), none, 60, mismatch(Kind::StatusConflict, 9, 0)),
            (
                "gateway gave back",
                fact(Paid, 9, 0),
                fact(Settled, 9, 0),
                gateway_back(9, 9),
                99,
                mismatch(Kind::StatusConflict, 9, 9),
            ),
            (
                "a part",
                fact(Paid, 9, 0),
                fact(Settled, 9, 0),
                gateway_back(4, 9),
                99,
                mismatch(Kind::StatusConflict, 4, 9),
            ),
            ("both gave back", fact(Paid, 9, 0), fact(Settled, 9, 0), both_back(9), 99, Verdict::Matched),
            ("both a part", fact(Paid, 9, 0), fact(Settled, 9, 0), both_back(4), 99, Verdict::Matched),
            ("money back", None, fact(Refunded, 9, 0), none, 99, Verdict::Matched),
            ("money back, portal erred", fact(Failed, 9, 0), fact(Reversed, 9, 0), none, 99, Verdict::Matched),
            ("unrecorded, money back", None, fact(Settled, 9, 0), gateway_back(9, 2), 99, Verdict::Matched),
            (
                "unrecorded, a part back",
                None,
                fact(Settled, 9, 0),
                gateway_back(4, 2),
                99,
                mismatch(Kind::PaidNotRecorded, 5, 0),
            ),
            ("refund on its way", fact(Refunded, 9, 10), fact(Settled, 9, 0), none, 69, until(70)),
            (
                "refund missing",
                fact(Refunded, 9, 10),
                fact(Settled, 9, 0),
                none,
                70,
                mismatch(Kind::RefundMissing, 9, 10),
            ),
            (
                "refunded by a row",
                fact(Paid, 9, 0),
                fact(Settled, 9, 0),
                portal_back(9, 10),
                70,
                mismatch(Kind::RefundMissing, 9, 10),
            ),
            (
                "a part by a row",
                fact(Paid, 9, 0),
                fact(Settled, 9, 0),
                portal_back(4, 10),
                70,
                mismatch(Kind::RefundMissing, 4, 10),
            ),
            ("portal pending", fact(Pending, 9, 0), None, none, 99, waiting),
            ("nobody paid", fact(Failed, 9, 0), fact(Failed, 9, 0), none, 99, Verdict::Matched),
        ];
        for (name, portal, gateway, back, now, expected) in rows {
            assert_eq!(compare(portal, gateway, back, &limits).at(now * MINUTE), expected, "{name}");
        }
    }

    #[test]
    fn a_session_runs_to_the_eve_of_the_next_working_day_and_the_lag_counts_from_there() {
        use jiff::civil::{Weekday, date};
        let zone = jiff::tz::TimeZone::get("Asia/Ho_Chi_Minh").unwrap();
        // Tết 2026: from Saturday 14 February to Sunday 22 February nobody works; 1 January is a Thursday.
        let tet = date(2026, 2, 16)..=date(2026, 2, 20);
        let is_working = |day: jiff::civil::Date| {
            let weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
            !weekend && !tet.contains(&day) && day != date(2026, 1, 1)
        };
        let rows = [
            ("Tuesday", "2026-11-17T10:00:00+07:00", 24, "2026-11-19T00:00:00+07:00"),
            ("Tuesday's last second", "2026-11-17T23:59:59+07:00", 24, "2026-11-19T00:00:00+07:00"),
            ("Friday", "2026-11-20T10:00:00+07:00", 24, "2026-11-24T00:00:00+07:00"),
            ("Saturday is Friday's session", "2026-11-21T10:00:00+07:00", 24, "2026-11-24T00:00:00+07:00"),
            ("Sunday too", "2026-11-22T23:00:00+07:00", 24, "2026-11-24T00:00:00+07:00"),
            ("the lag skips a weekend", "2026-11-19T10:00:00+07:00", 48, "2026-11-24T00:00:00+07:00"),
            ("part of a day", "2026-11-20T10:00:00+07:00", 9, "2026-11-23T09:00:00+07:00"),
            ("no lag", "2026-11-20T10:00:00+07:00", 0, "2026-11-23T00:00:00+07:00"),
            ("the eve of the new year", "2025-12-31T20:00:00+07:00", 24, "2026-01-03T00:00:00+07:00"),
            ("the last day before Tết", "2026-02-13T20:00:00+07:00", 24, "2026-02-24T00:00:00+07:00"),
            ("within Tết", "2026-02-18T08:00:00+07:00", 24, "2026-02-24T00:00:00+07:00"),
        ];
        for (name, at, hours, expected) in rows {
            let at = at.parse::<jiff::Timestamp>().unwrap().as_microsecond();
            let due = settlement_due(at, Duration::from_secs(hours * 3_600), &zone, &is_working);
            let due = jiff::Timestamp::from_microsecond(due).unwrap();
            assert_eq!(due, expected.parse::<jiff::Timestamp>().unwrap(), "{name}");
        }
        let never = settlement_due(0, Duration::from_secs(86_400), &zone, &|_| false);
        assert!(never < 70 * 86_400_000_000, "it stops stretching");
    }
}
