//! Silences over the alert API as of Alertmanager (version 2), for `amtool`, karma and Grafana.
//!
//! Who is bound to an agency sees and makes silences with the matcher `agency="…"` of theirs only. The rules stand in
//! `incident/silence.rs`.

use super::access::Identity;
use super::alerts_v2::{AlertsApi, failure, filter, flag};
use super::posted_v2::{self, Problem, Reason};
use crate::incident::silence::{Silence, SilenceError, SilenceState, WrittenMatcher};
use crate::matcher::Matcher;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn routes() -> Router<AlertsApi> {
    Router::new().route("/silences", get(list).post(post)).route("/silence/{id}", get(one).delete(end))
}

/// A silence as listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Gettable {
    id: String,
    status: Status,
    updated_at: Timestamp,
    /// Newer Alertmanagers keep some; here there is the comment.
    annotations: BTreeMap<String, String>,
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
            annotations: Default::default(),
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
    let wanted = match Wanted::parse(query.as_deref().unwrap_or("")) {
        Ok(wanted) => wanted,
        Err(problem) => return problem.answer(&api.metrics),
    };
    let now = Timestamp::now();
    let silences = api.incidents.silences(now).into_iter();
    let silences = silences.filter(|silence| is_theirs(&identity, silence) && wanted.wants(silence, now));
    Json(silences.map(|silence| Gettable::new(&silence, now)).collect::<Vec<_>>()).into_response()
}

/// What a reader asks for.
struct Wanted {
    /// States that are not.
    without: Vec<SilenceState>,
    matchers: Vec<Matcher>,
}

impl Wanted {
    fn parse(query: &str) -> Result<Wanted, Problem> {
        let mut wanted = Wanted { without: Vec::new(), matchers: Vec::new() };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let state = match &*name {
                "filter" => {
                    filter(&mut wanted.matchers, &value)?;
                    continue;
                }
                "active" => SilenceState::Active,
                "pending" => SilenceState::Pending,
                "expired" => SilenceState::Expired,
                _ => continue,
            };
            if !flag(&value) {
                wanted.without.push(state);
            }
        }
        Ok(wanted)
    }

    /// A filter is a matcher that the silence must have, as it is written.
    fn wants(&self, silence: &Silence, now: Timestamp) -> bool {
        !self.without.contains(&silence.state(now))
            && self.matchers.iter().all(|matcher| silence.matchers.contains(matcher))
    }
}

async fn post(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let now = Timestamp::now();
    let read = posted_v2::body("silence", &headers, body).and_then(|posted| read(posted, &identity, now));
    let wanted = match read {
        Ok(wanted) => wanted,
        Err(problem) => return problem.answer(&api.metrics),
    };
    if !is_theirs(&identity, &wanted) {
        let text = "a matcher agency=\"…\" with an agency that you answer for is needed";
        return Problem::new(StatusCode::FORBIDDEN, Reason::Foreign, text).answer(&api.metrics);
    }
    match api.incidents.set_silence(wanted, |known| is_theirs(&identity, known), now).await {
        Ok(id) => Json(serde_json::json!({"silenceID": id})).into_response(),
        Err(SilenceError::NotFound(_)) => failure(StatusCode::NOT_FOUND, "silence not found"),
        Err(error) => refusal(&api, &error),
    }
}

fn read(posted: Value, identity: &Identity, now: Timestamp) -> Result<Silence, Problem> {
    const REQUIRED: &[&str] = &["comment", "createdBy", "endsAt", "matchers", "startsAt"];
    let mut posted = posted_v2::object("silence", posted, REQUIRED)?;
    let written: Vec<WrittenMatcher> = posted_v2::list(&mut posted, "matchers")?;
    let matchers = written.iter().map(WrittenMatcher::read).collect::<Result<Vec<Matcher>, _>>();
    let matchers = matchers.map_err(|error| Problem::invalid(format!("silence invalid: {error}")))?;
    let author = posted_v2::text(&mut posted, "createdBy")?.unwrap_or_default();
    // A person answers for what they silence, whatever name they write.
    let created_by = match (&identity.person, author.trim()) {
        (Some(_), _) | (None, "") => identity.name.clone(),
        (None, author) => author.to_owned(),
    };
    Ok(Silence {
        id: posted_v2::text(&mut posted, "id")?.unwrap_or_default(),
        matchers,
        starts_at: posted_v2::time(&mut posted, "startsAt")?.unwrap_or(now),
        ends_at: posted_v2::time(&mut posted, "endsAt")?.unwrap_or(Timestamp::UNIX_EPOCH),
        updated_at: now,
        created_by,
        comment: posted_v2::text(&mut posted, "comment")?.unwrap_or_default(),
    })
}

async fn one(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
) -> Response {
    if let Err(problem) = check_id(&id) {
        return problem.answer(&api.metrics);
    }
    let silence = api.incidents.silence(&id).filter(|silence| is_theirs(&identity, silence));
    match silence {
        Some(silence) => Json(Gettable::new(&silence, Timestamp::now())).into_response(),
        None => refusal(&api, &SilenceError::NotFound(id)),
    }
}

async fn end(
    State(api): State<AlertsApi>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
) -> Response {
    if let Err(problem) = check_id(&id) {
        return problem.answer(&api.metrics);
    }
    match api.incidents.end_silence(&id, |known| is_theirs(&identity, known), Timestamp::now()).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => refusal(&api, &error),
    }
}

/// Alertmanager takes nothing but a UUID for an id in a path.
fn check_id(id: &str) -> Result<(), Problem> {
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_uuid {
        Ok(())
    } else {
        Err(Problem::unprocessable(601, format!("silenceID in path must be of type uuid: {id:?}")))
    }
}

fn refusal(api: &AlertsApi, error: &SilenceError) -> Response {
    match error {
        // As Alertmanager: without a word.
        SilenceError::NotFound(_) => StatusCode::NOT_FOUND.into_response(),
        SilenceError::Refused(_) => Problem::invalid(error.to_string()).answer(&api.metrics),
        SilenceError::Store(_) => {
            tracing::error!(error = error as &dyn std::error::Error, "a silence could not be kept");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "the silence could not be kept; send again")
        }
    }
}

#[cfg(test)]
#[path = "silences_v2_tests.rs"]
mod tests;
