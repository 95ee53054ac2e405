//! The state database: SQLite in the data directory, or PostgreSQL. One SQL text for both.
//!
//! What belongs here: opening, migrations, transactions. The statements of a room stand in the room that owns the
//! tables (`attribution/ledger.rs`, `mail/outbox.rs` …), and every table is declared in one file of `migrations/`.
//!
//! Rules of the one SQL text (sqlx `Any`): parameters `$1`; times are BIGINT microseconds since 1970 UTC, money BIGINT
//! đồng, flags BIGINT 0/1, JSON and mails TEXT, reals DOUBLE PRECISION; `CAST(SUM(x) AS BIGINT)`; ids are TEXT or BIGINT given by us (no
//! AUTOINCREMENT, no SERIAL); upserts by `ON CONFLICT (…) DO UPDATE`.

pub mod lease;
mod lock;
#[cfg(test)]
pub mod testing;
mod text;

pub use lock::DataLock;
pub use text::{Dialect, decode_rows, json_column, json_rows, placeholder_rows, placeholders, rows_at_once};

use crate::config::{Secret, site::State};
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, Connection};
use std::borrow::Cow;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The schema by version, ascending. A landed migration is never edited; a change is a new file and line.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "ledger", include_str!("migrations/0001_ledger.sql")),
    (2, "attribution", include_str!("migrations/0002_attribution.sql")),
    (3, "overrides", include_str!("migrations/0003_overrides.sql")),
    (5, "duty shifts", include_str!("migrations/0005_duty_shifts.sql")),
    (10, "rules", include_str!("migrations/0010_rules.sql")),
    (11, "history", include_str!("migrations/0011_history.sql")),
    (12, "changes of alerts", include_str!("migrations/0012_rule_alert_changes.sql")),
    (20, "incidents", include_str!("migrations/0020_incidents.sql")),
    (21, "excused alerts", include_str!("migrations/0021_excused_alerts.sql")),
    (22, "escalation", include_str!("migrations/0022_escalation.sql")),
    (23, "silences", include_str!("migrations/0023_silences.sql")),
    (24, "deliveries", include_str!("migrations/0024_deliveries.sql")),
    (25, "keys", include_str!("migrations/0025_keys.sql")),
    (26, "held", include_str!("migrations/0026_held.sql")),
    (27, "flapping", include_str!("migrations/0027_flapping.sql")),
    (28, "leadership", include_str!("migrations/0028_leadership.sql")),
    (29, "heartbeats", include_str!("migrations/0029_heartbeats.sql")),
    (30, "feeds", include_str!("migrations/0030_feeds.sql")),
    (31, "payments", include_str!("migrations/0031_payments.sql")),
    (34, "payment transactions", include_str!("migrations/0034_transactions.sql")),
    (35, "life of mismatches", include_str!("migrations/0035_mismatch_life.sql")),
    (36, "payments that arrived", include_str!("migrations/0036_payment_arrivals.sql")),
    (32, "feed positions", include_str!("migrations/0032_feed_positions.sql")),
    (33, "feed pushes", include_str!("migrations/0033_feed_pushes.sql")),
    (37, "open mismatches counted", include_str!("migrations/0037_mismatch_open_totals.sql")),
    (40, "usage", include_str!("migrations/0040_usage.sql")),
    (41, "corrections of usage, single dossiers", include_str!("migrations/0041_usage_updated.sql")),
    (42, "access logs", include_str!("migrations/0042_access_logs.sql")),
    (50, "devices", include_str!("migrations/0050_devices.sql")),
    (51, "clocks of devices", include_str!("migrations/0051_device_clocks.sql")),
    (60, "evaluation", include_str!("migrations/0060_evaluation.sql")),
    (70, "sessions", include_str!("migrations/0070_sessions.sql")),
    (71, "messages of the outbox", include_str!("migrations/0071_outbox_messages.sql")),
    (72, "subjects of incidents in English", include_str!("migrations/0072_incident_subjects.sql")),
    (73, "what alerts say", include_str!("migrations/0073_alert_texts.sql")),
    (74, "an index of the ledger that nothing used", include_str!("migrations/0074_ledger_index.sql")),
];

/// Connections that read beside the one that writes; with PostgreSQL those that write too.
const CONNECTIONS: u32 = 8;
/// FULL: what was committed survives a power cut, which the outbox promises.
const SQLITE: &str =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=10000; PRAGMA foreign_keys=ON";
/// Of the connections that read: each keeps pages (KiB) of its own, and what they ask is short.
const SQLITE_READER: &str = "PRAGMA cache_size=-512";
/// Of the one connection that writes: its pages (KiB) stay in memory from one transaction to the next, and the write-ahead
/// log is folded back (pages) not after every large one; its file is cut to this size (bytes) when it begins anew.
/// What undoes a single statement stays in memory.
const SQLITE_WRITER: &str = "PRAGMA cache_size=-4096; PRAGMA wal_autocheckpoint=8000; PRAGMA journal_size_limit=67108864; \
     PRAGMA temp_store=MEMORY";
