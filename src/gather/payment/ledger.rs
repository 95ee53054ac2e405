//! The payment ledger: rows as last seen, and reconciliation of the transactions a batch touches.
//!
//! The result depends on the rows alone, not on how they were cut into batches: a transaction is always judged by
//! everything the ledger holds about it.

use super::classify::{Limits, Status, Verdict, classify};
use super::mismatch::{self, Finding};
use super::row::{PaymentRow, Side};
use crate::store::{Doing, Store, StoreError, Tx};
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Keys in one statement: well below the parameters either database allows.
const KEYS: usize = 400;
/// Rows of eight parameters in one statement.
const ROWS: usize = 400;

/// What reconciliation needs to know beside the rows.
pub(super) struct Judge<'a> {
    pub now_us: i64,
    pub limits: Limits<'a>,
    /// Owns what nobody else owns.
    pub site: &'a str,
}

/// `$1, $2 …`
pub(super) fn placeholders(from: usize, count: usize) -> String {
    (from..from + count).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}

/// Takes rows into the ledger and judges the transactions they touch.
pub(super) async fn take(tx: &mut Tx, rows: Vec<PaymentRow>, judge: &Judge<'_>) -> Result<(), StoreError> {
    let refs: BTreeSet<String> = rows.iter().map(|row| row.txn_ref.clone()).collect();
    let mut known: HashMap<(String, Side), PaymentRow> = HashMap::new();
    for row in read_rows(tx, "txn_ref", &refs.into_iter().collect::<Vec<_>>()).await? {
        known.insert((row.txn_ref.clone(), row.side), row);
    }
    let mut changed: BTreeSet<(String, Side)> = BTreeSet::new();
    let mut touched: BTreeSet<String> = BTreeSet::new();
    let mut counts: BTreeMap<(String, Side, Status), i64> = BTreeMap::new();
    for row in rows {
        let key = (row.txn_ref.clone(), row.side);
        let old = known.get(&key);
        if old.is_some_and(|old| !row.supersedes(old) || *old == row) {
            continue;
        }
        if old.is_none_or(|old| old.status != row.status) {
            let agency = if row.agency.is_empty() { judge.site.to_string() } else { row.agency.clone() };
            *counts.entry((agency, row.side, row.status)).or_default() += 1;
        }
        // What it no longer gives back must be judged again too.
        touched.extend(old.map(|old| old.refund_of.clone()));
        touched.extend([row.txn_ref.clone(), row.refund_of.clone()]);
        changed.insert(key.clone());
        known.insert(key, row);
    }
    let rows: Vec<&PaymentRow> = changed.iter().filter_map(|key| known.get(key)).collect();
    write_rows(tx, &rows).await?;
    for ((agency, side, status), count) in counts {
        count_records(tx, &agency, side, status, count).await?;
    }
    touched.remove("");
    reconcile(tx, &touched.into_iter().collect::<Vec<_>>(), judge).await
}

/// Judges the waiting transactions whose time has come; gives how many there were.
pub(super) async fn take_due(store: &Store, judge: &Judge<'_>) -> Result<usize, StoreError> {
    let mut tx = store.begin().await?;
    let sql = "SELECT txn_ref FROM payment_due WHERE due_us <= $1 ORDER BY due_us LIMIT 1000";
    let refs: Vec<String> = sqlx::query_scalar(sql)
        .bind(judge.now_us)
        .fetch_all(&mut *tx)
        .await
        .doing("reading the payments that are due")?;
    if refs.is_empty() {
        return Ok(0);
    }
    reconcile(&mut tx, &refs, judge).await?;
    tx.commit().await?;
    Ok(refs.len())
}

/// Makes every waiting transaction due: the limits may have changed since it began to wait.
pub(super) async fn wake_all(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let sql = "UPDATE payment_due SET due_us = 0";
    sqlx::query(sql).execute(&mut *tx).await.doing("waking the payments that wait")?;
    tx.commit().await
}

