//! Clocks and series: those of the metrics' tables in sheets, and others, which stand apart and are found by an index.

mod select;
mod trim;

use super::retention::Retention;
use super::runs::Runs;
use super::sheet::Sheet;
use crate::labels::{Labels, LabelsRef, Name};
use crate::lean::push;
use crate::promql::{Run, STALE_NAN_BITS};
use hashbrown::HashTable;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// Which clock a series' ticks are counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClockId(u32);

pub struct Store {
    pub max_memory: u64,
    /// By [`ClockId`].
    clocks: Vec<Clock>,
    /// One a table.
    sheets: Vec<Sheet>,
    /// Names of the families in them.
    families: HashSet<Name>,
    /// Bytes of the places in the sheets.
    pub(super) places: usize,
    /// Series in them.
    n_cells: usize,
    /// Those that stand apart, by series id; ids of dropped series are used again.
    series: Vec<Option<Stored>>,
    free: Vec<u32>,
    /// Ids of series that are in a sheet now, under their names: not yet taken out of the index.
    moved: Vec<(Name, u32)>,
    /// Ids, found by their labels.
    by_labels: HashTable<u32>,
    hasher: RandomState,
    by_name: HashMap<Name, Vec<u32>>,
    /// Each once.
    lives: Vec<Life>,
    /// Bytes of all packed runs.
    runs: usize,
    /// Bytes of all label sets, those of a sheet's row once.
    pub(super) labels: usize,
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
    pub labels: LabelsRef<'s>,
    pub clock: ClockId,
    pub runs: &'s Runs,
    pub retention_ms: i64,
}

impl Stored {
    /// `lives`: of the store.
    fn life(&self, lives: &[Life]) -> Life {
        lives[usize::from(self.runs.mark)]
    }
}