/// While much is written all over the database, and afterwards. Pages that are written again and again are folded back less
/// often.
const SQLITE_MUCH: &str = "PRAGMA cache_size=-49152; PRAGMA wal_autocheckpoint=32000";
const SQLITE_USUAL: &str = "PRAGMA cache_size=-4096; PRAGMA wal_autocheckpoint=8000; PRAGMA shrink_memory";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("opening the state database {0}")]
    Open(String, #[source] sqlx::Error),
    #[error("bringing the state database's schema up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error("creating the data directory {0}")]
    DataDir(std::path::PathBuf, #[source] std::io::Error),
    #[error("another ioc-watch (process {1}) runs on the data directory {0}; give each daemon a data_dir of its own")]
    InUse(std::path::PathBuf, String),
    #[error("the state database's address {0:?} is not a URL")]
    Url(String, #[source] url::ParseError),
    /// A statement failed. Trying again may help; the transaction it stood in changed nothing.
    #[error("{0}")]
    Sql(&'static str, #[source] sqlx::Error),
    /// The term of this daemon is over; its transactions change nothing any more. Trying again does not help.
    #[error("another daemon leads: this one writes nothing")]
    Deposed,
    /// Something else has to be done first, which is under way. Trying again helps.
    #[error("{0}; try again")]
    Busy(&'static str),
}

/// Says what a statement was for when it fails: `.doing("writing the outbox")?`.
pub trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, what: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::Sql(what, error))
    }
}

/// A handle on the state database; cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    /// With SQLite one connection; with PostgreSQL the others.
    writers: AnyPool,
    /// SQLite has one writer; taking turns here is fairer and faster than its busy handler.
    writer: Arc<tokio::sync::Mutex<()>>,
    /// `None` with SQLite.
    server: Option<Arc<Server>>,
    /// The term that transactions belong to, see [`Store::fenced`].
    epoch: Option<i64>,
}

/// Where PostgreSQL is.
struct Server {
    /// With the password.
    url: String,
    /// Without.
    shown: String,
    /// What this process's connections call themselves (`application_name`): nobody else's do.
    mark: String,
}

impl Server {
    /// What each of its connections begins with.
    fn setup(&self) -> String {
        // The mark is hexadecimal, see `mark`.
        format!("SET application_name = '{}'", self.mark)
    }
}

impl Store {
    /// Opens (and for SQLite creates) the database and brings its schema up to date.
    pub async fn open(state: &State, data_dir: &Path) -> Result<Store, StoreError> {
        sqlx::any::install_default_drivers();
        let (pool, writers, server) = match state {
            State::Sqlite => {
                std::fs::create_dir_all(data_dir).map_err(|error| StoreError::DataDir(data_dir.into(), error))?;
                let file = data_dir.join("state.db");
                let (url, shown) = (sqlite_url(&file)?, file.display().to_string());
                let writer = connect(&url, &shown, &format!("{SQLITE}; {SQLITE_WRITER}"), 1).await?;
                let readers = connect(&url, &shown, &format!("{SQLITE}; {SQLITE_READER}"), CONNECTIONS).await?;
                (readers, writer, None)
            }
            State::Postgres { url, password } => {
                let full = with_password(url, password.as_ref()).map_err(|e| StoreError::Url(url.clone(), e))?;
                let server = Server { url: full, shown: url.clone(), mark: mark()? };
                let pool = connect(&server.url, &server.shown, &server.setup(), CONNECTIONS).await?;
                (pool.clone(), pool, Some(Arc::new(server)))
            }
        };
        migrator().run(&writers).await.map_err(StoreError::Migrate)?;
        Ok(Store { pool, writers, writer: Arc::default(), server, epoch: None })
    }

    /// The same database for the leader of a term (see [`lease`]): a transaction changes nothing once the term is over.
    pub fn fenced(&self, epoch: i64) -> Store {
        Store { epoch: Some(epoch), ..self.clone() }
    }

    /// Whether the term that this handle is fenced to lasts: what was read to be acted on outside the database may be.
    /// An error means that nobody can tell.
    pub async fn leads(&self) -> Result<bool, StoreError> {
        let Some(epoch) = self.epoch else { return Ok(true) };
        let current: i64 = sqlx::query_scalar("SELECT epoch FROM leadership WHERE id = 1")
            .fetch_one(&self.pool)
            .await
            .doing("asking who leads")?;
        Ok(current == epoch)
    }

    /// For statements that only read.
    pub fn reader(&self) -> &AnyPool {
        &self.pool
    }

