//! Availability of each agency's subjects, from intervals of the attribution ledger. Pure.

use super::score::{MIN_COVERAGE, Measured, Missing};
use crate::attribution::{Interval, State};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What the ledger knows of one agency's subjects, in subject-hours.
#[derive(Debug, Clone, Default)]
struct Hours<'a> {
    subjects: BTreeSet<(&'static str, &'a str)>,
    up: f64,
    down: f64,
    /// Down because of something that is not the agency's.
    excused: f64,
}

/// The availability of every agency that had a subject in the week `[from, to)`, each subject with the same weight a
/// minute.
///
/// Downtime with another cause than the agency's own is known time, but counts neither for nor against: it is in neither
/// part of the ratio. The cause that counts is a person's where one overrode the automatic one. Coverage is
/// known time of all subjects over the whole week: a subject that came on Friday was not observed on Monday.
pub fn availability(
    intervals: &[Interval],
    from: Timestamp,
    to: Timestamp,
    now: Timestamp,
    min_hours: f64,
) -> BTreeMap<String, Measured> {
    let mut agencies: BTreeMap<&str, Hours<'_>> = BTreeMap::new();
    for interval in intervals {
        let begin = interval.from.max(from);
        // What lasts is only known until now.
        let end = interval.until.unwrap_or(now).min(to);
        if begin >= end {
            continue;
        }
        let hours = end.duration_since(begin).as_secs_f64() / 3_600.0;
        let agency = agencies.entry(&interval.agency).or_default();
        agency.subjects.insert((interval.subject.kind.as_str(), &interval.subject.id));
        match interval.state {
            State::Up => agency.up += hours,
            State::Down if interval.cause == "own" => agency.down += hours,
            State::Down => agency.excused += hours,
            State::Unknown => {}
        }
    }
    let week = to.duration_since(from).as_secs_f64() / 3_600.0;
    agencies.into_iter().map(|(agency, hours)| (agency.to_string(), measure(&hours, week, min_hours))).collect()
}

fn measure(hours: &Hours<'_>, week: f64, min_hours: f64) -> Measured {
    let counted = hours.up + hours.down;
    let coverage = (counted + hours.excused) / (hours.subjects.len() as f64 * week);
    let missing = if coverage < MIN_COVERAGE {
        Some(Missing::Coverage)
    } else if counted <= 0.0 {
        Some(Missing::NoData)
    } else if counted < min_hours {
        Some(Missing::Min)
    } else {
        None
    };
    Measured {
        numerator: Some(hours.up),
        denominator: Some(counted),
        value: (counted > 0.0).then(|| hours.up / counted),
        coverage: Some(coverage),
        excused: Some(hours.excused),
        missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::{Subject, SubjectKind};

    const HOUR: i64 = 3_600;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * HOUR).unwrap()
    }

    fn interval(id: &str, agency: &str, hours: (i64, Option<i64>), state: State, cause: &str) -> Interval {
        Interval {
            subject: Subject { kind: SubjectKind::Service, id: id.into() },
            agency: agency.into(),
            from: at(hours.0),
            until: hours.1.map(at),
            state,
            cause: cause.into(),
            automatic_cause: cause.into(),
            by: String::new(),
            reason: String::new(),
            overridden: None,
        }
    }

    #[test]
    fn availability_is_up_time_of_known_time() {
        use State::{Down, Unknown, Up};
        // The week is hours 1000 to 1100.
        let (from, to, now) = (at(1_000), at(1_100), at(1_107));
        let rows = [
            ("up all the week and beyond", vec![((0, None), Up, "own")], Some(1.0), 1.0, None),
            (
                "down for 5 of 100",
                vec![((900, Some(1_005)), Down, "own"), ((1_005, None), Up, "own")],
                Some(0.95),
                1.0,
                None,
            ),
            (
                "somebody else's outage is not counted",
                vec![((900, Some(1_010)), Down, "national"), ((1_010, None), Up, "own")],
                Some(1.0),
                1.0,
                None,
            ),
            (
                "unknown for a quarter",
                vec![((900, Some(1_025)), Unknown, "unknown"), ((1_025, None), Up, "own")],
                Some(1.0),
                0.75,
                Some(Missing::Coverage),
            ),
            ("came on the last day", vec![((1_090, None), Up, "own")], Some(1.0), 0.1, Some(Missing::Coverage)),
            ("excused all week", vec![((900, None), Down, "power")], None, 1.0, Some(Missing::NoData)),
        ];
        for (name, intervals, value, coverage, missing) in rows {
            let intervals: Vec<Interval> = intervals
                .into_iter()
                .map(|(hours, state, cause)| interval("dvc", "tam-ky", hours, state, cause))
                .collect();
            let measured = &availability(&intervals, from, to, now, 0.0)["tam-ky"];
            assert_eq!(measured.value, value, "{name}");
            assert!((measured.coverage.unwrap() - coverage).abs() < 1e-9, "{name}");
            assert_eq!(measured.missing, missing, "{name}");
        }
    }

    #[test]
    fn subjects_of_an_agency_are_taken_together_and_agencies_apart() {
        let intervals = [
            interval("a", "tam-ky", (1_000, None), State::Up, "own"),
            interval("b", "tam-ky", (1_000, Some(1_050)), State::Down, "own"),
            interval("b", "tam-ky", (1_050, None), State::Up, "own"),
            interval("c", "hoi-an", (1_000, None), State::Down, "own"),
            interval("gone", "phu-ninh", (0, Some(1_000)), State::Down, "own"),
        ];
        let all = availability(&intervals, at(1_000), at(1_100), at(1_200), 0.0);
        assert_eq!(all["tam-ky"].value, Some(0.75));
        assert_eq!((all["tam-ky"].numerator, all["tam-ky"].denominator), (Some(150.0), Some(200.0)));
        assert_eq!(all["hoi-an"].value, Some(0.0));
        assert!(!all.contains_key("phu-ninh"));
    }

    #[test]
    fn an_unfinished_week_is_known_only_so_far() {
        let intervals = [interval("a", "tam-ky", (900, None), State::Up, "own")];
        let measured = &availability(&intervals, at(1_000), at(1_100), at(1_050), 0.0)["tam-ky"];
        assert_eq!(measured.missing, Some(Missing::Coverage));
    }
}
