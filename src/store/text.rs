//! Pieces of SQL text that both databases read alike.

/// `$1, $2 …`: `count` parameters, numbered from `from` on.
pub fn placeholders(from: usize, count: usize) -> String {
    let mut text = String::with_capacity(count * 6);
    for n in from..from + count {
        if n > from {
            text.push_str(", ");
        }
        text.push('$');
        text.push_str(&n.to_string());
    }
    text
}

/// `($1, $2), ($3, $4) …`: so many rows of so many parameters, for an INSERT.
pub fn placeholder_rows(rows: usize, columns: usize) -> String {
    let rows = (0..rows).map(|row| format!("({})", placeholders(row * columns + 1, columns)));
    rows.collect::<Vec<_>>().join(", ")
}

/// How a database calls what the two call differently: JSON, in which many rows go over as one parameter or one value.
/// Each parameter and each row by itself has its price between the driver's threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// The rows of parameter `$n`, a JSON array of arrays; `value ->> 0` is the first column of a row as text, and
    /// `CAST(value ->> 1 AS BIGINT)` the second one as a number.
    pub fn rows(self, n: usize) -> String {
        match self {
            Dialect::Sqlite => format!("jsonb_each(${n})"),
            Dialect::Postgres => format!("json_array_elements(CAST(${n} AS JSON))"),
        }
    }

    /// All rows of a query in one text: a JSON array of arrays of these columns; NULL or `[]` if there are none.
    pub fn all(self, columns: &str) -> String {
        match self {
            Dialect::Sqlite => format!("json_group_array({})", self.array(columns)),
            Dialect::Postgres => format!("CAST(json_agg({}) AS TEXT)", self.array(columns)),
        }
    }

    /// A JSON array of these columns, to stand within [`Dialect::all`].
    pub fn array(self, columns: &str) -> String {
        match self {
            Dialect::Sqlite => format!("json_array({columns})"),
            Dialect::Postgres => format!("json_build_array({columns})"),
        }
    }
}

/// What [`Dialect::all`] gave.
pub fn decode_rows<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Vec<T>, sqlx::Error> {
    let rows = text.map(|text| serde_json::from_str(&text)).transpose();
    Ok(rows.map_err(|error| sqlx::Error::Decode(error.into()))?.unwrap_or_default())
}

/// A JSON array of rows of one column each, for [`Dialect::rows`].
pub fn json_column<T: serde::Serialize>(values: impl IntoIterator<Item = T>) -> String {
    json_rows(values.into_iter().map(|value| [value]))
}

/// Bytes that a text is expected to need at most.
const RESERVED: usize = 16 << 20;

/// A JSON array of rows, for [`Dialect::rows`]. They are plain values, which can always be written.
pub fn json_rows<T: serde::Serialize>(rows: impl IntoIterator<Item = T>) -> String {
    let rows = rows.into_iter();
    let n_rows = rows.size_hint().0;
    let mut text = vec![b'['];
    for (index, row) in rows.enumerate() {
        if index == 1 {
            // The others are as long as the first one, as a rule.
            text.reserve(((text.len() + 1) * n_rows).min(RESERVED));
        }
        if index > 0 {
            text.push(b',');
        }
        let _ = serde_json::to_writer(&mut text, &row);
    }
    text.push(b']');
    String::from_utf8(text).unwrap_or_default()
}

/// Parameters of a statement that writes or asks for many rows.
const PARAMETERS: usize = 240;

/// How many rows of so many parameters go into one statement. Each statement has its price, most of it between the
/// driver's threads; and SQLite's driver asks for the name of each parameter, which searches those before it, so that a
/// statement costs the square of their number too.
pub const fn rows_at_once(columns: usize) -> usize {
    PARAMETERS / columns
}

#[cfg(test)]
mod tests {
    #[test]
    fn parameters_are_numbered_through() {
        assert_eq!(super::placeholders(3, 2), "$3, $4");
        assert_eq!(super::placeholder_rows(2, 3), "($1, $2, $3), ($4, $5, $6)");
        assert_eq!(super::placeholder_rows(0, 3), "");
    }
}