    /// A transaction that writes. Waits for the one before it; dropped without [`Tx::commit`] it changes nothing.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        const DOING: &str = "beginning a transaction";
        let turn = self.writer.clone().lock_owned().await;
        let begun = match self.server {
            None => self.writers.begin_with("BEGIN IMMEDIATE").await,
            Some(_) => self.writers.begin().await,
        };
        let mut transaction = begun.doing(DOING)?;
        if let Some(epoch) = self.epoch {
            // Held until the end: no other term begins before this transaction is through.
            let current = sqlx::query("SELECT epoch FROM leadership WHERE id = 1 AND epoch = $1 FOR SHARE")
                .bind(epoch)
                .fetch_optional(&mut *transaction)
                .await
                .doing(DOING)?;
            current.ok_or(StoreError::Deposed)?;
        }
        Ok(Tx { transaction, dialect: self.dialect(), _turn: turn })
    }

    /// Lets the connection that writes keep many pages in memory, or as few as usual. Only speed depends on it.
    pub async fn expect_much(&self, much: bool) -> Result<(), StoreError> {
        if self.server.is_none() {
            let _turn = self.writer.clone().lock_owned().await;
            let sql = if much { SQLITE_MUCH } else { SQLITE_USUAL };
            sqlx::raw_sql(sql).execute(&self.writers).await.doing("setting how many pages stay in memory")?;
        }
        Ok(())
    }

    /// What the database calls by a name of its own.
    pub fn dialect(&self) -> Dialect {
        if self.server.is_some() { Dialect::Postgres } else { Dialect::Sqlite }
    }

    /// Closes the connections after their work.
    pub async fn close(&self) {
        self.pool.close().await;
        self.writers.close().await;
    }
}

/// A transaction that writes; derefs to the connection, so `&mut *tx` is an sqlx executor.
pub struct Tx {
    transaction: sqlx::Transaction<'static, sqlx::Any>,
    dialect: Dialect,
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

impl Tx {
    /// What its database calls by a name of its own.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await.doing("committing a transaction")
    }
}

impl Deref for Tx {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        &self.transaction
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

/// Opens a pool, each connection of which begins with `setup`.
async fn connect(url: &str, shown: &str, setup: &str, connections: u32) -> Result<AnyPool, StoreError> {
    let setup = setup.to_owned();
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(10))
        .before_acquire(|connection, _| {
            // A commit that failed (a full disk) may have ended its transaction without the driver's knowledge, which
            // would refuse every other on this connection: it is closed, and a new one made.
            let is_free = !connection.is_in_transaction();
            Box::pin(async move { Ok(is_free) })
        })
        .after_connect(move |connection, _| {
            let setup = sqlx::AssertSqlSafe(setup.clone());
            Box::pin(async move {
                sqlx::raw_sql(setup).execute(connection).await?;
                Ok(())
            })
        })
        .connect(url)
        .await
        .map_err(|error| StoreError::Open(shown.to_string(), error))
}

/// A name for the connections of this process that no other has.
fn mark() -> Result<String, StoreError> {
    let mut random = [0; 8];
    let no_random = |_| StoreError::Sql("naming the connections to the state database", sqlx::Error::WorkerCrashed);
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).map_err(no_random)?;
    Ok(format!("ioc-watch {:016x}", u64::from_be_bytes(random)))
}

/// A URL has no relative paths: what is relative is so to the working directory, as for any other file.
fn sqlite_url(file: &Path) -> Result<String, StoreError> {
    let absolute = std::path::absolute(file).map_err(|error| StoreError::DataDir(file.into(), error))?;
    let mut url = url::Url::parse("sqlite:///").expect("a constant URL");
    // The one character that `set_path` takes for an escape already made.
    url.set_path(&absolute.to_string_lossy().replace('%', "%25"));
    Ok(format!("{url}?mode=rwc"))
}

fn with_password(url: &str, password: Option<&Secret>) -> Result<String, url::ParseError> {
    let mut url = url::Url::parse(url)?;
    if let Some(password) = password {
        // Refused only for URLs that cannot have a host, which the configuration excludes.
        let _ = url.set_password(Some(password.expose()));
    }
    Ok(url.into())
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(version, Cow::Borrowed(name), kind, sqlx::SqlStr::from_static(sql), false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// Microseconds since 1970 UTC, as times stand in the database.
pub fn micros(time: jiff::Timestamp) -> i64 {
    time.as_microsecond()
}

/// The time of [`micros`]; what is out of range (a damaged row) becomes the nearest representable time.
pub fn from_micros(micros: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_directory_is_below_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        let url = sqlite_url(Path::new("du-lieu/state.db")).unwrap();
        assert!(url.ends_with("/du-lieu/state.db?mode=rwc"), "{url}");
        assert!(url.len() > here.as_os_str().len() + "sqlite:///du-lieu/state.db".len(), "{url}");
    }

    #[tokio::test]
    async fn a_directory_may_have_any_name() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("dữ liệu 100%25 #1?");
        let store = Store::open(&State::Sqlite, &dir).await.unwrap();
        store.close().await;
        assert!(dir.join("state.db").is_file());
    }
}
