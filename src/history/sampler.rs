//! One sweep over the metrics: compares every cell with what it was at the last tick and stores what changed.

use super::retention::Retention;
use super::series::{ClockId, Store};
use crate::labels::{Labels, NAME, Name};
use crate::metrics::{Metrics, Table, is_absent};
use prometheus::proto::{Metric, MetricFamily, MetricType};
use std::collections::HashSet;

pub struct Sampler {
    clock: ClockId,
    /// By table.
    seen: Vec<Seen>,
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

/// Of a cell that had no sample at the last tick, or found no room for one.
const NONE: u32 = u32::MAX;

/// What a table was at the last tick.
#[derive(Default)]
struct Seen {
    /// By family, then row: the series, or [`NONE`].
    series: Vec<Vec<u32>>,
    /// By row.
    generations: Vec<u32>,
}

impl Sampler {
    pub fn new(clock: ClockId) -> Sampler {
        Sampler { clock, seen: Vec::new(), own: HashSet::new() }
    }

    pub fn clock(&self) -> ClockId {
        self.clock
    }

    pub fn sample(&mut self, store: &mut Store, retention: &Retention, metrics: &Metrics, now_ms: i64) -> Sampled {
        let rewound = store.rewind(self.clock, now_ms);
        let Some(tick) = rewound.or_else(|| store.tick(self.clock, now_ms)) else { return Sampled::Already };
        self.seen.resize_with(metrics.tables().len(), Seen::default);
        let target = &mut Target { store, retention, clock: self.clock, tick };
        for (table, seen) in metrics.tables().iter().zip(&mut self.seen) {
            sweep(table, seen, target);
        }
        self.sample_own(metrics, target);
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

/// Where a tick's values go.
struct Target<'a> {
    store: &'a mut Store,
    retention: &'a Retention,
    clock: ClockId,
    tick: u32,
}

impl Target<'_> {
    fn put(&mut self, labels: &Labels, value: f64) -> Option<u32> {
        let id = self.store.find_or_add(self.clock, labels, self.retention)?;
        self.store.push(id, self.tick, value);
        Some(id)
    }
}

fn sweep(table: &Table, seen: &mut Seen, target: &mut Target<'_>) {
    let snapshot = table.snapshot();
    seen.series.resize_with(table.families().len(), Vec::new);
    grow(&mut seen.generations, snapshot.rows(), 0);
    for (family, cells) in seen.series.iter_mut().enumerate() {
        let column = snapshot.column(family);
        grow(cells, column.len(), NONE);
        // Endings first: a subject that moved to another row goes on as the same series.
        for (row, (cell, value)) in cells.iter_mut().zip(column).enumerate() {
            if *cell != NONE && (is_absent(*value) || seen.generations[row] != snapshot.generation(row)) {
                target.store.end(*cell, target.tick);
                *cell = NONE;
            }
        }
        let mut name = None;
        for (row, (cell, value)) in cells.iter_mut().zip(column).enumerate() {
            if *cell != NONE {
                target.store.push(*cell, target.tick, *value);
            } else if !is_absent(*value)
                && let Some(labels) = snapshot.labels(row)
            {
                let name = name.get_or_insert_with(|| Name::from(table.families()[family].name));
                *cell = target.put(&labels.named(name), *value).unwrap_or(NONE);
            }
        }
    }
    for (row, generation) in seen.generations.iter_mut().enumerate() {
        *generation = snapshot.generation(row);
    }
}

/// Makes it as long, without room for as much again.
fn grow<T: Clone>(vector: &mut Vec<T>, length: usize, value: T) {
    if vector.capacity() < length {
        vector.reserve_exact(length - vector.len());
    }
    vector.resize(length, value);
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
