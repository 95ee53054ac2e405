//! A table of series that share label names: one row a subject, one column a family.
//!
//! Values stand column by column, so that a scrape and the sampler read them in one sweep, and a row's label text is
//! rendered once. A row that is removed leaves a hole that a later subject fills under a new generation, so that a
//! reader who remembers rows notices.

use super::catalogue::{Column, Family, TableDefinition};
use std::collections::HashMap;
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
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_labels: HashMap<Arc<[Box<str>]>, u32>,
    rows: Vec<RowData>,
    free: Vec<u32>,
    /// One vector a family, as long as `rows`.
    columns: Vec<Vec<f64>>,
}

struct RowData {
    /// Empty when the row is free; the very ones of the index.
    labels: Arc<[Box<str>]>,
    /// `agency="tam-ky",service="dvc"`, escaped.
    text: Box<str>,
    generation: u32,
}

impl Table {
    pub(super) fn new(definition: &'static TableDefinition) -> Table {
        let columns = definition.families.iter().map(|_| Vec::new()).collect();
        Table { definition, inner: Mutex::new(Inner { columns, ..Inner::default() }) }
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
        assert_eq!(values.len(), self.definition.labels.len(), "{:?}", self.definition.labels);
        let key: Arc<[Box<str>]> = values.iter().map(|value| Box::from(*value)).collect();
        let mut inner = self.lock();
        if let Some(&index) = inner.by_labels.get(&key) {
            return Row { index, generation: inner.rows[index as usize].generation };
        }
        let text = label_text(self.definition.labels, values);
        let index = match inner.free.pop() {
            Some(index) => {
                let row = &mut inner.rows[index as usize];
                row.labels = key.clone();
                row.text = text;
                index
            }
            None => {
                inner.rows.push(RowData { labels: key.clone(), text, generation: 0 });
                for column in &mut inner.columns {
                    column.push(f64::from_bits(STALE_NAN_BITS));
                }
                (inner.rows.len() - 1) as u32
            }
        };
        inner.by_labels.insert(key, index);
        Row { index, generation: inner.rows[index as usize].generation }
    }

    /// Ends the row's series.
    pub fn remove(&self, row: Row) {
        let mut inner = self.lock();
        if !inner.is_current(row) {
            return;
        }
        let index = row.index as usize;
        for column in &mut inner.columns {
            column[index] = f64::from_bits(STALE_NAN_BITS);
        }
        let data = &mut inner.rows[index];
        data.generation = data.generation.wrapping_add(1);
        data.text = Box::default();
        let labels = std::mem::take(&mut data.labels);
        inner.by_labels.remove(&labels);
        inner.free.push(row.index);
    }

    /// Ends the series of the rows whose label values `keep` refuses.
    pub fn retain(&self, keep: impl Fn(&[Box<str>]) -> bool) {
        let gone: Vec<Row> = {
            let inner = self.lock();
            inner
                .by_labels
                .iter()
                .filter(|(labels, _)| !keep(labels))
                .map(|(_, &index)| Row { index, generation: inner.rows[index as usize].generation })
                .collect()
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
            change(&mut Cells { columns: &mut inner.columns, index: row.index as usize });
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
        let value = inner.is_current(row).then(|| inner.columns[column.0][row.index as usize])?;
        (!is_absent(value)).then_some(value)
    }

    /// Locks the table for one sweep over its cells.
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { inner: self.lock() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic between two statements above leaves at worst one row half-removed, never invalid indices.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_current(&self, row: Row) -> bool {
        self.rows
            .get(row.index as usize)
            .is_some_and(|data| data.generation == row.generation && !data.labels.is_empty())
    }
}

/// The cells of one row, under the table's lock.
pub struct Cells<'a> {
    columns: &'a mut [Vec<f64>],
    index: usize,
}

impl Cells<'_> {
    pub fn get(&self, column: Column) -> Option<f64> {
        let value = self.columns[column.0][self.index];
        (!is_absent(value)).then_some(value)
    }

    pub fn set(&mut self, column: Column, value: f64) {
        self.columns[column.0][self.index] = value;
    }

    pub fn clear(&mut self, column: Column) {
        self.set(column, f64::from_bits(STALE_NAN_BITS));
    }
}

/// A table held still. Rows that are free have no labels and only absent cells.
pub struct Snapshot<'a> {
    inner: MutexGuard<'a, Inner>,
}

impl Snapshot<'_> {
    /// Rows, free ones included.
    pub fn rows(&self) -> usize {
        self.inner.rows.len()
    }

    pub fn generation(&self, row: usize) -> u32 {
        self.inner.rows[row].generation
    }

    /// Label values in the order of [`Table::labels`]; empty if the row is free.
    pub fn labels(&self, row: usize) -> &[Box<str>] {
        &self.inner.rows[row].labels
    }

    /// The labels as exposition text, without braces.
    pub fn text(&self, row: usize) -> &str {
        &self.inner.rows[row].text
    }

    /// One cell.
    pub fn value(&self, row: usize, column: Column) -> Option<f64> {
        let value = self.inner.columns[column.0][row];
        (!is_absent(value)).then_some(value)
    }

    /// The values of the n-th family, absent ones included; see [`is_absent`].
    pub fn column(&self, family: usize) -> &[f64] {
        &self.inner.columns[family]
    }
}

/// Renders labels as both exposition formats write them, escaping `\`, `"` and line feeds.
pub(super) fn label_text<'a>(names: &[&str], values: impl IntoIterator<Item = &'a &'a str>) -> Box<str> {
    let mut text = String::new();
    for (name, value) in names.iter().zip(values) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::super::{Metrics, columns::service};
    use super::label_text;

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

    #[test]
    fn label_values_are_escaped() {
        let text = label_text(&["a", "b"], &["x\"y", "c\\d\ne"]);
        assert_eq!(&*text, r#"a="x\"y",b="c\\d\ne""#);
    }
}
