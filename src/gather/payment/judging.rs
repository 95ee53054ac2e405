//! Judges what is due: dossier by dossier, by everything the ledger holds about it, so that the result depends on the
//! rows and the time alone, not on how they were cut into batches or which side came first.

use super::classify::{Back, Limits, Verdict};
use super::dossier::{self, Dossier, Fee, Member};
use super::fees::Fees;
use super::ledger::{self, AT_ONCE, KEYS, Transaction};
use super::mismatch::{self, Finding};
use super::register::{self, Registered};
use super::row::{Channel, Record, is_nameless};
use crate::store::{Doing, Store, StoreError, Tx, decode_rows, from_micros, json_column};
use jiff::tz::TimeZone;
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What judging needs to know beside the rows.
pub(super) struct Judge<'a> {
    pub now_us: i64,
    pub limits: Limits<'a>,
    pub fees: &'a Fees,
    /// Whether a register says which dossiers there are.
    pub has_register: bool,
    /// Owns what nobody else owns.
    pub site: &'a str,
    pub zone: &'a TimeZone,
}

/// Due transactions judged in one database transaction, so that others can write in between.
const BATCH: usize = 5_000;
/// Transactions of one dossier that are judged together. A code that more bear is not one dossier.
const TOGETHER: usize = 200;
/// Transactions of a dossier as they are expected; if a statement gives more, its dossiers are read one by one.
const EXPECTED: usize = 4;

/// Judges a batch of what is due, and with it the other transactions of its dossiers; gives how many transactions were
/// read, 0 when nothing is due.
pub(super) async fn take_due(store: &Store, judge: &Judge<'_>) -> Result<u64, StoreError> {
    let mut tx = store.begin().await?;
    let (dossiers, keys) = due(&mut tx, judge.now_us).await?;
    if dossiers.is_empty() && keys.is_empty() {
        return Ok(0);
    }
    let crowds = known_crowds(&mut tx, dossiers.keys()).await?;
    let together: Vec<String> = dossiers.keys().filter(|dossier| !crowds.contains(*dossier)).cloned().collect();
    let (groups, new_crowds) = read_groups(&mut tx, &together).await?;
    for dossier in &new_crowds {
        note_crowd(&mut tx, dossier).await?;
    }
    let alone = crowds.iter().chain(&new_crowds).filter_map(|dossier| dossiers.get(dossier)).flatten().cloned();
    let keys: Vec<String> = keys.into_iter().chain(alone).collect();
    let mut groups: Vec<Vec<Transaction>> = groups.into_values().collect();
    groups.extend(ledger::read(&mut tx, "txn_ref", &keys).await?.into_iter().map(|alone| vec![alone]));
    let n_read = groups.iter().map(Vec::len).sum::<usize>() as u64;
    judge_groups(&mut tx, groups, judge).await?;
    tx.commit().await?;
    Ok(n_read.max(1))
}

/// The transactions of each dossier, and the codes that so many bear that they are none.
async fn read_groups(
    tx: &mut Tx,
    dossiers: &[String],
) -> Result<(BTreeMap<String, Vec<Transaction>>, BTreeSet<String>), StoreError> {
    let mut groups: BTreeMap<String, Vec<Transaction>> = BTreeMap::new();
    let mut crowds = BTreeSet::new();
    for chunk in dossiers.chunks(KEYS) {
        let limit = chunk.len().saturating_mul(EXPECTED).max(TOGETHER);
        let found = ledger::read_some(tx, "dossier", chunk, Some(limit + 1)).await?;
        if found.len() <= limit {
            for transaction in found {
                groups.entry(transaction.dossier().to_string()).or_default().push(transaction);
            }
            continue;
        }
        for dossier in chunk {
            let found = ledger::read_some(tx, "dossier", std::slice::from_ref(dossier), Some(TOGETHER + 1)).await?;
            groups.insert(dossier.clone(), found);
        }
    }
    groups.retain(|dossier, group| {
        let is_dossier = group.len() <= TOGETHER;
        if !is_dossier {
            crowds.insert(dossier.clone());
        }
        is_dossier
    });
    Ok((groups, crowds))
}

