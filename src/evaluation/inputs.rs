//! Measures every indicator of every agency for one week: availability from the attribution ledger, payments and users
//! from their tables, the rest by PromQL on the history at the end of the week.
//!
//! What the state database knows is not asked of the history, which begins empty at every start.

use super::EvaluationError;
use super::availability::availability;
use super::report::{AgencyWeek, IndicatorProfile, Profile, Report, Shape};
use super::score::{MIN_COVERAGE, Measured, Missing};
use super::week::Week;
use crate::attribution::{Interval, Ledger, SubjectKind};
use crate::config::Config;
use crate::config::devices::DeviceKind;
use crate::config::evaluation::{Evaluation, Indicator, Measure, Subjects};
use crate::format;
use crate::gather::{payment, usage};
use crate::history::{History, Remote, RemoteError};
use crate::promql::{self, Query, QueryError, Series, Storage, Value};
use crate::store::{Store, StoreError};
use jiff::Timestamp;
use promql_parser::label::Matchers;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One indicator's values by agency.
type ByAgency = BTreeMap<String, Measured>;

/// Who answers the indicators' queries.
#[derive(Clone)]
pub enum Source {
    History(Arc<History>),
    Remote(Arc<Remote>),
    /// Nobody: what needs PromQL is "not evaluated". The command line has no history.
    None,
}

/// Measures `week`. An error if a remote engine does not answer: it may later.
pub async fn measure(
    config: &Config,
    evaluation: &Evaluation,
    (store, ledger): (&Store, &Ledger),
    source: Source,
    week: Week,
    now: Timestamp,
) -> Result<Report, EvaluationError> {
    let zone = &config.site.timezone;
    let (from, to) = week.range(zone);
    let intervals = Intervals::read(ledger, from, to).await?;
    let queries: Vec<Indicator> = evaluation
        .indicators
        .iter()
        .filter(|indicator| matches!(indicator.measure, Measure::Ratio { .. } | Measure::Value { .. }))
        .cloned()
        .collect();
    let at_ms = to.as_millisecond();
    let runtime = tokio::runtime::Handle::current();
    let query = move || match source {
        Source::History(history) => query_all(&Asked::Here(&history.read()), &queries, at_ms),
        Source::Remote(remote) => query_all(&Asked::There(&remote, &runtime), &queries, at_ms),
        Source::None => Ok(HashMap::new()),
    };
    let queried = tokio::task::spawn_blocking(query).await.map_err(EvaluationError::Queries)?;
    let mut queried = queried.map_err(EvaluationError::Remote)?;
    let mut agencies: Vec<AgencyWeek> = config
        .agencies
        .iter()
        .filter(|agency| {
            // Who did not exist in that week is not judged for it.
            agency.since.is_none_or(|since| since <= week.sunday())
                && agency.until.is_none_or(|until| until > week.monday())
        })
        .map(|agency| AgencyWeek { id: agency.id.to_string(), name: agency.name.clone(), measured: BTreeMap::new() })
        .collect();
    for indicator in &evaluation.indicators {
        let mut values = match indicator.measure {
            Measure::Availability(subjects) => {
                let chosen = intervals.of(subjects, config);
                availability(&chosen, from, to, now, indicator.min)
            }
            Measure::OpenMismatches => open_mismatches(store, to).await?,
            Measure::ActiveUsers => active_users(store, from, to).await?,
            Measure::Ratio { .. } | Measure::Value { .. } => queried.remove(indicator.id.as_str()).unwrap_or_default(),
        };
        for agency in &mut agencies {
            if let Some(measured) = values.remove(&agency.id) {
                agency.measured.insert(indicator.id.to_string(), measured);
            }
        }
    }
    // An agency of which nothing was measured (a province that only groups others) has no place in the report.
    agencies.retain(|agency| !agency.measured.is_empty());
    let profile = Profile {
        site: config.site.name.clone(),
        external_url: config.site.external_url.clone(),
        evaluated_at: format::date_time(now, zone),
        underperforming_below: evaluation.underperforming_below,
        indicators: evaluation.indicators.iter().map(indicator_profile).collect(),
        agencies: agencies.iter().map(|agency| (agency.id.clone(), agency.name.clone())).collect(),
    };
    Ok(Report { week, profile, agencies })
}

