//! What a daemon in reserve answers: health, its own metrics, a reload; to everything else that another daemon leads.
//!
//! Alerts posted here are refused with 503, never kept: a sender that posts to both daemons (as Prometheus does to every
//! Alertmanager it knows) has given them to the leader, one that posts to this one alone sends again until this one
//! leads. Kept here they could overtake their own end, which the leader knows already.

use super::{AppState, admin, guard, language, pages};
use crate::config::site::Language;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderValue};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::watch;

/// When to ask again, in seconds: about as long as another takes over.
const RETRY: &str = "10";

#[derive(Clone)]
struct Reserve {
    state: AppState,
    leader: watch::Receiver<String>,
}

/// The whole router. `leader` is the name of the daemon that leads; empty while nobody does.
pub fn router(state: AppState, leader: watch::Receiver<String>) -> Router {
    let reserve = Reserve { state: state.clone(), leader };
    Router::new()
        .route("/-/healthy", get(admin::healthy))
        .route("/-/reload", axum::routing::post(admin::reload))
        .route("/metrics", get(admin::metrics))
        .route("/assets/style.css", get(pages::style))
        .with_state(state.clone())
        .merge(Router::new().route("/-/ready", get(ready)).with_state(reserve.clone()))
        .layer(from_fn_with_state(state, guard::guard))
        .fallback_service(Router::new().fallback(elsewhere).with_state(reserve))
}

impl Reserve {
    fn leader(&self) -> String {
        self.leader.borrow().clone()
    }
}

/// Not ready, for a load balancer: what is sent there is for the leader.
async fn ready(State(reserve): State<Reserve>) -> (StatusCode, String) {
    let text = match reserve.leader().as_str() {
        "" => "ioc-watch stands by; nobody leads yet.\n".to_string(),
        leader => format!("ioc-watch stands by; {leader} leads.\n"),
    };
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn elsewhere(State(reserve): State<Reserve>, request: Request) -> Response {
    let mut response = answer(&reserve, request.uri(), request.headers());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY));
    guard::harden(headers, reserve.state.config().server.tls.is_some());
    let requests = &reserve.state.metrics().own.http_requests;
    requests.with_label_values(&["other", StatusCode::SERVICE_UNAVAILABLE.as_str()]).inc();
    response
}

fn answer(reserve: &Reserve, uri: &Uri, headers: &HeaderMap) -> Response {
    let leader = reserve.leader();
    let whom = if leader.is_empty() { "nobody leads yet".to_string() } else { format!("{leader} leads") };
    let text = format!("this daemon stands by; {whom}: send it there, or here again later");
    let text_of = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if uri.path().starts_with("/api/v2/") {
        // As Alertmanager words its errors.
        return Json(text).into_response();
    }
    if !text_of(header::ACCEPT).unwrap_or("").contains("text/html") {
        return format!("{text}\n").into_response();
    }
    let chosen = url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()).find(|(name, _)| name == "lang");
    let chosen = chosen.as_ref().map(|(_, value)| &**value);
    let language: Language = language::negotiate(chosen, text_of(header::ACCEPT_LANGUAGE), reserve.state.language());
    pages::standby(&reserve.state, language, &leader).unwrap_or_else(IntoResponse::into_response)
}

#[cfg(test)]
#[path = "standby_tests.rs"]
mod tests;
