//! Whose turn it is on a duty rota.

use super::covers;
use crate::config::Id;
use crate::config::organisation::Duty;
use jiff::Timestamp;

/// The person on duty: an override while it lasts (the one begun last), else the turn. Nobody before the rota begins.
///
/// Turns are of equal length in elapsed time: the site's time zone has no summer time, and where one has, the hour of
/// the change moves rather than a turn being lost.
pub(super) fn on_duty(duty: &Duty, at: Timestamp) -> Option<&Id> {
    let overriding = duty.overrides.iter().filter(|term| covers(term, at)).max_by_key(|term| term.from);
    if let Some(term) = overriding {
        return Some(&term.person);
    }
    let elapsed = at.as_nanosecond().checked_sub(duty.from.as_nanosecond()).filter(|elapsed| *elapsed >= 0)?;
    let length = i128::try_from(duty.rotate.as_nanos()).ok().filter(|length| *length > 0)?;
    let count = i128::try_from(duty.people.len()).ok().filter(|count| *count > 0)?;
    let turn = usize::try_from((elapsed / length) % count).ok()?;
    duty.people.get(turn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::organisation::Term;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn id(number: usize) -> Id {
        Id::parse(&format!("p{number}")).unwrap()
    }

    fn rota(people: usize, rotate: u64, from: i64) -> Duty {
        Duty {
            people: (0..people).map(id).collect(),
            rotate: Duration::from_secs(rotate),
            from: at(from),
            overrides: Vec::new(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn exactly_one_person_is_on_duty_from_the_start_on(
            people in 1_usize..8, rotate in 60_u64..2_000_000, from in 0_i64..2_000_000_000, later in 0_i64..500_000_000,
        ) {
            let duty = rota(people, rotate, from);
            prop_assert!(on_duty(&duty, at(from + later)).is_some());
            prop_assert_eq!(on_duty(&duty, at(from - 1 - later)), None);
        }

        #[test]
        fn turns_follow_each_other_and_come_round(
            people in 1_usize..8, rotate in 60_u64..2_000_000, from in 0_i64..2_000_000_000, turn in 0_usize..200,
        ) {
            let duty = rota(people, rotate, from);
            let length = i64::try_from(rotate).unwrap();
            let start = from + i64::try_from(turn).unwrap() * length;
            let expected = id(turn % people);
            prop_assert_eq!(on_duty(&duty, at(start)), Some(&expected));
            prop_assert_eq!(on_duty(&duty, at(start + length - 1)), Some(&expected));
            let next = id((turn + 1) % people);
            prop_assert_eq!(on_duty(&duty, at(start + length)), Some(&next));
        }

        #[test]
        fn an_override_wins_while_it_lasts_and_shifts_no_turn(
            people in 1_usize..8, rotate in 60_u64..2_000_000, start in 0_i64..1_000_000, length in 1_i64..1_000_000,
            moment in 0_i64..3_000_000,
        ) {
            let plain = rota(people, rotate, 0);
            let mut overridden = plain.clone();
            let term = Term { person: id(99), from: Some(at(start)), to: Some(at(start + length)), acting: false };
            overridden.overrides.push(term);
            let inside = start <= moment && moment < start + length;
            let substitute = id(99);
            let expected = if inside { Some(&substitute) } else { on_duty(&plain, at(moment)) };
            prop_assert_eq!(on_duty(&overridden, at(moment)), expected);
        }
    }
}
