//! The payment ledger: the latest record of each transaction on each side.
//!
//! Rows are taken in without being judged; what they touch is marked as due in the same transaction. So a crash between
//! the two loses nothing, and when both sides have much to read, nothing is judged by one of them alone. Judging is
//! `judging`'s.

use super::classify::{Back, Limits, Standing, Status, compare};
use super::row::{Channel, PaymentRow, Record, Side};
use super::seen::Seen;
use super::written;
use crate::store::{Doing, StoreError, Tx, decode_rows, json_column, json_rows};
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Keys in one statement.
pub(super) const KEYS: usize = 5_000;
/// Each side's columns begin with its name.
const SIDE_COLUMNS: [&str; 8] = ["status", "amount", "us", "agency", "dossier", "refund_of", "procedure", "channel"];
/// The columns that name what a record gives back.
pub(super) const REFUNDS: [&str; 2] = ["portal_refund_of", "gateway_refund_of"];
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

/// What taking in needs to know beside the rows.
#[derive(Clone, Copy)]
pub(super) struct Taking<'a> {
    /// Owns what nobody else owns.
    pub site: &'a str,
    /// With them, what is new and in order by itself need not be judged, see [`in_order`].
    pub limits: Option<&'a Limits<'a>>,
    pub seen: &'a Seen,
}

/// Takes rows into the ledger and marks as due what they touch. Gives how many transactions it read or wrote.
pub(super) async fn take(tx: &mut Tx, rows: Vec<PaymentRow>, taking: Taking<'_>) -> Result<u64, StoreError> {
    let Taking { site, limits, seen } = taking;
    let mut rows = rows;
    // By key, so that the database walks its index once; of one key they stay in their order.
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let mut keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    keys.dedup();
    // Of many rows in the order of their keys often none is known, which one look at the index between them says.
    let known = match has_between(tx, &keys).await? {
        true => read(tx, "txn_ref", &keys).await?,
        false => Vec::new(),
    };
    let n_read = known.len();
    let mut known: HashMap<String, Transaction> =
        known.into_iter().map(|transaction| (transaction.key.clone(), transaction)).collect();
    let mut changed: Vec<Changed> = Vec::with_capacity(keys.len());
    let mut counts: BTreeMap<(String, Side, Status), i64> = BTreeMap::new();
    let mut left: BTreeSet<String> = BTreeSet::new();
    let mut given_back: BTreeSet<String> = BTreeSet::new();
    let mut rows = rows.into_iter().peekable();
    while let Some(first) = rows.next() {
        let found = known.remove(&first.key);
        let (is_new, mut is_changed) = (found.is_none(), false);
        let mut transaction = found.unwrap_or_else(|| Transaction::new(first.key.clone()));
        let mut next = Some(first);
        while let Some(PaymentRow { side, record, .. }) = next {
            next = rows.next_if(|row| row.key == transaction.key);
            let old = transaction.side(side);
            if old.is_some_and(|old| !record.supersedes(old)) {
                continue;
            }
            if old.is_none_or(|old| old.status != record.status) {
                let agency = if record.agency.is_empty() { site } else { &record.agency };
                *counts.entry((agency.to_string(), side, record.status)).or_default() += 1;
            }
            // What it no longer gives back must be judged again too.
            given_back.extend(old.map(|old| &old.refund_of).filter(|of| !of.is_empty()).cloned());
            given_back.extend(Some(&record.refund_of).filter(|of| !of.is_empty()).cloned());
            let before = transaction.dossier().to_string();
            *transaction.side_mut(side) = Some(record);
            if before != transaction.dossier() && !before.is_empty() {
                left.insert(before);
            }
            transaction.due_us = Some(AT_ONCE);
            is_changed = true;
        }
        if is_changed {
            changed.push(Changed { transaction, is_new });
        }
    }
    if let Some(limits) = limits {
        for index in in_order(tx, &changed, limits, seen).await? {
            changed[index].transaction.due_us = None;
        }
    }
    seen.note(changed.iter().map(|changed| changed.transaction.dossier()));
    written::write(tx, &changed.iter().map(|changed| &changed.transaction).collect::<Vec<_>>()).await?;
    for ((agency, side, status), count) in counts {
        count_records(tx, &agency, side, status, count).await?;
    }
    let n_marked = wake(tx, "txn_ref", &given_back).await? + wake_one_of_each(tx, &left).await?;
    Ok((n_read + changed.len()) as u64 + n_marked)
}

