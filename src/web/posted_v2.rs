//! What is posted to the alert API, read as Alertmanager (version 2) reads it, and what is said when it cannot be used.
//!
//! Alertmanager answers in two shapes: where a request does not follow its OpenAPI document, `{"code": …, "message": …}`
//! with a code of go-openapi (601 wrong format, 602 missing, 612 too few) or the status itself; where its handlers
//! refuse, a JSON string. Programs tell them apart by the status only, and show the text.

use crate::alert::Alert;
use crate::metrics::Metrics;
use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::fmt::temporal::Pieces;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Of one alert's labels, and of its annotations, in bytes.
const TEXT: usize = 64 * 1024;
/// Labels of one alert, and annotations.
const NAMES: usize = 256;

/// Why something posted or asked for was not taken: the label of `ioc_alert_api_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Not sent as JSON.
    MediaType,
    /// More than one request may have.
    TooLarge,
    /// No JSON, or not of the form that the API asks for.
    Malformed,
    /// Of the right form, but no alert or silence that can be.
    Invalid,
    /// A filter or receiver of a question that cannot be read.
    Query,
    /// Of an agency that is not the sender's.
    Foreign,
    /// As many are known as there is room for.
    Full,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Reason::MediaType => "media_type",
            Reason::TooLarge => "too_large",
            Reason::Malformed => "malformed",
            Reason::Invalid => "invalid",
            Reason::Query => "query",
            Reason::Foreign => "foreign",
            Reason::Full => "full",
        }
    }
}

/// What is wrong with a request, or with one alert of it.
#[derive(Debug)]
pub(super) struct Problem {
    pub status: StatusCode,
    /// Of the first of the two shapes.
    pub code: Option<u16>,
    pub reason: Reason,
    pub text: String,
}

impl Problem {
    /// In the shape of a handler.
    pub fn new(status: StatusCode, reason: Reason, text: impl Into<String>) -> Problem {
        Problem { status, code: None, reason, text: text.into() }
    }

    /// What a handler calls a bad request.
    pub fn invalid(text: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, Reason::Invalid, text)
    }

    /// In the shape of the layer before the handlers, with its status as code.
    fn outside(status: StatusCode, reason: Reason, text: impl Into<String>) -> Problem {
        Problem { code: Some(status.as_u16()), ..Problem::new(status, reason, text) }
    }

    fn malformed(text: impl Into<String>) -> Problem {
        Problem::outside(StatusCode::BAD_REQUEST, Reason::Malformed, text)
    }

    /// JSON of the right types that is not what the OpenAPI document describes.
    pub fn unprocessable(code: u16, text: impl Into<String>) -> Problem {
        let problem = Problem::outside(StatusCode::UNPROCESSABLE_ENTITY, Reason::Malformed, text);
        Problem { code: Some(code), ..problem }
    }

    fn missing(what: &str) -> Problem {
        Problem::unprocessable(602, format!("{what} in body is required"))
    }

    pub fn count(&self, metrics: &Metrics) {
        metrics.own.alert_api_refused.with_label_values(&[self.reason.as_str()]).inc();
    }

    /// The answer, which is counted.
    pub fn answer(&self, metrics: &Metrics) -> Response {
        self.count(metrics);
        self.to_response()
    }

    /// The answer that does not count what was counted before.
    pub fn to_response(&self) -> Response {
        match self.code {
            Some(code) => (self.status, Json(json!({"code": code, "message": self.text}))).into_response(),
            None => (self.status, Json(&self.text)).into_response(),
        }
    }
}

/// The JSON of a request; `what` names it.
pub(super) fn body(what: &str, headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Value, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !content_type.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json") {
        let text = format!("unsupported media type {content_type:?}, only application/json is allowed");
        return Err(Problem::outside(StatusCode::UNSUPPORTED_MEDIA_TYPE, Reason::MediaType, text));
    }
    let body = body.map_err(|rejection| {
        let is_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
        let reason = if is_large { Reason::TooLarge } else { Reason::Malformed };
        Problem::outside(rejection.status(), reason, rejection.body_text())
    })?;
    if body.is_empty() {
        return Err(Problem::missing(what));
    }
    // Bounded in depth by serde_json, in size by the router.
    serde_json::from_slice(&body).map_err(|error| Problem::malformed(format!("{what} is not JSON: {error}")))
}

/// The alerts of a request, each by itself: what is wrong with one does not lose its neighbours.
pub(super) fn alerts(
    posted: Value,
    at_most: usize,
    now: Timestamp,
    resolve_timeout: SignedDuration,
) -> Result<Vec<Result<Alert, Problem>>, Problem> {
    let posted = match posted {
        Value::Array(posted) => posted,
        Value::Null => Vec::new(),
        _ => return Err(Problem::malformed("alerts in body is not an array")),
    };
    if posted.len() > at_most {
        let text = format!("{} alerts in one request, allowed are {at_most}", posted.len());
        return Err(Problem::outside(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge, text));
    }
    let read = |(index, posted)| alert(index, posted, now, resolve_timeout);
    Ok(posted.into_iter().enumerate().map(read).collect())
}

