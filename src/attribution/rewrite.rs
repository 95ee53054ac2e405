//! Rows of the ledger that change, in few statements: after a start those of a whole fleet do.

use super::Subject;
use super::track::Piece;
use crate::store::{Doing, StoreError, Tx, json_rows};
use serde::Serialize;
use sqlx::AssertSqlSafe;

const DOING: &str = "writing the attribution ledger";

/// Makes the rows of each subject that are `old` into `new`. No subject stands there twice: PostgreSQL changes no row twice in
/// one statement.
pub(super) async fn rewrite<'a>(
    tx: &mut Tx,
    changes: impl IntoIterator<Item = (&'a Subject, &'a [Piece], &'a [Piece])>,
) -> Result<(), StoreError> {
    let (mut ended, mut gone, mut written) = (Vec::new(), Vec::new(), Vec::new());
    for (subject, old, new) in changes {
        let n_same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let (mut old, mut new) = (&old[n_same..], &new[n_same..]);
        // Most changes only end a row.
        if let (Some(before), Some(after)) = (old.first(), new.first())
            && *before == (Piece { until_us: before.until_us, ..after.clone() })
        {
            ended.push((subject, after));
            (old, new) = (&old[1..], &new[1..]);
        }
        gone.extend(old.iter().map(|piece| (subject, piece)));
        written.extend(new.iter().map(|piece| (subject, piece)));
    }
    end(tx, &ended).await?;
    remove(tx, &gone).await?;
    write(tx, &written).await
}

async fn end(tx: &mut Tx, rows: &[(&Subject, &Piece)]) -> Result<(), StoreError> {
    let sql = format!(
        "UPDATE ledger_intervals SET until_us = n.until_us \
         FROM (SELECT value ->> 0 AS subject_kind, value ->> 1 AS subject, CAST(value ->> 2 AS BIGINT) AS from_us, \
         CAST(value ->> 3 AS BIGINT) AS until_us FROM {}) n \
         WHERE ledger_intervals.subject_kind = n.subject_kind AND ledger_intervals.subject = n.subject \
         AND ledger_intervals.from_us = n.from_us",
        tx.dialect().rows(1)
    );
    let rows = rows.iter().map(|(subject, piece)| (subject.kind.as_str(), &*subject.id, piece.from_us, piece.until_us));
    execute(tx, sql, rows).await
}

async fn remove(tx: &mut Tx, rows: &[(&Subject, &Piece)]) -> Result<(), StoreError> {
    let sql = format!(
        "DELETE FROM ledger_intervals WHERE (subject_kind, subject, from_us) IN \
         (SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT) FROM {})",
        tx.dialect().rows(1)
    );
    let rows = rows.iter().map(|(subject, piece)| (subject.kind.as_str(), &*subject.id, piece.from_us));
    execute(tx, sql, rows).await
}

async fn write(tx: &mut Tx, rows: &[(&Subject, &Piece)]) -> Result<(), StoreError> {
    // The condition tells SQLite that ON belongs to no join.
    let sql = format!(
        "INSERT INTO ledger_intervals \
         (subject_kind, subject, agency, from_us, until_us, state, cause, blamed, origin, reason) \
         SELECT value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT), CAST(value ->> 4 AS BIGINT), \
         value ->> 5, value ->> 6, value ->> 7, 'auto', value ->> 8 FROM {} WHERE TRUE \
         ON CONFLICT (subject_kind, subject, from_us) DO UPDATE SET agency = excluded.agency, \
         until_us = excluded.until_us, state = excluded.state, cause = excluded.cause, \
         blamed = excluded.blamed, reason = excluded.reason",
        tx.dialect().rows(1)
    );
    let rows = rows.iter().map(|(subject, piece)| {
        let (verdict, sight) = (&piece.verdict, &piece.verdict.sight);
        (
            subject.kind.as_str(),
            &*subject.id,
            &*sight.agency,
            piece.from_us,
            piece.until_us,
            sight.state.as_str(),
            verdict.cause.as_str(),
            &*verdict.by,
            &*sight.reason,
        )
    });
    execute(tx, sql, rows).await
}

/// Executes a statement whose only parameter is the rows, unless there are none.
async fn execute<T: Serialize>(
    tx: &mut Tx,
    sql: String,
    rows: impl ExactSizeIterator<Item = T>,
) -> Result<(), StoreError> {
    if rows.len() > 0 {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(json_rows(rows));
        query.execute(&mut **tx).await.doing(DOING)?;
    }
    Ok(())
}
