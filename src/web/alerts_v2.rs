//! The alert API as of Alertmanager (version 2): Prometheus, vmalert and Grafana deliver here, `amtool` reads.
//!
//! What belongs here: decoding, defaults and validation of alerts as Alertmanager does them, and its answers' shape;
//! silences stand in `silences_v2.rs`. What becomes of an alert is decided in [`crate::incident`]. Who may call is decided
//! by the router.

use super::access::Identity;
use super::posted_v2::{self, Problem, Reason};
use crate::alert::LabelSet;
use crate::heartbeat::Heartbeats;
use crate::incident::{Incidents, Listed};
use crate::matcher::{self, Matcher};
use crate::metrics::Metrics;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use jiff::Timestamp;
use regex::Regex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Of one request.
const BODY: usize = 4 * 1024 * 1024;
/// In one request.
const ALERTS: usize = 10_000;
/// In memory, from all senders. More are refused (and sent again later), so that memory is bounded.
const ALERTS_IN_ALL: usize = 100_000;
/// Of one question.
const FILTERS: usize = 100;
/// The one receiver of every alert: whoever is responsible.
pub(super) const RECEIVER: &str = "responsible";

/// What the handlers need.
#[derive(Clone)]
pub struct AlertsApi {
    pub incidents: Arc<Incidents>,
    /// Whoever speaks by an alert.
    pub heartbeats: Option<Arc<Heartbeats>>,
    pub metrics: Arc<Metrics>,
    /// For `status`.
    pub started: Timestamp,
}

/// The routes below `/api/v2`, to be nested there.
pub fn routes(api: AlertsApi) -> Router {
    Router::new()
        .route("/alerts", get(list).post(post))
        .route("/alerts/groups", get(groups))
        .merge(super::silences_v2::routes())
        .route("/status", get(super::status_v2::status))
        .route("/receivers", get(receivers))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(api)
}

/// `200` means that all alerts (of which none was invalid) are committed.
async fn post(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let now = Timestamp::now();
    let read = posted_v2::body("alerts", &headers, body)
        .and_then(|posted| posted_v2::alerts(posted, ALERTS, now, api.incidents.resolve_timeout()));
    let read = match read {
        Ok(read) => read,
        Err(problem) => return problem.answer(&api.metrics),
    };
    let n_posted = read.len();
    let (mut alerts, mut problems) = (Vec::with_capacity(n_posted), Vec::new());
    for alert in read {
        match alert {
            // Without a known agency an alert is the site agency's: nobody else's to send.
            Ok(alert) if identity.visible().is_some() && !identity.sees(alert.label("agency")) => {
                let text = "it is not of an agency that you may send alerts for";
                problems.push(Problem::new(StatusCode::FORBIDDEN, Reason::Foreign, text));
            }
            Ok(alert) => alerts.push(alert),
            Err(problem) => problems.push(problem),
        }
    }
    if api.incidents.n_with(&alerts, ALERTS_IN_ALL) > ALERTS_IN_ALL {
        let text = "too many alerts fire; send again later";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, Reason::Full, text).answer(&api.metrics);
    }
    // As Alertmanager does: what is valid is taken even if its neighbours are not.
    if let Err(error) = api.incidents.receive(&alerts, now).await {
        tracing::error!(error = &error as &dyn std::error::Error, "posted alerts could not be kept");
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "the alerts could not be kept; send again");
    }
    if let Some(heartbeats) = &api.heartbeats {
        heartbeats.alerts(&alerts, now, Instant::now());
    }
    for alert in &alerts {
        let status = if alert.is_resolved(now) { "resolved" } else { "firing" };
        api.metrics.own.alerts_received.with_label_values(&[status]).inc();
    }
    problems.iter().for_each(|problem| problem.count(&api.metrics));
    let n_refused = problems.len();
    match problems.into_iter().next() {
        None => StatusCode::OK.into_response(),
        Some(first) => {
            let text = format!("{n_refused} of {n_posted} alerts refused, the first because: {}", first.text);
            Problem { text, ..first }.to_response()
        }
    }
}

/// An alert as listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GettableAlert {
    annotations: LabelSet,
    ends_at: Timestamp,
    fingerprint: String,
    receivers: [Receiver; 1],
    starts_at: Timestamp,
    status: AlertStatus,
    updated_at: Timestamp,
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    generator_url: String,
    labels: LabelSet,
}