fn indicator_profile(indicator: &Indicator) -> IndicatorProfile {
    let shape = match indicator.measure {
        Measure::Availability(_) => Shape::Hours,
        Measure::Ratio { .. } => Shape::Share,
        Measure::Value { .. } | Measure::OpenMismatches | Measure::ActiveUsers => Shape::Number,
    };
    IndicatorProfile {
        id: indicator.id.to_string(),
        title: indicator.title.clone(),
        title_en: indicator.title_en.clone(),
        target: indicator.target,
        floor: indicator.floor,
        weight: indicator.weight,
        min: indicator.min,
        shape,
        counted: shape == Shape::Share,
    }
}

/// The week's intervals of everything that availability is asked of.
struct Intervals {
    services: Vec<Interval>,
    cameras: Vec<Interval>,
    hotspots: Vec<Interval>,
}

impl Intervals {
    async fn read(ledger: &Ledger, from: Timestamp, to: Timestamp) -> Result<Intervals, EvaluationError> {
        Ok(Intervals {
            services: ledger.intervals(SubjectKind::Service, from, to).await?,
            cameras: ledger.intervals(SubjectKind::Camera, from, to).await?,
            hotspots: ledger.intervals(SubjectKind::Hotspot, from, to).await?,
        })
    }

    fn of(&self, subjects: Subjects, config: &Config) -> Vec<Interval> {
        match subjects {
            Subjects::Services(None) => self.services.clone(),
            Subjects::Services(Some(kind)) => {
                // The ledger does not keep a service's kind; one that left the configuration has none any more.
                let is_kind =
                    |id: &str| config.services.iter().any(|service| *service.id == *id && service.kind == kind);
                self.services.iter().filter(|interval| is_kind(&interval.subject.id)).cloned().collect()
            }
            Subjects::Devices(None) => self.cameras.iter().chain(&self.hotspots).cloned().collect(),
            Subjects::Devices(Some(DeviceKind::Camera)) => self.cameras.clone(),
            Subjects::Devices(Some(DeviceKind::Hotspot)) => self.hotspots.clone(),
        }
    }
}

async fn open_mismatches(store: &Store, at: Timestamp) -> Result<ByAgency, StoreError> {
    let open = payment::open_at(store, at).await?;
    Ok(open.into_iter().map(|(agency, count)| (agency, number(count as f64))).collect())
}

/// Of an application the mean of its periods, whether they are days or the week; of an agency the sum of its
/// applications.
async fn active_users(store: &Store, from: Timestamp, to: Timestamp) -> Result<ByAgency, StoreError> {
    let mut applications: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
    for period in usage::active_users(store, from, to).await? {
        let (users, periods) = applications.entry((period.agency, period.app)).or_default();
        (*users, *periods) = (*users + period.users, *periods + 1);
    }
    let mut agencies: BTreeMap<String, f64> = BTreeMap::new();
    for ((agency, _), (users, periods)) in applications {
        *agencies.entry(agency).or_default() += users as f64 / periods as f64;
    }
    Ok(agencies.into_iter().map(|(agency, users)| (agency, number(users))).collect())
}

fn number(value: f64) -> Measured {
    Measured { value: Some(value), ..Measured::default() }
}

/// The engine of one evaluation.
enum Asked<'a> {
    Here(&'a dyn Storage),
    /// From a blocking thread.
    There(&'a Remote, &'a tokio::runtime::Handle),
}

/// Why an indicator has no values.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

