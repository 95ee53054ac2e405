//! How much memory the history may need: every series that the configuration lets exist, changing as often as it can,
//! for as long as somebody looks back on it.

use super::TRIM_EVERY;
use super::retention::{Need, Retention};
use super::series::{CELL, SERIES, SPARE};
use crate::config::site;
use promql_parser::label::{MatchOp, Matchers};
use std::collections::BTreeMap;
use std::time::Duration;

/// Series of one metric that are alike.
#[derive(Debug, Clone)]
pub struct Crowd<'c> {
    pub metric: &'c str,
    /// Label names and what is known of their values.
    pub labels: Vec<(&'c str, Option<&'c str>)>,
    /// Whether there may be other labels than those: it is no family of a table.
    pub is_open: bool,
    pub count: u64,
    /// The shortest time between two values; never shorter than the tick. `None`: the value never changes.
    pub every: Option<Duration>,
    pub values: Values,
}

/// What the values of a series are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// A few whole numbers; there and not there.
    States,
    /// Of our own clock, in seconds to the microsecond.
    Times,
    Any,
}

/// What the history may need.
#[derive(Debug, Clone, Default)]
pub struct Estimate {
    /// The largest first.
    pub metrics: Vec<MetricEstimate>,
    /// The times of the samples, in bytes.
    pub clocks: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MetricEstimate {
    pub metric: String,
    pub series: u64,
    pub bytes: u64,
    /// How long the longest kept of its series are.
    pub kept: Duration,
    /// Who needs them that long; "" if it is the window.
    pub reader: String,
}

impl Estimate {
    /// In bytes.
    pub fn total(&self) -> u64 {
        self.metrics.iter().fold(self.clocks, |total, metric| total.saturating_add(metric.bytes))
    }
}

/// Adds up what there may be.
pub struct Estimator {
    retention: Retention,
    tick: Duration,
    metrics: BTreeMap<String, MetricEstimate>,
    clocks: u64,
}

/// Of a label in its set, about.
const LABEL: usize = 16;
/// Of a run that is not a short decimal: nine bytes, and the room that runs grow into.
const RUN: u64 = 11;
/// Of a run of a state, and of a time that our own clock gave.
const STATE: u64 = 4;
const TIME_RUN: u64 = 7;
/// Bytes of a time on a clock, with the room that a growing vector keeps.
const TIME: u64 = 2 * size_of::<i64>() as u64;

impl Estimator {
    pub fn new(config: &site::History, needs: &[Need]) -> Estimator {
        let retention = Retention::new(config, needs);
        Estimator { retention, tick: config.tick, metrics: BTreeMap::new(), clocks: 0 }
    }

    pub fn add(&mut self, crowd: &Crowd<'_>) {
        if crowd.count == 0 {
            return;
        }
        let (kept_ms, reader) = self.retention.longest(&|name| {
            if name == "__name__" {
                return Some(crowd.metric);
            }
            let known = crowd.labels.iter().find(|(label, _)| *label == name);
            known.map_or((!crowd.is_open).then_some(""), |(_, value)| *value)
        });
        let kept = Duration::from_millis(u64::try_from(kept_ms).unwrap_or(0));
        let runs = crowd.every.map_or(1, |every| periods(kept, every.max(self.tick)));
        let of = if crowd.is_open { bytes_apart } else { bytes_in_sheet };
        let each = of(crowd.labels.len() as u64, runs, crowd.values);
        let bytes = crowd.count.saturating_mul(each);
        // What has just been left behind waits for the next trimming.
        let span = kept.saturating_add(self.tick * TRIM_EVERY);
        // All series of the sampler share one clock, which is as long as the longest of them needs.
        self.clocks = self.clocks.max(periods(span, self.tick).saturating_mul(TIME));
        let reader = reader.to_owned();
        let metric = self.metrics.entry(crowd.metric.to_owned()).or_insert_with(|| MetricEstimate {
            metric: crowd.metric.to_owned(),
            series: 0,
            bytes: 0,
            kept,
            reader: reader.clone(),
        });
        metric.series += crowd.count;
        metric.bytes = metric.bytes.saturating_add(bytes);
        if kept > metric.kept {
            (metric.kept, metric.reader) = (kept, reader);
        }
    }

