//! Clocks, series and the index by metric name. Knows neither metrics nor rules.

use super::retention::Retention;
use crate::promql::{Labels, Locator, Run, STALE_NAN_BITS, Series, value_at};
use hashbrown::HashTable;
use promql_parser::label::{MatchOp, Matchers};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Which clock a series' ticks are counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClockId(u32);

pub struct Store {
    pub max_memory: u64,
    /// By [`ClockId`].
    clocks: Vec<Clock>,
    /// By series id; ids of dropped series are used again.
    series: Vec<Option<Stored>>,
    free: Vec<u32>,
    /// Ids, found by their labels.
    by_labels: HashTable<u32>,
    hasher: RandomState,
    by_name: HashMap<Arc<str>, Vec<u32>>,
    /// Label names and values, so that equal ones are stored once.
    strings: HashSet<Arc<str>>,
    runs: usize,
    labels: usize,
    /// Whether the log says already that series are refused.
    refused: bool,
}

#[derive(Default)]
struct Clock {
    /// Milliseconds since 1970, ascending.
    ticks: Vec<i64>,
}

struct Stored {
    labels: Labels,
    clock: ClockId,
    /// Where its first run begins: a query that passes a series by need not fetch its runs.
    begins: u32,
    /// Its last run; [`NOTHING`] until the first push. `from` counts from the clock's first kept tick.
    last: Run,
    /// All its runs if they are several: most series stay what they are for as long as they are kept, and need no vector.
    several: Vec<Run>,
    retention_ms: i64,
}

/// A series as others see it.
pub struct Remembered<'s> {
    pub labels: &'s Labels,
    pub clock: ClockId,
    pub runs: &'s [Run],
    pub retention_ms: i64,
}

/// Of a series to which nothing was pushed yet.
const NOTHING: Run = Run { from: u32::MAX, value: f64::NAN };

/// Room for so many runs is made at once.
const ROOM: usize = 4;

impl Stored {
    fn is_empty(&self) -> bool {
        self.last.from == NOTHING.from
    }

    /// Its runs, oldest first.
    fn runs(&self) -> &[Run] {
        if self.several.is_empty() && !self.is_empty() { std::slice::from_ref(&self.last) } else { &self.several }
    }

    /// Adds a run after the others.
    fn add(&mut self, run: Run) {
        if self.is_empty() {
            self.begins = run.from;
        } else {
            if self.several.is_empty() {
                self.several.reserve_exact(ROOM);
                self.several.push(self.last);
            }
            self.several.push(run);
        }
        self.last = run;
    }

    /// Keeps only some of its runs, at least one.
    fn keep(&mut self, range: std::ops::Range<usize>) {
        let Some((first, last)) = self.runs()[range.clone()].first().zip(self.runs()[range.clone()].last()) else {
            return;
        };
        (self.begins, self.last) = (first.from, *last);
        if range.len() == 1 {
            self.several = Vec::new();
        } else {
            self.several.truncate(range.end);
            self.several.drain(..range.start);
            self.several.shrink_to(range.len() * 3 / 2);
        }
    }

    /// How many of its first runs nobody needs if the tick `first` is the oldest that counts.
    fn n_outlived(&self, first: u32) -> usize {
        self.runs().partition_point(|run| run.from <= first).saturating_sub(1)
    }

    /// The tick on which it became stale, if it is.
    fn ended(&self) -> Option<u32> {
        (self.last.value.to_bits() == STALE_NAN_BITS).then_some(self.last.from)
    }
}

/// Bytes of a series without its labels and runs: itself and its places in the indices.
const SERIES: usize = size_of::<Option<Stored>>() * 9 / 8 + 5 * size_of::<u32>() + 48;
const LABEL: usize = size_of::<(Arc<str>, Arc<str>)>();
/// Of a label's name or value, which equal ones share.
const STRING: usize = 64;

/// Vectors of runs grow by a quarter.
fn run_bytes(runs: usize) -> usize {
    runs * size_of::<Run>() * 5 / 4
}

/// What one series takes with so many labels, one of them nobody else's, and so many runs, estimated.
pub fn bytes_of(labels: u64, runs: u64) -> u64 {
    let runs = usize::try_from(runs).unwrap_or(usize::MAX / 64).min(usize::MAX / 64);
    (SERIES + STRING + run_bytes(runs)) as u64 + labels * LABEL as u64
}

/// The first tick that counts for a series that is kept so long before `now_ms`, else before its clock's last tick.
fn oldest(ticks: &[i64], retention_ms: i64, now_ms: Option<i64>) -> u32 {
    let last = now_ms.or(ticks.last().copied()).unwrap_or(0);
    ticks.partition_point(|tick| *tick < last.saturating_sub(retention_ms)) as u32
}

