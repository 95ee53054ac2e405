//! The life of mismatches: opened, changed, closed; and what is asked about them.

use super::classify::Kind;
use super::ledger::placeholders;
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeMap, HashMap};

/// What a judgement says about one transaction.
#[derive(Debug, Clone, Default)]
pub(super) struct Finding {
    pub txn_ref: String,
    pub agency: String,
    pub dossier: String,
    /// Kind, amount and since when; `None`: there is no mismatch (any more).
    pub mismatch: Option<(Kind, i64, i64)>,
    pub closed_by: &'static str,
}

/// One mismatch, open or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MismatchInfo {
    pub txn_ref: String,
    /// Dossier code; empty if neither side says.
    pub dossier: String,
    pub agency: String,
    pub kind: Kind,
    /// Đồng.
    pub amount: i64,
    /// When the money moved.
    pub since: Timestamp,
    /// When it was noticed.
    pub opened: Timestamp,
    pub closed: Option<Timestamp>,
}

/// The mismatches of one agency and kind: the first ones, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Oldest first.
    pub first: Vec<MismatchInfo>,
    pub total: i64,
}

/// Earlier states that a mismatch remembers.
const MAX_CHANGES: usize = 50;
const DOING: &str = "writing payment mismatches";

struct Open {
    opened_us: i64,
    kind: String,
    agency: String,
    dossier: String,
    amount: i64,
    since_us: i64,
    changes: String,
}

/// Brings the open mismatches in line with the findings.
pub(super) async fn apply(tx: &mut Tx, findings: &[Finding], now_us: i64) -> Result<(), StoreError> {
    let mut open = read_open(tx, findings).await?;
    // By agency and kind: opened, resolved.
    let mut totals: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
    for finding in findings {
        match (open.remove(&finding.txn_ref), finding.mismatch) {
            (None, None) => {}
            (None, Some((kind, amount, since_us))) => {
                insert(tx, finding, kind, amount, since_us, now_us).await?;
                totals.entry((finding.agency.clone(), kind.as_str().into())).or_default().0 += 1;
            }
            (Some(old), None) => {
                close(tx, &finding.txn_ref, &old, finding.closed_by, now_us).await?;
                totals.entry((old.agency, old.kind)).or_default().1 += 1;
            }
            (Some(old), Some((kind, amount, since_us))) => {
                let moved = old.kind != kind.as_str() || old.agency != finding.agency;
                let same = !moved && old.amount == amount && old.since_us == since_us && old.dossier == finding.dossier;
                if same {
                    continue;
                }
                change(tx, finding, &old, kind, amount, since_us, now_us).await?;
                if moved {
                    totals.entry((finding.agency.clone(), kind.as_str().into())).or_default().0 += 1;
                    totals.entry((old.agency, old.kind)).or_default().1 += 1;
                }
            }
        }
    }
    for ((agency, kind), (opened, resolved)) in totals {
        sqlx::query(
            "INSERT INTO payment_mismatch_totals (agency, kind, opened, resolved) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (agency, kind) DO UPDATE SET opened = payment_mismatch_totals.opened + excluded.opened, \
             resolved = payment_mismatch_totals.resolved + excluded.resolved",
        )
        .bind(agency)
        .bind(kind)
        .bind(opened)
        .bind(resolved)
        .execute(&mut **tx)
        .await
        .doing("counting payment mismatches")?;
    }
    Ok(())
}

