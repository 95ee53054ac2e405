//! What the state database does not have yet of the series that are kept for long, found by comparing the history with
//! a [`Book`] of what was written.
//!
//! Rows mirror the memory hour by hour. Times decide what belongs together, not positions: a change counts only if its
//! clock has a tick of that very time. So the changes may be written in several transactions, and the ticks last: what a
//! crash leaves without its ticks is as if it had not been.

use super::Inner;
use super::codec::{hour_of, write_changes, write_ticks};
use super::runs::Runs;
use super::series::ClockId;
use crate::promql::{Labels, Run};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Series kept longer than this are written: a shorter past is soon there again after a restart. In milliseconds.
const WORTH_KEEPING: i64 = 20 * 60 * 1_000;
/// How many rows of a series may be older than it is kept before they are deleted together.
const LAZY: usize = 4;

/// What the database has.
#[derive(Default)]
pub struct Book {
    pub next_id: i64,
    pub series: HashMap<Labels, Entry>,
    /// By owner.
    pub clocks: BTreeMap<String, ClockEntry>,
    /// Ids of series that are nobody's any more.
    pub garbage: Vec<i64>,
}

/// A series in the database.
pub struct Entry {
    pub id: i64,
    pub owner: String,
    /// The hours of its rows, ascending.
    pub hours: Vec<i64>,
}

/// A clock in the database.
#[derive(Clone, Copy)]
pub struct ClockEntry {
    /// Its first row.
    pub hour: i64,
    /// The last tick that was written, in milliseconds.
    pub until: i64,
}

/// What is to be written: `changes` first, `ticks` last.
#[derive(Default)]
pub struct Unsaved {
    pub changes: Vec<Changes>,
    pub ticks: Vec<Ticks>,
    /// Series to be deleted.
    pub gone: Vec<i64>,
    /// Of a series the rows before an hour.
    pub outlived: Vec<(i64, i64)>,
    /// Of an owner's clock the rows before an hour.
    pub outlived_ticks: Vec<(String, i64)>,
    /// Clocks of which no series is kept any more.
    pub stopped: Vec<String>,
}

/// The changed hours of one series.
pub struct Changes {
    pub id: i64,
    pub owner: String,
    pub labels: Labels,
    pub is_new: bool,
    /// Hour and encoded changes.
    pub hours: Vec<(i64, String)>,
}

/// The changed hours of one clock.
pub struct Ticks {
    pub owner: String,
    pub hours: Vec<(i64, String)>,
    /// Its last tick.
    pub until: i64,
}

impl Unsaved {
    pub fn is_empty(&self) -> bool {
        let Unsaved { changes, ticks, gone, outlived, outlived_ticks, stopped } = self;
        changes.is_empty()
            && ticks.is_empty()
            && gone.is_empty()
            && outlived.is_empty()
            && outlived_ticks.is_empty()
            && stopped.is_empty()
    }
}

/// Compares. Ids given to new series are used up, whether or not they are written.
pub(super) fn unsaved(inner: &Inner, book: &mut Book) -> Unsaved {
    let owners: HashMap<ClockId, &str> = inner
        .owners
        .iter()
        .map(|(name, owner)| (owner.clock, name.as_str()))
        .chain([(inner.sampler.clock(), "")])
        .collect();
    for (clock, owner) in &owners {
        let newest = inner.store.ticks(*clock).last().copied();
        if let (Some(newest), Some(entry)) = (newest, book.clocks.get_mut(*owner))
            && newest < entry.until
        {
            // It was set back: all is written again. What lies in the future then has no ticks there.
            entry.until = i64::MIN;
        }
    }
    let mut unsaved = Unsaved { gone: book.garbage.clone(), ..Unsaved::default() };
    let mut alive = HashSet::new();
    // By clock, how long the longest kept of its series is.
    let mut longest: HashMap<ClockId, i64> = HashMap::new();
    for series in inner.store.series() {
        let Some(&owner) = owners.get(&series.clock) else { continue };
        let ticks = inner.store.ticks(series.clock);
        let Some(&newest) = ticks.last() else { continue };
        if series.retention_ms <= WORTH_KEEPING {
            continue;
        }
        longest
            .entry(series.clock)
            .and_modify(|known| *known = series.retention_ms.max(*known))
            .or_insert(series.retention_ms);
        let known = book.series.get(&series.labels.to_labels()).filter(|entry| entry.owner == owner);
        let written = book.clocks.get(owner).map(|clock| clock.until).filter(|_| known.is_some());
        if let Some(entry) = known {
            alive.insert(entry.id);
            let oldest = hour_of(newest.saturating_sub(series.retention_ms));
            // The last change before is what holds at the beginning.
            let needed = entry.hours.partition_point(|hour| *hour <= oldest).saturating_sub(1);
            if needed >= LAZY {
                unsaved.outlived.push((entry.id, entry.hours[needed]));
            }
        }
        let hours = changed_hours(ticks, series.runs, written);
        if hours.is_empty() {
            continue;
        }
        let id = known.map_or_else(
            || {
                book.next_id += 1;
                book.next_id
            },
            |entry| entry.id,
        );
        alive.insert(id);
        let (owner, labels) = (owner.to_owned(), series.labels.to_labels());
        unsaved.changes.push(Changes { id, owner, labels, is_new: known.is_none(), hours });
    }
    unsaved.gone.extend(book.series.values().map(|entry| entry.id).filter(|id| !alive.contains(id)));
    for (clock, kept) in &longest {
        let Some(&owner) = owners.get(clock) else { continue };
        clock_rows(inner.store.ticks(*clock), owner, *kept, book, &mut unsaved);
    }
    let kept: HashSet<&str> = longest.keys().filter_map(|clock| owners.get(clock).copied()).collect();
    unsaved.stopped.extend(book.clocks.keys().filter(|owner| !kept.contains(owner.as_str())).cloned());
    unsaved
}

