//! Judges the transactions of one dossier together: pairs records without a reference, adds up parts, and finds what no
//! single transaction shows. Pure, like [`compare`], on which it builds; the order of the members decides ties alone.

use super::classify::{Back, Fact, Kind, Limits, Standing, compare, span_us};
use std::cmp::Reverse;

/// One transaction as both sides tell it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Member {
    pub portal: Option<Fact>,
    pub gateway: Option<Fact>,
    pub back: Back,
    /// It gives another transaction back, and is no payment itself.
    pub is_refund: bool,
    /// It came without a reference, so one side alone can be there.
    pub is_nameless: bool,
}

/// What was due for a dossier, đồng.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fee {
    pub full: i64,
    /// Less, for who files online; equal to `full` for everybody else.
    pub due: i64,
}

/// What is known of a dossier beside its payments.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dossier {
    /// There is a register of dossiers, and it does not have this one.
    pub is_unknown: bool,
    pub fee: Option<Fee>,
}

impl Member {
    /// What the gateway holds of this payment, đồng; 0 if it holds nothing.
    fn held(&self) -> i64 {
        match self.gateway {
            Some(fact) if fact.status.has_money() && !self.is_refund => (fact.amount - self.back.gateway).max(0),
            _ => 0,
        }
    }
}

/// A member after pairing.
#[derive(Clone, Copy)]
struct Paired {
    portal: Option<Fact>,
    standing: Standing,
}

/// Judges every member; gives one standing each, in their order.
pub fn judge(members: &[Member], dossier: Dossier, limits: &Limits<'_>) -> Vec<Standing> {
    let mut paired: Vec<Paired> = members.iter().map(|member| alone(member, limits)).collect();
    if members.len() > 1 {
        pair(members, &mut paired, limits);
        add_up(members, &mut paired);
        find_paid_twice(members, &mut paired, dossier.fee, limits);
    }
    if let Some(fee) = dossier.fee {
        find_fee_not_reduced(members, &mut paired, fee, limits);
    }
    if dossier.is_unknown {
        for member in &mut paired {
            if let Standing::Differs { kind, .. } = &mut member.standing
                && *kind == Kind::PaidNotRecorded
            {
                *kind = Kind::OrphanPayment;
            }
        }
    }
    paired.into_iter().map(|member| member.standing).collect()
}

fn alone(member: &Member, limits: &Limits<'_>) -> Paired {
    let standing =
        if member.is_refund { Standing::Matched } else { compare(member.portal, member.gateway, member.back, limits) };
    Paired { portal: member.portal, standing }
}

/// Pairs records of one side each, if one of the two has no reference, both the same amount, and times not further apart
/// than the window: first those whose states agree, then the nearest.
fn pair(members: &[Member], paired: &mut [Paired], limits: &Limits<'_>) {
    let window = span_us(limits.match_window);
    let single = |portal: bool| {
        let wanted = move |member: &Member| if portal { member.gateway.is_none() } else { member.portal.is_none() };
        move |(index, member): (usize, &Member)| {
            let fact = if portal { member.portal } else { member.gateway };
            fact.filter(|_| wanted(member) && !member.is_refund).map(|fact| (index, fact))
        }
    };
    let mut candidates = Vec::new();
    for (p, portal) in members.iter().enumerate().filter_map(single(true)) {
        for (g, gateway) in members.iter().enumerate().filter_map(single(false)) {
            let distance = portal.at_us.abs_diff(gateway.at_us);
            let fits = members[p].is_nameless || members[g].is_nameless;
            if fits && portal.amount == gateway.amount && distance <= window.unsigned_abs() {
                let agree = (portal.status.has_money(), portal.status.gave_back())
                    == (gateway.status.has_money(), gateway.status.gave_back());
                candidates.push((Reverse(agree), distance, p, g));
            }
        }
    }
    candidates.sort_unstable();
    let mut taken = vec![false; members.len()];
    for (_, _, p, g) in candidates {
        if taken[p] || taken[g] {
            continue;
        }
        (taken[p], taken[g]) = (true, true);
        let (portal, gateway) = (members[p].portal, members[g].gateway);
        let back = Back {
            portal: members[p].back.portal,
            portal_us: members[p].back.portal_us,
            gateway: members[g].back.gateway,
            gateway_us: members[g].back.gateway_us,
        };
        paired[g] = Paired { portal, standing: compare(portal, gateway, back, limits) };
        paired[p] = Paired { portal: None, standing: Standing::Paired };
    }
}

