//! Clocks, series and the index by metric name. Knows neither metrics nor rules.

use super::estimate::Values;
use super::retention::Retention;
use super::runs::Runs;
use crate::labels::{Labels, Name};
use crate::lean::push;
use crate::promql::{self, Locator, Run, STALE_NAN_BITS, Series};
use hashbrown::HashTable;
use promql_parser::label::{MatchOp, Matchers};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

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
    by_name: HashMap<Name, Vec<u32>>,
    /// Each once.
    lives: Vec<Life>,
    /// Bytes of all packed runs.
    runs: usize,
    /// Bytes of all label sets; what several series share counts for each of them in part.
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
    /// Marked with the index of its [`Life`].
    runs: Runs,
}

/// What many series have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    clock: ClockId,
    /// In milliseconds.
    retention_ms: i64,
}

/// A series as others see it.
pub struct Remembered<'s> {
    pub labels: &'s Labels,
    pub clock: ClockId,
    pub runs: &'s Runs,
    pub retention_ms: i64,
}

impl Stored {
    /// `lives`: of the store.
    fn life(&self, lives: &[Life]) -> Life {
        lives[usize::from(self.runs.mark)]
    }

    /// The tick on which it became stale, if it is.
    fn ended(&self) -> Option<u32> {
        self.runs.last().filter(|last| last.value.to_bits() == STALE_NAN_BITS).map(|last| last.from)
    }
}

/// Bytes of a series without its labels and runs: itself and its places in the indices.
const SERIES: usize = size_of::<Option<Stored>>() * 9 / 8 + PLACES;
/// Of its id and hash in the indices, with the room that these keep.
const PLACES: usize = 32;
/// Of a label in its set, about.
const LABEL: usize = 16;
/// Of a run that is not a short decimal: nine bytes, and the room that runs grow into.
const RUN: u64 = 11;
/// Of a run of a state, and of a time that our own clock gave.
const STATE: u64 = 4;
const TIME: u64 = 7;
/// What is too old is forgotten once it is this part of a series.
const SPARE: usize = 8;

/// What one series takes with so many labels and so many runs, estimated.
pub fn bytes_of(labels: u64, runs: u64, values: Values) -> u64 {
    let runs = if runs > 1 { runs.saturating_add(runs / SPARE as u64 + 4) } else { 0 };
    let each = match values {
        Values::States => STATE,
        Values::Times => TIME,
        Values::Any => RUN,
    };
    (SERIES as u64 + labels * LABEL as u64).saturating_add(runs.saturating_mul(each))
}

