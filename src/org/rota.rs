//! Whose turn it is on a duty rota.

use super::offices::{Ground, Vacancy};
use crate::config::Id;
use crate::config::organisation::{Duty, Override};
use jiff::Timestamp;

/// The time between two changes of a rota, and who is on duty then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shift {
    pub keeper: Keeper,
    /// `None`: since ever (before the rota begins).
    pub from: Option<Timestamp>,
    /// Exclusive; `None`: nothing changes any more.
    pub to: Option<Timestamp>,
}

/// Who is on duty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// Whose turn it is.
    Turn(Id),
    /// Who stands in: the ends of the override.
    Override(Id, Timestamp, Timestamp),
    /// Nobody, as the rota says: the ends of the gap.
    Gap(Timestamp, Timestamp),
    /// Nobody yet: when the rota begins.
    NotBegun(Timestamp),
}

impl Shift {
    pub fn person(&self) -> Option<&Id> {
        match &self.keeper {
            Keeper::Turn(person) | Keeper::Override(person, ..) => Some(person),
            Keeper::Gap(..) | Keeper::NotBegun(_) => None,
        }
    }

    pub(super) fn into_holder(self) -> Result<(Id, Ground), Vacancy> {
        match self.keeper {
            // A turn has a beginning.
            Keeper::Turn(person) => {
                Ok((person, Ground::Turn { from: self.from.unwrap_or(Timestamp::MIN), to: self.to }))
            }
            Keeper::Override(person, from, to) => Ok((person, Ground::Override { from, to })),
            Keeper::Gap(from, to) => Err(Vacancy::Gap { from, to }),
            Keeper::NotBegun(begins) => Err(Vacancy::NotBegun(begins)),
        }
    }
}

/// The person on duty: an override while it lasts (the one begun last), else the turn. Nobody before the rota begins, and
/// while an override says so.
pub(super) fn on_duty(duty: &Duty, at: Timestamp) -> Option<Id> {
    shift(duty, at).person().cloned()
}

/// The shift that `at` lies in.
///
/// Turns are of equal length in elapsed time: the site's time zone has no summer time, and where one has, the hour of
/// the change moves rather than a turn being lost.
pub(super) fn shift(duty: &Duty, at: Timestamp) -> Shift {
    let turn = turn(duty, at);
    let overriding = duty.overrides.iter().filter(|one| one.from <= at && at < one.to).max_by_key(|one| one.from);
    let keeper = match (overriding, &turn) {
        (Some(Override { person: Some(person), from, to }), _) => Keeper::Override(person.clone(), *from, *to),
        (Some(Override { person: None, from, to }), _) => Keeper::Gap(*from, *to),
        (None, Some((person, _, _))) => Keeper::Turn((*person).clone()),
        (None, None) => Keeper::NotBegun(duty.from),
    };
    let turn_ends = match turn {
        Some((_, from, to)) => [Some(from), to],
        None => [None, Some(duty.from)],
    };
    let changes = duty.overrides.iter().flat_map(|one| [one.from, one.to]);
    let changes: Vec<Timestamp> = changes.chain(turn_ends.into_iter().flatten()).collect();
    Shift {
        keeper,
        from: changes.iter().copied().filter(|change| *change <= at).max(),
        to: changes.iter().copied().filter(|change| at < *change).min(),
    }
}

/// Whose turn it would be, from when and until when; of a rota with one person, from its beginning without an end.
fn turn(duty: &Duty, at: Timestamp) -> Option<(&Id, Timestamp, Option<Timestamp>)> {
    let elapsed = at.as_nanosecond().checked_sub(duty.from.as_nanosecond()).filter(|elapsed| *elapsed >= 0)?;
    if let [only] = duty.people.as_slice() {
        return Some((only, duty.from, None));
    }
    let length = i128::try_from(duty.rotate.as_nanos()).ok().filter(|length| *length > 0)?;
    let count = i128::try_from(duty.people.len()).ok().filter(|count| *count > 0)?;
    let number = elapsed / length;
    let person = duty.people.get(usize::try_from(number % count).ok()?)?;
    let at_turn = |number: i128| Timestamp::from_nanosecond(duty.from.as_nanosecond() + number * length).ok();
    Some((person, at_turn(number)?, at_turn(number + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
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
            handover: true,
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
            prop_assert_eq!(on_duty(&duty, at(start)), Some(expected.clone()));
            prop_assert_eq!(on_duty(&duty, at(start + length - 1)), Some(expected.clone()));
            let next = id((turn + 1) % people);
            prop_assert_eq!(on_duty(&duty, at(start + length)), Some(next));
        }

        #[test]
        fn an_override_wins_while_it_lasts_and_shifts_no_turn(
            people in 1_usize..8, rotate in 60_u64..2_000_000, start in 0_i64..1_000_000, length in 1_i64..1_000_000,
            moment in 0_i64..3_000_000,
        ) {
            let plain = rota(people, rotate, 0);
            let mut overridden = plain.clone();
            overridden.overrides.push(Override { person: Some(id(99)), from: at(start), to: at(start + length) });
            let inside = start <= moment && moment < start + length;
            let substitute = id(99);
            let expected = if inside { Some(substitute) } else { on_duty(&plain, at(moment)) };
            prop_assert_eq!(on_duty(&overridden, at(moment)), expected);
        }

        #[test]
        fn shifts_lie_end_to_end_and_one_holds_from_end_to_end(
            people in 1_usize..4, rotate in 60_u64..50_000, moment in -100_000_i64..400_000,
            overrides in prop::collection::vec((0_i64..300_000, 1_i64..100_000, prop::bool::ANY), 0..4),
        ) {
            let mut duty = rota(people, rotate, 0);
            duty.overrides = overrides
                .iter()
                .enumerate()
                .map(|(index, (from, length, somebody))| Override {
                    person: somebody.then(|| id(90 + index)),
                    from: at(*from),
                    to: at(from + length),
                })
                .collect();
            let one = shift(&duty, at(moment));
            prop_assert!(one.from.is_none_or(|from| from <= at(moment)));
            if let Some(from) = one.from {
                prop_assert_eq!(&shift(&duty, from), &one);
            }
            if let Some(to) = one.to {
                prop_assert!(at(moment) < to);
                let second = jiff::SignedDuration::from_secs(1);
                prop_assert_eq!(&shift(&duty, to - second), &one);
                prop_assert_eq!(shift(&duty, to).from, Some(to));
            }
            let is_nobody = matches!(one.keeper, Keeper::Gap(..) | Keeper::NotBegun(_));
            prop_assert_eq!(one.person().is_none(), is_nobody);
        }
    }
}
