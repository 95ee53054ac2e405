//! Signs of life of others: posted by them, listed for people.

use super::access::Identity;
use super::attribution::Refusal;
use crate::heartbeat::Heartbeats;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// The routes, with their state given.
pub fn routes(heartbeats: Arc<Heartbeats>) -> Router {
    Router::new()
        .route("/api/ioc/v1/heartbeats", get(list))
        .route("/api/ioc/v1/heartbeats/{id}", axum::routing::post(post))
        .layer(Extension(heartbeats))
}

/// Whoever has to be heard of, as far as the reader sees them.
async fn list(
    Extension(heartbeats): Extension<Arc<Heartbeats>>,
    Extension(identity): Extension<Identity>,
) -> Json<Value> {
    let shown = heartbeats.all().into_iter().filter(|shown| identity.sees(&shown.agency));
    let rows = shown.map(|shown| {
        json!({
            "id": shown.id,
            "agency": shown.agency,
            "withinSeconds": shown.within.as_secs(),
            "last": shown.last.map(|at| at.to_string()),
            "missingSince": shown.missing.map(|at| at.to_string()),
        })
    });
    Json(json!({"heartbeats": rows.collect::<Vec<_>>()}))
}

/// A sign of life. The body says nothing.
async fn post(
    Extension(heartbeats): Extension<Arc<Heartbeats>>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let is_known = heartbeats.posted(&id, |agency| identity.sees(agency), Timestamp::now(), Instant::now());
    let unknown = || Refusal(StatusCode::NOT_FOUND, format!("nobody called {id:?} is expected to post here"));
    if is_known { Ok(StatusCode::NO_CONTENT) } else { Err(unknown()) }
}
