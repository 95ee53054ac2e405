//! The notation of input series: `up{job="a"}` with values such as `0+10x5 _x3 stale 1`.

use crate::promql::{Labels, STALE_NAN_BITS};
use promql_parser::label::MatchOp;
use promql_parser::parser::{self, Expr};
use regex::Regex;
use std::sync::LazyLock;

/// More samples than this in one series are refused.
const MAX_SAMPLES: usize = 1_000_000;

static VALUE: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+|nan|inf)";
    Regex::new(&format!(r"(?i)^([+-]?{number})(?:([+-]{number})?x(\d+))?$")).expect("a constant pattern")
});

/// Labels with the name, from `name{a="b"}`; "" and `{}` are no labels.
pub(super) fn labels(text: &str) -> Result<Labels, String> {
    let text = text.trim();
    if text.is_empty() || text == "{}" {
        return Ok(Labels::default());
    }
    let Ok(Expr::VectorSelector(selector)) = parser::parse(text) else {
        return Err(format!("{text:?} is not a series such as up{{job=\"a\"}}"));
    };
    let mut pairs = Vec::new();
    if let Some(name) = &selector.name {
        pairs.push(("__name__", name.as_str()));
    }
    for matcher in &selector.matchers.matchers {
        if !matches!(matcher.op, MatchOp::Equal) {
            return Err(format!("{text:?}: a series has only labels with ="));
        }
        pairs.push((matcher.name.as_str(), matcher.value.as_str()));
    }
    Ok(Labels::new(pairs))
}

/// The samples of a series, one a tick; `None` where there is none. `stale` is Prometheus's marker.
pub(super) fn values(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        let (value, step, n_values) = word_values(word)?;
        if values.len() + n_values > MAX_SAMPLES {
            return Err(format!("a series has more than {MAX_SAMPLES} samples"));
        }
        // Added up as promtool does, so that rounding agrees.
        let mut next = value;
        for _ in 0..n_values {
            values.push(next);
            next = next.map(|value| value + step);
        }
    }
    Ok(values)
}

/// First value, increment, number of values.
fn word_values(word: &str) -> Result<(Option<f64>, f64, usize), String> {
    let count = |text: &str| text.parse::<usize>().map_err(|_| format!("{text:?} is not a count"));
    if word == "stale" {
        return Ok((Some(f64::from_bits(STALE_NAN_BITS)), 0.0, 1));
    }
    if word == "_" {
        return Ok((None, 0.0, 1));
    }
    if let Some(n_missing) = word.strip_prefix("_x") {
        return Ok((None, 0.0, count(n_missing)?));
    }
    let parts =
        VALUE.captures(word).ok_or_else(|| format!("{word:?} is not a value such as 1, 0+1x5, _x3 or stale"))?;
    let number = |text: &str| text.parse::<f64>().map_err(|_| format!("{text:?} is not a number"));
    let value = number(&parts[1])?;
    let step = parts.get(2).map_or(Ok(0.0), |step| number(step.as_str()))?;
    let n_values = parts.get(3).map_or(Ok(1), |n| count(n.as_str()).map(|n| n.saturating_add(1)))?;
    Ok((Some(value), step, n_values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_expand_as_promtool_expands_them() {
        let found = values("0+10x2 5x1 _ _x2 1-1x1").expect("values");
        let expected =
            [Some(0.0), Some(10.0), Some(20.0), Some(5.0), Some(5.0), None, None, None, Some(1.0), Some(0.0)];
        assert_eq!(found, expected);
        assert_eq!(values("stale").expect("values")[0].map(f64::to_bits), Some(STALE_NAN_BITS));
        for bad in ["a", "1x", "1+x3", "1x9999999"] {
            assert!(values(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_series_is_a_name_and_labels() {
        let found = labels("up{job=\"a\",b=\"\"}").expect("a series");
        assert_eq!(found.to_string(), "up{job=\"a\"}");
        assert!(labels("up{job=~\"a\"}").is_err());
        assert!(labels("1 + 1").is_err());
    }
}