    /// How many series a selector may find among those added.
    pub fn count(&self, matchers: &Matchers) -> u64 {
        let of_name: Vec<_> = matchers.matchers.iter().filter(|matcher| matcher.name == "__name__").collect();
        if let [only] = of_name[..]
            && matches!(only.op, MatchOp::Equal)
        {
            return self.metrics.get(&only.value).map_or(0, |metric| metric.series);
        }
        let found = self.metrics.values().filter(|metric| of_name.iter().all(|m| m.is_match(&metric.metric)));
        found.map(|metric| metric.series).sum()
    }

    pub fn finish(self) -> Estimate {
        let mut metrics: Vec<MetricEstimate> = self.metrics.into_values().collect();
        metrics.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.metric.cmp(&b.metric)));
        Estimate { metrics, clocks: self.clocks }
    }
}

/// What one series that stands apart takes with so many labels and so many runs, estimated.
fn bytes_apart(labels: u64, runs: u64, values: Values) -> u64 {
    (SERIES as u64 + (labels + 1) * LABEL as u64).saturating_add(bytes_of_runs(runs, values))
}

/// [`bytes_apart`] of one in a sheet: the families of a subject share its labels.
fn bytes_in_sheet(labels: u64, runs: u64, values: Values) -> u64 {
    (CELL as u64 + labels.div_ceil(2) * LABEL as u64).saturating_add(bytes_of_runs(runs, values))
}

fn bytes_of_runs(runs: u64, values: Values) -> u64 {
    let runs = if runs > 1 { runs.saturating_add(runs / SPARE as u64 + 4) } else { 0 };
    let each = match values {
        Values::States => STATE,
        Values::Times => TIME_RUN,
        Values::Any => RUN,
    };
    runs.saturating_mul(each)
}

fn periods(span: Duration, every: Duration) -> u64 {
    u64::try_from(span.as_millis() / every.as_millis().max(1)).unwrap_or(u64::MAX).saturating_add(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::Query;

    fn crowd<'c>(metric: &'c str, agency: Option<&'c str>, count: u64, every: u64) -> Crowd<'c> {
        let labels = vec![("agency", agency), ("device", None)];
        Crowd { metric, labels, is_open: false, count, every: Some(Duration::from_secs(every)), values: Values::Any }
    }

    #[test]
    fn what_is_kept_long_weighs_and_names_its_reader() {
        let week = Query::parse("avg_over_time(up{agency=\"hue\"}[7d]) + count_over_time(up{x=\"1\"}[9d])").unwrap();
        let mut estimator = Estimator::new(&site::History::default(), &Need::of(&week, "rule R in r.yml"));
        estimator.add(&crowd("up", Some("hue"), 10, 15));
        estimator.add(&crowd("up", Some("tam-ky"), 10, 15));
        estimator.add(&crowd("unknown", None, 1, 1));
        let short = estimator.metrics["unknown"].bytes;
        let estimate = estimator.finish();
        let up = &estimate.metrics[0];
        assert_eq!((up.metric.as_str(), up.series), ("up", 20));
        // No series of it has the label x; the two ticks are the margin.
        assert_eq!(up.kept, Duration::from_secs(7 * 86_400 + 30));
        assert_eq!(up.reader, "rule R in r.yml");
        // 40,320 changes of eleven bytes each and those that are not forgotten yet, ten times; the other ten are short.
        let long = 10 * (40_320 + 4) * 11 * 9 / 8;
        assert!(up.bytes > long && up.bytes < long + 20 * short, "{} of {long}", up.bytes);
        assert!((300..1_500).contains(&short), "{short}");
        assert!(estimate.total() > up.bytes + 40_320 * 16);
    }

    #[test]
    fn a_label_that_is_not_known_may_match() {
        let query = Query::parse("max_over_time(up{agency=\"hue\"}[1h])").unwrap();
        let mut estimator = Estimator::new(&site::History::default(), &Need::of(&query, "r"));
        estimator.add(&crowd("up", None, 1, 60));
        assert_eq!(estimator.finish().metrics[0].reader, "r");
    }
}
