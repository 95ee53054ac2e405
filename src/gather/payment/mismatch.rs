//! The life of mismatches: opened, changed, closed; and what is asked about them.

use super::classify::{Fact, Kind};
use super::ledger::KEYS;
use super::row::reference_of;
use crate::store::{Doing, Store, StoreError, Tx, decode_rows, from_micros, json_column, json_rows, micros};
use jiff::Timestamp;
use sqlx::{Arguments, AssertSqlSafe, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a judgement says about one transaction.
#[derive(Debug, Clone, Default)]
pub(super) struct Finding {
    pub key: String,
    pub agency: String,
    pub dossier: String,
    /// Kind, amount and since when; `None`: there is no mismatch (any more).
    pub mismatch: Option<(Kind, i64, i64)>,
    pub closed_by: &'static str,
    pub facts: Facts,
}

/// What both sides said of a transaction at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Facts {
    pub portal: Option<Fact>,
    pub gateway: Option<Fact>,
}

impl Facts {
    fn json(self) -> serde_json::Value {
        let side = |fact: Option<Fact>| {
            fact.map(
                |fact| serde_json::json!({"status": fact.status.as_str(), "amount": fact.amount, "at": fact.at_us}),
            )
        };
        serde_json::json!({"portal": side(self.portal), "gateway": side(self.gateway)})
    }
}

/// One mismatch, open or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MismatchInfo {
    /// Empty if the record has no reference.
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
    /// Empty while it is open; `matched`, `money_back` or `withdrawn`.
    pub closed_by: String,
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
    let mut totals = Totals::default();
    let mut opened: Vec<(&Finding, Kind, i64, i64)> = Vec::new();
    let mut closed: Vec<(&Finding, i64)> = Vec::new();
    for finding in findings {
        match (open.remove(&finding.key), finding.mismatch) {
            (None, None) => {}
            (None, Some((kind, amount, since_us))) => {
                opened.push((finding, kind, amount, since_us));
                totals.of(&finding.agency, kind.as_str()).open(amount);
            }
            (Some(old), None) => {
                closed.push((finding, old.opened_us));
                totals.of(&old.agency, &old.kind).close(old.amount);
            }
            (Some(old), Some((kind, amount, since_us))) => {
                let moved = old.kind != kind.as_str() || old.agency != finding.agency;
                let same = !moved && old.amount == amount && old.since_us == since_us && old.dossier == finding.dossier;
                if same {
                    continue;
                }
                change(tx, finding, &old, kind, amount, since_us, now_us).await?;
                if moved {
                    totals.of(&finding.agency, kind.as_str()).open(amount);
                    totals.of(&old.agency, &old.kind).close(old.amount);
                } else {
                    totals.of(&old.agency, &old.kind).amount += amount - old.amount;
                }
            }
        }
    }
    close(tx, &closed, now_us).await?;
    insert(tx, &opened, now_us).await?;
    for ((agency, kind), total) in totals.0 {
        total.add(tx, &agency, &kind).await?;
    }
    Ok(())
}

/// By agency and kind.
#[derive(Default)]
struct Totals(BTreeMap<(String, String), Total>);

impl Totals {
    fn of(&mut self, agency: &str, kind: &str) -> &mut Total {
        self.0.entry((agency.to_string(), kind.to_string())).or_default()
    }
}

/// What is added to the totals of an agency and kind.
#[derive(Default)]
struct Total {
    opened: i64,
    resolved: i64,
    /// Of the open ones, đồng.
    amount: i64,
}

impl Total {
    fn open(&mut self, amount: i64) {
        self.opened += 1;
        self.amount += amount;
    }

    fn close(&mut self, amount: i64) {
        self.resolved += 1;
        self.amount -= amount;
    }

