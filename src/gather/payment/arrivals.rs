//! Rows that arrived and are not yet in the ledger: table `payment_arrivals`.
//!
//! A first load brings millions of rows in any order. Taken in as they come, each would touch pages of the ledger all over
//! it, once for either side. So many rows at once are only put down, in the transaction in which their feed's position
//! moves; before anything is judged they are taken into the ledger in the order of their keys. A crash in between does
//! no harm: rows that are in the ledger already change nothing there.

use super::classify::{Limits, Status};
use super::ledger::{self, Taking};
use super::row::{Channel, PaymentRow, Record, Side};
use super::seen::{Ending, Seen};
use crate::store::{Dialect, Doing, Store, StoreError, Tx, decode_rows, json_column, json_rows, placeholder_rows};
use sqlx::AssertSqlSafe;
use std::sync::{Mutex, PoisonError};

/// So many rows of a feed at once are put down first; fewer go to the ledger directly.
const MANY: usize = 500;
/// Parts by key. Each is taken in by itself, which bounds the memory.
const PARTS: usize = 32;
/// Rows taken in at once, and read at once if their parts have fewer: one to two seconds' work. The index of dossiers is in no
/// order of keys, so that most of its pages are written anew for each of them.
const SLICE: usize = 120_000;
/// Rows read at once at most.
const LOAD: usize = 200_000;
const DOING: &str = "taking in payments that arrived";

/// What has arrived and where it is put down.
#[derive(Default)]
pub(super) struct Arrivals {
    /// Where the parts after the first one begin, as the first rows suggest; empty: not known yet.
    bounds: Mutex<Vec<String>>,
    /// The dossiers that a first load has brought until now.
    seen: Seen,
}

/// Rows to be written.
pub(super) enum Ready {
    Few(Vec<PaymentRow>),
    Many(Vec<Text>),
}

/// Rows of one part.
pub(super) struct Text {
    part: i64,
    n: i64,
    content: String,
}

/// As it stands in a text: key, is it the gateway's, status, amount, time, agency, dossier, refund of, procedure, channel.
type Row<T> = (T, bool, T, i64, i64, T, T, T, T, T);

impl Arrivals {
    /// Many rows are better put down than taken in at once.
    pub fn ready(&self, rows: Vec<PaymentRow>) -> Ready {
        if rows.len() < MANY {
            return Ready::Few(rows);
        }
        self.texts(&rows)
    }

    /// Rows to be put down.
    pub fn texts(&self, rows: &[PaymentRow]) -> Ready {
        let mut parts: Vec<Vec<&PaymentRow>> = vec![Vec::new(); PARTS];
        let bounds = self.bounds(rows);
        for row in rows {
            parts[bounds.partition_point(|bound| *bound <= row.key)].push(row);
        }
        let parts = parts.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        let texts = parts.map(|(part, rows)| Text {
            part: part as i64,
            n: rows.len() as i64,
            content: json_rows(rows.iter().map(|row| written(row))),
        });
        Ready::Many(texts.collect())
    }

    /// Gives how many transactions were read or written.
    pub async fn write(&self, tx: &mut Tx, rows: Ready, site: &str) -> Result<u64, StoreError> {
        match rows {
            Ready::Few(rows) => self.take_at_once(tx, rows, site).await,
            Ready::Many(texts) => put(tx, texts).await.map(|()| 0),
        }
    }

    /// Takes rows into the ledger at once, as part of `tx`.
    pub async fn take_at_once(&self, tx: &mut Tx, rows: Vec<PaymentRow>, site: &str) -> Result<u64, StoreError> {
        ledger::take(tx, rows, Taking { site, limits: None, seen: &self.seen }).await
    }

    /// Takes in what waits if it is little, as part of `tx`; an error if it is much, which is under way.
    pub async fn take_in_few(&self, tx: &mut Tx, site: &str) -> Result<u64, StoreError> {
        let sql = "SELECT id, n FROM payment_arrivals ORDER BY id";
        let waiting: Vec<(i64, i64)> = sqlx::query_as(sql).fetch_all(&mut **tx).await.doing(DOING)?;
        if waiting.is_empty() {
            return Ok(0);
        }
        if waiting.iter().map(|(_, n)| n).sum::<i64>() > SLICE as i64 {
            return Err(StoreError::Busy("many payments are being taken in"));
        }
        let ids: Vec<i64> = waiting.into_iter().map(|(id, _)| id).collect();
        let sql = contents(tx.dialect());
        let texts = sqlx::query_scalar(AssertSqlSafe(sql)).bind(json_column(&ids)).fetch_all(&mut **tx).await;
        let n_touched = self.take_at_once(tx, decode(texts.doing(DOING)?)?, site).await?;
        remove(tx, &ids).await?;
        Ok(n_touched)
    }