/// Defaults and validation.
fn alert(index: usize, posted: Value, now: Timestamp, resolve_timeout: SignedDuration) -> Result<Alert, Problem> {
    let Value::Object(mut posted) = posted else {
        return Err(Problem::malformed(format!("alert {index} is not an object")));
    };
    // Go writes the zero time as the first second of year 1.
    let given = |time: Option<Timestamp>| time.filter(|time| time.as_second() > Timestamp::UNIX_EPOCH.as_second());
    let starts_at = given(time(&mut posted, "startsAt")?);
    let ends_at = given(time(&mut posted, "endsAt")?);
    let labels = texts(&mut posted, "labels")?.ok_or_else(|| Problem::missing(&format!("{index}.labels")))?;
    let annotations = texts(&mut posted, "annotations")?.unwrap_or_default();
    let generator_url = text(&mut posted, "generatorURL")?.unwrap_or_default();
    if !(generator_url.is_empty() || generator_url.starts_with('/') || url::Url::parse(&generator_url).is_ok()) {
        let text = format!("{index}.generatorURL in body must be of type uri: {generator_url:?}");
        return Err(Problem::unprocessable(601, text));
    }
    let starts_at = starts_at.unwrap_or_else(|| ends_at.unwrap_or(now).min(now));
    let end_is_assumed = ends_at.is_none();
    let ends_at = ends_at.unwrap_or_else(|| now.saturating_add(resolve_timeout).unwrap_or(now));
    if starts_at > ends_at {
        return Err(Problem::invalid("start time must be before end time"));
    }
    if labels.is_empty() {
        return Err(Problem::invalid("at least one label pair required"));
    }
    for (what, texts) in [("labels", &labels), ("annotations", &annotations)] {
        if texts.contains_key("") {
            return Err(Problem::invalid(format!("invalid {what}: a name is empty")));
        }
        let size: usize = texts.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > TEXT || texts.len() > NAMES {
            let text =
                format!("an alert has {} {what} of {size} bytes, allowed are {NAMES} of {TEXT} bytes", texts.len());
            return Err(Problem::invalid(text));
        }
    }
    // A sender whose clock is ahead does not make an alert begin later.
    let (starts_at, ends_at) = (starts_at.min(now), Some(ends_at));
    let (labels, annotations, generator_url) = (labels.into(), annotations.into(), generator_url.into());
    Ok(Alert { labels, annotations, starts_at, ends_at, generator_url, end_is_assumed })
}

/// A text of an object; `None` if it has none, or null.
pub(super) fn text(object: &mut Map<String, Value>, key: &str) -> Result<Option<String>, Problem> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(clean(text))),
        Some(_) => Err(Problem::malformed(format!("{key} in body must be a string"))),
    }
}

/// A time of an object; an empty one is none.
pub(super) fn time(object: &mut Map<String, Value>, key: &str) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text(object, key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = || Problem::malformed(format!("{key} in body is not a time such as 2026-01-31T01:00:00Z: {text:?}"));
    moment(&text).map(Some).ok_or_else(wrong)
}

fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        // "Never" is often the last second of the year 9999, which is past the last that can be reckoned with.
        let pieces = Pieces::parse(text).ok()?;
        pieces.to_numeric_offset()?;
        (pieces.date().year() == 9999).then_some(Timestamp::MAX)
    })
}

/// Labels or annotations without the empty ones, which mean none.
fn texts(object: &mut Map<String, Value>, key: &str) -> Result<Option<BTreeMap<String, String>>, Problem> {
    let texts = match object.remove(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(texts)) => texts,
        Some(_) => return Err(Problem::malformed(format!("{key} in body must be an object"))),
    };
    let read = |(name, value)| match value {
        Value::String(value) if value.is_empty() => None,
        Value::String(value) => Some(Ok((clean(name), clean(value)))),
        _ => Some(Err(Problem::malformed(format!("{key}.{name} in body must be a string")))),
    };
    texts.into_iter().filter_map(read).collect::<Result<_, _>>().map(Some)
}

