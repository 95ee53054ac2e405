//! Numbers in the texts of alerts as their readers write them. Rule templates know Prometheus's functions alone, which
//! write `4.321%` and `1h 2m 3s` in every language.

use crate::config::site::Language::{self, Vi};
use crate::format;
use std::time::Duration;

/// Decimals of a percentage.
const DECIMALS: usize = 2;

/// The line with its percentages, durations and (in Vietnamese) decimal points as its reader writes them. Everything that
/// is not surely one of these stays: addresses, versions, codes.
pub(super) fn readable(line: &str, language: Language) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    let mut rest = words.as_slice();
    while let [word, after @ ..] = rest {
        if let Some((length, text)) = duration(rest, language) {
            out.push(text);
            rest = &rest[length..];
            continue;
        }
        out.push(number(word, language).unwrap_or_else(|| (*word).to_owned()));
        rest = after;
    }
    out.join(" ")
}

/// A word without the stops after it, and those.
fn split_stops(word: &str) -> (&str, &str) {
    word.split_at(word.trim_end_matches([',', '.', ';', ':', ')']).len())
}

/// `4.321%`, and in Vietnamese `9.7`; what stands in brackets counts.
fn number(word: &str, language: Language) -> Option<String> {
    let (core, stops) = split_stops(word);
    let (before, core) = core.strip_prefix('(').map_or(("", core), |core| ("(", core));
    let (digits, is_percentage) = core.strip_suffix('%').map_or((core, false), |digits| (digits, true));
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    if unsigned.is_empty() || !are_digits(unsigned) || !are_digits(decimals) {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    let shown = decimals.trim_end_matches('0').len().min(DECIMALS);
    match (is_percentage, language) {
        (true, Vi) => Some(format!("{before}{} %{stops}", format::decimal(value, shown, Vi))),
        (true, _) => Some(format!("{before}{}%{stops}", format::decimal(value, shown, language))),
        (false, Vi) if !decimals.is_empty() => Some(format!("{before}{}{stops}", digits.replace('.', ","))),
        (false, _) => None,
    }
}

/// `1d 2h 3m 4s` as `humanizeDuration` writes it, from the greatest unit down to the seconds: how many words it takes, and
/// what a reader reads.
fn duration(words: &[&str], language: Language) -> Option<(usize, String)> {
    const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    let (mut seconds, mut length, mut units) = (0_u64, 0, UNITS.as_slice());
    for word in words {
        let (core, stops) = split_stops(word);
        let unit = core.chars().last()?;
        let position = units.iter().position(|(name, _)| *name == unit)?;
        let count: u64 = core.strip_suffix(unit)?.parse().ok()?;
        seconds = seconds.checked_add(count.checked_mul(units[position].1)?)?;
        length += 1;
        units = &units[position + 1..];
        if unit == 's' {
            let text = format::duration(Duration::from_secs(seconds), language);
            return Some((length, format!("{text}{stops}")));
        }
        if !stops.is_empty() {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use Language::En;

    #[test]
    fn what_templates_write_is_written_as_its_reader_does() {
        let rows = [
            ("còn 4.321%", "còn 4,32 %", "còn 4.32%"),
            ("đứng yên đã 26m 40s", "đứng yên đã 26 phút", "đứng yên đã 26 minutes"),
            ("sau 1d 2h 3m 4s.", "sau 1 ngày 2 giờ.", "sau 1 day 2 hours."),
            ("chậm (9.7 giây, 100%)", "chậm (9,7 giây, 100 %)", "chậm (9.7 giây, 100%)"),
            ("12s", "12 giây", "12 seconds"),
            ("-0.5%", "-0,5 %", "-0.5%"),
            // What only looks like it.
            (
                "192.0.2.1 H47.22-220327 v15.3 5m s 3s4",
                "192.0.2.1 H47.22-220327 v15.3 5m s 3s4",
                "192.0.2.1 H47.22-220327 v15.3 5m s 3s4",
            ),
            ("1m 2d", "1m 2d", "1m 2d"),
            ("", "", ""),
            ("3 camera", "3 camera", "3 camera"),
        ];
        for (line, vi, en) in rows {
            assert_eq!(readable(line, Vi), vi, "{line}");
            assert_eq!(readable(line, En), en, "{line}");
        }
    }
}
