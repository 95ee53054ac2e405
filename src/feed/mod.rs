//! Rows from files, HTTP, SQL and push: shared by payment and usage.
//!
//! A feed finds new input, reads it in batches, gives each row to its [`Gatherer`] as cells addressed by canonical
//! name, and keeps what could not be used. What a row means, and its tables, belong to the gatherer.
//!
//! One batch is one transaction: its rows and the position after it are committed together, so a crash at any moment
//! neither loses nor repeats a row, and memory stays bounded however long the file is.

pub mod columns;
pub mod csv;
mod directory;
mod footer;
mod http;
mod late;
pub mod listing;
mod positions;
pub mod push;
mod reader;
mod rejected;
mod run;
pub mod sheet;
mod sql;
mod standing;
#[cfg(test)]
pub(crate) mod testing;
mod transcode;
pub mod value;
mod watch;
pub mod workbook;

pub use columns::{Cells, Names, Need};
pub use reader::hex;
pub use rejected::{Keeper, RejectedRow, rejected_dir};
pub use run::{Feed, bind, run};

use crate::config::Config;
use crate::config::feeds::{self, Source};
use crate::config::usage::{UsageSource, usage_feeds};
use crate::http::{HttpError, TrustError};
use crate::metrics::{Metrics, columns as tables};
use crate::org::Org;
use crate::store::{Store, StoreError, Tx};
use http::AnswerError;
use jiff::Timestamp;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    /// Not JSON, or an object where a value should be.
    Json,
    /// A spreadsheet's cell that shows an error, has no stored value, or a number that has lost digits.
    Cell,
    /// The file: in an encoding that is not read.
    FileEncoding,
    /// The file: a column that must be there is not.
    FileHeader,
    /// The file: from here on no rows can be told apart.
    FileBroken,
    /// The file: it has no sheet of the name that is wanted.
    FileSheet,
    /// The file: it unpacks to more than is read.
    FileSize,
    /// The file: it ends without its footer.
    FileTruncated,
    /// The file: its footer counts other rows, or another sum.
    FileTotals,
}

impl Reason {
    pub const ALL: [Reason; 24] = [
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
        Reason::Json,
        Reason::Cell,
        Reason::FileEncoding,
        Reason::FileHeader,
        Reason::FileBroken,
        Reason::FileSheet,
        Reason::FileSize,
        Reason::FileTruncated,
        Reason::FileTotals,
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
            Reason::Json => "json",
            Reason::Cell => "cell",
            Reason::FileEncoding => "file_encoding",
            Reason::FileHeader => "file_header",
            Reason::FileBroken => "file_broken",
            Reason::FileSheet => "file_sheet",
            Reason::FileSize => "file_size",
            Reason::FileTruncated => "file_truncated",
            Reason::FileTotals => "file_totals",
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
    #[error("asking for rows")]
    Http(#[from] HttpError),
    #[error("preparing to ask for rows")]
    Trust(#[from] TrustError),
    #[error("the answer has status {code}")]
    Status {
        code: u16,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    #[error("reading the answer")]
    Answer(#[from] AnswerError),
    /// A page points to one that was read already, or each page is the same.
    #[error("the pages go round in a circle")]
    Loop,
    #[error("asking the database")]
    Sql(#[source] sqlx::Error),
    #[error("the database did not answer within {0:?}")]
    SqlTimeout(Duration),
    #[error("the database's answer is longer than {0} bytes; lower \"batch\"")]
    SqlTooLong(usize),
    #[error("{0}")]
    Columns(String),
    #[error("more than {0} rows have the same watermark")]
    Equal(u32),
    /// The blocking task that read it panicked.
    #[error("the task that read {0} failed")]
    Task(PathBuf, #[source] tokio::task::JoinError),
}

impl FeedError {
    /// The label value `reason`: a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            FeedError::List(..) | FeedError::Read(..) => "file",
            FeedError::Keep(..) => "keep",
            FeedError::Http(HttpError::Timeout(..)) | FeedError::SqlTimeout(_) => "timeout",
            FeedError::Http(HttpError::Tls(..)) | FeedError::Trust(_) => "tls",
            FeedError::Http(HttpError::TooLong(..)) | FeedError::SqlTooLong(_) => "too_long",
            FeedError::Http(_) => "http",
            FeedError::Status { .. } => "status",
            FeedError::Answer(_) | FeedError::Columns(_) => "content",
            FeedError::Loop | FeedError::Equal(_) => "loop",
            FeedError::Sql(_) => "database",
            FeedError::Store(_) => "state",
            FeedError::Task(..) => "panic",
        }
    }
}

/// What a poll did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Polled {
    /// Files or answers read to their end.
    pub files: u64,
    pub accepted: u64,
    pub rejected: u64,
    /// Nothing was due, so this says nothing about the feed.
    pub is_idle: bool,
}

impl Polled {
    const IDLE: Polled = Polled { files: 0, accepted: 0, rejected: 0, is_idle: true };
}

/// Types the rows of a feed and writes them.
pub trait Gatherer: Send + Sync + 'static {
    type Row: Send + Sync + 'static;
    /// Rows that are ready to be written.
    type Ready: Send + 'static;

    /// Canonical columns; [`Cells`] are addressed by the index in this list.
    fn columns(&self) -> Names;

    /// Reads one row. Runs on a thread that may block.
    fn parse(&self, cells: &Cells<'_>, now: Timestamp) -> Result<Self::Row, Rejection>;

    /// The agency that a row is of; empty if it does not say.
    fn agency<'r>(&self, row: &'r Self::Row) -> &'r str;

    /// The rows (by index) that would change what is kept of an agency that `may` refuses, though they do not name it.
    fn foreign(
        &self,
        tx: &mut Tx,
        rows: &[&Self::Row],
        may: &(dyn Fn(&str) -> bool + Sync),
    ) -> impl Future<Output = Result<Vec<usize>, StoreError>> + Send;

    /// Does what can be done before the transaction, which others wait for. May take a while.
    fn ready(&self, rows: Vec<Self::Row>) -> Self::Ready;

    /// Writes rows in the transaction that also moves the feed's position. The same rows written again change nothing.
    fn write(
        &self,
        tx: &mut Tx,
        rows: Self::Ready,
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
    /// Where push feeds are found.
    pub pushes: push::Pushes,
    /// Held while a workbook is read: its strings are in memory, and those of one are enough.
    pub workbooks: Arc<tokio::sync::Mutex<()>>,
}

/// Ends the series of feeds that `config` no longer names. For the daemon, at a reload: payment and usage share the
/// tables, so neither can do it.
pub fn retain(metrics: &Metrics, pushes: &push::Pushes, config: &Config) {
    let payments = config.payments.iter().flat_map(feeds::Payments::feeds);
    let feeds: Vec<&feeds::Feed> = payments.chain(usage_feeds(&config.usage)).collect();
    // Access logs have an id, too.
    let logs = config.usage.iter().map(UsageSource::feed_id);
    let ids: std::collections::HashSet<&str> = feeds.iter().map(|feed| feed.id.as_str()).chain(logs).collect();
    pushes.retain(|id| feeds.iter().any(|feed| feed.id == id && matches!(feed.source, Source::Push)));
    metrics.table(tables::feed::TABLE).retain(|labels| ids.contains(labels[1]));
    metrics.table(tables::feed_failures::TABLE).retain(|labels| ids.contains(labels[1]));
    metrics.table(tables::feed_rejected::TABLE).retain(|labels| ids.contains(labels[1]));
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
