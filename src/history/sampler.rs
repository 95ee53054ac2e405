//! One sweep over the metrics: compares every cell with what it was at the last tick and stores what changed.

use super::retention::Retention;
use super::series::{ClockId, Store};
use super::sheet::Target;
use crate::labels::{Labels, NAME};
use crate::metrics::Metrics;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use std::collections::HashSet;

pub struct Sampler {
    clock: ClockId,
    /// The series of the crate's registry at the last tick.
    own: HashSet<u32>,
}

/// How a tick was in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampled {
    Later,
    /// Earlier than the last: what was sampled at later times is forgotten.
    Rewound,
    /// Of the very time of the last: nothing was done.
    Already,
}

impl Sampler {
    pub fn new(clock: ClockId) -> Sampler {
        Sampler { clock, own: HashSet::new() }
    }

    pub fn clock(&self) -> ClockId {
        self.clock
    }

    pub fn sample(&mut self, store: &mut Store, retention: &Retention, metrics: &Metrics, now_ms: i64) -> Sampled {
        let rewound = store.rewind(self.clock, now_ms);
        let Some(tick) = rewound.or_else(|| store.tick(self.clock, now_ms)) else { return Sampled::Already };
        store.make_sheets(metrics.tables().len());
        for (number, table) in metrics.tables().iter().enumerate() {
            store.with_sheet(number, |sheet, store| {
                sheet.sweep(table, &mut Target { store, retention, clock: self.clock, tick });
            });
        }
        self.sample_own(metrics, &mut Target { store, retention, clock: self.clock, tick });
        if rewound.is_some() { Sampled::Rewound } else { Sampled::Later }
    }

    fn sample_own(&mut self, metrics: &Metrics, target: &mut Target<'_>) {
        let mut seen = HashSet::with_capacity(self.own.len());
        for family in metrics.own.gather() {
            each_own(&family, &mut |name, metric, le, value| {
                if let Some(id) = target.put(&own_labels(name, metric, le), value) {
                    seen.insert(id);
                }
            });
        }
        for gone in self.own.difference(&seen) {
            target.store.end(*gone, target.tick);
        }
        self.own = seen;
    }
}

impl Target<'_> {
    fn put(&mut self, labels: &Labels, value: f64) -> Option<u32> {
        let id = self.store.find_or_add(self.clock, labels, self.retention)?;
        self.store.push(id, self.tick, value);
        Some(id)
    }
}

fn own_labels(name: &str, metric: &Metric, le: Option<&str>) -> Labels {
    let own = metric.get_label().iter().map(|pair| (pair.name(), pair.value()));
    Labels::new([(NAME, name)].into_iter().chain(own).chain(le.map(|le| ("le", le))))
}

/// Takes name, metric, `le` and value.
type EachSample<'a> = dyn FnMut(&str, &Metric, Option<&str>, f64) + 'a;

/// The samples of a family as a scrape would give them: name, metric, `le`, value.
fn each_own(family: &MetricFamily, each: &mut EachSample<'_>) {
    let name = family.name();
    for metric in family.get_metric() {
        match family.get_field_type() {
            MetricType::COUNTER => each(name, metric, None, metric.get_counter().get_value()),
            MetricType::GAUGE => each(name, metric, None, metric.get_gauge().get_value()),
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                let bucket = format!("{name}_bucket");
                for cell in histogram.get_bucket().iter().filter(|cell| cell.upper_bound().is_finite()) {
                    // `{:?}` writes whole numbers as "1.0", as Prometheus 3 stores them.
                    each(&bucket, metric, Some(&format!("{:?}", cell.upper_bound())), cell.cumulative_count() as f64);
                }
                let count = histogram.get_sample_count() as f64;
                each(&bucket, metric, Some("+Inf"), count);
                each(&format!("{name}_sum"), metric, None, histogram.get_sample_sum());
                each(&format!("{name}_count"), metric, None, count);
            }
            // The catalogue of our own families has no summaries.
            _ => {}
        }
    }
}
