//! Maintenance announced by a person through the API: kept on record for ever, with author and reason.

use super::error::{MAX_REASON, MAX_SUBJECTS};
use super::track::{Piece, Verdict};
use super::{AttributionError, Cause, Ledger, State};
use crate::store::{Doing, StoreError, from_micros, micros};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::any::AnyRow;
use std::collections::HashSet;
use std::sync::Arc;

/// How long after their end windows are taken up again at a start: longer than any cause can be open to change.
const RECENT_US: i64 = 30 * 86_400 * 1_000_000;

/// What a window is about. At least one list is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    pub services: Vec<String>,
    pub devices: Vec<String>,
    pub sites: Vec<String>,
    /// Their own subjects only, not those of agencies below them.
    pub agencies: Vec<String>,
    /// And everything that needs them.
    pub dependencies: Vec<String>,
}

/// A window to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMaintenance {
    pub scope: Scope,
    /// May lie in the past: what is recorded already is then attributed anew.
    pub from: Timestamp,
    /// Exclusive; after `from`.
    pub to: Timestamp,
    pub reason: String,
    /// Who announces it.
    pub author: String,
}

/// A window as it is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Maintenance {
    /// `None` for windows of the configuration file.
    pub id: Option<i64>,
    #[serde(flatten)]
    pub scope: Scope,
    pub from: Timestamp,
    /// Exclusive, as announced.
    pub to: Timestamp,
    pub reason: String,
    /// Empty for windows of the configuration file.
    pub author: String,
    pub created: Option<Timestamp>,
    pub cancelled: Option<Timestamp>,
    pub cancelled_by: Option<String>,
}

/// A window as it is in force.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// `None` for windows of the configuration file.
    pub id: Option<i64>,
    pub services: HashSet<String>,
    pub devices: HashSet<String>,
    pub sites: HashSet<String>,
    pub agencies: HashSet<String>,
    pub dependencies: HashSet<String>,
    pub from_us: i64,
    /// Exclusive; for a cancelled window when it was cancelled.
    pub to_us: i64,
    pub reason: Arc<str>,
}

impl Scope {
    fn len(&self) -> usize {
        [&self.services, &self.devices, &self.sites, &self.agencies, &self.dependencies].map(Vec::len).iter().sum()
    }
}

impl Window {
    pub fn new(id: Option<i64>, scope: &Scope, from_us: i64, to_us: i64, reason: &str) -> Window {
        let set = |ids: &[String]| ids.iter().cloned().collect();
        Window {
            id,
            services: set(&scope.services),
            devices: set(&scope.devices),
            sites: set(&scope.sites),
            agencies: set(&scope.agencies),
            dependencies: set(&scope.dependencies),
            from_us,
            to_us,
            reason: reason.into(),
        }
    }

    fn scope(&self) -> Scope {
        let list = |ids: &HashSet<String>| {
            let mut ids: Vec<String> = ids.iter().cloned().collect();
            ids.sort();
            ids
        };
        Scope {
            services: list(&self.services),
            devices: list(&self.devices),
            sites: list(&self.sites),
            agencies: list(&self.agencies),
            dependencies: list(&self.dependencies),
        }
    }

    fn on_record(&self) -> Maintenance {
        Maintenance {
            id: self.id,
            scope: self.scope(),
            from: from_micros(self.from_us),
            to: from_micros(self.to_us),
            reason: self.reason.to_string(),
            author: String::new(),
            created: None,
            cancelled: None,
            cancelled_by: None,
        }
    }

    /// The downtime of `pieces` in the window becomes maintenance. What lies ahead is left to time: a window that is not
    /// over takes all that lasts.
    pub(super) fn overlay(&self, pieces: &[Piece], now_us: i64) -> Vec<Piece> {
        let end_us = if self.to_us > now_us { i64::MAX } else { self.to_us };
        let mut laid = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let until_us = piece.until_us.unwrap_or(i64::MAX);
            let (from_us, to_us) = (piece.from_us.max(self.from_us), until_us.min(end_us));
            let is_open = piece.verdict.sight.state == State::Down && piece.verdict.cause != Cause::Maintenance;
            if !is_open || from_us >= to_us || from_us > now_us {
                laid.push(piece.clone());
                continue;
            }
            let part = |from_us, until_us: i64| Piece {
                from_us,
                until_us: (until_us < i64::MAX).then_some(until_us),
                ..piece.clone()
            };
            if piece.from_us < from_us {
                laid.push(part(piece.from_us, from_us));
            }
            let sight = piece.verdict.sight.clone();
            let verdict = Verdict { sight, cause: Cause::Maintenance, by: self.reason.clone() };
            laid.push(Piece { verdict: Arc::new(verdict), ..part(from_us, to_us) });
            if to_us < until_us {
                laid.push(part(to_us, until_us));
            }
        }
        laid
    }
}

