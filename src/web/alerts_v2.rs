//! The alert API as of Alertmanager (version 2): Prometheus, vmalert and Grafana deliver here, `amtool` reads.
//!
//! What belongs here: decoding, defaults and validation of alerts as Alertmanager does them, and its answers' shape;
//! silences stand in `silences_v2.rs`. What becomes of an alert is decided in [`crate::incident`]. Who may call is decided
//! by the router.

use super::access::Identity;
use crate::alert::Alert;
use crate::incident::{Incidents, Listed};
use crate::matcher::{self, Matcher, is_label_name};
use crate::store::Store;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of one request.
const BODY: usize = 4 * 1024 * 1024;
/// In one request.
const ALERTS: usize = 10_000;
/// In memory, from all senders. More are refused (and sent again later), so that memory is bounded.
const ALERTS_IN_ALL: usize = 100_000;
/// Of one alert's labels, and of its annotations, in bytes.
const TEXT: usize = 64 * 1024;
/// The one receiver of every alert: whoever is responsible.
const RECEIVER: &str = "responsible";

/// What the handlers need.
#[derive(Clone)]
pub struct AlertsApi {
    pub incidents: Arc<Incidents>,
    pub store: Store,
    /// For `status`.
    pub started: Timestamp,
}

/// The routes below `/api/v2`, to be nested there.
pub fn routes(api: AlertsApi) -> Router {
    Router::new()
        .route("/alerts", get(list).post(post))
        .route("/alerts/groups", get(groups))
        .merge(super::silences_v2::routes())
        .route("/status", get(status))
        .route("/receivers", get(receivers))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(api)
}

/// An alert as posted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    starts_at: Option<Timestamp>,
    #[serde(default)]
    ends_at: Option<Timestamp>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

/// `200` means that all alerts (of which none was invalid) are committed.
async fn post(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !content_type.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json") {
        return failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, "alerts are posted as application/json");
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return failure(rejection.status(), &rejection.body_text()),
    };
    let posted: Vec<Posted> = match serde_json::from_slice(&body) {
        Ok(posted) => posted,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &format!("not an array of alerts: {error}")),
    };
    if posted.len() > ALERTS {
        let text = format!("{} alerts in one request, allowed are {ALERTS}", posted.len());
        return failure(StatusCode::PAYLOAD_TOO_LARGE, &text);
    }
    if api.incidents.n_alerts() + posted.len() > ALERTS_IN_ALL {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "too many alerts fire; send again later");
    }
    let now = Timestamp::now();
    let timeout = api.incidents.resolve_timeout();
    let (mut alerts, mut errors) = (Vec::with_capacity(posted.len()), Vec::new());
    let mut n_foreign = 0;
    for alert in posted {
        match read(alert, now, timeout) {
            // Without a known agency an alert is the site agency's: nobody else's to send.
            Ok(alert) if identity.visible().is_some() && !identity.sees(alert.label("agency")) => n_foreign += 1,
            Ok(alert) => alerts.push(alert),
            Err(error) => errors.push(error),
        }
    }
    // As Alertmanager does: what is valid is taken even if its neighbours are not.
    if let Err(error) = receive(&api, &alerts, now).await {
        tracing::error!(error = &error as &dyn std::error::Error, "posted alerts could not be kept");
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "the alerts could not be kept; send again");
    }
    if n_foreign > 0 {
        let text = format!("{n_foreign} of the alerts refused: they are not of an agency that you may send alerts for");
        return failure(StatusCode::FORBIDDEN, &text);
    }
    match errors.first() {
        None => StatusCode::OK.into_response(),
        Some(first) => failure(StatusCode::BAD_REQUEST, &format!("{} of the alerts refused: {first}", errors.len())),
    }
}

async fn receive(api: &AlertsApi, alerts: &[Alert], now: Timestamp) -> Result<(), crate::store::StoreError> {
    let tx = api.store.begin().await?;
    api.incidents.receive(tx, alerts, now).await
}

/// Defaults and validation.
fn read(posted: Posted, now: Timestamp, resolve_timeout: SignedDuration) -> Result<Alert, String> {
    // Go writes the zero time as the first second of year 1.
    let given = |time: Option<Timestamp>| time.filter(|time| time.as_second() > Timestamp::UNIX_EPOCH.as_second());
    let (starts_at, ends_at) = (given(posted.starts_at), given(posted.ends_at));
    let starts_at = starts_at.unwrap_or_else(|| ends_at.map_or(now, |end| end.min(now)));
    let ends_at = ends_at.unwrap_or_else(|| now.saturating_add(resolve_timeout).unwrap_or(now));
    if starts_at > ends_at {
        return Err("an alert starts after it ends".into());
    }
    let labels = without_empty(posted.labels);
    let annotations = without_empty(posted.annotations.unwrap_or_default());
    if labels.is_empty() {
        return Err("an alert has no label".into());
    }
    if let Some(name) = labels.keys().find(|name| !is_label_name(name)) {
        return Err(format!("{name:?} is not a label name"));
    }
    for (what, texts) in [("labels", &labels), ("annotations", &annotations)] {
        let size: usize = texts.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > TEXT {
            return Err(format!("an alert's {what} take {size} bytes, allowed are {TEXT}"));
        }
    }
    let generator_url = posted.generator_url.unwrap_or_default();
    Ok(Alert { labels, annotations, starts_at, ends_at: Some(ends_at), generator_url })
}

