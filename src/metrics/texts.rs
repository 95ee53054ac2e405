//! The labels of a table's rows as both text formats write them, which every family of the table repeats.

use super::table::{Snapshot, Table};

/// The labels of every row, without braces.
pub struct Texts {
    all: String,
    /// Where each row's end.
    ends: Vec<u32>,
}

impl Texts {
    /// None if they are longer than 4 GiB.
    pub fn of(table: &Table, snapshot: &Snapshot<'_>) -> Option<Texts> {
        let mut texts = Texts { all: String::new(), ends: Vec::with_capacity(snapshot.rows()) };
        let mut values = Vec::new();
        for row in 0..snapshot.rows() {
            write_row(&mut texts.all, table, snapshot, row, &mut values);
            texts.ends.push(u32::try_from(texts.all.len()).ok()?);
        }
        texts.all.shrink_to_fit();
        Some(texts)
    }

    /// "" if the row is free.
    pub fn of_row(&self, row: usize) -> &str {
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[begin as usize..self.ends[row] as usize]
    }
}

/// Writes the labels of a row; nothing if it is free. `values` is room to work in.
pub fn write_row<'s>(
    out: &mut String,
    table: &Table,
    snapshot: &'s Snapshot<'_>,
    row: usize,
    values: &mut Vec<&'s str>,
) {
    if snapshot.values(row, values) {
        write_labels(out, table.labels().iter().copied().zip(values.iter().copied()));
    }
}

/// Renders labels as both formats write them, without braces, escaping `\`, `"` and line feeds.
pub fn write_labels<'l>(out: &mut String, labels: impl Iterator<Item = (&'l str, &'l str)>) {
    for (index, (name, value)) in labels.enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        if value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
            escape(out, value);
        } else {
            out.push_str(value);
        }
        out.push('"');
    }
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