impl Store {
    pub fn new(max_memory: u64) -> Store {
        Store {
            max_memory,
            clocks: Vec::new(),
            series: Vec::new(),
            free: Vec::new(),
            by_labels: HashTable::new(),
            hasher: RandomState::new(),
            by_name: HashMap::new(),
            strings: HashSet::new(),
            runs: 0,
            labels: 0,
            refused: false,
        }
    }

    pub fn add_clock(&mut self) -> ClockId {
        self.clocks.push(Clock::default());
        ClockId((self.clocks.len() - 1) as u32)
    }

    /// Adds a tick; none if it is not later than the last.
    pub fn tick(&mut self, clock: ClockId, now_ms: i64) -> Option<u32> {
        let ticks = &mut self.clocks[clock.0 as usize].ticks;
        if ticks.last().is_some_and(|last| *last >= now_ms) {
            return None;
        }
        ticks.push(now_ms);
        Some((ticks.len() - 1) as u32)
    }

    /// Adds a tick, or gives the last one if it has this very time; none if it is later.
    pub fn tick_or_again(&mut self, clock: ClockId, now_ms: i64) -> Option<u32> {
        let ticks = &self.clocks[clock.0 as usize].ticks;
        if ticks.last() == Some(&now_ms) { Some((ticks.len() - 1) as u32) } else { self.tick(clock, now_ms) }
    }

    /// For a clock that was set back to before its last tick: forgets what it has at `now_ms` and later, as a restart does
    /// with a past that lies in the future, and adds a tick at which all of its series have ended unless something is
    /// pushed. None if it was not set back.
    pub fn rewind(&mut self, clock: ClockId, now_ms: i64) -> Option<u32> {
        let ticks = &mut self.clocks[clock.0 as usize].ticks;
        if ticks.last().is_none_or(|last| *last <= now_ms) {
            return None;
        }
        ticks.truncate(ticks.partition_point(|tick| *tick < now_ms));
        let tick = ticks.len() as u32;
        ticks.push(now_ms);
        for stored in self.series.iter_mut().flatten().filter(|stored| stored.clock == clock) {
            self.runs -= stored.runs().len();
            let left = stored.runs().partition_point(|run| run.from < tick);
            if left == 0 {
                (stored.last, stored.several) = (NOTHING, Vec::new());
            } else {
                stored.keep(0..left);
            }
            if stored.ended().is_none() {
                stored.add(Run { from: tick, value: f64::from_bits(STALE_NAN_BITS) });
            }
            self.runs += stored.runs().len();
        }
        Some(tick)
    }