    async fn add(&self, tx: &mut Tx, agency: &str, kind: &str) -> Result<(), StoreError> {
        let columns = ["opened", "resolved", "n_open", "open_amount"];
        let updates = columns.map(|column| format!("{column} = payment_mismatch_totals.{column} + excluded.{column}"));
        let sql = format!(
            "INSERT INTO payment_mismatch_totals (agency, kind, {}) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (agency, kind) DO UPDATE SET {}",
            columns.join(", "),
            updates.join(", ")
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(agency).bind(kind).bind(self.opened).bind(self.resolved);
        let query = query.bind(self.opened - self.resolved).bind(self.amount);
        query.execute(&mut **tx).await.doing("counting payment mismatches")?;
        Ok(())
    }
}

async fn read_open(tx: &mut Tx, findings: &[Finding]) -> Result<HashMap<String, Open>, StoreError> {
    const DOING: &str = "reading open payment mismatches";
    const COLUMNS: &str = "txn_ref, opened_us, kind, agency, dossier, amount, since_us, changes";
    let mut open = HashMap::new();
    for chunk in findings.chunks(KEYS) {
        let sql = format!(
            "SELECT {} FROM payment_mismatches WHERE closed_us IS NULL AND txn_ref IN (SELECT value ->> 0 FROM {})",
            tx.dialect().all(COLUMNS),
            tx.dialect().rows(1)
        );
        let keys = json_column(chunk.iter().map(|finding| &finding.key));
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(keys).fetch_one(&mut **tx).await.doing(DOING)?;
        type OpenRow = (String, i64, String, String, String, i64, i64, String);
        let found: Vec<OpenRow> = decode_rows(found).doing(DOING)?;
        open.extend(found.into_iter().map(|(key, opened_us, kind, agency, dossier, amount, since_us, changes)| {
            (key, Open { opened_us, kind, agency, dossier, amount, since_us, changes })
        }));
    }
    Ok(open)
}

async fn insert(tx: &mut Tx, opened: &[(&Finding, Kind, i64, i64)], now_us: i64) -> Result<(), StoreError> {
    for chunk in opened.chunks(KEYS) {
        // A mismatch that closed and opens again within one microsecond (or after the clock went back) needs a free key.
        let sql = format!(
            "SELECT {} FROM (SELECT txn_ref, MAX(opened_us) AS opened_us FROM payment_mismatches \
             WHERE txn_ref IN (SELECT value ->> 0 FROM {}) GROUP BY txn_ref) found",
            tx.dialect().all("txn_ref, opened_us"),
            tx.dialect().rows(1)
        );
        let keys = json_column(chunk.iter().map(|(finding, ..)| &finding.key));
        let last = sqlx::query_scalar(AssertSqlSafe(sql)).bind(keys).fetch_one(&mut **tx).await.doing(DOING)?;
        let last: HashMap<String, i64> = decode_rows(last).doing(DOING)?.into_iter().collect();
        let rows = json_rows(chunk.iter().map(|(finding, kind, amount, since_us)| {
            let opened_us = last.get(&finding.key).map_or(now_us, |last| now_us.max(last + 1));
            let (key, agency, dossier) = (&finding.key, &finding.agency, &finding.dossier);
            (key, opened_us, kind.as_str(), agency, dossier, amount, since_us, finding.facts.json().to_string())
        }));
        let sql = format!(
            "INSERT INTO payment_mismatches (txn_ref, opened_us, kind, agency, dossier, amount, since_us, \
             opened_facts, changes, closed_us, closed_by, closed_facts) \
             SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), value ->> 2, value ->> 3, value ->> 4, \
             CAST(value ->> 5 AS BIGINT), CAST(value ->> 6 AS BIGINT), value ->> 7, '[]', NULL, '', '' FROM {}",
            tx.dialect().rows(1)
        );
        sqlx::query(AssertSqlSafe(sql)).bind(rows).execute(&mut **tx).await.doing(DOING)?;
    }
    Ok(())
}

async fn close(tx: &mut Tx, closed: &[(&Finding, i64)], now_us: i64) -> Result<(), StoreError> {
    let sql = format!(
        "UPDATE payment_mismatches SET closed_us = CAST(value ->> 2 AS BIGINT), closed_by = value ->> 3, \
         closed_facts = value ->> 4 FROM {} WHERE txn_ref = value ->> 0 AND opened_us = CAST(value ->> 1 AS BIGINT)",
        tx.dialect().rows(1)
    );
    for chunk in closed.chunks(KEYS) {
        let rows = json_rows(chunk.iter().map(|(finding, opened_us)| {
            let closed_us = now_us.max(*opened_us);
            (&finding.key, opened_us, closed_us, finding.closed_by, finding.facts.json().to_string())
        }));
        sqlx::query(AssertSqlSafe(sql.clone())).bind(rows).execute(&mut **tx).await.doing(DOING)?;
    }
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
    changes.push(serde_json::json!({
        "at": now_us, "kind": old.kind, "agency": old.agency, "amount": old.amount, "facts": finding.facts.json()
    }));
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
    .bind(&finding.key)
    .bind(old.opened_us)
    .execute(&mut **tx)
    .await
    .doing(DOING)?;
    Ok(())
}

const READ: &str = "SELECT txn_ref, dossier, agency, kind, amount, since_us, opened_us, closed_us, closed_by \
     FROM payment_mismatches";
const READING: &str = "reading payment mismatches";

fn decode(row: &sqlx::any::AnyRow) -> Result<MismatchInfo, sqlx::Error> {
    let key: String = row.try_get("txn_ref")?;
    Ok(MismatchInfo {
        txn_ref: reference_of(&key).to_string(),
        dossier: row.try_get("dossier")?,
        agency: row.try_get("agency")?,
        kind: kind_of(row.try_get("kind")?)?,
        amount: row.try_get("amount")?,
        since: from_micros(row.try_get("since_us")?),
        opened: from_micros(row.try_get("opened_us")?),
        closed: row.try_get::<Option<i64>, _>("closed_us")?.map(from_micros),
        closed_by: row.try_get("closed_by")?,
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

/// The open mismatches behind an alert on one agency and kind, at most `limit`, so that a mail can name dossiers.
pub async fn evidence(store: &Store, agency: &str, kind: Kind, limit: u32) -> Result<Evidence, StoreError> {
    const WHERE: &str = "WHERE closed_us IS NULL AND agency = $1 AND kind = $2";
    let sql = format!("{READ} {WHERE} ORDER BY since_us, txn_ref LIMIT $3");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(agency).bind(kind.as_str()).bind(i64::from(limit));
    let first = decode_all(&query.fetch_all(store.reader()).await.doing(READING)?)?;
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM payment_mismatches {WHERE}"));
    let total = sqlx::query_scalar(sql).bind(agency).bind(kind.as_str()).fetch_one(store.reader()).await;
    Ok(Evidence { first, total: total.doing(READING)? })
}

/// Which mismatches are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// `None`: of all agencies.
    pub agencies: Option<BTreeSet<String>>,
    pub kind: Option<Kind>,
    /// `None`: open and closed ones.
    pub is_open: Option<bool>,
    /// Only what was opened or closed at this time or later.
    pub since: Option<Timestamp>,
    /// Only what comes after this one.
    pub after: Option<Cursor>,
}

/// Where a page of mismatches ends: `since` and `opened` in microseconds, and the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    since_us: i64,
    opened_us: i64,
    key: String,
}

impl Cursor {
    pub fn parse(text: &str) -> Option<Cursor> {
        let mut parts = text.splitn(3, '.');
        let mut number = || parts.next()?.parse().ok();
        let (since_us, opened_us) = (number()?, number()?);
        Some(Cursor { since_us, opened_us, key: parts.next()?.to_string() })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.since_us, self.opened_us, self.key)
    }
}

/// Mismatches, those of the oldest money first, at most `limit`; and where the next page begins, if there is one.
pub async fn list(
    store: &Store,
    filter: &Filter,
    limit: u32,
) -> Result<(Vec<MismatchInfo>, Option<Cursor>), StoreError> {
    let mut arguments = sqlx::any::AnyArguments::default();
    let mut n_arguments = 0;
    let mut next = |arguments: &mut sqlx::any::AnyArguments, value: Bound<'_>| {
        n_arguments += 1;
        // Encoding numbers and text cannot fail.
        let _ = match value {
            Bound::Text(text) => arguments.add(text.to_string()),
            Bound::Number(number) => arguments.add(number),
        };
        format!("${n_arguments}")
    };
    let mut conditions = vec!["1 = 1".to_string()];
    if let Some(agencies) = &filter.agencies {
        let places: Vec<String> = agencies.iter().map(|agency| next(&mut arguments, Bound::Text(agency))).collect();
        conditions.push(if places.is_empty() { "1 = 0".into() } else { format!("agency IN ({})", places.join(", ")) });
    }
    if let Some(kind) = filter.kind {
        conditions.push(format!("kind = {}", next(&mut arguments, Bound::Text(kind.as_str()))));
    }
    if let Some(is_open) = filter.is_open {
        conditions.push(format!("closed_us IS {}", if is_open { "NULL" } else { "NOT NULL" }));
    }
    if let Some(since) = filter.since {
        let place = next(&mut arguments, Bound::Number(micros(since)));
        conditions.push(format!("(opened_us >= {place} OR closed_us >= {place})"));
    }
    if let Some(after) = &filter.after {
        let since = next(&mut arguments, Bound::Number(after.since_us));
        let opened = next(&mut arguments, Bound::Number(after.opened_us));
        let key = next(&mut arguments, Bound::Text(&after.key));
        conditions.push(format!(
            "(since_us > {since} OR (since_us = {since} AND (opened_us > {opened} OR \
             (opened_us = {opened} AND txn_ref > {key}))))"
        ));
    }
    let place = next(&mut arguments, Bound::Number(i64::from(limit) + 1));
    let sql = format!("{READ} WHERE {} ORDER BY since_us, opened_us, txn_ref LIMIT {place}", conditions.join(" AND "));
    let rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(store.reader()).await.doing(READING)?;
    let mut mismatches = decode_all(&rows)?;
    let has_more = mismatches.len() > limit as usize;
    mismatches.truncate(limit as usize);
    let last = has_more.then(|| mismatches.len().checked_sub(1).and_then(|last| rows.get(last))).flatten();
    let cursor = |row: &sqlx::any::AnyRow| -> Result<Cursor, sqlx::Error> {
        Ok(Cursor {
            since_us: row.try_get("since_us")?,
            opened_us: row.try_get("opened_us")?,
            key: row.try_get("txn_ref")?,
        })
    };
    Ok((mismatches, last.map(cursor).transpose().doing(READING)?))
}

