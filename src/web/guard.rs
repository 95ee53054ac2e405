//! What every request passes: access, the count by route, panics, the security headers of every answer.

use super::{AppState, access};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;

/// Pages carry no script at all; their style is a file of ours, but for reports, which carry their own to stand alone.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
pub(super) const REPORT_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The outermost layer: decides, runs, counts.
pub(super) async fn guard(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_string());
    let mut response = match &route {
        None => (StatusCode::NOT_FOUND, "not found\n").into_response(),
        Some(route) => match permitted(&state, &request, route) {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
                match AssertUnwindSafe(next.run(request)).catch_unwind().await {
                    Ok(response) => response,
                    Err(_) => {
                        tracing::error!(route = %route, "a request to {route} panicked");
                        (StatusCode::INTERNAL_SERVER_ERROR, "internal error\n").into_response()
                    }
                }
            }
            Err(denial) => refuse(denial),
        },
    };
    // The template, never the path: what strangers ask for must not become series.
    let route = route.as_deref().unwrap_or("other");
    state.metrics().own.http_requests.with_label_values(&[route, response.status().as_str()]).inc();
    harden(response.headers_mut());
    response
}

fn permitted(state: &AppState, request: &Request, route: &str) -> Result<access::Identity, access::Denial> {
    let config = state.config();
    let headers = request.headers();
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let situation = access::Situation {
        peer: request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip()),
        host: text(header::HOST).or_else(|| request.uri().authority().map(|authority| authority.as_str())),
        origin: text(header::ORIGIN),
        fetch_site: text(HeaderName::from_static("sec-fetch-site")),
        forwarded: is_forwarded(headers),
        authorization: text(header::AUTHORIZATION),
    };
    let Some(access) = access::of(request.method(), route) else {
        // The router answers 405 for a method that a known path does not have.
        let known = access::ROUTES.iter().any(|(_, path, _)| *path == route);
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        return if known && !reads { Ok(access::Identity::local()) } else { Err(access::Denial::UnknownRoute) };
    };
    let external = url::Url::parse(&config.site.external_url).ok();
    let external_host = external.as_ref().and_then(url::Url::host_str);
    access::decide(access, &situation, &config.server.tokens, external_host)
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip" | "via")
    })
}

fn refuse(denial: access::Denial) -> Response {
    let body = format!("{}\n", denial.message());
    if denial == access::Denial::BadToken {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], body).into_response();
    }
    (StatusCode::FORBIDDEN, body).into_response()
}

fn harden(headers: &mut HeaderMap) {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}