/// A transaction that rows have changed.
struct Changed {
    transaction: Transaction,
    /// The ledger has not had it.
    is_new: bool,
}

/// Of transactions new to the ledger those that are matched whatever the time: both sides agree, and nothing else is known
/// of their dossier or gives them back. What comes later and would change that marks them as due.
async fn in_order(
    tx: &mut Tx,
    changed: &[Changed],
    limits: &Limits<'_>,
    seen: &Seen,
) -> Result<Vec<usize>, StoreError> {
    const DOING: &str = "looking for the other payments of dossiers";
    for column in REFUNDS {
        if has_any(tx, column).await? {
            return Ok(Vec::new());
        }
    }
    let mut of_dossier: HashMap<&str, u32> = HashMap::with_capacity(changed.len());
    for Changed { transaction, .. } in changed {
        *of_dossier.entry(transaction.dossier()).or_default() += 1;
    }
    let agrees = |Changed { transaction, is_new }: &Changed| {
        let (Some(portal), Some(gateway)) = (&transaction.portal, &transaction.gateway) else { return false };
        let is_alone = of_dossier.get(transaction.dossier()) == Some(&1) || transaction.dossier().is_empty();
        let gives_back = !portal.refund_of.is_empty() || !gateway.refund_of.is_empty();
        let standing = compare(Some(portal.fact()), Some(gateway.fact()), Back::default(), limits);
        *is_new && is_alone && !gives_back && standing == Standing::Matched
    };
    let mut agreeing: Vec<(usize, &str)> = changed
        .iter()
        .enumerate()
        .filter(|(_, changed)| agrees(changed))
        .map(|(index, changed)| (index, changed.transaction.dossier()))
        .collect();
    let mut elsewhere: HashSet<String> = HashSet::new();
    for chunk in seen.retain(agreeing.clone(), |(_, dossier)| dossier).chunks(KEYS) {
        let sql = format!(
            "SELECT {} FROM payment_transactions WHERE dossier <> '' AND dossier IN (SELECT value ->> 0 FROM {})",
            tx.dialect().all("dossier"),
            tx.dialect().rows(1)
        );
        let dossiers = json_column(chunk.iter().map(|(_, dossier)| dossier));
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(dossiers).fetch_one(&mut **tx).await.doing(DOING)?;
        elsewhere.extend(decode_rows::<[String; 1]>(found).doing(DOING)?.into_iter().flatten());
    }
    agreeing.retain(|(_, dossier)| !elsewhere.contains(*dossier));
    Ok(agreeing.into_iter().map(|(index, _)| index).collect())
}

/// Whether any transaction gives another back by this `column`, one of [`REFUNDS`]. Most ledgers have none, which is cheaper
/// to see once than for every key.
pub(super) async fn has_any(tx: &mut Tx, column: &str) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM payment_transactions WHERE {column} <> '' LIMIT 1");
    let any = sqlx::query(AssertSqlSafe(sql)).fetch_optional(&mut **tx).await.doing("looking for refunds")?;
    Ok(any.is_some())
}

pub(super) async fn is_empty(tx: &mut Tx) -> Result<bool, StoreError> {
    let any = sqlx::query("SELECT 1 FROM payment_transactions LIMIT 1").fetch_optional(&mut **tx).await;
    Ok(any.doing("looking for payments")?.is_none())
}

