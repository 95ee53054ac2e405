//! Numbers, dates and durations as their readers write them: in Vietnamese a decimal comma, a dot for thousands and
//! dd/mm/yyyy; in English a decimal point, a comma for thousands and the same order of day and month.

use crate::config::site::Language;
use jiff::{Timestamp, tz::TimeZone};
use std::time::Duration;

/// 1234567 is `1.234.567` in Vietnamese, `1,234,567` in English.
pub fn integer(value: i64, language: Language) -> String {
    let separator = if language == Language::Vi { '.' } else { ',' };
    let digits = value.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value < 0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}

/// A size in binary units, as the configuration writes them but rounded: `9.1 GiB`. For messages of the command line.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 100.0 && value.fract() != 0.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A number with `decimals` places, grouped: 1234.5 with 2 is `1.234,50`.
pub fn decimal(value: f64, decimals: usize, language: Language) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let fixed = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = fixed.split_once('.').unwrap_or((&fixed, ""));
    let mut text = String::new();
    let is_zero = fixed.bytes().all(|b| matches!(b, b'0' | b'.'));
    if value < 0.0 && !is_zero {
        text.push('-');
    }
    match whole.parse::<i64>() {
        Ok(whole) => text.push_str(&integer(whole, language)),
        Err(_) => text.push_str(whole),
    }
    if !fraction.is_empty() {
        text.push(if language == Language::Vi { ',' } else { '.' });
        text.push_str(fraction);
    }
    text
}

/// 0.2135 is `21,35 %`.
pub fn percent(ratio: f64, language: Language) -> String {
    format!("{} %", decimal(ratio * 100.0, 2, language))
}

/// A rate with what it was computed from: `21,35 % (3.234/15.147)`.
pub fn rate(numerator: i64, denominator: i64, language: Language) -> String {
    let counts = format!("{}/{}", integer(numerator, language), integer(denominator, language));
    if denominator == 0 {
        return counts;
    }
    format!("{} ({counts})", percent(numerator as f64 / denominator as f64, language))
}

/// By how much a ratio changed: 0.0034 is `+0,34 điểm %`, `+0.34 points`.
pub fn points(change: f64, language: Language) -> String {
    let text = decimal(change * 100.0, 2, language);
    let sign = if change > 0.0 && text.bytes().any(|b| matches!(b, b'1'..=b'9')) { "+" } else { "" };
    let unit = if language == Language::Vi { "điểm %" } else { "points" };
    format!("{sign}{text} {unit}")
}

/// `1.234.567 đ`.
pub fn dong(amount: i64, language: Language) -> String {
    format!("{} đ", integer(amount, language))
}

/// The two greatest units: `12 phút`, `2 giờ 5 phút`, `3 ngày 4 giờ`; under a minute, seconds.
pub fn duration(length: Duration, language: Language) -> String {
    const UNITS: [(u64, &str, &str); 4] =
        [(86_400, "ngày", "day"), (3_600, "giờ", "hour"), (60, "phút", "minute"), (1, "giây", "second")];
    let seconds = length.as_secs();
    let (first, &(size, ..)) =
        UNITS.iter().enumerate().find(|(_, (size, ..))| seconds >= *size).unwrap_or((3, &UNITS[3]));
    let mut parts = vec![unit(seconds / size, UNITS[first], language)];
    let rest = seconds % size;
    // Seconds beside minutes would be noise; from an hour up the second unit matters.
    if first < 2 && rest >= UNITS[first + 1].0 {
        parts.push(unit(rest / UNITS[first + 1].0, UNITS[first + 1], language));
    }
    parts.join(" ")
}

fn unit(count: u64, (_, vi, en): (u64, &str, &str), language: Language) -> String {
    match language {
        Language::Vi => format!("{count} {vi}"),
        Language::En if count == 1 => format!("{count} {en}"),
        Language::En => format!("{count} {en}s"),
    }
}

/// `27/03/2022 07:33`, in the site's time.
pub fn date_time(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned_datetime(zone.clone()).strftime("%d/%m/%Y %H:%M").to_string()
}

/// `27/03/2022`.
pub fn date(date: jiff::civil::Date) -> String {
    date.strftime("%d/%m/%Y").to_string()
}

/// A cell that no spreadsheet takes for a formula: what one would compute begins with an apostrophe, which makes it text.
/// Control characters become spaces.
pub fn safe_cell(cell: &str) -> String {
    let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let is_formula = cell.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    if is_formula { format!("'{cell}") } else { cell }
}

/// Rows as a file for a spreadsheet: UTF-8 with a byte order mark, which Excel needs to see, every cell in quotes and
/// [safe](safe_cell).
pub fn csv(rows: &[Vec<String>]) -> Vec<u8> {
    let mut text = String::from("\u{feff}");
    for row in rows {
        let cells: Vec<String> =
            row.iter().map(|cell| format!("\"{}\"", safe_cell(cell).replace('"', "\"\""))).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Language::{En, Vi};

    #[test]
    fn numbers_are_written_as_their_readers_write_them() {
        assert_eq!(integer(1_234_567, Vi), "1.234.567");
        assert_eq!(integer(-1_000, En), "-1,000");
        assert_eq!(integer(999, Vi), "999");
        assert_eq!(decimal(1234.5, 2, Vi), "1.234,50");
        assert_eq!(decimal(-0.001, 1, Vi), "0,0");
        assert_eq!(rate(3_234, 15_147, Vi), "21,35 % (3.234/15.147)");
        assert_eq!(rate(0, 0, Vi), "0/0");
        assert_eq!(points(0.0034, Vi), "+0,34 điểm %");
        assert_eq!(points(-0.123, En), "-12.30 points");
        assert_eq!(points(0.00001, Vi), "0,00 điểm %");
        assert_eq!(dong(1_234_567, Vi), "1.234.567 đ");
    }

    #[test]
    fn durations_show_the_units_that_matter() {
        let rows = [
            (0, "0 giây", "0 seconds"),
            (59, "59 giây", "59 seconds"),
            (12 * 60 + 5, "12 phút", "12 minutes"),
            (2 * 3_600 + 5 * 60, "2 giờ 5 phút", "2 hours 5 minutes"),
            (3_600, "1 giờ", "1 hour"),
            (3 * 86_400 + 4 * 3_600 + 60, "3 ngày 4 giờ", "3 days 4 hours"),
        ];
        for (seconds, vi, en) in rows {
            assert_eq!(duration(Duration::from_secs(seconds), Vi), vi);
            assert_eq!(duration(Duration::from_secs(seconds), En), en);
        }
    }
}
