//! The payment ledger: the latest record of each transaction on each side.
//!
//! Rows are taken in without being judged; what they touch is marked as due in the same transaction. So a crash between
//! the two loses nothing, and when both sides have much to read, nothing is judged by one of them alone. Judging is
//! `judging`'s.

use super::classify::Status;
use super::row::{Channel, PaymentRow, Record, Side};
use crate::store::{Doing, StoreError, Tx, placeholder_rows, placeholders, rows_at_once};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeMap, BTreeSet};

/// Keys in one statement.
pub(super) const KEYS: usize = rows_at_once(1);
const COLUMNS: &str = "txn_ref, dossier, due_us, portal_status, portal_amount, portal_us, portal_agency, \
                       portal_dossier, portal_refund_of, portal_procedure, portal_channel, gateway_status, \
                       gateway_amount, gateway_us, gateway_agency, gateway_dossier, gateway_refund_of, \
                       gateway_procedure, gateway_channel";
const N_COLUMNS: usize = 19;
/// Judged again at once.
pub(super) const AT_ONCE: i64 = 0;

/// One transaction as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transaction {
    pub key: String,
    pub due_us: Option<i64>,
    pub portal: Option<Record>,
    pub gateway: Option<Record>,
}

impl Transaction {
    fn new(key: String) -> Transaction {
        Transaction { key, due_us: None, portal: None, gateway: None }
    }

