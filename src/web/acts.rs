//! What people do to an incident, from its page or by the API: acknowledge, comment, silence, resolve; and
//! to silences: end them. The rules stand in `incident/acts.rs` and `incident/silence.rs`.

use super::AppState;
use super::access::Identity;
use super::attribution::Refusal;
use super::incidents as rows;
use super::pages::Reader;
use crate::config::parse_duration;
use crate::config::site::Language;
use crate::incident::silence::SilenceError;
use crate::incident::{Deed, Done, Incidents};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use axum::{Extension, Form, Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The routes, with their state given.
pub fn routes(state: AppState, incidents: Arc<Incidents>) -> Router {
    Router::new()
        .route("/incidents/{id}", post(by_form))
        .route("/silences/{id}", post(end_silence))
        .route("/api/ioc/v1/incidents/{id}/{action}", post(by_api))
        .layer(Extension(incidents))
        .with_state(state)
}

/// How long people may silence an incident.
const LASTS: std::ops::RangeInclusive<SignedDuration> =
    SignedDuration::from_mins(1)..=SignedDuration::from_hours(30 * 24);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sent {
    action: String,
    text: String,
    /// Of a silence: a duration.
    r#for: String,
}

/// The form of the page; then the page again, where the timeline shows what was done.
async fn by_form(
    State(state): State<AppState>,
    Extension(incidents): Extension<Arc<Incidents>>,
    reader: Reader,
    Path(id): Path<i64>,
    Form(sent): Form<Sent>,
) -> Response {
    match act(&state, &incidents, &reader.identity, id, &sent.action, (sent.text, sent.r#for), reader.language).await {
        Ok(_) => Redirect::to(&format!("/incidents/{id}{}", reader.suffix)).into_response(),
        Err(Refusal(status, message)) => (status, message).into_response(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Given {
    text: String,
    r#for: String,
}

/// `POST …/{id}/acknowledge`, `…/comment`, `…/resolve`, `…/silence`; but for the first with `{"text": …}`, the last with
/// `"for": "4h"` too.
async fn by_api(
    State(state): State<AppState>,
    Extension(incidents): Extension<Arc<Incidents>>,
    Extension(identity): Extension<Identity>,
    Path((id, action)): Path<(i64, String)>,
    given: Option<Json<Given>>,
) -> Result<Json<Value>, Refusal> {
    let Json(Given { text, r#for }) = given.unwrap_or_default();
    act(&state, &incidents, &identity, id, &action, (text, r#for), Language::En).await.map(Json)
}

async fn act(
    state: &AppState,
    incidents: &Incidents,
    identity: &Identity,
    id: i64,
    action: &str,
    (text, lasts): (String, String),
    language: Language,
) -> Result<Value, Refusal> {
    let say = |vi: &str, en: &str| if language == Language::Vi { vi.to_owned() } else { en.to_owned() };
    let missing = || Refusal(StatusCode::NOT_FOUND, say("không có sự cố này", "there is no such incident"));
    let deed = match action {
        "acknowledge" => Deed::Acknowledge,
        "comment" => Deed::Comment(text),
        "resolve" => Deed::Resolve(text),
        "silence" => match parse_duration(&lasts).and_then(|lasts| SignedDuration::try_from(lasts).ok()) {
            Some(lasts) if LASTS.contains(&lasts) => Deed::Silence { reason: text, lasts },
            _ => {
                let message = say("thời gian tạm tắt: từ 1m đến 30d", "for: a duration from 1m to 30d is needed");
                return Err(Refusal(StatusCode::BAD_REQUEST, message));
            }
        },
        _ => {
            return Err(Refusal(
                StatusCode::NOT_FOUND,
                say("không có thao tác này", "acknowledge, comment, silence or resolve"),
            ));
        }
    };
    // What is not theirs is not there.
    let found = rows::find(state.store(), id).await?;
    if !found.is_some_and(|found| identity.sees(&found.incident.agency)) {
        return Err(missing());
    }
    let person = identity.person.as_ref().map_or(identity.name.as_str(), |person| person.as_str());
    match incidents.act(id, person, deed, Timestamp::now()).await? {
        Done::Acknowledged(until) => Ok(json!({"acknowledgedUntil": until.map(|until| until.to_string())})),
        Done::Commented | Done::Resolved => Ok(json!({})),
        Done::Silenced(until) => Ok(json!({"silencedUntil": until.to_string()})),
        Done::NotSilenced => {
            let message = say("không thể tạm tắt các cảnh báo này", "these alerts cannot be silenced together");
            Err(Refusal(StatusCode::CONFLICT, message))
        }
        Done::NotOpen => Err(Refusal(StatusCode::CONFLICT, say("sự cố đã đóng", "the incident is closed"))),
        Done::NotFiring => {
            let message = say("không còn cảnh báo nào đang xảy ra", "nothing fires in this incident any more");
            Err(Refusal(StatusCode::CONFLICT, message))
        }
        Done::NoText => {
            Err(Refusal(StatusCode::BAD_REQUEST, say("hãy ghi nội dung hoặc lý do", "a text or reason is missing")))
        }
    }
}

/// The button beside a silence; then the list of silences.
async fn end_silence(
    Extension(incidents): Extension<Arc<Incidents>>,
    reader: Reader,
    Path(id): Path<String>,
) -> Response {
    let is_theirs = |silence: &_| super::silences_v2::is_theirs(&reader.identity, silence);
    match incidents.end_silence(&id, is_theirs, Timestamp::now()).await {
        Ok(()) => Redirect::to(&format!("/silences{}", reader.suffix)).into_response(),
        Err(SilenceError::Store(error)) => Refusal::from(error).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
#[path = "acts_tests.rs"]
mod tests;
