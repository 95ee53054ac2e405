//! Keeps the current interval of every subject in memory and its changes in the state database.

use super::{Excuse, Graph, State, Subject, SubjectKind};
use crate::store::{Doing, Store, StoreError, from_micros, micros};
use jiff::Timestamp;
use sqlx::Row;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One stretch of time in which a subject was in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    pub subject: Subject,
    pub agency: String,
    pub from: Timestamp,
    /// Exclusive; `None` while it lasts.
    pub until: Option<Timestamp>,
    pub state: State,
    pub cause: String,
    pub reason: String,
}

/// A handle on the ledger; cheap to clone. [`Ledger::observe`] never waits; [`Ledger::flush`] writes.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    current: HashMap<Subject, Current>,
    /// Changes not yet in the database, oldest first.
    pending: Vec<Change>,
}

#[derive(Clone)]
struct Current {
    from_us: i64,
    state: State,
    agency: String,
}

/// The open interval of `subject` ends at `at_us`; `next` begins there, if anything does.
struct Change {
    subject: Subject,
    at_us: i64,
    next: Option<Next>,
}

struct Next {
    agency: String,
    state: State,
    reason: String,
}

impl Ledger {
    /// A handle that only reads, beside a daemon that may be running: it takes nothing up and closes nothing.
    pub fn reader(store: Store) -> Ledger {
        Ledger { store, shared: Arc::default() }
    }

    /// Takes up the ledger where the last run left it: what happened since its last [`Ledger::heartbeat`] is unknown.
    pub async fn resume(store: Store) -> Result<Ledger, StoreError> {
        const DOING: &str = "resuming the attribution ledger";
        let mut tx = store.begin().await?;
        let alive: Option<i64> = sqlx::query_scalar("SELECT alive_us FROM daemon_heartbeat WHERE id = 1")
            .fetch_optional(&mut *tx)
            .await
            .doing(DOING)?;
        let open = sqlx::query(
            "SELECT subject_kind, subject, agency, from_us, state FROM ledger_intervals WHERE until_us IS NULL",
        )
        .fetch_all(&mut *tx)
        .await
        .doing(DOING)?;
        let mut shared = Shared::default();
        for row in open {
            let kind: String = row.try_get("subject_kind").doing(DOING)?;
            let state: String = row.try_get("state").doing(DOING)?;
            let (Some(kind), Some(state)) = (SubjectKind::parse(&kind), State::parse(&state)) else { continue };
            let subject = Subject { kind, id: row.try_get("subject").doing(DOING)? };
            let agency: String = row.try_get("agency").doing(DOING)?;
            let from_us: i64 = row.try_get("from_us").doing(DOING)?;
            shared.current.insert(subject.clone(), Current { from_us, state, agency: agency.clone() });
            if state != State::Unknown {
                let at_us = alive.unwrap_or(from_us).max(from_us + 1);
                shared.change(subject, at_us, Some((agency, State::Unknown, "ioc-watch was not running".into())));
            }
        }
        tx.commit().await?;
        let ledger = Ledger { store, shared: Arc::new(Mutex::new(shared)) };
        ledger.flush().await?;
        Ok(ledger)
    }

    /// Notes that `subject` was seen in `state` at `at`. Costs nothing when that is what it was before.
    pub fn observe(&self, subject: &Subject, agency: &str, state: State, at: Timestamp, reason: &str) {
        let mut shared = self.lock();
        let at_us = match shared.current.get(subject) {
            Some(current) if current.state == state && current.agency == agency => return,
            // A clock that went back must not turn an interval around.
            Some(current) => micros(at).max(current.from_us + 1),
            None => micros(at),
        };
        shared.change(subject.clone(), at_us, Some((agency.to_string(), state, reason.to_string())));
    }

    /// Ends the intervals of subjects that `keep` refuses: they were removed from the configuration.
    pub fn retain(&self, at: Timestamp, keep: impl Fn(&Subject) -> bool) {
        let mut shared = self.lock();
        let gone: Vec<(Subject, i64)> = shared
            .current
            .iter()
            .filter(|(subject, _)| !keep(subject))
            .map(|(subject, current)| (subject.clone(), micros(at).max(current.from_us + 1)))
            .collect();
        for (subject, at_us) in gone {
            shared.change(subject, at_us, None);
        }
    }

    /// Since when `subject` has been in which state.
    pub fn current(&self, subject: &Subject) -> Option<(State, Timestamp)> {
        self.lock().current.get(subject).map(|current| (current.state, from_micros(current.from_us)))
    }

    /// Takes a new graph into use: at start and at every reload.
    pub fn set_graph(&self, _graph: Graph) {}

    /// Settles causes as time passes: set-backs, tails, the beginning and end of maintenance. Called at every tick of the
    /// history.
    pub fn tick(&self, _now: Timestamp) {}

