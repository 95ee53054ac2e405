//! What every request passes: access, the count by route, panics, the security headers of every answer.

use super::credentials::{Credentials, Failure};
use super::pages::Reader;
use super::{AppState, access, login};
use crate::config::Config;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use futures_util::FutureExt;
use ring::digest;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// Pages carry no script at all; their style is a file of ours, but for reports, see [`report_policy`].
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// A form of a page is read to its end to find its token; ours are short.
const MAX_FORM: usize = 64 * 1024;
/// How long it may take to arrive.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
/// A session's requests that are no forms carry their token here.
const CSRF_HEADER: &str = "x-csrf-token";

/// Where a request comes from; every handler finds it in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// Whose address failures are counted for: what a trusted proxy says, else the connection's.
    pub client: Option<IpAddr>,
    /// The browser speaks TLS, with us or with a proxy: cookies are for TLS only.
    pub secure: bool,
}

/// The outermost layer: decides, runs, counts.
pub(super) async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    // A body cannot be shared between threads, what stands before it can.
    let (mut parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_string());
    let config = state.config();
    let origin = origin(&config, &parts);
    let mut response = match &route {
        None => (StatusCode::NOT_FOUND, "not found\n").into_response(),
        Some(route) => match permitted(&state, &config, &parts, route, origin).await {
            Ok(identity) => match check_form(&identity, route, &parts, body).await {
                Ok(body) => {
                    parts.extensions.insert(identity);
                    parts.extensions.insert(origin);
                    run(route, Request::from_parts(parts, body), next).await
                }
                Err(Turned::Away(denial)) => Refusal::Denied(denial).answer(&state, &config, &mut parts, route).await,
                Err(Turned::TooLong) => (StatusCode::PAYLOAD_TOO_LARGE, "the form is too long\n").into_response(),
            },
            Err(refusal) => refusal.answer(&state, &config, &mut parts, route).await,
        },
    };
    // The template, never the path: what strangers ask for must not become series.
    let route = route.as_deref().unwrap_or("other");
    state.metrics().own.http_requests.with_label_values(&[route, response.status().as_str()]).inc();
    harden(response.headers_mut(), origin.secure);
    response
}

async fn run(route: &str, request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(route = %route, "a request to {route} panicked");
            (StatusCode::INTERNAL_SERVER_ERROR, "internal error\n").into_response()
        }
    }
}

/// Why a request goes no further.
enum Refusal {
    /// 405: the path has others.
    OtherMethod,
    Denied(access::Denial),
    Failed(Failure),
}

async fn permitted(
    state: &AppState,
    config: &Config,
    request: &Parts,
    route: &str,
    origin: Origin,
) -> Result<access::Identity, Refusal> {
    let headers = &request.headers;
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let peer = peer(request);
    let situation = access::Situation {
        peer,
        host: text(header::HOST).or_else(|| request.uri.authority().map(|authority| authority.as_str())),
        origin: text(header::ORIGIN),
        fetch_site: text(HeaderName::from_static("sec-fetch-site")),
        forwarded: is_forwarded(headers),
        private: config.server.tls.is_some() || peer.is_some_and(|peer| is_near(config, peer)),
    };
    let Some(line) = access::of(&request.method, route) else {
        // Whatever the router may know: what is not in the table does not run.
        let known = access::ROUTES.iter().any(|line| line.path == route);
        return Err(if known { Refusal::OtherMethod } else { Refusal::Denied(access::Denial::UnknownRoute) });
    };
    let external = url::Url::parse(&config.site.external_url).ok();
    let house = access::House {
        has_users: config.server.users.is_some(),
        external_host: external.as_ref().and_then(url::Url::host_str),
        has_metrics_token: config.server.tokens.iter().any(|t| t.may.contains(&crate::config::site::Right::Metrics)),
    };
    // Where an answer is nobody's secret, wrong credentials do no harm, and cost nothing.
    let is_open = matches!(line.access, access::Access::Public | access::Access::Login | access::Access::Link);
    let given = Credentials {
        authorization: if is_open { None } else { text(header::AUTHORIZATION) },
        cookie: login::cookie(headers, origin.secure),
        client: origin.client,
    };
    // In clear over a network nothing is even looked at.
    let readable = situation.private || !house.has_users;
    let proven = if readable { state.door().identify(config, given).await } else { Ok(None) };
    let proven = match proven {
        Ok(proven) => proven,
        Err(Failure::Wrong) => return Err(Refusal::Denied(access::Denial::BadCredentials)),
        Err(failure) => return Err(Refusal::Failed(failure)),
    };
    access::decide(line, &situation, house, proven).map_err(Refusal::Denied)
}

impl Refusal {
    async fn answer(self, state: &AppState, config: &Config, request: &mut Parts, route: &str) -> Response {
        let denial = match self {
            Refusal::Denied(denial) => denial,
            Refusal::OtherMethod => {
                let lines = access::ROUTES.iter().filter(|line| line.path == route);
                let methods: Vec<&str> = lines.map(|line| line.method.as_str()).collect();
                return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, methods.join(", "))]).into_response();
            }
            Refusal::Failed(failure) => return failed(&failure),
        };
        let has_users = config.server.users.is_some();
        if denial == access::Denial::Unknown && (wants_page(request, route) || route == "/logout") {
            // A form whose session is over is lost; its address by itself is no page.
            let is_read = matches!(request.method, Method::GET | Method::HEAD);
            let here = request.uri.path_and_query().filter(|_| is_read).map_or("/", |path| path.as_str());
            return Redirect::to(&login::address(here)).into_response();
        }
        if !matches!(denial, access::Denial::BadCredentials | access::Denial::Unknown) && wants_page(request, route) {
            let Ok(reader) = Reader::from_request_parts(request, state).await;
            return reader.refusal(state, denial).unwrap_or_else(IntoResponse::into_response);
        }
        refuse(denial, has_users)
    }
}