#[derive(Debug, Serialize)]
struct Receiver {
    name: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertStatus {
    state: &'static str,
    silenced_by: Vec<String>,
    inhibited_by: Vec<String>,
    /// The dependency or maintenance that excuses it: as an interval of Alertmanager's, it is no alert and no silence.
    muted_by: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    labels: BTreeMap<String, String>,
    /// Of Alertmanager's route; there is one for all alerts here, which needs none.
    route_labels: BTreeMap<String, String>,
    receiver: Receiver,
    alerts: Vec<GettableAlert>,
}

impl GettableAlert {
    /// `until` for what has no end announced.
    fn new(listed: Listed, until: Timestamp) -> GettableAlert {
        let Listed { alert, updated_at, silenced_by, inhibited_by, excused_by } = listed;
        let muted_by: Vec<String> = excused_by.into_iter().collect();
        let is_quiet = !(silenced_by.is_empty() && inhibited_by.is_empty() && muted_by.is_empty());
        let state = if is_quiet { "suppressed" } else { "active" };
        GettableAlert {
            fingerprint: alert.fingerprint(),
            annotations: alert.annotations,
            ends_at: alert.ends_at.unwrap_or(until),
            receivers: [Receiver { name: RECEIVER }],
            starts_at: alert.starts_at,
            status: AlertStatus { state, silenced_by, inhibited_by, muted_by },
            updated_at,
            generator_url: alert.generator_url.to_string(),
            labels: alert.labels,
        }
    }
}

async fn list(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    RawQuery(query): RawQuery,
) -> Response {
    let wanted = match Wanted::parse(query.as_deref().unwrap_or("")) {
        Ok(wanted) => wanted,
        Err(problem) => return problem.answer(&api.metrics),
    };
    let now = Timestamp::now();
    let until = now.saturating_add(api.incidents.resolve_timeout()).unwrap_or(now);
    let alerts = seen(&api, &identity, &wanted, now).map(|listed| GettableAlert::new(listed, until));
    let mut alerts: Vec<GettableAlert> = alerts.collect();
    alerts.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
    Json(alerts).into_response()
}

/// Alerts by what they are grouped by.
async fn groups(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    RawQuery(query): RawQuery,
) -> Response {
    let wanted = match Wanted::parse(query.as_deref().unwrap_or("")) {
        Ok(wanted) => wanted,
        Err(problem) => return problem.answer(&api.metrics),
    };
    let now = Timestamp::now();
    let until = now.saturating_add(api.incidents.resolve_timeout()).unwrap_or(now);
    let mut groups: BTreeMap<BTreeMap<String, String>, Vec<GettableAlert>> = BTreeMap::new();
    for listed in seen(&api, &identity, &wanted, now) {
        let labels = api.incidents.group_labels(&listed.alert);
        groups.entry(labels).or_default().push(GettableAlert::new(listed, until));
    }
    let receiver = || Receiver { name: RECEIVER };
    let groups = groups.into_iter().map(|(labels, alerts)| Group {
        labels,
        route_labels: BTreeMap::new(),
        receiver: receiver(),
        alerts,
    });
    Json(groups.collect::<Vec<_>>()).into_response()
}

/// What fires, is theirs to see, and is asked for.
fn seen<'a>(
    api: &AlertsApi,
    identity: &'a Identity,
    wanted: &'a Wanted,
    now: Timestamp,
) -> impl Iterator<Item = Listed> + use<'a> {
    let listed = api.incidents.listed(now).into_iter();
    listed.filter(|listed| identity.sees(listed.alert.label("agency")) && wanted.wants(listed))
}

/// What a reader asks for.
struct Wanted {
    is_active: bool,
    is_silenced: bool,
    is_inhibited: bool,
    is_muted: bool,
    receiver: Option<Regex>,
    /// Of the receiver's labels, of which there are none.
    receiver_matchers: Vec<Matcher>,
    matchers: Vec<Matcher>,
}

impl Wanted {
    fn parse(query: &str) -> Result<Wanted, Problem> {
        let mut wanted = Wanted {
            is_active: true,
            is_silenced: true,
            is_inhibited: true,
            is_muted: true,
            receiver: None,
            receiver_matchers: Vec::new(),
            matchers: Vec::new(),
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "active" => wanted.is_active = flag(&value),
                "silenced" => wanted.is_silenced = flag(&value),
                "inhibited" => wanted.is_inhibited = flag(&value),
                "muted" => wanted.is_muted = flag(&value),
                "receiver" => wanted.receiver = Some(matcher::anchored(&value).map_err(|error| unreadable(&error))?),
                "receiver_matchers" => filter(&mut wanted.receiver_matchers, &value)?,
                "filter" => filter(&mut wanted.matchers, &value)?,
                // Nothing is unprocessed here, so asking for it or not is the same.
                _ => {}
            }
        }
        Ok(wanted)
    }

    fn wants(&self, listed: &Listed) -> bool {
        let is_silenced = !listed.silenced_by.is_empty();
        let is_inhibited = !listed.inhibited_by.is_empty();
        let is_muted = listed.excused_by.is_some();
        (self.is_active || is_silenced || is_inhibited || is_muted)
            && (self.is_silenced || !is_silenced)
            && (self.is_inhibited || !is_inhibited)
            && (self.is_muted || !is_muted)
            && self.receiver.as_ref().is_none_or(|receiver| receiver.is_match(RECEIVER))
            && matcher::all(&self.receiver_matchers, &BTreeMap::new())
            && matcher::all(&self.matchers, &listed.alert.labels)
    }
}

/// Whether a parameter asks for it, in the words that go-openapi takes; what says nothing leaves the default, which is
/// yes for all.
pub(super) fn flag(value: &str) -> bool {
    const YES: [&str; 11] = ["", "true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"];
    YES.iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Adds the matcher that a parameter writes.
pub(super) fn filter(matchers: &mut Vec<Matcher>, value: &str) -> Result<(), Problem> {
    if matchers.len() >= FILTERS {
        let text = format!("more than {FILTERS} filters");
        return Err(Problem::new(StatusCode::BAD_REQUEST, Reason::Query, text));
    }
    matchers.push(Matcher::parse(value).map_err(|error| unreadable(&error))?);
    Ok(())
}

fn unreadable(error: &matcher::MatcherError) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, Reason::Query, error.to_string())
}

async fn receivers(State(api): State<AlertsApi>, RawQuery(query): RawQuery) -> Response {
    let wanted = match Wanted::parse(query.as_deref().unwrap_or("")) {
        Ok(wanted) => wanted,
        Err(problem) => return problem.answer(&api.metrics),
    };
    let is_wanted = matcher::all(&wanted.receiver_matchers, &BTreeMap::new());
    Json(is_wanted.then_some(Receiver { name: RECEIVER }).into_iter().collect::<Vec<_>>()).into_response()
}

/// Errors are JSON strings here, as Alertmanager's are.
pub(super) fn failure(status: StatusCode, text: &str) -> Response {
    (status, Json(text)).into_response()
}

#[cfg(test)]
#[path = "alerts_v2_tests.rs"]
mod tests;
