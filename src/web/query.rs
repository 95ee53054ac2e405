//! The query API in Prometheus's JSON shape: `query`, `query_range`, `status/buildinfo`.

use super::AppState;
use super::access::Identity;
use crate::promql::{self, Query, QueryError, Series, Storage, Value};
use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use axum::{Extension, Form, Json};
use jiff::Timestamp;
use promql_parser::label::Matchers;
use serde::Deserialize;
use serde_json::{Map, json};

type Answer = (StatusCode, Json<serde_json::Value>);

/// As Prometheus: a range query gives at most so many points a series.
const MAX_POINTS: i64 = 11_000;

#[derive(Deserialize)]
pub(super) struct Instant {
    query: String,
    time: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Range {
    query: String,
    start: String,
    end: String,
    step: String,
}

pub(super) async fn instant(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    Parameters(given): Parameters<Instant>,
) -> Answer {
    let at_ms = match given.time.as_deref().map(time_ms) {
        None => Timestamp::now().as_millisecond(),
        Some(Some(at_ms)) => at_ms,
        Some(None) => return bad_data("time is neither seconds since 1970 nor RFC 3339"),
    };
    evaluate(state, identity, given.query, move |storage, query| {
        Ok(value(promql::instant(storage, query, at_ms)?, at_ms))
    })
    .await
}

pub(super) async fn instant_form(
    state: State<AppState>,
    identity: Extension<Identity>,
    Form(given): Form<Instant>,
) -> Answer {
    instant(state, identity, Parameters(given)).await
}

pub(super) async fn range(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    Parameters(given): Parameters<Range>,
) -> Answer {
    let (Some(from), Some(to)) = (time_ms(&given.start), time_ms(&given.end)) else {
        return bad_data("start and end are seconds since 1970 or RFC 3339");
    };
    let Some(step) = step_ms(&given.step).filter(|step| *step > 0) else {
        return bad_data("step is a positive number of seconds or a duration such as 15s");
    };
    if to < from {
        return bad_data("end is before start");
    }
    if to.saturating_sub(from) / step > MAX_POINTS {
        return bad_data("more than 11,000 points a series; take a longer step");
    }
    evaluate(state, identity, given.query, move |storage, query| {
        Ok(value(Value::Matrix(promql::range(storage, query, from, to, step)?), to))
    })
    .await
}

pub(super) async fn range_form(
    state: State<AppState>,
    identity: Extension<Identity>,
    Form(given): Form<Range>,
) -> Answer {
    range(state, identity, Parameters(given)).await
}

pub(super) async fn build_info() -> Json<serde_json::Value> {
    // Clients choose features by Prometheus's version; ours speaks as 3.
    let data = json!({"version": "3.0.0", "application": "ioc-watch", "applicationVersion": env!("CARGO_PKG_VERSION")});
    Json(json!({"status": "success", "data": data}))
}

/// The history as somebody sees it. What they do not see is not there, so that no expression can reach it.
pub(super) struct Visible<'a> {
    pub history: crate::history::Reader<'a>,
    pub identity: Identity,
}

impl Storage for Visible<'_> {
    fn select<'s>(&'s self, matchers: &Matchers, from_ms: i64, to_ms: i64, each: &mut dyn FnMut(Series<'s>)) {
        let all = self.identity.visible().is_none();
        self.history.select(matchers, from_ms, to_ms, &mut |series| {
            if all || self.identity.sees(series.labels.get("agency")) {
                each(series);
            }
        });
    }
}

async fn evaluate(
    state: AppState,
    identity: Identity,
    text: String,
    work: impl FnOnce(&dyn Storage, &Query) -> Result<serde_json::Value, QueryError> + Send + 'static,
) -> Answer {
    let history = state.history().clone();
    let done = tokio::task::spawn_blocking(move || {
        let query = Query::parse(&text)?;
        work(&Visible { history: history.read(), identity }, &query)
    })
    .await;
    match done {
        Ok(Ok(data)) => (StatusCode::OK, Json(json!({"status": "success", "data": data}))),
        Ok(Err(error @ QueryError::Execution(_))) => {
            failed(StatusCode::UNPROCESSABLE_ENTITY, "execution", &error.to_string())
        }
        Ok(Err(error)) => bad_data(&error.to_string()),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a query panicked");
            failed(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the query failed")
        }
    }
}

fn bad_data(message: &str) -> Answer {
    failed(StatusCode::BAD_REQUEST, "bad_data", message)
}

fn failed(status: StatusCode, kind: &str, message: &str) -> Answer {
    (status, Json(json!({"status": "error", "errorType": kind, "error": message})))
}

fn value(value: Value, at_ms: i64) -> serde_json::Value {
    match value {
        Value::Scalar(scalar) => json!({"resultType": "scalar", "result": point(at_ms, scalar)}),
        Value::String(text) => json!({"resultType": "string", "result": [at_ms as f64 / 1e3, text]}),
        Value::Vector(samples) => {
            let result: Vec<_> =
                samples.iter().map(|s| json!({"metric": labels(&s.labels), "value": point(at_ms, s.value)})).collect();
            json!({"resultType": "vector", "result": result})
        }
        Value::Matrix(series) => {
            let result: Vec<_> = series
                .iter()
                .map(|s| {
                    let values: Vec<_> = s.samples.iter().map(|(at, value)| point(*at, *value)).collect();
                    json!({"metric": labels(&s.labels), "values": values})
                })
                .collect();
            json!({"resultType": "matrix", "result": result})
        }
    }
}

fn labels(labels: &promql::Labels) -> serde_json::Value {
    let pairs = labels.iter().map(|(name, value)| (name.to_string(), json!(&**value)));
    serde_json::Value::Object(pairs.collect::<Map<_, _>>())
}

fn point(at_ms: i64, value: f64) -> serde_json::Value {
    let text = if value == f64::INFINITY {
        "+Inf".to_string()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_string()
    } else {
        value.to_string()
    };
    json!([at_ms as f64 / 1e3, text])
}

fn time_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        // Far enough for any clock, and its milliseconds fit.
        return (seconds.abs() < 1e12).then(|| (seconds * 1e3).round() as i64);
    }
    text.parse::<Timestamp>().ok().map(|time| time.as_millisecond())
}

fn step_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds > 0.0 && seconds < 1e9).then(|| (seconds * 1e3).round() as i64);
    }
    let mut total: f64 = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let (scale, after) = (&rest[digits..digits + unit], &rest[digits + unit..]);
        let scale = match scale {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3_600e3,
            "d" => 86_400e3,
            "w" => 604_800e3,
            "y" => 31_536_000e3,
            _ => return None,
        };
        total += count * scale;
        rest = after;
    }
    (total > 0.0 && total < 1e12).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_steps_are_read_as_prometheus_reads_them() {
        assert_eq!(time_ms("1764000000.5"), Some(1_764_000_000_500));
        assert_eq!(time_ms("2026-11-23T00:00:00Z"), Some(1_795_392_000_000));
        assert_eq!((time_ms("x"), time_ms("1e300"), time_ms("NaN")), (None, None, None));
        let steps = [
            ("15", Some(15_000)),
            ("1m30s", Some(90_000)),
            ("0.5", Some(500)),
            ("0", None),
            ("-1", None),
            ("5x", None),
            ("", None),
            ("m", None),
        ];
        for (text, expected) in steps {
            assert_eq!(step_ms(text), expected, "{text}");
        }
        assert_eq!(point(1_500, f64::INFINITY), json!([1.5, "+Inf"]));
    }
}
