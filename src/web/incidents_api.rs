//! Incidents over the product's own API: a list by filters, page after page, and one with its alerts and its timeline.
//! What people do to one stands in `acts.rs`.

use super::AppState;
use super::access::Identity;
use super::attribution::{Refusal, moment};
use super::incidents::{self as rows, Detail, Filter, Incident, MAX_ROWS, Order, State as Stands};
use crate::config::organisation::Area;
use crate::incident::Severity;
use crate::store::from_micros;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

/// Incidents of an answer unless it asks for more or less.
const AT_ONCE: i64 = 100;

/// The parameters of a list; an empty one is none.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    agency: Option<String>,
    area: Option<String>,
    severity: Option<String>,
    state: Option<String>,
    since: Option<String>,
    before: Option<String>,
    limit: Option<String>,
}

impl Asked {
    fn filter(self, state: &AppState) -> Result<(Filter, i64), Refusal> {
        let filter = Filter {
            agency: given(self.agency),
            area: read("area", given(self.area), Area::parse)?,
            severity: read("severity", given(self.severity), Severity::parse)?,
            state: read("state", given(self.state), Stands::parse)?,
            since: given(self.since).map(|text| moment(state, "since", &text)).transpose()?,
            before: read("before", given(self.before), |text| text.parse().ok().filter(|id: &i64| *id >= 0))?,
        };
        let in_bounds = |text: &str| text.parse().ok().filter(|limit| (1..=MAX_ROWS).contains(limit));
        let limit = read("limit", given(self.limit), in_bounds)?;
        Ok((filter, limit.unwrap_or(AT_ONCE)))
    }
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn read<T>(name: &str, text: Option<String>, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let words = match name {
        "area" => Area::ALL.map(Area::as_str).join(", "),
        "severity" => Severity::ALL.map(Severity::as_str).join(", "),
        "state" => Stands::ALL.map(Stands::as_str).join(", "),
        "limit" => format!("a number from 1 to {MAX_ROWS}"),
        _ => "the number of an incident".to_owned(),
    };
    let wrong = || Refusal(StatusCode::BAD_REQUEST, format!("{name}: {text:?} is none of: {words}"));
    parse(&text).map(Some).ok_or_else(wrong)
}

/// `GET /api/ioc/v1/incidents`
pub(super) async fn list(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(asked) = asked?;
    let (filter, limit) = asked.filter(&state)?;
    if let Some(agency) = filter.agency.as_ref().filter(|agency| !identity.sees(agency)) {
        return Err(Refusal(StatusCode::FORBIDDEN, format!("agency {agency:?} is not yours to see")));
    }
    // One more says whether there are more.
    let mut found = rows::list(state.store(), identity.visible(), &filter, Order::Latest, limit + 1).await?;
    let n_asked = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > n_asked;
    found.truncate(n_asked);
    let next = found.last().filter(|_| has_more).map(|last| last.id);
    let incidents: Vec<Value> = found.into_iter().map(value).collect();
    Ok(Json(json!({"incidents": incidents, "next": next})))
}

/// `GET /api/ioc/v1/incidents/{id}`
pub(super) async fn one(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Refusal> {
    let found = rows::find(state.store(), id).await?;
    // What is not theirs is not there.
    let found = found.filter(|found| identity.sees(&found.incident.agency));
    let missing = || Refusal(StatusCode::NOT_FOUND, "there is no such incident".into());
    let Detail { incident, alerts, timeline, is_open } = found.ok_or_else(missing)?;
    let seen = alerts.into_iter().filter(|alert| identity.sees_alert(&alert.labels));
    let alerts: Vec<Value> = seen
        .map(|alert| {
            json!({
                "labels": alert.labels, "annotations": alert.annotations, "severity": alert.severity,
                "startsAt": from_micros(alert.starts_us), "resolvedAt": alert.resolved_us.map(from_micros),
                "excused": alert.excused.map(excused),
            })
        })
        .collect();
    let timeline: Vec<Value> = timeline
        .into_iter()
        .map(|event| {
            json!({"at": from_micros(event.at_us), "event": event.event, "person": event.person, "detail": event.detail})
        })
        .collect();
    Ok(Json(json!({"incident": value(incident), "closed": !is_open, "alerts": alerts, "timeline": timeline})))
}

fn value(incident: Incident) -> Value {
    let stands = match (incident.resolved_us, &incident.excused) {
        (Some(_), _) => Stands::Resolved,
        (None, Some(_)) => Stands::Excused,
        (None, None) => Stands::Open,
    };
    json!({
        "id": incident.id, "agency": incident.agency, "area": incident.area, "severity": incident.severity,
        "subject": incident.subject, "state": stands.as_str(), "openedAt": from_micros(incident.opened_us),
        "resolvedAt": incident.resolved_us.map(from_micros),
        "acknowledged": incident.acknowledged.map(|(by, until)| json!({"by": by, "until": until})),
        "excused": incident.excused.map(excused),
    })
}

fn excused(excused: crate::incident::Excused) -> Value {
    json!({"why": excused.why.as_str(), "by": excused.by, "since": excused.since})
}
