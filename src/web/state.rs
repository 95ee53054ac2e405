//! What the routes work with.

use super::credentials::Door;
use super::query::Turns;
use crate::attribution::Ledger;
use crate::config::Config;
use crate::config::site::Language;
use crate::history::History;
use crate::metrics::Metrics;
use crate::rules::RulesBoard;
use crate::store::Store;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot};

/// Asks the daemon to reload; it answers what came of it: the problems, one a line, on failure.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// What the daemon gives to the web room. All but the configuration live as long as the daemon.
pub struct Parts {
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    pub history: Arc<History>,
    /// How the rules stand.
    pub rules: RulesBoard,
    pub store: Store,
    pub ledger: Ledger,
    /// Set by the daemon once everything runs.
    pub ready: Arc<AtomicBool>,
    pub reload: mpsc::Sender<ReloadRequest>,
    pub status: StatusBoard,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    config: RwLock<Arc<Config>>,
    door: Door,
    turns: Turns,
    parts: Parts,
}

impl AppState {
    pub fn new(parts: Parts) -> AppState {
        let door = Door::new(parts.store.clone(), parts.metrics.clone());
        AppState(Arc::new(Inner { config: RwLock::new(parts.config.clone()), door, turns: Turns::default(), parts }))
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.0.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After a reload: the listener and its connections stay.
    pub fn replace_config(&self, config: Arc<Config>) {
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Ends the sessions of users that the configuration in force does not have, or not with that password.
    pub async fn purge_sessions(&self) -> Result<(), crate::store::StoreError> {
        self.0.door.sessions.purge(self.config().server.users.as_ref()).await
    }

    pub(super) fn door(&self) -> &Door {
        &self.0.door
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.parts.metrics
    }

    pub fn history(&self) -> &Arc<History> {
        &self.0.parts.history
    }

    pub fn rules(&self) -> &RulesBoard {
        &self.0.parts.rules
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    pub fn store(&self) -> &Store {
        &self.0.parts.store
    }

    pub fn ledger(&self) -> &Ledger {
        &self.0.parts.ledger
    }

    pub fn is_ready(&self) -> bool {
        self.0.parts.ready.load(Ordering::Acquire)
    }

    pub fn reload(&self) -> &mpsc::Sender<ReloadRequest> {
        &self.0.parts.reload
    }

    pub fn status(&self) -> &StatusBoard {
        &self.0.parts.status
    }

    pub fn language(&self) -> Language {
        self.config().site.language
    }
}

/// How the daemon's tasks fare, for the status page. Cheap to clone; the daemon writes, the page reads.
#[derive(Clone)]
pub struct StatusBoard(Arc<Mutex<Board>>);

#[derive(Clone)]
pub(super) struct Board {
    pub started: Timestamp,
    /// When the configuration was last loaded or tried, and what was wrong.
    pub last_reload: Option<(Timestamp, Result<(), String>)>,
    pub tasks: BTreeMap<String, TaskStatus>,
}

#[derive(Debug, Clone)]
pub struct TaskStatus {
    /// Since when it is in this state.
    pub since: Timestamp,
    pub running: bool,
    pub restarts: u64,
    /// What ended it last.
    pub last_error: Option<String>,
}

impl StatusBoard {
    pub fn new(started: Timestamp) -> StatusBoard {
        StatusBoard(Arc::new(Mutex::new(Board { started, last_reload: None, tasks: BTreeMap::new() })))
    }

    pub fn task_started(&self, name: &str, now: Timestamp) {
        let mut board = self.lock();
        match board.tasks.get_mut(name) {
            Some(task) => {
                task.since = now;
                task.running = true;
            }
            None => {
                let task = TaskStatus { since: now, running: true, restarts: 0, last_error: None };
                board.tasks.insert(name.to_string(), task);
            }
        }
    }

    /// A task panicked or failed; it is started again later.
    pub fn task_failed(&self, name: &str, error: &str, now: Timestamp) {
        let mut board = self.lock();
        let restarts = board.tasks.get(name).map_or(0, |task| task.restarts) + 1;
        let task = TaskStatus { since: now, running: false, restarts, last_error: Some(error.to_string()) };
        board.tasks.insert(name.to_string(), task);
    }

    /// A task ended for good.
    pub fn task_ended(&self, name: &str) {
        self.lock().tasks.remove(name);
    }

    pub fn reloaded(&self, outcome: Result<(), String>, now: Timestamp) {
        self.lock().last_reload = Some((now, outcome));
    }

    pub(super) fn snapshot(&self) -> Board {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
