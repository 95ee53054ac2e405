//! Sections `site`, `state`, `history`, `rules` and `host`: the daemon itself. `server` is in `server.rs`.

use super::decode::{self, Context, DAY, HOUR, MINUTE, SECOND, Section, YEAR};
use super::node::{Node, Place, Value, quote};
pub use super::server::{Right, Server, Tls, Token};
use super::{Id, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// Who runs ioc-watch, and how it speaks.
#[derive(Debug, Clone)]
pub struct Site {
    pub name: String,
    /// The site agency: owns what nobody else owns.
    pub agency: Id,
    /// Default `Asia/Ho_Chi_Minh`.
    pub timezone: jiff::tz::TimeZone,
    /// Default `vi`.
    pub language: Language,
    /// Base of the links in mails, without a trailing slash. Default: the listen address.
    pub external_url: String,
}

/// Language of mails, pages and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    #[default]
    Vi,
    En,
}

/// Where the state database lives.
#[derive(Debug, Clone)]
pub enum State {
    /// `state.db` under `data_dir`.
    Sqlite,
    Postgres {
        /// `postgres://user@host/db`, without a password.
        url: String,
        password: Option<Secret>,
    },
}

/// The in-process history of metrics.
#[derive(Debug, Clone)]
pub struct History {
    /// How often the sampler reads the metrics. Default 15 s.
    pub tick: Duration,
    /// What every series keeps at least. Default 5 m.
    pub window: Duration,
    pub keep: Vec<Keep>,
    /// In bytes. Default 512 MiB.
    pub max_memory: u64,
    /// Where `max_memory` stands, or the section: for what is said about it once all queries are known.
    pub place: Place,
    /// A server that answers the queries of rules and indicators instead.
    pub remote: Option<Remote>,
}

/// A Prometheus-compatible server.
#[derive(Debug, Clone)]
pub struct Remote {
    /// What stands before `/api/v1/query`.
    pub url: url::Url,
    /// Of one query. Default 10 s.
    pub timeout: Duration,
    /// With those of the authorization.
    pub headers: Vec<(String, Secret)>,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Of one answer, in bytes; what is longer is refused. Default 32 MiB.
    pub max_body: u64,
}

/// Keeps the series that match longer than the window.
#[derive(Debug, Clone)]
pub struct Keep {
    /// A PromQL vector selector.
    pub selector: String,
    pub keep: Duration,
}

/// Which rules are evaluated, and by whom.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Rule files with globs resolved, sorted. Empty: the rules built into the program.
    pub files: Vec<PathBuf>,
    pub evaluate: Evaluate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Evaluate {
    /// The daemon's own ruler.
    #[default]
    Embedded,
    /// A Prometheus-compatible ruler posts to `/api/v2/alerts`.
    External,
}

/// Monitoring of the machine the daemon runs on. On by default.
#[derive(Debug, Clone)]
pub struct Host {
    /// Default 15 s.
    pub every: Duration,
    /// Mount points; default `/`.
    pub disks: Vec<PathBuf>,
}

impl Default for History {
    fn default() -> History {
        History {
            tick: 15 * SECOND,
            window: 5 * MINUTE,
            keep: Vec::new(),
            max_memory: 512 << 20,
            place: Place { line: 1, column: 1 },
            remote: None,
        }
    }
}

impl Default for Host {
    fn default() -> Host {
        Host { every: 15 * SECOND, disks: vec![PathBuf::from("/")] }
    }
}

/// Words of the languages, as the file writes them.
pub(super) const LANGUAGES: [(&str, Language); 2] = [("vi", Language::Vi), ("en", Language::En)];

/// The site's time zone alone: every other section needs it to read its dates. What is wrong with it is said by
/// [`Site::decode`].
pub(super) fn timezone(root: &Node) -> jiff::tz::TimeZone {
    let name = root.get("site").and_then(|site| site.get("timezone")).and_then(Node::as_text);
    let zone = jiff::tz::TimeZone::get(name.unwrap_or(DEFAULT_TIMEZONE));
    // A fixed offset equals the default zone, should the system's zone data be missing.
    zone.unwrap_or_else(|_| jiff::tz::TimeZone::fixed(jiff::tz::offset(7)))
}