fn query_all(
    source: &Asked<'_>,
    indicators: &[Indicator],
    at_ms: i64,
) -> Result<HashMap<String, ByAgency>, RemoteError> {
    let mut all = HashMap::new();
    for indicator in indicators {
        let values = match &indicator.measure {
            Measure::Ratio { numerator, denominator } => ratio(source, numerator, denominator, indicator.min, at_ms),
            Measure::Value { query } => value(source, query, at_ms),
            Measure::Availability(_) | Measure::OpenMismatches | Measure::ActiveUsers => continue,
        };
        match values {
            Ok(values) => {
                all.insert(indicator.id.to_string(), values);
            }
            // The week is not lost because the server is away when it ends.
            Err(AskError::Remote(error)) if error.is_silence() => return Err(error),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(indicator = %indicator.id, error, "the indicator's query failed; it is not evaluated");
            }
        }
    }
    Ok(all)
}

fn ratio(source: &Asked<'_>, numerator: &str, denominator: &str, min: f64, at_ms: i64) -> Result<ByAgency, AskError> {
    let (numerators, coverage_above) = samples(source, numerator, at_ms)?;
    let (denominators, coverage_below) = samples(source, denominator, at_ms)?;
    let coverage = coverage_above.min(coverage_below);
    Ok(denominators
        .into_iter()
        .map(|(agency, denominator)| {
            // Where there is something to count and none of it counted, the sum has no sample: that is zero.
            let numerator = numerators.get(&agency).copied().unwrap_or(0.0);
            let value = (denominator > 0.0).then(|| numerator / denominator);
            let missing = if coverage < MIN_COVERAGE {
                Some(Missing::Coverage)
            } else if value.is_none() && denominator >= min {
                Some(Missing::NoData)
            } else if denominator < min {
                Some(Missing::Min)
            } else {
                None
            };
            let (numerator, denominator) = (Some(numerator), Some(denominator));
            (agency, Measured { numerator, denominator, value, coverage: Some(coverage), excused: None, missing })
        })
        .collect())
}

fn value(source: &Asked<'_>, query: &str, at_ms: i64) -> Result<ByAgency, AskError> {
    let (values, coverage) = samples(source, query, at_ms)?;
    Ok(values
        .into_iter()
        .map(|(agency, value)| {
            let missing = (coverage < MIN_COVERAGE).then_some(Missing::Coverage);
            (agency, Measured { value: Some(value), coverage: Some(coverage), missing, ..Measured::default() })
        })
        .collect())
}

/// The query's result, and which share of the time it looks back on the engine covers.
fn answer(source: &Asked<'_>, query: &Query, at_ms: i64) -> Result<(Value, f64), AskError> {
    match source {
        Asked::Here(storage) => {
            let observed = Observed { storage: *storage, coverage: std::cell::Cell::new(None) };
            let result = promql::instant(&observed, query, at_ms)?;
            Ok((result, observed.coverage.get().unwrap_or(1.0)))
        }
        Asked::There(remote, runtime) => {
            let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MAX);
            let result = runtime.block_on(remote.instant(query, at))?;
            let Some(counted) = coverage_query(query) else { return Ok((result, 1.0)) };
            let covered = match runtime.block_on(remote.instant(&Query::parse(&counted)?, at))? {
                Value::Vector(samples) => samples.first().map_or(0.0, |sample| sample.value),
                Value::Scalar(_) | Value::String(_) | Value::Matrix(_) => 0.0,
            };
            Ok((result, covered.min(1.0)))
        }
    }
}

/// In which share of the minutes that `query` looks back on a remote engine heard of this daemon at all. `None` if it
/// looks back on a moment only.
fn coverage_query(query: &Query) -> Option<String> {
    let longest = query.lookback().into_iter().map(|(_, back)| back.as_secs()).max()?;
    let minutes = longest / 60;
    let text = format!("max(count_over_time(ioc_watch_build_info[{minutes}m:1m])) / {minutes}");
    (minutes > 60).then_some(text)
}

