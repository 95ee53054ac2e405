//! The tables `outbox_held` and `outbox_spent`: mails that are told in one with others. All of their statements.
//!
//! What is held is committed with the state of its writer as a mail in the outbox is, and leaves by [`Outbox::release`]:
//! the summary enters the outbox in the transaction that notes what it told. Nothing is lost in between.

use super::message::{About, Brief, Outgoing};
use super::outbox::Outbox;
use super::summary::{Desk, Summary, Told};
use crate::config::email::Limit;
use crate::config::site::Language;
use crate::store::{Doing, StoreError, Tx, from_micros, micros};
use jiff::{SignedDuration, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

/// Rows that one summary tells at most; what is left comes with the next.
const ROWS: i64 = 10_000;
/// When a summary that could not be made is tried again.
const LATER: SignedDuration = SignedDuration::from_hours(1);

/// Why a mail is told in one with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its reader wants it so.
    Digest,
    /// Its reader has had too many.
    Limit,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Digest => "digest",
            Why::Limit => "limit",
        }
    }
}

impl Outbox {
    /// Whether a mail is to be held, and until when; if not, its reader's limit is charged.
    pub(super) async fn hold(
        &self,
        tx: &mut Tx,
        mail: &Outgoing,
        now: Timestamp,
    ) -> Result<Option<(Why, Timestamp)>, StoreError> {
        const DOING: &str = "reading how many mails a person has had";
        let Some(brief) = &mail.brief else { return Ok(None) };
        if let Some(due) = brief.digest {
            return Ok(Some((Why::Digest, due)));
        }
        let Some(limit) = self.limit() else { return Ok(None) };
        // What comes after something that waits goes with it: the reader sees things in their order.
        let waits: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(due_us) FROM outbox_held WHERE person = $1 AND why = 'limit' AND summary IS NULL",
        )
        .bind(&mail.person)
        .fetch_one(&mut **tx)
        .await
        .doing(DOING)?;
        if let Some(due) = waits {
            return Ok(Some((Why::Limit, from_micros(due))));
        }
        let may = self.spend(tx, limit, &mail.person, now).await?;
        Ok(may.err().map(|due| (Why::Limit, due)))
    }

    /// Charges one mail to a person's limit, or says when one may go.
    async fn spend(
        &self,
        tx: &mut Tx,
        limit: Limit,
        person: &str,
        now: Timestamp,
    ) -> Result<Result<(), Timestamp>, StoreError> {
        let spent: Option<i64> = sqlx::query_scalar("SELECT spent_us FROM outbox_spent WHERE person = $1")
            .bind(person)
            .fetch_optional(&mut **tx)
            .await
            .doing("reading how many mails a person has had")?;
        let spent = match limit.spend(spent.map(from_micros), now) {
            Ok(spent) => spent,
            Err(due) => return Ok(Err(due)),
        };
        sqlx::query(
            "INSERT INTO outbox_spent (person, spent_us) VALUES ($1, $2) \
             ON CONFLICT (person) DO UPDATE SET spent_us = excluded.spent_us",
        )
        .bind(person)
        .bind(micros(spent))
        .execute(&mut **tx)
        .await
        .doing("noting how many mails a person has had")?;
        Ok(Ok(()))
    }

    /// Writes what a summary will say of a mail in its place.
    pub(super) async fn write_held(
        &self,
        tx: &mut Tx,
        id: i64,
        mail: &Outgoing,
        brief: &Brief,
        (why, due): (Why, Timestamp),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO outbox_held (id, why, person, name, recipient, language, thread, subject, url, urgent, agency, \
             incident, created_us, due_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(id)
        .bind(why.as_str())
        .bind(&mail.person)
        .bind(&brief.name)
        .bind(&mail.recipient)
        .bind(if brief.language == Language::Vi { "vi" } else { "en" })
        .bind(&mail.thread)
        .bind(&brief.subject)
        .bind(&brief.url)
        .bind(i64::from(brief.is_urgent))
        .bind(&mail.about.agency)
        .bind(mail.about.incident)
        .bind(micros(now))
        .bind(micros(due))
        .execute(&mut **tx)
        .await
        .doing("holding a mail back for a summary")?;
        self.metrics().own.emails.with_label_values(&["held"]).inc();
        Ok(())
    }

    /// When the next summary is due; `None` if nothing is held.
    pub async fn next_summary(&self) -> Result<Option<Timestamp>, StoreError> {
        let next: Option<i64> = sqlx::query_scalar("SELECT MIN(due_us) FROM outbox_held WHERE summary IS NULL")
            .fetch_one(self.store().reader())
            .await
            .doing("reading when the next summary is due")?;
        Ok(next.map(from_micros))
    }

    /// Writes the summaries whose time has come; returns how many.
    pub async fn release(&self, desk: &Desk, now: Timestamp) -> Result<usize, StoreError> {
        const DOING: &str = "reading whose summary is due";
        let rows = sqlx::query(
            "SELECT DISTINCT person, why FROM outbox_held WHERE summary IS NULL AND due_us <= $1 ORDER BY person, why",
        )
        .bind(micros(now))
        .fetch_all(self.store().reader())
        .await
        .doing(DOING)?;
        let mut written = 0;
        for row in &rows {
            let (person, why): (String, String) =
                (row.try_get("person").doing(DOING)?, row.try_get("why").doing(DOING)?);
            let why = if why == Why::Digest.as_str() { Why::Digest } else { Why::Limit };
            written += usize::from(self.summarise(desk, &person, why, now).await?);
        }
        if written > 0 {
            self.wake();
        }
        Ok(written)
    }

    /// Writes one summary of everything that is held for a person.
    async fn summarise(&self, desk: &Desk, person: &str, why: Why, now: Timestamp) -> Result<bool, StoreError> {
        const DOING: &str = "writing a summary";
        let mut tx = self.store().begin().await?;
        let rows = sqlx::query(
            "SELECT id, name, recipient, language, thread, subject, url, urgent, agency, created_us FROM outbox_held \
             WHERE person = $1 AND why = $2 AND summary IS NULL ORDER BY id LIMIT $3",
        )
        .bind(person)
        .bind(why.as_str())
        .bind(ROWS)
        .fetch_all(&mut *tx)
        .await
        .doing(DOING)?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(false) };
        if let (Why::Limit, Some(limit)) = (why, self.limit())
            && let Err(due) = self.spend(&mut tx, limit, person, now).await?
        {
            // The limit was lowered meanwhile.
            self.put_off(&mut tx, person, why, due).await?;
            tx.commit().await?;
            return Ok(false);
        }
        let id = self.next_id();
        let read = || -> Result<Summary, sqlx::Error> {
            Ok(Summary {
                why,
                number: id,
                person: person.to_owned(),
                name: last.try_get("name")?,
                recipient: last.try_get("recipient")?,
                language: if last.try_get::<String, _>("language")? == "en" { Language::En } else { Language::Vi },
                told: rows.iter().map(told).collect::<Result<_, _>>()?,
            })
        };
        let (from, to): (i64, i64) = (first.try_get("id").doing(DOING)?, last.try_get("id").doing(DOING)?);
        let mut agencies: Vec<String> =
            rows.iter().map(|row| row.try_get("agency")).collect::<Result<_, _>>().doing(DOING)?;
        agencies.dedup();
        let agency = if agencies.len() == 1 { agencies.swap_remove(0) } else { String::new() };
        match desk.mail(&read().doing(DOING)?, now) {
            Ok(mail) => {
                let mail = Outgoing { about: About { agency, incident: None }, ..mail };
                self.write(&mut tx, &[(id, &mail)], now).await?;
                sqlx::query(
                    "UPDATE outbox_held SET summary = $1 WHERE person = $2 AND why = $3 AND summary IS NULL \
                     AND id >= $4 AND id <= $5",
                )
                .bind(id)
                .bind(person)
                .bind(why.as_str())
                .bind(from)
                .bind(to)
                .execute(&mut *tx)
                .await
                .doing(DOING)?;
                tx.commit().await?;
                Ok(true)
            }
            Err(error) => {
                tracing::error!(person, error, "a summary cannot be made; it is tried again in an hour");
                self.put_off(&mut tx, person, why, now.saturating_add(LATER).unwrap_or(now)).await?;
                tx.commit().await?;
                Ok(false)
            }
        }
    }

    async fn put_off(&self, tx: &mut Tx, person: &str, why: Why, due: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE outbox_held SET due_us = $1 WHERE person = $2 AND why = $3 AND summary IS NULL")
            .bind(micros(due))
            .bind(person)
            .bind(why.as_str())
            .execute(&mut **tx)
            .await
            .doing("putting a summary off")?;
        Ok(())
    }
}

fn told(row: &AnyRow) -> Result<Told, sqlx::Error> {
    Ok(Told {
        thread: row.try_get("thread")?,
        subject: row.try_get("subject")?,
        url: row.try_get("url")?,
        is_urgent: row.try_get::<i64, _>("urgent")? != 0,
        at: from_micros(row.try_get("created_us")?),
    })
}
