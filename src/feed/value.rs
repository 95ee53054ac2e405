//! Reads one cell: text, amount, count, time. Pure; a cell that cannot be read gives a [`Rejection`], never a guess.

use super::{Reason, Rejection};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::config::feeds::AmountScale;

/// The form in which keys, headers and words are compared: NFC, lower case, single spaces.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.nfc().flat_map(char::to_lowercase));
    }
    // Lower case may decompose (İ); compose again.
    if is_nfc(&folded) { folded } else { folded.nfc().collect() }
}

/// Text in NFC, without surrounding white space.
pub fn text(cell: &str) -> Cow<'_, str> {
    let cell = cell.trim();
    if is_nfc(cell) { Cow::Borrowed(cell) } else { Cow::Owned(cell.nfc().collect()) }
}

/// Đồng from `1234567`, `1.234.567`, `1,234,567`, `1 234 567`, with decimals that come to whole đồng after scaling,
/// with or without a trailing `đ`, `₫` or `VND`.
///
/// A single separator followed by exactly three digits groups thousands (đồng has no minor unit); `12,50` is a decimal.
pub fn amount(cell: &str, scale: AmountScale) -> Result<i64, Rejection> {
    let bad = || Rejection::new(Reason::Amount, format!("{:?} is not an amount in đồng", shorten(cell)));
    // What nearly every file has.
    if scale == AmountScale::Dong && (1..=15).contains(&cell.len()) && cell.bytes().all(|b| b.is_ascii_digit()) {
        return cell.parse().map_err(|_| bad());
    }
    let (negative, digits, n_decimals) = number(cell).ok_or_else(bad)?;
    scaled(cell, negative, digits, n_decimals, scale)
}

/// Exact, or not at all.
fn scaled(cell: &str, negative: bool, digits: i128, n_decimals: u32, scale: AmountScale) -> Result<i64, Rejection> {
    let bad = || Rejection::new(Reason::Amount, format!("{:?} is not an amount in đồng", shorten(cell)));
    let (multiply, divide) = match scale {
        AmountScale::Dong => (1, 1),
        AmountScale::Multiply(n) => (i128::from(n), 1),
        AmountScale::Divide(n) => (1, i128::from(n.max(1))),
    };
    let numerator = digits.checked_mul(multiply).ok_or_else(bad)?;
    let denominator = divide * 10_i128.pow(n_decimals);
    if numerator % denominator != 0 {
        let detail = format!("{:?} does not come to whole đồng", shorten(cell));
        return Err(Rejection::new(Reason::Amount, detail));
    }
    let value = i64::try_from(numerator / denominator).map_err(|_| bad())?;
    Ok(if negative { -value } else { value })
}

/// Sign, all digits as one number, and how many of them are decimals.
fn number(cell: &str) -> Option<(bool, i128, u32)> {
    let mut text = cell.trim();
    for unit in ["đồng", "vnđ", "vnd", "đ", "₫"] {
        let Some((at, _)) = text.char_indices().rev().nth(unit.chars().count() - 1) else { continue };
        if fold(&text[at..]) == unit {
            text = text[..at].trim_end();
            break;
        }
    }
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    // The last separator is a decimal one if it cannot group.
    let is_separator = |c: char| matches!(c, '.' | ',' | ' ' | '\u{a0}' | '\u{202f}');
    let last = text.rfind(is_separator);
    let (whole, decimals) = match last {
        None => (text, ""),
        Some(at) => {
            let separator = text[at..].chars().next()?;
            let (head, tail) = (&text[..at], &text[at + separator.len_utf8()..]);
            let others = head.chars().any(|c| is_separator(c) && c != separator);
            let groups = tail.len() == 3 && !others && is_grouped(text, separator);
            match separator {
                _ if groups => (text, ""),
                '.' | ',' if tail.len() <= 9 && !head.contains(separator) => (head, tail),
                _ => return None,
            }
        }
    };
    if !decimals.bytes().all(|b| b.is_ascii_digit()) || (last.is_some() && decimals.is_empty() && whole != text) {
        return None;
    }
    if let Some(separator) = whole.chars().find(|c| is_separator(*c))
        && !is_grouped(whole, separator)
    {
        return None;
    }
    // More would not be money, and less than overflows.
    const MAX_DIGITS: u32 = 24;
    let mut value: i128 = 0;
    let mut n_digits = 0;
    for c in whole.chars().filter(|c| !is_separator(*c)).chain(decimals.chars()) {
        n_digits += 1;
        if n_digits > MAX_DIGITS {
            return None;
        }
        value = value * 10 + i128::from(c.to_digit(10)?);
    }
    (!whole.is_empty() && n_digits > 0).then_some((negative, value, decimals.len() as u32))
}

/// `1.234.567`: a first group of one to three digits that is not zero, then groups of three, one separator throughout.
fn is_grouped(text: &str, separator: char) -> bool {
    let mut groups = text.split(separator);
    let is_digits = |group: &str| group.bytes().all(|b| b.is_ascii_digit());
    let first = groups.next().is_some_and(|g| (1..=3).contains(&g.len()) && is_digits(g) && !g.starts_with('0'));
    first && groups.all(|group| group.len() == 3 && is_digits(group))
}

