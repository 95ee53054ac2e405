//! Section `email`: the SMTP server.

use super::Secret;
use super::decode::{self, Context, DAY, HOUR, MINUTE, SECOND, Section};
use super::dkim::Dkim;
use super::node::Node;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Email {
    pub security: Security,
    pub host: String,
    pub port: u16,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub from: lettre::message::Mailbox,
    pub retry: Retry,
    /// Templates of the site's own in the place of the built-in ones; what is in it is read by `mail`.
    pub templates: Option<PathBuf>,
    pub dkim: Option<Dkim>,
    /// Mails about incidents to one person; `None`: as many as there are.
    pub limit: Option<Limit>,
}

/// At most so many mails in any such period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// From 2.
    pub mails: u32,
    pub per: Duration,
}

impl Limit {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Limit> {
        let section = Section::open(cx, node, "limit", &["mails", "per"], &[])?;
        let mails = section.required(cx, "mails", decode::integer(2..=1_000));
        let per = section.required(cx, "per", decode::duration(MINUTE..=DAY));
        Some(Limit { mails: u32::try_from(mails?).ok()?, per: per? })
    }
}

/// Of the connection to the mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// `smtp://`; with a password on loopback only.
    Plain,
    /// `smtps://`
    Tls,
    /// `smtp+starttls://`; required, never downgraded.
    StartTls,
}

#[derive(Debug, Clone)]
pub struct Retry {
    /// Default 5 s.
    pub first: Duration,
    /// Default 10 m.
    pub max: Duration,
    /// Default 3 d.
    pub give_up: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { first: 5 * SECOND, max: 10 * MINUTE, give_up: 3 * DAY }
    }
}

impl Retry {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Retry> {
        let section = Section::open(cx, node, "retry", &["first", "max", "give_up"], &[])?;
        let default = Retry::default();
        let first = section.optional(cx, "first", decode::duration(SECOND..=HOUR)).unwrap_or(default.first);
        let max = section.optional(cx, "max", decode::duration(SECOND..=DAY)).unwrap_or(default.max);
        let give_up = section.optional(cx, "give_up", decode::duration(MINUTE..=31 * DAY)).unwrap_or(default.give_up);
        if first > max {
            cx.error(section.place, "retry: \"first\" is longer than \"max\"");
        }
        Some(Retry { first, max, give_up })
    }
}

impl Email {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Email> {
        const KEYS: &[&str] = &["smtp", "password_file", "ca_file", "from", "retry", "templates", "dkim", "limit"];
        let section = Section::open(cx, node, "email", KEYS, &[])?;
        let smtp = section.required(cx, "smtp", smtp);
        let password = section.optional(cx, "password_file", decode::secret_file);
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let from = section.required(cx, "from", from);
        let retry = section.optional(cx, "retry", Retry::decode).unwrap_or_default();
        let templates = section.optional(cx, "templates", decode::directory);
        let dkim = section.optional(cx, "dkim", Dkim::decode);
        let limit = section.optional(cx, "limit", Limit::decode);
        if let (Some(dkim), Some(from)) = (&dkim, &from)
            && !dkim.covers(from.email.domain())
        {
            let message =
                format!("dkim: a signature of {:?} says nothing about mails from {}", dkim.domain, from.email);
            cx.error(section.get("dkim").map_or(section.place, |node| node.place), message);
        }
        let smtp = smtp?;
        if let (true, None) = (section.get("password_file").is_some(), &smtp.username) {
            cx.error(
                section.place,
                "email: \"password_file\" needs a user in \"smtp\", such as smtps://ioc@mail.vn.example",
            );
        }
        if smtp.username.is_some() && section.get("password_file").is_none() {
            cx.error(section.place, "email: a user in \"smtp\" needs \"password_file\"");
        }
        if smtp.security == Security::Plain && smtp.username.is_some() && !is_loopback(&smtp.host) {
            let message = "smtp: smtp:// would send the password in clear text to another machine; use smtp+starttls:// \
                           or smtps:// (smtp:// with a password only to 127.0.0.1, [::1] or localhost)";
            cx.error(section.get("smtp").map_or(section.place, |node| node.place), message);
        }
        let Smtp { security, host, port, username } = smtp;
        Some(Email { security, host, port, username, password, ca_file, from: from?, retry, templates, dkim, limit })
    }
}

struct Smtp {
    security: Security,
    host: String,
    port: u16,
    username: Option<String>,
}

fn smtp(cx: &mut Context<'_>, node: &Node) -> Option<Smtp> {
    let wanted = "a URL such as smtp+starttls://ioc@mail.vn.example:587 (smtp://, smtps:// or smtp+starttls://)";
    let Some(url) = node.as_text().and_then(|text| url::Url::parse(text).ok()) else {
        cx.expected(node, wanted);
        return None;
    };
    let (security, default_port) = match url.scheme() {
        "smtp" => (Security::Plain, 25),
        "smtps" => (Security::Tls, 465),
        "smtp+starttls" => (Security::StartTls, 587),
        _ => {
            cx.expected(node, wanted);
            return None;
        }
    };
    if url.password().is_some() {
        cx.wrong(node, "a password does not stand in this file: name its file with \"password_file\"");
        return None;
    }
    let (Some(host), true) = (decode::host(&url), matches!(url.path(), "" | "/") && url.query().is_none()) else {
        cx.expected(node, wanted);
        return None;
    };
    let username = decode::username(cx, node, &url);
    Some(Smtp { security, host, port: url.port().unwrap_or(default_port), username })
}

/// Whether a host of the configuration is this machine, without asking DNS.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn from(cx: &mut Context<'_>, node: &Node) -> Option<lettre::message::Mailbox> {
    let mailbox = node.as_text().and_then(|text| text.parse().ok());
    if mailbox.is_none() {
        cx.expected(node, "an address such as \"IOC Thăng Bình <ioc@vn.example>\"");
    }
    mailbox
}
