//! Where a feed stands: the table `feed_positions`, and the writing of rows together with it. For feeds that are asked
//! or that push; how far files are read stands in [`super::positions`].

use super::columns::Names;
use super::rejected::{Keeper, RejectedRow};
use super::{FeedError, Gatherer, Place, Polled, Reason};
use crate::config::feeds::Feed;
use crate::metrics::columns::{feed as columns, feed_rejected};
use crate::store::{Doing, Store, StoreError, Tx, micros};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::Row;
use std::path::PathBuf;
use std::sync::Arc;

/// Rows in a transaction, so that others can write in between.
const CHUNK: usize = 2_000;

/// What is known of one feed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    pub mapping: String,
    /// JSON of the feed's kind; empty: at the beginning.
    pub position: String,
    pub kept_file: String,
    pub kept_bytes: u64,
}

impl Standing {
    /// What was left, or a beginning if there is nothing or it was read differently.
    pub async fn load(store: &Store, feed: &str, mapping: &str) -> Result<Standing, StoreError> {
        const DOING: &str = "reading a feed's position";
        let sql = "SELECT mapping, position, kept_file, kept_bytes FROM feed_positions WHERE feed = $1";
        let row = sqlx::query(sql).bind(feed).fetch_optional(store.reader()).await.doing(DOING)?;
        let decode = |row: sqlx::any::AnyRow| {
            Ok(Standing {
                mapping: row.try_get("mapping")?,
                position: row.try_get("position")?,
                kept_file: row.try_get("kept_file")?,
                kept_bytes: row.try_get::<i64, _>("kept_bytes")?.max(0) as u64,
            })
        };
        let mut standing = row.map(decode).transpose().doing(DOING)?.unwrap_or_default();
        if standing.mapping != mapping {
            mapping.clone_into(&mut standing.mapping);
            standing.position.clear();
        }
        Ok(standing)
    }

    /// `came`: rows were written with it.
    pub async fn save(&self, tx: &mut Tx, feed: &str, came: bool, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO feed_positions (feed, mapping, position, kept_file, kept_bytes, since_us, rows_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (feed) DO UPDATE SET mapping = excluded.mapping, \
             position = excluded.position, kept_file = excluded.kept_file, kept_bytes = excluded.kept_bytes, \
             rows_us = CASE WHEN excluded.rows_us > 0 THEN excluded.rows_us ELSE feed_positions.rows_us END",
        )
        .bind(feed)
        .bind(&self.mapping)
        .bind(&self.position)
        .bind(&self.kept_file)
        .bind(self.kept_bytes as i64)
        .bind(micros(now))
        .bind(if came { micros(now) } else { 0 })
        .execute(&mut **tx)
        .await
        .doing("writing a feed's position")?;
        Ok(())
    }
}

/// Digest of how a feed's rows are read: after a change they are read anew.
pub fn mapping(feed: &Feed, names: Names) -> String {
    let manner = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {names:?}",
        feed.columns, feed.only, feed.status_map, feed.time_format, feed.timezone, feed.amount
    );
    super::reader::hex(&Sha256::digest(manner))[..16].to_string()
}

/// Where rows go.
pub struct Intake<'a, G> {
    pub place: &'a Place,
    pub feed: &'a str,
    pub gatherer: &'a Arc<G>,
    pub now: Timestamp,
}

/// What one answer gave.
pub struct Batch<R> {
    /// What it is called beside rejected rows.
    pub label: String,
    pub rows: Vec<R>,
    pub rejected: Vec<RejectedRow>,
}

impl<G: Gatherer> Intake<'_, G> {
    /// Writes the rows, and with the last of them the position. Rows written before a crash are written again, which
    /// changes nothing; rejected rows are kept once.
    pub async fn commit(
        &self,
        batch: Batch<G::Row>,
        standing: &mut Standing,
        polled: &mut Polled,
    ) -> Result<(), FeedError> {
        let (accepted, rejected) = (batch.rows.len() as u64, batch.rejected.len() as u64);
        let reasons: Vec<Reason> = batch.rejected.iter().map(|row| row.rejection.reason).collect();
        self.keep(&batch.label, batch.rejected, standing).await?;
        let mut rows = batch.rows;
        while rows.len() > CHUNK {
            let rest = rows.split_off(CHUNK);
            let ready = self.gatherer.ready(rows);
            let mut tx = self.place.store.begin().await?;
            self.gatherer.write(&mut tx, ready, self.now).await?;
            tx.commit().await?;
            rows = rest;
        }
        let ready = (!rows.is_empty()).then(|| self.gatherer.ready(rows));
        let mut tx = self.place.store.begin().await?;
        if let Some(rows) = ready {
            self.gatherer.write(&mut tx, rows, self.now).await?;
        }
        standing.save(&mut tx, self.feed, accepted > 0, self.now).await?;
        tx.commit().await?;
        polled.accepted += accepted;
        polled.rejected += rejected;
        count(self.place, self.feed, accepted, &reasons);
        Ok(())
    }

    /// Keeps rejected rows in the day's file, where an unfinished transaction left off.
    pub async fn keep(
        &self,
        label: &str,
        rejected: Vec<RejectedRow>,
        standing: &mut Standing,
    ) -> Result<(), FeedError> {
        let Some(first) = rejected.first() else { return Ok(()) };
        let (feed, n, reason) = (self.feed, rejected.len(), first.rejection.reason.as_str());
        tracing::warn!(feed, rejected = n, first = reason, "rows could not be used and are kept");
        let day = self.now.to_zoned_datetime(jiff::tz::TimeZone::UTC).date().to_string();
        if standing.kept_file != day {
            (standing.kept_file, standing.kept_bytes) = (day.clone(), 0);
        }
        let keeper = Keeper::of_day(&self.place.data_dir, self.feed, &day, label);
        let length = standing.kept_bytes;
        let kept = tokio::task::spawn_blocking(move || keeper.append(length, &rejected)).await;
        standing.kept_bytes = kept.map_err(|error| FeedError::Task(PathBuf::from(feed), error))??;
        Ok(())
    }
}

/// Counts what became of rows.
pub fn count(place: &Place, feed: &str, accepted: u64, rejected: &[Reason]) {
    let agency = place.org.site().as_str();
    let table = place.metrics.table(columns::TABLE);
    table.add(table.row(&[agency, feed]), columns::ROWS, accepted as f64);
    let table = place.metrics.table(feed_rejected::TABLE);
    for reason in rejected {
        table.add(table.row(&[agency, feed, reason.as_str()]), feed_rejected::REJECTED, 1.0);
    }
}

/// Notes that the feed is in order.
pub fn succeeded(place: &Place, feed: &str, now: Timestamp) {
    let table = place.metrics.table(columns::TABLE);
    let row = table.row(&[place.org.site().as_str(), feed]);
    table.set(row, columns::LAST_SUCCESS, now.as_millisecond() as f64 / 1000.0);
}
