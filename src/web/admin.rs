//! Health, readiness, reload, and the scrape.

use super::AppState;
use super::access::Identity;
use crate::metrics::{Format, Page};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use tokio::task::JoinError;

pub(super) async fn healthy() -> &'static str {
    "ioc-watch is healthy.\n"
}

pub(super) async fn ready(State(state): State<AppState>) -> (StatusCode, &'static str) {
    if state.is_ready() {
        (StatusCode::OK, "ioc-watch is ready.\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "ioc-watch is not ready yet.\n")
    }
}

/// Waits for the outcome: a script that reloads must learn that it failed.
pub(super) async fn reload(State(state): State<AppState>) -> (StatusCode, String) {
    let (answer, outcome) = tokio::sync::oneshot::channel();
    if state.reload().send(answer).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n".into());
    }
    match outcome.await {
        Ok(Ok(())) => (StatusCode::OK, "reloaded\n".into()),
        Ok(Err(problems)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("nothing was changed:\n{problems}\n")),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n".into()),
    }
}

pub(super) async fn metrics(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::negotiate(accept);
    let metrics = state.metrics().clone();
    // A remote engine has what rules record from here: what reads it together with metrics is evaluated there.
    let history = state.config().history.remote.is_some().then(|| state.history().clone());
    let (all, seen) = (identity.visible().is_none(), identity.clone());
    let mut page = Page::new(metrics, format);
    if !all {
        page = page.only(Box::new(move |agency| seen.sees(agency)));
    }
    if let Some(history) = history {
        let mut recorded = history.recorded(jiff::Timestamp::now());
        recorded.retain(|(labels, _)| all || identity.sees(labels.get("agency")));
        page = page.and(recorded);
    }
    let headers = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
    match piece(page).await {
        Ok((first, page)) => (headers, body(first.unwrap_or_default(), page)).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "rendering the metrics failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The next piece: milliseconds for a large fleet, and it takes a table's lock.
async fn piece(mut page: Page) -> Result<(Option<String>, Page), JoinError> {
    tokio::task::spawn_blocking(move || (page.next(), page)).await
}

/// The pieces, each made when the one before it was sent.
fn body(first: String, page: Page) -> Body {
    let rest = futures_util::stream::try_unfold(page, async |page| {
        let (next, page) = piece(page).await?;
        Ok::<_, JoinError>(next.map(|next| (next, page)))
    });
    Body::from_stream(futures_util::stream::iter([Ok(first)]).chain(rest))
}
