//! Prometheus's `humanize` functions.

use super::printf::general;
use super::time;

/// `1.235M`.
pub(super) fn humanize(mut value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return general(value, 4);
    }
    let mut prefix = "";
    if value.abs() >= 1.0 {
        for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if value.abs() < 1000.0 {
                break;
            }
            prefix = next;
            value /= 1000.0;
        }
    } else {
        (value, prefix) = small(value);
    }
    format!("{}{prefix}", general(value, 4))
}

fn small(mut value: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    (value, prefix)
}

/// `1.177Mi`.
pub(super) fn humanize1024(mut value: f64) -> String {
    let mut prefix = "";
    if value.abs() > 1.0 && value.is_finite() {
        for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
            if value.abs() < 1024.0 {
                break;
            }
            prefix = next;
            value /= 1024.0;
        }
    }
    format!("{}{prefix}", general(value, 4))
}

/// Seconds as `1d 2h 3m 4s`.
pub(super) fn duration(value: f64) -> String {
    if !value.is_finite() {
        return general(value, 4);
    }
    if value == 0.0 {
        return "0s".to_owned();
    }
    if value.abs() < 1.0 {
        let (value, prefix) = small(value);
        return format!("{}{prefix}s", general(value, 4));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    // Saturates; Go's conversion of such lengths is undefined anyway.
    let whole = value as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3_600 % 24, whole / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", general(value, 4))
    }
}

/// A ratio as `21.35%`.
pub(super) fn percentage(value: f64) -> String {
    format!("{}%", general(value * 100.0, 4))
}

/// Unix seconds as `2009-11-10 23:00:00 +0000 UTC`.
pub(super) fn timestamp(value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Ok(general(value, 4));
    }
    time::from_unix(value).map(time::written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_prometheus_writes() {
        assert_eq!(humanize(1_234_567.0), "1.235M");
        assert_eq!(humanize(0.0005), "500u");
        assert_eq!(humanize(0.0), "0");
        assert_eq!(humanize1024(1_048_576.0), "1Mi");
        assert_eq!(duration(0.0), "0s");
        assert_eq!(duration(0.25), "250ms");
        assert_eq!(duration(59.5), "59.5s");
        assert_eq!(duration(-61.0), "-1m 1s");
        assert_eq!(duration(90_061.0), "1d 1h 1m 1s");
        assert_eq!(percentage(0.2135), "21.35%");
        assert_eq!(timestamp(1_257_894_000.5).as_deref(), Ok("2009-11-10 23:00:00.5 +0000 UTC"));
    }
}