const DEFAULT_TIMEZONE: &str = "Asia/Ho_Chi_Minh";

impl Site {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node, own_url: &str) -> Option<Site> {
        const KEYS: &[&str] = &["name", "agency", "timezone", "language", "external_url"];
        let section = Section::open(cx, node, "site", KEYS, &[])?;
        let name = section.required(cx, "name", decode::name);
        let agency = section.required(cx, "agency", decode::agency);
        section.optional(cx, "timezone", check_timezone);
        let language = section.optional(cx, "language", decode::choice(&LANGUAGES)).unwrap_or_default();
        let external_url = section.optional(cx, "external_url", external_url);
        Some(Site {
            name: name?,
            agency: agency?,
            timezone: cx.zone.clone(),
            language,
            external_url: external_url.unwrap_or_else(|| own_url.to_owned()),
        })
    }
}

fn check_timezone(cx: &mut Context<'_>, node: &Node) -> Option<()> {
    let known = node.as_text().is_some_and(|name| jiff::tz::TimeZone::get(name).is_ok());
    if !known {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        let near = node.as_text().map_or(String::new(), |name| {
            // Names are long and share their first half: compare without regard to case.
            let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
            let near = decode::nearest(name, &lower);
            names
                .iter()
                .find(|name| near.contains(&quote(&name.to_lowercase())))
                .map_or(near.clone(), |name| format!(", nearest: {}", quote(name)))
        });
        cx.expected(node, &format!("an IANA time zone such as {DEFAULT_TIMEZONE}{near}"));
    }
    known.then_some(())
}

fn external_url(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = decode::text(cx, node)?;
    let sound = url::Url::parse(&text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    if !sound {
        cx.expected(node, "an http:// or https:// URL without user, query or fragment");
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

impl State {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<State> {
        if let Value::Scalar(_) = node.value {
            return decode::choice(&[("sqlite", ())])(cx, node).map(|()| State::Sqlite);
        }
        let section = Section::open(cx, node, "state", &["postgres", "password_file"], &[])?;
        let url = section.required(cx, "postgres", postgres_url);
        let password = section.optional(cx, "password_file", decode::secret_file);
        Some(State::Postgres { url: url?, password })
    }
}

fn postgres_url(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = decode::text(cx, node)?;
    let Some(url) = url::Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "postgres" | "postgresql")) else {
        cx.expected(node, "a URL such as postgres://ioc@db.vn.example/ioc");
        return None;
    };
    if url.password().is_some() {
        // The URL itself is not repeated: it holds the secret.
        cx.wrong(node, "a password does not stand in this file: name its file with \"password_file\"");
        return None;
    }
    Some(text)
}

impl History {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<History> {
        let section = Section::open(cx, node, "history", &["tick", "window", "keep", "max_memory", "remote"], &[])?;
        let default = History::default();
        let tick = section.optional(cx, "tick", decode::duration(SECOND..=5 * MINUTE)).unwrap_or(default.tick);
        let window = section.optional(cx, "window", decode::duration(MINUTE..=31 * DAY)).unwrap_or(default.window);
        let keep = section.optional(cx, "keep", decode::list(Keep::decode)).unwrap_or_default();
        let max_memory = section.optional(cx, "max_memory", decode::size(16 << 20..=1 << 40));
        if tick > window {
            cx.error(section.place, "history: \"tick\" is longer than \"window\"");
        }
        let place = section.get("max_memory").map_or(section.place, |node| node.place);
        let remote = section.optional(cx, "remote", Remote::decode);
        let max_memory = max_memory.unwrap_or(default.max_memory);
        Some(History { tick, window, keep, max_memory, place, remote })
    }
}

impl Remote {
    /// A URL alone, or a mapping.
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Remote> {
        const KEYS: &[&str] =
            &["url", "timeout", "bearer_file", "username", "password_file", "headers", "ca_file", "max_body"];
        let plain = |url| Remote { url, timeout: 10 * SECOND, headers: Vec::new(), ca_file: None, max_body: 32 << 20 };
        if let Value::Scalar(_) = node.value {
            return remote_url(cx, node).map(plain);
        }
        let section = Section::open(cx, node, "remote", KEYS, &[])?;
        let url = section.required(cx, "url", remote_url);
        let timeout = section.optional(cx, "timeout", decode::duration(SECOND / 10..=2 * MINUTE));
        let bearer = section.optional(cx, "bearer_file", decode::secret_file);
        let username = section.optional(cx, "username", decode::text);
        let password = section.optional(cx, "password_file", decode::secret_file);
        let headers = section.optional(cx, "headers", super::probes::http::headers).unwrap_or_default();
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let max_body = section.optional(cx, "max_body", decode::size(1 << 10..=1 << 30));
        let (has_user, has_password) = (section.get("username").is_some(), section.get("password_file").is_some());
        if has_user != has_password {
            cx.error(section.place, "remote: \"username\" and \"password_file\" belong together");
        }
        if has_user && section.get("bearer_file").is_some() {
            cx.error(section.place, "remote: \"bearer_file\" and \"username\" exclude each other");
        }
        let mut headers: Vec<(String, Secret)> =
            headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        if let Some(bearer) = bearer {
            headers.push(("authorization".to_owned(), Secret::new(format!("Bearer {}", bearer.expose()))));
        }
        if let Some((user, password)) = username.zip(password) {
            let pair = BASE64.encode(format!("{user}:{}", password.expose()));
            headers.push(("authorization".to_owned(), Secret::new(format!("Basic {pair}"))));
        }
        let is_secret = ["bearer_file", "password_file", "headers"].iter().any(|key| section.get(key).is_some());
        let is_clear = |url: &url::Url| url.scheme() == "http" && !super::feeds::http::is_loopback(url);
        if is_secret && url.as_ref().is_some_and(is_clear) {
            let message = "remote: http:// would send its secrets in clear to another machine; use https://";
            cx.error(section.place, message);
        }
        let remote = plain(url?);
        Some(Remote {
            timeout: timeout.unwrap_or(remote.timeout),
            max_body: max_body.unwrap_or(remote.max_body),
            headers,
            ca_file,
            ..remote
        })
    }
}

fn remote_url(cx: &mut Context<'_>, node: &Node) -> Option<url::Url> {
    let url = super::probes::http::http_url(cx, node)?;
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        cx.expected(node, "an http:// or https:// URL without user, query or fragment");
        return None;
    }
    Some(url)
}

