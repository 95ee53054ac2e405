//! The durable outbox: rows of the table `outbox`. All of its statements stand here.

use super::message::{About, Outgoing};
use crate::metrics::Metrics;
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use jiff::{SignedDuration, Timestamp};
use sqlx::Row;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::Notify;

/// How long mails that were sent or given up are kept.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A handle on the outbox; cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
}

struct Shared {
    next_id: AtomicI64,
    written: Notify,
    failed: Notify,
}

/// A mail that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub id: i64,
    pub mail: Outgoing,
    pub created: Timestamp,
    /// Deliveries tried.
    pub attempts: i64,
}

impl Outbox {
    /// Takes up the outbox where the last run left it.
    pub async fn open(store: Store, metrics: Arc<Metrics>) -> Result<Outbox, StoreError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT MAX(id) FROM outbox")
            .fetch_one(store.reader())
            .await
            .doing("opening the outbox")?;
        let shared =
            Shared { next_id: AtomicI64::new(last.unwrap_or(0) + 1), written: Notify::new(), failed: Notify::new() };
        let outbox = Outbox { store, metrics, shared: Arc::new(shared) };
        outbox.measure().await?;
        Ok(outbox)
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Writes mails as part of `tx`. After its commit, call [`Outbox::wake`].
    pub async fn enqueue(&self, tx: &mut Tx, mails: &[Outgoing], now: Timestamp) -> Result<(), StoreError> {
        for mail in mails {
            sqlx::query(
                "INSERT INTO outbox (id, thread, person, sender, recipient, message_id, message, created_us, next_us, \
                 attempts, agency, incident) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, 0, $9, $10)",
            )
            .bind(self.shared.next_id.fetch_add(1, Ordering::Relaxed))
            .bind(&mail.thread)
            .bind(&mail.person)
            .bind(&mail.sender)
            .bind(&mail.recipient)
            .bind(&mail.message_id)
            .bind(&mail.message)
            .bind(micros(now))
            .bind(&mail.about.agency)
            .bind(mail.about.incident)
            .execute(&mut **tx)
            .await
            .doing("writing mails to the outbox")?;
        }
        Ok(())
    }

    /// Tells the sender that mails were committed.
    pub fn wake(&self) {
        self.shared.written.notify_one();
    }

    /// Waits for [`Outbox::wake`].
    pub(super) async fn written(&self) {
        self.shared.written.notified().await;
    }

    /// Tells whoever waits in [`Outbox::failed`] that a mail can never arrive.
    pub(super) fn wake_failed(&self) {
        self.shared.failed.notify_one();
    }

    /// Waits until a mail failed for good; see [`Outbox::failures`]. One waits for all.
    pub async fn failed(&self) {
        self.shared.failed.notified().await;
    }

    /// Mails whose time has come, oldest first; of each thread only the first, so that its order is kept.
    pub async fn due(&self, now: Timestamp, limit: i64) -> Result<Vec<Waiting>, StoreError> {
        const DOING: &str = "reading the outbox";
        let rows = sqlx::query(
            "SELECT id, thread, person, sender, recipient, message_id, message, created_us, attempts, agency, incident \
             FROM outbox \
             WHERE sent_us IS NULL AND gave_up_us IS NULL AND next_us <= $1 AND NOT EXISTS ( \
                SELECT 1 FROM outbox earlier WHERE earlier.thread = outbox.thread AND earlier.id < outbox.id \
                AND earlier.sent_us IS NULL AND earlier.gave_up_us IS NULL) \
             ORDER BY id LIMIT $2",
        )
        .bind(micros(now))
        .bind(limit)
        .fetch_all(self.store.reader())
        .await
        .doing(DOING)?;
        rows.iter()
            .map(|row| {
                let mail = Outgoing {
                    thread: row.try_get("thread")?,
                    person: row.try_get("person")?,
                    sender: row.try_get("sender")?,
                    recipient: row.try_get("recipient")?,
                    message_id: row.try_get("message_id")?,
                    message: row.try_get("message")?,
                    about: About { agency: row.try_get("agency")?, incident: row.try_get("incident")? },
                };
                let created = from_micros(row.try_get("created_us")?);
                Ok(Waiting { id: row.try_get("id")?, mail, created, attempts: row.try_get("attempts")? })
            })
            .collect::<Result<_, sqlx::Error>>()
            .doing(DOING)
    }

