//! Mails that can never arrive: refused, given up, or reported back by a server further on. Each is kept until its writer
//! has taken note of it, in the transaction in which the writer does what follows.

use super::bounce::Report;
use super::outbox::Outbox;
use crate::store::{Doing, StoreError, Tx, micros};
use jiff::Timestamp;
use sqlx::Row;

/// A mail that cannot arrive, of which its writer has not taken note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Of the mail in the outbox.
    pub id: i64,
    /// What it was about; several if it was a summary.
    pub incidents: Vec<i64>,
    /// A person's id; `webhook:ID` if it was a message to a webhook.
    pub person: String,
    /// In the words of the server, without whole addresses.
    pub reason: String,
}

impl Outbox {
    /// The mails about incidents that failed and are not noted, oldest first, at most `limit`.
    pub async fn failures(&self, limit: i64) -> Result<Vec<Failure>, StoreError> {
        const DOING: &str = "reading which mails failed";
        let rows = sqlx::query(
            "SELECT id, incident, channel, person, last_error FROM outbox WHERE noted_us IS NULL \
             AND (gave_up_us IS NOT NULL OR bounced_us IS NOT NULL) \
             AND (incident IS NOT NULL OR id IN (SELECT summary FROM outbox_held)) ORDER BY id LIMIT $1",
        )
        .bind(limit)
        .fetch_all(self.store().reader())
        .await
        .doing(DOING)?;
        let mut failures = Vec::with_capacity(rows.len());
        for row in &rows {
            let (id, incident): (i64, Option<i64>) =
                (row.try_get("id").doing(DOING)?, row.try_get("incident").doing(DOING)?);
            failures.push(Failure {
                id,
                incidents: match incident {
                    Some(incident) => vec![incident],
                    None => self.incidents_of(id).await?,
                },
                person: match row.try_get::<String, _>("channel").doing(DOING)?.as_str() {
                    "mail" => row.try_get("person").doing(DOING)?,
                    other => format!("{other}:{}", row.try_get::<String, _>("person").doing(DOING)?),
                },
                reason: row.try_get::<Option<String>, _>("last_error").doing(DOING)?.unwrap_or_default(),
            });
        }
        Ok(failures)
    }

    /// What a summary told of.
    async fn incidents_of(&self, summary: i64) -> Result<Vec<i64>, StoreError> {
        sqlx::query_scalar(
            "SELECT DISTINCT incident FROM outbox_held WHERE summary = $1 AND incident IS NOT NULL ORDER BY incident",
        )
        .bind(summary)
        .fetch_all(self.store().reader())
        .await
        .doing("reading what a summary told")
    }

    /// Notes in `tx` that the writer of a mail knows of its failure.
    pub async fn note(&self, tx: &mut Tx, id: i64, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE outbox SET noted_us = $1 WHERE id = $2")
            .bind(micros(now))
            .bind(id)
            .execute(&mut **tx)
            .await
            .doing("noting that a mail failed")?;
        Ok(())
    }

    /// Takes in what a server reported about a mail of ours: by its Message-ID or, where the report has none, the last
    /// mail sent to the address. Returns whether it is news: a mail that was sent and of which nobody had said so.
    pub async fn bounced(&self, report: &Report, now: Timestamp) -> Result<bool, StoreError> {
        const DOING: &str = "taking in a report of a mail that did not arrive";
        let mut tx = self.store().begin().await?;
        let found: Option<i64> = match &report.message_id {
            Some(message_id) => {
                sqlx::query_scalar("SELECT id FROM outbox WHERE message_id = $1 AND sent_us IS NOT NULL")
                    .bind(message_id)
                    .fetch_optional(&mut *tx)
                    .await
            }
            None => {
                sqlx::query_scalar(
                    "SELECT id FROM outbox WHERE LOWER(recipient) = LOWER($1) AND channel = 'mail' \
                     AND sent_us IS NOT NULL ORDER BY id DESC LIMIT 1",
                )
                .bind(report.recipient.as_deref().unwrap_or_default())
                .fetch_optional(&mut *tx)
                .await
            }
        }
        .doing(DOING)?;
        let Some(id) = found else { return Ok(false) };
        let changed =
            sqlx::query("UPDATE outbox SET bounced_us = $1, last_error = $2 WHERE id = $3 AND bounced_us IS NULL")
                .bind(micros(now))
                .bind(&report.reason)
                .bind(id)
                .execute(&mut *tx)
                .await
                .doing(DOING)?;
        tx.commit().await?;
        let is_news = changed.rows_affected() > 0;
        if is_news {
            self.metrics().own.emails.with_label_values(&["bounced"]).inc();
            tracing::error!(mail.id = id, reason = report.reason, "a mail came back");
            self.wake_failed();
        }
        Ok(is_news)
    }
}
