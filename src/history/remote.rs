//! A Prometheus-compatible server (Prometheus, Mimir, Thanos, VictoriaMetrics) that answers queries in the place of the
//! history: `history.remote`. It gets the text of the query as it stands in the rule.
//!
//! An answer counts only if it is whole: a failure, a partial answer or one that cannot be read is an error, after which
//! rules keep their alerts as they are. While the server does not answer at all, it is asked again only every few
//! seconds, so that an evaluation of many rules does not wait for each.

use crate::config::site;
use crate::http::{Client, HttpError, TrustError};
use crate::metrics::Metrics;
use crate::promql::{Labels, Query, QueryError, Sample, SampleSeries, Value};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use url::Url;

/// How long a server that did not answer is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// Asks one server. Shared by all who ask.
pub struct Remote {
    client: Client,
    url: Url,
    headers: HeaderMap,
    metrics: Arc<Metrics>,
    /// Since when it does not answer, and why.
    silent: Mutex<Option<(Instant, String)>>,
}

/// Why there is no answer that counts. Its name is the metrics' label `result`.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No connection, or it broke.
    #[error("the remote engine cannot be reached: {0}")]
    Unreachable(String),
    #[error("the remote engine did not answer in time: {0}")]
    Timeout(String),
    #[error("the remote engine's answer is too long: {0}")]
    TooLong(String),
    /// Neither an answer nor a refusal in Prometheus's form.
    #[error("the remote engine answered with status {0}")]
    Status(u16),
    /// It does not accept or cannot evaluate the query.
    #[error("the remote engine refuses the query: {0}")]
    Refused(String),
    #[error("the remote engine's answer cannot be read: {0}")]
    Malformed(String),
    #[error("the remote engine's answer is partial: {0}")]
    Partial(String),
    /// It did not answer a moment ago, for this reason, and is not asked again yet.
    #[error("{0}")]
    Paused(String),
}

impl RemoteError {
    fn label(&self) -> &'static str {
        match self {
            RemoteError::Unreachable(_) => "unreachable",
            RemoteError::Timeout(_) => "timeout",
            RemoteError::TooLong(_) => "too_long",
            RemoteError::Status(_) => "status",
            RemoteError::Refused(_) => "refused",
            RemoteError::Malformed(_) => "malformed",
            RemoteError::Partial(_) => "partial",
            RemoteError::Paused(_) => "paused",
        }
    }

    /// Whether the server is to blame and not the query: asking again later may help.
    pub fn is_silence(&self) -> bool {
        match self {
            RemoteError::Unreachable(_) | RemoteError::Timeout(_) | RemoteError::Paused(_) => true,
            RemoteError::Status(status) => *status >= 500,
            _ => false,
        }
    }
}

impl From<RemoteError> for QueryError {
    fn from(error: RemoteError) -> QueryError {
        QueryError::Execution(error.to_string())
    }
}

