//! The durable outbox: rows of the table `outbox`, their texts in `outbox_messages`. All of their statements stand here.

use super::message::{About, Outgoing};
use super::webhook::Call;
use crate::config::email::Limit;
use crate::metrics::Metrics;
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros, placeholder_rows, rows_at_once};
use jiff::{SignedDuration, Timestamp};
use sqlx::{AssertSqlSafe, Row};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

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
    /// As the configuration in use says.
    limit: Mutex<Option<Limit>>,
    held: Notify,
    /// Messages to webhooks were committed.
    called: Notify,
    written: Notify,
    failed: Notify,
}

/// By which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel<'a> {
    Mail,
    /// To the webhook of this id.
    Webhook(&'a str),
}

impl<'a> Channel<'a> {
    /// As the table calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Channel::Mail => "mail",
            Channel::Webhook(_) => "webhook",
        }
    }

    /// The person of its rows, if they are all one's: a webhook's id.
    fn person(self) -> Option<&'a str> {
        match self {
            Channel::Mail => None,
            Channel::Webhook(id) => Some(id),
        }
    }
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
        const DOING: &str = "opening the outbox";
        let last: Option<i64> =
            sqlx::query_scalar("SELECT MAX(id) FROM outbox").fetch_one(store.reader()).await.doing(DOING)?;
        let last_held: Option<i64> =
            sqlx::query_scalar("SELECT MAX(id) FROM outbox_held").fetch_one(store.reader()).await.doing(DOING)?;
        let shared = Shared {
            next_id: AtomicI64::new(last.max(last_held).unwrap_or(0) + 1),
            limit: Mutex::default(),
            held: Notify::new(),
            called: Notify::new(),
            written: Notify::new(),
            failed: Notify::new(),
        };
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

    /// How many mails about incidents a person gets from now on.
    pub fn set_limit(&self, limit: Option<Limit>) {
        *self.shared.limit.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }

    pub(super) fn limit(&self) -> Option<Limit> {
        *self.shared.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_id(&self) -> i64 {
        self.shared.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes mails as part of `tx`; some are held for a summary, see [`super::summary`]. After its commit, call
    /// [`Outbox::wake`].
    pub async fn enqueue(&self, tx: &mut Tx, mails: &[Outgoing], now: Timestamp) -> Result<(), StoreError> {
        let mut going = Vec::new();
        for mail in mails {
            let id = self.next_id();
            match (self.hold(tx, mail, now).await?, &mail.brief) {
                (Some(hold), Some(brief)) => self.write_held(tx, id, mail, brief, hold, now).await?,
                _ => going.push((id, mail)),
            }
        }
        self.write(tx, &going, now).await
    }

    /// Writes mails that wait for the server, each with its number.
    pub(super) async fn write(
        &self,
        tx: &mut Tx,
        mails: &[(i64, &Outgoing)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const COLUMNS: usize = 11;
        for mails in mails.chunks(rows_at_once(COLUMNS)) {
            let sql = format!(
                "INSERT INTO outbox (id, thread, person, sender, recipient, message_id, created_us, next_us, \
                 attempts, agency, incident) VALUES {}",
                placeholder_rows(mails.len(), COLUMNS)
            );
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for (id, mail) in mails {
                query = query.bind(*id).bind(&mail.thread).bind(&mail.person).bind(&mail.sender);
                query = query.bind(&mail.recipient).bind(&mail.message_id);
                query = query.bind(micros(now)).bind(micros(now)).bind(0_i64);
                query = query.bind(&mail.about.agency).bind(mail.about.incident);
            }
            query.execute(&mut **tx).await.doing("writing mails to the outbox")?;
        }
        let messages: Vec<(i64, &str)> = mails.iter().map(|(id, mail)| (*id, mail.message.as_str())).collect();
        write_messages(tx, &messages).await
    }

    /// Writes messages to webhooks as part of `tx`. After its commit, call [`Outbox::wake`].
    pub async fn enqueue_calls(&self, tx: &mut Tx, calls: &[Call], now: Timestamp) -> Result<(), StoreError> {
        let mut messages = Vec::with_capacity(calls.len());
        for call in calls {
            let id = self.next_id();
            messages.push((id, call.body.as_str()));
            sqlx::query(
                "INSERT INTO outbox (id, channel, thread, person, sender, recipient, message_id, created_us, \
                 next_us, attempts, agency, incident) VALUES ($1, 'webhook', $2, $3, '', '', $4, $5, $5, 0, $6, $7)",
            )
            .bind(id)
            .bind(&call.thread)
            .bind(&call.webhook)
            .bind(&call.id)
            .bind(micros(now))
            .bind(&call.about.agency)
            .bind(call.about.incident)
            .execute(&mut **tx)
            .await
            .doing("writing messages to webhooks")?;
        }
        write_messages(tx, &messages).await
    }

    /// Tells the senders that messages were committed.
    pub fn wake(&self) {
        self.shared.written.notify_one();
        self.shared.held.notify_one();
        self.shared.called.notify_waiters();
    }

    /// Waits for [`Outbox::wake`], from the moment of this call on; every sender to a webhook does.
    pub(super) fn called(&self) -> Notified<'_> {
        self.shared.called.notified()
    }

    /// Waits until mails were held perhaps.
    pub(super) async fn held(&self) {
        self.shared.held.notified().await;
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
        self.due_on(Channel::Mail, now, limit, &[]).await
    }

    /// [`Outbox::due`] of any way, without those that are `under_way`.
    pub async fn due_on(
        &self,
        channel: Channel<'_>,
        now: Timestamp,
        limit: i64,
        under_way: &[i64],
    ) -> Result<Vec<Waiting>, StoreError> {
        const DOING: &str = "reading the outbox";
        let others =
            if under_way.is_empty() { String::new() } else { format!("AND id NOT IN ({})", numbers(under_way)) };
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT id, thread, person, sender, recipient, message_id, message, created_us, attempts, agency, incident \
             FROM outbox JOIN outbox_messages USING (id) \
             WHERE sent_us IS NULL AND gave_up_us IS NULL AND next_us <= $1 AND channel = $3 \
             AND person = COALESCE($4, person) AND NOT EXISTS ( \
                SELECT 1 FROM outbox earlier WHERE earlier.thread = outbox.thread AND earlier.id < outbox.id \
                AND earlier.sent_us IS NULL AND earlier.gave_up_us IS NULL) {others} \
             ORDER BY id LIMIT $2"
        )))
        .bind(micros(now))
        .bind(limit)
        .bind(channel.as_str())
        .bind(channel.person())
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
                    brief: None,
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
        self.next_due_on(Channel::Mail).await
    }

    /// [`Outbox::next_due`] of any way.
    pub async fn next_due_on(&self, channel: Channel<'_>) -> Result<Option<Timestamp>, StoreError> {
        let next: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(next_us) FROM outbox WHERE sent_us IS NULL AND gave_up_us IS NULL AND channel = $1 \
             AND person = COALESCE($2, person)",
        )
        .bind(channel.as_str())
        .bind(channel.person())
        .fetch_one(self.store.reader())
        .await
        .doing("reading when the next mail is due")?;
        Ok(next.map(from_micros))
    }

    /// Notes that the server has taken them.
    pub async fn sent(&self, ids: &[i64], now: Timestamp) -> Result<(), StoreError> {
        const DOING: &str = "noting mails as sent";
        if let [id] = ids {
            let one = sqlx::query("UPDATE outbox SET sent_us = $1, attempts = attempts + 1 WHERE id = $2");
            return self.change(one.bind(micros(now)).bind(*id), DOING).await;
        }
        let sql = format!("UPDATE outbox SET sent_us = $1, attempts = attempts + 1 WHERE id IN ({})", numbers(ids));
        self.change(sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(micros(now)), DOING).await
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
        self.retry_after_on(Channel::Mail, now, now).await
    }

    /// Lets what would be tried after `limit` be tried now, of any way.
    pub async fn retry_after_on(
        &self,
        channel: Channel<'_>,
        limit: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.change(
            sqlx::query(
                "UPDATE outbox SET next_us = $1 WHERE sent_us IS NULL AND gave_up_us IS NULL AND next_us > $2 \
                 AND channel = $3 AND person = COALESCE($4, person)",
            )
            .bind(micros(now))
            .bind(micros(limit))
            .bind(channel.as_str().to_owned())
            .bind(channel.person().map(str::to_owned)),
            "letting waiting mails be tried",
        )
        .await
    }

    /// Gives up what waits for webhooks other than these.
    pub async fn give_up_others(&self, webhooks: &[&str], now: Timestamp, error: &str) -> Result<(), StoreError> {
        const DOING: &str = "reading which webhooks messages wait for";
        let waiting: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT person FROM outbox WHERE channel = 'webhook' AND sent_us IS NULL AND gave_up_us IS NULL",
        )
        .fetch_all(self.store.reader())
        .await
        .doing(DOING)?;
        for webhook in waiting.into_iter().filter(|webhook| !webhooks.contains(&webhook.as_str())) {
            tracing::error!(webhook, "messages to a webhook were given up: {error}");
            self.change(
                sqlx::query(
                    "UPDATE outbox SET gave_up_us = $1, last_error = $2 WHERE channel = 'webhook' AND person = $3 \
                     AND sent_us IS NULL AND gave_up_us IS NULL",
                )
                .bind(micros(now))
                .bind(error.to_owned())
                .bind(webhook),
                "giving up messages to a webhook",
            )
            .await?;
            self.wake_failed();
        }
        Ok(())
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
            sqlx::query(
                "DELETE FROM outbox_messages WHERE id IN (SELECT id FROM outbox WHERE sent_us < $1 OR gave_up_us < $1)",
            )
            .bind(before),
            "removing old messages from the outbox",
        )
        .await?;
        self.change(
            sqlx::query("DELETE FROM outbox WHERE sent_us < $1 OR gave_up_us < $1").bind(before),
            "removing old mails from the outbox",
        )
        .await?;
        self.change(
            sqlx::query(
                "DELETE FROM outbox_held WHERE summary IS NOT NULL AND created_us < $1 \
                 AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = outbox_held.summary)",
            )
            .bind(before),
            "removing what old summaries told",
        )
        .await
    }

    /// Brings the metrics up to date.
    pub async fn measure(&self) -> Result<(), StoreError> {
        const DOING: &str = "counting waiting mails";
        let row = sqlx::query(
            "SELECT COUNT(*) AS n, MIN(created_us) AS oldest FROM outbox \
             WHERE sent_us IS NULL AND gave_up_us IS NULL AND channel = 'mail'",
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

/// Each with the number of its row.
async fn write_messages(tx: &mut Tx, messages: &[(i64, &str)]) -> Result<(), StoreError> {
    for messages in messages.chunks(rows_at_once(2)) {
        let sql = format!("INSERT INTO outbox_messages (id, message) VALUES {}", placeholder_rows(messages.len(), 2));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (id, message) in messages {
            query = query.bind(*id).bind(*message);
        }
        query.execute(&mut **tx).await.doing("writing the texts of messages")?;
    }
    Ok(())
}

/// For a list in a statement.
fn numbers(numbers: &[i64]) -> String {
    numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}