/// Judges `refs` by all that is known of them and brings mismatches and the due queue in line.
async fn reconcile(tx: &mut Tx, refs: &[String], judge: &Judge<'_>) -> Result<(), StoreError> {
    let mut sides: HashMap<&str, Sides> = HashMap::new();
    let rows = read_rows(tx, "txn_ref", refs).await?;
    let refunds = read_rows(tx, "refund_of", refs).await?;
    for row in &rows {
        let sides = sides.entry(&row.txn_ref).or_default();
        match row.side {
            Side::Portal => sides.portal = Some(row),
            Side::Gateway => sides.gateway = Some(row),
        }
    }
    for row in refunds.iter().filter(|row| row.side == Side::Gateway) {
        let moved = row.status.gave_back() || row.status.has_money();
        sides.entry(&row.refund_of).or_default().refunded += if moved { row.amount } else { 0 };
    }
    let mut findings: Vec<Finding> = Vec::new();
    let mut due: Vec<(String, i64)> = Vec::new();
    for txn_ref in refs {
        let sides = sides.get(txn_ref.as_str()).cloned().unwrap_or_default();
        let verdict = sides.verdict(judge);
        let mut finding = Finding { txn_ref: txn_ref.clone(), ..Finding::default() };
        match verdict {
            Verdict::Matched => finding.closed_by = sides.closed_by(),
            Verdict::Waiting { until_us } => {
                finding.closed_by = "withdrawn";
                due.extend(until_us.map(|until_us| (txn_ref.clone(), until_us)));
            }
            Verdict::Mismatch { kind, amount, since_us } => {
                finding.mismatch = Some((kind, amount, since_us));
                let first = |of: fn(&PaymentRow) -> &String| {
                    let texts = sides.portal.into_iter().chain(sides.gateway).map(of);
                    texts.into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default()
                };
                finding.dossier = first(|row| &row.dossier);
                finding.agency = first(|row| &row.agency);
            }
        }
        findings.push(finding);
    }
    name_agencies(tx, &mut findings, judge.site).await?;
    mismatch::apply(tx, &findings, judge.now_us).await?;
    write_due(tx, refs, &due).await
}

#[derive(Default, Clone)]
struct Sides<'a> {
    portal: Option<&'a PaymentRow>,
    gateway: Option<&'a PaymentRow>,
    /// Đồng given back by rows of their own.
    refunded: i64,
}

impl Sides<'_> {
    fn verdict(&self, judge: &Judge<'_>) -> Verdict {
        // A row that gives another one back is no payment itself.
        let is_refund = |row: &&&PaymentRow| !row.refund_of.is_empty();
        if self.gateway.as_ref().is_some_and(|row| is_refund(&row)) {
            return Verdict::Matched;
        }
        let mut gateway = self.gateway.map(PaymentRow::fact);
        if let Some(fact) = &mut gateway
            && fact.status.has_money()
            && self.refunded > 0
            && self.refunded >= fact.amount
        {
            fact.status = Status::Refunded;
        }
        classify(self.portal.map(PaymentRow::fact), gateway, judge.now_us, &judge.limits)
    }

    fn closed_by(&self) -> &'static str {
        let money_back = self.refunded > 0 || self.gateway.is_some_and(|row| row.status.gave_back());
        if money_back { "money_back" } else { "matched" }
    }
}