async fn read_open(tx: &mut Tx, findings: &[Finding]) -> Result<HashMap<String, Open>, StoreError> {
    const DOING: &str = "reading open payment mismatches";
    let mut open = HashMap::new();
    for chunk in findings.chunks(400) {
        let sql = format!(
            "SELECT txn_ref, opened_us, kind, agency, dossier, amount, since_us, changes FROM payment_mismatches \
             WHERE closed_us IS NULL AND txn_ref IN ({})",
            placeholders(1, chunk.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for finding in chunk {
            query = query.bind(&finding.txn_ref);
        }
        for row in query.fetch_all(&mut **tx).await.doing(DOING)? {
            let decode = || {
                let mismatch = Open {
                    opened_us: row.try_get("opened_us")?,
                    kind: row.try_get("kind")?,
                    agency: row.try_get("agency")?,
                    dossier: row.try_get("dossier")?,
                    amount: row.try_get("amount")?,
                    since_us: row.try_get("since_us")?,
                    changes: row.try_get("changes")?,
                };
                Ok((row.try_get::<String, _>("txn_ref")?, mismatch))
            };
            let (txn_ref, mismatch) = decode().doing(DOING)?;
            open.insert(txn_ref, mismatch);
        }
    }
    Ok(open)
}

async fn insert(
    tx: &mut Tx,
    finding: &Finding,
    kind: Kind,
    amount: i64,
    since_us: i64,
    now_us: i64,
) -> Result<(), StoreError> {
    // A mismatch that closed and opens again within one microsecond (or after the clock went back) needs a free key.
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT opened_us FROM payment_mismatches WHERE txn_ref = $1 ORDER BY opened_us DESC LIMIT 1",
    )
    .bind(&finding.txn_ref)
    .fetch_optional(&mut **tx)
    .await
    .doing(DOING)?;
    sqlx::query(
        "INSERT INTO payment_mismatches (txn_ref, opened_us, kind, agency, dossier, amount, since_us, changes, \
         closed_us, closed_by) VALUES ($1, $2, $3, $4, $5, $6, $7, '[]', NULL, '')",
    )
    .bind(&finding.txn_ref)
    .bind(last.map_or(now_us, |last| now_us.max(last + 1)))
    .bind(kind.as_str())
    .bind(&finding.agency)
    .bind(&finding.dossier)
    .bind(amount)
    .bind(since_us)
    .execute(&mut **tx)
    .await
    .doing(DOING)?;
    Ok(())
}

async fn close(tx: &mut Tx, txn_ref: &str, old: &Open, by: &str, now_us: i64) -> Result<(), StoreError> {
    let sql = "UPDATE payment_mismatches SET closed_us = $1, closed_by = $2 WHERE txn_ref = $3 AND opened_us = $4";
    let query = sqlx::query(sql).bind(now_us.max(old.opened_us)).bind(by).bind(txn_ref).bind(old.opened_us);
    query.execute(&mut **tx).await.doing(DOING)?;
    Ok(())
}

async fn change(
    tx: &mut Tx,
    finding: &Finding,
    old: &Open,
    kind: Kind,
    amount: i64,
    since_us: i64,
    now_us: i64,
) -> Result<(), StoreError> {
    // Only we write the list; a damaged one begins anew.
    let mut changes: Vec<serde_json::Value> = serde_json::from_str(&old.changes).unwrap_or_default();
    changes.push(serde_json::json!({"at": now_us, "kind": old.kind, "agency": old.agency, "amount": old.amount}));
    let surplus = changes.len().saturating_sub(MAX_CHANGES);
    changes.drain(..surplus);
    sqlx::query(
        "UPDATE payment_mismatches SET kind = $1, agency = $2, dossier = $3, amount = $4, since_us = $5, changes = $6 \
         WHERE txn_ref = $7 AND opened_us = $8",
    )
    .bind(kind.as_str())
    .bind(&finding.agency)
    .bind(&finding.dossier)
    .bind(amount)
    .bind(since_us)
    .bind(serde_json::Value::Array(changes).to_string())
    .bind(&finding.txn_ref)
    .bind(old.opened_us)
    .execute(&mut **tx)
    .await
    .doing(DOING)?;
    Ok(())
}

const READ: &str =
    "SELECT txn_ref, dossier, agency, kind, amount, since_us, opened_us, closed_us FROM payment_mismatches";
const READING: &str = "reading payment mismatches";

fn decode(row: &sqlx::any::AnyRow) -> Result<MismatchInfo, sqlx::Error> {
    let kind: String = row.try_get("kind")?;
    Ok(MismatchInfo {
        txn_ref: row.try_get("txn_ref")?,
        dossier: row.try_get("dossier")?,
        agency: row.try_get("agency")?,
        kind: Kind::parse(&kind).ok_or_else(|| sqlx::Error::Decode(format!("unknown kind {kind:?}").into()))?,
        amount: row.try_get("amount")?,
        since: from_micros(row.try_get("since_us")?),
        opened: from_micros(row.try_get("opened_us")?),
        closed: row.try_get::<Option<i64>, _>("closed_us")?.map(from_micros),
    })
}

fn decode_all(rows: &[sqlx::any::AnyRow]) -> Result<Vec<MismatchInfo>, StoreError> {
    rows.iter().map(decode).collect::<Result<_, _>>().doing(READING)
}

/// The open mismatches, oldest first.
pub async fn open_mismatches(store: &Store, limit: u32) -> Result<Vec<MismatchInfo>, StoreError> {
    let sql = format!("{READ} WHERE closed_us IS NULL ORDER BY since_us, txn_ref LIMIT $1");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(i64::from(limit)).fetch_all(store.reader()).await;
    decode_all(&rows.doing(READING)?)
}

/// The open mismatches behind an alert on one agency and kind, so that a mail can name dossiers.
pub async fn evidence(store: &Store, agency: &str, kind: Kind) -> Result<Evidence, StoreError> {
    const FIRST: i64 = 20;
    const WHERE: &str = "WHERE closed_us IS NULL AND agency = $1 AND kind = $2";
    let sql = format!("{READ} {WHERE} ORDER BY since_us, txn_ref LIMIT $3");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(agency).bind(kind.as_str()).bind(FIRST);
    let first = decode_all(&query.fetch_all(store.reader()).await.doing(READING)?)?;
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM payment_mismatches {WHERE}"));
    let total = sqlx::query_scalar(sql).bind(agency).bind(kind.as_str()).fetch_one(store.reader()).await;
    Ok(Evidence { first, total: total.doing(READING)? })
}

/// The mismatches that were open at some moment of `[from, to)`, oldest first: for the evaluation.
pub async fn mismatches_between(
    store: &Store,
    from: Timestamp,
    to: Timestamp,
    limit: u32,
) -> Result<Vec<MismatchInfo>, StoreError> {
    let sql = format!(
        "{READ} WHERE opened_us < $1 AND (closed_us IS NULL OR closed_us > $2) ORDER BY since_us, txn_ref LIMIT $3"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(micros(to)).bind(micros(from)).bind(i64::from(limit));
    decode_all(&query.fetch_all(store.reader()).await.doing(READING)?)
}

/// How many mismatches were open at `at`, by agency: 0 for agencies that have payments and no mismatch.
pub async fn open_at(store: &Store, at: Timestamp) -> Result<BTreeMap<String, i64>, StoreError> {
    let sql = "SELECT agency, CAST(SUM(n) AS BIGINT) AS n FROM ( \
               SELECT agency, 1 AS n FROM payment_mismatches \
               WHERE opened_us <= $1 AND (closed_us IS NULL OR closed_us > $1) \
               UNION ALL SELECT agency, 0 AS n FROM payment_record_totals) found GROUP BY agency";
    let rows = sqlx::query(sql).bind(micros(at)).fetch_all(store.reader()).await.doing(READING)?;
    let decode = |row: &sqlx::any::AnyRow| Ok((row.try_get("agency")?, row.try_get("n")?));
    rows.iter().map(decode).collect::<Result<_, sqlx::Error>>().doing(READING)
}
