//! The outbox for those who run the centre: what waits, what failed; and the way in for reports of mails that did not
//! arrive, which a site's bounce mailbox is piped into.

use super::access::Identity;
use super::attribution::Refusal;
use crate::mail::bounce;
use crate::mail::{Filter, Listed, Outbox, State, masked};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// Rows of an answer, unless asked for fewer.
const ROWS: i64 = 100;
/// Rows of an answer at most.
const MAX_ROWS: i64 = 1_000;

/// The routes, with their state given.
pub fn routes(outbox: Outbox) -> Router {
    Router::new()
        .route("/api/ioc/v1/outbox", get(list))
        .route("/api/ioc/v1/bounces", post(bounced).layer(DefaultBodyLimit::max(bounce::LIMIT)))
        .layer(Extension(outbox))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    state: Option<String>,
    limit: Option<i64>,
    /// The `next` of the page before.
    after: Option<i64>,
}

/// What waits (or, by `state`, failed or was sent) in the order written, of the agencies that the reader sees.
async fn list(
    Extension(outbox): Extension<Outbox>,
    Extension(identity): Extension<Identity>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let bad = |message: &str| Refusal(StatusCode::BAD_REQUEST, message.to_owned());
    let Query(asked) = asked.map_err(|error| bad(&error.body_text()))?;
    let state = match asked.state.as_deref() {
        None => State::Waiting,
        Some(name) => State::parse(name).ok_or_else(|| bad("state: one of waiting, failed, sent"))?,
    };
    let limit = asked.limit.unwrap_or(ROWS);
    if !(1..=MAX_ROWS).contains(&limit) {
        return Err(bad("limit: from 1 to 1000"));
    }
    let visible = identity.visible().map(|ids| ids.iter().map(|id| id.as_str().to_owned()).collect());
    let filter = Filter { state, after: asked.after.unwrap_or(0), limit, agencies: visible };
    let rows = outbox.list(&filter).await?;
    let next = if rows.len() as i64 == limit { rows.last().map(|row| row.id) } else { None };
    let count = outbox.count(&filter).await?;
    Ok(Json(json!({
        "state": state.as_str(),
        "count": count,
        "heldForSummaries": outbox.count_held(&filter).await?,
        "messages": rows.iter().map(shown).collect::<Vec<_>>(),
        "next": next,
    })))
}

fn shown(row: &Listed) -> Value {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    json!({
        "id": row.id, "channel": row.channel, "person": row.person, "to": (row.channel == "mail").then(|| masked(&row.recipient)),
        "messageId": row.message_id, "thread": row.thread, "incident": row.incident, "agency": row.agency,
        "createdAt": row.created.to_string(), "nextTryAt": time(row.next), "attempts": row.attempts,
        "sentAt": time(row.sent), "gaveUpAt": time(row.gave_up), "bouncedAt": time(row.bounced),
        "lastError": row.last_error,
    })
}

/// One message as the bounce mailbox has it. `undeliverable` in the answer is the number of mails of ours that are now
/// known not to have arrived; 0 for what is about other mails, is known already, or tells only of a delay.
async fn bounced(Extension(outbox): Extension<Outbox>, message: Bytes) -> Result<Json<Value>, Refusal> {
    let reports =
        bounce::read(&message).map_err(|error| Refusal(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let mut undeliverable = 0;
    for report in &reports {
        undeliverable += u32::from(outbox.bounced(report, Timestamp::now()).await?);
    }
    Ok(Json(json!({"undeliverable": undeliverable})))
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
