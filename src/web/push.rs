//! Where other programs hand rows in: payments of either side, and usage.

use super::AppState;
use super::access::Identity;
use crate::config::Config;
use crate::config::feeds::{Feed, Source};
use crate::config::usage::usage_feeds;
use crate::feed::push::{Post, PushError, Pushes};
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

/// What the routes need.
#[derive(Clone)]
struct Intake {
    app: AppState,
    pushes: Pushes,
}

#[derive(Debug, Deserialize)]
struct Which {
    /// Id of the feed, where there are several.
    feed: Option<String>,
}

/// What is handed in at a route.
#[derive(Debug, Clone, Copy)]
enum Door {
    Portal,
    Gateway,
    Usage,
}

impl Door {
    fn feeds(self, config: &Config) -> Vec<&Feed> {
        let payments = config.payments.iter();
        match self {
            Door::Portal => payments.flat_map(|payments| &payments.portal).collect(),
            Door::Gateway => payments.flat_map(|payments| &payments.gateway).collect(),
            Door::Usage => usage_feeds(&config.usage).collect(),
        }
    }
}

pub fn routes(app: AppState, pushes: Pushes) -> Router {
    Router::new()
        .route("/api/ioc/v1/payments/portal", post(take).layer(Extension(Door::Portal)))
        .route("/api/ioc/v1/payments/gateway", post(take).layer(Extension(Door::Gateway)))
        .route("/api/ioc/v1/usage", post(take).layer(Extension(Door::Usage)))
        .with_state(Intake { app, pushes })
}

async fn take(
    State(intake): State<Intake>,
    Extension(door): Extension<Door>,
    Extension(identity): Extension<Identity>,
    Query(which): Query<Which>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let config = intake.app.config();
    let feeds = door.feeds(&config);
    let ids: Vec<&str> =
        feeds.into_iter().filter(|feed| matches!(feed.source, Source::Push)).map(|feed| feed.id.as_str()).collect();
    let id = match (&which.feed, ids.as_slice()) {
        (Some(wanted), ids) if ids.contains(&wanted.as_str()) => wanted.as_str(),
        (Some(wanted), _) => return refusal(&PushError::Unknown(wanted.clone())),
        (None, &[id]) => id,
        (None, []) => return refusal(&PushError::Unknown(String::new())),
        (None, ids) => return refusal(&PushError::Ambiguous(ids.join(" | ?feed="))),
    };
    let key = match headers.get("idempotency-key").map(|key| key.to_str()) {
        None => None,
        Some(Ok(key)) => Some(key),
        Some(Err(_)) => return refusal(&PushError::Key),
    };
    let may: &(dyn Fn(&str) -> bool + Sync) = &|agency| identity.sees(agency);
    let post = Post {
        sender: &identity.name,
        may: identity.visible().is_some().then_some(may),
        owner: identity.agency.as_deref(),
        key,
        body,
        now: Timestamp::now(),
    };
    match intake.pushes.take(id, post).await {
        Ok(reply) => {
            let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
            (status, [(header::CONTENT_TYPE, "application/json")], reply.body).into_response()
        }
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &PushError) -> Response {
    let status = match error {
        PushError::Unknown(_) => StatusCode::NOT_FOUND,
        PushError::Ambiguous(_) | PushError::Body(_) | PushError::Key => StatusCode::BAD_REQUEST,
        PushError::TooMany(_) => StatusCode::PAYLOAD_TOO_LARGE,
        PushError::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        PushError::Feed(inner) => {
            // What is wrong with our disk or database is not the sender's to know; they may send it again.
            tracing::error!(error = inner as &dyn std::error::Error, "pushed rows could not be taken");
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                Json(json!({"error": "the rows could not be kept: send them again"})),
            )
                .into_response();
        }
    };
    (status, Json(json!({"error": error.to_string()}))).into_response()
}