/// What is due: keys by dossier, and those that name none.
async fn due(tx: &mut Tx, now_us: i64) -> Result<(BTreeMap<String, Vec<String>>, Vec<String>), StoreError> {
    const DOING: &str = "reading the payments that are due";
    let sql = format!(
        "SELECT {} FROM (SELECT txn_ref, dossier FROM payment_transactions WHERE due_us IS NOT NULL AND due_us <= $1 \
         ORDER BY due_us LIMIT {BATCH}) found",
        tx.dialect().all("txn_ref, dossier")
    );
    let (mut dossiers, mut keys): (BTreeMap<String, Vec<String>>, _) = (BTreeMap::new(), Vec::new());
    let found: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(now_us).fetch_one(&mut **tx).await.doing(DOING)?;
    let found: Vec<(String, String)> = decode_rows(found).doing(DOING)?;
    for (key, dossier) in found {
        if dossier.is_empty() {
            keys.push(key);
        } else {
            dossiers.entry(dossier).or_default().push(key);
        }
    }
    Ok((dossiers, keys))
}

/// A crowd stays one: its members are judged alone, and only those that are due are read.
async fn known_crowds<'a>(
    tx: &mut Tx,
    dossiers: impl Iterator<Item = &'a String>,
) -> Result<BTreeSet<String>, StoreError> {
    let mut known = BTreeSet::new();
    for chunk in dossiers.collect::<Vec<_>>().chunks(KEYS) {
        let sql = format!(
            "SELECT dossier FROM payment_crowds WHERE dossier IN (SELECT value ->> 0 FROM {})",
            tx.dialect().rows(1)
        );
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(json_column(chunk));
        let found: Vec<String> = query.fetch_all(&mut **tx).await.doing("reading codes of many payments")?;
        known.extend(found);
    }
    Ok(known)
}

/// From now on the dossier's transactions are judged one by one; those judged together until now are judged anew.
async fn note_crowd(tx: &mut Tx, dossier: &str) -> Result<(), StoreError> {
    const DOING: &str = "noting a code of many payments";
    let sql = "INSERT INTO payment_crowds (dossier) VALUES ($1)";
    sqlx::query(sql).bind(dossier).execute(&mut **tx).await.doing(DOING)?;
    let sql = format!("UPDATE payment_transactions SET due_us = {AT_ONCE} WHERE dossier <> '' AND dossier = $1");
    sqlx::query(AssertSqlSafe(sql)).bind(dossier).execute(&mut **tx).await.doing(DOING)?;
    Ok(())
}

/// Each group is one dossier, or one transaction alone.
async fn judge_groups(tx: &mut Tx, mut groups: Vec<Vec<Transaction>>, judge: &Judge<'_>) -> Result<(), StoreError> {
    let given_back = given_back(tx, &groups).await?;
    let registered = if judge.has_register {
        let codes: BTreeSet<&str> = groups.iter().flatten().map(Transaction::dossier).collect();
        register::read(tx, &codes.into_iter().filter(|code| !code.is_empty()).collect::<Vec<_>>()).await?
    } else {
        HashMap::new()
    };
    let mut findings: Vec<Finding> = Vec::new();
    let mut due: Vec<(&str, Option<i64>)> = Vec::new();
    for group in &mut groups {
        // Ties are decided by this order.
        group.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    }
    for group in &groups {
        let known = group.first().and_then(|first| registered.get(first.dossier()));
        let members: Vec<Member> = group.iter().map(|one| member(one, &given_back)).collect();
        let dossier = about(group, known, judge);
        let standings = dossier::judge(&members, dossier, &judge.limits);
        for ((transaction, member), standing) in group.iter().zip(&members).zip(standings) {
            let verdict = standing.at(judge.now_us);
            let due_us = match verdict {
                Verdict::Waiting { until_us } => until_us,
                _ => None,
            };
            if due_us != transaction.due_us {
                due.push((&transaction.key, due_us));
            }
            findings.push(finding(transaction, member, group, known, verdict, judge.site));
        }
    }
    mismatch::apply(tx, &findings, judge.now_us).await?;
    ledger::write_due(tx, &due).await
}