impl Ledger {
    /// Announces maintenance; in force at once. Of what is recorded already the downtime in the window becomes
    /// maintenance too. Returns its number.
    pub async fn add_maintenance(&self, new: NewMaintenance, now: Timestamp) -> Result<i64, AttributionError> {
        const DOING: &str = "announcing maintenance";
        let reason = new.reason.trim();
        if new.to <= new.from {
            return Err(AttributionError::EmptyRange);
        }
        if reason.is_empty() || reason.chars().count() > MAX_REASON {
            return Err(AttributionError::Reason);
        }
        match new.scope.len() {
            0 => return Err(AttributionError::NoSubjects),
            1..=MAX_SUBJECTS => {}
            _ => return Err(AttributionError::TooManySubjects),
        }
        if let Some(unknown) = self.lock().unknown_in(&new.scope) {
            return Err(AttributionError::UnknownSubject(unknown.clone()));
        }
        let turn = self.take_turn().await;
        self.flush_in(&turn).await?;
        let scope = serde_json::to_string(&new.scope).unwrap_or_default();
        let mut tx = self.store().begin().await?;
        let id: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) + 1 FROM maintenance")
            .fetch_one(&mut *tx)
            .await
            .doing(DOING)?;
        sqlx::query(
            "INSERT INTO maintenance (id, scope, from_us, to_us, reason, author, created_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id)
        .bind(scope)
        .bind(micros(new.from))
        .bind(micros(new.to))
        .bind(reason)
        .bind(&new.author)
        .bind(micros(now))
        .execute(&mut *tx)
        .await
        .doing(DOING)?;
        let window = Window::new(Some(id), &new.scope, micros(new.from), micros(new.to), reason);
        self.overlay_recorded(&mut tx, &window, micros(now)).await?;
        tx.commit().await?;
        self.announce(window, micros(now));
        Ok(id)
    }

    /// The windows that touch `[from, to)`, of the file and of the API, by their beginning.
    pub async fn maintenance(&self, from: Timestamp, to: Timestamp) -> Result<Vec<Maintenance>, StoreError> {
        const DOING: &str = "reading the maintenance windows";
        let rows = sqlx::query(
            "SELECT id, scope, from_us, to_us, reason, author, created_us, cancelled_us, cancelled_by \
             FROM maintenance WHERE from_us < $1 AND to_us > $2 ORDER BY from_us, id",
        )
        .bind(micros(to))
        .bind(micros(from))
        .fetch_all(self.store().reader())
        .await
        .doing(DOING)?;
        let mut windows = rows.iter().map(read).collect::<Result<Vec<Maintenance>, _>>().doing(DOING)?;
        let touches = |window: &Maintenance| window.from < to && window.to > from;
        windows.extend(self.lock().graph.windows.iter().map(Window::on_record).filter(touches));
        windows.sort_by_key(|window| window.from);
        Ok(windows)
    }

    /// Ends a window at `now`; what passed of it stays maintenance, and it stays on record.
    pub async fn cancel_maintenance(&self, id: i64, who: &str, now: Timestamp) -> Result<(), AttributionError> {
        const DOING: &str = "cancelling maintenance";
        let turn = self.take_turn().await;
        self.flush_in(&turn).await?;
        let mut tx = self.store().begin().await?;
        let found = sqlx::query("SELECT to_us, cancelled_us FROM maintenance WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .doing(DOING)?
            .ok_or(AttributionError::NotFound(id))?;
        let to_us: i64 = found.try_get("to_us").doing(DOING)?;
        let cancelled_us: Option<i64> = found.try_get("cancelled_us").doing(DOING)?;
        if cancelled_us.is_some() || to_us <= micros(now) {
            return Err(AttributionError::Ended(id));
        }
        sqlx::query("UPDATE maintenance SET cancelled_us = $1, cancelled_by = $2 WHERE id = $3")
            .bind(micros(now))
            .bind(who)
            .bind(id)
            .execute(&mut *tx)
            .await
            .doing(DOING)?;
        tx.commit().await?;
        let mut book = self.lock();
        book.now_us = book.now_us.max(micros(now));
        for window in book.announced.iter_mut().filter(|window| window.id == Some(id)) {
            window.to_us = micros(now).max(window.from_us);
        }
        book.announced.retain(|window| window.to_us > window.from_us);
        book.widen();
        Ok(())
    }

    /// The windows of the API that may still matter at `now_us`.
    pub(super) async fn announced(&self, now_us: i64) -> Result<Vec<Window>, StoreError> {
        const DOING: &str = "taking up the maintenance windows";
        let rows = sqlx::query(
            "SELECT id, scope, from_us, to_us, reason, author, created_us, cancelled_us, cancelled_by \
             FROM maintenance WHERE to_us > $1 ORDER BY id",
        )
        .bind(now_us.saturating_sub(RECENT_US))
        .fetch_all(self.store().reader())
        .await
        .doing(DOING)?;
        let windows = rows.iter().map(read).collect::<Result<Vec<Maintenance>, _>>().doing(DOING)?;
        let in_force = windows.iter().map(|window| {
            let to = window.cancelled.map_or(window.to, |cancelled| cancelled.min(window.to));
            Window::new(window.id, &window.scope, micros(window.from), micros(to), &window.reason)
        });
        Ok(in_force.filter(|window| window.from_us < window.to_us).collect())
    }
}

fn read(row: &AnyRow) -> Result<Maintenance, sqlx::Error> {
    let scope: String = row.try_get("scope")?;
    Ok(Maintenance {
        id: Some(row.try_get("id")?),
        // A damaged row is about nothing; it is still shown.
        scope: serde_json::from_str(&scope).unwrap_or_default(),
        from: from_micros(row.try_get("from_us")?),
        to: from_micros(row.try_get("to_us")?),
        reason: row.try_get("reason")?,
        author: row.try_get("author")?,
        created: Some(from_micros(row.try_get("created_us")?)),
        cancelled: row.try_get::<Option<i64>, _>("cancelled_us")?.map(from_micros),
        cancelled_by: row.try_get("cancelled_by")?,
    })
}
