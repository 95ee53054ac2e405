//! Go's number formats and `printf`, as far as templates use them: `%v %s %q %d %x %X %t %f %F %e %g` and `%%` with
//! flags, width and precision. What does not fit prints as Go prints it: `%!d(float64=1.5)`.

use super::value::Value;
use std::fmt::Write;

/// Widths and precisions above this are cut: a template is not to fill the memory.
const MAX_WIDTH: usize = 200;

/// `%v` of a float: the shortest text that reads back, with an exponent below 1e-4 and from 1e6, as Go's fmt writes it
/// (1e21 is the limit of its JSON).
pub(super) fn shortest(value: f64) -> String {
    if let Some(text) = not_finite(value) {
        return text.to_owned();
    }
    let exponent = if value == 0.0 { 0 } else { exponent_of(&format!("{value:e}")) };
    if (-4..6).contains(&exponent) { format!("{value}") } else { go_exponent(&format!("{value:e}")) }
}

/// `%.{precision}g`: at most that many significant digits, without trailing zeros.
pub(super) fn general(value: f64, precision: usize) -> String {
    if let Some(text) = not_finite(value) {
        return text.to_owned();
    }
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let exponent = exponent_of(&scientific);
    if exponent < -4 || exponent >= precision as i32 {
        let (mantissa, rest) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        return go_exponent(&format!("{}e{rest}", trimmed(mantissa)));
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trimmed(&format!("{value:.decimals$}")).to_owned()
}

fn not_finite(value: f64) -> Option<&'static str> {
    match value {
        v if v.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

fn exponent_of(scientific: &str) -> i32 {
    scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

/// Rust writes `1e-7`, Go `1e-07`.
fn go_exponent(scientific: &str) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's `fmt.Sprintf`.
pub(super) fn sprintf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut characters = format.chars().peekable();
    let mut arguments = arguments.iter();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = characters.next_if(|c| matches!(c, '-' | '+' | '0' | ' ' | '#')) {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '0' => flags.zero = true,
                ' ' => flags.space = true,
                _ => {}
            }
        }
        flags.width = number(&mut characters);
        if characters.next_if_eq(&'.').is_some() {
            flags.precision = Some(number(&mut characters).unwrap_or(0));
        }
        match characters.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match arguments.next() {
                None => {
                    let _ = write!(out, "%!{verb}(MISSING)");
                }
                Some(argument) => pad(&mut out, &convert(verb, &flags, argument), &flags),
            },
        }
    }
    let extra: Vec<String> =
        arguments.map(|argument| format!("{}={}", argument.type_name(), argument.to_text())).collect();
    if !extra.is_empty() {
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

fn number(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut value = None;
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        let digit = digit as usize - '0' as usize;
        value = Some((value.unwrap_or(0) * 10 + digit).min(MAX_WIDTH));
    }
    value
}

fn pad(out: &mut String, text: &str, flags: &Flags) {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if flags.minus {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else if flags.zero {
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) => (&text[..1], digits),
            None => ("", text),
        };
        out.push_str(sign);
        out.extend(std::iter::repeat_n('0', missing));
        out.push_str(digits);
    } else {
        out.extend(std::iter::repeat_n(' ', missing));
        out.push_str(text);
    }
}

fn convert(verb: char, flags: &Flags, argument: &Value) -> String {
    match (verb, argument) {
        ('v', Value::Float(value)) if flags.precision.is_some() => {
            signed(general(*value, flags.precision.unwrap_or(0)), *value, flags)
        }
        ('v' | 'g', Value::Float(value)) => {
            let text = flags.precision.map_or_else(|| shortest(*value), |precision| general(*value, precision));
            signed(text, *value, flags)
        }
        ('f' | 'F', Value::Float(value)) => {
            let text =
                not_finite(*value).map_or_else(|| format!("{value:.*}", flags.precision.unwrap_or(6)), str::to_owned);
            signed(text, *value, flags)
        }
        ('e', Value::Float(value)) => {
            let text = not_finite(*value)
                .map_or_else(|| go_exponent(&format!("{value:.*e}", flags.precision.unwrap_or(6))), str::to_owned);
            signed(text, *value, flags)
        }
        ('d' | 'v', Value::Int(value)) => signed(value.to_string(), *value as f64, flags),
        ('x', Value::Int(value)) => format!("{value:x}"),
        ('X', Value::Int(value)) => format!("{value:X}"),
        ('t', Value::Bool(_)) => argument.to_text(),
        ('s', Value::Text(text)) | ('v', Value::Text(text)) => match flags.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.clone(),
        },
        ('q', Value::Text(text)) => format!("{text:?}"),
        ('s', Value::List(_) | Value::Labels(_) | Value::Map(_)) | ('v', _) => argument.to_text(),
        _ => format!("%!{verb}({}={})", argument.type_name(), argument.to_text()),
    }
}

fn signed(text: String, value: f64, flags: &Flags) -> String {
    if value < 0.0 || text.starts_with(['-', '+']) {
        text
    } else if flags.plus {
        format!("+{text}")
    } else if flags.space {
        format!(" {text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_go_prints_them() {
        let rows = [
            (0.0, "0"),
            (3.0, "3"),
            (0.25, "0.25"),
            (123_456.5, "123456.5"),
            (1_048_576.0, "1.048576e+06"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ];
        for (value, text) in rows {
            assert_eq!(shortest(value), text);
        }
        assert_eq!(general(1234.5678, 4), "1235");
        assert_eq!(general(12345.678, 4), "1.235e+04");
        assert_eq!(general(21.35, 4), "21.35");
        assert_eq!(general(100.0, 4), "100");
    }

    #[test]
    fn printf_formats_and_names_what_does_not_fit() {
        let float = Value::Float(1234567.891);
        assert_eq!(
            sprintf("%.0f|%10.1f|%-4d|%04d", &[float.clone(), float, Value::Int(7), Value::Int(-7)]),
            "1234568| 1234567.9|7   |-007"
        );
        assert_eq!(sprintf("%d", &[Value::Float(1.5)]), "%!d(float64=1.5)");
        assert_eq!(sprintf("%s %s", &[Value::Text("a".into())]), "a %!s(MISSING)");
        assert_eq!(sprintf("%q 5%%", &[Value::Text("a\"b".into())]), "\"a\\\"b\" 5%");
    }
}
