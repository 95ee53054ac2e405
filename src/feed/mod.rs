//! Rows from files, later from HTTP, SQL and push: shared by payment and usage.
//!
//! A feed finds new input, reads it in batches, gives each row to its [`Gatherer`] as cells addressed by canonical
//! name, and keeps what could not be used. What a row means, and its tables, belong to the gatherer.
//!
//! One batch is one transaction: its rows and the position after it are committed together, so a crash at any moment
//! neither loses nor repeats a row, and memory stays bounded however long the file is.

pub mod columns;
pub mod csv;
mod directory;
pub mod listing;
mod positions;
mod reader;
mod rejected;
mod run;
#[cfg(test)]
pub(crate) mod testing;
pub mod value;
mod watch;

pub use columns::{Cells, Need};
pub use reader::hex;
pub use rejected::rejected_dir;
pub use run::{Feed, bind, run};

use crate::config::Config;
use crate::metrics::{Metrics, columns as tables};
use crate::org::Org;
use crate::store::{Store, StoreError, Tx};
use jiff::Timestamp;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a row, or a whole file, could not be used. The label value `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Another number of fields than the header.
    Fields,
    /// A quotation mark that is never closed.
    Quoting,
    /// Not UTF-8.
    Encoding,
    /// A value that must be there is empty.
    Missing,
    Amount,
    Count,
    Time,
    Status,
    /// No agency by this id, code or name at the row's time.
    Agency,
    App,
    Event,
    Step,
    Channel,
    Outcome,
    /// Ends before it begins.
    Period,
    /// The file: in an encoding that is not read.
    FileEncoding,
    /// The file: a column that must be there is not.
    FileHeader,
    /// The file: from here on no rows can be told apart.
    FileBroken,
}

impl Reason {
    pub const ALL: [Reason; 18] = [
        Reason::Fields,
        Reason::Quoting,
        Reason::Encoding,
        Reason::Missing,
        Reason::Amount,
        Reason::Count,
        Reason::Time,
        Reason::Status,
        Reason::Agency,
        Reason::App,
        Reason::Event,
        Reason::Step,
        Reason::Channel,
        Reason::Outcome,
        Reason::Period,
        Reason::FileEncoding,
        Reason::FileHeader,
        Reason::FileBroken,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Fields => "fields",
            Reason::Quoting => "quoting",
            Reason::Encoding => "encoding",
            Reason::Missing => "missing",
            Reason::Amount => "amount",
            Reason::Count => "count",
            Reason::Time => "time",
            Reason::Status => "status",
            Reason::Agency => "agency",
            Reason::App => "app",
            Reason::Event => "event",
            Reason::Step => "step",
            Reason::Channel => "channel",
            Reason::Outcome => "outcome",
            Reason::Period => "period",
            Reason::FileEncoding => "file_encoding",
            Reason::FileHeader => "file_header",
            Reason::FileBroken => "file_broken",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    pub reason: Reason,
    /// For whoever reads the kept rows: what was found and what is allowed.
    pub detail: String,
}

impl Rejection {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Rejection {
        Rejection { reason, detail: detail.into() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("listing the directory {0}")]
    List(PathBuf, #[source] std::io::Error),
    #[error("reading {0}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("keeping rejected rows in {0}")]
    Keep(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blocking task that read the file panicked.
    #[error("the task that read {0} failed")]
    Task(PathBuf, #[source] tokio::task::JoinError),
}

/// What a poll did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Polled {
    /// Files or answers read to their end.
    pub files: u64,
    pub accepted: u64,
    pub rejected: u64,
}

/// Types the rows of a feed and writes them.
pub trait Gatherer: Send + Sync + 'static {
    type Row: Send + 'static;

    /// Canonical columns; [`Cells`] are addressed by the index in this list.
    fn columns(&self) -> &'static [(&'static str, Need)];

    /// Reads one row. Runs on a thread that may block.
    fn parse(&self, cells: &Cells<'_>, now: Timestamp) -> Result<Self::Row, Rejection>;

    /// Writes rows in the transaction that also moves the feed's position. The same rows written again change nothing.
    fn write(
        &self,
        tx: &mut Tx,
        rows: Vec<Self::Row>,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What feeds and their gatherers work with.
#[derive(Clone)]
pub struct Place {
    pub store: Store,
    pub metrics: Arc<Metrics>,
    pub org: Arc<Org>,
    /// `rejected/` stands here.
    pub data_dir: PathBuf,
}

/// Ends the series of feeds that `config` no longer names. For the daemon, at a reload: payment and usage share the
/// tables, so neither can do it.
pub fn retain(metrics: &Metrics, config: &Config) {
    use crate::config::feeds::UsageRows;
    let payments = config.payments.iter().flat_map(crate::config::feeds::Payments::feeds);
    let usage = config.usage.iter().map(|source| match &source.rows {
        UsageRows::Usage(feed) | UsageRows::Dossiers(feed) => feed,
    });
    let ids: std::collections::HashSet<&str> = payments.chain(usage).map(|feed| feed.id.as_str()).collect();
    metrics.table(tables::feed::TABLE).retain(|labels| ids.contains(&*labels[1]));
    metrics.table(tables::feed_rejected::TABLE).retain(|labels| ids.contains(&*labels[1]));
}

/// Starts a feed's counters.
fn start(place: &Place, feed: &str) {
    let agency = place.org.site().as_str();
    let table = place.metrics.table(tables::feed::TABLE);
    table.add(table.row(&[agency, feed]), tables::feed::ROWS, 0.0);
    let table = place.metrics.table(tables::feed_rejected::TABLE);
    for reason in Reason::ALL {
        table.add(table.row(&[agency, feed, reason.as_str()]), tables::feed_rejected::REJECTED, 0.0);
    }
}
