//! One sweep over the metrics: compares every cell with what it was at the last tick and stores what changed.

use super::retention::Retention;
use super::series::{ClockId, Store};
use crate::metrics::{Metrics, STALE_NAN_BITS, Table, is_absent};
use crate::promql::Labels;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use std::collections::HashSet;
use std::sync::Arc;

pub struct Sampler {
    clock: ClockId,
    /// By table, then family, then row.
    cells: Vec<Vec<Vec<Cell>>>,
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

/// What a cell was at the last tick.
#[derive(Clone, Copy)]
struct Cell {
    /// [`STALE_NAN_BITS`] if there was no sample, or no room for one.
    bits: u64,
    generation: u32,
    /// Means nothing while there is no sample.
    series: u32,
}

const ABSENT: Cell = Cell { bits: STALE_NAN_BITS, generation: 0, series: 0 };

impl Sampler {
    pub fn new(clock: ClockId) -> Sampler {
        Sampler { clock, cells: Vec::new(), own: HashSet::new() }
    }

    pub fn clock(&self) -> ClockId {
        self.clock
    }

    pub fn sample(&mut self, store: &mut Store, retention: &Retention, metrics: &Metrics, now_ms: i64) -> Sampled {
        let rewound = store.rewind(self.clock, now_ms);
        let Some(tick) = rewound.or_else(|| store.tick(self.clock, now_ms)) else { return Sampled::Already };
        self.cells.resize_with(metrics.tables().len(), Vec::new);
        let target = &mut Target { store, retention, clock: self.clock, tick, is_rewound: rewound.is_some() };
        for (table, cells) in metrics.tables().iter().zip(&mut self.cells) {
            sweep(table, cells, target);
        }
        self.sample_own(metrics, target);
        if rewound.is_some() { Sampled::Rewound } else { Sampled::Later }
    }

    fn sample_own(&mut self, metrics: &Metrics, target: &mut Target<'_>) {
        let mut seen = HashSet::with_capacity(self.own.len());
        for family in metrics.own.gather() {
            each_own(&family, &mut |name, metric, le, value| {
                let labels = own_labels(target.store, name, metric, le);
                if let Some(id) = target.put(labels, value) {
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
    /// The series do not have what the cells say that they were given.
    is_rewound: bool,
}

impl Target<'_> {
    fn put(&mut self, labels: Labels, value: f64) -> Option<u32> {
        let id = self.store.find_or_add(self.clock, &labels, self.retention)?;
        self.store.push(id, self.tick, value);
        Some(id)
    }
}

fn sweep(table: &Table, cells: &mut Vec<Vec<Cell>>, target: &mut Target<'_>) {
    let snapshot = table.snapshot();
    cells.resize_with(table.families().len(), Vec::new);
    for (family, cells) in cells.iter_mut().enumerate() {
        cells.resize(snapshot.rows(), ABSENT);
        // Endings first: a subject that moved to another row goes on as the same series.
        for (row, (cell, value)) in cells.iter_mut().zip(snapshot.column(family)).enumerate() {
            let was_present = cell.bits != STALE_NAN_BITS;
            if was_present && (is_absent(*value) || cell.generation != snapshot.generation(row)) {
                target.store.end(cell.series, target.tick);
                *cell = ABSENT;
            }
        }
        for (row, (cell, value)) in cells.iter_mut().zip(snapshot.column(family)).enumerate() {
            if cell.bits == value.to_bits() && (!target.is_rewound || is_absent(*value)) {
                continue;
            }
            if cell.bits != STALE_NAN_BITS {
                target.store.push(cell.series, target.tick, *value);
                cell.bits = value.to_bits();
                continue;
            }
            let name = target.store.intern("__name__");
            let mut pairs = vec![(name, target.store.intern(table.families()[family].name))];
            for (name, value) in table.labels().iter().zip(snapshot.labels(row)) {
                pairs.push((target.store.intern(name), target.store.intern(value)));
            }
            if let Some(series) = target.put(Labels::new(pairs), *value) {
                *cell = Cell { bits: value.to_bits(), generation: snapshot.generation(row), series };
            }
        }
    }
}

fn own_labels(store: &mut Store, name: &str, metric: &Metric, le: Option<&str>) -> Labels {
    let mut pairs: Vec<(Arc<str>, Arc<str>)> = vec![(store.intern("__name__"), store.intern(name))];
    for pair in metric.get_label() {
        pairs.push((store.intern(pair.name()), store.intern(pair.value())));
    }
    if let Some(le) = le {
        pairs.push((store.intern("le"), store.intern(le)));
    }
    Labels::new(pairs)
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
