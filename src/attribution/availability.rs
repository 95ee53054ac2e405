//! What the ledger says of a stretch of time: by subject, by agency and by cause, in seconds, overrides applied.

use super::{Cause, Interval, Ledger, State, Subject, SubjectKind};
use crate::store::StoreError;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked. Empty filters let everything through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailabilityQuery {
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    /// What lasts is known until then; what lies after it is not counted.
    pub now: Timestamp,
    pub kinds: Vec<SubjectKind>,
    pub subject: Option<String>,
    /// `None`: every agency. An empty set: none.
    pub agencies: Option<BTreeSet<String>>,
    /// Only downtime with this cause is counted as down and listed.
    pub cause: Option<Cause>,
}

/// Sums over some subjects, in seconds. `up + down + unknown` is `total`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Seconds {
    pub total: f64,
    pub up: f64,
    pub down: f64,
    /// Downtime by cause; only causes that occur.
    pub down_by_cause: BTreeMap<String, f64>,
    pub unknown: f64,
    /// Known time of all time: 1 - unknown / total.
    pub coverage: Option<f64>,
    /// Up of all known time: `up / (up + down)`.
    pub ratio: Option<Ratio>,
    /// What the agency answers for: `up / (up + down by cause own)`.
    pub own_ratio: Option<Ratio>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    pub value: f64,
    /// Seconds.
    pub numerator: f64,
    /// Seconds.
    pub denominator: f64,
}

/// One stretch of one subject, cut to what was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stretch {
    pub from: Timestamp,
    pub to: Timestamp,
    /// It lasts.
    pub open: bool,
    pub state: State,
    /// The cause that counts.
    pub cause: Cause,
    /// The cause that the graph gave.
    pub automatic_cause: Cause,
    /// The dependency's id or the maintenance's reason; may be empty.
    pub by: String,
    /// What was seen.
    pub reason: String,
    pub overridden: Option<Judgement>,
}