    /// The text, stored once.
    pub fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return known.clone();
        }
        let new: Arc<str> = Arc::from(text);
        self.strings.insert(new.clone());
        new
    }

    /// The series of these labels; none if it belongs to another clock or memory is full. A new series has no sample
    /// until something is pushed in the same breath.
    pub fn find_or_add(&mut self, clock: ClockId, labels: &Labels, retention: &Retention) -> Option<u32> {
        let hash = self.hasher.hash_one(labels);
        let is_same = |id: &u32| self.series[*id as usize].as_ref().is_some_and(|stored| stored.labels == *labels);
        if let Some(&id) = self.by_labels.find(hash, is_same) {
            let stored = self.series[id as usize].as_ref()?;
            if stored.clock == clock {
                return Some(id);
            }
            stored.ended()?;
            self.drop_series(&[id]);
        }
        if self.bytes() >= self.max_memory {
            if !std::mem::replace(&mut self.refused, true) {
                let max_memory = self.max_memory;
                tracing::error!(max_memory, series = %labels, "the history is full: new series are not remembered");
            }
            return None;
        }
        let labels = self.interned(labels);
        let retention_ms = retention.of(&labels);
        self.labels += labels.len();
        let name = self.intern(labels.name());
        let stored = Stored { labels, clock, begins: u32::MAX, last: NOTHING, several: Vec::new(), retention_ms };
        let id = self.free.pop().unwrap_or_else(|| {
            if self.series.len() == self.series.capacity() {
                // Doubling would leave as much again unused, for ever in a fleet that is complete.
                self.series.reserve_exact((self.series.len() / 8).max(64));
            }
            self.series.push(None);
            (self.series.len() - 1) as u32
        });
        self.series[id as usize] = Some(stored);
        self.by_name.entry(name).or_default().push(id);
        let Store { by_labels, series, hasher, .. } = self;
        by_labels.insert_unique(hash, id, |id| {
            series[*id as usize].as_ref().map_or(0, |stored| hasher.hash_one(&stored.labels))
        });
        Some(id)
    }

    /// The labels with their texts stored once; the very set if they are already.
    fn interned(&mut self, labels: &Labels) -> Labels {
        let is_stored = |text: &Arc<str>| self.strings.get(text).is_some_and(|stored| Arc::ptr_eq(stored, text));
        if labels.iter().all(|(name, value)| is_stored(name) && is_stored(value)) {
            return labels.clone();
        }
        let pairs: Vec<(Arc<str>, Arc<str>)> =
            labels.iter().map(|(name, value)| (self.intern(name), self.intern(value))).collect();
        Labels::new(pairs)
    }

    /// The labels of a series.
    pub fn labels(&self, id: u32) -> Option<&Labels> {
        self.series.get(id as usize)?.as_ref().map(|stored| &stored.labels)
    }

    /// The series has this value from the tick on. Ticks come in order.
    pub fn push(&mut self, id: u32, tick: u32, value: f64) {
        let Some(stored) = self.series[id as usize].as_mut() else { return };
        if !stored.is_empty() {
            if stored.last.value.to_bits() == value.to_bits() {
                return;
            }
            if stored.last.from == tick {
                stored.last.value = value;
                if let Some(last) = stored.several.last_mut() {
                    last.value = value;
                }
                return;
            }
        }
        if !stored.several.is_empty() && stored.several.len() == stored.several.capacity() {
            // What is too old makes room before memory does: a trimming may be long in coming.
            let ticks = &self.clocks[stored.clock.0 as usize].ticks;
            let n_outlived = stored.n_outlived(oldest(ticks, stored.retention_ms, None));
            let n_runs = stored.several.len();
            if n_outlived * 8 >= n_runs {
                stored.several.drain(..n_outlived);
                stored.begins = stored.several.first().map_or(tick, |run| run.from);
                self.runs -= n_outlived;
            } else {
                stored.several.reserve_exact((n_runs / 4).max(ROOM));
            }
        }
        stored.add(Run { from: tick, value });
        self.runs += 1;
    }

    /// The series has no samples from the tick on.
    pub fn end(&mut self, id: u32, tick: u32) {
        self.push(id, tick, f64::from_bits(STALE_NAN_BITS));
    }

    /// The times of a clock's ticks in milliseconds, ascending.
    pub fn ticks(&self, clock: ClockId) -> &[i64] {
        &self.clocks[clock.0 as usize].ticks
    }

    /// Every series.
    pub fn series(&self) -> impl Iterator<Item = Remembered<'_>> {
        self.series.iter().flatten().map(|stored| Remembered {
            labels: &stored.labels,
            clock: stored.clock,
            runs: stored.runs(),
            retention_ms: stored.retention_ms,
        })
    }

    /// No series of the clock has samples from the tick on.
    pub fn end_all(&mut self, clock: ClockId, tick: u32) {
        for id in 0..self.series.len() as u32 {
            if self.series[id as usize].as_ref().is_some_and(|stored| stored.clock == clock) {
                self.end(id, tick);
            }
        }
    }

    /// Series, ended ones that are still kept included.
    pub fn live(&self) -> usize {
        self.by_labels.len()
    }

    /// Memory used, estimated.
    pub fn bytes(&self) -> u64 {
        let ticks: usize = self.clocks.iter().map(|clock| clock.ticks.capacity() * size_of::<i64>()).sum();
        let series = self.by_labels.len() * SERIES + self.labels * LABEL + run_bytes(self.runs);
        (series + self.strings.len() * STRING + ticks) as u64
    }

    pub fn assign_retention(&mut self, retention: &Retention) {
        for stored in self.series.iter_mut().flatten() {
            stored.retention_ms = retention.of(&stored.labels);
        }
    }

    /// Forgets what is older than its retention, counted from its clock's last tick; an ended series goes by the
    /// newest tick of all, because its clock may have stopped. A series that has not ended is never dropped: the
    /// sampler and the owners remember its id.
    pub fn trim(&mut self) {
        let newest = self.clocks.iter().filter_map(|clock| clock.ticks.last()).max().copied().unwrap_or(0);
        let mut dropped = Vec::new();
        let mut removed = 0;
        // By clock: the first tick that some series still needs.
        let mut needed: Vec<Option<u32>> = vec![None; self.clocks.len()];
        for (id, stored) in self.series.iter_mut().enumerate() {
            let Some(stored) = stored else { continue };
            let ticks = &self.clocks[stored.clock.0 as usize].ticks;
            let ended = stored.ended();
            let first = oldest(ticks, stored.retention_ms, ended.map(|_| newest));
            if ended.is_some_and(|tick| tick < first) {
                dropped.push(id as u32);
                continue;
            }
            let n_outlived = stored.n_outlived(first);
            if n_outlived > 0 {
                stored.keep(n_outlived..stored.several.len());
                removed += n_outlived;
            }
            let clock = &mut needed[stored.clock.0 as usize];
            *clock = Some(clock.map_or(first, |known| known.min(first)));
        }
        self.runs -= removed;
        self.drop_series(&dropped);
        self.trim_clocks(&needed);
        self.strings.retain(|text| Arc::strong_count(text) > 1);
        if self.bytes() < self.max_memory {
            self.refused = false;
        }
    }

    fn trim_clocks(&mut self, needed: &[Option<u32>]) {
        // Renumbering touches every run, so it waits until it is worth it.
        let shift = |clock: &Clock, needed: Option<u32>| match needed {
            None => clock.ticks.len().saturating_sub(1),
            Some(first) if first as usize * 4 > clock.ticks.len() => first as usize,
            Some(_) => 0,
        };
        let shifts: Vec<usize> = self.clocks.iter().zip(needed).map(|(clock, needed)| shift(clock, *needed)).collect();
        for (clock, shift) in self.clocks.iter_mut().zip(&shifts) {
            clock.ticks.drain(..shift);
            clock.ticks.shrink_to(clock.ticks.len() * 2);
        }
        for stored in self.series.iter_mut().flatten() {
            let shift = shifts[stored.clock.0 as usize] as u32;
            if shift > 0 && !stored.is_empty() {
                let runs = stored.several.iter_mut().chain([&mut stored.last]);
                runs.for_each(|run| run.from = run.from.saturating_sub(shift));
                stored.begins = stored.begins.saturating_sub(shift);
            }
        }
    }

    fn drop_series(&mut self, ids: &[u32]) {
        let mut names: HashSet<Arc<str>> = HashSet::new();
        for &id in ids {
            let Some(stored) = self.series[id as usize].take() else { continue };
            self.runs -= stored.runs().len();
            self.labels -= stored.labels.len();
            let hash = self.hasher.hash_one(&stored.labels);
            if let Ok(place) = self.by_labels.find_entry(hash, |other| *other == id) {
                place.remove();
            }
            if !names.contains(stored.labels.name()) {
                names.insert(stored.labels.name().into());
            }
            self.free.push(id);
        }
        // Once a name: thousands of one name may go together.
        for name in names {
            let Some(ids) = self.by_name.get_mut(&name) else { continue };
            ids.retain(|id| self.series[*id as usize].is_some());
            if ids.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }

    /// See [`crate::promql::Storage::select`].
    pub fn select<'s>(&'s self, matchers: &Matchers, from_ms: i64, to_ms: i64, each: &mut dyn FnMut(Series<'s>)) {
        let mut window = Locator::new(from_ms, to_ms);
        self.visit(matchers, &mut |stored| {
            let ticks = &self.clocks[stored.clock.0 as usize].ticks[..];
            let (first, end) = window.locate(ticks);
            let ended_early = stored.ended().is_some_and(|tick| tick < first);
            if stored.begins < end && !ended_early {
                let runs = if stored.last.from <= first { std::slice::from_ref(&stored.last) } else { stored.runs() };
                each(Series { labels: &stored.labels, ticks, runs });
            }
        });
    }

    /// See [`crate::promql::Storage::select_latest`].
    pub fn select_latest<'s>(
        &'s self,
        matchers: &Matchers,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(&'s Labels, i64, f64),
    ) {
        let mut window = Locator::new(from_ms, to_ms);
        self.visit(matchers, &mut |stored| {
            let ticks = &self.clocks[stored.clock.0 as usize].ticks[..];
            let (first, end) = window.locate(ticks);
            if first == end || stored.begins >= end {
                return;
            }
            let value = if stored.last.from < end {
                Some(stored.last.value).filter(|value| value.to_bits() != STALE_NAN_BITS)
            } else {
                value_at(stored.runs(), end - 1)
            };
            if let Some(value) = value {
                each(&stored.labels, ticks[(end - 1) as usize], value);
            }
        });
    }

    /// Calls `each` with every series that matches.
    fn visit<'s>(&'s self, matchers: &Matchers, each: &mut dyn FnMut(&'s Stored)) {
        let (of_name, of_labels): (Vec<_>, Vec<_>) =
            matchers.matchers.iter().partition(|matcher| matcher.name == "__name__");
        let mut of_ids = |ids: &'s [u32]| {
            for stored in ids.iter().filter_map(|id| self.series[*id as usize].as_ref()) {
                if of_labels.iter().all(|matcher| matcher.is_match(stored.labels.get(&matcher.name))) {
                    each(stored);
                }
            }
        };
        let equal = of_name.iter().find(|matcher| matches!(matcher.op, MatchOp::Equal));
        if let Some(equal) = equal {
            if let Some(ids) = self.by_name.get(equal.value.as_str())
                && of_name.iter().all(|matcher| matcher.is_match(&equal.value))
            {
                of_ids(ids);
            }
            return;
        }
        for (_, ids) in self.by_name.iter().filter(|(name, _)| of_name.iter().all(|matcher| matcher.is_match(name))) {
            of_ids(ids);
        }
    }
}
