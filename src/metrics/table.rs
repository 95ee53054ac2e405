//! A table of series that share label names: one row a subject, one column a family.
//!
//! Values stand column by column, so that a scrape and the sampler read them in one sweep; a row's labels stand once. A row
//! that is removed leaves a hole that a later subject fills under a new generation, so that a reader who remembers rows
//! notices.

use super::catalogue::{Column, Family, TableDefinition};
use super::texts::Texts;
use crate::labels::Labels;
use crate::lean::{make_room, push};
use hashbrown::HashTable;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Prometheus's staleness marker; in a cell it means "no sample". An ordinary NaN is a value.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether a cell holds no sample.
pub fn is_absent(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// A subject's place in its table. Valid until the row is removed; writes to a removed row change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    pub index: u32,
    pub generation: u32,
}

pub struct Table {
    definition: &'static TableDefinition,
    /// The places of the labels in the order of their names.
    sorted: Vec<usize>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Rows, found by their labels.
    by_labels: HashTable<u32>,
    /// Of each row; none when it is free.
    labels: Vec<Option<Labels>>,
    /// Of each row.
    generations: Vec<u32>,
    free: Vec<u32>,
    /// One vector a family. Beyond its end no row has a sample: most devices tell few of what they could.
    columns: Vec<Vec<f64>>,
    /// Of all rows; none until somebody asks for them, and after a row came or went.
    texts: Option<Arc<Texts>>,
}

impl Table {
    pub(super) fn new(definition: &'static TableDefinition) -> Table {
        let columns = definition.families.iter().map(|_| Vec::new()).collect();
        let mut sorted: Vec<usize> = (0..definition.labels.len()).collect();
        sorted.sort_by_key(|place| definition.labels[*place]);
        Table { definition, sorted, inner: Mutex::new(Inner { columns, ..Inner::default() }) }
    }

    pub fn labels(&self) -> &'static [&'static str] {
        self.definition.labels
    }

    pub fn families(&self) -> &'static [Family] {
        self.definition.families
    }

    /// The row of these label values (in the order of [`Table::labels`]), made if it is not there.
    ///
    /// # Panics
    /// If the number of values is not the number of labels: a mistake in the program.
    pub fn row(&self, values: &[&str]) -> Row {
        let names = self.definition.labels;
        assert_eq!(values.len(), names.len(), "{names:?}");
        let labels = Labels::of_sorted(None, self.sorted.iter().map(|place| (names[*place], values[*place])));
        let mut inner = self.lock();
        let Inner { by_labels, labels: all, generations, free, texts, .. } = &mut *inner;
        let hash = labels.hash_without_name();
        if let Some(&index) = by_labels.find(hash, |index| all[*index as usize].as_ref() == Some(&labels)) {
            return Row { index, generation: generations[index as usize] };
        }
        *texts = None;
        let index = match free.pop() {
            Some(index) => {
                all[index as usize] = Some(labels);
                index
            }
            None => {
                push(all, Some(labels));
                push(generations, 0);
                (all.len() - 1) as u32
            }
        };
        by_labels.insert_unique(hash, index, |index| hash_of(&all[*index as usize]));
        Row { index, generation: generations[index as usize] }
    }

    /// Ends the row's series.
    pub fn remove(&self, row: Row) {
        let mut inner = self.lock();
        if !inner.is_current(row) {
            return;
        }
        let index = row.index as usize;
        for cell in inner.columns.iter_mut().filter_map(|column| column.get_mut(index)) {
            *cell = f64::from_bits(STALE_NAN_BITS);
        }
        inner.generations[index] = inner.generations[index].wrapping_add(1);
        inner.texts = None;
        let hash = hash_of(&inner.labels[index].take());
        if let Ok(entry) = inner.by_labels.find_entry(hash, |other| *other == row.index) {
            entry.remove();
        }
        inner.free.push(row.index);
    }

    /// Ends the series of the rows whose label values (in the order of [`Table::labels`]) `keep` refuses.
    pub fn retain(&self, keep: impl Fn(&[&str]) -> bool) {
        let gone: Vec<Row> = {
            let snapshot = self.snapshot();
            let mut values = Vec::new();
            let gone = (0..snapshot.rows()).filter(|row| snapshot.values(*row, &mut values) && !keep(&values));
            gone.map(|row| Row { index: row as u32, generation: snapshot.generation(row) }).collect()
        };
        for row in gone {
            self.remove(row);
        }
    }

    pub fn set(&self, row: Row, column: Column, value: f64) {
        self.update(row, |cells| cells.set(column, value));
    }

    /// Sets several cells of a row under one lock.
    pub fn update(&self, row: Row, change: impl FnOnce(&mut Cells<'_>)) {
        let mut inner = self.lock();
        if inner.is_current(row) {
            let rows = inner.labels.len();
            change(&mut Cells { columns: &mut inner.columns, index: row.index as usize, rows });
        }
    }

    /// Adds to a counter; an absent cell counts as zero.
    pub fn add(&self, row: Row, column: Column, amount: f64) {
        self.update(row, |cells| {
            let old = cells.get(column).unwrap_or(0.0);
            cells.set(column, old + amount);
        });
    }

    /// Makes the cell "no sample".
    pub fn clear(&self, row: Row, column: Column) {
        self.update(row, |cells| cells.clear(column));
    }

    pub fn get(&self, row: Row, column: Column) -> Option<f64> {
        let inner = self.lock();
        if inner.is_current(row) { at(&inner.columns, column, row.index as usize) } else { None }
    }

    /// Locks the table for one sweep over its cells.
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { table: self, inner: self.lock() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic between two statements above leaves at worst one row half-removed, never invalid indices.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_current(&self, row: Row) -> bool {
        let index = row.index as usize;
        self.generations.get(index) == Some(&row.generation) && self.labels[index].is_some()
    }
}

fn hash_of(labels: &Option<Labels>) -> u64 {
    labels.as_ref().map_or(0, Labels::hash_without_name)
}

/// What a row has of a family.
fn at(columns: &[Vec<f64>], column: Column, row: usize) -> Option<f64> {
    columns[column.0].get(row).copied().filter(|value| !is_absent(*value))
}

/// The cells of one row, under the table's lock.
pub struct Cells<'a> {
    columns: &'a mut [Vec<f64>],
    index: usize,
    /// Of the table.
    rows: usize,
}

