//! Section `webhooks`: programs that are told of incidents over HTTP.

use super::decode::{self, Context, SECOND, Section};
use super::email::Retry;
use super::node::Node;
use super::{Id, Secret};
use crate::matcher::Matcher;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// The shortest secret that signs: 128 bits, as far as its length can say.
const SHORTEST_SECRET: usize = 16;

/// A program that is told.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub id: Id,
    /// `https://`; `http://` to this machine only.
    pub url: Url,
    /// What requests are signed with.
    pub secret: Secret,
    /// All must match an incident's labels; none: all incidents.
    pub matchers: Vec<Matcher>,
    /// For connecting and the answer together; default 10 s.
    pub timeout: Duration,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub retry: Retry,
}

impl Webhook {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Webhook> {
        const KEYS: &[&str] = &["id", "url", "secret_file", "match", "timeout", "ca_file", "retry"];
        let section = Section::open(cx, node, "webhook", KEYS, &[])?;
        let id = section.required(cx, "id", decode::id);
        let url = section.required(cx, "url", url);
        let secret = section.required(cx, "secret_file", secret);
        let matchers = section.optional(cx, "match", decode::list(super::incidents::matcher)).unwrap_or_default();
        let timeout = section.optional(cx, "timeout", decode::duration(SECOND..=60 * SECOND)).unwrap_or(10 * SECOND);
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let retry = section.optional(cx, "retry", Retry::decode).unwrap_or_default();
        Some(Webhook { id: id?, url: url?, secret: secret?, matchers, timeout, ca_file, retry })
    }
}

fn url(cx: &mut Context<'_>, node: &Node) -> Option<Url> {
    let wanted = "a URL such as https://hooks.vn.example/ioc";
    let Some(url) = node.as_text().and_then(|text| Url::parse(text).ok()).filter(Url::has_host) else {
        cx.expected(node, wanted);
        return None;
    };
    let is_safe = match url.scheme() {
        "https" => true,
        "http" => decode::host(&url).is_some_and(|host| super::email::is_loopback(&host)),
        _ => {
            cx.expected(node, wanted);
            return None;
        }
    };
    if !is_safe {
        cx.wrong(node, "http:// would send what happened in clear text to another machine; use https://");
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        cx.wrong(node, "credentials do not stand in this file: requests are signed with \"secret_file\"");
        return None;
    }
    Some(url)
}

fn secret(cx: &mut Context<'_>, node: &Node) -> Option<Secret> {
    let secret = decode::secret_file(cx, node)?;
    if secret.expose().len() < SHORTEST_SECRET {
        let message = format!("must hold at least {SHORTEST_SECRET} characters: whoever guesses it can sign too");
        cx.wrong(node, message);
        return None;
    }
    Some(secret)
}
