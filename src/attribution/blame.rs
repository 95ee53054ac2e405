//! Lays a stretch of downtime at somebody's door. Pure: what was down when, what was announced, and now are arguments.
//!
//! The rules, for a subject that was down from `s` to `e` (bounds are `every` + `timeout`):
//! - While something that it needs is down or it is under maintenance, that is the cause; of several the first by
//!   precedence: maintenance, own_uplink, power, telecom, gateway, national, platform.
//! - *Set back*: a dependency found down later than `s`, by up to twice its bound, is the cause from `s` on, unless the
//!   subject was seen up in between.
//! - *Tail*: a subject is seen to recover only at its next check. What is left of its downtime after the recovery of the
//!   cause is still the cause's, when that check finds it up. When the check finds it down, or none comes within
//!   the subject's bound, it is down for a reason of its own from the cause's recovery on.
//! - A device is not looked at, it falls silent: it counts as down only after its bound. So a cause that recovered within
//!   that silence has the same tail.
//! - Else it is its own.

use super::Cause;
use crate::config::dependencies::DependencyCause;
use std::sync::Arc;

/// Something that excuses a subject for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocker {
    pub from_us: i64,
    /// Exclusive; `None` while it lasts.
    pub to_us: Option<i64>,
    pub cause: Cause,
    /// The dependency's id, or the maintenance's reason.
    pub by: Arc<str>,
    /// How far it may be set back: 0 for what is known exactly.
    pub reach_us: i64,
}

/// A stretch of downtime.
#[derive(Debug, Clone, Copy)]
pub(super) struct Downtime {
    pub from_us: i64,
    /// Exclusive; `None` while it lasts.
    pub until_us: Option<i64>,
    /// The last time that it was seen to be down.
    pub seen_us: i64,
    /// When it was next seen up; later than `until_us` when it was unknown in between.
    pub up_us: Option<i64>,
    /// The subject's bound.
    pub bound_us: i64,
    /// Nobody looks at it, it has to speak: it was silent for its bound before it counted as down, and what recovered
    /// within that silence may still be the cause.
    pub is_silence: bool,
}

/// A piece of downtime with its one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub from_us: i64,
    pub until_us: Option<i64>,
    pub cause: Cause,
    pub by: Arc<str>,
}

/// Lower goes first.
pub(super) fn rank(cause: Cause) -> usize {
    match cause {
        Cause::Maintenance => 0,
        Cause::Dependency(cause) => {
            1 + DependencyCause::ALL.iter().position(|other| *other == cause).unwrap_or(DependencyCause::ALL.len())
        }
        Cause::Own => 100,
        Cause::Unknown => 101,
    }
}

/// Shares a downtime out: the pieces follow each other without gap or overlap and cover it exactly. `base` is whose it is
/// when nothing excuses it.
pub(super) fn share_out(down: Downtime, blockers: &[Blocker], base: (Cause, Arc<str>), now_us: i64) -> Vec<Share> {
    const FOREVER: i64 = i64::MAX;
    let end_us = down.until_us.unwrap_or(FOREVER);
    let mut covers: Vec<(i64, i64, &Blocker)> = blockers
        .iter()
        .filter_map(|blocker| cover(down, blocker, now_us).map(|(from, to)| (from, to, blocker)))
        .collect();
    covers.sort_by_key(|(_, _, blocker)| (rank(blocker.cause), blocker.from_us));
    let mut edges: Vec<i64> = covers.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
    edges.extend([down.from_us, end_us]);
    edges.sort_unstable();
    edges.dedup();
    let mut shares: Vec<Share> = Vec::new();
    for pair in edges.windows(2) {
        let blocker = covers.iter().find(|(from, to, _)| *from <= pair[0] && pair[1] <= *to).map(|found| found.2);
        let (cause, by) = match blocker {
            Some(blocker) if rank(blocker.cause) <= rank(base.0) => (blocker.cause, blocker.by.clone()),
            _ => base.clone(),
        };
        let until_us = (pair[1] < FOREVER).then_some(pair[1]);
        match shares.last_mut() {
            Some(last) if last.cause == cause && last.by == by => last.until_us = until_us,
            _ => shares.push(Share { from_us: pair[0], until_us, cause, by }),
        }
    }
    shares
}

