//! Calendar functions, in UTC.

pub fn find(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "day_of_month" => |v| with_date(v, |date| date.day),
        "day_of_week" => |v| with_days(v, |days| (days + 4).rem_euclid(7)),
        "day_of_year" => |v| with_date(v, |date| date.days - days_before(date.year, 1, 1) + 1),
        "days_in_month" => |v| with_date(v, days_in_month),
        "hour" => |v| with_seconds(v, |seconds| seconds.rem_euclid(86_400) / 3_600),
        "minute" => |v| with_seconds(v, |seconds| seconds.rem_euclid(3_600) / 60),
        "month" => |v| with_date(v, |date| date.month),
        "year" => |v| with_date(v, |date| date.year),
        _ => return None,
    })
}

/// Beyond this many seconds (about ten billion years) there is no date.
const LIMIT: f64 = 3e17;

fn with_seconds(value: f64, part: impl Fn(i64) -> i64) -> f64 {
    if value.abs() < LIMIT { part(value as i64) as f64 } else { f64::NAN }
}

fn with_days(value: f64, part: impl Fn(i64) -> i64) -> f64 {
    with_seconds(value, |seconds| part(seconds.div_euclid(86_400)))
}

fn with_date(value: f64, part: impl Fn(Date) -> i64) -> f64 {
    with_days(value, |days| part(Date::new(days)))
}

#[derive(Debug, Clone, Copy)]
struct Date {
    /// Since 1970.
    days: i64,
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// The Gregorian calendar in years that begin in March, so that leap days come last.
    fn new(days: i64) -> Date {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Date { days, year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
    }
}

/// Days from 1970 to a date.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

fn days_in_month(date: Date) -> i64 {
    let (year, month) = if date.month == 12 { (date.year + 1, 1) } else { (date.year, date.month + 1) };
    days_before(year, month, 1) - days_before(date.year, date.month, 1)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn leap_days_and_times_before_1970_are_dates() {
        // 2024-02-29T12:34:56Z and 1969-12-31T23:59:59Z.
        for (name, leap, before) in [
            ("year", 2024.0, 1969.0),
            ("month", 2.0, 12.0),
            ("day_of_month", 29.0, 31.0),
            ("day_of_week", 4.0, 3.0),
            ("day_of_year", 60.0, 365.0),
            ("days_in_month", 29.0, 31.0),
            ("hour", 12.0, 23.0),
            ("minute", 34.0, 59.0),
        ] {
            let function = find(name).unwrap();
            assert_eq!((function(1_709_210_096.0), function(-1.0)), (leap, before), "{name}");
            assert!(function(f64::NAN).is_nan());
        }
    }
}
