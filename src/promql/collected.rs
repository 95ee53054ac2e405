//! The results of many steps, turned round into series of runs.

use super::element::{Element, Name, same_labelset};
use super::{QueryError, Run, STALE_NAN_BITS, is_stale};
use crate::labels::{Labels, LabelsRef};
use hashbrown::{Equivalent, HashMap};
use std::hash::RandomState;

/// Results of steps as series of runs.
#[derive(Default)]
pub struct Collected {
    pub ticks: Vec<i64>,
    index: HashMap<Labels, usize, RandomState>,
    pub series: Vec<CollectedSeries>,
    /// Ticks and runs that were added and not yet counted.
    grown: u64,
}

pub struct CollectedSeries {
    pub labels: Labels,
    pub name: Name,
    pub runs: Vec<Run>,
    /// The tick of its last sample.
    last: u32,
}

impl Collected {
    /// Begins a step.
    pub fn tick(&mut self, at_ms: i64) {
        self.ticks.push(at_ms);
        self.grown += 1;
    }

    /// How many samples it has grown by since it was asked last.
    pub fn growth(&mut self) -> u64 {
        std::mem::take(&mut self.grown)
    }

    /// Adds a sample at the last tick.
    pub fn add(&mut self, element: Element<'_>) -> Result<(), QueryError> {
        let tick = (self.ticks.len() - 1) as u32;
        let name = element.name;
        let made;
        let labels = if name == Name::Gone {
            made = element.visible_labels();
            made.view()
        } else {
            element.labels.view()
        };
        let run = Run { from: tick, value: element.value };
        let Some(&index) = self.index.get(&labels) else {
            let labels = labels.to_labels();
            self.index.insert(labels.clone(), self.series.len());
            self.series.push(CollectedSeries { labels, name, runs: vec![run], last: tick });
            // A series weighs about as much as some runs.
            self.grown += 4;
            return Ok(());
        };
        let series = &mut self.series[index];
        if series.last == tick {
            return Err(same_labelset());
        }
        series.name = series.name.max(name);
        series.close_before(tick);
        if series.runs.last().is_none_or(|last| last.value.to_bits() != run.value.to_bits()) {
            series.runs.push(run);
            self.grown += 1;
        }
        series.last = tick;
        Ok(())
    }

    pub fn end(&mut self) {
        let end = self.ticks.len() as u32;
        self.series.iter_mut().for_each(|series| series.close_before(end));
    }
}

impl Equivalent<Labels> for LabelsRef<'_> {
    fn equivalent(&self, key: &Labels) -> bool {
        *self == key.view()
    }
}

impl CollectedSeries {
    /// Writes a stale run if there was no sample on the tick before.
    fn close_before(&mut self, tick: u32) {
        if self.last + 1 < tick && !self.runs.last().is_some_and(|run| is_stale(run.value)) {
            self.runs.push(Run { from: self.last + 1, value: f64::from_bits(STALE_NAN_BITS) });
        }
    }
}
