//! Durations and sizes as the file writes them, and the valid name nearest to a mistyped one.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `30s`, `5m`, `1h30m` (units w, d, h, m, s, ms, each at most once, in this order); `0` is allowed.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut units = DURATION_UNITS.iter();
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        let (_, scale) = units.by_ref().find(|(unit, _)| *unit == &rest[..letters])?;
        rest = &rest[letters..];
        millis = millis.checked_add(count.checked_mul(*scale)?)?;
    }
    (!text.is_empty()).then_some(Duration::from_millis(millis))
}

/// As the file would say it: `1h30m`.
pub fn write_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, scale) in DURATION_UNITS {
        // 366 days are no round number of weeks; only whole weeks are written as such.
        if millis >= scale && (unit != "w" || millis.is_multiple_of(scale)) {
            text += &format!("{}{unit}", millis / scale);
            millis %= scale;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

const SIZE_UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (unit, shift) = SIZE_UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    let count: u64 = text[..text.len() - unit.len()].trim_end().parse().ok()?;
    count.checked_mul(1 << shift)
}

pub(super) fn write_size(size: u64) -> String {
    let unit = SIZE_UNITS.iter().find(|(_, shift)| size >= 1 << shift && size.is_multiple_of(1 << shift));
    unit.map_or_else(|| format!("{size}B"), |(unit, shift)| format!("{}{unit}", size >> shift))
}

/// From how many characters on the beginning of a name counts as near to it.
const SHORTEST_START: usize = 4;

/// `, nearest: "x"`, or nothing if no candidate is near.
pub(super) fn nearest<S: AsRef<str>>(text: &str, candidates: &[S]) -> String {
    let text = text.to_lowercase();
    let limit = text.chars().count() / 3;
    let fallback = || {
        // A name cut short is far by edits and yet clear.
        let starts = |name: &&str| text.chars().count() >= SHORTEST_START && name.starts_with(&text);
        candidates.iter().map(AsRef::as_ref).find(starts).map(|name| (0, name))
    };
    let best = candidates
        .iter()
        .map(AsRef::as_ref)
        .filter(|candidate| candidate.chars().count().abs_diff(text.chars().count()) <= limit)
        .map(|candidate| (distance(&text, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min();
    best.or_else(fallback).map_or(String::new(), |(_, candidate)| format!(", nearest: \"{candidate}\""))
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let a: Vec<char> = a.chars().take(LONGEST).collect();
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_alike() {
        for text in ["30s", "5m", "2h", "7h", "1w", "1h30m", "1d12h", "500ms", "366d", "0s"] {
            assert_eq!(write_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["", "5", "m", "-5m", "5 m", "1m1h", "1m1m", "99999999999999999999s", "9999999999999999999w", "5M"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_need_a_binary_unit() {
        assert_eq!(parse_size("512MiB"), Some(512 << 20));
        assert_eq!(parse_size("1 KiB"), Some(1024));
        for text in ["512", "512MB", "MiB", "99999999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!(write_size(64 << 20), "64MiB");
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("tiemout", &["timeout", "every"]), ", nearest: \"timeout\"");
        assert_eq!(nearest("Agency", &["agency"]), ", nearest: \"agency\"");
        assert_eq!(nearest("camera_frames", &["camera_frames_per_second"]), ", nearest: \"camera_frames_per_second\"");
        assert_eq!(nearest("vn", &["vi", "en"]), "");
        assert_eq!(nearest("banana", &["timeout", "every"]), "");
    }
}
