//! The tables of usage: rows by period, totals, and what is asked about them.

use super::rows::{DossierRow, UsageRow};
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use jiff::Timestamp;
use sqlx::Row;
use std::collections::{BTreeMap, HashSet};

const WRITING: &str = "writing usage counts";
const READING: &str = "reading usage counts";

pub(super) async fn write_usage(tx: &mut Tx, app: &str, rows: &[UsageRow]) -> Result<(), StoreError> {
    let mut totals: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for row in rows {
        let users = row.active_users.map(|users| ("", users));
        let event = row.event.as_ref().map(|(event, count)| (event.as_str(), *count));
        for (event, value) in users.into_iter().chain(event) {
            let counted: Option<i64> = sqlx::query_scalar(
                "SELECT counted FROM usage_counts \
                 WHERE app = $1 AND agency = $2 AND event = $3 AND from_us = $4 AND to_us = $5",
            )
            .bind(app)
            .bind(&row.agency)
            .bind(event)
            .bind(row.from_us)
            .bind(row.to_us)
            .fetch_optional(&mut **tx)
            .await
            .doing(READING)?;
            let most = counted.unwrap_or(0).max(value);
            sqlx::query(
                "INSERT INTO usage_counts (app, agency, event, from_us, to_us, value, counted) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (app, agency, event, from_us, to_us) \
                 DO UPDATE SET value = excluded.value, counted = excluded.counted",
            )
            .bind(app)
            .bind(&row.agency)
            .bind(event)
            .bind(row.from_us)
            .bind(row.to_us)
            .bind(value)
            .bind(most)
            .execute(&mut **tx)
            .await
            .doing(WRITING)?;
            if !event.is_empty() {
                *totals.entry((&row.agency, event)).or_default() += most - counted.unwrap_or(0);
            }
        }
    }
    for ((agency, event), more) in totals {
        sqlx::query(
            "INSERT INTO usage_totals (app, agency, event, total) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (app, agency, event) DO UPDATE SET total = usage_totals.total + excluded.total",
        )
        .bind(app)
        .bind(agency)
        .bind(event)
        .bind(more)
        .execute(&mut **tx)
        .await
        .doing(WRITING)?;
    }
    Ok(())
}

pub(super) async fn write_dossiers(tx: &mut Tx, source: &str, rows: &[DossierRow]) -> Result<(), StoreError> {
    const KEY: &str = "agency, source, procedure_code, step, channel, outcome, from_us, to_us";
    let select = "SELECT counted FROM dossier_counts WHERE agency = $1 AND source = $2 AND procedure_code = $3 \
                  AND step = $4 AND channel = $5 AND outcome = $6 AND from_us = $7 AND to_us = $8";
    let insert = format!(
        "INSERT INTO dossier_counts ({KEY}, value, counted) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT ({KEY}) DO UPDATE SET value = excluded.value, counted = excluded.counted"
    );
    let mut totals: BTreeMap<(&str, &str, &str, &str), i64> = BTreeMap::new();
    for row in rows {
        let words = (row.step.as_str(), row.channel.as_str(), row.outcome.as_str());
        let counted: Option<i64> = sqlx::query_scalar(select)
            .bind(&row.agency)
            .bind(source)
            .bind(&row.procedure)
            .bind(words.0)
            .bind(words.1)
            .bind(words.2)
            .bind(row.from_us)
            .bind(row.to_us)
            .fetch_optional(&mut **tx)
            .await
            .doing(READING)?;
        let most = counted.unwrap_or(0).max(row.count);
        sqlx::query(sqlx::AssertSqlSafe(insert.clone()))
            .bind(&row.agency)
            .bind(source)
            .bind(&row.procedure)
            .bind(words.0)
            .bind(words.1)
            .bind(words.2)
            .bind(row.from_us)
            .bind(row.to_us)
            .bind(row.count)
            .bind(most)
            .execute(&mut **tx)
            .await
            .doing(WRITING)?;
        *totals.entry((&row.agency, words.0, words.1, words.2)).or_default() += most - counted.unwrap_or(0);
    }
    for ((agency, step, channel, outcome), more) in totals {
        sqlx::query(
            "INSERT INTO dossier_totals (agency, step, channel, outcome, total) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (agency, step, channel, outcome) DO UPDATE SET total = dossier_totals.total + excluded.total",
        )
        .bind(agency)
        .bind(step)
        .bind(channel)
        .bind(outcome)
        .bind(more)
        .execute(&mut **tx)
        .await
        .doing(WRITING)?;
    }
    Ok(())
}

/// The events that an application has had.
pub(super) async fn events(store: &Store, app: &str) -> Result<HashSet<String>, StoreError> {
    let sql = "SELECT DISTINCT event FROM usage_totals WHERE app = $1";
    let events: Vec<String> = sqlx::query_scalar(sql).bind(app).fetch_all(store.reader()).await.doing(READING)?;
    Ok(events.into_iter().collect())
}

/// Active users of an application in one reported period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveUsers {
    pub app: String,
    pub agency: String,
    pub from: Timestamp,
    pub to: Timestamp,
    pub users: i64,
}

/// The active users of every period that lies in `[from, to]`, by application, agency and time. Periods are as reported
/// (days or weeks), so the caller decides whether to take a mean or a maximum.
pub async fn active_users(store: &Store, from: Timestamp, to: Timestamp) -> Result<Vec<ActiveUsers>, StoreError> {
    let rows = sqlx::query(
        "SELECT app, agency, from_us, to_us, value FROM usage_counts \
         WHERE event = '' AND from_us >= $1 AND to_us <= $2 ORDER BY app, agency, from_us, to_us",
    )
    .bind(micros(from))
    .bind(micros(to))
    .fetch_all(store.reader())
    .await
    .doing(READING)?;
    let decode = |row: &sqlx::any::AnyRow| {
        Ok(ActiveUsers {
            app: row.try_get("app")?,
            agency: row.try_get("agency")?,
            from: from_micros(row.try_get("from_us")?),
            to: from_micros(row.try_get("to_us")?),
            users: row.try_get("value")?,
        })
    };
    rows.iter().map(decode).collect::<Result<_, sqlx::Error>>().doing(READING)
}

/// How many dossiers of an agency took a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DossierCount {
    pub agency: String,
    pub step: String,
    pub channel: String,
    pub outcome: String,
    pub count: i64,
}

/// Dossier counts over the reported periods that lie in `[from, to]`, as last corrected.
pub async fn dossier_counts(store: &Store, from: Timestamp, to: Timestamp) -> Result<Vec<DossierCount>, StoreError> {
    let rows = sqlx::query(
        "SELECT agency, step, channel, outcome, CAST(SUM(value) AS BIGINT) AS n FROM dossier_counts \
         WHERE from_us >= $1 AND to_us <= $2 GROUP BY agency, step, channel, outcome \
         ORDER BY agency, step, channel, outcome",
    )
    .bind(micros(from))
    .bind(micros(to))
    .fetch_all(store.reader())
    .await
    .doing(READING)?;
    let decode = |row: &sqlx::any::AnyRow| {
        Ok(DossierCount {
            agency: row.try_get("agency")?,
            step: row.try_get("step")?,
            channel: row.try_get("channel")?,
            outcome: row.try_get("outcome")?,
            count: row.try_get("n")?,
        })
    };
    rows.iter().map(decode).collect::<Result<_, sqlx::Error>>().doing(READING)
}