    /// Notes from now on which dossiers there are, if there is none yet, until what it gives is dropped.
    pub async fn note_dossiers(&self, store: &Store) -> Result<Option<Ending<'_>>, StoreError> {
        // Nobody else writes meanwhile.
        let mut tx = store.begin().await?;
        Ok(ledger::is_empty(&mut tx).await?.then(|| self.seen.begin()))
    }

    fn bounds(&self, rows: &[PaymentRow]) -> Vec<String> {
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        if bounds.is_empty() {
            let mut keys: Vec<&String> = rows.iter().map(|row| &row.key).collect();
            keys.sort_unstable();
            *bounds = (1..PARTS).filter_map(|part| keys.get(part * keys.len() / PARTS)).copied().cloned().collect();
            bounds.dedup();
        }
        bounds.clone()
    }

    /// Takes everything that arrived into the ledger; others can write in between. Gives how many transactions were read
    /// or written. `site` owns what nobody else owns; see [`Taking`] for `limits`.
    pub async fn take_in(&self, store: &Store, site: &str, limits: Option<&Limits<'_>>) -> Result<u64, StoreError> {
        let taking = Taking { site, limits, seen: &self.seen };
        let (mut n_touched, mut is_much, mut _ending) = (0, false, None);
        loop {
            let sql = "SELECT id, part, n FROM payment_arrivals ORDER BY part, id";
            let waiting: Vec<(i64, i64, i64)> = sqlx::query_as(sql).fetch_all(store.reader()).await.doing(DOING)?;
            if waiting.is_empty() {
                // The next ones may have other keys.
                self.bounds.lock().unwrap_or_else(PoisonError::into_inner).clear();
                if is_much {
                    store.expect_much(false).await?;
                }
                return Ok(n_touched);
            }
            let loads = loads(&waiting);
            if loads.len() > 1 && !is_much {
                is_much = true;
                store.expect_much(true).await?;
                _ending = self.note_dossiers(store).await?;
            }
            // The next one is read while the one before it is taken in.
            let mut loads = loads.into_iter();
            let mut next = loads.next().map(|ids| Load::read(store, ids));
            while let Some(load) = next.take() {
                let load = load.await?;
                next = loads.next().map(|ids| Load::read(store, ids));
                n_touched += load.take_in(store, taking).await?;
            }
        }
    }
}

/// How many rows arrived that are not yet in the ledger.
pub async fn n_waiting(store: &Store) -> Result<i64, StoreError> {
    let sql = "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM payment_arrivals";
    sqlx::query_scalar(sql).fetch_one(store.reader()).await.doing(DOING)
}

/// Puts rows down.
async fn put(tx: &mut Tx, texts: Vec<Text>) -> Result<(), StoreError> {
    let last = "SELECT COALESCE(MAX(id), 0) FROM payment_arrivals";
    let last: i64 = sqlx::query_scalar(last).fetch_one(&mut **tx).await.doing(DOING)?;
    let rows = placeholder_rows(texts.len(), 4);
    let sql = format!("INSERT INTO payment_arrivals (id, part, n, content) VALUES {rows}");
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (Text { part, n, content }, id) in texts.into_iter().zip(last + 1..) {
        query = query.bind(id).bind(part).bind(n).bind(content);
    }
    query.execute(&mut **tx).await.doing("putting down payments that arrived")?;
    Ok(())
}

/// Cuts what waits (id, part, rows), in its order, into what is read at once: whole parts, unless one is too large.
fn loads(waiting: &[(i64, i64, i64)]) -> Vec<Vec<i64>> {
    let (mut loads, mut load, mut n_rows, mut last) = (Vec::new(), Vec::new(), 0, None);
    for (id, part, n) in waiting {
        let is_enough = last != Some(part) && n_rows >= SLICE as i64;
        if !load.is_empty() && (is_enough || n_rows + n > LOAD as i64) {
            loads.push(std::mem::take(&mut load));
            n_rows = 0;
        }
        load.push(*id);
        n_rows += n;
        last = Some(part);
    }
    loads.extend(Some(load).filter(|load| !load.is_empty()));
    loads
}

