//! Probe `http`: one HTTP(S) request and what its answer must be.

use crate::config::decode::{self, Context, Section};
use crate::config::node::{Node, quote};
use std::path::PathBuf;
use std::time::Duration;

/// One HTTP(S) request and what its answer must be.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    /// `http` or `https`, with a host.
    pub url: url::Url,
    /// Default GET.
    pub method: String,
    pub headers: Vec<(String, String)>,
    /// Acceptable status codes. Default: 200 to 299.
    pub status: Vec<u16>,
    pub body_contains: Option<String>,
    pub body_not_contains: Option<String>,
    /// Default 5; 0 does not follow.
    pub max_redirects: u8,
    /// Slower than this is `slow` (and still up).
    pub slow_after: Option<Duration>,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// In bytes; what is longer is not read further. Default 1 MiB.
    pub max_body: u64,
}

/// Bodies are held in memory while they are searched.
const MAX_BODY: u64 = 64 << 20;

/// Read of a body, in bytes, unless the file says otherwise.
const DEFAULT_MAX_BODY: u64 = 1 << 20;
const DEFAULT_MAX_REDIRECTS: u8 = 5;

impl HttpProbe {
    /// A GET with the defaults of everything else.
    pub fn get(url: url::Url) -> HttpProbe {
        HttpProbe {
            url,
            method: "GET".to_owned(),
            headers: Vec::new(),
            status: (200..=299).collect(),
            body_contains: None,
            body_not_contains: None,
            max_redirects: DEFAULT_MAX_REDIRECTS,
            slow_after: None,
            ca_file: None,
            max_body: DEFAULT_MAX_BODY,
        }
    }

    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node, timeout: Duration) -> Option<HttpProbe> {
        const KEYS: &[&str] = &[
            "url",
            "method",
            "headers",
            "status",
            "body_contains",
            "body_not_contains",
            "max_redirects",
            "slow_after",
            "ca_file",
            "max_body",
        ];
        let section = Section::open(cx, node, "http", KEYS, &[])?;
        let url = section.required(cx, "url", http_url);
        let methods = [("GET", "GET"), ("HEAD", "HEAD"), ("POST", "POST"), ("OPTIONS", "OPTIONS")];
        let method = section.optional(cx, "method", decode::choice(&methods)).unwrap_or("GET");
        let headers = section.optional(cx, "headers", headers).unwrap_or_default();
        let status = section.optional(cx, "status", decode::list(decode::integer(100..=599))).unwrap_or_default();
        let body_contains = section.optional(cx, "body_contains", decode::text);
        let body_not_contains = section.optional(cx, "body_not_contains", decode::text);
        let max_redirects = section.optional(cx, "max_redirects", decode::integer(0..=20));
        let slow_after = section.optional(cx, "slow_after", super::slow_after(timeout));
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let max_body = section.optional(cx, "max_body", decode::size(1..=MAX_BODY)).unwrap_or(DEFAULT_MAX_BODY);
        if method == "HEAD" && (body_contains.is_some() || body_not_contains.is_some()) {
            cx.error(
                section.place,
                "http: the answer to HEAD has no body, so body_contains cannot be checked; use GET",
            );
        }
        let status = if status.is_empty() {
            (200..=299).collect()
        } else {
            status.into_iter().filter_map(|code| u16::try_from(code).ok()).collect()
        };
        Some(HttpProbe {
            url: url?,
            method: method.to_owned(),
            headers,
            status,
            body_contains,
            body_not_contains,
            max_redirects: max_redirects.and_then(|max| u8::try_from(max).ok()).unwrap_or(DEFAULT_MAX_REDIRECTS),
            slow_after,
            ca_file,
            max_body,
        })
    }
}

fn http_url(cx: &mut Context<'_>, node: &Node) -> Option<url::Url> {
    let url = node.as_text().and_then(|text| url::Url::parse(text).ok());
    let Some(url) = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) else {
        cx.expected(node, "an http:// or https:// URL with a host");
        return None;
    };
    if url.password().is_some() {
        cx.wrong(node, "a password does not stand in a URL: use headers: {Authorization: \"Basic ${PROBE_BASIC}\"}");
        return None;
    }
    Some(url)
}

fn headers(cx: &mut Context<'_>, node: &Node) -> Option<Vec<(String, String)>> {
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping of header names and values");
        return None;
    };
    let mut headers = Vec::new();
    for entry in entries {
        let name_is_sound = axum::http::HeaderName::from_bytes(entry.key.as_bytes()).is_ok();
        if !name_is_sound {
            cx.error(entry.place, format!("headers: {} is no header name", quote(&entry.key)));
        }
        let Some(value) = decode::text(cx, &entry.value) else { continue };
        if axum::http::HeaderValue::from_str(&value).is_err() {
            // The value may be a secret: it is not repeated.
            cx.wrong(
                &entry.value,
                format!("the value of {} has characters that no header can have", quote(&entry.key)),
            );
        } else if name_is_sound {
            headers.push((entry.key.clone(), value));
        }
    }
    Some(headers)
}