    pub fn side(&self, side: Side) -> Option<&Record> {
        match side {
            Side::Portal => self.portal.as_ref(),
            Side::Gateway => self.gateway.as_ref(),
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut Option<Record> {
        match side {
            Side::Portal => &mut self.portal,
            Side::Gateway => &mut self.gateway,
        }
    }

    /// The portal's word, else the gateway's, else nothing.
    pub fn first(&self, text: impl Fn(&Record) -> &str) -> &str {
        let sides = self.portal.iter().chain(&self.gateway);
        sides.map(text).find(|text| !text.is_empty()).unwrap_or("")
    }

    pub fn dossier(&self) -> &str {
        self.first(|record| &record.dossier)
    }
}

/// Takes rows into the ledger and marks as due what they touch. Gives how many transactions it read or wrote. `site` owns
/// what nobody else owns.
pub(super) async fn take(tx: &mut Tx, rows: Vec<PaymentRow>, site: &str) -> Result<u64, StoreError> {
    let keys: BTreeSet<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let keys: Vec<String> = keys.into_iter().map(str::to_string).collect();
    // By key, so that the database walks its index once.
    let mut known: BTreeMap<String, Transaction> = BTreeMap::new();
    for transaction in read(tx, "txn_ref", &keys).await? {
        known.insert(transaction.key.clone(), transaction);
    }
    let n_read = known.len();
    let mut changed: BTreeSet<String> = BTreeSet::new();
    let mut counts: BTreeMap<(String, Side, Status), i64> = BTreeMap::new();
    let mut left: BTreeSet<String> = BTreeSet::new();
    let mut given_back: BTreeSet<String> = BTreeSet::new();
    for PaymentRow { side, key, record } in rows {
        let transaction = known.entry(key).or_insert_with_key(|key| Transaction::new(key.clone()));
        let old = transaction.side(side);
        if old.is_some_and(|old| !record.supersedes(old)) {
            continue;
        }
        if old.is_none_or(|old| old.status != record.status) {
            let agency = if record.agency.is_empty() { site } else { &record.agency };
            *counts.entry((agency.to_string(), side, record.status)).or_default() += 1;
        }
        // What it no longer gives back must be judged again too.
        given_back.extend(old.map(|old| old.refund_of.clone()));
        given_back.insert(record.refund_of.clone());
        let before = transaction.dossier().to_string();
        *transaction.side_mut(side) = Some(record);
        if before != transaction.dossier() {
            left.insert(before);
        }
        transaction.due_us = Some(AT_ONCE);
        changed.insert(transaction.key.clone());
    }
    let transactions: Vec<&Transaction> = changed.iter().filter_map(|key| known.get(key)).collect();
    let n_written = transactions.len();
    write(tx, &transactions).await?;
    for ((agency, side, status), count) in counts {
        count_records(tx, &agency, side, status, count).await?;
    }
    for set in [&mut left, &mut given_back] {
        set.remove("");
    }
    let n_marked = wake(tx, "txn_ref", &given_back).await? + wake_one_of_each(tx, &left).await?;
    Ok((n_read + n_written) as u64 + n_marked)
}

/// Marks as due the transactions whose `column` (a name of ours) is one of `keys`; gives how many.
pub(super) async fn wake(tx: &mut Tx, column: &str, keys: &BTreeSet<String>) -> Result<u64, StoreError> {
    let mut n_marked = 0;
    for chunk in keys.iter().collect::<Vec<_>>().chunks(KEYS) {
        // The second condition lets a partial index be used.
        let sql = format!(
            "UPDATE payment_transactions SET due_us = {AT_ONCE} WHERE {column} <> '' AND {column} IN ({})",
            placeholders(1, chunk.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for key in chunk {
            query = query.bind(*key);
        }
        n_marked += query.execute(&mut **tx).await.doing("marking payments as due")?.rows_affected();
    }
    Ok(n_marked)
}

/// Marks one transaction of each dossier: the others are judged with it. A code that a million payments bear is left by
/// many, so all of them would be too much.
async fn wake_one_of_each(tx: &mut Tx, dossiers: &BTreeSet<String>) -> Result<u64, StoreError> {
    let mut n_marked = 0;
    for dossier in dossiers {
        let sql = format!(
            "UPDATE payment_transactions SET due_us = {AT_ONCE} WHERE txn_ref IN \
             (SELECT txn_ref FROM payment_transactions WHERE dossier <> '' AND dossier = $1 LIMIT 1)"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(dossier);
        n_marked += query.execute(&mut **tx).await.doing("marking payments as due")?.rows_affected();
    }
    Ok(n_marked)
}

/// The transactions whose `column` (a name of ours) is one of `keys`.
pub(super) async fn read(tx: &mut Tx, column: &str, keys: &[String]) -> Result<Vec<Transaction>, StoreError> {
    read_some(tx, column, keys, None).await
}

/// As [`read`], at most `limit` for each statement of [`KEYS`] keys.
pub(super) async fn read_some(
    tx: &mut Tx,
    column: &str,
    keys: &[String],
    limit: Option<usize>,
) -> Result<Vec<Transaction>, StoreError> {
    const DOING: &str = "reading payments";
    let mut transactions = Vec::new();
    let limit = limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
    for chunk in keys.chunks(KEYS) {
        // The first condition lets a partial index be used.
        let sql = format!(
            "SELECT {COLUMNS} FROM payment_transactions WHERE {column} <> '' AND {column} IN ({}){limit}",
            placeholders(1, chunk.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for key in chunk {
            query = query.bind(key);
        }
        for row in query.fetch_all(&mut **tx).await.doing(DOING)? {
            transactions.push(decode(&row).doing(DOING)?);
        }
    }
    Ok(transactions)
}

/// In the order of [`COLUMNS`].
fn decode(row: &AnyRow) -> Result<Transaction, sqlx::Error> {
    Ok(Transaction {
        key: row.try_get(0)?,
        due_us: row.try_get(2)?,
        portal: decode_side(row, 3)?,
        gateway: decode_side(row, 11)?,
    })
}

fn decode_side(row: &AnyRow, from: usize) -> Result<Option<Record>, sqlx::Error> {
    // Only `Status::as_str` is ever written.
    let Some(status) = Status::parse(row.try_get(from)?) else { return Ok(None) };
    Ok(Some(Record {
        status,
        amount: row.try_get(from + 1)?,
        at_us: row.try_get(from + 2)?,
        agency: row.try_get(from + 3)?,
        dossier: row.try_get(from + 4)?,
        refund_of: row.try_get(from + 5)?,
        procedure: row.try_get(from + 6)?,
        channel: Channel::parse(row.try_get(from + 7)?),
    }))
}

/// Each key at most once, as PostgreSQL wants it.
async fn write(tx: &mut Tx, transactions: &[&Transaction]) -> Result<(), StoreError> {
    const NOTHING: &Record = &Record {
        agency: String::new(),
        dossier: String::new(),
        amount: 0,
        status: Status::Pending,
        at_us: 0,
        refund_of: String::new(),
        procedure: String::new(),
        channel: Channel::Unknown,
    };
    let updates = COLUMNS.split(',').map(str::trim).skip(1);
    let updates: Vec<String> = updates.map(|column| format!("{column} = excluded.{column}")).collect();
    let updates = updates.join(", ");
    for chunk in transactions.chunks(rows_at_once(N_COLUMNS)) {
        let sql = format!(
            "INSERT INTO payment_transactions ({COLUMNS}) VALUES {} ON CONFLICT (txn_ref) DO UPDATE SET {updates}",
            placeholder_rows(chunk.len(), N_COLUMNS)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for transaction in chunk {
            query = query.bind(&transaction.key).bind(transaction.dossier()).bind(transaction.due_us);
            for side in [&transaction.portal, &transaction.gateway] {
                let record = side.as_ref().unwrap_or(NOTHING);
                query = query.bind(if side.is_some() { record.status.as_str() } else { "" });
                query = query.bind(record.amount).bind(record.at_us).bind(&record.agency).bind(&record.dossier);
                query = query.bind(&record.refund_of).bind(&record.procedure).bind(record.channel.as_str());
            }
        }
        query.execute(&mut **tx).await.doing("writing payments")?;
    }
    Ok(())
}

/// Sets when transactions are judged again; `None`: not before something arrives.
pub(super) async fn write_due(tx: &mut Tx, due: &[(&str, Option<i64>)]) -> Result<(), StoreError> {
    const DOING: &str = "writing the payments that wait";
    let settled: Vec<&str> = due.iter().filter(|(_, due_us)| due_us.is_none()).map(|(key, _)| *key).collect();
    for chunk in settled.chunks(KEYS) {
        let sql = format!(
            "UPDATE payment_transactions SET due_us = NULL WHERE txn_ref IN ({})",
            placeholders(1, chunk.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for key in chunk {
            query = query.bind(*key);
        }
        query.execute(&mut **tx).await.doing(DOING)?;
    }
    let waiting: Vec<(&str, i64)> = due.iter().filter_map(|(key, due_us)| Some((*key, (*due_us)?))).collect();
    for chunk in waiting.chunks(KEYS) {
        let pair = |n: usize| format!("(CAST(${} AS TEXT), CAST(${} AS BIGINT))", n * 2 + 1, n * 2 + 2);
        let values: Vec<String> = (0..chunk.len()).map(pair).collect();
        let sql = format!(
            "WITH new_due (k, d) AS (VALUES {}) UPDATE payment_transactions SET due_us = new_due.d FROM new_due \
             WHERE payment_transactions.txn_ref = new_due.k",
            values.join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (key, due_us) in chunk {
            query = query.bind(*key).bind(*due_us);
        }
        query.execute(&mut **tx).await.doing(DOING)?;
    }
    Ok(())
}

async fn count_records(tx: &mut Tx, agency: &str, side: Side, status: Status, count: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO payment_record_totals (agency, side, status, records) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (agency, side, status) DO UPDATE SET records = payment_record_totals.records + excluded.records",
    )
    .bind(agency)
    .bind(side.as_str())
    .bind(status.as_str())
    .bind(count)
    .execute(&mut **tx)
    .await
    .doing("counting payment rows")?;
    Ok(())
}