/// Bytes of a series that stands apart, without its labels and runs: itself and its places in the indices.
pub const SERIES: usize = size_of::<Option<Stored>>() * 9 / 8 + PLACES;
/// Of its id and hash in the indices, with the room that these keep.
const PLACES: usize = 32;
/// Of a series in a sheet, with its share of the row.
pub const CELL: usize = size_of::<Runs>() + 8;
/// What is too old is forgotten once it is this part of a series.
pub const SPARE: usize = 8;

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
            sheets: Vec::new(),
            families: HashSet::new(),
            places: 0,
            n_cells: 0,
            series: Vec::new(),
            free: Vec::new(),
            moved: Vec::new(),
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
        self.each_runs(|life, runs| {
            if life.clock != clock {
                return;
            }
            runs.truncate(tick);
            if runs.ended().is_none() {
                runs.push(Run { from: tick, value: f64::from_bits(STALE_NAN_BITS) });
            }
        });
        Some(tick)
    }

    /// Changes the runs of every series.
    fn each_runs(&mut self, mut change: impl FnMut(Life, &mut Runs)) {
        let Store { series, sheets, lives, runs: bytes, .. } = self;
        let apart = series.iter_mut().flatten().map(|stored| &mut stored.runs);
        for runs in apart.chain(sheets.iter_mut().flat_map(Sheet::runs_mut)) {
            *bytes -= runs.heap();
            change(lives[usize::from(runs.mark)], runs);
            *bytes += runs.heap();
        }
    }

    /// How many tables there are.
    pub fn make_sheets(&mut self, count: usize) {
        self.sheets.resize_with(count, Sheet::default);
    }

    /// Changes a table's sheet.
    pub fn with_sheet(&mut self, table: usize, change: impl FnOnce(&mut Sheet, &mut Store)) {
        let Some(sheet) = self.sheets.get_mut(table) else { return };
        let mut sheet = std::mem::take(sheet);
        change(&mut sheet, self);
        self.sheets[table] = sheet;
        let moved = std::mem::take(&mut self.moved);
        self.forget_ids(moved);
    }

    /// Keeps the name of a sheet's family: nobody else's series can have it from now on.
    pub fn add_family(&mut self, name: Name) -> Name {
        self.families.insert(name.clone());
        name
    }

    /// The runs for a series that comes into a sheet: those that stood apart, or new ones. None if it belongs to another
    /// clock, or memory is full.
    pub fn admit(&mut self, clock: ClockId, labels: LabelsRef<'_>, retention: &Retention) -> Option<Runs> {
        if let Some(id) = self.find(labels) {
            let stored = self.series[id as usize].as_ref()?;
            if stored.life(&self.lives).clock == clock {
                self.n_cells += 1;
                return self.take_out(id).map(|stored| stored.runs);
            }
            stored.runs.ended()?;
            self.drop_series(&[id]);
        }
        if self.is_full() {
            return None;
        }
        let life = self.life(Life { clock, retention_ms: retention.of(labels) })?;
        self.n_cells += 1;
        Some(Runs::marked(life))
    }

    /// Remembers a series apart that was in a sheet.
    pub fn set_apart(&mut self, labels: Labels, runs: Runs) {
        self.n_cells -= 1;
        if self.find(labels.view()).is_some() {
            // It goes on under another clock.
            self.runs -= runs.heap();
            return;
        }
        self.add(labels, runs);
    }

    fn is_full(&mut self) -> bool {
        let is_full = self.bytes() >= self.max_memory;
        if is_full {
            self.refuse();
        }
        is_full
    }

    fn refuse(&mut self) {
        if !std::mem::replace(&mut self.refused, true) {
            let max_memory = self.max_memory;
            tracing::error!(max_memory, "the history is full: new series are not remembered");
        }
    }

    /// How many of the `wanted` places of a sheet there is memory for, with those that it has.
    pub fn room(&mut self, had: usize, wanted: usize, bytes_each: usize) -> usize {
        let left = self.max_memory.saturating_sub(self.bytes()) / bytes_each as u64;
        let most = had.saturating_add(usize::try_from(left).unwrap_or(usize::MAX));
        if most < wanted {
            self.refuse();
        }
        wanted.min(most).max(had)
    }

    /// The series apart that has these labels.
    fn find(&self, labels: LabelsRef<'_>) -> Option<u32> {
        let is_same =
            |id: &u32| self.series[*id as usize].as_ref().is_some_and(|stored| stored.labels.view() == labels);
        self.by_labels.find(self.hasher.hash_one(labels), is_same).copied()
    }

    /// Ends series, and drops those of which only the present is kept.
    pub fn end_each(&mut self, ids: impl Iterator<Item = u32>, tick: u32) {
        let mut dropped = Vec::new();
        for id in ids {
            let life = self.series[id as usize].as_ref().map(|stored| stored.life(&self.lives));
            if life.is_some_and(|life| life.retention_ms == 0) {
                dropped.push(id);
            } else {
                self.end(id, tick);
            }
        }
        self.drop_series(&dropped);
    }

    /// The series of these labels, apart from the tables; none if it belongs to another clock, its name is a table's, or
    /// memory is full. A new series has no sample until something is pushed in the same breath.
    pub fn find_or_add(&mut self, clock: ClockId, labels: &Labels, retention: &Retention) -> Option<u32> {
        if let Some(id) = self.find(labels.view()) {
            let stored = self.series[id as usize].as_ref()?;
            if stored.life(&self.lives).clock == clock {
                return Some(id);
            }
            stored.runs.ended()?;
            self.drop_series(&[id]);
        }
        if self.families.contains(labels.name()) || self.is_full() {
            return None;
        }
        let life = self.life(Life { clock, retention_ms: retention.of(labels.view()) })?;
        Some(self.add(labels.clone(), Runs::marked(life)))
    }

    /// Adds a series whose labels no other has.
    fn add(&mut self, labels: Labels, runs: Runs) -> u32 {
        let name = match self.by_name.get_key_value(labels.name()) {
            Some((name, _)) => name.clone(),
            None => Name::from(labels.name()),
        };
        let labels = if labels.name().is_empty() { labels } else { labels.named(&name) };
        self.labels += labels.bytes();
        let hash = self.hasher.hash_one(&labels);
        let stored = Stored { labels, runs };
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
        id
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
        let mut runs = std::mem::take(&mut stored.runs);
        self.push_to(&mut runs, Run { from: tick, value });
        if let Some(stored) = self.series[id as usize].as_mut() {
            stored.runs = runs;
        }
    }

    /// [`Store::push`] to runs that somebody holds.
    pub fn push_to(&mut self, runs: &mut Runs, run: Run) {
        if runs.holds(run.value) {
            return;
        }
        let before = runs.heap();
        if before > 0 && runs.is_full() {
            // What is too old makes room before memory does: a trimming may be long in coming.
            let life = self.lives[usize::from(runs.mark)];
            let first = oldest(&self.clocks[life.clock.0 as usize].ticks, life.retention_ms, None);
            let n_outlived = runs.n_outlived(first);
            if n_outlived * SPARE >= runs.iter().count() {
                runs.forget(n_outlived);
            }
        }
        runs.push(run);
        self.runs += runs.heap();
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
        let apart = self.series.iter().flatten().map(|stored| (stored.labels.view(), &stored.runs));
        apart.chain(self.sheets.iter().flat_map(Sheet::series)).map(|(labels, runs)| {
            let Life { clock, retention_ms } = self.lives[usize::from(runs.mark)];
            Remembered { labels, clock, runs, retention_ms }
        })
    }

    /// No series of the clock has samples from the tick on.
    pub fn end_all(&mut self, clock: ClockId, tick: u32) {
        self.each_runs(|life, runs| {
            if life.clock == clock && runs.ended().is_none() {
                runs.push(Run { from: tick, value: f64::from_bits(STALE_NAN_BITS) });
            }
        });
    }

    /// Series, ended ones that are still kept included.
    pub fn live(&self) -> usize {
        self.by_labels.len() + self.n_cells
    }

    /// Memory used, estimated.
    pub fn bytes(&self) -> u64 {
        let ticks: usize = self.clocks.iter().map(|clock| clock.ticks.capacity() * size_of::<i64>()).sum();
        (self.by_labels.len() * SERIES + self.places + self.labels + self.runs + ticks) as u64
    }

    pub fn assign_retention(&mut self, retention: &Retention) {
        let (mut series, mut sheets) = (std::mem::take(&mut self.series), std::mem::take(&mut self.sheets));
        let lives = std::mem::take(&mut self.lives);
        // There are fewer now than a `u16` counts, or there would not have been as many before.
        let mut mark = |labels: LabelsRef<'_>, old: u16| {
            let clock = lives[usize::from(old)].clock;
            self.life(Life { clock, retention_ms: retention.of(labels) })
        };
        for stored in series.iter_mut().flatten() {
            if let Some(new) = mark(stored.labels.view(), stored.runs.mark) {
                stored.runs.mark = new;
            }
        }
        sheets.iter_mut().for_each(|sheet| sheet.mark(&mut mark));
        (self.series, self.sheets) = (series, sheets);
    }

    fn drop_series(&mut self, ids: &[u32]) {
        for &id in ids {
            if let Some(stored) = self.take_out(id) {
                self.runs -= stored.runs.heap();
            }
        }
        let gone = std::mem::take(&mut self.moved);
        self.forget_ids(gone);
    }

    /// Takes a series out of its place; its id is used again after [`Store::forget_ids`].
    fn take_out(&mut self, id: u32) -> Option<Stored> {
        let stored = self.series[id as usize].take()?;
        self.labels -= stored.labels.bytes();
        let hash = self.hasher.hash_one(&stored.labels);
        if let Ok(place) = self.by_labels.find_entry(hash, |other| *other == id) {
            place.remove();
        }
        if let Some((name, _)) = self.by_name.get_key_value(stored.labels.name()) {
            self.moved.push((name.clone(), id));
        }
        Some(stored)
    }

    /// Takes the ids of series that are no more there out of the index.
    fn forget_ids(&mut self, gone: Vec<(Name, u32)>) {
        let mut names: HashSet<Name> = HashSet::new();
        for (name, id) in gone {
            self.free.push(id);
            names.insert(name);
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
}