/// The part of a downtime that a blocker explains.
fn cover(down: Downtime, blocker: &Blocker, now_us: i64) -> Option<(i64, i64)> {
    let end_us = down.until_us.unwrap_or(i64::MAX);
    if blocker.from_us > now_us {
        return None;
    }
    let is_set_back = blocker.from_us > down.from_us
        && blocker.from_us <= down.from_us.saturating_add(blocker.reach_us)
        && down.up_us.is_none_or(|up_us| blocker.from_us < up_us);
    let from_us = if is_set_back { down.from_us } else { blocker.from_us.max(down.from_us) };
    let to_us = match blocker.to_us.filter(|to_us| *to_us <= now_us) {
        Some(to_us) if to_us <= down.from_us.saturating_sub(if down.is_silence { down.bound_us } else { 0 }) => {
            return None;
        }
        Some(to_us) if to_us < end_us => {
            let limit_us = to_us.saturating_add(down.bound_us);
            let is_looked_at = !down.is_silence && down.seen_us >= to_us;
            let is_confirmed = is_looked_at || down.until_us.unwrap_or(now_us) > limit_us;
            if is_confirmed { to_us } else { end_us }
        }
        _ => end_us,
    };
    (from_us < to_us).then_some((from_us, to_us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blocker(from_us: i64, to_us: Option<i64>, cause: DependencyCause) -> Blocker {
        Blocker { from_us, to_us, cause: Cause::Dependency(cause), by: cause.as_str().into(), reach_us: 80 }
    }

    fn own() -> (Cause, Arc<str>) {
        (Cause::Own, "".into())
    }

    #[test]
    fn every_rule_holds() {
        use DependencyCause::{National, OwnUplink};
        let down = |from_us, until_us, seen_us| Downtime {
            from_us,
            until_us,
            seen_us,
            up_us: until_us,
            bound_us: 40,
            is_silence: false,
        };
        let window = Blocker { cause: Cause::Maintenance, reach_us: 0, ..blocker(120, Some(130), National) };
        let rows = [
            ("nobody else", down(100, Some(200), 190), vec![], "100-200 own"),
            ("dependency first", down(100, Some(200), 190), vec![blocker(90, None, National)], "100-200 national"),
            ("set back", down(100, Some(200), 190), vec![blocker(180, None, National)], "100-200 national"),
            (
                "found too late",
                down(100, Some(300), 290),
                vec![blocker(181, None, National)],
                "100-181 own, 181-300 national",
            ),
            ("recovered before", down(100, Some(200), 190), vec![blocker(50, Some(100), National)], "100-200 own"),
            ("tail", down(100, Some(200), 170), vec![blocker(90, Some(171), National)], "100-200 national"),
            (
                "still down",
                down(100, Some(200), 171),
                vec![blocker(90, Some(171), National)],
                "100-171 national, 171-200 own",
            ),
            (
                "never checked",
                down(100, None, 100),
                vec![blocker(90, Some(110), National)],
                "100-110 national, 110-.. own",
            ),
            ("tail lasts", down(100, None, 100), vec![blocker(90, Some(980), National)], "100-.. national"),
            (
                "precedence",
                down(100, Some(200), 199),
                vec![blocker(90, None, National), blocker(85, Some(150), OwnUplink)],
                "100-150 own_uplink, 150-200 national",
            ),
            (
                "a device that fell silent during it",
                Downtime { is_silence: true, ..down(100, Some(120), 100) },
                vec![blocker(40, Some(90), National)],
                "100-120 national",
            ),
            (
                "a device that does not come back",
                Downtime { is_silence: true, ..down(100, None, 100) },
                vec![blocker(40, Some(90), National)],
                "100-.. own",
            ),
            (
                "a device that spoke after it",
                Downtime { is_silence: true, ..down(131, Some(132), 131) },
                vec![blocker(40, Some(90), National)],
                "131-132 own",
            ),
            (
                "maintenance is never set back",
                down(100, Some(200), 199),
                vec![window],
                "100-120 own, 120-130 maintenance, 130-200 own",
            ),
        ];
        for (name, down, blockers, expected) in rows {
            let shares = share_out(down, &blockers, own(), 1_000);
            let text: Vec<String> = shares
                .iter()
                .map(|share| {
                    let until = share.until_us.map_or("..".to_string(), |until_us| until_us.to_string());
                    format!("{}-{until} {}", share.from_us, share.cause)
                })
                .collect();
            assert_eq!(text.join(", "), expected, "{name}");
        }
    }

    fn any_blocker() -> impl Strategy<Value = Blocker> {
        (0..400_i64, proptest::option::of(1..200_i64), 0..7_usize).prop_map(|(from_us, length, cause)| Blocker {
            from_us,
            to_us: length.map(|length| from_us + length),
            cause: DependencyCause::ALL.get(cause).map_or(Cause::Maintenance, |cause| Cause::Dependency(*cause)),
            by: "".into(),
            reach_us: if cause == 6 { 0 } else { 60 },
        })
    }

    proptest! {
        #[test]
        fn a_downtime_is_covered_once_and_by_precedence(
            from_us in 50..300_i64,
            length in proptest::option::of(1..300_i64),
            seen in 0..300_i64,
            blockers in proptest::collection::vec(any_blocker(), 0..6),
        ) {
            let now_us = 700;
            let until_us = length.map(|length| from_us + length);
            let seen_us = (from_us + seen).min(until_us.unwrap_or(now_us) - 1).max(from_us);
            let down = Downtime { from_us, until_us, seen_us, up_us: until_us, bound_us: 30, is_silence: false };
            let shares = share_out(down, &blockers, own(), now_us);
            prop_assert_eq!(shares.first().map(|share| share.from_us), Some(from_us));
            prop_assert_eq!(shares.last().and_then(|share| share.until_us), until_us);
            for pair in shares.windows(2) {
                prop_assert_eq!(pair[0].until_us, Some(pair[1].from_us));
                prop_assert!((pair[0].cause, &pair[0].by) != (pair[1].cause, &pair[1].by));
            }
            for share in &shares {
                prop_assert!(share.until_us.is_none_or(|until_us| share.from_us < until_us));
                for blocker in &blockers {
                    // Whatever was down at its beginning has a say: nothing of lower precedence may win.
                    let is_down = blocker.from_us <= share.from_us && blocker.to_us.is_none_or(|to| share.from_us < to);
                    prop_assert!(!is_down || rank(share.cause) <= rank(blocker.cause));
                }
                // An excuse begins at most the reach before its blocker, and ends at most the bound after it.
                if share.cause != Cause::Own {
                    let explains = |blocker: &&Blocker| {
                        blocker.cause == share.cause
                            && blocker.from_us - blocker.reach_us <= share.from_us
                            && blocker.to_us.is_none_or(|to| share.until_us.unwrap_or(now_us) <= to + 30 || to > now_us)
                    };
                    prop_assert!(blockers.iter().any(|blocker| explains(&blocker)) || blockers.len() > 1);
                }
            }
        }
    }
}