/// Its share of the labels, which the families of a subject have in common.
fn label_bytes(labels: &Labels) -> usize {
    labels.bytes() / 2
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
            lives: Vec::new(),
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
        let lives = &self.lives;
        for stored in self.series.iter_mut().flatten().filter(|stored| stored.life(lives).clock == clock) {
            self.runs -= stored.runs.heap();
            stored.runs.truncate(tick);
            if stored.ended().is_none() {
                stored.runs.push(Run { from: tick, value: f64::from_bits(STALE_NAN_BITS) });
            }
            self.runs += stored.runs.heap();
        }
        Some(tick)
    }

    /// The series of these labels; none if it belongs to another clock or memory is full. A new series has no sample
    /// until something is pushed in the same breath.
    pub fn find_or_add(&mut self, clock: ClockId, labels: &Labels, retention: &Retention) -> Option<u32> {
        let hash = self.hasher.hash_one(labels);
        let is_same = |id: &u32| self.series[*id as usize].as_ref().is_some_and(|stored| stored.labels == *labels);
        if let Some(&id) = self.by_labels.find(hash, is_same) {
            let stored = self.series[id as usize].as_ref()?;
            if stored.life(&self.lives).clock == clock {
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
        let name = match self.by_name.get_key_value(labels.name()) {
            Some((name, _)) => name.clone(),
            None => Name::from(labels.name()),
        };
        let labels = if labels.name().is_empty() { labels.clone() } else { labels.named(&name) };
        let life = self.life(Life { clock, retention_ms: retention.of(&labels) })?;
        self.labels += label_bytes(&labels);
        let stored = Stored { labels, runs: Runs::marked(life) };
        let id = self.free.pop().unwrap_or_else(|| {
            push(&mut self.series, None);
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

    /// The index of a life, made if it is not there; none if there are too many, which are as many as groups of rules by
    /// ranges in them.
    fn life(&mut self, life: Life) -> Option<u16> {
        let known = self.lives.iter().position(|known| *known == life);
        let place = u16::try_from(known.unwrap_or(self.lives.len())).ok()?;
        if known.is_none() {
            self.lives.push(life);
        }
        Some(place)
    }

    /// Whether a series of this clock has these labels, which were taken from it.
    pub fn is_very(&self, id: u32, clock: ClockId, labels: &Labels) -> bool {
        let stored = self.series.get(id as usize).and_then(Option::as_ref);
        stored.is_some_and(|stored| stored.labels.is_very(labels) && stored.life(&self.lives).clock == clock)
    }

    /// The labels of a series.
    pub fn labels(&self, id: u32) -> Option<&Labels> {
        self.series.get(id as usize)?.as_ref().map(|stored| &stored.labels)
    }

    /// The series has this value from the tick on. Ticks come in order.
    pub fn push(&mut self, id: u32, tick: u32, value: f64) {
        let Some(stored) = self.series[id as usize].as_mut() else { return };
        if stored.runs.last().is_some_and(|last| last.value.to_bits() == value.to_bits()) {
            return;
        }
        let before = stored.runs.heap();
        if before > 0 && stored.runs.is_full() {
            // What is too old makes room before memory does: a trimming may be long in coming.
            let life = stored.life(&self.lives);
            let first = oldest(&self.clocks[life.clock.0 as usize].ticks, life.retention_ms, None);
            let n_outlived = stored.runs.n_outlived(first);
            if n_outlived * SPARE >= stored.runs.iter().count() {
                stored.runs.forget(n_outlived);
            }
        }
        stored.runs.push(Run { from: tick, value });
        self.runs += stored.runs.heap();
        self.runs -= before;
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
        self.series.iter().flatten().map(|stored| {
            let Life { clock, retention_ms } = stored.life(&self.lives);
            Remembered { labels: &stored.labels, clock, runs: &stored.runs, retention_ms }
        })
    }

    /// No series of the clock has samples from the tick on.
    pub fn end_all(&mut self, clock: ClockId, tick: u32) {
        for id in 0..self.series.len() as u32 {
            if self.series[id as usize].as_ref().is_some_and(|stored| stored.life(&self.lives).clock == clock) {
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
        (self.by_labels.len() * SERIES + self.labels + self.runs + ticks) as u64
    }

    pub fn assign_retention(&mut self, retention: &Retention) {
        let mut series = std::mem::take(&mut self.series);
        let lives = std::mem::take(&mut self.lives);
        for stored in series.iter_mut().flatten() {
            let clock = stored.life(&lives).clock;
            // There are fewer now than a `u16` counts, or there would not have been as many before.
            if let Some(life) = self.life(Life { clock, retention_ms: retention.of(&stored.labels) }) {
                stored.runs.mark = life;
            }
        }
        self.series = series;
    }

    /// Forgets what is older than its retention, counted from its clock's last tick; an ended series goes by the
    /// newest tick of all, because its clock may have stopped. A series that has not ended is never dropped: the
    /// sampler and the owners remember its id.
    pub fn trim(&mut self) {
        let newest = self.clocks.iter().filter_map(|clock| clock.ticks.last()).max().copied().unwrap_or(0);
        let mut dropped = Vec::new();
        // By clock: the first tick that some series still needs.
        let mut needed: Vec<Option<u32>> = vec![None; self.clocks.len()];
        for (id, stored) in self.series.iter_mut().enumerate() {
            let Some(stored) = stored else { continue };
            let Life { clock, retention_ms } = stored.life(&self.lives);
            let ticks = &self.clocks[clock.0 as usize].ticks;
            let ended = stored.ended();
            let first = oldest(ticks, retention_ms, ended.map(|_| newest));
            if ended.is_some_and(|tick| tick < first) {
                dropped.push(id as u32);
                continue;
            }
            self.runs -= stored.runs.heap();
            stored.runs.forget(stored.runs.n_outlived(first));
            self.runs += stored.runs.heap();
            let needed = &mut needed[clock.0 as usize];
            *needed = Some(needed.map_or(first, |known| known.min(first)));
        }
        self.drop_series(&dropped);
        self.trim_clocks(&needed);
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
            let shift = shifts[stored.life(&self.lives).clock.0 as usize] as u32;
            if shift > 0 {
                self.runs -= stored.runs.heap();
                stored.runs.shift(shift);
                self.runs += stored.runs.heap();
            }
        }
    }

    fn drop_series(&mut self, ids: &[u32]) {
        let mut names: HashSet<Name> = HashSet::new();
        for &id in ids {
            let Some(stored) = self.series[id as usize].take() else { continue };
            self.runs -= stored.runs.heap();
            self.labels -= label_bytes(&stored.labels);
            let hash = self.hasher.hash_one(&stored.labels);
            if let Ok(place) = self.by_labels.find_entry(hash, |other| *other == id) {
                place.remove();
            }
            if let Some((name, _)) = self.by_name.get_key_value(stored.labels.name()) {
                names.insert(name.clone());
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
            let ticks = self.ticks(stored.life(&self.lives).clock);
            let (first, end) = window.locate(ticks);
            let Some(last) = stored.runs.last() else { return };
            let ended_early = last.from < first && last.value.to_bits() == STALE_NAN_BITS;
            if ended_early || stored.runs.begins() >= end {
                return;
            }
            let single = last.from <= first || stored.runs.is_single();
            let runs =
                if single { promql::Runs::One([last]) } else { promql::Runs::Made(stored.runs.iter().collect()) };
            each(Series { labels: &stored.labels, ticks, runs });
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
            let ticks = self.ticks(stored.life(&self.lives).clock);
            let (first, end) = window.locate(ticks);
            let Some(last) = stored.runs.last().filter(|_| first < end) else { return };
            let run =
                if last.from < end { Some(last) } else { stored.runs.iter().take_while(|run| run.from < end).last() };
            if let Some(run) = run.filter(|run| run.value.to_bits() != STALE_NAN_BITS) {
                each(&stored.labels, ticks[(end - 1) as usize], run.value);
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
