//! Times and durations in templates: what `toTime` and `toDuration` give, how Go prints them, and those of their methods
//! that a text can use. All times are in UTC, as Prometheus's are.

use super::value::Value;
use jiff::Timestamp;
use jiff::tz::TimeZone;

const SECOND: i64 = 1_000_000_000;

/// The time of Unix seconds, cut to milliseconds by way of nanoseconds, as Prometheus does.
pub(super) fn from_unix(seconds: f64) -> Result<Timestamp, String> {
    let nanoseconds = seconds * SECOND as f64;
    let fits = nanoseconds.is_finite() && nanoseconds.abs() < i64::MAX as f64;
    let time = fits.then(|| Timestamp::from_millisecond(nanoseconds as i64 / 1_000_000).ok()).flatten();
    time.ok_or_else(|| format!("{} cannot be represented as a time", super::printf::shortest(seconds)))
}

/// Nanoseconds.
pub(super) fn from_seconds(seconds: f64) -> Result<i64, String> {
    let nanoseconds = seconds * SECOND as f64;
    let fits = nanoseconds.is_finite() && nanoseconds.abs() < i64::MAX as f64;
    fits.then_some(nanoseconds as i64).ok_or_else(|| format!("{seconds} cannot be represented as a duration"))
}

/// As Go's `Time.String`: `2009-11-10 23:00:00.5 +0000 UTC`.
pub(super) fn written(time: Timestamp) -> String {
    format(time, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// As Go's `Duration.String`: `1h30m0.5s`, `1.5ms`.
pub(super) fn length(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let decimal = |unit: u64| {
        let (whole, rest) = (total / unit, total % unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") }
    };
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{total}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(1_000_000)),
        _ => {
            let minutes = total / (60 * SECOND as u64);
            let seconds = decimal(SECOND as u64);
            let (whole, fraction) = seconds.split_once('.').unwrap_or((&seconds, ""));
            let whole = whole.parse::<u64>().unwrap_or(0) % 60;
            let seconds = if fraction.is_empty() { format!("{whole}s") } else { format!("{whole}.{fraction}s") };
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Calls a method of a time or a duration.
pub(super) fn method(value: &Value, name: &str, arguments: &[Value]) -> Result<Value, String> {
    let found = match value {
        Value::Time(time) => of_time(*time, name, arguments)?,
        Value::Duration(nanoseconds) => of_duration(*nanoseconds, name, arguments),
        other => return Err(format!("a {} has no method {name}", other.type_name())),
    };
    found.ok_or_else(|| {
        let n = arguments.len();
        let with = if n == 0 {
            String::new()
        } else {
            format!(" that takes {n} such argument{}", if n == 1 { "" } else { "s" })
        };
        format!("a {} has no method {name}{with}", value.type_name())
    })
}

fn of_time(time: Timestamp, name: &str, arguments: &[Value]) -> Result<Option<Value>, String> {
    let zoned = || time.to_zoned_datetime(TimeZone::UTC);
    let out_of_range = |_| "the time is out of range".to_owned();
    Ok(Some(match (name, arguments) {
        ("Format", [Value::Text(layout)]) => Value::Text(format(time, layout)),
        ("Add", [Value::Duration(by)]) => {
            Value::Time(time.checked_add(jiff::SignedDuration::from_nanos(*by)).map_err(out_of_range)?)
        }
        ("Sub", [Value::Time(other)]) => {
            let between = time.as_nanosecond() - other.as_nanosecond();
            // Saturates, as Go's.
            Value::Duration(between.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
        }
        ("Before", [Value::Time(other)]) => Value::Bool(time < *other),
        ("After", [Value::Time(other)]) => Value::Bool(time > *other),
        ("Equal", [Value::Time(other)]) => Value::Bool(time == *other),
        ("UTC", []) => Value::Time(time),
        ("String", []) => Value::Text(written(time)),
        ("Unix", []) => Value::Int(time.as_second()),
        ("UnixMilli", []) => Value::Int(time.as_millisecond()),
        ("Year", []) => Value::Int(zoned().year().into()),
        ("Month", []) => Value::Text(format(time, "January")),
        ("Weekday", []) => Value::Text(format(time, "Monday")),
        ("Day", []) => Value::Int(zoned().day().into()),
        ("YearDay", []) => Value::Int(zoned().day_of_year().into()),
        ("Hour", []) => Value::Int(zoned().hour().into()),
        ("Minute", []) => Value::Int(zoned().minute().into()),
        ("Second", []) => Value::Int(zoned().second().into()),
        _ => return Ok(None),
    }))
}

fn of_duration(nanoseconds: i64, name: &str, arguments: &[Value]) -> Option<Value> {
    let in_units_of = |unit: i64| Value::Float(nanoseconds as f64 / unit as f64);
    Some(match (name, arguments) {
        ("Hours", []) => in_units_of(3_600 * SECOND),
        ("Minutes", []) => in_units_of(60 * SECOND),
        ("Seconds", []) => in_units_of(SECOND),
        ("Milliseconds", []) => Value::Int(nanoseconds / 1_000_000),
        ("Microseconds", []) => Value::Int(nanoseconds / 1_000),
        ("Nanoseconds", []) => Value::Int(nanoseconds),
        ("Abs", []) => Value::Duration(nanoseconds.saturating_abs()),
        ("String", []) => Value::Text(length(nanoseconds)),
        ("Truncate", [Value::Duration(to)]) if *to > 0 => Value::Duration(nanoseconds - nanoseconds % to),
        ("Round", [Value::Duration(to)]) if *to > 0 => {
            let rest = nanoseconds % to;
            let down = nanoseconds - rest;
            let is_up = rest.unsigned_abs() >= to.unsigned_abs() - rest.unsigned_abs();
            Value::Duration(if is_up { down.saturating_add(to * rest.signum()) } else { down })
        }
        ("Truncate" | "Round", [Value::Duration(_)]) => Value::Duration(nanoseconds),
        _ => return None,
    })
}

/// The parts of Go's layouts, a longer one before one that it begins with, and what each writes.
const LAYOUT: [(&str, &str); 30] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "UTC"),
    ("2006", "%Y"),
    ("Z07:00:00", "Z"),
    ("Z070000", "Z"),
    ("Z07:00", "Z"),
    ("Z0700", "Z"),
    ("Z07", "Z"),
    ("-07:00:00", "+00:00:00"),
    ("-070000", "+000000"),
    ("-07:00", "+00:00"),
    ("-0700", "+0000"),
    ("-07", "+00"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("_2", "%e"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
];

/// Writes a time by one of Go's layouts.
fn format(time: Timestamp, layout: &str) -> String {
    let zoned = time.to_zoned_datetime(TimeZone::UTC);
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        if let Some((length, written)) = fraction(rest, &out, zoned.subsec_nanosecond()) {
            out.push_str(&written);
            rest = &rest[length..];
            continue;
        }
        let part = LAYOUT.iter().find(|(part, _)| rest.starts_with(part));
        // A month's short name is none within a longer word, such as Janitor.
        let part = part.filter(|(part, _)| *part != "Jan" || !rest[3..].starts_with(|c: char| c.is_ascii_lowercase()));
        if let Some((part, directive)) = part {
            if directive.starts_with('%') {
                out.push_str(&zoned.strftime(directive).to_string());
            } else {
                out.push_str(directive);
            }
            rest = &rest[part.len()..];
            continue;
        }
        match c {
            '4' => out.push_str(&zoned.minute().to_string()),
            '5' => out.push_str(&zoned.second().to_string()),
            c => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// The fraction of a second, if `rest` begins with its layout: `.000` writes so many digits, `.999` leaves out zeros at
/// the end; both only after a second.
fn fraction(rest: &str, out: &str, nanosecond: i32) -> Option<(usize, String)> {
    let mark = rest.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = rest[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let digits = rest[1..].bytes().take_while(|byte| char::from(*byte) == digit).count();
    let is_followed = rest[1 + digits..].starts_with(|c: char| c.is_ascii_digit());
    if is_followed || digits > 9 || !out.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let all = format!("{nanosecond:09}");
    let shown = if digit == '9' { all[..digits].trim_end_matches('0') } else { &all[..digits] };
    let text = if shown.is_empty() { String::new() } else { format!("{mark}{shown}") };
    Some((1 + digits, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let rows = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (-61_000_000_000, "-1m1s"),
            (300_500_000_000, "5m0.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (90_061_001_000_000, "25h1m1.001s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanoseconds, expected) in rows {
            assert_eq!(length(nanoseconds), expected);
        }
    }

    #[test]
    fn layouts_write_what_go_writes() {
        let time = Timestamp::from_nanosecond(1_233_810_057_012_345_600).expect("a time");
        let rows = [
            ("Mon Jan _2 15:04:05 2006", "Thu Feb  5 05:00:57 2009"),
            ("2006-01-02T15:04:05.999999999Z07:00", "2009-02-05T05:00:57.0123456Z"),
            ("02/01/2006 15:04:05.000", "05/02/2009 05:00:57.012"),
            ("Monday, 02-Jan-06 3:04PM MST -0700", "Thursday, 05-Feb-09 5:00AM UTC +0000"),
            ("January 2, 4m5s 002 1", "February 5, 0m57s 036 2"),
            ("ngày 2.1", "ngày 5.2"),
        ];
        for (layout, expected) in rows {
            assert_eq!(format(time, layout), expected, "{layout}");
        }
        assert_eq!(written(time), "2009-02-05 05:00:57.0123456 +0000 UTC");
    }

    #[test]
    fn methods_take_what_go_lets_them_take() {
        let seconds = |seconds: i64| Value::Duration(seconds * SECOND);
        assert_eq!(method(&seconds(90), "Round", &[seconds(60)]), Ok(seconds(120)));
        assert_eq!(method(&seconds(-89), "Round", &[seconds(60)]), Ok(seconds(-60)));
        assert_eq!(method(&seconds(119), "Truncate", &[seconds(60)]), Ok(seconds(60)));
        assert_eq!(method(&seconds(-2), "Abs", &[]), Ok(seconds(2)));
        let time = |seconds: i64| Value::Time(Timestamp::from_second(seconds).expect("a time"));
        assert_eq!(method(&time(90), "Sub", &[time(30)]), Ok(seconds(60)));
        assert_eq!(method(&time(90), "After", &[time(30)]), Ok(Value::Bool(true)));
        assert_eq!(method(&time(0), "Weekday", &[]), Ok(Value::Text("Thursday".to_owned())));
        let error = method(&time(0), "Format", &[Value::Int(1)]);
        assert_eq!(error, Err("a time.Time has no method Format that takes 1 such argument".to_owned()));
        assert!(method(&time(253_402_207_199), "Add", &[Value::Duration(i64::MAX)]).is_err());
        assert!(from_unix(f64::NAN).is_err() && from_seconds(1e10).is_err());
    }
}
