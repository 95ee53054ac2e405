//! The watermark: how it stands in a query, and from where on rows are asked for again. Pure.

use super::session::{Field, FieldKind};
use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A longer watermark is refused. Bytes.
const MAX: usize = 100;

/// The greatest value of the watermark's column that was read, as the database wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    pub text: String,
    /// It stands without quotes.
    pub is_number: bool,
}

impl Watermark {
    /// `None`: a value that cannot be put into a query.
    pub fn of(field: &Field) -> Option<Watermark> {
        let is_number = field.kind == FieldKind::Number;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | ':' | '+' | '-' | '_' | '/');
        let sound = !field.text.is_empty() && field.text.len() <= MAX && field.text.chars().all(is_plain);
        let sound = sound && (!is_number || field.text.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'.'));
        sound.then(|| Watermark { text: field.text.clone(), is_number })
    }

    /// What the configuration begins with.
    pub fn start(text: Option<&str>) -> Watermark {
        let text = text.unwrap_or("1970-01-01 00:00:00");
        let is_number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        Watermark { text: text.to_owned(), is_number }
    }

    /// As it stands in a query: a little below, so that rows with the very same watermark that were written after the
    /// last look are seen whether the query says `>` or `>=`.
    pub fn literal(&self, overlap: Duration) -> String {
        let below = self.below(overlap);
        if self.is_number { below } else { format!("'{below}'") }
    }

    fn below(&self, overlap: Duration) -> String {
        if self.is_number {
            // Decimals have no next lower one.
            return self.text.parse::<i64>().map_or_else(|_| self.text.clone(), |n| n.saturating_sub(1).to_string());
        }
        let overlap = SignedDuration::try_from(overlap).unwrap_or_default();
        if let Ok(date) = self.text.parse::<Date>()
            && self.text.len() == 10
        {
            let days = Span::new().days(1 + overlap.as_hours().div_euclid(24));
            return date.checked_sub(days).map_or_else(|_| self.text.clone(), |date| date.to_string());
        }
        // An offset stays as it is: the database's own, always the same.
        let end = self.text.get(11..).and_then(|rest| rest.find(['+', '-', 'Z'])).map_or(self.text.len(), |at| at + 11);
        let (civil, offset) = self.text.split_at(end);
        let Ok(time) = civil.trim_end().parse::<DateTime>() else { return self.text.clone() };
        let below = time.checked_sub(overlap + SignedDuration::from_micros(1));
        below.map_or_else(|_| self.text.clone(), |below| format!("{}{offset}", below.strftime("%Y-%m-%d %H:%M:%S%.6f")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_stands_a_little_below_itself_and_nothing_else_gets_into_the_query() {
        let field = |text: &str, kind| Field { text: text.into(), kind };
        let rows = [
            ("2026-11-23 08:00:00+00", FieldKind::Time, 0, Some("'2026-11-23 07:59:59.999999+00'")),
            ("2026-11-23 08:00:00.25", FieldKind::Utc, 60, Some("'2026-11-23 07:59:00.249999'")),
            ("2026-11-23", FieldKind::Time, 0, Some("'2026-11-22'")),
            ("42", FieldKind::Number, 0, Some("41")),
            ("-3", FieldKind::Number, 0, Some("-4")),
            ("1.5", FieldKind::Number, 0, Some("1.5")),
            ("abc-7", FieldKind::Text, 0, Some("'abc-7'")),
            ("x' OR 1=1", FieldKind::Text, 0, None),
            ("1; drop table t", FieldKind::Number, 0, None),
            ("", FieldKind::Number, 0, None),
        ];
        for (text, kind, overlap, expected) in rows {
            let watermark = Watermark::of(&field(text, kind));
            let literal = watermark.map(|watermark| watermark.literal(Duration::from_secs(overlap)));
            assert_eq!(literal.as_deref(), expected, "{text}");
        }
        assert_eq!(Watermark::start(Some("0")).literal(Duration::ZERO), "-1");
        assert_eq!(Watermark::start(None).literal(Duration::ZERO), "'1969-12-31 23:59:59.999999'");
    }
}
