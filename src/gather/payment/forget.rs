//! Forgets payments that are long settled, so that the ledger does not grow for ever.
//!
//! Only what can change no judgement any more goes: older than the configuration keeps, waiting for nothing, without an open
//! mismatch, and no younger payment of its dossier would be judged otherwise for it. Rows as old are not taken in again,
//! see [`too_old`]: half of a payment that is forgotten would look like one that the other side does not know.

use super::ledger::KEYS;
use crate::feed::{Reason, Rejection};
use crate::store::{Doing, Store, StoreError, json_column, micros};
use jiff::{SignedDuration, Timestamp};
use sqlx::{AssertSqlSafe, Row};
use std::time::Duration;

/// Transactions looked at in one statement.
const LOOK: i64 = 5_000;
const DOING: &str = "forgetting old payments";

/// The time before which payments are forgotten.
fn horizon(now: Timestamp, keep: Duration) -> Timestamp {
    let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
    now.checked_sub(keep).unwrap_or(Timestamp::MIN)
}

/// What is wrong with a row of that time, if it is older than what is kept.
pub(super) fn too_old(at: Timestamp, now: Timestamp, keep: Duration) -> Option<Rejection> {
    (at < horizon(now, keep)).then(|| {
        let days = keep.as_secs() / 86_400;
        Rejection::new(Reason::Time, format!("{at} is longer ago than payments are kept ({days}d, \"keep\")"))
    })
}

/// Walks the ledger once; gives how many transactions were forgotten. Others can write in between.
pub(super) async fn forget(store: &Store, now: Timestamp, keep: Duration) -> Result<u64, StoreError> {
    let before_us = micros(horizon(now, keep));
    let mut n_forgotten = 0;
    let mut last = String::new();
    loop {
        let sql = "SELECT txn_ref, due_us, portal_us, gateway_us FROM payment_transactions WHERE txn_ref > $1 \
                   ORDER BY txn_ref LIMIT $2";
        let rows = sqlx::query(sql).bind(&last).bind(LOOK).fetch_all(store.reader()).await.doing(DOING)?;
        let mut old: Vec<String> = Vec::new();
        for row in &rows {
            last = row.try_get(0).doing(DOING)?;
            let due_us: Option<i64> = row.try_get(1).doing(DOING)?;
            let (portal_us, gateway_us): (i64, i64) = (row.try_get(2).doing(DOING)?, row.try_get(3).doing(DOING)?);
            if due_us.is_none() && portal_us < before_us && gateway_us < before_us {
                old.push(last.clone());
            }
        }
        for keys in old.chunks(KEYS) {
            n_forgotten += delete(store, keys, before_us).await?;
        }
        if rows.is_empty() {
            break;
        }
    }
    let sql = "DELETE FROM payment_mismatches WHERE closed_us < $1";
    let mut tx = store.begin().await?;
    sqlx::query(sql).bind(before_us).execute(&mut *tx).await.doing(DOING)?;
    tx.commit().await?;
    Ok(n_forgotten)
}

/// Deletes those of `keys` that nothing depends on.
async fn delete(store: &Store, keys: &[String], before_us: i64) -> Result<u64, StoreError> {
    let sql = format!(
        "DELETE FROM payment_transactions WHERE txn_ref IN (SELECT value ->> 0 FROM {}) \
         AND due_us IS NULL AND portal_us < $1 AND gateway_us < $1 \
         AND NOT EXISTS (SELECT 1 FROM payment_mismatches m \
           WHERE m.txn_ref = payment_transactions.txn_ref AND m.closed_us IS NULL) \
         AND (dossier = '' OR NOT EXISTS (SELECT 1 FROM payment_transactions o \
           WHERE o.dossier <> '' AND o.dossier = payment_transactions.dossier \
           AND (o.due_us IS NOT NULL OR o.portal_us >= $1 OR o.gateway_us >= $1))) \
         AND NOT EXISTS (SELECT 1 FROM payment_transactions paid WHERE paid.txn_ref <> payment_transactions.txn_ref \
           AND paid.txn_ref IN (payment_transactions.portal_refund_of, payment_transactions.gateway_refund_of))",
        store.dialect().rows(2)
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(before_us).bind(json_column(keys));
    let mut tx = store.begin().await?;
    let n_deleted = query.execute(&mut *tx).await.doing(DOING)?.rows_affected();
    tx.commit().await?;
    Ok(n_deleted)
}
