//! What unit tests evaluate on: the input series and what the rules record, in memory.

use crate::promql::{self, Labels, Query, QueryError, Run, Runs, STALE_NAN_BITS, Series, Storage, Value};
use crate::rules::Engine;
use jiff::Timestamp;
use promql_parser::label::{Matcher, Matchers};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Series in memory; times in milliseconds.
#[derive(Default)]
pub(in crate::rules) struct Memory {
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    input: Vec<Stored>,
    /// Samples after this time are not there yet.
    until_ms: Option<i64>,
    /// By owner and labels.
    recorded: BTreeMap<(String, Labels), Stored>,
}

struct Stored {
    labels: Labels,
    ticks: Vec<i64>,
    runs: Vec<Run>,
}

impl Stored {
    fn new(labels: Labels) -> Stored {
        Stored { labels, ticks: Vec::new(), runs: Vec::new() }
    }

    fn push(&mut self, tick: i64, value: f64) {
        if self.runs.last().is_none_or(|run| run.value.to_bits() != value.to_bits()) {
            self.runs.push(Run { from: self.ticks.len() as u32, value });
        }
        self.ticks.push(tick);
    }

    fn has_ended(&self) -> bool {
        self.runs.last().is_some_and(|run| run.value.to_bits() == STALE_NAN_BITS)
    }
}

impl Memory {
    /// Adds an input series with a sample every `interval_ms` from `start_ms` on.
    pub fn add(&self, labels: Labels, values: &[Option<f64>], (start_ms, interval_ms): (i64, i64)) {
        let mut stored = Stored::new(labels);
        for (index, value) in values.iter().enumerate() {
            if let Some(value) = value {
                stored.push(start_ms.saturating_add(interval_ms.saturating_mul(index as i64)), *value);
            }
        }
        self.inner.borrow_mut().input.push(stored);
    }
}

impl Memory {
    /// Hides what comes after `until_ms`, as promtool loads its input step by step.
    pub fn show_until(&self, until_ms: i64) {
        self.inner.borrow_mut().until_ms = Some(until_ms);
    }
}

impl Engine for Memory {
    fn instant(&self, query: &Query, at: Timestamp) -> Result<Value, QueryError> {
        promql::instant(&*self.inner.borrow(), query, at.as_millisecond())
    }

    fn record(&self, owner: &str, samples: &mut [(Labels, f64)], at: Timestamp) {
        let at = at.as_millisecond();
        let recorded = &mut self.inner.borrow_mut().recorded;
        let present: BTreeSet<&Labels> = samples.iter().map(|(labels, _)| labels).collect();
        for ((_, labels), stored) in recorded.iter_mut().filter(|((candidate, _), _)| candidate == owner) {
            if !present.contains(labels) && !stored.has_ended() {
                stored.push(at, f64::from_bits(STALE_NAN_BITS));
            }
        }
        for (labels, value) in samples.iter() {
            let key = (owner.to_owned(), labels.clone());
            recorded.entry(key).or_insert_with(|| Stored::new(labels.clone())).push(at, *value);
        }
    }
}

impl Storage for Inner {
    fn select<'s>(&'s self, matchers: &Matchers, _from_ms: i64, _to_ms: i64, each: &mut dyn FnMut(Series<'s>)) {
        let all = |list: &[Matcher], labels: &Labels| list.iter().all(|m| m.is_match(labels.get(&m.name)));
        for stored in self.input.iter().chain(self.recorded.values()) {
            let matches = if matchers.or_matchers.is_empty() {
                all(&matchers.matchers, &stored.labels)
            } else {
                matchers.or_matchers.iter().any(|list| all(list, &stored.labels))
            };
            if matches {
                let until = self.until_ms.unwrap_or(i64::MAX);
                let ticks = &stored.ticks[..stored.ticks.partition_point(|tick| *tick <= until)];
                each(Series { labels: stored.labels.view(), ticks, runs: Runs::Kept(&stored.runs) });
            }
        }
    }
}