/// Đồng from a number whose point is a decimal point, as programs write them: `150000`, `150000.00`, `-1.5`.
pub fn decimal(cell: &str, scale: AmountScale) -> Result<i64, Rejection> {
    let bad = || Rejection::new(Reason::Amount, format!("{:?} is not an amount in đồng", shorten(cell)));
    let (negative, text) = match cell.trim().strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, cell.trim()),
    };
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let decimals = decimals.trim_end_matches('0');
    let is_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() + decimals.len() > 24 || !is_digits(whole) || !is_digits(decimals) {
        return Err(bad());
    }
    let digits = format!("{whole}{decimals}").parse().map_err(|_| bad())?;
    scaled(cell, negative, digits, decimals.len() as u32, scale)
}

/// A count of a program's own: [`decimal`], whole and not negative.
pub fn decimal_count(cell: &str) -> Result<i64, Rejection> {
    let bad = || Rejection::new(Reason::Count, format!("{:?} is not a count", shorten(cell)));
    decimal(cell, AmountScale::Dong).ok().filter(|count| *count >= 0).ok_or_else(bad)
}

/// A count of things: a whole number, not negative, grouped or not.
pub fn count(cell: &str) -> Result<i64, Rejection> {
    let bad = || Rejection::new(Reason::Count, format!("{:?} is not a count", shorten(cell)));
    amount(cell, AmountScale::Dong).ok().filter(|count| *count >= 0).ok_or_else(bad)
}

/// How a feed writes times.
#[derive(Debug, Clone)]
pub struct TimeFormat {
    /// strftime; `None` is ISO 8601.
    pub format: Option<String>,
    /// Of times without an offset.
    pub zone: TimeZone,
}

impl TimeFormat {
    /// Reads a time; a date alone is its midnight.
    pub fn parse(&self, cell: &str) -> Result<Timestamp, Rejection> {
        let cell = cell.trim();
        let read = match &self.format {
            Some(format) => self.formatted(format, cell),
            None => iso(cell).or_else(|| self.iso(cell)),
        };
        let read = read.ok_or_else(|| {
            let expected = self.format.as_deref().unwrap_or("ISO 8601");
            Rejection::new(Reason::Time, format!("{:?} is not a time ({expected})", shorten(cell)))
        });
        read.and_then(|time| plausible(time, cell))
    }

    /// Reads ISO 8601, whatever the feed's own format.
    pub fn iso_only(&self, cell: &str) -> Result<Timestamp, Rejection> {
        let read = iso(cell).or_else(|| self.iso(cell));
        let bad = || Rejection::new(Reason::Time, format!("{:?} is not a time (ISO 8601)", shorten(cell)));
        read.ok_or_else(bad).and_then(|time| plausible(time, cell))
    }

    fn formatted(&self, format: &str, cell: &str) -> Option<Timestamp> {
        let broken = jiff::fmt::strtime::parse(format, cell).ok()?;
        if broken.offset().is_some() || broken.timestamp().is_some() {
            return broken.to_timestamp().ok();
        }
        let civil = broken.to_datetime().or_else(|_| broken.to_date().map(|date| date.at(0, 0, 0, 0))).ok()?;
        self.local(civil)
    }

    fn iso(&self, cell: &str) -> Option<Timestamp> {
        if let Ok(time) = cell.parse::<Timestamp>() {
            return Some(time);
        }
        if cell.len() <= 10 {
            return self.local(cell.parse::<Date>().ok()?.at(0, 0, 0, 0));
        }
        self.local(cell.parse::<DateTime>().ok()?)
    }

    fn local(&self, civil: DateTime) -> Option<Timestamp> {
        self.zone.to_timestamp(civil).ok()
    }
}

/// Nothing that feeds tell of was older than the services they tell of: `25` read as the year 25 is a mistake, and would
/// be overdue by two thousand years.
fn plausible(time: Timestamp, cell: &str) -> Result<Timestamp, Rejection> {
    /// 1 January 2000, UTC.
    const EARLIEST: i64 = 946_684_800;
    if time.as_second() < EARLIEST {
        let detail = format!("{:?} lies before the year 2000; has its year two digits?", shorten(cell));
        return Err(Rejection::new(Reason::Time, detail));
    }
    Ok(time)
}

/// The fast way for `2026-01-15T01:14:37Z`; `None` for everything else.
fn iso(cell: &str) -> Option<Timestamp> {
    Timestamp::from_second(iso_seconds(cell.as_bytes())?).ok()
}