fn clean(text: String) -> String {
    // PostgreSQL keeps no NUL in text.
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// An object with all of `required`; `what` names it.
pub(super) fn object(what: &str, posted: Value, required: &[&str]) -> Result<Map<String, Value>, Problem> {
    let Value::Object(posted) = posted else { return Err(Problem::malformed(format!("{what} is not an object"))) };
    match required.iter().find(|key| posted.get(**key).is_none_or(Value::is_null)) {
        Some(missing) => Err(Problem::missing(missing)),
        None => Ok(posted),
    }
}

/// The matchers of a silence.
pub(super) fn list<T: serde::de::DeserializeOwned>(
    object: &mut Map<String, Value>,
    key: &str,
) -> Result<Vec<T>, Problem> {
    let Some(Value::Array(items)) = object.remove(key) else {
        return Err(Problem::malformed(format!("{key} in body is not an array")));
    };
    if items.is_empty() {
        return Err(Problem::unprocessable(612, format!("{key} in body should have at least 1 items")));
    }
    let read = |item: Value| serde_json::from_value(item);
    let items: Result<Vec<T>, _> = items.into_iter().map(read).collect();
    items.map_err(|error| Problem::malformed(format!("{key} in body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn read(posted: Value) -> String {
        let read = alert(0, posted, at("2026-11-23T10:00:00Z"), SignedDuration::from_mins(5));
        match read {
            Ok(alert) => format!("{}..{}", alert.starts_at, alert.ends_at.unwrap()),
            Err(problem) => format!("{} {:?} {}", problem.status.as_u16(), problem.code, problem.text),
        }
    }

    #[test]
    fn times_are_defaulted_and_bounded() {
        let rows = [
            (json!({}), "2026-11-23T10:00:00Z..2026-11-23T10:05:00Z"),
            (json!({"startsAt": "", "endsAt": null}), "2026-11-23T10:00:00Z..2026-11-23T10:05:00Z"),
            (
                json!({"startsAt": "0001-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00.000Z"}),
                "2026-11-23T10:00:00Z..2026-11-23T10:05:00Z",
            ),
            (json!({"endsAt": "2026-11-23T16:00:00+07:00"}), "2026-11-23T09:00:00Z..2026-11-23T09:00:00Z"),
            (json!({"endsAt": "2026-11-23T11:00:00Z"}), "2026-11-23T10:00:00Z..2026-11-23T11:00:00Z"),
            (json!({"endsAt": "9999-12-31T23:59:59Z"}), "2026-11-23T10:00:00Z..9999-12-30T22:00:00.999999999Z"),
            (
                json!({"startsAt": "2026-11-23T10:01:00Z", "endsAt": "2026-11-23T10:04:00Z"}),
                "2026-11-23T10:00:00Z..2026-11-23T10:04:00Z",
            ),
            (json!({"startsAt": "9999-01-01T00:00:00Z"}), "400 None start time must be before end time"),
            (
                json!({"startsAt": "10000-01-01T00:00:00Z"}),
                "400 Some(400) startsAt in body is not a time such as 2026-01-31T01:00:00Z: \"10000-01-01T00:00:00Z\"",
            ),
            (json!({"startsAt": 5}), "400 Some(400) startsAt in body must be a string"),
            (
                json!({"startsAt": "2026-11-23T10:00:00"}),
                "400 Some(400) startsAt in body is not a time such as 2026-01-31T01:00:00Z: \"2026-11-23T10:00:00\"",
            ),
        ];
        for (times, expected) in rows {
            let mut posted = json!({"labels": {"alertname": "A"}});
            posted.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
            assert_eq!(read(posted), expected, "{times}");
        }
    }

    #[test]
    fn what_is_no_alert_is_refused_in_the_shape_of_alertmanager() {
        let many: Map<String, Value> = (0..NAMES + 1).map(|index| (format!("l{index}"), json!("x"))).collect();
        let rows = [
            (json!(1), "400 Some(400) alert 0 is not an object"),
            (json!({}), "422 Some(602) 0.labels in body is required"),
            (json!({"labels": {}}), "400 None at least one label pair required"),
            (json!({"labels": {"a": ""}}), "400 None at least one label pair required"),
            (json!({"labels": {"a": 1}}), "400 Some(400) labels.a in body must be a string"),
            (json!({"labels": {"": "x"}}), "400 None invalid labels: a name is empty"),
            (json!({"labels": {"a": "x"}, "annotations": {"": "x"}}), "400 None invalid annotations: a name is empty"),
            (
                json!({"labels": {"a": "x"}, "generatorURL": "no url"}),
                "422 Some(601) 0.generatorURL in body must be of type uri: \"no url\"",
            ),
            (json!({"labels": many}), "400 None an alert has 257 labels of 1175 bytes, allowed are 256 of 65536 bytes"),
            (
                json!({"labels": {"a": "x".repeat(TEXT)}}),
                "400 None an alert has 1 labels of 65537 bytes, allowed are 256 of 65536 bytes",
            ),
        ];
        for (posted, expected) in rows {
            assert_eq!(read(posted), expected);
        }
    }

    #[test]
    fn names_may_be_utf_8_and_nul_is_kept_as_a_sign_of_itself() {
        let posted = json!({"labels": {"tên xã": "Tiên\u{0}Phước", "k8s.node": "n"}});
        let alert = alert(0, posted, Timestamp::UNIX_EPOCH, SignedDuration::ZERO).unwrap();
        assert_eq!(alert.label("tên xã"), "Tiên\u{fffd}Phước");
        assert_eq!(alert.label("k8s.node"), "n");
    }
}
