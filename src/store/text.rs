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