enum Bound<'a> {
    Text(&'a str),
    Number(i64),
}

/// The open mismatches of one agency and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    pub agency: String,
    pub kind: Kind,
    pub count: i64,
    /// Đồng.
    pub amount: i64,
    /// When the money of the oldest moved.
    pub oldest: Timestamp,
}

/// The open mismatches, counted by agency and kind.
pub async fn tallies(store: &Store) -> Result<Vec<Tally>, StoreError> {
    // Totals and mismatches change together; a row without an oldest one would be of a database changed by hand.
    let sql = "SELECT agency, kind, n_open AS n, open_amount AS amount, oldest FROM ( \
               SELECT t.agency, t.kind, n_open, open_amount, (SELECT MIN(since_us) FROM payment_mismatches m \
               WHERE m.closed_us IS NULL AND m.agency = t.agency AND m.kind = t.kind) AS oldest \
               FROM payment_mismatch_totals t WHERE n_open > 0) found WHERE oldest IS NOT NULL";
    let rows = sqlx::query(sql).fetch_all(store.reader()).await.doing(READING)?;
    let decode = |row: &sqlx::any::AnyRow| {
        Ok(Tally {
            agency: row.try_get("agency")?,
            kind: kind_of(row.try_get("kind")?)?,
            count: row.try_get("n")?,
            amount: row.try_get("amount")?,
            oldest: from_micros(row.try_get("oldest")?),
        })
    };
    rows.iter().map(decode).collect::<Result<_, sqlx::Error>>().doing(READING)
}

fn kind_of(text: String) -> Result<Kind, sqlx::Error> {
    Kind::parse(&text).ok_or_else(|| sqlx::Error::Decode(format!("unknown kind {text:?}").into()))
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
