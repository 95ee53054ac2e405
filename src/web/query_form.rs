//! The parameters of a request of the query API, as Go's `FormValue` finds them: in the body first, then in the address.

use super::query_json::Failure;
use crate::promql::Query;
use crate::rules::parse_duration;
use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{Method, header};
use jiff::Timestamp;
use promql_parser::label::Matchers;
use std::time::Duration;

/// Of a form. The longest query fits several times.
const MAX_BODY: usize = 1024 * 1024;
/// Times beyond are refused: nobody's clock goes there, and their milliseconds must fit.
const MAX_SECONDS: f64 = 1e12;
/// Prometheus's bounds of time in its own notation, which clients send for "from the beginning" and "to the end".
const MIN_TIME: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME: &str = "292277025-08-18T07:12:54.999999999Z";

/// Names and values in the order in which they count.
pub(super) struct Form(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Form, Failure> {
        let (head, body) = request.into_parts();
        let mut pairs = Vec::new();
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim();
        if head.method == Method::POST && kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let body = to_bytes(body, MAX_BODY)
                .await
                .map_err(|error| Failure::bad_data(&format!("error parsing form values: {error}")))?;
            pairs.extend(url::form_urlencoded::parse(&body).into_owned());
        }
        pairs.extend(url::form_urlencoded::parse(head.uri.query().unwrap_or("").as_bytes()).into_owned());
        Ok(Form(pairs))
    }
}

impl Form {
    /// "" if it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(candidate, _)| candidate == name).map_or("", |(_, value)| value)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    /// The query, with the lookback that the caller wants.
    pub fn query(&self) -> Result<Query, Failure> {
        let query = Query::parse(self.get("query")).map_err(|error| Failure::parameter("query", &error.to_string()))?;
        Ok(match self.duration("lookback_delta")? {
            Some(delta) if !delta.is_zero() => query.with_lookback_delta(delta),
            _ => query,
        })
    }

    /// In milliseconds since 1970.
    pub fn time(&self, name: &str) -> Result<Option<i64>, Failure> {
        match self.get(name) {
            "" => Ok(None),
            text => time_ms(text).map(Some).ok_or_else(|| {
                let message = format!("invalid time value for '{name}': cannot parse {text:?} to a valid timestamp");
                Failure::parameter(name, &message)
            }),
        }
    }

    pub fn required_time(&self, name: &str) -> Result<i64, Failure> {
        let text = self.get(name);
        time_ms(text).ok_or_else(|| Failure::parameter(name, &format!("cannot parse {text:?} to a valid timestamp")))
    }

    /// `start` and `end`, which may be left out; as an interval that is open to the left.
    pub fn interval(&self) -> Result<(i64, i64), Failure> {
        let start = self.time("start")?.unwrap_or(i64::MIN);
        Ok((start.saturating_sub(1), self.time("end")?.unwrap_or(i64::MAX)))
    }

    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Failure> {
        match self.get(name) {
            "" => Ok(None),
            text => duration(text)
                .map(Some)
                .ok_or_else(|| Failure::parameter(name, &format!("cannot parse {text:?} to a valid duration"))),
        }
    }

    /// In milliseconds, at least one.
    pub fn step(&self) -> Result<i64, Failure> {
        let text = self.get("step");
        let is_negative = text.parse::<f64>().is_ok_and(|seconds| seconds < 0.0);
        let step = match duration(text) {
            Some(step) => i64::try_from(step.as_millis()).unwrap_or(i64::MAX),
            None if is_negative => 0,
            None => return Err(Failure::parameter("step", &format!("cannot parse {text:?} to a valid duration"))),
        };
        if step > 0 {
            return Ok(step);
        }
        Err(Failure::parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ))
    }

    /// How many elements the caller wants at most.
    pub fn limit(&self) -> Result<Option<usize>, Failure> {
        let text = self.get("limit");
        match text.parse::<i64>() {
            _ if text.is_empty() => Ok(None),
            Ok(0) => Ok(None),
            Ok(limit) => {
                usize::try_from(limit).map(Some).map_err(|_| Failure::parameter("limit", "limit must be non-negative"))
            }
            Err(_) => Err(Failure::parameter("limit", &format!("{text:?} is not a whole number"))),
        }
    }

    /// The selectors of `match[]`, each with something that it asks for.
    pub fn selectors(&self) -> Result<Vec<Matchers>, Failure> {
        let mut found = Vec::new();
        for text in self.all("match[]") {
            let refuse = |message: &str| Failure::parameter("match[]", message);
            let query = Query::parse(text).map_err(|error| refuse(&error.to_string()))?;
            let matchers = query.selector().ok_or_else(|| refuse(&format!("{text:?} is not a selector")))?;
            if matchers.matchers.iter().all(|matcher| matcher.is_match("")) {
                return Err(refuse("match[] must contain at least one non-empty matcher"));
            }
            found.push(matchers);
        }
        Ok(found)
    }
}

fn time_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.abs() < MAX_SECONDS).then(|| (seconds * 1e3).round() as i64);
    }
    match text {
        MIN_TIME => Some(i64::MIN),
        MAX_TIME => Some(i64::MAX),
        _ => text.parse::<Timestamp>().ok().map(|time| time.as_millisecond()),
    }
}

/// Seconds, or as Prometheus writes durations.
fn duration(text: &str) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => parse_duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Form {
        Form(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn times_and_steps_are_read_as_prometheus_reads_them() {
        assert_eq!(time_ms("1764000000.5"), Some(1_764_000_000_500));
        assert_eq!(time_ms("2026-11-23T00:00:00Z"), Some(1_795_392_000_000));
        assert_eq!(time_ms("2026-11-23T07:00:00.25+07:00"), Some(1_795_392_000_250));
        assert_eq!((time_ms(MIN_TIME), time_ms(MAX_TIME)), (Some(i64::MIN), Some(i64::MAX)));
        assert_eq!((time_ms("x"), time_ms(""), time_ms("1e300"), time_ms("NaN")), (None, None, None, None));
        let steps = [
            ("15", Some(15_000)),
            ("1m30s", Some(90_000)),
            ("0.5", Some(500)),
            ("0", None),
            ("0.0001", None),
            ("-1", None),
            ("5x", None),
            ("", None),
            ("m", None),
            ("NaN", None),
            ("1e300", None),
        ];
        for (text, expected) in steps {
            assert_eq!(form(&[("step", text)]).step().ok(), expected, "{text}");
        }
    }

    #[test]
    fn what_comes_first_counts_and_lists_keep_all() {
        let several = form(&[("limit", "2"), ("limit", "x"), ("match[]", "a"), ("match[]", "{b=\"c\"}")]);
        assert_eq!(several.limit().ok(), Some(Some(2)));
        assert_eq!(several.selectors().map(|found| found.len()).ok(), Some(2));
        for bad in ["{}", "{a=~\".*\"}", "1", "sum(a)", "a[5m]", "a offset 5m", "{"] {
            assert!(form(&[("match[]", bad)]).selectors().is_err(), "{bad}");
        }
        assert!(form(&[("limit", "-1")]).limit().is_err());
    }
}