/// A dossier paid in parts: what the portal has as one payment and the gateway as several agrees if the sums do.
fn add_up(members: &[Member], paired: &mut [Paired]) {
    let differs = |member: &Paired| match member.standing {
        Standing::Differs { kind, .. } => {
            matches!(kind, Kind::AmountDiffers | Kind::PaidNotRecorded | Kind::RecordedNotPaid)
        }
        _ => false,
    };
    let (mut n_parts, mut held, mut recorded) = (0, 0_i64, 0_i64);
    for (member, pair) in members.iter().zip(paired.iter()).filter(|(_, pair)| differs(pair)) {
        n_parts += usize::from(member.held() > 0);
        held = held.saturating_add(member.held());
        let fact = pair.portal.filter(|fact| fact.status.has_money());
        recorded = recorded.saturating_add(fact.map_or(0, |fact| fact.amount));
    }
    if n_parts >= 2 && recorded > 0 && recorded == held {
        for pair in paired.iter_mut().filter(|pair| differs(pair)) {
            pair.standing = Standing::Matched;
        }
    }
}

/// A payment is a second one if the same amount was paid for the dossier before, what was due is covered by then, or, if
/// nobody knows what was due, the portal does not know it. What the portal has recorded goes first, then what came first.
fn find_paid_twice(members: &[Member], paired: &mut [Paired], fee: Option<Fee>, limits: &Limits<'_>) {
    let is_recorded = |pair: &Paired| pair.portal.is_some_and(|fact| fact.status.has_money());
    let is_settled = |pair: &Paired| pair.standing == Standing::Matched;
    let mut order: Vec<usize> = (0..members.len()).filter(|&index| members[index].held() > 0).collect();
    order.sort_by_key(|&index| {
        let at_us = members[index].gateway.map_or(0, |fact| fact.at_us);
        (!is_recorded(&paired[index]) && !is_settled(&paired[index]), at_us, index)
    });
    let (mut covered, mut amounts) = (0_i64, Vec::new());
    for index in order {
        let held = members[index].held();
        let pair = &mut paired[index];
        let is_again = match fee {
            // Who was asked for the full fee and paid it in parts did not pay twice.
            Some(fee) if is_recorded(pair) || is_settled(pair) => covered >= fee.full,
            Some(fee) => covered >= fee.due,
            // Matched without a record of its own: a part of what was recorded.
            None => !is_recorded(pair) && !is_settled(pair),
        };
        if is_again && amounts.contains(&held) {
            let since_us = members[index].gateway.map_or(0, |fact| fact.at_us);
            pair.standing = limits.after_grace(Kind::PaidTwice, held, since_us);
        } else {
            covered = covered.saturating_add(held);
            amounts.push(held);
        }
    }
}

