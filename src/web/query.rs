//! The query API in Prometheus's JSON shape, so that Grafana's Prometheus data source and `promtool query` work on the
//! daemon itself. Here: `query`, `query_range`, `status/buildinfo`, and what all its routes share.
//!
//! | file | what it is |
//! |---|---|
//! | `query_form` | parameters of a request, from address and body |
//! | `query_json` | answers, failures, numbers and times as Prometheus writes them |
//! | `query_labels` | `series`, `labels`, `label/…/values`, `metadata` |
//! | `query_rules` | `rules`, `alerts` |

use super::AppState;
use super::access::Identity;
use super::query_form::Form;
use super::query_json::{self as json, Answer, Failure, Json};
use crate::history::Reader;
use crate::promql::{self, Limits, QueryError, Series, Storage, Value};
use axum::Extension;
use axum::extract::State;
use jiff::Timestamp;
use promql_parser::label::Matchers;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// As Prometheus: a range query gives at most so many points a series.
const MAX_POINTS: i64 = 11_000;
/// How long one query may wait and run. Shorter than a tick: sampling waits while a query reads.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Samples of one answer: some 200 series of 11,000 points, or 50,000 series of 40.
const MAX_HELD: u64 = 2_000_000;
/// How many queries run at once; the others wait for their turn.
const MAX_CONCURRENT: usize = 4;

/// The turns of the queries. Cheap to clone.
#[derive(Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Turns {
        Turns(Arc::new(Semaphore::new(MAX_CONCURRENT)))
    }
}

pub(super) async fn instant(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    form: Form,
) -> Result<Answer, Failure> {
    let limit = form.limit()?;
    let at_ms = form.time("time")?.unwrap_or_else(|| Timestamp::now().as_millisecond());
    let (query, time) = (form.query()?, max_time(&form)?);
    read(&state, identity, time, move |visible, limits| {
        let (value, notes) = promql::noted_instant(visible, &query, at_ms, limits)?;
        Ok(answer(value, at_ms, limit).with(notes))
    })
    .await
}

pub(super) async fn range(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    form: Form,
) -> Result<Answer, Failure> {
    let limit = form.limit()?;
    let (from, to) = (form.required_time("start")?, form.required_time("end")?);
    if to < from {
        return Err(Failure::parameter("end", "end timestamp must not be before start time"));
    }
    let step = form.step()?;
    if to.saturating_sub(from) / step > MAX_POINTS {
        return Err(Failure::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let (query, time) = (form.query()?, max_time(&form)?);
    if !query.is_scalar_or_vector() {
        return Err(Failure::parameter(
            "query",
            "invalid expression type for range query, must be Scalar or instant Vector",
        ));
    }
    read(&state, identity, time, move |visible, limits| {
        let (series, notes) = promql::noted_range(visible, &query, (from, to, step), limits)?;
        Ok(answer(Value::Matrix(series), to, limit).with(notes))
    })
    .await
}

/// Clients choose features by Prometheus's version; ours speaks as 3.
pub(super) async fn build_info() -> Answer {
    let mut json = Json::default();
    json.raw(r#"{"version":"3.0.0","revision":"","branch":"","buildUser":"","buildDate":"","goVersion":"","#);
    json.raw(r#""application":"ioc-watch","applicationVersion":"#);
    json.text(env!("CARGO_PKG_VERSION"));
    json.raw("}");
    Answer::new(json)
}

/// Grafana asks for them beside a graph. There are none.
pub(super) async fn exemplars() -> Answer {
    let mut json = Json::default();
    json.raw("[]");
    Answer::new(json)
}

/// The history as somebody sees it. What they do not see is not there, so that no expression can reach it.
pub(super) struct Visible<'a> {
    pub history: Reader<'a>,
    pub identity: Identity,
}

impl Storage for Visible<'_> {
    fn select<'s>(&'s self, matchers: &Matchers, from_ms: i64, to_ms: i64, each: &mut dyn FnMut(Series<'s>)) {
        let all = self.identity.visible().is_none();
        let mut seen = Vec::new();
        self.history.select(matchers, from_ms, to_ms, &mut |series| {
            if all || self.identity.sees(series.labels.get("agency")) {
                seen.push(series);
            }
        });
        // As Prometheus reads its blocks, so that what has no order of its own comes in the same one.
        seen.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        seen.into_iter().for_each(each);
    }
}

/// The time that the caller grants; at most ours.
fn max_time(form: &Form) -> Result<Duration, Failure> {
    Ok(form.duration("timeout")?.map_or(MAX_TIME, |asked| asked.min(MAX_TIME)))
}

/// Runs `work` on what the caller sees of the history, in its turn and within its time.
pub(super) async fn read(
    state: &AppState,
    identity: Identity,
    time: Duration,
    work: impl FnOnce(&Visible<'_>, Limits) -> Result<Answer, QueryError> + Send + 'static,
) -> Result<Answer, Failure> {
    let deadline = Instant::now() + time;
    let turn = tokio::time::timeout(time, state.turns().0.clone().acquire_owned()).await;
    // The semaphore is never closed.
    let Some(turn) = turn.ok().and_then(Result::ok).filter(|_| Instant::now() < deadline) else {
        return Err(Failure::timeout("query timed out in query queue"));
    };
    let history = state.history().clone();
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let limits = Limits { held: MAX_HELD, deadline: Some(deadline), ..Limits::default() };
        work(&Visible { history: history.read(), identity }, limits)
    })
    .await;
    match done {
        Ok(outcome) => outcome.map_err(|error| match error {
            QueryError::Timeout => Failure::timeout(&error.to_string()),
            error => Failure::execution(&error.to_string()),
        }),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a query panicked");
            Err(Failure::internal("the query failed"))
        }
    }
}

/// The value, cut off at `limit` elements.
fn answer(mut value: Value, at_ms: i64, limit: Option<usize>) -> Answer {
    let limit = limit.unwrap_or(usize::MAX);
    let is_truncated = match &mut value {
        Value::Vector(samples) => truncate(samples, limit),
        Value::Matrix(series) => truncate(series, limit),
        Value::Scalar(_) | Value::String(_) => false,
    };
    let mut json = Json::default();
    json::value(&mut json, &value, at_ms);
    let answer = Answer::new(json);
    if is_truncated { answer.truncated() } else { answer }
}

/// Whether anything was cut off.
pub(super) fn truncate<T>(list: &mut Vec<T>, limit: usize) -> bool {
    let is_longer = list.len() > limit;
    list.truncate(limit);
    is_longer
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