/// Whether the ledger has any transaction from the first to the last of `keys`, which are in order.
async fn has_between(tx: &mut Tx, keys: &[&str]) -> Result<bool, StoreError> {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(false) };
    let sql = "SELECT 1 FROM payment_transactions WHERE txn_ref >= $1 AND txn_ref <= $2 LIMIT 1";
    let any = sqlx::query(sql).bind(*first).bind(*last).fetch_optional(&mut **tx).await.doing("reading payments")?;
    Ok(any.is_some())
}

/// Marks as due the transactions whose `column` (a name of ours) is one of `keys`; gives how many.
pub(super) async fn wake(tx: &mut Tx, column: &str, keys: &BTreeSet<String>) -> Result<u64, StoreError> {
    let mut n_marked = 0;
    for chunk in keys.iter().collect::<Vec<_>>().chunks(KEYS) {
        // The second condition lets a partial index be used.
        let sql = format!(
            "UPDATE payment_transactions SET due_us = {AT_ONCE} WHERE {column} <> '' AND {column} IN \
             (SELECT value ->> 0 FROM {})",
            tx.dialect().rows(1)
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(json_column(chunk));
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
pub(super) async fn read(tx: &mut Tx, column: &str, keys: &[impl AsRef<str>]) -> Result<Vec<Transaction>, StoreError> {
    read_some(tx, column, keys, None).await
}

/// As [`read`], at most `limit` for each statement of [`KEYS`] keys.
pub(super) async fn read_some(
    tx: &mut Tx,
    column: &str,
    keys: &[impl AsRef<str>],
    limit: Option<usize>,
) -> Result<Vec<Transaction>, StoreError> {
    const DOING: &str = "reading payments";
    let mut transactions = Vec::new();
    let limit = limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
    let dialect = tx.dialect();
    let side = |side: Side| dialect.array(&side_columns(side).join(", "));
    let columns = format!("txn_ref, due_us, {}, {}", side(Side::Portal), side(Side::Gateway));
    for chunk in keys.chunks(KEYS) {
        // The first condition lets a partial index be used.
        let sql = format!(
            "SELECT {} FROM (SELECT * FROM payment_transactions WHERE {column} <> '' AND {column} IN \
             (SELECT value ->> 0 FROM {}){limit}) found",
            dialect.all(&columns),
            dialect.rows(1)
        );
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(json_column(chunk.iter().map(AsRef::as_ref)));
        let found: Option<String> = query.fetch_one(&mut **tx).await.doing(DOING)?;
        let found: Vec<(String, Option<i64>, SideRow, SideRow)> = decode_rows(found).doing(DOING)?;
        transactions.extend(found.into_iter().map(|(key, due_us, portal, gateway)| Transaction {
            key,
            due_us,
            portal: record(portal),
            gateway: record(gateway),
        }));
    }
    Ok(transactions)
}

/// In the order of [`SIDE_COLUMNS`].
type SideRow = (String, i64, i64, String, String, String, String, String);

fn record((status, amount, at_us, agency, dossier, refund_of, procedure, channel): SideRow) -> Option<Record> {
    // Only `Status::as_str` is ever written.
    let status = Status::parse(&status)?;
    let channel = Channel::parse(&channel);
    Some(Record { agency, dossier, amount, status, at_us, refund_of, procedure, channel })
}

pub(super) fn side_columns(side: Side) -> [String; 8] {
    SIDE_COLUMNS.map(|column| format!("{}_{column}", side.as_str()))
}

/// Sets when transactions are judged again; `None`: not before something arrives.
pub(super) async fn write_due(tx: &mut Tx, due: &[(&str, Option<i64>)]) -> Result<(), StoreError> {
    let sql = format!(
        "UPDATE payment_transactions SET due_us = CAST(value ->> 1 AS BIGINT) FROM {} WHERE txn_ref = value ->> 0",
        tx.dialect().rows(1)
    );
    for chunk in due.chunks(KEYS) {
        let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(json_rows(chunk));
        query.execute(&mut **tx).await.doing("writing the payments that wait")?;
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
