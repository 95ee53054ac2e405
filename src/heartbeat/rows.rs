//! The table `heartbeats`: all of its statements.

use crate::config::Id;
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use jiff::Timestamp;
use sqlx::Row;
use std::collections::BTreeMap;

/// What is kept of one heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    pub last: Option<Timestamp>,
    pub missing: Option<Timestamp>,
}

/// By id.
pub async fn load(store: &Store) -> Result<BTreeMap<String, Beat>, StoreError> {
    const DOING: &str = "reading the heartbeats";
    let rows = sqlx::query("SELECT id, last_us, missing_us FROM heartbeats").fetch_all(store.reader()).await;
    let mut beats = BTreeMap::new();
    for row in rows.doing(DOING)? {
        let time = |column: &str| row.try_get::<Option<i64>, _>(column).map(|us| us.map(from_micros));
        let beat = Beat { last: time("last_us").doing(DOING)?, missing: time("missing_us").doing(DOING)? };
        beats.insert(row.try_get("id").doing(DOING)?, beat);
    }
    Ok(beats)
}

pub async fn write(tx: &mut Tx, id: &Id, beat: &Beat) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO heartbeats (id, last_us, missing_us) VALUES ($1, $2, $3) \
         ON CONFLICT (id) DO UPDATE SET last_us = excluded.last_us, missing_us = excluded.missing_us",
    )
    .bind(id.as_str())
    .bind(beat.last.map(micros))
    .bind(beat.missing.map(micros))
    .execute(&mut **tx)
    .await
    .doing("writing a heartbeat")?;
    Ok(())
}
