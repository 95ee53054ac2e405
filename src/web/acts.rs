//! What people do to an incident, from its page or by the API: acknowledge, comment, resolve. The rules stand in
//! `incident/acts.rs`.

use super::AppState;
use super::access::Identity;
use super::attribution::Refusal;
use super::incidents as rows;
use super::pages::Reader;
use crate::config::site::Language;
use crate::incident::{Deed, Done, Incidents};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use axum::{Extension, Form, Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The routes, with their state given.
pub fn routes(state: AppState, incidents: Arc<Incidents>) -> Router {
    Router::new()
        .route("/incidents/{id}", post(by_form))
        .route("/api/ioc/v1/incidents/{id}/{action}", post(by_api))
        .layer(Extension(incidents))
        .with_state(state)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sent {
    action: String,
    text: String,
}

/// The form of the page; then the page again, where the timeline shows what was done.
async fn by_form(
    State(state): State<AppState>,
    Extension(incidents): Extension<Arc<Incidents>>,
    reader: Reader,
    Path(id): Path<i64>,
    Form(sent): Form<Sent>,
) -> Response {
    match act(&state, &incidents, &reader.identity, id, &sent.action, sent.text, reader.language).await {
        Ok(_) => Redirect::to(&format!("/incidents/{id}{}", reader.suffix)).into_response(),
        Err(Refusal(status, message)) => (status, message).into_response(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Given {
    text: String,
}

/// `POST …/{id}/acknowledge`, `…/comment`, `…/resolve`; the latter two with `{"text": …}`.
async fn by_api(
    State(state): State<AppState>,
    Extension(incidents): Extension<Arc<Incidents>>,
    Extension(identity): Extension<Identity>,
    Path((id, action)): Path<(i64, String)>,
    given: Option<Json<Given>>,
) -> Result<Json<Value>, Refusal> {
    let text = given.map(|Json(given)| given.text).unwrap_or_default();
    act(&state, &incidents, &identity, id, &action, text, Language::En).await.map(Json)
}

async fn act(
    state: &AppState,
    incidents: &Incidents,
    identity: &Identity,
    id: i64,
    action: &str,
    text: String,
    language: Language,
) -> Result<Value, Refusal> {
    let say = |vi: &str, en: &str| if language == Language::Vi { vi.to_owned() } else { en.to_owned() };
    let missing = || Refusal(StatusCode::NOT_FOUND, say("không có sự cố này", "there is no such incident"));
    let deed = match action {
        "acknowledge" => Deed::Acknowledge,
        "comment" => Deed::Comment(text),
        "resolve" => Deed::Resolve(text),
        _ => {
            return Err(Refusal(
                StatusCode::NOT_FOUND,
                say("không có thao tác này", "acknowledge, comment or resolve"),
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

#[cfg(test)]
#[path = "acts_tests.rs"]
mod tests;
