//! Kind `http`: a JSON answer that is asked for, page by page.

use crate::config::Secret;
use crate::config::decode::{self, Context, DAY, MINUTE, SECOND, Section};
use crate::config::node::{Node, quote};
use crate::config::probes::http::{headers, http_url};
use std::path::PathBuf;
use std::time::Duration;

/// A JSON answer that is asked for.
#[derive(Debug, Clone)]
pub struct Http {
    /// `http` or `https`, with a host.
    pub url: url::Url,
    /// Default 5 m.
    pub every: Duration,
    /// Of one request. Default 30 s.
    pub timeout: Duration,
    pub bearer: Option<Secret>,
    pub headers: Vec<(String, String)>,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// JSON pointer to the list of rows. Default: the answer itself.
    pub items: String,
    pub paging: Paging,
    /// Where the next round begins.
    pub resume: Resume,
    /// Of one answer, in bytes; what is longer is refused. Default 16 MiB.
    pub max_body: u64,
}

/// How the next page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paging {
    /// There is one answer.
    None,
    /// The answer holds what the parameter must be.
    Cursor { pointer: String, param: String },
    /// The answer holds the next address.
    Next(Next),
    /// Pages are numbered; the first without rows is the end.
    Page { param: String, start: u64 },
}

/// Where the next address stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// In the header `Link` with `rel="next"`.
    Link,
    Pointer(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    /// At the last page of the round before: for answers that grow at their end.
    #[default]
    Last,
    /// At the first page: for answers that show the newest first.
    First,
}

/// Answers are held in memory while they are read.
const MAX_BODY: u64 = 64 << 20;

impl Http {
    pub(super) const KEYS: &'static [&'static str] = &[
        "url",
        "every",
        "timeout",
        "bearer_file",
        "headers",
        "ca_file",
        "items",
        "cursor",
        "next",
        "page",
        "resume",
        "max_body",
    ];

    pub(super) fn decode(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Http> {
        let url = section.required(cx, "url", http_url);
        let every = section.optional(cx, "every", decode::duration(SECOND..=DAY)).unwrap_or(5 * MINUTE);
        let timeout = section.optional(cx, "timeout", decode::duration(SECOND / 10..=10 * MINUTE));
        let bearer = section.optional(cx, "bearer_file", decode::secret_file);
        let headers = section.optional(cx, "headers", headers).unwrap_or_default();
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let items = section.optional(cx, "items", pointer).unwrap_or_default();
        let given: Vec<&str> =
            ["cursor", "next", "page"].into_iter().filter(|key| section.get(key).is_some()).collect();
        if given.len() > 1 {
            cx.error(section.place, format!("http: {} exclude each other", given.join(" and ")));
        }
        let cursor = section.optional(cx, "cursor", cursor);
        let next = section.optional(cx, "next", next);
        let page = section.optional(cx, "page", page);
        let resume =
            section.optional(cx, "resume", decode::choice(&[("last", Resume::Last), ("first", Resume::First)]));
        let max_body = section.optional(cx, "max_body", decode::size(1..=MAX_BODY)).unwrap_or(16 << 20);
        let is_clear = url.as_ref().is_some_and(|url| url.scheme() == "http" && !is_loopback(url));
        if is_clear && section.get("bearer_file").is_some() {
            cx.error(
                section.place,
                "http: http:// would send the bearer token in clear to another machine; use https://",
            );
        }
        Some(Http {
            url: url?,
            every,
            timeout: timeout.unwrap_or(30 * SECOND),
            bearer,
            headers,
            ca_file,
            items,
            paging: cursor.or(next).or(page).unwrap_or(Paging::None),
            resume: resume.unwrap_or_default(),
            max_body,
        })
    }
}

/// Whether what is sent there stays on this machine.
pub(in crate::config) fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A JSON pointer (RFC 6901).
fn pointer(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = node.as_text().filter(|text| text.starts_with('/') || (text.is_empty() && !node.is_literal));
    if text.is_none() {
        cx.expected(node, "a JSON pointer such as /data");
    }
    text.map(str::to_owned)
}

fn cursor(cx: &mut Context<'_>, node: &Node) -> Option<Paging> {
    if node.as_text().is_some() {
        return pointer(cx, node).map(|pointer| Paging::Cursor { pointer, param: "cursor".to_owned() });
    }
    let section = Section::open(cx, node, "cursor", &["pointer", "param"], &[])?;
    let pointer = section.required(cx, "pointer", pointer);
    let param = section.optional(cx, "param", parameter).unwrap_or_else(|| "cursor".to_owned());
    Some(Paging::Cursor { pointer: pointer?, param })
}

fn next(cx: &mut Context<'_>, node: &Node) -> Option<Paging> {
    if node.as_text() == Some("link") {
        return Some(Paging::Next(Next::Link));
    }
    let text = node.as_text().filter(|text| text.starts_with('/'));
    if text.is_none() {
        cx.expected(node, "link (the header Link), or a JSON pointer to the next address such as /links/next");
    }
    text.map(|text| Paging::Next(Next::Pointer(text.to_owned())))
}

fn page(cx: &mut Context<'_>, node: &Node) -> Option<Paging> {
    let section = Section::open(cx, node, "page", &["param", "start"], &[])?;
    let param = section.optional(cx, "param", parameter).unwrap_or_else(|| "page".to_owned());
    let start = section.optional(cx, "start", decode::integer(0..=1_000_000)).unwrap_or(1);
    Some(Paging::Page { param, start })
}

/// The name of a query parameter.
fn parameter(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let name = decode::text(cx, node)?;
    if name.contains(['&', '=', '?', '#']) || name.contains(char::is_control) {
        cx.wrong(node, format!("found {}, expected the name of a query parameter", quote(&name)));
        return None;
    }
    Some(name)
}
