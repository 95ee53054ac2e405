//! Whose a kept payment is: what somebody bound to an agency may not change.

use super::ledger::KEYS;
use super::row::{PaymentRow, Side, is_nameless};
use crate::store::{Doing, StoreError, Tx, json_column};
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeSet, HashMap};

/// The rows (by index) that would change a transaction of an agency that `may` refuses, give it back, or overwrite a
/// record of `side` that is nobody's.
pub(super) async fn foreign(
    tx: &mut Tx,
    side: Side,
    rows: &[&PaymentRow],
    may: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<usize>, StoreError> {
    const DOING: &str = "looking for the agency of a payment";
    let keys = rows.iter().flat_map(|row| [&row.key, &row.record.refund_of]).filter(|key| !key.is_empty());
    let keys: Vec<&String> = keys.collect::<BTreeSet<_>>().into_iter().collect();
    // By transaction: whether one of its records is out of reach, on this side and on any.
    let mut kept: HashMap<String, (bool, bool)> = HashMap::new();
    for chunk in keys.chunks(KEYS) {
        let sql = format!(
            "SELECT txn_ref, side, agency FROM payment_rows WHERE txn_ref IN (SELECT value ->> 0 FROM {})",
            tx.dialect().rows(1)
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(json_column(chunk));
        for row in query.fetch_all(&mut **tx).await.doing(DOING)? {
            let txn_ref: String = row.try_get("txn_ref").doing(DOING)?;
            let of: String = row.try_get("side").doing(DOING)?;
            let agency: String = row.try_get("agency").doing(DOING)?;
            let entry = kept.entry(txn_ref).or_default();
            entry.0 |= of == side.as_str() && !may(&agency);
            entry.1 |= !agency.is_empty() && !may(&agency);
        }
    }
    // A record without a reference is about whatever payment of its dossier fits.
    let nameless = rows.iter().filter(|row| is_nameless(&row.key)).map(|row| &row.record.dossier);
    let nameless: Vec<&String> = nameless.collect::<BTreeSet<_>>().into_iter().collect();
    let mut refused: BTreeSet<String> = BTreeSet::new();
    for chunk in nameless.chunks(KEYS) {
        let sql = format!(
            "SELECT DISTINCT dossier, portal_agency, gateway_agency FROM payment_transactions \
             WHERE dossier <> '' AND dossier IN (SELECT value ->> 0 FROM {})",
            tx.dialect().rows(1)
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(json_column(chunk));
        for row in query.fetch_all(&mut **tx).await.doing(DOING)? {
            let agencies: [String; 2] = [row.try_get(1).doing(DOING)?, row.try_get(2).doing(DOING)?];
            if agencies.iter().any(|agency| !agency.is_empty() && !may(agency)) {
                refused.insert(row.try_get(0).doing(DOING)?);
            }
        }
    }
    let is_foreign = |row: &PaymentRow| {
        let own = kept.get(&row.key).is_some_and(|(here, anywhere)| *here || *anywhere);
        let of_dossier = is_nameless(&row.key) && refused.contains(&row.record.dossier);
        own || of_dossier || kept.get(&row.record.refund_of).is_some_and(|(_, anywhere)| *anywhere)
    };
    Ok(rows.iter().enumerate().filter(|(_, row)| is_foreign(row)).map(|(index, _)| index).collect())
}
