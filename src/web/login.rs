//! The login page, the cookie, and logging out.
//!
//! The cookie's name begins with `__Host-` wherever the browser speaks TLS: then no other host of the domain, and no page
//! in clear, can set it.

use super::credentials::Failure;
use super::guard::Origin;
use super::pages::{Page, Reader};
use super::{AppState, access::Identity, session};
use axum::extract::{Query, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use jiff::Timestamp;
use minijinja::context;
use serde::Deserialize;

const PLAIN: &str = "ioc_session";
const SECURE: &str = "__Host-ioc_session";
/// Longest `next` that is remembered.
const MAX_NEXT: usize = 512;

#[derive(Deserialize, Default)]
pub(super) struct Asked {
    next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Given {
    user: String,
    password: String,
    next: Option<String>,
}

/// The address of the login page that leads back to `here`.
pub(super) fn address(here: &str) -> String {
    match next(Some(here)) {
        "/" => "/login".to_owned(),
        here => format!("/login?next={}", query(here)),
    }
}

fn query(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A path of this site, whatever was given: never another host's, and not this page again.
fn next(given: Option<&str>) -> &str {
    let given = given.unwrap_or("/");
    let is_path = given.starts_with('/') && !given.starts_with("//") && given.len() <= MAX_NEXT;
    // Browsers read a backslash as a slash and drop tabs and line feeds.
    let is_plain = given.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let leads_here = ["/login", "/logout"].iter().any(|own| given.split('?').next() == Some(own));
    let is_ours = is_path && is_plain && !leads_here && given.parse::<Uri>().is_ok_and(|uri| uri.host().is_none());
    if is_ours { given } else { "/" }
}

/// The session cookie of a request. Of several with the name none is believed: one of them is somebody else's.
pub(super) fn cookie(headers: &HeaderMap, secure: bool) -> Option<&str> {
    let name = if secure { SECURE } else { PLAIN };
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// An empty token makes the browser forget it.
fn set_cookie(token: &str, secure: bool) -> Option<HeaderValue> {
    let (name, only) = if secure { (SECURE, "; Secure") } else { (PLAIN, "") };
    let age = if token.is_empty() { 0 } else { session::LONGEST.as_secs() };
    HeaderValue::from_str(&format!("{name}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{only}")).ok()
}

pub(super) async fn page(
    State(state): State<AppState>,
    reader: Reader,
    Extension(identity): Extension<Identity>,
    Query(asked): Query<Asked>,
) -> Page {
    let next = next(asked.next.as_deref());
    if state.config().server.users.is_none() || identity.csrf.is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    reader.render(&state, "login.html", context! { next, next_query => query(next), bare => true })
}

pub(super) async fn enter(
    State(state): State<AppState>,
    reader: Reader,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Page {
    let config = state.config();
    let next = next(given.next.as_deref());
    let Some(users) = config.server.users.as_ref() else { return Ok(Redirect::to(next).into_response()) };
    let name = given.user.trim().to_lowercase();
    let user = match state.door().login(users, &name, &given.password, origin.client).await {
        Ok(user) => user,
        Err(failure) => return refused(&state, &reader, &failure, &name, next),
    };
    // Who logs in again gives the old session up.
    if let Some(old) = cookie(&headers, origin.secure) {
        state.door().sessions.close(old).await.map_err(internal)?;
    }
    let token = state.door().sessions.open(user, Timestamp::now()).await.map_err(internal)?;
    let mut response = Redirect::to(next).into_response();
    response.headers_mut().extend(set_cookie(&token, origin.secure).map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response)
}

fn refused(state: &AppState, reader: &Reader, failure: &Failure, name: &str, next: &str) -> Page {
    let (status, wait) = match failure {
        Failure::Wrong => (StatusCode::UNAUTHORIZED, None),
        Failure::Throttled(wait) => (StatusCode::TOO_MANY_REQUESTS, Some(wait.as_secs_f64().ceil() as u64)),
        Failure::Busy => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
        Failure::Store(_) => return Err(StatusCode::INTERNAL_SERVER_ERROR),
    };
    let content = context! {
        next, next_query => query(next), bare => true, name, wait, wrong => wait.is_none(),
    };
    let mut response = reader.render(state, "login.html", content)?;
    *response.status_mut() = status;
    if let Some(wait) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    Ok(response)
}

pub(super) async fn leave(
    State(state): State<AppState>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    if let Some(token) = cookie(&headers, origin.secure).filter(|_| identity.csrf.is_some()) {
        state.door().sessions.close(token).await.map_err(internal)?;
        tracing::info!(user = %identity.name, "{} logged out", identity.name);
    }
    let mut response = Redirect::to("/login").into_response();
    response.headers_mut().extend(set_cookie("", origin.secure).map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response)
}

fn internal(error: crate::store::StoreError) -> StatusCode {
    tracing::error!(error = &error as &dyn std::error::Error, "a session could not be kept");
    StatusCode::INTERNAL_SERVER_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_never_leaves_the_site() {
        for good in ["/", "/incidents/7?lang=vi", "/reports/2026-W47", "/a%2F%2Fb"] {
            assert_eq!(next(Some(good)), good);
        }
        let bad = [
            "",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example/",
            "/\t/evil.example",
            "/\n/evil.example",
            "javascript:alert(1)",
            "incidents",
            "/login?next=/",
            "/logout",
            " /",
            &format!("/{}", "x".repeat(600)),
        ];
        for bad in bad {
            assert_eq!(next(Some(bad)), "/", "{bad:?}");
        }
        assert_eq!(address("/incidents?lang=vi&x=1"), "/login?next=%2Fincidents%3Flang%3Dvi%26x%3D1");
        assert_eq!((address("/").as_str(), address("//evil.example").as_str()), ("/login", "/login"));
    }

    #[test]
    fn a_cookie_counts_alone_and_under_the_name_of_its_place() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; __Host-ioc_session=s; ioc_session=p"));
        assert_eq!((cookie(&headers, true), cookie(&headers, false)), (Some("s"), Some("p")));
        headers.append(header::COOKIE, HeaderValue::from_static("ioc_session=q"));
        assert_eq!((cookie(&headers, true), cookie(&headers, false)), (Some("s"), None));
        let set = set_cookie("t", true).unwrap();
        let expected = "__Host-ioc_session=t; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure";
        assert_eq!(set.to_str().unwrap(), expected);
    }
}
