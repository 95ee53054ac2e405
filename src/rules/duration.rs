//! Durations in rule files.

use std::time::Duration;

/// A duration as Prometheus writes it: `90s`, `1h30m`, `0`. `None` if it is none.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total, mut next_unit) = (text, 0_u64, 0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        // Units stand in descending order, each once.
        let at = UNITS.iter().position(|(unit, _)| *unit == &after[..letters]).filter(|at| *at >= next_unit)?;
        total = total.checked_add(count.checked_mul(UNITS[at].1)?)?;
        next_unit = at + 1;
        rest = &after[letters..];
    }
    (next_unit > 0).then(|| Duration::from_millis(total))
}
