//! When devices were last seen, in the state database. Written in batches by the sweeper, read once at start.

use super::Fleet;
use super::unit::Clock;
use crate::config::Id;
use crate::config::devices::DeviceKind;
use crate::store::{Doing, Store, StoreError, from_micros, json_rows, micros};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};

/// Rows that go over as one parameter: bounds its length.
const ROWS: usize = 2_000;

/// Rows of one [`Fleet::flush_some`].
const SOME: usize = 20_000;

/// One device's row.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub device: Id,
    pub kind: DeviceKind,
    pub agency: Id,
    pub at: Timestamp,
    /// No inventory lists it.
    pub discovered: bool,
    /// What was known of its clock.
    pub clock: Option<Clock>,
}

impl Fleet {
    /// Writes to the database when devices were last seen: of those that wait longest for it, so that a fleet of a
    /// hundred thousand costs what one of twenty thousand does. On an error nothing is lost: the next flush writes it.
    pub async fn flush_some(&self, now: Timestamp) -> Result<(), StoreError> {
        self.flush_at_most(SOME, now).await
    }

    /// As [`Fleet::flush_some`], of all.
    pub async fn flush(&self, now: Timestamp) -> Result<(), StoreError> {
        self.flush_at_most(usize::MAX, now).await
    }

    /// Of those that wait longest, `n_most` rows at most.
    pub(super) async fn flush_at_most(&self, n_most: usize, now: Timestamp) -> Result<(), StoreError> {
        // Those that are heard meanwhile wait for the next flush.
        let mut n_due = self.lock().dirty.len().min(n_most);
        while n_due > 0 {
            let rows = self.take_dirty(&mut n_due);
            if let Err(error) = write(&self.store, &rows).await {
                let mut inner = self.lock();
                for row in &rows {
                    if let Some(index) = inner.find(&row.device) {
                        inner.touch(index);
                    }
                }
                return Err(error);
            }
        }
        let forget_before = {
            let inner = self.lock();
            let age = jiff::SignedDuration::try_from(inner.settings.forget_after).ok();
            age.and_then(|age| now.checked_sub(age).ok())
        };
        match forget_before {
            Some(before) => forget(&self.store, before).await,
            None => Ok(()),
        }
    }

    /// Some of the rows that are to be written, `n_due` at most: those of a large fleet take megabytes.
    fn take_dirty(&self, n_due: &mut usize) -> Vec<Seen> {
        const AT_ONCE: usize = 5_000;
        let mut inner = self.lock();
        // The oldest first: what is heard meanwhile comes after them, and must not keep them waiting for ever.
        let n_taken = inner.dirty.len().min(*n_due).min(AT_ONCE);
        let taken: Vec<u32> = inner.dirty.drain(..n_taken).collect();
        *n_due = if taken.is_empty() { 0 } else { *n_due - taken.len() };
        let row = |index: u32| {
            let unit = inner.units.get_mut(index as usize)?;
            unit.dirty = false;
            unit.seen_row()
        };
        taken.into_iter().filter_map(row).collect()
    }
}

/// Hands on every row that makes sense.
pub async fn load(store: &Store, mut take: impl FnMut(Seen)) -> Result<(), StoreError> {
    const DOING: &str = "reading when devices were last seen";
    let mut rows = sqlx::query(
        "SELECT device, kind, agency, last_seen_us, discovered, clock_offset_us, clock_last_us FROM devices_seen",
    )
    .fetch(store.reader());
    while let Some(row) = rows.try_next().await.doing(DOING)? {
        let device: String = row.try_get("device").doing(DOING)?;
        let kind: String = row.try_get("kind").doing(DOING)?;
        let agency: String = row.try_get("agency").doing(DOING)?;
        let at = from_micros(row.try_get("last_seen_us").doing(DOING)?);
        let discovered = row.try_get::<i64, _>("discovered").doing(DOING)? != 0;
        let offset: Option<i64> = row.try_get("clock_offset_us").doing(DOING)?;
        let last: Option<i64> = row.try_get("clock_last_us").doing(DOING)?;
        let clock =
            offset.zip(last).map(|(offset, last)| Clock { offset: offset as f64 / 1e6, last: last as f64 / 1e6 });
        let kind = DeviceKind::ALL.into_iter().find(|known| known.as_str() == kind);
        if let (Some(device), Some(kind), Some(agency)) = (Id::parse(&device), kind, Id::parse(&agency)) {
            take(Seen { device, kind, agency, at, discovered, clock });
        }
    }
    Ok(())
}

/// Writes the rows in one transaction.
pub async fn write(store: &Store, rows: &[Seen]) -> Result<(), StoreError> {
    const DOING: &str = "writing when devices were last seen";
    if rows.is_empty() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    // The condition tells SQLite that ON belongs to no join.
    let sql = format!(
        "INSERT INTO devices_seen \
         (device, kind, agency, last_seen_us, discovered, clock_offset_us, clock_last_us) \
         SELECT value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT), CAST(value ->> 4 AS BIGINT), \
         CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT) FROM {} WHERE TRUE \
         ON CONFLICT (device) DO UPDATE SET kind = excluded.kind, agency = excluded.agency, \
         last_seen_us = excluded.last_seen_us, discovered = excluded.discovered, \
         clock_offset_us = excluded.clock_offset_us, clock_last_us = excluded.clock_last_us",
        tx.dialect().rows(1)
    );
    for batch in rows.chunks(ROWS) {
        let rows = batch.iter().map(|row| {
            (
                row.device.as_str(),
                row.kind.as_str(),
                row.agency.as_str(),
                micros(row.at),
                i64::from(row.discovered),
                row.clock.map(|clock| (clock.offset * 1e6) as i64),
                row.clock.map(|clock| (clock.last * 1e6) as i64),
            )
        });
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(json_rows(rows));
        query.execute(&mut *tx).await.doing(DOING)?;
    }
    tx.commit().await
}

/// Removes discovered devices last seen before `before`.
pub async fn forget(store: &Store, before: Timestamp) -> Result<(), StoreError> {
    const DOING: &str = "forgetting devices";
    let exists: Option<i64> =
        sqlx::query_scalar("SELECT last_seen_us FROM devices_seen WHERE discovered = 1 AND last_seen_us < $1 LIMIT 1")
            .bind(micros(before))
            .fetch_optional(store.reader())
            .await
            .doing(DOING)?;
    if exists.is_none() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    sqlx::query("DELETE FROM devices_seen WHERE discovered = 1 AND last_seen_us < $1")
        .bind(micros(before))
        .execute(&mut *tx)
        .await
        .doing(DOING)?;
    tx.commit().await
}