/// Stands at the last payment of the dossier, unless a kind of higher precedence does.
fn find_fee_not_reduced(members: &[Member], paired: &mut [Paired], fee: Fee, limits: &Limits<'_>) {
    let rank = |standing: Standing| match standing {
        Standing::Differs { kind, .. } => Some(kind),
        _ => None,
    };
    let is_payment = |(index, member): &(usize, &Member)| {
        member.held() > 0 && rank(paired[*index].standing) != Some(Kind::PaidTwice)
    };
    let payments: Vec<(usize, &Member)> = members.iter().enumerate().filter(is_payment).collect();
    let paid = payments.iter().fold(0_i64, |sum, (_, member)| sum.saturating_add(member.held()));
    // More than the full fee is for something else beside it, of which nobody can say whether it was reduced.
    if paid <= fee.due || paid > fee.full {
        return;
    }
    let at_us = |member: &Member| member.gateway.map_or(0, |fact| fact.at_us);
    let Some(&(last, member)) = payments.iter().max_by_key(|(index, member)| (at_us(member), *index)) else { return };
    if rank(paired[last].standing).is_none_or(|kind| kind > Kind::FeeNotReduced) {
        paired[last].standing = limits.after_grace(Kind::FeeNotReduced, paid - fee.due, at_us(member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::payment::Status::{self, *};
    use std::time::Duration;

    const MINUTE: i64 = 60_000_000;

    fn fact(status: Status, amount: i64, minute: i64) -> Option<Fact> {
        Some(Fact { status, amount, at_us: minute * MINUTE })
    }

    fn both(portal: Option<Fact>, gateway: Option<Fact>) -> Member {
        Member { portal, gateway, ..Member::default() }
    }

    fn paid(amount: i64, minute: i64) -> Member {
        both(fact(Paid, amount, minute), fact(Settled, amount, minute))
    }

    fn unrecorded(amount: i64, minute: i64) -> Member {
        both(None, fact(Settled, amount, minute))
    }

    fn nameless(amount: i64, minute: i64) -> Member {
        Member { is_nameless: true, ..both(fact(Paid, amount, minute), None) }
    }

    /// One letter a member: the kind, `.` matched, `p` paired with another, `w` waiting.
    fn letters(members: &[Member], dossier: Dossier) -> String {
        let limits = Limits {
            grace: Duration::from_secs(600),
            settlement_due: &|at| at + 60 * MINUTE,
            match_window: Duration::from_secs(1_800),
        };
        let letter = |standing: Standing| match standing {
            Standing::Matched => '.',
            Standing::Paired => 'p',
            Standing::Waiting => 'w',
            Standing::Differs { kind, .. } => match kind {
                Kind::PaidTwice => 'T',
                Kind::AmountDiffers => 'A',
                Kind::StatusConflict => 'S',
                Kind::RefundMissing => 'M',
                Kind::FeeNotReduced => 'F',
                Kind::OrphanPayment => 'O',
                Kind::PaidNotRecorded => 'N',
                Kind::RecordedNotPaid => 'R',
            },
        };
        judge(members, dossier, &limits).into_iter().map(letter).collect()
    }

    #[test]
    fn a_dossier_is_judged_as_a_whole() {
        let nothing = Dossier::default();
        let fee = |full, due| Dossier { fee: Some(Fee { full, due }), ..nothing };
        let unknown = Dossier { is_unknown: true, ..nothing };
        let back = |member: Member| Member { back: Back { gateway: 50, ..Back::default() }, ..member };
        let refund = Member { is_refund: true, ..both(None, fact(Refunded, 50, 9)) };
        let pending = Member { is_nameless: true, ..both(fact(Pending, 50, 0), None) };
        let cases = [
            ("a second payment", vec![paid(50, 0), unrecorded(50, 1)], nothing, ".T"),
            ("the recorded one is the first", vec![unrecorded(50, 0), paid(50, 1)], nothing, "T."),
            ("of two unrecorded the later one", vec![unrecorded(50, 1), unrecorded(50, 0)], nothing, "TN"),
            ("another amount is another payment", vec![paid(50, 0), unrecorded(30, 1)], nothing, ".N"),
            ("both recorded, nobody knows the fee", vec![paid(50, 0), paid(50, 1)], nothing, ".."),
            ("both recorded, and too much", vec![paid(50, 0), paid(50, 1)], fee(50, 50), ".T"),
            ("parts that come to the fee", vec![paid(50, 0), paid(50, 1)], fee(100, 100), ".."),
            ("unrecorded parts", vec![unrecorded(50, 0), unrecorded(50, 1)], fee(100, 100), "NN"),
            ("a third part is too much", vec![paid(50, 0), paid(50, 1), unrecorded(50, 2)], fee(100, 100), "..T"),
            ("the second went back", vec![paid(50, 0), back(unrecorded(50, 1)), refund], nothing, "..."),
            ("without a reference", vec![nameless(50, 0), unrecorded(50, 30)], nothing, "p."),
            ("too far apart", vec![nameless(50, 0), unrecorded(50, 31)], nothing, "RN"),
            ("another amount", vec![nameless(50, 0), unrecorded(60, 3)], nothing, "RN"),
            ("the nearest pair", vec![nameless(50, 0), unrecorded(50, 9), unrecorded(50, 2)], nothing, "pT."),
            ("states that agree go first", vec![pending, nameless(50, 9), unrecorded(50, 0)], nothing, "wp."),
            ("two references are two payments", vec![both(fact(Paid, 50, 0), None), unrecorded(50, 0)], nothing, "RN"),
            ("one record, two parts", vec![nameless(80, 0), unrecorded(50, 500), unrecorded(30, 900)], nothing, "..."),
            (
                "the record bears the first part's reference",
                vec![both(fact(Paid, 80, 0), fact(Settled, 50, 0)), unrecorded(30, 2)],
                nothing,
                "..",
            ),
            ("parts that are too little", vec![nameless(90, 0), unrecorded(50, 1), unrecorded(30, 2)], nothing, "RNN"),
            ("not reduced", vec![paid(100, 0)], fee(100, 50), "F"),
            ("reduced", vec![paid(50, 0)], fee(100, 50), "."),
            ("not reduced, in parts", vec![paid(50, 0), paid(50, 1)], fee(100, 50), ".F"),
            ("more than the fee says nothing", vec![paid(120, 0)], fee(100, 50), "."),
            ("not reduced goes before not recorded", vec![unrecorded(100, 0)], fee(100, 50), "F"),
            ("no such dossier", vec![unrecorded(50, 0), unrecorded(50, 1)], unknown, "OT"),
        ];
        for (name, members, dossier, expected) in cases {
            assert_eq!(letters(&members, dossier), expected, "{name}");
        }
    }
}