/// The hours of a series in which it changed at or after `written`, whole; all if nothing was written.
fn changed_hours(ticks: &[i64], packed: &Runs, written: Option<i64>) -> Vec<(i64, String)> {
    let runs: Vec<Run> = packed.iter().collect();
    let time = |run: &Run| ticks[run.from as usize];
    // A change at the very tick that was written last may have been replaced since.
    let first = written.map_or(0, |written| runs.partition_point(|run| time(run) < written));
    let Some(first_hour) = runs.get(first).map(|run| hour_of(time(run))) else { return Vec::new() };
    let begin = runs.partition_point(|run| hour_of(time(run)) < first_hour);
    let changes: Vec<(i64, f64)> = runs[begin..].iter().map(|run| (time(run), run.value)).collect();
    let hours = changes.chunk_by(|a, b| hour_of(a.0) == hour_of(b.0));
    hours.map(|changes| (hour_of(changes[0].0), BASE64.encode(write_changes(hour_of(changes[0].0), changes)))).collect()
}

fn clock_rows(ticks: &[i64], owner: &str, kept: i64, book: &Book, unsaved: &mut Unsaved) {
    let known = book.clocks.get(owner);
    let Some(&until) = ticks.last().filter(|last| known.is_none_or(|known| known.until < **last)) else { return };
    let from = known.map_or(i64::MIN, |known| hour_of(known.until));
    let begin = ticks.partition_point(|tick| hour_of(*tick) < from);
    let hours = ticks[begin..].chunk_by(|a, b| hour_of(*a) == hour_of(*b));
    let hours = hours.map(|ticks| (hour_of(ticks[0]), BASE64.encode(write_ticks(hour_of(ticks[0]), ticks)))).collect();
    unsaved.ticks.push(Ticks { owner: owner.to_owned(), hours, until });
    let oldest = hour_of(until.saturating_sub(kept));
    if known.is_some_and(|known| known.hour + LAZY as i64 <= oldest) {
        unsaved.outlived_ticks.push((owner.to_owned(), oldest));
    }
}

impl Book {
    /// All of it was written.
    pub fn saved(&mut self, unsaved: Unsaved) {
        self.garbage.clear();
        let gone: HashSet<i64> = unsaved.gone.into_iter().collect();
        self.series.retain(|_, entry| !gone.contains(&entry.id));
        let outlived: HashMap<i64, i64> = unsaved.outlived.into_iter().collect();
        for entry in self.series.values_mut() {
            if let Some(first) = outlived.get(&entry.id) {
                entry.hours.retain(|hour| hour >= first);
            }
        }
        for changes in unsaved.changes {
            let entry = self.series.entry(changes.labels).or_insert_with(|| Entry {
                id: changes.id,
                owner: changes.owner,
                hours: Vec::new(),
            });
            let first = changes.hours.first().map_or(i64::MAX, |(hour, _)| *hour);
            entry.hours.truncate(entry.hours.partition_point(|hour| *hour < first));
            entry.hours.extend(changes.hours.iter().map(|(hour, _)| *hour));
        }
        for ticks in unsaved.ticks {
            let hour = ticks.hours.first().map_or(hour_of(ticks.until), |(hour, _)| *hour);
            let clock = self.clocks.entry(ticks.owner).or_insert(ClockEntry { hour, until: ticks.until });
            clock.until = ticks.until;
        }
        for (owner, hour) in unsaved.outlived_ticks {
            if let Some(clock) = self.clocks.get_mut(&owner) {
                clock.hour = hour;
            }
        }
        for owner in unsaved.stopped {
            self.clocks.remove(&owner);
        }
    }
}