/// What rows of their own give back, by the key of what they give back.
async fn given_back(tx: &mut Tx, groups: &[Vec<Transaction>]) -> Result<HashMap<String, Back>, StoreError> {
    let mut given_back: HashMap<String, Back> = HashMap::new();
    let mut keys: Option<Vec<String>> = None;
    for column in ledger::REFUNDS {
        if !ledger::has_any(tx, column).await? {
            continue;
        }
        let keys = keys.get_or_insert_with(|| groups.iter().flatten().map(|one| one.key.clone()).collect());
        for refund in ledger::read(tx, column, keys).await? {
            let is_portal = column.starts_with("portal");
            let side = if is_portal { refund.portal } else { refund.gateway };
            let moved = side.filter(|record| record.status.gave_back() || record.status.has_money());
            let Some(Record { refund_of, amount, at_us, .. }) = moved else { continue };
            let back = given_back.entry(refund_of).or_default();
            let (sum, latest) = match is_portal {
                true => (&mut back.portal, &mut back.portal_us),
                false => (&mut back.gateway, &mut back.gateway_us),
            };
            (*sum, *latest) = (sum.saturating_add(amount), at_us.max(*latest));
        }
    }
    Ok(given_back)
}

fn member(transaction: &Transaction, given_back: &HashMap<String, Back>) -> Member {
    Member {
        portal: transaction.portal.as_ref().map(Record::fact),
        gateway: transaction.gateway.as_ref().map(Record::fact),
        back: given_back.get(&transaction.key).copied().unwrap_or_default(),
        is_refund: !transaction.first(|record| &record.refund_of).is_empty(),
        is_nameless: is_nameless(&transaction.key),
    }
}

fn about(group: &[Transaction], known: Option<&Registered>, judge: &Judge<'_>) -> Dossier {
    let is_named = group.first().is_some_and(|first| !first.dossier().is_empty());
    let at_portal = group.iter().any(|transaction| transaction.portal.is_some());
    let is_unknown = judge.has_register && is_named && known.is_none() && !at_portal;
    Dossier { is_unknown, fee: if judge.fees.is_empty() { None } else { fee(group, known, judge) } }
}

/// What was due when the first payment of the dossier was made. The portal's word on procedure and channel goes before
/// the gateway's, and both before the register's.
fn fee(group: &[Transaction], known: Option<&Registered>, judge: &Judge<'_>) -> Option<Fee> {
    let records = || {
        let portal = group.iter().filter_map(|transaction| transaction.portal.as_ref());
        portal.chain(group.iter().filter_map(|transaction| transaction.gateway.as_ref()))
    };
    let procedure = records().map(|record| record.procedure.as_str()).find(|procedure| !procedure.is_empty());
    let procedure = procedure.or(known.map(|known| known.procedure.as_str()))?;
    let channel = records().map(|record| record.channel).find(|channel| *channel != Channel::Unknown);
    let channel = channel.or(known.map(|known| known.channel)).unwrap_or_default();
    let money = records().filter(|record| record.status.has_money()).map(|record| record.at_us);
    let date = from_micros(money.min()?).to_zoned_datetime(judge.zone.clone()).date();
    judge.fees.due(procedure, date, channel == Channel::Online)
}

fn finding(
    transaction: &Transaction,
    member: &Member,
    group: &[Transaction],
    known: Option<&Registered>,
    verdict: Verdict,
    site: &str,
) -> Finding {
    let facts = mismatch::Facts { portal: member.portal, gateway: member.gateway };
    let mut finding = Finding { key: transaction.key.clone(), facts, ..Finding::default() };
    match verdict {
        Verdict::Matched => finding.closed_by = closed_by(member),
        Verdict::Waiting { .. } => finding.closed_by = "withdrawn",
        Verdict::Mismatch { kind, amount, since_us } => {
            finding.mismatch = Some((kind, amount, since_us));
            finding.dossier = transaction.dossier().to_string();
            // A gateway seldom says whose payment it is: then another record of the same dossier does.
            let own = transaction.first(|record| &record.agency);
            let others = group.iter().map(|other| other.first(|record| &record.agency));
            let others = others.filter(|agency| !agency.is_empty()).min();
            let registered = known.map(|known| known.agency.as_str());
            let all = [Some(own), others, registered, Some(site)];
            let named = all.into_iter().flatten().find(|agency| !agency.is_empty());
            finding.agency = named.unwrap_or(site).to_string();
        }
    }
    finding
}

fn closed_by(member: &Member) -> &'static str {
    let gave_back = member.gateway.is_some_and(|fact| fact.status.gave_back());
    if member.back.gateway > 0 || gave_back { "money_back" } else { "matched" }
}