impl Remote {
    /// Reads CA files: not for an asynchronous task.
    pub fn new(config: &site::Remote, metrics: Arc<Metrics>) -> Result<Remote, TrustError> {
        let client = Client::new(config.ca_file.as_deref(), config.timeout, config.max_body)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            // The configuration has tried both.
            if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.expose())) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        Ok(Remote { client, url: config.url.clone(), headers, metrics, silent: Mutex::new(None) })
    }

    /// Evaluates a query at one moment.
    pub async fn instant(&self, query: &Query, at: Timestamp) -> Result<Value, RemoteError> {
        let form = [("query", query.text().to_owned()), ("time", seconds(at.as_millisecond()))];
        self.ask("api/v1/query", &form).await
    }

    /// Evaluates a query at every `step_ms` from `from_ms` to `to_ms`.
    pub async fn range(
        &self,
        query: &Query,
        (from_ms, to_ms, step_ms): (i64, i64, i64),
    ) -> Result<Vec<SampleSeries>, RemoteError> {
        let times = [("start", from_ms), ("end", to_ms), ("step", step_ms)];
        let mut form = vec![("query", query.text().to_owned())];
        form.extend(times.map(|(name, time_ms)| (name, seconds(time_ms))));
        match self.ask("api/v1/query_range", &form).await? {
            Value::Matrix(series) => Ok(series),
            _ => Err(RemoteError::Malformed("a range query gave no matrix".to_owned())),
        }
    }

    async fn ask(&self, path: &str, form: &[(&str, String)]) -> Result<Value, RemoteError> {
        let answered = match self.paused() {
            Some(paused) => Err(paused),
            None => self.post(path, form).await,
        };
        let result = answered.as_ref().map_or_else(|error| error.label(), |_| "ok");
        self.metrics.own.remote_queries.with_label_values(&[result]).inc();
        match &answered {
            Err(RemoteError::Paused(_)) => {}
            Err(error) if error.is_silence() => *self.silent() = Some((Instant::now(), error.to_string())),
            Ok(_) | Err(_) => *self.silent() = None,
        }
        answered
    }

    fn silent(&self) -> std::sync::MutexGuard<'_, Option<(Instant, String)>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paused(&self) -> Option<RemoteError> {
        let silent = self.silent();
        let (since, why) = silent.as_ref()?;
        (since.elapsed() < PAUSE).then(|| RemoteError::Paused(why.clone()))
    }

    async fn post(&self, path: &str, form: &[(&str, String)]) -> Result<Value, RemoteError> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let answer = self.client.post_form(&url, &self.headers, body).await.map_err(|error| match error {
            HttpError::Timeout(..) => RemoteError::Timeout(chain(&error)),
            HttpError::TooLong(..) => RemoteError::TooLong(chain(&error)),
            HttpError::Address(_) | HttpError::Connect(..) | HttpError::Tls(..) | HttpError::Protocol(..) => {
                RemoteError::Unreachable(chain(&error))
            }
        })?;
        read(answer.status, &answer.body)
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// As the API takes times and steps.
fn seconds(time_ms: i64) -> String {
    let sign = if time_ms < 0 { "-" } else { "" };
    let time_ms = time_ms.unsigned_abs();
    format!("{sign}{}.{:03}", time_ms / 1_000, time_ms % 1_000)
}

/// An answer in Prometheus's form.
#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
    /// VictoriaMetrics's word for what Thanos says in a warning.
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<One>),
    Matrix(Vec<Many>),
    Scalar(Point),
    String((f64, String)),
}

#[derive(Deserialize)]
struct One {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Point,
}

#[derive(Deserialize)]
struct Many {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    values: Vec<Point>,
}

/// Time in seconds, value.
#[derive(Deserialize)]
struct Point(f64, String);

impl Point {
    fn value(&self) -> Result<f64, RemoteError> {
        self.1.parse().map_err(|_| RemoteError::Malformed(format!("{:?} is no number", self.1)))
    }

    fn sample(&self) -> Result<(i64, f64), RemoteError> {
        Ok(((self.0 * 1_000.0).round() as i64, self.value()?))
    }
}

fn read(status: u16, body: &[u8]) -> Result<Value, RemoteError> {
    let answer: Answer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(_) if status != 200 => return Err(RemoteError::Status(status)),
        Err(error) => return Err(RemoteError::Malformed(error.to_string())),
    };
    if answer.status != "success" {
        // 422 and 400 speak of the query, anything else of the server.
        let is_ours = matches!(status, 200 | 400 | 422);
        return Err(if is_ours { RemoteError::Refused(answer.error) } else { RemoteError::Status(status) });
    }
    if status != 200 {
        return Err(RemoteError::Status(status));
    }
    if answer.is_partial {
        return Err(RemoteError::Partial("isPartial".to_owned()));
    }
    // What Prometheus itself warns of is the expression's doing; any other warning says that data are missing.
    if let Some(warning) = answer.warnings.iter().find(|warning| !warning.starts_with("PromQL ")) {
        return Err(RemoteError::Partial(warning.clone()));
    }
    let data = answer.data.ok_or_else(|| RemoteError::Malformed("it holds no data".to_owned()))?;
    Ok(match data {
        Data::Scalar(point) => Value::Scalar(point.value()?),
        Data::String((_, text)) => Value::String(text),
        Data::Vector(samples) => {
            let samples =
                samples.iter().map(|one| Ok(Sample { labels: labels(&one.metric), value: one.value.value()? }));
            Value::Vector(samples.collect::<Result<_, RemoteError>>()?)
        }
        Data::Matrix(series) => {
            let series = series.iter().map(|many| {
                let samples = many.values.iter().map(Point::sample).collect::<Result<_, _>>()?;
                Ok(SampleSeries { labels: labels(&many.metric), samples })
            });
            Value::Matrix(series.collect::<Result<_, RemoteError>>()?)
        }
    })
}

