//! What a step sends: its address, headers and body with captures and secrets filled in.

use super::super::detail::{Detail, Failure};
use super::super::http::Hop;
use super::super::outcome::CheckResult;
use super::{JourneyCheck, Run};
use crate::config::probes::journey::{Body, Json, Step, Template};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderValue};
use std::fmt::Write;
use url::Url;

/// The request of a step.
pub(super) struct Filled {
    pub hop: Hop,
    pub body: Bytes,
    /// What every request of ours has: all that goes to an origin that the journey does not name.
    pub plain: HeaderMap,
}

impl JourneyCheck {
    pub(super) fn fill(&self, step: &Step, run: &Run) -> Result<Filled, Failure> {
        let url = self.address(step, run)?;
        let plain = plain_headers();
        let mut headers = plain.clone();
        let (body, content_type) = body(&step.body, run)?;
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        for (name, value) in &step.headers {
            let value = fill(value, run, &|value| Some(value.to_owned()))?;
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| own(format!("the value of the header {name} has characters that no header can have")))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        let has_body = !matches!(step.method, Method::GET | Method::HEAD);
        if has_body {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        Ok(Filled { hop: Hop { url, method: step.method.clone(), headers }, body, plain })
    }

    /// A captured address may be relative, and leads only where the journey's own addresses do.
    fn address(&self, step: &Step, run: &Run) -> Result<Url, Failure> {
        if !step.url.begins_with_capture() {
            let text = fill(&step.url, run, &|value| Some(percent(value)))?;
            return Url::parse(&text).map_err(|error| own(format!("the address cannot be used: {error}")));
        }
        let text = fill(&step.url, run, &|value| Some(value.to_owned()))?;
        let base = run.at.as_ref();
        let url = base.map_or_else(|| Url::parse(&text), |base| base.join(&text));
        let url = url.map_err(|_| Failure::new(CheckResult::Content, Detail::ForeignAddress))?;
        match self.is_known(&url) {
            true => Ok(url),
            false => Err(Failure::new(CheckResult::Content, Detail::ForeignAddress)),
        }
    }

    /// Whether the journey names the origin itself: it may get what the journey carries.
    pub(super) fn is_known(&self, url: &Url) -> bool {
        self.journey.origins.contains(&url.origin().ascii_serialization())
    }
}

fn plain_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let agent = concat!("ioc-watch/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

pub(super) fn fill(template: &Template, run: &Run, write: &dyn Fn(&str) -> Option<String>) -> Result<String, Failure> {
    let capture = |name: &str| run.captures.get(name).map(String::as_str);
    // `check` saw to it that an earlier step captures it, and a step without its captures fails.
    template.fill(&capture, write).map_err(|name| own(format!("{{{{{name}}}}} was not captured")))
}

fn body(body: &Body, run: &Run) -> Result<(Bytes, Option<&'static str>), Failure> {
    match body {
        Body::None => Ok((Bytes::new(), None)),
        Body::Form(fields) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in fields {
                form.append_pair(name, &fill(value, run, &|value| Some(value.to_owned()))?);
            }
            Ok((form.finish().into(), Some("application/x-www-form-urlencoded")))
        }
        Body::Json(json) => Ok((value(json, run)?.to_string().into(), Some("application/json"))),
    }
}

fn value(json: &Json, run: &Run) -> Result<serde_json::Value, Failure> {
    Ok(match json {
        Json::Fixed(value) => value.clone(),
        Json::Text(template) => fill(template, run, &|value| Some(value.to_owned()))?.into(),
        Json::List(items) => items.iter().map(|item| value(item, run)).collect::<Result<Vec<_>, _>>()?.into(),
        Json::Object(members) => {
            let members = members.iter().map(|(name, member)| Ok((name.clone(), value(member, run)?)));
            serde_json::Value::Object(members.collect::<Result<_, Failure>>()?)
        }
    })
}

/// Everything but the unreserved characters of RFC 3986: a captured value stays one part of an address.
fn percent(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

pub(super) fn own(cause: String) -> Failure {
    Failure::new(CheckResult::Error, Detail::Own { cause })
}
