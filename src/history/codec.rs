//! Ticks and changes of one hour as bytes. Times are milliseconds after the beginning of the hour, each as the distance
//! from the one before; numbers are written in groups of seven bits, the lowest first.

use crate::promql::STALE_NAN_BITS;

/// In milliseconds: what one row of the database holds.
pub const HOUR: i64 = 3_600_000;

/// What follows the time of a change, in its two lowest bits.
const STALE: u64 = 0;
/// A whole number, as most states and counts are.
const WHOLE: u64 = 1;
/// Eight bytes.
const REAL: u64 = 2;

/// Whole numbers up to here are the same as `f64` and as `i64`.
pub const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// The hour since 1970 in which a time lies.
pub fn hour_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(HOUR)
}

/// Times of one hour, ascending.
pub fn write_ticks(hour: i64, ticks: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * ticks.len());
    let mut last = hour * HOUR;
    for tick in ticks {
        write_number(&mut bytes, (tick - last) as u64);
        last = *tick;
    }
    bytes
}

/// [`write_ticks`] read back; `None` if it is damaged.
pub fn read_ticks(hour: i64, mut bytes: &[u8]) -> Option<Vec<i64>> {
    let mut ticks = Vec::new();
    let mut last = hour.checked_mul(HOUR)?;
    while !bytes.is_empty() {
        last = forward(hour, last, read_number(&mut bytes)?)?;
        ticks.push(last);
    }
    Some(ticks)
}

/// Changes within one hour, ascending: time and value, which may be the marker of staleness.
pub fn write_changes(hour: i64, changes: &[(i64, f64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 * changes.len());
    let mut last = hour * HOUR;
    for (time, value) in changes {
        let distance = ((time - last) as u64) << 2;
        last = *time;
        // Zero has a sign, which a whole number has not.
        let is_whole = value.fract() == 0.0 && value.abs() <= LARGEST_WHOLE && value.to_bits() != (-0.0_f64).to_bits();
        if value.to_bits() == STALE_NAN_BITS {
            write_number(&mut bytes, distance | STALE);
        } else if is_whole {
            write_number(&mut bytes, distance | WHOLE);
            let whole = *value as i64;
            write_number(&mut bytes, fold(whole));
        } else {
            write_number(&mut bytes, distance | REAL);
            bytes.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
    bytes
}

/// [`write_changes`] read back; `None` if it is damaged.
pub fn read_changes(hour: i64, mut bytes: &[u8]) -> Option<Vec<(i64, f64)>> {
    let mut changes = Vec::new();
    let mut last = hour.checked_mul(HOUR)?;
    while !bytes.is_empty() {
        let head = read_number(&mut bytes)?;
        last = forward(hour, last, head >> 2)?;
        let value = match head & 3 {
            STALE => f64::from_bits(STALE_NAN_BITS),
            WHOLE => {
                let folded = read_number(&mut bytes)?;
                unfold(folded) as f64
            }
            REAL => {
                let (real, rest) = bytes.split_first_chunk::<8>()?;
                bytes = rest;
                f64::from_bits(u64::from_le_bytes(*real))
            }
            _ => return None,
        };
        changes.push((last, value));
    }
    Some(changes)
}

/// A later time of the same hour.
fn forward(hour: i64, last: i64, distance: u64) -> Option<i64> {
    let time = last.checked_add(i64::try_from(distance).ok()?)?;
    (hour_of(time) == hour).then_some(time)
}

fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Small numbers of either sign become small ones.
pub fn fold(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub fn unfold(folded: u64) -> i64 {
    (folded >> 1) as i64 ^ -((folded & 1) as i64)
}

/// Takes a number from the front; `None` if it is damaged.
pub fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part.leading_zeros() < shift {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>(),
            (-3_i64..3).prop_map(|whole| whole as f64),
            any::<i64>().prop_map(|whole| whole as f64),
            Just(f64::from_bits(STALE_NAN_BITS)),
            Just(-0.0),
            Just(f64::NAN),
            Just(f64::INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_to_the_bit(
            hour in -1_000_i64..1_000_000,
            values in prop::collection::btree_map(0..HOUR, value(), 0..50),
        ) {
            let changes: Vec<(i64, f64)> = values.into_iter().map(|(after, v)| (hour * HOUR + after, v)).collect();
            let ticks: Vec<i64> = changes.iter().map(|(time, _)| *time).collect();
            prop_assert_eq!(read_ticks(hour, &write_ticks(hour, &ticks)), Some(ticks));
            let read = read_changes(hour, &write_changes(hour, &changes)).unwrap();
            let bits = |changes: &[(i64, f64)]| changes.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>();
            prop_assert_eq!(bits(&read), bits(&changes));
        }

        #[test]
        fn damaged_bytes_are_refused_or_read_within_the_hour(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(ticks) = read_ticks(7, &bytes) {
                prop_assert!(ticks.iter().all(|tick| hour_of(*tick) == 7));
            }
            if let Some(changes) = read_changes(7, &bytes) {
                prop_assert!(changes.iter().all(|(time, _)| hour_of(*time) == 7));
            }
        }
    }

    #[test]
    fn a_flap_takes_a_few_bytes() {
        assert_eq!(write_changes(0, &[(15_000, 1.0), (30_000, 0.0)]).len(), 8);
        assert_eq!(write_ticks(0, &[15_000, 30_000]).len(), 4);
    }
}
