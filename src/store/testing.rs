//! State databases for the tests of rooms that keep something: each test runs on SQLite and on PostgreSQL.
//!
//! One private PostgreSQL serves all tests that run at the same time, each in a database of its own; the last of them
//! stops it, since what is static is never dropped.

#[path = "../../tests/support/postgres.rs"]
mod postgres;

use super::Store;
use crate::config::site::State;
use postgres::Postgres;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

static CLUSTER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// An empty state database that is gone when dropped.
pub struct Database {
    pub store: Store,
    /// Where it is, for what opens it itself.
    pub state: State,
    // Dropped in this order: the store before what it talks to.
    _cluster: Option<Arc<Postgres>>,
    pub dir: tempfile::TempDir,
}

impl Database {
    pub async fn sqlite() -> Database {
        Database::open(State::Sqlite, None).await
    }

    pub async fn postgres() -> Database {
        // Starting takes a second, in which other tests of this thread would stand.
        let cluster = tokio::task::spawn_blocking(|| {
            let mut shared = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
            shared.upgrade().unwrap_or_else(|| {
                let cluster = Arc::new(Postgres::start());
                *shared = Arc::downgrade(&cluster);
                cluster
            })
        });
        let cluster = cluster.await.unwrap();
        let name = format!("test{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        Database::open(cluster.database(&name), Some(cluster)).await
    }

    /// One of each.
    pub async fn both() -> [Database; 2] {
        [Database::sqlite().await, Database::postgres().await]
    }

    async fn open(state: State, cluster: Option<Arc<Postgres>>) -> Database {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&state, dir.path()).await.unwrap();
        Database { store, state, _cluster: cluster, dir }
    }
}
