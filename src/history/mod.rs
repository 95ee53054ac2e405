//! The in-process history of metrics: every series as a step function on a tick clock, filled by the sampler.
//!
//! All series of the sampler share one clock; what a rule records has its owner's clock, so that its samples stand at
//! the times of its evaluations. A value that does not change costs nothing but a compare. A time without sampling
//! (the daemon was down, the machine slept) has no ticks and so no samples: a gap stays a gap.
//!
//! | file | what it is |
//! |---|---|
//! | `series` | clocks, series, the index by name |
//! | `sheet` | the series of one table of the metrics |
//! | `runs` | the values of one series, packed |
//! | `sampler` | one sweep over the metrics |
//! | `retention` | how long a series is kept |
//! | `estimate` | how much memory that may take |
//! | `keeper` | what outlives a restart, in the state database |
//! | `remote` | a Prometheus-compatible server that answers queries instead |
//! | `unsaved`, `codec` | what the database does not have yet; how it is written |

mod codec;
mod estimate;
mod keeper;
mod remote;
mod retention;
mod runs;
mod sampler;
mod series;
mod sheet;
#[cfg(test)]
mod tests;
mod unsaved;

pub use estimate::{Crowd, Estimate, Estimator, MetricEstimate, Values};
pub use keeper::Keeper;
pub use remote::{Remote, RemoteError};
pub use retention::Need;

use crate::config::site;
use crate::metrics::Metrics;
use crate::promql::{Labels, LabelsRef, STALE_NAN_BITS, Series, Storage};
use jiff::Timestamp;
use promql_parser::label::Matchers;
use retention::Retention;
use sampler::{Sampled, Sampler};
use series::{ClockId, Store};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Holds the series; shared by the sampler, the ruler and the query API. Lives on when the configuration is reloaded.
pub struct History {
    inner: RwLock<Inner>,
}

struct Inner {
    store: Store,
    retention: Retention,
    sampler: Sampler,
    /// Recording rules and alerts.
    owners: HashMap<String, Owner>,
    /// Ticks since the last trimming.
    untrimmed: u32,
}

struct Owner {
    clock: ClockId,
    /// What it recorded last, in that order.
    series: Vec<u32>,
}

/// What an owner recorded last, while it records again, mostly the same in the same order.
struct Last {
    ids: Vec<u32>,
    /// Those before were passed.
    place: usize,
    /// Passed without being recorded.
    passed: Vec<u32>,
    /// Recorded, and not in their order.
    others: HashSet<u32>,
}

impl Last {
    /// What is missing or new is told by looking so far ahead.
    const AHEAD: usize = 8;

    fn of(ids: Vec<u32>) -> Last {
        Last { ids, place: 0, passed: Vec::new(), others: HashSet::new() }
    }

    /// The next one that is it, if it is near.
    fn next(&mut self, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let rest = &self.ids[self.place..];
        let n_passed = rest.iter().take(Last::AHEAD).position(|id| is_it(*id))?;
        self.passed.extend(&rest[..n_passed]);
        self.place += n_passed + 1;
        Some(rest[n_passed])
    }

    /// One that was found in another way.
    fn elsewhere(&mut self, id: Option<u32>) -> Option<u32> {
        self.others.extend(id);
        id
    }

    /// Those that were not recorded again.
    fn gone(self) -> impl Iterator<Item = u32> {
        let Last { ids, place, passed, others } = self;
        passed.into_iter().chain(ids.into_iter().skip(place)).filter(move |id| !others.contains(id))
    }
}

/// How many ticks pass between two trimmings.
const TRIM_EVERY: u32 = 4;

impl History {
    /// Keeps what the configuration says; tell it what the rules read with [`History::set_retention`].
    pub fn new(config: &site::History) -> History {
        let mut store = Store::new(config.max_memory);
        let clock = store.add_clock();
        History {
            inner: RwLock::new(Inner {
                store,
                retention: Retention::new(config, &[]),
                sampler: Sampler::new(clock),
                owners: HashMap::new(),
                untrimmed: 0,
            }),
        }
    }

    /// Takes over a (re)loaded configuration. `needs`: how far back the loaded rules and indicators look. Each series
    /// keeps the longest of the window, the needs and the `keep` entries that select it. What was trimmed before does
    /// not come back.
    pub fn set_retention(&self, config: &site::History, needs: &[Need]) {
        let mut inner = self.write();
        let inner = &mut *inner;
        inner.retention = Retention::new(config, needs);
        inner.store.max_memory = config.max_memory;
        inner.store.assign_retention(&inner.retention);
        inner.store.trim();
    }

