//! The register of dossiers: which there are, whose, of which procedure, filed how. Optional (`payments.dossiers`); with
//! it a payment for a dossier that does not exist is seen as such.

use super::ledger::{self, KEYS};
use super::row::{Channel, bounded, resolve};
use crate::feed::{Cells, Gatherer, Names, Need, Rejection, value};
use crate::org::Org;
use crate::store::{Doing, StoreError, Tx, json_column, placeholder_rows, rows_at_once};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// One dossier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Empty if the row does not say.
    pub agency: String,
    /// Folded; empty if the row does not say.
    pub procedure: String,
    pub channel: Channel,
}

/// Of a dossier in the table.
const COLUMNS: usize = 4;

/// Reads the register's rows; the one read last counts.
pub(super) struct RegisterGatherer {
    pub org: Arc<Org>,
}

impl Gatherer for RegisterGatherer {
    type Row = (String, Registered);
    type Ready = Vec<(String, Registered)>;

    fn columns(&self) -> Names {
        &[
            ("dossier", Need::Required),
            ("agency", Need::Optional),
            ("procedure", Need::Optional),
            ("channel", Need::Optional),
        ]
    }

    fn parse(&self, cells: &Cells<'_>, now: Timestamp) -> Result<Self::Row, Rejection> {
        let dossier = bounded(cells.required(0)?, "dossier")?;
        let agency = resolve(&self.org, &cells.text(1)?, now)?;
        let procedure = value::fold(&bounded(cells.text(2)?, "procedure")?);
        Ok((dossier, Registered { agency, procedure, channel: Channel::parse(&cells.text(3)?) }))
    }

    fn agency<'r>(&self, row: &'r Self::Row) -> &'r str {
        &row.1.agency
    }

    async fn foreign(
        &self,
        tx: &mut Tx,
        rows: &[&Self::Row],
        may: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<usize>, StoreError> {
        let known = read(tx, &rows.iter().map(|(dossier, _)| dossier.as_str()).collect::<Vec<_>>()).await?;
        let is_foreign = |dossier: &String| known.get(dossier).is_some_and(|known| !may(&known.agency));
        Ok(rows.iter().enumerate().filter(|(_, (dossier, _))| is_foreign(dossier)).map(|(index, _)| index).collect())
    }

    fn ready(&self, rows: Self::Ready) -> Self::Ready {
        rows
    }

    async fn write(&self, tx: &mut Tx, rows: Self::Ready, _now: Timestamp) -> Result<(), StoreError> {
        let rows: BTreeMap<String, Registered> = rows.into_iter().collect();
        let known = read(tx, &rows.keys().map(String::as_str).collect::<Vec<_>>()).await?;
        let changed: Vec<(&String, &Registered)> =
            rows.iter().filter(|(dossier, row)| known.get(*dossier) != Some(row)).collect();
        for chunk in changed.chunks(rows_at_once(COLUMNS)) {
            let sql = format!(
                "INSERT INTO payment_dossiers (dossier, agency, procedure_code, channel) VALUES {} \
                 ON CONFLICT (dossier) DO UPDATE SET agency = excluded.agency, \
                 procedure_code = excluded.procedure_code, channel = excluded.channel",
                placeholder_rows(chunk.len(), COLUMNS)
            );
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for (dossier, row) in chunk {
                query = query.bind(*dossier).bind(&row.agency).bind(&row.procedure).bind(row.channel.as_str());
            }
            query.execute(&mut **tx).await.doing("writing the register of dossiers")?;
        }
        let changed: BTreeSet<String> = changed.into_iter().map(|(dossier, _)| dossier.clone()).collect();
        ledger::wake(tx, "dossier", &changed).await?;
        Ok(())
    }
}

/// What the register knows of these dossiers.
pub(super) async fn read(tx: &mut Tx, dossiers: &[&str]) -> Result<HashMap<String, Registered>, StoreError> {
    const DOING: &str = "reading the register of dossiers";
    let mut known = HashMap::new();
    for chunk in dossiers.chunks(KEYS) {
        let sql = format!(
            "SELECT dossier, agency, procedure_code, channel FROM payment_dossiers WHERE dossier IN \
             (SELECT value ->> 0 FROM {})",
            tx.dialect().rows(1)
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(json_column(chunk));
        for row in query.fetch_all(&mut **tx).await.doing(DOING)? {
            let decode = || {
                let channel = Channel::parse(row.try_get(3)?);
                let registered = Registered { agency: row.try_get(1)?, procedure: row.try_get(2)?, channel };
                Ok((row.try_get(0)?, registered))
            };
            let (dossier, registered) = decode().doing(DOING)?;
            known.insert(dossier, registered);
        }
    }
    Ok(known)
}
