//! Section `services`: portals, applications and databases that are probed.

use super::Id;
use super::decode::{self, Context, DAY, SECOND, Section};
use super::node::{Node, quote};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Service {
    pub id: Id,
    /// Default: the id.
    pub name: String,
    pub agency: Id,
    pub kind: ServiceKind,
    /// Default 30 s.
    pub every: Duration,
    /// Default 10 s; never longer than `every`.
    pub timeout: Duration,
    pub probe: Probe,
}

/// What a service is, for labels and indicators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ServiceKind {
    #[default]
    Portal,
    Application,
    Database,
    Network,
}

impl ServiceKind {
    pub const ALL: [ServiceKind; 4] =
        [ServiceKind::Portal, ServiceKind::Application, ServiceKind::Database, ServiceKind::Network];

    pub fn as_str(self) -> &'static str {
        match self {
            ServiceKind::Portal => "portal",
            ServiceKind::Application => "application",
            ServiceKind::Database => "database",
            ServiceKind::Network => "network",
        }
    }
}

/// How a service is checked. One variant a protocol.
#[derive(Debug, Clone)]
pub enum Probe {
    Http(HttpProbe),
}

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

impl Service {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Service> {
        const KEYS: &[&str] = &["id", "name", "agency", "kind", "every", "timeout", "http"];
        const LATER: &[&str] = &["depends_on", "journey", "tcp", "tls", "dns", "icmp", "postgres", "mysql"];
        let section = Section::open(cx, node, "service", KEYS, LATER)?;
        let id = section.required(cx, "id", decode::id);
        let name = section.optional(cx, "name", decode::name);
        let agency = section.required(cx, "agency", decode::agency);
        let kinds = ServiceKind::ALL.map(|kind| (kind.as_str(), kind));
        let kind = section.optional(cx, "kind", decode::choice(&kinds)).unwrap_or_default();
        let every = section.optional(cx, "every", decode::duration(SECOND..=DAY)).unwrap_or(30 * SECOND);
        let timeout = section.optional(cx, "timeout", decode::duration(SECOND / 10..=DAY));
        let timeout = match timeout {
            Some(timeout) if timeout > every => {
                if let Some(node) = section.get("timeout") {
                    let every = decode::write_duration(every);
                    cx.error(node.place, format!("timeout: found {}, longer than every ({every})", node.found()));
                }
                every
            }
            Some(timeout) => timeout,
            None => every.min(10 * SECOND),
        };
        // A probe that comes later was refused by its name already.
        let http = if LATER.iter().any(|key| section.get(key).is_some()) {
            section.optional(cx, "http", HttpProbe::decode)
        } else {
            section.required(cx, "http", HttpProbe::decode)
        };
        if let (Some(HttpProbe { slow_after: Some(slow), .. }), Some(node)) = (&http, section.get("http"))
            && *slow >= timeout
        {
            let place = node.get("slow_after").map_or(node.place, |node| node.place);
            let timeout = decode::write_duration(timeout);
            cx.error(place, format!("slow_after: not shorter than the timeout ({timeout}): nothing could be slow"));
        }
        let id = id?;
        let name = name.unwrap_or_else(|| id.to_string());
        Some(Service { id, name, agency: agency?, kind, every, timeout, probe: Probe::Http(http?) })
    }
}

impl HttpProbe {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<HttpProbe> {
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
        let max_redirects = section.optional(cx, "max_redirects", decode::integer(0..=20)).unwrap_or(5);
        let slow_after = section.optional(cx, "slow_after", decode::duration(SECOND / 100..=DAY));
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let max_body = section.optional(cx, "max_body", decode::size(1..=MAX_BODY)).unwrap_or(1 << 20);
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
            max_redirects: u8::try_from(max_redirects).unwrap_or(u8::MAX),
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