impl Keep {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Keep> {
        let section = Section::open(cx, node, "keep", &["match", "for"], &[])?;
        let selector = section.required(cx, "match", decode::text);
        let keep = section.required(cx, "for", decode::duration(MINUTE..=YEAR));
        Some(Keep { selector: selector?, keep: keep? })
    }
}

impl Rules {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Rules> {
        let section = Section::open(cx, node, "rules", &["files", "evaluate"], &["presets"])?;
        let words = [("embedded", Evaluate::Embedded), ("external", Evaluate::External)];
        let evaluate = section.optional(cx, "evaluate", decode::choice(&words)).unwrap_or_default();
        let files = section.optional(cx, "files", decode::list(super::glob::files)).unwrap_or_default();
        let files: BTreeSet<PathBuf> = files.into_iter().flatten().collect();
        Some(Rules { files: files.into_iter().collect(), evaluate })
    }
}

impl Host {
    /// `None` only if the section is `false`.
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Host> {
        if node.as_text() == Some("false") {
            return None;
        }
        let section = Section::open(cx, node, "host", &["every", "disks"], &[])?;
        let default = Host::default();
        let every = section.optional(cx, "every", decode::duration(SECOND..=HOUR)).unwrap_or(default.every);
        let disks = section.optional(cx, "disks", decode::list(mount_point)).unwrap_or(default.disks);
        Some(Host { every, disks })
    }
}

fn mount_point(cx: &mut Context<'_>, node: &Node) -> Option<PathBuf> {
    let path = PathBuf::from(decode::text(cx, node)?);
    if !path.is_absolute() {
        cx.expected(node, "the absolute path of a mount point such as /");
        return None;
    }
    Some(path)
}
