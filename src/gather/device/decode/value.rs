//! Bare values: `21.5`, `ON`, `2026-11-25T08:00:00+07:00`, and collectd's plain-text form, `N:21.5` or
//! `1764061200.123:120:340`, whose first part is a time and whose `U` or `nan` says that nothing is known.

use super::{Malformed, Raw, Readings, Slot, number_in, to_seconds};

/// Bytes of a payload; collectd writes a few dozen.
const LONGEST: usize = 1_024;

/// Reads the values of a payload into the fields whose keys are their places.
pub(super) fn read(fields: &[Slot], payload: &[u8], readings: &mut Readings) -> Result<(), Malformed> {
    if payload.len() > LONGEST {
        return Err(Malformed);
    }
    // collectd ends its payloads with a NUL.
    let payload = payload.strip_suffix(b"\0").unwrap_or(payload).trim_ascii();
    let text = std::str::from_utf8(payload).map_err(|_| Malformed)?;
    if text.is_empty() {
        return Err(Malformed);
    }
    let values: Vec<&str> = match text.split_once(':') {
        Some((time, rest)) if time == "N" || number_in(time).is_some() => {
            readings.time = number_in(time).filter(|seconds| *seconds >= 0.0).map(to_seconds);
            rest.split(':').collect()
        }
        _ => vec![text],
    };
    for slot in fields {
        let place: usize = slot.key.parse().unwrap_or(1);
        let Some(value) = place.checked_sub(1).and_then(|place| values.get(place)) else {
            readings.n_bad += 1;
            continue;
        };
        let raw = match *value {
            "U" | "nan" | "-nan" => Raw::Null,
            text => Raw::Text(text),
        };
        slot.take(raw, readings);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_no_float_holds_is_none() {
        assert_eq!(number_in("1756106204.75"), Some(1_756_106_204.75));
        assert_eq!(number_in("175610620475E6106"), None);
    }
}