/// The query's sample of every agency, and which share of the time it looks back on is covered.
fn samples(source: &Asked<'_>, query: &str, at_ms: i64) -> Result<(BTreeMap<String, f64>, f64), AskError> {
    let query = Query::parse(query)?;
    let (result, coverage) = answer(source, &query, at_ms)?;
    let Value::Vector(vector) = result else {
        return Err(QueryError::Execution("an indicator must give a vector with one sample an agency".into()).into());
    };
    let mut by_agency = BTreeMap::new();
    for sample in vector {
        let agency = sample.labels.get("agency");
        if agency.is_empty() || !sample.value.is_finite() {
            continue;
        }
        if by_agency.insert(agency.to_string(), sample.value).is_some() {
            return Err(QueryError::Execution(format!("more than one sample for the agency {agency}")).into());
        }
    }
    Ok((by_agency, coverage))
}

/// A storage that notes how much of what is asked of it it can know: after a restart an average over the last 7 days
/// would otherwise be the average of an hour, and look the same.
struct Observed<'a> {
    storage: &'a dyn Storage,
    /// The smallest share that a select found.
    coverage: std::cell::Cell<Option<f64>>,
}

impl Storage for Observed<'_> {
    fn select<'s>(&'s self, matchers: &Matchers, from_ms: i64, to_ms: i64, each: &mut dyn FnMut(Series<'s>)) {
        /// Ticks further apart are a gap; what lies between is unknown.
        const GAP_MS: i64 = 5 * 60 * 1_000;
        let mut known: Option<i64> = None;
        self.storage.select(matchers, from_ms, to_ms, &mut |series| {
            // The clock is shared; the longest is what the history knows.
            let first = series.ticks.partition_point(|tick| *tick <= from_ms);
            let last = series.ticks.partition_point(|tick| *tick <= to_ms);
            let ticks = &series.ticks[first.saturating_sub(1)..last];
            let reach = ticks.windows(2).map(|pair| (pair[0].max(from_ms), pair[1]));
            let covered: i64 = reach.map(|(a, b)| if b - a > GAP_MS { 0 } else { b - a }).sum();
            known = Some(known.unwrap_or(0).max(covered));
            each(series);
        });
        let range = to_ms - from_ms;
        // Shorter ranges are lookbacks of a moment, not of the week.
        if range > 60 * 60 * 1_000
            && let Some(known) = known
        {
            // One tick and one gap at the end are not missing time.
            let share = ((known + GAP_MS) as f64 / range as f64).min(1.0);
            self.coverage.set(Some(self.coverage.get().map_or(share, |before| before.min(share))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::testing::Bench;
    use crate::promql::{Labels, Run, Runs};
    use crate::store::micros;

    struct Ticks(Vec<i64>, Labels);

    impl Storage for Ticks {
        fn select<'s>(&'s self, _: &Matchers, _: i64, _: i64, each: &mut dyn FnMut(Series<'s>)) {
            each(Series { labels: self.1.view(), ticks: &self.0, runs: Runs::Kept(&[Run { from: 0, value: 1.0 }]) });
        }
    }

    /// On SQLite and PostgreSQL.
    #[tokio::test]
    async fn a_restart_that_empties_the_history_changes_no_number_of_the_built_in_profile() {
        use crate::attribution::{State, Subject};
        let day = |day: i64| Timestamp::from_second(1_792_368_000 + day * 86_400).unwrap();
        let week = Week::containing(day(0).to_zoned_datetime(jiff::tz::TimeZone::UTC).date());
        for bench in Bench::both("evaluation: {}\n").await {
            let (config, store) = (&bench.config, &bench.place.store);
            let (from, to) = week.range(&config.site.timezone);
            let hour = |n: i64| from + jiff::SignedDuration::from_hours(n);
            let ledger = Ledger::resume(store.clone()).await.unwrap();
            let camera = Subject { kind: SubjectKind::Camera, id: "cam-1".into() };
            ledger.observe(&camera, "tam-ky", State::Up, hour(-1), "");
            ledger.observe(&camera, "tam-ky", State::Down, hour(0), "");
            ledger.observe(&camera, "tam-ky", State::Up, hour(42), "");
            ledger.flush().await.unwrap();
            ledger.heartbeat(to).await.unwrap();
            let mut tx = store.begin().await.unwrap();
            // Open over the week's end, closed within it, opened after it.
            for (txn_ref, opened, closed) in
                [("T1", 1, None), ("T2", 1, Some(9)), ("T3", 1, Some(200)), ("T4", 169, None)]
            {
                let sql = "INSERT INTO payment_mismatches VALUES ($1, $2, 'amount', 'tam-ky', '', 1, 0, '[]', $3, '', '', '')";
                let query = sqlx::query(sql).bind(txn_ref).bind(micros(hour(opened)));
                query.bind(closed.map(|closed| micros(hour(closed)))).execute(&mut *tx).await.unwrap();
            }
            let sql = "INSERT INTO payment_record_totals VALUES ('ioc', 'portal', 'paid', 1)";
            sqlx::query(sql).execute(&mut *tx).await.unwrap();
            for (app, begin, users) in [("qoffice", 0, 10), ("qoffice", 24, 20), ("mail", 0, 3), ("mail", 168, 99)] {
                let sql = "INSERT INTO usage_counts VALUES ($1, 'tam-ky', '', $2, $3, $4, $4, 0)";
                let query = sqlx::query(sql).bind(app).bind(micros(hour(begin))).bind(micros(hour(begin + 24)));
                query.bind(users).execute(&mut *tx).await.unwrap();
            }
            tx.commit().await.unwrap();

            let evaluation = config.evaluation.as_ref().unwrap();
            let history = Arc::new(History::new(&config.history));
            history.record("test", &mut [(Labels::new([("__name__", "x")]), 1.0)], to);
            let before =
                measure(config, evaluation, (store, &ledger), Source::History(history), week, to).await.unwrap();
            let ledger = Ledger::resume(store.clone()).await.unwrap();
            let history = Arc::new(History::new(&config.history));
            let after =
                measure(config, evaluation, (store, &ledger), Source::History(history), week, to).await.unwrap();
            assert_eq!(before, after);
            let value = |agency: usize, indicator: &str| {
                after.agencies[agency].measured.get(indicator).and_then(|measured| measured.value)
            };
            assert_eq!(value(0, "payment_mismatches"), Some(0.0));
            assert_eq!(value(1, "payment_mismatches"), Some(2.0));
            assert_eq!(value(1, "usable_devices"), Some(0.75));
            assert_eq!(value(1, "active_users"), Some(18.0));
        }
    }

    #[test]
    fn the_history_says_how_much_of_the_week_it_knows() {
        const MINUTE: i64 = 60_000;
        let week = 7 * 24 * 60;
        let rows = [
            ("all of it", (0..=week).collect::<Vec<i64>>(), 1.0),
            ("the last half", (week / 2..=week).collect(), 0.5),
            ("with a day's gap", (0..=week).filter(|m| !(2_000..3_440).contains(m)).collect(), 6.0 / 7.0),
            ("one tick", vec![week], 0.0),
        ];
        for (name, minutes, expected) in rows {
            let storage = Ticks(minutes.into_iter().map(|minute| minute * MINUTE).collect(), Labels::default());
            let observed = Observed { storage: &storage, coverage: std::cell::Cell::new(None) };
            observed.select(&Matchers::empty(), 0, week * MINUTE, &mut |_| {});
            let coverage = observed.coverage.get().unwrap();
            assert!((coverage - expected).abs() < 0.002, "{name}: {coverage}");
        }
    }
}