    /// An error unless this daemon still leads, so that what was read from the outbox may be sent. Whoever leads next
    /// repeats at most the mail that passed here and was not noted as sent.
    pub(super) async fn ensure_lead(&self) -> Result<(), StoreError> {
        if self.store.leads().await? { Ok(()) } else { Err(StoreError::Deposed) }
    }

    /// When the next waiting mail may be tried; `None` if none waits.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let next: Option<i64> =
            sqlx::query_scalar("SELECT MIN(next_us) FROM outbox WHERE sent_us IS NULL AND gave_up_us IS NULL")
                .fetch_one(self.store.reader())
                .await
                .doing("reading when the next mail is due")?;
        Ok(next.map(from_micros))
    }

    /// Notes that the server has taken it.
    pub async fn sent(&self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        self.change(
            sqlx::query("UPDATE outbox SET sent_us = $1, attempts = attempts + 1 WHERE id = $2")
                .bind(micros(now))
                .bind(id),
            "noting a mail as sent",
        )
        .await
    }

    /// Notes a try that failed, and when to try again.
    pub async fn retry(&self, id: i64, next: Timestamp, error: &str) -> Result<(), StoreError> {
        self.change(
            sqlx::query(
                "UPDATE outbox SET next_us = $1, attempts = attempts + 1, last_error = $2 WHERE id = $3 AND \
                 sent_us IS NULL",
            )
            .bind(micros(next))
            .bind(error.to_string())
            .bind(id),
            "noting when to try a mail again",
        )
        .await
    }

    /// Lets everything that waits be tried now: the server has come back.
    pub async fn retry_all(&self, now: Timestamp) -> Result<(), StoreError> {
        self.retry_after(now, now).await
    }

    /// Lets what would be tried after `limit` be tried now.
    pub async fn retry_after(&self, limit: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        self.change(
            sqlx::query("UPDATE outbox SET next_us = $1 WHERE sent_us IS NULL AND gave_up_us IS NULL AND next_us > $2")
                .bind(micros(now))
                .bind(micros(limit)),
            "letting waiting mails be tried",
        )
        .await
    }

    /// Gives a mail up; it stays in the table with the reason, and is a [`Failure`](super::Failure).
    pub async fn give_up(&self, id: i64, now: Timestamp, error: &str) -> Result<(), StoreError> {
        self.change(
            sqlx::query(
                "UPDATE outbox SET gave_up_us = $1, attempts = attempts + 1, last_error = $2 WHERE id = $3 AND \
                 sent_us IS NULL",
            )
            .bind(micros(now))
            .bind(error.to_string())
            .bind(id),
            "giving a mail up",
        )
        .await?;
        self.wake_failed();
        Ok(())
    }

    /// Removes mails that were sent or given up long ago.
    pub async fn prune(&self, now: Timestamp) -> Result<(), StoreError> {
        let before = micros(now.saturating_sub(KEPT).unwrap_or(Timestamp::MIN));
        self.change(
            sqlx::query("DELETE FROM outbox WHERE sent_us < $1 OR gave_up_us < $1").bind(before),
            "removing old mails from the outbox",
        )
        .await
    }

    /// Brings the metrics up to date.
    pub async fn measure(&self) -> Result<(), StoreError> {
        const DOING: &str = "counting waiting mails";
        let row = sqlx::query(
            "SELECT COUNT(*) AS n, MIN(created_us) AS oldest FROM outbox \
             WHERE sent_us IS NULL AND gave_up_us IS NULL",
        )
        .fetch_one(self.store.reader())
        .await
        .doing(DOING)?;
        let oldest: Option<i64> = row.try_get("oldest").doing(DOING)?;
        self.metrics.own.outbox_depth.set(row.try_get("n").doing(DOING)?);
        self.metrics.own.outbox_oldest.set(oldest.map_or(0.0, |us| us as f64 / 1e6));
        Ok(())
    }

    pub(super) async fn change(
        &self,
        query: sqlx::query::Query<'_, sqlx::Any, sqlx::any::AnyArguments>,
        doing: &'static str,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        query.execute(&mut *tx).await.doing(doing)?;
        tx.commit().await
    }
}