    /// One tick: reads every metric. A tick at the very time of the last is skipped; at one before it the clock was set
    /// back: what was sampled at what is now the future is forgotten, and the history goes on.
    pub fn sample(&self, metrics: &Metrics, now: Timestamp) {
        let mut inner = self.write();
        let inner = &mut *inner;
        match inner.sampler.sample(&mut inner.store, &inner.retention, metrics, now.as_millisecond()) {
            Sampled::Later => {}
            Sampled::Rewound => {
                tracing::warn!(%now, "the clock was set back: what was sampled at later times is forgotten");
            }
            Sampled::Already => return,
        }
        inner.untrimmed += 1;
        if inner.untrimmed >= TRIM_EVERY {
            inner.untrimmed = 0;
            inner.store.trim();
        }
        metrics.own.history_series.set(inner.store.live() as i64);
        metrics.own.history_bytes.set(i64::try_from(inner.store.bytes()).unwrap_or(i64::MAX));
    }

    /// Adds series that do not come from the metrics (recording rules, `ALERTS`) with a sample at `now`, which a query
    /// at `now` or later sees. Of the series that `owner` recorded before, those not in `samples` end (become stale).
    /// An owner is one rule; one that is gone records an empty list once. A series that belongs to somebody else is
    /// refused. Label sets become those that are kept: whoever records them again shares them. Do not hold a [`Reader`]
    /// meanwhile.
    pub fn record(&self, owner: &str, samples: &mut [(Labels, f64)], now: Timestamp) {
        let mut inner = self.write();
        let Inner { store, retention, owners, .. } = &mut *inner;
        // An owner is kept with its clock once it has recorded something: most alerts fire again.
        if samples.is_empty() && owners.get(owner).is_none_or(|owner| owner.series.is_empty()) {
            return;
        }
        if !owners.contains_key(owner) {
            let clock = store.add_clock();
            owners.insert(owner.to_owned(), Owner { clock, series: Vec::new() });
        }
        let Some(Owner { clock, series }) = owners.get_mut(owner) else { return };
        let now_ms = now.as_millisecond();
        // One of both: the last tick is before, after, or at this time.
        let Some(tick) = store.rewind(*clock, now_ms).or_else(|| store.tick_or_again(*clock, now_ms)) else { return };
        let mut last = Last::of(std::mem::take(series));
        for (labels, value) in samples {
            let found = last.next(|id| store.is_very(id, *clock, labels));
            let Some(id) = found.or_else(|| last.elsewhere(store.find_or_add(*clock, labels, retention))) else {
                continue;
            };
            store.push(id, tick, *value);
            series.push(id);
            if found.is_none()
                && let Some(kept) = store.labels(id)
            {
                labels.clone_from(kept);
            }
        }
        store.end_each(last.gone(), tick);
    }

    /// Ends what owners recorded that are not among `known`.
    pub fn end_owners_except(&self, known: &BTreeSet<String>, now: Timestamp) {
        let gone: Vec<String> =
            self.read().inner.owners.keys().filter(|owner| !known.contains(*owner)).cloned().collect();
        for owner in gone {
            self.record(&owner, &mut [], now);
        }
    }

    /// What owners recorded last, within the last five minutes before `now`, ascending by labels.
    pub fn recorded(&self, now: Timestamp) -> Vec<(Labels, f64)> {
        const LOOKBACK_MS: i64 = 5 * 60 * 1_000;
        let reader = self.read();
        let Inner { store, sampler, .. } = &*reader.inner;
        let since = now.as_millisecond().saturating_sub(LOOKBACK_MS);
        let live = store.series().filter(|series| {
            series.clock != sampler.clock() && store.ticks(series.clock).last().is_some_and(|last| *last > since)
        });
        let mut samples: Vec<(Labels, f64)> = live
            .filter_map(|series| Some((series.labels.to_labels(), series.runs.last()?.value)))
            .filter(|(_, value)| value.to_bits() != STALE_NAN_BITS)
            .collect();
        samples.sort_by(|a, b| a.0.name().cmp(b.0.name()).then_with(|| a.0.cmp(&b.0)));
        samples
    }

    /// Holds the history still for one evaluation; sampling and recording wait meanwhile.
    pub fn read(&self) -> Reader<'_> {
        Reader { inner: self.inner.read().unwrap_or_else(PoisonError::into_inner) }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        // A panic half-way leaves a series without its last value, never invalid indices.
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consistent view of the history.
pub struct Reader<'a> {
    inner: RwLockReadGuard<'a, Inner>,
}

impl Reader<'_> {
    /// Every label set that has a sample in `(from_ms, to_ms]`, for label queries.
    pub fn label_sets(&self, matchers: &Matchers, from_ms: i64, to_ms: i64) -> Vec<Labels> {
        let mut found = Vec::new();
        self.select(matchers, from_ms, to_ms, &mut |series| found.push(series.labels.to_labels()));
        found
    }
}

impl Storage for Reader<'_> {
    fn select<'s>(&'s self, matchers: &Matchers, from_ms: i64, to_ms: i64, each: &mut dyn FnMut(Series<'s>)) {
        self.inner.store.select(matchers, from_ms, to_ms, each);
    }

    fn select_latest<'s>(
        &'s self,
        matchers: &Matchers,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(LabelsRef<'s>, i64, f64),
    ) {
        self.inner.store.select_latest(matchers, from_ms, to_ms, each);
    }
}