/// Rows that are taken in together.
struct Load {
    /// The texts that hold them.
    ids: Vec<i64>,
    /// By key, those of one key in the order of arrival.
    rows: Vec<PaymentRow>,
}

impl Load {
    /// Begins to read at once, beside what else is done. Dropped, it is read in vain.
    fn read(store: &Store, ids: Vec<i64>) -> impl Future<Output = Result<Load, StoreError>> {
        let sql = contents(store.dialect());
        let store = store.clone();
        let reading = tokio::spawn(async move {
            let sql = sqlx::query_scalar(AssertSqlSafe(sql)).bind(json_column(&ids));
            let mut rows = decode(sql.fetch_all(store.reader()).await.doing(DOING)?)?;
            // Stable: of one key they stay in the order of arrival.
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(Load { ids, rows })
        });
        async move { reading.await.map_err(|_| sqlx::Error::WorkerCrashed).doing(DOING)? }
    }

    /// Takes the rows into the ledger, in transactions of about [`SLICE`] rows; with the last of them their texts go.
    async fn take_in(self, store: &Store, taking: Taking<'_>) -> Result<u64, StoreError> {
        let Load { ids, mut rows } = self;
        let mut n_touched = 0;
        loop {
            let mut end = rows.len().min(SLICE);
            while end < rows.len() && rows[end].key == rows[end - 1].key {
                end += 1;
            }
            let rest = rows.split_off(end);
            let mut tx = store.begin().await?;
            n_touched += ledger::take(&mut tx, rows, taking).await?;
            if rest.is_empty() {
                remove(&mut tx, &ids).await?;
                tx.commit().await?;
                return Ok(n_touched);
            }
            tx.commit().await?;
            rows = rest;
        }
    }
}

/// A statement that reads texts by their ids, in the order of arrival.
fn contents(dialect: Dialect) -> String {
    let ids = dialect.rows(1);
    format!(
        "SELECT content FROM payment_arrivals WHERE id IN (SELECT CAST(value ->> 0 AS BIGINT) FROM {ids}) ORDER BY id"
    )
}

fn decode(contents: Vec<String>) -> Result<Vec<PaymentRow>, StoreError> {
    let mut rows = Vec::new();
    for content in contents {
        rows.extend(decode_rows::<Row<String>>(Some(content)).doing(DOING)?.into_iter().filter_map(read));
    }
    Ok(rows)
}

async fn remove(tx: &mut Tx, ids: &[i64]) -> Result<(), StoreError> {
    let sql = format!(
        "DELETE FROM payment_arrivals WHERE id IN (SELECT CAST(value ->> 0 AS BIGINT) FROM {})",
        tx.dialect().rows(1)
    );
    sqlx::query(AssertSqlSafe(sql)).bind(json_column(ids)).execute(&mut **tx).await.doing(DOING)?;
    Ok(())
}

fn written(row: &PaymentRow) -> Row<&str> {
    let PaymentRow { side, key, record } = row;
    let Record { agency, dossier, amount, status, at_us, refund_of, procedure, channel } = record;
    let is_gateway = *side == Side::Gateway;
    let (status, channel) = (status.as_str(), channel.as_str());
    (key, is_gateway, status, *amount, *at_us, agency, dossier, refund_of, procedure, channel)
}

fn read(row: Row<String>) -> Option<PaymentRow> {
    let (key, is_gateway, status, amount, at_us, agency, dossier, refund_of, procedure, channel) = row;
    let side = if is_gateway { Side::Gateway } else { Side::Portal };
    // Only `Status::as_str` is ever written.
    let (status, channel) = (Status::parse(&status)?, Channel::parse(&channel));
    Some(PaymentRow {
        side,
        key,
        record: Record { agency, dossier, amount, status, at_us, refund_of, procedure, channel },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_whole_and_small_ones_together() {
        let waiting = [(1, 0, 30_000), (7, 0, 25_000), (2, 1, 5_000), (3, 1, 70_000), (4, 2, 1), (5, 3, 1)];
        assert_eq!(loads(&waiting), [vec![1, 7, 2, 3], vec![4, 5]]);
        let large = [(1, 0, 150_000), (2, 0, 50_000), (3, 0, 1)];
        assert_eq!(loads(&large), [vec![1, 2], vec![3]]);
        assert_eq!(loads(&[]), Vec::<Vec<i64>>::new());
    }
}
