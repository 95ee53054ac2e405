//! Dates as spreadsheets keep them: days since an epoch, the time of day as their fraction.

use jiff::civil::{Date, DateTime, date};

/// The first day after the last that a spreadsheet knows, 31 December 9999.
const END: f64 = 2_958_466.0;
const DAY_MS: f64 = 86_400_000.0;

/// The civil time of a serial number; `None` if there is no such day.
///
/// In the 1900 system day 60 is 29 February 1900, which never was: before it the epoch is one day later.
pub fn civil(serial: f64, is_1904: bool) -> Option<DateTime> {
    let end = if is_1904 { END - 1_462.0 } else { END };
    if !(0.0..end).contains(&serial) {
        return None;
    }
    // Rounded to what people enter; the fraction of 08:00:00 is never exact.
    let ms = (serial * DAY_MS).round() as i64;
    let (day, ms) = (ms.div_euclid(DAY_MS as i64), ms.rem_euclid(DAY_MS as i64));
    let epoch: Date = match (is_1904, day) {
        (true, _) => date(1904, 1, 1),
        (false, 60) => return None,
        (false, ..60) => date(1899, 12, 31),
        (false, _) => date(1899, 12, 30),
    };
    let day = jiff::Span::new().try_days(day).ok()?;
    let midnight = epoch.checked_add(day).ok()?.at(0, 0, 0, 0);
    midnight.checked_add(jiff::Span::new().milliseconds(ms)).ok()
}

/// Whether a number format shows dates or times: it has a letter of theirs outside quotes, escapes and brackets. A span of
/// hours (`[h]:mm`) is none.
pub fn is_date_format(code: &str) -> bool {
    let mut chars = code.chars();
    let mut is_date = false;
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                chars.by_ref().find(|c| *c == '"');
            }
            '\\' | '_' | '*' => {
                chars.next();
            }
            '[' => {
                let inside: String = chars.by_ref().take_while(|c| *c != ']').collect();
                if !inside.is_empty() && inside.chars().all(|c| matches!(c.to_ascii_lowercase(), 'h' | 'm' | 's')) {
                    return false;
                }
            }
            // Of positive numbers; those of others follow.
            ';' => break,
            'd' | 'D' | 'm' | 'M' | 'y' | 'Y' | 'h' | 'H' | 's' | 'S' => is_date = true,
            // `General` and exponents are those of numbers.
            'g' | 'G' | 'e' | 'E' if !is_date => return false,
            _ => {}
        }
    }
    is_date
}

/// Whether a format that every spreadsheet knows by its number shows dates or times.
pub fn is_date_id(id: u32) -> bool {
    matches!(id, 14..=22 | 27..=36 | 45 | 47 | 50..=58)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_the_days_that_spreadsheets_show() {
        for (serial, is_1904, expected) in [
            (1.0, false, Some("1900-01-01T00:00:00")),
            (59.0, false, Some("1900-02-28T00:00:00")),
            (60.0, false, None),
            (61.0, false, Some("1900-03-01T00:00:00")),
            (46_346.333_333_333_336, false, Some("2026-11-20T08:00:00")),
            (46_346.999_999_999_99, false, Some("2026-11-21T00:00:00")),
            (44_884.333_333_333_336, true, Some("2026-11-20T08:00:00")),
            (0.0, true, Some("1904-01-01T00:00:00")),
            (2_958_465.0, false, Some("9999-12-31T00:00:00")),
            (2_957_003.0, true, Some("9999-12-31T00:00:00")),
            (2_958_466.0, false, None),
            (2_957_004.0, true, None),
            (-1.0, false, None),
            (f64::NAN, false, None),
        ] {
            let found = civil(serial, is_1904).map(|time| time.to_string());
            assert_eq!(found.as_deref(), expected, "{serial} {is_1904}");
        }
    }

    #[test]
    fn formats_of_dates_are_known_from_those_of_numbers() {
        for (code, expected) in [
            ("dd/mm/yyyy", true),
            ("dd/mm/yyyy\\ hh:mm:ss", true),
            ("[$-1042A]dd/mm/yyyy;@", true),
            ("yyyy-mm-dd", true),
            ("hh:mm:ss", true),
            ("\"ngày\" dd", true),
            ("[h]:mm:ss", false),
            ("General", false),
            ("0.00E+00", false),
            ("#,##0\\ \"đ\"", false),
            ("#,##0_d", false),
            ("#,##0 [$đ-42A]", false),
            ("[Red]#,##0;dd", false),
            ("@", false),
            ("\"unclosed dd", false),
        ] {
            assert_eq!(is_date_format(code), expected, "{code}");
        }
    }
}