    /// Why `subject` is not to blame for what is wrong with it at `now`; `None` when it is.
    pub fn excuse(&self, _subject: &Subject, _now: Timestamp) -> Option<Excuse> {
        None
    }

    /// Why nobody at a site is to blame at `now`: what the site needs is down, or it is maintained.
    pub fn excuse_for_site(&self, _site: &str, _now: Timestamp) -> Option<Excuse> {
        None
    }

    /// Every subject that is excused at `now`, with its agency.
    pub fn excuses(&self, _now: Timestamp) -> Vec<(Subject, String, Excuse)> {
        Vec::new()
    }

    /// Another number whenever an excuse may have changed, as of the last [`Ledger::tick`].
    pub fn excuses_version(&self) -> u64 {
        0
    }

    /// Writes what was observed since the last flush. On an error nothing is lost: the next flush writes it.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let pending = std::mem::take(&mut self.lock().pending);
        if pending.is_empty() {
            return Ok(());
        }
        let written = self.write(&pending).await;
        if written.is_err() {
            let mut shared = self.lock();
            let newer = std::mem::replace(&mut shared.pending, pending);
            shared.pending.extend(newer);
        }
        written
    }

    /// Notes in the database that the daemon is alive, so that the next start knows since when it was not.
    pub async fn heartbeat(&self, now: Timestamp) -> Result<(), StoreError> {
        self.flush().await?;
        let mut tx = self.store.begin().await?;
        sqlx::query(
            "INSERT INTO daemon_heartbeat (id, alive_us) VALUES (1, $1) \
             ON CONFLICT (id) DO UPDATE SET alive_us = excluded.alive_us",
        )
        .bind(micros(now))
        .execute(&mut *tx)
        .await
        .doing("writing the heartbeat")?;
        tx.commit().await
    }

    /// The intervals of `kind` that touch `[from, to)`, by subject and time.
    pub async fn intervals(
        &self,
        kind: SubjectKind,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Interval>, StoreError> {
        const DOING: &str = "reading the attribution ledger";
        self.flush().await?;
        let rows = sqlx::query(
            "SELECT subject, agency, from_us, until_us, state, cause, reason FROM ledger_intervals \
             WHERE subject_kind = $1 AND from_us < $2 AND (until_us IS NULL OR until_us > $3) \
             ORDER BY subject, from_us",
        )
        .bind(kind.as_str())
        .bind(micros(to))
        .bind(micros(from))
        .fetch_all(self.store.reader())
        .await
        .doing(DOING)?;
        rows.iter()
            .map(|row| {
                let state: String = row.try_get("state")?;
                Ok(Interval {
                    subject: Subject { kind, id: row.try_get("subject")? },
                    agency: row.try_get("agency")?,
                    from: from_micros(row.try_get("from_us")?),
                    until: row.try_get::<Option<i64>, _>("until_us")?.map(from_micros),
                    state: State::parse(&state).unwrap_or(State::Unknown),
                    cause: row.try_get("cause")?,
                    reason: row.try_get("reason")?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .doing(DOING)
    }

    async fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        const DOING: &str = "writing the attribution ledger";
        let mut tx = self.store.begin().await?;
        for change in changes {
            sqlx::query(
                "UPDATE ledger_intervals SET until_us = $1 WHERE subject_kind = $2 AND subject = $3 AND until_us IS NULL",
            )
            .bind(change.at_us)
            .bind(change.subject.kind.as_str())
            .bind(&change.subject.id)
            .execute(&mut *tx)
            .await
            .doing(DOING)?;
            let Some(next) = &change.next else { continue };
            sqlx::query(
                "INSERT INTO ledger_intervals \
                 (subject_kind, subject, agency, from_us, until_us, state, cause, origin, reason) \
                 VALUES ($1, $2, $3, $4, NULL, $5, $6, 'auto', $7)",
            )
            .bind(change.subject.kind.as_str())
            .bind(&change.subject.id)
            .bind(&next.agency)
            .bind(change.at_us)
            .bind(next.state.as_str())
            .bind(if next.state == State::Unknown { "unknown" } else { "own" })
            .bind(&next.reason)
            .execute(&mut *tx)
            .await
            .doing(DOING)?;
        }
        tx.commit().await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        // A panic elsewhere cannot leave a half-made change behind: each is one push and one insert.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn change(&mut self, subject: Subject, at_us: i64, next: Option<(String, State, String)>) {
        match next {
            Some((agency, state, reason)) => {
                let current = Current { from_us: at_us, state, agency: agency.clone() };
                self.current.insert(subject.clone(), current);
                self.pending.push(Change { subject, at_us, next: Some(Next { agency, state, reason }) });
            }
            None => {
                self.current.remove(&subject);
                self.pending.push(Change { subject, at_us, next: None });
            }
        }
    }
}