/// Seconds since 1970 of `2026-01-15T01:14:37Z`; `None` for everything else.
pub fn iso_seconds(cell: &[u8]) -> Option<i64> {
    let cell: &[u8; 20] = cell.try_into().ok()?;
    let punctuation = cell[4] == b'-' && cell[7] == b'-' && cell[10] == b'T' && cell[13] == b':' && cell[16] == b':';
    if !punctuation || cell[19] != b'Z' {
        return None;
    }
    let mut valid = true;
    let mut two = |at: usize| {
        let (tens, ones) = (cell[at].wrapping_sub(b'0'), cell[at + 1].wrapping_sub(b'0'));
        valid &= tens < 10 && ones < 10;
        i64::from(tens) * 10 + i64::from(ones)
    };
    let (year, month, day) = (two(0) * 100 + two(2), two(5), two(8));
    let (hour, minute, second) = (two(11), two(14), two(17));
    // A 31st of a short month goes the slow way, which refuses it.
    let plausible = (1..=12).contains(&month) && (1..=28).contains(&day) && hour < 24 && minute < 60 && second < 60;
    let late_day = (29..=30).contains(&day) && month != 2 || day == 31 && matches!(month, 1 | 3 | 5 | 7 | 8 | 10 | 12);
    let late = late_day && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !valid || year < 1970 || !(plausible || late) {
        return None;
    }
    // Days since 1970 of a proleptic Gregorian date, with years that begin in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The beginning of a cell, for messages.
pub fn shorten(cell: &str) -> Cow<'_, str> {
    const SHOWN: usize = 60;
    match cell.char_indices().nth(SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}…", &cell[..end])),
        None => Cow::Borrowed(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_as_people_and_programs_write_them() {
        let dong = AmountScale::Dong;
        let rows = [
            ("1234567", dong, Some(1_234_567)),
            ("1.234.567", dong, Some(1_234_567)),
            ("1,234,567", dong, Some(1_234_567)),
            ("1 234 567", dong, Some(1_234_567)),
            ("1.234", dong, Some(1_234)),
            ("1234.00", dong, Some(1_234)),
            ("1,234.00", dong, Some(1_234)),
            ("1.234,00", dong, Some(1_234)),
            ("150.000 đ", dong, Some(150_000)),
            ("150.000 VND", dong, Some(150_000)),
            ("150,000₫", dong, Some(150_000)),
            ("0", dong, Some(0)),
            ("-5.000", dong, Some(-5_000)),
            ("12,50", dong, None),
            ("0.123", dong, None),
            ("1234.567", dong, None),
            ("1.23.456", dong, None),
            ("1,234.567,00", dong, None),
            ("", dong, None),
            ("-", dong, None),
            ("12a", dong, None),
            ("1.", dong, None),
            (".5", dong, None),
            ("1e5", dong, None),
            ("99999999999999999999", dong, None),
            ("9999999999999999999999999999999999999999999", dong, None),
            ("15000000", AmountScale::Divide(100), Some(150_000)),
            ("15000050", AmountScale::Divide(100), None),
            ("150", AmountScale::Multiply(1_000), Some(150_000)),
            ("150.5", AmountScale::Multiply(1_000), Some(150_500)),
        ];
        for (cell, scale, expected) in rows {
            assert_eq!(amount(cell, scale).ok(), expected, "{cell:?} {scale:?}");
        }
    }

    #[test]
    fn times_with_and_without_offset_and_in_a_given_format() {
        let zone = TimeZone::fixed(jiff::tz::offset(7));
        let iso = TimeFormat { format: None, zone: zone.clone() };
        let expected: Timestamp = "2026-01-15T01:14:37Z".parse().unwrap();
        for cell in ["2026-01-15T01:14:37Z", "2026-01-15T08:14:37+07:00", "2026-01-15T08:14:37", "2026-01-15 08:14:37"]
        {
            assert_eq!(iso.parse(cell).unwrap(), expected, "{cell}");
        }
        assert_eq!(iso.parse("2026-01-15").unwrap(), "2026-01-14T17:00:00Z".parse().unwrap());
        for cell in ["", "hôm qua", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "15/01/2026"] {
            assert!(iso.parse(cell).is_err(), "{cell}");
        }
        let compact = TimeFormat { format: Some("%Y%m%d%H%M%S".into()), zone: zone.clone() };
        assert_eq!(compact.parse("20260115081437").unwrap(), expected);
        let vietnamese = TimeFormat { format: Some("%d/%m/%Y %H:%M".into()), zone };
        assert_eq!(vietnamese.parse("15/01/2026 08:14").unwrap(), "2026-01-15T01:14:00Z".parse().unwrap());
        for cell in ["15/01/26 08:14", "15/01/0025 08:14", "15/01/1925 08:14"] {
            let rejection = vietnamese.parse(cell).unwrap_err();
            assert_eq!(rejection.reason, Reason::Time, "{cell}");
        }
    }

    #[test]
    fn the_fast_way_agrees_with_the_slow_one() {
        for second in (0..4_102_444_800_i64).step_by(1_234_567) {
            let time = Timestamp::from_second(second).unwrap();
            // Leap days go the slow way.
            let leap_day = time.to_string().contains("-02-29T");
            assert_eq!(iso_seconds(time.to_string().as_bytes()), (!leap_day).then_some(second), "{time}");
        }
    }

    #[test]
    fn words_are_compared_composed_and_folded() {
        assert_eq!(fold("Ma\u{0303}  GD "), fold("MÃ gd"));
        assert_ne!(fold("ma gd"), fold("mã gd"));
    }
}
