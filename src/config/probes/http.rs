//! Probe `http`: one HTTP(S) request and what its answer must be.

use super::address::{self, Address, Family};
use crate::config::Secret;
use crate::config::decode::{self, Context, Section};
use crate::config::node::{Node, Value, quote};
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
    /// JSON pointers (RFC 6901) and the text, number or boolean that stands there.
    pub json_path: Vec<(String, String)>,
    /// What is sent, and its content type unless the headers name another.
    pub body: Option<(String, &'static str)>,
    pub version: Version,
    /// Default: any.
    pub ip: Family,
    /// Certificate (with its chain) and key that we present, both PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    pub proxy: Option<Proxy>,
    /// Default 5; 0 does not follow.
    pub max_redirects: u8,
    /// Slower than this is `slow` (and still up).
    pub slow_after: Option<Duration>,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// In bytes; what is longer is not read further. Default 1 MiB.
    pub max_body: u64,
}

/// Which HTTP is spoken. Without TLS, 1.1 unless 2 is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    #[default]
    Http1,
    Http2,
    /// What the server chooses in the handshake.
    Either,
}

/// A tunnel (`CONNECT`) through an HTTP proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    pub address: Address,
    pub login: Option<(String, Secret)>,
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
            json_path: Vec::new(),
            body: None,
            version: Version::Http1,
            ip: Family::Any,
            identity: None,
            proxy: None,
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
            "json_path",
            "body",
            "json",
            "form",
            "http_version",
            "ip",
            "cert_file",
            "key_file",
            "proxy",
            "max_redirects",
            "slow_after",
            "ca_file",
            "max_body",
        ];
        let section = Section::open(cx, node, "http", KEYS, &[])?;
        let url = section.required(cx, "url", http_url);
        let methods = [("GET", "GET"), ("HEAD", "HEAD"), ("POST", "POST"), ("PUT", "PUT"), ("OPTIONS", "OPTIONS")];
        let method = section.optional(cx, "method", decode::choice(&methods)).unwrap_or("GET");
        let headers = section.optional(cx, "headers", headers).unwrap_or_default();
        let status = section.optional(cx, "status", decode::list(decode::integer(100..=599))).unwrap_or_default();
        let body_contains = section.optional(cx, "body_contains", decode::text);
        let body_not_contains = section.optional(cx, "body_not_contains", decode::text);
        let json_path = section.optional(cx, "json_path", json_path).unwrap_or_default();
        let body = body(cx, &section, method);
        let versions = [("1.1", Version::Http1), ("2", Version::Http2), ("auto", Version::Either)];
        let version = section.optional(cx, "http_version", decode::choice(&versions)).unwrap_or_default();
        let host = url.as_ref().and_then(|url| url.host().map(|host| host.to_owned()));
        let ip = section.optional(cx, "ip", address::family(host.as_ref())).unwrap_or_default();
        let identity = identity(cx, &section);
        let proxy = section.optional(cx, "proxy", Proxy::decode);
        let max_redirects = section.optional(cx, "max_redirects", decode::integer(0..=20));
        let slow_after = section.optional(cx, "slow_after", super::slow_after(timeout));
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let max_body = section.optional(cx, "max_body", decode::size(1..=MAX_BODY)).unwrap_or(DEFAULT_MAX_BODY);
        if method == "HEAD" && (body_contains.is_some() || body_not_contains.is_some() || !json_path.is_empty()) {
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
            json_path,
            body,
            version,
            ip,
            identity,
            proxy,
            max_redirects: max_redirects.and_then(|max| u8::try_from(max).ok()).unwrap_or(DEFAULT_MAX_REDIRECTS),
            slow_after,
            ca_file,
            max_body,
        })
    }
}

impl Proxy {
    /// `host:port`, or a mapping with a login.
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Proxy> {
        if node.as_text().is_some() {
            return address::address(cx, node).map(|address| Proxy { address, login: None });
        }
        let section = Section::open(cx, node, "proxy", &["address", "user", "password_file"], &[])?;
        let address = section.required(cx, "address", address::address);
        let user = section.optional(cx, "user", decode::text);
        let password = section.optional(cx, "password_file", decode::secret_file);
        if section.get("user").is_some() != section.get("password_file").is_some() {
            cx.error(section.place, "proxy: user and password_file belong together");
        }
        Some(Proxy { address: address?, login: user.zip(password) })
    }
}

fn identity(cx: &mut Context<'_>, section: &Section<'_>) -> Option<(PathBuf, PathBuf)> {
    let certificate = section.optional(cx, "cert_file", decode::ca_file);
    let key = section.optional(cx, "key_file", decode::path);
    if section.get("cert_file").is_some() != section.get("key_file").is_some() {
        cx.error(section.place, "http: cert_file and key_file belong together");
    }
    certificate.zip(key)
}

fn body(cx: &mut Context<'_>, section: &Section<'_>, method: &str) -> Option<(String, &'static str)> {
    let given: Vec<&str> = ["body", "json", "form"].into_iter().filter(|key| section.get(key).is_some()).collect();
    let &[key] = given.as_slice() else {
        if given.len() > 1 {
            cx.error(section.place, format!("http: {} exclude each other", given.join(" and ")));
        }
        return None;
    };
    if !matches!(method, "POST" | "PUT") {
        cx.error(section.place, format!("http: {key} is sent with method POST or PUT, not {method}"));
        return None;
    }
    match key {
        "body" => section.optional(cx, key, decode::text).map(|text| (text, "text/plain; charset=utf-8")),
        "json" => section.optional(cx, key, |_, node| Some((json(node).to_string(), "application/json"))),
        _ => section.optional(cx, key, |cx, node| {
            let Some(entries) = node.as_mapping() else {
                cx.expected(node, "a mapping of field names and values");
                return None;
            };
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for entry in entries {
                form.append_pair(&entry.key, entry.value.as_text().unwrap_or_default());
            }
            Some((form.finish(), "application/x-www-form-urlencoded"))
        }),
    }
}

/// YAML's plain numbers and booleans are JSON's; everything else is text.
fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Scalar(text) if node.is_literal => {
            serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.clone()))
        }
        Value::Scalar(text) => serde_json::Value::String(text.clone()),
        Value::Sequence(nodes) => nodes.iter().map(json).collect(),
        Value::Mapping(entries) => {
            serde_json::Value::Object(entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect())
        }
        Value::Null | Value::Invalid => serde_json::Value::Null,
    }
}

fn json_path(cx: &mut Context<'_>, node: &Node) -> Option<Vec<(String, String)>> {
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping such as {\"/status\": ok}");
        return None;
    };
    let mut expectations = Vec::new();
    for entry in entries {
        if !entry.key.is_empty() && !entry.key.starts_with('/') {
            let found = quote(&entry.key);
            cx.error(entry.place, format!("json_path: found {found}, expected a JSON pointer such as \"/status\""));
        } else if let Some(value) = decode::text(cx, &entry.value) {
            expectations.push((entry.key.clone(), value));
        }
    }
    Some(expectations)
}

pub(in crate::config) fn http_url(cx: &mut Context<'_>, node: &Node) -> Option<url::Url> {
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

pub(in crate::config) fn headers(cx: &mut Context<'_>, node: &Node) -> Option<Vec<(String, String)>> {
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