fn without_empty(texts: BTreeMap<String, String>) -> BTreeMap<String, String> {
    // PostgreSQL keeps no NUL in text.
    let clean = |text: String| if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
    texts.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (clean(name), clean(value))).collect()
}

/// An alert as listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GettableAlert {
    annotations: BTreeMap<String, String>,
    ends_at: Timestamp,
    fingerprint: String,
    receivers: [Receiver; 1],
    starts_at: Timestamp,
    status: AlertStatus,
    updated_at: Timestamp,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    labels: BTreeMap<String, String>,
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
struct Group {
    labels: BTreeMap<String, String>,
    receiver: Receiver,
    alerts: Vec<GettableAlert>,
}

impl GettableAlert {
    /// `until` for what has no end announced.
    fn new(listed: Listed, until: Timestamp, now: Timestamp) -> GettableAlert {
        let Listed { alert, silenced_by, inhibited_by, excused_by } = listed;
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
            updated_at: now,
            generator_url: alert.generator_url,
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
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error),
    };
    let now = Timestamp::now();
    let until = now.saturating_add(api.incidents.resolve_timeout()).unwrap_or(now);
    let alerts = seen(&api, &identity, &wanted, now).map(|listed| GettableAlert::new(listed, until, now));
    Json(alerts.collect::<Vec<_>>()).into_response()
}

/// Alerts by what they are grouped by.
async fn groups(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    RawQuery(query): RawQuery,
) -> Response {
    let wanted = match Wanted::parse(query.as_deref().unwrap_or("")) {
        Ok(wanted) => wanted,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error),
    };
    let now = Timestamp::now();
    let until = now.saturating_add(api.incidents.resolve_timeout()).unwrap_or(now);
    let mut groups: BTreeMap<BTreeMap<String, String>, Vec<GettableAlert>> = BTreeMap::new();
    for listed in seen(&api, &identity, &wanted, now) {
        let labels = api.incidents.group_labels(&listed.alert);
        groups.entry(labels).or_default().push(GettableAlert::new(listed, until, now));
    }
    let receiver = || Receiver { name: RECEIVER };
    let groups = groups.into_iter().map(|(labels, alerts)| Group { labels, receiver: receiver(), alerts });
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
    matchers: Vec<Matcher>,
}

impl Wanted {
    fn parse(query: &str) -> Result<Wanted, String> {
        let mut wanted = Wanted {
            is_active: true,
            is_silenced: true,
            is_inhibited: true,
            is_muted: true,
            receiver: None,
            matchers: Vec::new(),
        };
        let flag = |name: &str, value: &str| match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("{name} must be true or false")),
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "active" => wanted.is_active = flag(&name, &value)?,
                "silenced" => wanted.is_silenced = flag(&name, &value)?,
                "inhibited" => wanted.is_inhibited = flag(&name, &value)?,
                "muted" => wanted.is_muted = flag(&name, &value)?,
                "receiver" => wanted.receiver = Some(matcher::anchored(&value).map_err(|error| error.to_string())?),
                "filter" => wanted.matchers.push(Matcher::parse(&value).map_err(|error| error.to_string())?),
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
            && matcher::all(&self.matchers, &listed.alert.labels)
    }
}

async fn status(State(api): State<AlertsApi>) -> Response {
    let version = env!("CARGO_PKG_VERSION");
    Json(serde_json::json!({
        "cluster": {"status": "disabled", "peers": []},
        "config": {"original": ""},
        "uptime": api.started,
        "versionInfo": {
            "branch": "", "buildDate": "", "buildUser": "", "goVersion": "", "revision": "", "version": version,
        },
    }))
    .into_response()
}

async fn receivers() -> Response {
    Json([Receiver { name: RECEIVER }]).into_response()
}

/// Errors are JSON strings here, as Alertmanager's are.
pub(super) fn failure(status: StatusCode, text: &str) -> Response {
    (status, Json(text)).into_response()
}

#[cfg(test)]
#[path = "alerts_v2_tests.rs"]
mod tests;