/// What became of a session's form.
enum Turned {
    Away(access::Denial),
    TooLong,
}

/// Whether a person waits for the answer, who is better shown a page.
fn wants_page(request: &Parts, route: &str) -> bool {
    let of_programs = ["/api/", "/-/", "/metrics", "/probe"].iter().any(|start| route.starts_with(start));
    let accept = request.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    !of_programs && accept.contains("text/html")
}

fn refuse(denial: access::Denial, has_users: bool) -> Response {
    let body = format!("{}\n", denial.message());
    if matches!(denial, access::Denial::BadCredentials | access::Denial::Unknown) {
        let schemes = if has_users { "Basic realm=\"ioc-watch\", charset=\"UTF-8\"" } else { "Bearer" };
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, schemes)], body).into_response();
    }
    (StatusCode::FORBIDDEN, body).into_response()
}

fn failed(failure: &Failure) -> Response {
    match failure {
        Failure::Throttled(wait) => {
            let seconds = wait.as_secs_f64().ceil() as u64;
            let body = format!("too many failed logins; try again in {seconds} s\n");
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())], body).into_response()
        }
        Failure::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many logins at once; try again\n").into_response(),
        Failure::Wrong => refuse(access::Denial::BadCredentials, true),
        Failure::Store(error) => {
            tracing::error!(error = error as &dyn std::error::Error, "a session could not be looked up");
            (StatusCode::INTERNAL_SERVER_ERROR, "internal error\n").into_response()
        }
    }
}

/// What a session writes must carry its token: in the form, or in a header. Nothing else has one.
async fn check_form(identity: &access::Identity, route: &str, request: &Parts, body: Body) -> Result<Body, Turned> {
    let writes = access::of(&request.method, route).is_some_and(|line| line.access == access::Access::Write);
    let Some(expected) = identity.csrf.as_deref().filter(|_| writes) else { return Ok(body) };
    let denied = || Turned::Away(access::Denial::NoFormToken);
    if let Some(token) = request.headers.get(CSRF_HEADER) {
        return if same(token.as_bytes(), expected) { Ok(body) } else { Err(denied()) };
    }
    let kind = request.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return Err(denied());
    }
    let read = tokio::time::timeout(FORM_TIMEOUT, axum::body::to_bytes(body, MAX_FORM)).await;
    let Ok(Ok(bytes)) = read else {
        return Err(Turned::TooLong);
    };
    let token = url::form_urlencoded::parse(&bytes).find(|(name, _)| name == "csrf").map(|(_, value)| value);
    if !token.is_some_and(|token| same(token.as_bytes(), expected)) {
        return Err(denied());
    }
    Ok(Body::from(bytes))
}

/// In a time that does not tell where they differ.
fn same(given: &[u8], expected: &str) -> bool {
    given.len() == expected.len() && given.iter().zip(expected.as_bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn peer(request: &Parts) -> Option<IpAddr> {
    request.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical())
}

fn is_trusted(config: &Config, peer: IpAddr) -> bool {
    config.server.trusted_proxies.iter().any(|network| network.contains(peer))
}

/// Nobody in between can read along.
fn is_near(config: &Config, peer: IpAddr) -> bool {
    peer.is_loopback() || is_trusted(config, peer)
}

fn origin(config: &Config, request: &Parts) -> Origin {
    let headers = &request.headers;
    let peer = peer(request);
    let trusted = peer.is_some_and(|peer| is_trusted(config, peer));
    let client = if trusted { forwarded_for(config, headers).or(peer) } else { peer };
    let said = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    let secure = config.server.tls.is_some()
        || (trusted && said.is_some_and(|said| said.eq_ignore_ascii_case("https")))
        || is_external_tls(config, headers);
    Origin { client, secure }
}

/// A proxy that nobody named speaks for the site's own address: what it serves is https all the same.
fn is_external_tls(config: &Config, headers: &HeaderMap) -> bool {
    let Ok(external) = url::Url::parse(&config.site.external_url) else { return false };
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).map(access::without_port);
    external.scheme() == "https" && host.is_some_and(|host| Some(host) == external.host_str())
}

/// The last address that no trusted proxy has: those before it are the client's own word.
fn forwarded_for(config: &Config, headers: &HeaderMap) -> Option<IpAddr> {
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let mut last = None;
    for part in lines.iter().flat_map(|line| line.split(',')).map(str::trim).rev() {
        let address: IpAddr = part.parse().ok()?;
        last = Some(address.to_canonical());
        if !is_trusted(config, address) {
            break;
        }
    }
    last
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip" | "via")
    })
}

/// For a report, which carries its style in itself to stand alone: that very style and no other, no script, no form.
pub(super) fn report_policy(html: &str) -> HeaderValue {
    let mut styles = String::new();
    let mut rest = html;
    while let Some((_, after)) = rest.split_once("<style>") {
        let Some((style, after)) = after.split_once("</style>") else { break };
        let hash = digest::digest(&digest::SHA256, style.as_bytes());
        styles.push_str(" 'sha256-");
        base64::engine::general_purpose::STANDARD.encode_string(hash, &mut styles);
        styles.push('\'');
        rest = after;
    }
    let styles = if styles.is_empty() { " 'none'" } else { &styles };
    let policy =
        format!("default-src 'none'; style-src{styles}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

pub(super) fn harden(headers: &mut HeaderMap, secure: bool) {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not no-referrer: a browser would send our own forms with `Origin: null`.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=()"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if secure {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(year);
    }
}
