//! Everything that is measured, by name. One catalogue; columns for what comes by the thousand (services, devices,
//! agencies); the `prometheus` crate's registry for the few hundred series about the daemon itself.
//!
//! Which of the two? A family with a label that names a subject (service, device, feed, agency) is a column of a
//! [`Table`]; a family about the program's own work is in [`Own`].

mod catalogue;
mod exposition;
mod own;
mod table;
mod texts;

pub use catalogue::{Column, Family, Kind, TableId, columns};
pub use exposition::{Format, Page, Shown};
pub use own::Own;
pub use table::{Cells, Row, STALE_NAN_BITS, Snapshot, Table, is_absent};

/// All metrics of the daemon.
pub struct Metrics {
    /// In the order of the catalogue; see [`Metrics::table`].
    tables: Vec<Table>,
    /// The daemon's own work.
    pub own: Own,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics { tables: catalogue::TABLES.iter().map(Table::new).collect(), own: Own::new() }
    }

    /// The table of a subject: `metrics.table(columns::service::TABLE)`.
    pub fn table(&self, id: TableId) -> &Table {
        &self.tables[id.0]
    }

    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Ends every series of a subject, and zeroes what is known of mails and alerts: another daemon watches them now.
    /// What this program counts of its own work goes on.
    pub fn forget_subjects(&self) {
        for table in &self.tables {
            table.retain(|_| false);
        }
        let own = &self.own;
        for gauge in [&own.outbox_depth, &own.history_series, &own.history_bytes, &own.standbys, &own.daemons_missing] {
            gauge.set(0);
        }
        own.outbox_oldest.set(0.0);
    }
}
