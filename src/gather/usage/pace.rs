//! How far an agency is towards a target, and whether it gets there. Pure: the count, the calendar and the moment decide.

use crate::config::usage::Target;
use crate::org::Org;
use jiff::Timestamp;
use jiff::civil::Date;

/// The way to a target in its present period. Days are working days, of which today counts by the share of its hours that is
/// over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    pub goal: u64,
    pub done: i64,
    /// The period, both inclusive.
    pub first: Date,
    pub last: Date,
    pub days_elapsed: f64,
    pub days_left: f64,
    /// Since the period began; none while nothing of it has been worked.
    pub observed_per_day: Option<f64>,
    /// 0 once the goal is reached; none if it is not and no working time is left.
    pub needed_per_day: Option<f64>,
    /// At the observed pace, at the end of the period.
    pub projected: Option<f64>,
}

/// The pace of `target` at `now`, if it holds today. `done` is what was counted from the period's start to `known_until`, at
/// most to `now`: a feed that comes once a day says nothing of today.
pub fn pace(target: &Target, done: i64, known_until: Timestamp, org: &Org, now: Timestamp) -> Option<Pace> {
    let today = org.date(now);
    if !target.holds(today) {
        return None;
    }
    let (first, last) = target.every.around(today);
    let until = known_until.min(now);
    let days_elapsed = org.working_days_until(first, until);
    let whole = f64::from(org.working_days(first, last));
    let days_left = (whole - org.working_days_until(first, now)).max(0.0);
    let missing = (i128::from(target.goal) - i128::from(done)).max(0) as f64;
    let observed_per_day = (days_elapsed > 0.0).then(|| done as f64 / days_elapsed);
    let needed_per_day = match (missing, days_left) {
        (0.0, _) => Some(0.0),
        (_, 0.0) => None,
        _ => Some(missing / days_left),
    };
    let projected = observed_per_day.map(|observed| done as f64 + observed * (whole - days_elapsed).max(0.0));
    Some(Pace {
        goal: target.goal,
        done,
        first,
        last,
        days_elapsed,
        days_left,
        observed_per_day,
        needed_per_day,
        projected,
    })
}
