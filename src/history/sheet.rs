//! The series of one table of the metrics, row by row as the table has them: the families of a subject share its labels,
//! and none of them needs a place in an index. A fleet has a million series, nearly all of them here.

use super::retention::Retention;
use super::runs::Runs;
use super::series::{ClockId, Store};
use crate::labels::{Labels, LabelsRef, Name};
use crate::metrics::{Snapshot, Table, is_absent};
use crate::promql::{Run, STALE_NAN_BITS};

/// What a table was at the last tick, and what its cells were before.
#[derive(Default)]
pub struct Sheet {
    /// Of each row, without a name; none of one that is free.
    labels: Vec<Option<Labels>>,
    /// Of each row.
    generations: Vec<u32>,
    columns: Vec<Column>,
}

/// One family.
struct Column {
    name: Name,
    /// Of each row, as far as rows have values; empty where there never was one, or none is remembered.
    runs: Vec<Runs>,
}

/// Bytes of a row, about: its labels and a family or two.
const ROW: usize = 192;

/// Where a tick's values go.
pub struct Target<'a> {
    pub store: &'a mut Store,
    pub retention: &'a Retention,
    pub clock: ClockId,
    pub tick: u32,
}

impl Sheet {
    /// Takes the values of a tick.
    pub fn sweep(&mut self, table: &Table, target: &mut Target<'_>) {
        let snapshot = table.snapshot();
        if self.columns.is_empty() {
            let names = table.families().iter().map(|family| target.store.add_family(Name::from(family.name)));
            self.columns = names.map(|name| Column { name, runs: Vec::new() }).collect();
        }
        let n_rows = target.store.room(self.labels.len(), snapshot.rows(), ROW);
        let places = &mut target.store.places;
        grow(&mut self.labels, n_rows, || None, places);
        grow(&mut self.generations, n_rows, || 0, places);
        // Endings first: a subject that moved to another row goes on as the same series.
        for row in 0..n_rows {
            let generation = snapshot.generation(row);
            if self.labels[row].is_some() && self.generations[row] != generation {
                self.vacate(row, target);
            }
            self.generations[row] = generation;
            if self.labels[row].is_none()
                && let Some(labels) = snapshot.labels(row)
            {
                self.labels[row] = Some(labels.clone());
                target.store.labels += labels.bytes();
            }
        }
        for family in 0..self.columns.len() {
            self.take(family, &snapshot, target);
        }
    }

    /// Takes the values of a family.
    fn take(&mut self, family: usize, snapshot: &Snapshot<'_>, target: &mut Target<'_>) {
        let values = snapshot.column(family);
        let Column { name, runs } = &mut self.columns[family];
        let n_cells = target.store.room(runs.len(), values.len().min(self.labels.len()), size_of::<Runs>());
        grow(runs, n_cells, Runs::new, &mut target.store.places);
        for (row, (runs, value)) in runs.iter_mut().zip(values).enumerate() {
            if runs.holds(*value) {
                continue;
            }
            if runs.is_empty() {
                if is_absent(*value) {
                    continue;
                }
                let Some(labels) = &self.labels[row] else { continue };
                let Some(admitted) = target.store.admit(target.clock, labels.view().under(name), target.retention)
                else {
                    continue;
                };
                *runs = admitted;
            }
            target.store.push_to(runs, Run { from: target.tick, value: *value });
        }
    }

    /// The subject of a row is gone: its series end, and are remembered apart.
    fn vacate(&mut self, row: usize, target: &mut Target<'_>) {
        let Some(labels) = self.labels[row].take() else { return };
        target.store.labels -= labels.bytes();
        for Column { name, runs } in &mut self.columns {
            let Some(runs) = runs.get_mut(row).filter(|runs| !runs.is_empty()) else { continue };
            let mut runs = std::mem::take(runs);
            target.store.push_to(&mut runs, Run { from: target.tick, value: f64::from_bits(STALE_NAN_BITS) });
            target.store.set_apart(labels.named(name), runs);
        }
    }

    /// Every series.
    pub fn series(&self) -> impl Iterator<Item = (LabelsRef<'_>, &Runs)> {
        self.columns.iter().flat_map(|column| self.series_of(column))
    }

    fn series_of<'s>(&'s self, column: &'s Column) -> impl Iterator<Item = (LabelsRef<'s>, &'s Runs)> {
        let cells = column.runs.iter().zip(&self.labels).filter(|(runs, _)| !runs.is_empty());
        cells.filter_map(|(runs, labels)| Some((labels.as_ref()?.view().under(&column.name), runs)))
    }

    /// Calls `each` with every series of the families that `is_meant` accepts.
    pub fn visit<'s>(&'s self, is_meant: &dyn Fn(&str) -> bool, each: &mut dyn FnMut(LabelsRef<'s>, &'s Runs)) {
        for column in self.columns.iter().filter(|column| is_meant(&column.name)) {
            self.series_of(column).for_each(|(labels, runs)| each(labels, runs));
        }
    }

    /// The runs of every series.
    pub fn runs_mut(&mut self) -> impl Iterator<Item = &mut Runs> {
        self.columns.iter_mut().flat_map(|column| &mut column.runs).filter(|runs| !runs.is_empty())
    }

    /// Marks the runs of every series anew.
    pub fn mark(&mut self, mut mark: impl FnMut(LabelsRef<'_>, u16) -> Option<u16>) {
        for Column { name, runs } in &mut self.columns {
            for (runs, labels) in runs.iter_mut().zip(&self.labels) {
                if !runs.is_empty()
                    && let Some(labels) = labels
                    && let Some(new) = mark(labels.view().under(name), runs.mark)
                {
                    runs.mark = new;
                }
            }
        }
    }
}

/// Makes it as long, without room for as much again; `places` counts its bytes.
fn grow<T>(vector: &mut Vec<T>, length: usize, value: impl FnMut() -> T, places: &mut usize) {
    if vector.capacity() < length {
        *places -= vector.capacity() * size_of::<T>();
        vector.reserve_exact(length - vector.len());
        *places += vector.capacity() * size_of::<T>();
    }
    vector.resize_with(length.max(vector.len()), value);
}