fn labels(metric: &BTreeMap<String, String>) -> Labels {
    Labels::new(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(body: &str) -> Result<Vec<(String, f64)>, String> {
        match read(200, body.as_bytes()) {
            Ok(Value::Vector(samples)) => Ok(samples.iter().map(|s| (s.labels.to_string(), s.value)).collect()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(format!("{}: {error}", error.label())),
        }
    }

    #[test]
    fn whole_answers_are_read() {
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"up","a":"ạ\""},"value":[1.5,"+Inf"]},{"metric":{},"value":[1,"NaN"]}]},
            "warnings":["PromQL info: metric might not be a counter"]}"#;
        let found = vector(body).unwrap();
        assert_eq!(found[0], ("up{a=\"ạ\\\"\"}".to_owned(), f64::INFINITY));
        assert!(found[1].1.is_nan());
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1.5,"1"],[2.25,"-3e2"]]}]}}"#;
        let Ok(Value::Matrix(series)) = read(200, matrix.as_bytes()) else { panic!("no matrix") };
        assert_eq!(series[0].samples, [(1_500, 1.0), (2_250, -300.0)]);
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}"#;
        assert!(matches!(read(200, scalar.as_bytes()), Ok(Value::Scalar(7.0))));
        let text = r#"{"status":"success","data":{"resultType":"string","result":[1,"x"]}}"#;
        assert!(matches!(read(200, text.as_bytes()), Ok(Value::String(text)) if text == "x"));
    }

    #[test]
    fn anything_else_is_an_error_of_its_kind() {
        let rows = [
            (200, "", "malformed"),
            (200, "{}", "malformed"),
            (200, r#"{"status":"success"}"#, "malformed"),
            (200, r#"{"status":"success","data":{"resultType":"histogram","result":[]}}"#, "malformed"),
            (
                200,
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"one"]}]}}"#,
                "malformed",
            ),
            (
                200,
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":1},"value":[1,"1"]}]}}"#,
                "malformed",
            ),
            (200, r#"{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[]}}"#, "partial"),
            (
                200,
                r#"{"status":"success","warnings":["no store matched"],"data":{"resultType":"vector","result":[]}}"#,
                "partial",
            ),
            (422, r#"{"status":"error","errorType":"execution","error":"many-to-many"}"#, "refused"),
            (400, r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#, "refused"),
            (503, r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#, "status"),
            (502, "<html>Bad gateway</html>", "status"),
            (401, "Unauthorized", "status"),
            (301, "", "status"),
        ];
        for (status, body, expected) in rows {
            let error = read(status, body.as_bytes()).expect_err(body);
            assert_eq!(error.label(), expected, "{status} {body}");
        }
        assert!(
            matches!(read(422, br#"{"status":"error","error":"x"}"#), Err(RemoteError::Refused(text)) if text == "x")
        );
        let deep = format!("{{\"status\":{}", "[".repeat(100_000));
        assert_eq!(vector(&deep).unwrap_err().split(':').next(), Some("malformed"));
    }

    #[test]
    fn times_are_written_to_the_millisecond() {
        assert_eq!((seconds(1_500), seconds(-1), seconds(15_000)), ("1.500".into(), "-0.001".into(), "15.000".into()));
    }
}