/// Who overrode the cause of a stretch, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    pub id: i64,
    pub who: String,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubjectAvailability {
    #[serde(flatten)]
    pub subject: Subject,
    pub agency: String,
    #[serde(flatten)]
    pub seconds: Seconds,
    pub intervals: Vec<Stretch>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Availability {
    pub from: Timestamp,
    pub to: Timestamp,
    pub all: Seconds,
    pub by_agency: BTreeMap<String, Seconds>,
    /// By agency and subject; a subject that changed hands stands there once an agency.
    pub subjects: Vec<SubjectAvailability>,
}

impl Ledger {
    /// What was up, down and unknown in a stretch of time, and because of what. Time before a subject was first seen, or
    /// after it was removed, is not counted at all.
    pub async fn availability(&self, query: &AvailabilityQuery) -> Result<Availability, StoreError> {
        let to = query.to.min(query.now).max(query.from);
        let mut intervals = Vec::new();
        for kind in SubjectKind::ALL {
            if query.kinds.is_empty() || query.kinds.contains(&kind) {
                intervals.extend(self.intervals(kind, query.from, to).await?);
            }
        }
        Ok(summarise(query, intervals, to))
    }
}

/// Sums the intervals up, cut to `[query.from, to)`.
fn summarise(query: &AvailabilityQuery, intervals: Vec<Interval>, to: Timestamp) -> Availability {
    let mut subjects: BTreeMap<(String, Subject), SubjectAvailability> = BTreeMap::new();
    let is_asked = |interval: &Interval| {
        query.subject.as_ref().is_none_or(|id| **id == *interval.subject.id)
            && query.agencies.as_ref().is_none_or(|agencies| agencies.contains(&interval.agency))
    };
    for interval in intervals.into_iter().filter(is_asked) {
        let (from, until) = (interval.from.max(query.from), interval.until.unwrap_or(to).min(to));
        let cause = Cause::parse(&interval.cause).unwrap_or(Cause::Unknown);
        if from >= until {
            continue;
        }
        let key = (interval.agency.clone(), interval.subject.clone());
        let entry = subjects.entry(key).or_insert_with(|| SubjectAvailability {
            subject: interval.subject.clone(),
            agency: interval.agency.clone(),
            seconds: Seconds::default(),
            intervals: Vec::new(),
        });
        let is_down = interval.state == State::Down;
        if query.cause.is_some_and(|asked| is_down && asked != cause) {
            continue;
        }
        entry.seconds.add(interval.state, cause, until.duration_since(from).as_secs_f64());
        if query.cause.is_none() || is_down {
            entry.intervals.push(Stretch {
                from,
                to: until,
                open: interval.until.is_none_or(|end| end > to),
                state: interval.state,
                cause,
                automatic_cause: Cause::parse(&interval.automatic_cause).unwrap_or(Cause::Unknown),
                by: interval.by,
                reason: interval.reason,
                overridden: interval.overridden.map(|found| Judgement {
                    id: found.id,
                    who: found.who,
                    reason: found.reason,
                    at: found.created,
                }),
            });
        }
    }
    let mut answer = Availability { from: query.from, to, ..Availability::default() };
    for ((agency, _), mut subject) in subjects {
        answer.all.include(&subject.seconds);
        answer.by_agency.entry(agency).or_default().include(&subject.seconds);
        subject.seconds.conclude();
        answer.subjects.push(subject);
    }
    answer.all.conclude();
    answer.by_agency.values_mut().for_each(Seconds::conclude);
    answer
}

impl Seconds {
    fn add(&mut self, state: State, cause: Cause, seconds: f64) {
        self.total += seconds;
        match state {
            State::Up => self.up += seconds,
            State::Unknown => self.unknown += seconds,
            State::Down => {
                self.down += seconds;
                *self.down_by_cause.entry(cause.to_string()).or_default() += seconds;
            }
        }
    }

    fn include(&mut self, other: &Seconds) {
        self.total += other.total;
        self.up += other.up;
        self.down += other.down;
        self.unknown += other.unknown;
        for (cause, seconds) in &other.down_by_cause {
            *self.down_by_cause.entry(cause.clone()).or_default() += seconds;
        }
    }

    fn conclude(&mut self) {
        let ratio = |numerator: f64, denominator: f64| {
            (denominator > 0.0).then(|| Ratio { value: numerator / denominator, numerator, denominator })
        };
        let own = self.down_by_cause.get(Cause::Own.as_str()).copied().unwrap_or(0.0);
        self.coverage = (self.total > 0.0).then(|| 1.0 - self.unknown / self.total);
        self.ratio = ratio(self.up, self.up + self.down);
        self.own_ratio = ratio(self.up, self.up + own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn seconds_are_summed_by_subject_agency_and_cause() {
        use State::{Down, Unknown, Up};
        let interval = |id: &str, agency: &str, from, until: Option<i64>, state, cause: &str| Interval {
            subject: Subject { kind: SubjectKind::Service, id: id.into() },
            agency: agency.into(),
            from: at(from),
            until: until.map(at),
            state,
            cause: cause.into(),
            automatic_cause: cause.into(),
            by: String::new(),
            reason: String::new(),
            overridden: None,
        };
        let intervals = vec![
            interval("a", "tam-ky", 0, Some(120), Up, "own"),
            interval("a", "tam-ky", 120, Some(130), Down, "own"),
            interval("a", "tam-ky", 130, Some(150), Down, "national"),
            interval("a", "tam-ky", 150, Some(160), Unknown, "unknown"),
            interval("a", "tam-ky", 160, None, Up, "own"),
            interval("b", "hoi-an", 150, None, Down, "own"),
        ];
        let mut query = AvailabilityQuery {
            from: at(100),
            to: at(300),
            now: at(200),
            kinds: Vec::new(),
            subject: None,
            agencies: None,
            cause: None,
        };
        let answer = summarise(&query, intervals.clone(), at(200));
        let tam_ky = &answer.by_agency["tam-ky"];
        assert_eq!((tam_ky.total, tam_ky.up, tam_ky.down, tam_ky.unknown), (100.0, 60.0, 30.0, 10.0));
        assert_eq!(tam_ky.down_by_cause["national"], 20.0);
        assert_eq!(tam_ky.coverage, Some(0.9));
        assert_eq!(tam_ky.ratio.map(|ratio| (ratio.numerator, ratio.denominator)), Some((60.0, 90.0)));
        assert_eq!(tam_ky.own_ratio.map(|ratio| (ratio.numerator, ratio.denominator)), Some((60.0, 70.0)));
        assert_eq!(answer.all.down, 80.0);
        assert_eq!(answer.subjects.len(), 2);
        assert_eq!(answer.subjects[1].intervals.len(), 5);
        assert!(answer.subjects[0].intervals[0].open);
        let json = serde_json::to_value(&answer.subjects[0]).unwrap();
        assert_eq!((&json["kind"], &json["id"], &json["total"]), (&"service".into(), &"b".into(), &50.0.into()));

        query.agencies = Some(BTreeSet::from(["tam-ky".to_string()]));
        query.cause = Some(Cause::Own);
        let answer = summarise(&query, intervals, at(200));
        assert_eq!((answer.all.down, answer.all.up), (10.0, 60.0));
        assert_eq!(answer.subjects[0].intervals.len(), 1);
    }
}
