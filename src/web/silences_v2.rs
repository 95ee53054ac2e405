//! Silences over the alert API as of Alertmanager (version 2), for `amtool`, karma and Grafana.
//!
//! Who is bound to an agency sees and makes silences with the matcher `agency="…"` of theirs only. The rules stand in
//! `incident/silence.rs`.

use super::access::Identity;
use super::alerts_v2::{AlertsApi, failure};
use crate::incident::silence::{Silence, SilenceError, WrittenMatcher};
use crate::matcher::{self, Matcher};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) fn routes() -> Router<AlertsApi> {
    Router::new().route("/silences", get(list).post(post)).route("/silence/{id}", get(one).delete(end))
}

/// A silence as posted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    #[serde(default)]
    id: Option<String>,
    matchers: Vec<WrittenMatcher>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    created_by: String,
    comment: String,
}

/// A silence as listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Gettable {
    id: String,
    status: Status,
    updated_at: Timestamp,
    comment: String,
    created_by: String,
    ends_at: Timestamp,
    matchers: Vec<WrittenMatcher>,
    starts_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Status {
    state: &'static str,
}

impl Gettable {
    fn new(silence: &Silence, now: Timestamp) -> Gettable {
        Gettable {
            id: silence.id.clone(),
            status: Status { state: silence.state(now).as_str() },
            updated_at: silence.updated_at,
            comment: silence.comment.clone(),
            created_by: silence.created_by.clone(),
            ends_at: silence.ends_at,
            matchers: silence.matchers.iter().map(WrittenMatcher::from).collect(),
            starts_at: silence.starts_at,
        }
    }
}

/// Whether it is theirs to see and to end.
pub(super) fn is_theirs(identity: &Identity, silence: &Silence) -> bool {
    is_for(identity, &silence.matchers)
}

/// Whether a silence with these matchers is of an agency that they see.
pub(super) fn is_for(identity: &Identity, matchers: &[Matcher]) -> bool {
    let is_own = |matcher: &Matcher| {
        matcher.name() == "agency" && !matcher.is_regex() && !matcher.is_negative() && identity.sees(matcher.value())
    };
    identity.visible().is_none() || matchers.iter().any(is_own)
}

async fn list(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    RawQuery(query): RawQuery,
) -> Response {
    let mut filters = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_deref().unwrap_or("").as_bytes()) {
        match Matcher::parse(&value) {
            _ if name != "filter" => {}
            Ok(matcher) => filters.push(matcher),
            Err(error) => return failure(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
    let now = Timestamp::now();
    let silences = api.incidents.silences(now).into_iter().filter(|silence| {
        let named = |matcher: &Matcher| (matcher.name().to_owned(), matcher.value().to_owned());
        let names: BTreeMap<String, String> = silence.matchers.iter().map(named).collect();
        is_theirs(&identity, silence) && matcher::all(&filters, &names)
    });
    Json(silences.map(|silence| Gettable::new(&silence, now)).collect::<Vec<_>>()).into_response()
}

async fn post(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    posted: Result<Json<Posted>, JsonRejection>,
) -> Response {
    let posted = match posted {
        Ok(Json(posted)) => posted,
        Err(rejection) => return failure(rejection.status(), &rejection.body_text()),
    };
    let matchers: Result<Vec<Matcher>, _> = posted.matchers.iter().map(WrittenMatcher::read).collect();
    let matchers = match matchers {
        Ok(matchers) => matchers,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    // A person answers for what they silence, whatever name they write.
    let author = match (&identity.person, posted.created_by.trim()) {
        (Some(_), _) | (None, "") => identity.name.clone(),
        (None, author) => author.to_owned(),
    };
    let now = Timestamp::now();
    let wanted = Silence {
        id: posted.id.unwrap_or_default(),
        matchers,
        starts_at: posted.starts_at,
        ends_at: posted.ends_at,
        updated_at: now,
        created_by: author,
        comment: posted.comment,
    };
    if !is_theirs(&identity, &wanted) {
        let text = "a matcher agency=\"…\" with an agency that you answer for is needed";
        return failure(StatusCode::FORBIDDEN, text);
    }
    match api.incidents.set_silence(wanted, |known| is_theirs(&identity, known), now).await {
        Ok(id) => Json(serde_json::json!({"silenceID": id})).into_response(),
        Err(error) => refusal(&error),
    }
}

async fn one(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
) -> Response {
    let silence = api.incidents.silence(&id).filter(|silence| is_theirs(&identity, silence));
    match silence {
        Some(silence) => Json(Gettable::new(&silence, Timestamp::now())).into_response(),
        None => refusal(&SilenceError::NotFound(id)),
    }
}

async fn end(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
) -> Response {
    match api.incidents.end_silence(&id, |known| is_theirs(&identity, known), Timestamp::now()).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &SilenceError) -> Response {
    match error {
        SilenceError::NotFound(_) => failure(StatusCode::NOT_FOUND, &error.to_string()),
        SilenceError::Refused(_) => failure(StatusCode::BAD_REQUEST, &error.to_string()),
        SilenceError::Store(_) => {
            tracing::error!(error = error as &dyn std::error::Error, "a silence could not be kept");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "the silence could not be kept; send again")
        }
    }
}

#[cfg(test)]
#[path = "silences_v2_tests.rs"]
mod tests;
