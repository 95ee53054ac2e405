//! Answers and failures in the shapes of Prometheus's API, its numbers and times as it writes them.

use crate::promql::{self, Labels, Notes, Value};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// JSON as text: results are long, and written once.
#[derive(Debug, Default)]
pub(super) struct Json(String);

impl Json {
    /// What is JSON already.
    pub fn raw(&mut self, json: &str) {
        self.0.push_str(json);
    }

    pub fn text(&mut self, text: &str) {
        // A string always has a JSON form.
        self.0.push_str(&serde_json::to_string(text).unwrap_or_default());
    }

    /// `[…]`, with commas.
    pub fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Json, T)) {
        self.0.push('[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            write(self, item);
        }
        self.0.push(']');
    }

    pub fn texts<T: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = T>) {
        self.list(texts, |json, text| json.text(text.as_ref()));
    }

    /// `{"name":"value",…}`.
    pub fn map<N: AsRef<str>, V: AsRef<str>>(&mut self, pairs: impl IntoIterator<Item = (N, V)>) {
        self.0.push('{');
        for (index, (name, value)) in pairs.into_iter().enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            self.text(name.as_ref());
            self.0.push(':');
            self.text(value.as_ref());
        }
        self.0.push('}');
    }

    pub fn labels(&mut self, labels: &Labels) {
        self.map(labels.iter());
    }

    /// Seconds with milliseconds where there are any.
    fn time(&mut self, at_ms: i64) {
        use std::fmt::Write;
        let (seconds, ms) = (at_ms / 1000, (at_ms % 1000).unsigned_abs());
        let sign = if at_ms < 0 && seconds == 0 { "-" } else { "" };
        // Writing to a string cannot fail.
        let _ = if ms == 0 { write!(self.0, "{seconds}") } else { write!(self.0, "{sign}{seconds}.{ms:03}") };
    }

    fn point(&mut self, at_ms: i64, value: f64) {
        self.0.push('[');
        self.time(at_ms);
        self.0.push_str(",\"");
        self.0.push_str(&number(value));
        self.0.push_str("\"]");
    }
}

/// `{"resultType":…,"result":…}`.
pub(super) fn value(json: &mut Json, value: &Value, at_ms: i64) {
    let kind = match value {
        Value::Scalar(_) => "scalar",
        Value::String(_) => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    json.raw(&format!("{{\"resultType\":\"{kind}\",\"result\":"));
    match value {
        Value::Scalar(value) => json.point(at_ms, *value),
        Value::String(text) => {
            json.raw("[");
            json.time(at_ms);
            json.raw(",");
            json.text(text);
            json.raw("]");
        }
        Value::Vector(samples) => json.list(samples, |json, sample| {
            json.raw("{\"metric\":");
            json.labels(&sample.labels);
            json.raw(",\"value\":");
            json.point(at_ms, sample.value);
            json.raw("}");
        }),
        Value::Matrix(series) => json.list(series, |json, series| {
            json.raw("{\"metric\":");
            json.labels(&series.labels);
            json.raw(",\"values\":");
            json.list(&series.samples, |json, (at_ms, value)| json.point(*at_ms, *value));
            json.raw("}");
        }),
    }
    json.raw("}");
}

/// As Prometheus writes sample values: digits, with an exponent only for the very small and the very large.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) && size.is_finite() {
        return scientific(value);
    }
    promql::format_value(value)
}

/// As Go's `FormatFloat(v, 'e', -1, 64)`: the exponent has a sign and two digits at least.
pub(super) fn scientific(value: f64) -> String {
    if !value.is_finite() {
        return promql::format_value(value);
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

/// `status: success`.
#[derive(Debug)]
pub(super) struct Answer {
    data: Json,
    warnings: Vec<String>,
    infos: Vec<String>,
}

impl Answer {
    pub fn new(data: Json) -> Answer {
        Answer { data, warnings: Vec::new(), infos: Vec::new() }
    }

    /// What is to be told about the query.
    pub fn with(mut self, notes: Notes) -> Answer {
        self.warnings.extend(notes.warnings);
        self.infos.extend(notes.infos);
        self
    }

    pub fn truncated(mut self) -> Answer {
        self.warnings.push("results truncated due to limit".into());
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut json = Json::default();
        json.raw("{\"status\":\"success\",\"data\":");
        json.raw(&self.data.0);
        for (name, texts) in [("warnings", &self.warnings), ("infos", &self.infos)] {
            if !texts.is_empty() {
                json.raw(&format!(",\"{name}\":"));
                json.texts(texts);
            }
        }
        json.raw("}");
        ([(header::CONTENT_TYPE, "application/json")], json.0).into_response()
    }
}

/// `status: error`.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, kind: &'static str, message: &str) -> Failure {
        Failure { status, kind, message: message.into() }
    }

    pub fn bad_data(message: &str) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "bad_data", message)
    }

    pub fn parameter(name: &str, message: &str) -> Failure {
        Failure::bad_data(&format!("invalid parameter {name:?}: {message}"))
    }

    pub fn execution(message: &str) -> Failure {
        Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", message)
    }

    pub fn timeout(message: &str) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message)
    }

    pub fn internal(message: &str) -> Failure {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut json = Json::default();
        json.raw(&format!("{{\"status\":\"error\",\"errorType\":\"{}\",\"error\":", self.kind));
        json.text(&self.message);
        json.raw("}");
        (self.status, [(header::CONTENT_TYPE, "application/json")], json.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_as_prometheus_writes_them() {
        let rows = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (-2.5e-7, "-2.5e-07"),
            (1e-6, "0.000001"),
            (1e-100, "1e-100"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ];
        for (value, expected) in rows {
            assert_eq!(number(value), expected);
        }
        assert_eq!(
            (scientific(1.0), scientific(0.0), scientific(-12.5)),
            ("1e+00".into(), "0e+00".into(), "-1.25e+01".into())
        );
        let mut json = Json::default();
        json.list([1_764_000_000_000, 1_764_000_000_050, -500, -1_500], |json, at_ms| json.time(at_ms));
        assert_eq!(json.0, "[1764000000,1764000000.050,-0.500,-1.500]");
    }
}