/// A gateway seldom says whose payment it is: then another row of the same dossier does, else it is the site's.
async fn name_agencies(tx: &mut Tx, findings: &mut [Finding], site: &str) -> Result<(), StoreError> {
    let unnamed = |finding: &Finding| finding.mismatch.is_some() && finding.agency.is_empty();
    let dossiers: BTreeSet<String> =
        findings.iter().filter(|f| unnamed(f) && !f.dossier.is_empty()).map(|f| f.dossier.clone()).collect();
    let mut agencies: HashMap<String, String> = HashMap::new();
    for chunk in dossiers.into_iter().collect::<Vec<_>>().chunks(KEYS) {
        let sql = format!(
            "SELECT dossier, MIN(agency) AS agency FROM payment_rows \
             WHERE dossier <> '' AND agency <> '' AND dossier IN ({}) GROUP BY dossier",
            placeholders(1, chunk.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for dossier in chunk {
            query = query.bind(dossier);
        }
        for row in query.fetch_all(&mut **tx).await.doing("looking for the agency of a dossier")? {
            let (dossier, agency) = (row.try_get("dossier"), row.try_get("agency"));
            agencies.insert(dossier.doing("reading a dossier")?, agency.doing("reading an agency")?);
        }
    }
    for finding in findings.iter_mut().filter(|finding| unnamed(finding)) {
        finding.agency = agencies.get(&finding.dossier).cloned().unwrap_or_else(|| site.to_string());
    }
    Ok(())
}

/// The rows whose `column` (a name of ours) is one of `keys`.
async fn read_rows(tx: &mut Tx, column: &str, keys: &[String]) -> Result<Vec<PaymentRow>, StoreError> {
    const DOING: &str = "reading payment rows";
    let mut rows = Vec::new();
    for chunk in keys.chunks(KEYS) {
        // The second condition lets the partial index on refund_of be used.
        let sql = format!(
            "SELECT txn_ref, side, agency, dossier, amount, status, at_us, refund_of FROM payment_rows \
             WHERE {column} <> '' AND {column} IN ({})",
            placeholders(1, chunk.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for key in chunk {
            query = query.bind(key);
        }
        for row in query.fetch_all(&mut **tx).await.doing(DOING)? {
            rows.push(decode(&row).doing(DOING)?);
        }
    }
    Ok(rows)
}

fn decode(row: &sqlx::any::AnyRow) -> Result<PaymentRow, sqlx::Error> {
    let side: String = row.try_get("side")?;
    let status: String = row.try_get("status")?;
    Ok(PaymentRow {
        side: if side == Side::Portal.as_str() { Side::Portal } else { Side::Gateway },
        txn_ref: row.try_get("txn_ref")?,
        agency: row.try_get("agency")?,
        dossier: row.try_get("dossier")?,
        amount: row.try_get("amount")?,
        // Only `Status::as_str` is ever written.
        status: Status::parse(&status).unwrap_or(Status::Pending),
        at_us: row.try_get("at_us")?,
        refund_of: row.try_get("refund_of")?,
    })
}

/// Each key at most once, as PostgreSQL wants it.
async fn write_rows(tx: &mut Tx, rows: &[&PaymentRow]) -> Result<(), StoreError> {
    for chunk in rows.chunks(ROWS) {
        let values: Vec<String> = (0..chunk.len()).map(|n| format!("({})", placeholders(n * 8 + 1, 8))).collect();
        let sql = format!(
            "INSERT INTO payment_rows (txn_ref, side, agency, dossier, amount, status, at_us, refund_of) VALUES {} \
             ON CONFLICT (txn_ref, side) DO UPDATE SET agency = excluded.agency, dossier = excluded.dossier, \
             amount = excluded.amount, status = excluded.status, at_us = excluded.at_us, refund_of = excluded.refund_of",
            values.join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for row in chunk {
            query = query.bind(&row.txn_ref).bind(row.side.as_str()).bind(&row.agency).bind(&row.dossier);
            query = query.bind(row.amount).bind(row.status.as_str()).bind(row.at_us).bind(&row.refund_of);
        }
        query.execute(&mut **tx).await.doing("writing payment rows")?;
    }
    Ok(())
}

async fn write_due(tx: &mut Tx, refs: &[String], due: &[(String, i64)]) -> Result<(), StoreError> {
    const DOING: &str = "writing the payments that wait";
    for chunk in refs.chunks(KEYS) {
        let sql = format!("DELETE FROM payment_due WHERE txn_ref IN ({})", placeholders(1, chunk.len()));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for txn_ref in chunk {
            query = query.bind(txn_ref);
        }
        query.execute(&mut **tx).await.doing(DOING)?;
    }
    for chunk in due.chunks(ROWS) {
        let values: Vec<String> = (0..chunk.len()).map(|n| format!("({})", placeholders(n * 2 + 1, 2))).collect();
        let sql = format!("INSERT INTO payment_due (txn_ref, due_us) VALUES {}", values.join(", "));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (txn_ref, due_us) in chunk {
            query = query.bind(txn_ref).bind(due_us);
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
