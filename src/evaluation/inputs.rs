//! Measures every indicator of every agency for one week: availability from the attribution ledger, the rest by PromQL
//! on the history at the end of the week.

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
use crate::history::History;
use crate::promql::{self, Query, QueryError, Series, Storage, Value};
use jiff::Timestamp;
use promql_parser::label::Matchers;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One indicator's values by agency.
type ByAgency = BTreeMap<String, Measured>;

/// Measures `week`. Without a history (the command line has none) what needs PromQL is "not evaluated".
pub async fn measure(
    config: &Config,
    evaluation: &Evaluation,
    ledger: &Ledger,
    history: Option<Arc<History>>,
    week: Week,
    now: Timestamp,
) -> Result<Report, EvaluationError> {
    let zone = &config.site.timezone;
    let (from, to) = week.range(zone);
    let intervals = Intervals::read(ledger, from, to).await?;
    let queries: Vec<Indicator> = evaluation
        .indicators
        .iter()
        .filter(|indicator| !matches!(indicator.measure, Measure::Availability(_)))
        .cloned()
        .collect();
    let mut queried = match history {
        Some(history) => tokio::task::spawn_blocking(move || query_all(&history.read(), &queries, to.as_millisecond()))
            .await
            .map_err(EvaluationError::Queries)?,
        None => HashMap::new(),
    };
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
            _ => queried.remove(indicator.id.as_str()).unwrap_or_default(),
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
        Measure::Value { .. } => Shape::Number,
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

fn query_all(storage: &dyn Storage, indicators: &[Indicator], at_ms: i64) -> HashMap<String, ByAgency> {
    let mut all = HashMap::new();
    for indicator in indicators {
        let values = match &indicator.measure {
            Measure::Ratio { numerator, denominator } => ratio(storage, numerator, denominator, indicator.min, at_ms),
            Measure::Value { query } => value(storage, query, at_ms),
            Measure::Availability(_) => continue,
        };
        match values {
            Ok(values) => {
                all.insert(indicator.id.to_string(), values);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(indicator = %indicator.id, error, "the indicator's query failed; it is not evaluated");
            }
        }
    }
    all
}

fn ratio(
    storage: &dyn Storage,
    numerator: &str,
    denominator: &str,
    min: f64,
    at_ms: i64,
) -> Result<ByAgency, QueryError> {
    let (numerators, coverage_above) = samples(storage, numerator, at_ms)?;
    let (denominators, coverage_below) = samples(storage, denominator, at_ms)?;
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

fn value(storage: &dyn Storage, query: &str, at_ms: i64) -> Result<ByAgency, QueryError> {
    let (values, coverage) = samples(storage, query, at_ms)?;
    Ok(values
        .into_iter()
        .map(|(agency, value)| {
            let missing = (coverage < MIN_COVERAGE).then_some(Missing::Coverage);
            (agency, Measured { value: Some(value), coverage: Some(coverage), missing, ..Measured::default() })
        })
        .collect())
}

/// The query's sample of every agency, and which share of the time it looks back on the history covers.
fn samples(storage: &dyn Storage, query: &str, at_ms: i64) -> Result<(BTreeMap<String, f64>, f64), QueryError> {
    let query = Query::parse(query)?;
    let observed = Observed { storage, coverage: std::cell::Cell::new(None) };
    let result = promql::instant(&observed, &query, at_ms)?;
    let coverage = observed.coverage.get().unwrap_or(1.0);
    let Value::Vector(vector) = result else {
        return Err(QueryError::Execution("an indicator must give a vector with one sample an agency".into()));
    };
    let mut by_agency = BTreeMap::new();
    for sample in vector {
        let agency = sample.labels.get("agency");
        if agency.is_empty() || !sample.value.is_finite() {
            continue;
        }
        if by_agency.insert(agency.to_string(), sample.value).is_some() {
            return Err(QueryError::Execution(format!("more than one sample for the agency {agency}")));
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
    use crate::promql::{Labels, Run};

    struct Ticks(Vec<i64>, Labels);

    impl Storage for Ticks {
        fn select<'s>(&'s self, _: &Matchers, _: i64, _: i64, each: &mut dyn FnMut(Series<'s>)) {
            each(Series { labels: &self.1, ticks: &self.0, runs: &[Run { from: 0, value: 1.0 }] });
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
            let storage = Ticks(minutes.into_iter().map(|minute| minute * MINUTE).collect(), Labels::new([]));
            let observed = Observed { storage: &storage, coverage: std::cell::Cell::new(None) };
            observed.select(&Matchers::empty(), 0, week * MINUTE, &mut |_| {});
            let coverage = observed.coverage.get().unwrap();
            assert!((coverage - expected).abs() < 0.002, "{name}: {coverage}");
        }
    }
}
