//! Explains one payment: what both sides say of it, and the whole life of its mismatches.

use super::classify::{Fact, Kind, Status};
use super::ledger::{self, Transaction};
use super::row::{Record, key_of, reference_of};
use crate::store::{Doing, Store, StoreError, from_micros};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeMap, BTreeSet};

/// One transaction as the ledger holds it, with its mismatches, the earliest first.
#[derive(Debug, Clone)]
pub struct TransactionInfo {
    /// Empty if the record has no reference.
    pub txn_ref: String,
    pub dossier: String,
    pub portal: Option<Record>,
    pub gateway: Option<Record>,
    /// When it is judged again; `None`: not before something arrives.
    pub due: Option<Timestamp>,
    pub lives: Vec<Life>,
}

/// A mismatch from its opening to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// How it was when it was opened, how it changed, how it is.
    pub stages: Vec<Stage>,
    pub closed: Option<Timestamp>,
    /// `matched`, `money_back` or `withdrawn`; empty while it is open.
    pub closed_by: String,
    /// What both sides said when it was closed.
    pub closed_facts: (Option<Fact>, Option<Fact>),
}

/// What a mismatch was from one moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    pub at: Timestamp,
    pub kind: Kind,
    pub agency: String,
    /// Đồng.
    pub amount: i64,
    /// What portal and gateway said then; nothing for what an earlier version noticed.
    pub facts: (Option<Fact>, Option<Fact>),
}

/// Transactions that one question gives at most.
const MOST: usize = 200;

/// The transactions with this reference, of this dossier, or that give one of those back; ordered by reference.
pub async fn find(store: &Store, reference: &str) -> Result<Vec<TransactionInfo>, StoreError> {
    // A transaction that reads: one moment for all statements. Dropped, it changes nothing.
    let mut tx = store.begin().await?;
    let mut found: BTreeMap<String, Transaction> = BTreeMap::new();
    let key = vec![key_of(reference).into_owned()];
    let dossier = vec![reference.to_string()];
    let mut add = |transactions: Vec<Transaction>| {
        found.extend(transactions.into_iter().map(|transaction| (transaction.key.clone(), transaction)));
        found.keys().cloned().collect::<Vec<String>>()
    };
    add(ledger::read(&mut tx, "txn_ref", &key).await?);
    let keys = add(ledger::read_some(&mut tx, "dossier", &dossier, Some(MOST)).await?);
    for column in ledger::REFUNDS {
        add(ledger::read_some(&mut tx, column, &keys, Some(MOST)).await?);
    }
    let mut lives: BTreeMap<String, Vec<Life>> = BTreeMap::new();
    let keys: BTreeSet<&String> = found.keys().collect();
    for key in keys {
        lives.insert(key.clone(), read_lives(&mut tx, key).await?);
    }
    let described = found.into_values().map(|transaction| TransactionInfo {
        txn_ref: reference_of(&transaction.key).to_string(),
        dossier: transaction.dossier().to_string(),
        due: transaction.due_us.map(from_micros),
        lives: lives.remove(&transaction.key).unwrap_or_default(),
        portal: transaction.portal,
        gateway: transaction.gateway,
    });
    Ok(described.collect())
}

async fn read_lives(tx: &mut crate::store::Tx, key: &str) -> Result<Vec<Life>, StoreError> {
    const DOING: &str = "reading the life of a payment mismatch";
    let sql = "SELECT opened_us, kind, agency, amount, changes, opened_facts, closed_us, closed_by, closed_facts \
               FROM payment_mismatches WHERE txn_ref = $1 ORDER BY opened_us";
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(key).fetch_all(&mut **tx).await.doing(DOING)?;
    rows.iter().map(life).collect::<Result<_, sqlx::Error>>().doing(DOING)
}

fn life(row: &sqlx::any::AnyRow) -> Result<Life, sqlx::Error> {
    let text = |name: &str| row.try_get::<String, _>(name);
    let json = |name: &str| text(name).map(|text| serde_json::from_str::<Value>(&text).unwrap_or_default());
    let now = (text("kind")?, text("agency")?, row.try_get::<i64, _>("amount")?);
    // A change tells when, what it was before, and what the sides said that changed it.
    let changes = json("changes")?;
    let changes = changes.as_array().map_or(&[][..], Vec::as_slice);
    let mut at = from_micros(row.try_get("opened_us")?);
    let mut said = facts(&json("opened_facts")?);
    let mut stages = Vec::with_capacity(changes.len() + 1);
    for change in changes {
        let word = |name: &str| change[name].as_str().unwrap_or_default().to_string();
        let before = (word("kind"), word("agency"), change["amount"].as_i64().unwrap_or_default());
        stages.extend(stage(at, before, said));
        at = from_micros(change["at"].as_i64().unwrap_or_default());
        said = facts(&change["facts"]);
    }
    stages.extend(stage(at, now, said));
    Ok(Life {
        stages,
        closed: row.try_get::<Option<i64>, _>("closed_us")?.map(from_micros),
        closed_by: text("closed_by")?,
        closed_facts: facts(&json("closed_facts")?),
    })
}

type Facts = (Option<Fact>, Option<Fact>);

/// `None` for a kind that only another version knows.
fn stage(at: Timestamp, (kind, agency, amount): (String, String, i64), facts: Facts) -> Option<Stage> {
    Kind::parse(&kind).map(|kind| Stage { at, kind, agency, amount, facts })
}

fn facts(json: &Value) -> Facts {
    let side = |name: &str| {
        let side = &json[name];
        Some(Fact {
            status: Status::parse(side["status"].as_str()?)?,
            amount: side["amount"].as_i64()?,
            at_us: side["at"].as_i64()?,
        })
    };
    (side("portal"), side("gateway"))
}
