//! Transactions as rows of their table: the statement that writes many of them.

use super::ledger::{Transaction, side_columns};
use super::row::Side;
use crate::store::{Doing, StoreError, Tx, json_rows};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use sqlx::AssertSqlSafe;

/// Rows in one statement. SQLite copies every page before a statement changes it first, in case the statement has to be
/// undone, and the pages of the index of dossiers are changed all over.
const ROWS: usize = 20_000;
const N_COLUMNS: usize = 19;

/// What stands in one column of one row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell<'a> {
    Text(&'a str),
    Number(i64),
    Time(Option<i64>),
}

impl Cell<'_> {
    /// Whether it says nothing: what a record that is not there leaves in its columns, and most records in some.
    fn is_blank(self) -> bool {
        matches!(self, Cell::Text("") | Cell::Number(0) | Cell::Time(None))
    }

    /// A blank one of the same column, in SQL.
    fn blank(self) -> &'static str {
        match self {
            Cell::Text(_) => "''",
            Cell::Number(_) => "0",
            Cell::Time(_) => "CAST(NULL AS BIGINT)",
        }
    }

    /// Column `n` of the JSON row, in SQL.
    fn column(self, n: usize) -> String {
        match self {
            Cell::Text(_) => format!("value ->> {n}"),
            Cell::Number(_) | Cell::Time(_) => format!("CAST(value ->> {n} AS BIGINT)"),
        }
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cell::Text(text) => serializer.serialize_str(text),
            Cell::Number(number) => serializer.serialize_i64(*number),
            Cell::Time(time) => time.serialize(serializer),
        }
    }
}

/// In the order of [`names`].
fn cells(transaction: &Transaction) -> [Cell<'_>; N_COLUMNS] {
    let mut cells = [Cell::Text(""); N_COLUMNS];
    (cells[0], cells[1]) = (Cell::Text(&transaction.key), Cell::Text(transaction.dossier()));
    cells[2] = Cell::Time(transaction.due_us);
    for (side, cells) in [&transaction.portal, &transaction.gateway].into_iter().zip(cells[3..].chunks_mut(8)) {
        (cells[1], cells[2]) = (Cell::Number(0), Cell::Number(0));
        let Some(record) = side else { continue };
        cells[0] = Cell::Text(record.status.as_str());
        (cells[1], cells[2]) = (Cell::Number(record.amount), Cell::Number(record.at_us));
        (cells[3], cells[4]) = (Cell::Text(&record.agency), Cell::Text(&record.dossier));
        (cells[5], cells[6]) = (Cell::Text(&record.refund_of), Cell::Text(&record.procedure));
        cells[7] = Cell::Text(record.channel.as_str());
    }
    cells
}

fn names() -> Vec<String> {
    let sides = [Side::Portal, Side::Gateway].map(side_columns);
    ["txn_ref", "dossier", "due_us"].map(String::from).into_iter().chain(sides.into_iter().flatten()).collect()
}

/// A transaction's cells in the columns that are not blank in all rows of the statement.
struct Row<'a> {
    transaction: &'a Transaction,
    kept: &'a [usize],
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cells = cells(self.transaction);
        let mut row = serializer.serialize_seq(Some(self.kept.len()))?;
        self.kept.iter().try_for_each(|column| row.serialize_element(&cells[*column]))?;
        row.end()
    }
}

/// A statement and the rows for its parameter. To take a value out of a row has its price, so a column that is blank in all
/// rows stands in the text of the statement.
fn statement(rows: &[&Transaction], dialect: crate::store::Dialect) -> (String, String) {
    let mut is_kept = [false; N_COLUMNS];
    for row in rows {
        for (is_kept, cell) in is_kept.iter_mut().zip(cells(row)) {
            *is_kept |= !cell.is_blank();
        }
    }
    let kept: Vec<usize> = (0..N_COLUMNS).filter(|column| is_kept[*column]).collect();
    let kinds = rows.first().map_or([Cell::Text(""); N_COLUMNS], |row| cells(row));
    let values = kinds.into_iter().enumerate().map(|(column, cell)| {
        let place = kept.binary_search(&column);
        place.map_or(cell.blank().to_string(), |place| cell.column(place))
    });
    let names = names();
    let updates = names.iter().skip(1).map(|column| format!("{column} = excluded.{column}"));
    // The condition tells SQLite that ON belongs to no join.
    let sql = format!(
        "INSERT INTO payment_transactions ({}) SELECT {} FROM {} WHERE TRUE ON CONFLICT (txn_ref) DO UPDATE SET {}",
        names.join(", "),
        values.collect::<Vec<_>>().join(", "),
        dialect.rows(1),
        updates.collect::<Vec<_>>().join(", "),
    );
    (sql, json_rows(rows.iter().map(|transaction| Row { transaction, kept: &kept })))
}

/// Writes transactions, new ones and known ones. Each key at most once, as PostgreSQL wants it.
pub(super) async fn write(tx: &mut Tx, transactions: &[&Transaction]) -> Result<(), StoreError> {
    let dialect = tx.dialect();
    let mut statements = transactions.chunks(ROWS).map(|rows| statement(rows, dialect));
    let mut next = statements.next();
    while let Some((sql, rows)) = next.take() {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(rows).execute(&mut **tx);
        // The next one is made while the database works.
        let (written, made) = tokio::join!(query, async { statements.next() });
        written.doing("writing payments")?;
        next = made;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::payment::classify::Status;
    use crate::gather::payment::row::Record;
    use crate::store::Dialect;

    #[test]
    fn a_column_that_is_blank_in_all_rows_is_not_sent() {
        let record = Record {
            agency: String::new(),
            dossier: "D1".into(),
            amount: 5,
            status: Status::Paid,
            at_us: 7,
            refund_of: String::new(),
            procedure: String::new(),
            channel: Default::default(),
        };
        let first = Transaction { key: "A".into(), due_us: None, portal: None, gateway: Some(record.clone()) };
        let (sql, rows) = statement(&[&first], Dialect::Sqlite);
        assert_eq!(rows, r#"[["A","D1","paid",5,7,"D1"]]"#);
        assert!(sql.contains(
            "SELECT value ->> 0, value ->> 1, CAST(NULL AS BIGINT), '', 0, 0, '', '', '', '', '', value ->> 2, \
             CAST(value ->> 3 AS BIGINT), CAST(value ->> 4 AS BIGINT), '', value ->> 5, '', '', '' FROM"
        ));
        let second = Transaction { key: "B".into(), due_us: Some(0), portal: Some(record), gateway: None };
        let (sql, rows) = statement(&[&first, &second], Dialect::Sqlite);
        assert_eq!(rows, r#"[["A","D1",null,"",0,0,"","paid",5,7,"D1"],["B","D1",0,"paid",5,7,"D1","",0,0,""]]"#);
        assert!(
            sql.contains("SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BIGINT), value ->> 3, CAST"),
            "{sql}"
        );
    }
}