impl Cells<'_> {
    pub fn get(&self, column: Column) -> Option<f64> {
        at(self.columns, column, self.index)
    }

    pub fn set(&mut self, column: Column, value: f64) {
        let column = &mut self.columns[column.0];
        if column.len() <= self.index {
            if is_absent(value) {
                return;
            }
            // Others will have it, too.
            make_room(column, self.rows);
            column.resize(self.rows, f64::from_bits(STALE_NAN_BITS));
        }
        column[self.index] = value;
    }

    pub fn clear(&mut self, column: Column) {
        self.set(column, f64::from_bits(STALE_NAN_BITS));
    }
}

/// A table held still. Rows that are free have no labels and only absent cells.
pub struct Snapshot<'a> {
    table: &'a Table,
    inner: MutexGuard<'a, Inner>,
}

impl Snapshot<'_> {
    /// Rows, free ones included.
    pub fn rows(&self) -> usize {
        self.inner.labels.len()
    }

    pub fn generation(&self, row: usize) -> u32 {
        self.inner.generations[row]
    }

    /// None if the row is free.
    pub fn labels(&self, row: usize) -> Option<&Labels> {
        self.inner.labels[row].as_ref()
    }

    /// Puts the label values in the order of [`Table::labels`]; false if the row is free.
    pub fn values<'s>(&'s self, row: usize, values: &mut Vec<&'s str>) -> bool {
        values.clear();
        let Some(labels) = self.labels(row) else { return false };
        values.resize(self.table.sorted.len(), "");
        let mut others = labels.others().peekable();
        // Both in the order of the names; what has no value is not there.
        for place in &self.table.sorted {
            if let Some((_, value)) = others.next_if(|(name, _)| *name == self.table.definition.labels[*place]) {
                values[*place] = value;
            }
        }
        true
    }

    /// One cell.
    pub fn value(&self, row: usize, column: Column) -> Option<f64> {
        at(&self.inner.columns, column, row)
    }

    /// The labels of all rows as a page shows them, kept until a row comes or goes. None if there is far too much of them.
    pub fn texts(&mut self) -> Option<Arc<Texts>> {
        if self.inner.texts.is_none() {
            let texts = Texts::of(self.table, self).map(Arc::new);
            self.inner.texts = texts;
        }
        self.inner.texts.clone()
    }

    /// The values of the n-th family, absent ones included (see [`is_absent`]); rows beyond its end have none.
    pub fn column(&self, family: usize) -> &[f64] {
        &self.inner.columns[family]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Metrics, columns::service};

    #[test]
    fn a_removed_row_ends_its_series_and_its_place_is_taken_under_a_new_generation() {
        let metrics = Metrics::new();
        let table = metrics.table(service::TABLE);
        let old = table.row(&["tam-ky", "dvc", "portal"]);
        table.set(old, service::UP, 1.0);
        assert_eq!(table.row(&["tam-ky", "dvc", "portal"]), old);
        table.remove(old);
        let new = table.row(&["hoi-an", "dvc-2", "portal"]);
        assert_eq!(new.index, old.index);
        assert_ne!(new.generation, old.generation);
        table.set(old, service::UP, 0.0);
        assert_eq!(table.get(new, service::UP), None);
    }
}
