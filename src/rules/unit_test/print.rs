//! Expectations and findings, as promtool prints them.

use super::{LabelMap, Shown};
use crate::promql::Labels;
use std::cmp::Ordering;
use std::fmt::Write;
use std::time::Duration;

/// As Prometheus's label sets compare: pair by pair, the shorter first.
pub(super) fn alert_order(left: &Shown, right: &Shown) -> Ordering {
    left.0.iter().cmp(right.0.iter()).then_with(|| left.1.iter().cmp(right.1.iter()))
}

pub(super) fn alerts(list: &[Shown]) -> String {
    if list.is_empty() {
        return "[]".to_owned();
    }
    let indent = "            ";
    let mut text = String::from("[");
    for (index, (labels, annotations)) in list.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}\n{indent}{index}:\n{indent}  Labels:{}", map(labels));
        let _ = write!(text, "\n{indent}  Annotations:{}", map(annotations));
    }
    let _ = write!(text, "\n{indent}]");
    text
}

pub(super) fn samples(list: &[(Labels, f64)]) -> String {
    if list.is_empty() {
        return "nil".to_owned();
    }
    let texts: Vec<String> = list
        .iter()
        .map(|(labels, value)| {
            let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            format!("{} {}", map(&labels), number(*value))
        })
        .collect();
    texts.join(", ")
}

fn map(labels: &LabelMap) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// As Go's `Quote`: Rust writes the same but for control characters.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// As Go's `FormatFloat(v, 'E', -1, 64)`.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return crate::promql::format_value(value);
    }
    let text = format!("{value:E}");
    let Some((digits, exponent)) = text.split_once('E') else { return text };
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}E-{exponent:0>2}"),
        None => format!("{digits}E+{exponent:0>2}"),
    }
}

/// As Prometheus writes durations: `1h30m`; years, weeks and days only where they are all there is.
pub(super) fn duration(length: Duration) -> String {
    let mut ms = length.as_millis();
    if ms == 0 {
        return "0s".to_owned();
    }
    const UNITS: [(&str, u128, bool); 7] = [
        ("y", 365 * 86_400_000, true),
        ("w", 7 * 86_400_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1_000, false),
        ("ms", 1, false),
    ];
    let mut text = String::new();
    for (unit, size, exact) in UNITS {
        if exact && !ms.is_multiple_of(size) {
            continue;
        }
        if ms >= size {
            let _ = write!(text, "{}{unit}", ms / size);
            ms %= size;
        }
    }
    text
}

/// As Go writes durations: `1h0m0s`, `1m30s`, `500ms`.
pub(super) fn go_duration(ms: i64) -> String {
    let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let seconds = match (ms / 1000 % 60, ms % 1000) {
        (seconds, 0) => format!("{seconds}s"),
        (seconds, rest) => format!("{}s", format!("{seconds}.{rest:03}").trim_end_matches('0')),
    };
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_written_as_go_writes_them() {
        assert_eq!(
            (number(1.0), number(-0.015), number(f64::INFINITY)),
            ("1E+00".into(), "-1.5E-02".into(), "+Inf".into())
        );
        let rows = [
            (0, "0s", "0s"),
            (90_000, "1m30s", "1m30s"),
            (3_600_000, "1h", "1h0m0s"),
            (86_400_000, "1d", "24h0m0s"),
            (7 * 86_400_000, "1w", "168h0m0s"),
            (8 * 86_400_000, "8d", "192h0m0s"),
            (1_500, "1s500ms", "1.5s"),
            (20, "20ms", "20ms"),
        ];
        for (ms, prometheus, go) in rows {
            assert_eq!(
                (duration(Duration::from_millis(ms)).as_str(), go_duration(ms as i64).as_str()),
                (prometheus, go)
            );
        }
        assert_eq!(quoted("a\"\n\u{1}ộ"), "\"a\\\"\\n\\x01ộ\"");
    }
}
