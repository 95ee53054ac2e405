//! The state database: SQLite in the data directory, or PostgreSQL. One SQL text for both.
//!
//! What belongs here: opening, migrations, transactions. The statements of a room stand in the room that owns the
//! tables (`attribution/ledger.rs`, `mail/outbox.rs` …), and every table is declared in one file of `migrations/`.
//!
//! Rules of the one SQL text (sqlx `Any`): parameters `$1`; times are BIGINT microseconds since 1970 UTC, money BIGINT
//! đồng, flags BIGINT 0/1, JSON and mails TEXT, reals DOUBLE PRECISION; `CAST(SUM(x) AS BIGINT)`; ids are TEXT or BIGINT given by us (no
//! AUTOINCREMENT, no SERIAL); upserts by `ON CONFLICT (…) DO UPDATE`.

#[cfg(test)]
pub mod testing;

use crate::config::{Secret, site::State};
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool};
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
    (10, "rules", include_str!("migrations/0010_rules.sql")),
    (20, "incidents", include_str!("migrations/0020_incidents.sql")),
    (21, "excused alerts", include_str!("migrations/0021_excused_alerts.sql")),
    (22, "escalation", include_str!("migrations/0022_escalation.sql")),
    (23, "silences", include_str!("migrations/0023_silences.sql")),
    (25, "keys", include_str!("migrations/0025_keys.sql")),
    (30, "feeds", include_str!("migrations/0030_feeds.sql")),
    (31, "payments", include_str!("migrations/0031_payments.sql")),
    (34, "payment transactions", include_str!("migrations/0034_transactions.sql")),
    (35, "life of mismatches", include_str!("migrations/0035_mismatch_life.sql")),
    (40, "usage", include_str!("migrations/0040_usage.sql")),
    (50, "devices", include_str!("migrations/0050_devices.sql")),
    (60, "evaluation", include_str!("migrations/0060_evaluation.sql")),
    (70, "sessions", include_str!("migrations/0070_sessions.sql")),
];

/// Connections that read beside the one that writes.
const CONNECTIONS: u32 = 8;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("opening the state database {0}")]
    Open(String, #[source] sqlx::Error),
    #[error("bringing the state database's schema up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error("creating the data directory {0}")]
    DataDir(std::path::PathBuf, #[source] std::io::Error),
    #[error("the state database's address {0:?} is not a URL")]
    Url(String, #[source] url::ParseError),
    /// A statement failed. Trying again may help; the transaction it stood in changed nothing.
    #[error("{0}")]
    Sql(&'static str, #[source] sqlx::Error),
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
    /// SQLite has one writer; taking turns here is fairer and faster than its busy handler.
    writer: Arc<tokio::sync::Mutex<()>>,
    sqlite: bool,
}

impl Store {
    /// Opens (and for SQLite creates) the database and brings its schema up to date.
    pub async fn open(state: &State, data_dir: &Path) -> Result<Store, StoreError> {
        sqlx::any::install_default_drivers();
        match state {
            State::Sqlite => {
                std::fs::create_dir_all(data_dir).map_err(|error| StoreError::DataDir(data_dir.into(), error))?;
                let file = data_dir.join("state.db");
                Store::connect(&sqlite_url(&file)?, &file.display().to_string(), true).await
            }
            State::Postgres { url, password } => {
                let full = with_password(url, password.as_ref()).map_err(|e| StoreError::Url(url.clone(), e))?;
                Store::connect(&full, url, false).await
            }
        }
    }

    async fn connect(url: &str, shown: &str, sqlite: bool) -> Result<Store, StoreError> {
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(Duration::from_secs(10))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if sqlite {
                        // FULL: what was committed survives a power cut, which the outbox promises.
                        let pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=10000; \
                                       PRAGMA foreign_keys=ON";
                        sqlx::raw_sql(pragmas).execute(connection).await?;
                    }
                    Ok(())
                })
            })
            .connect(url)
            .await
            .map_err(|error| StoreError::Open(shown.to_string(), error))?;
        migrator().run(&pool).await.map_err(StoreError::Migrate)?;
        Ok(Store { pool, writer: Arc::default(), sqlite })
    }

    /// For statements that only read.
    pub fn reader(&self) -> &AnyPool {
        &self.pool
    }

    /// A transaction that writes. Waits for the one before it; dropped without [`Tx::commit`] it changes nothing.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let turn = self.writer.clone().lock_owned().await;
        let transaction =
            if self.sqlite { self.pool.begin_with("BEGIN IMMEDIATE").await } else { self.pool.begin().await };
        Ok(Tx { transaction: transaction.doing("beginning a transaction")?, _turn: turn })
    }

    /// Closes the connections after their work.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A transaction that writes; derefs to the connection, so `&mut *tx` is an sqlx executor.
pub struct Tx {
    transaction: sqlx::Transaction<'static, sqlx::Any>,
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

impl Tx {
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
