//! Probe `sql`: a query to PostgreSQL or MySQL/MariaDB; what its answer must be.
//!
//! What is allowed to stand in the file is decided here. How the databases are spoken to stands in
//! `gather/service/sql`.

use crate::config::Secret;
use crate::config::decode::{self, Context, SECOND, Section, YEAR};
use crate::config::node::{Node, quote};
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::time::Duration;
use url::{Host, Url};

/// Which database is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Postgres,
    Mysql,
}

impl Engine {
    /// The key of a service that names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::Postgres => "postgres",
            Engine::Mysql => "mysql",
        }
    }

    pub(in crate::config) fn schemes(self) -> [&'static str; 2] {
        match self {
            Engine::Postgres => ["postgres", "postgresql"],
            Engine::Mysql => ["mysql", "mariadb"],
        }
    }

    fn port(self) -> u16 {
        match self {
            Engine::Postgres => 5432,
            Engine::Mysql => 3306,
        }
    }
}

/// Whether the connection is encrypted and the server's certificate verified; the words are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server can; nothing is verified.
    Prefer,
    /// Encrypted or not at all; nothing is verified.
    Require,
    /// The certificate is signed by a trusted CA; its name may be another.
    VerifyCa,
    /// The certificate is signed by a trusted CA and for this host.
    VerifyFull,
}

impl SslMode {
    pub(in crate::config) const WORDS: [(&'static str, SslMode); 5] = [
        ("disable", SslMode::Disable),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];

    pub fn verifies(self) -> bool {
        matches!(self, SslMode::VerifyCa | SslMode::VerifyFull)
    }
}

/// Where the time of the newest row comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewestFrom {
    /// The first column of the first row of a query of its own.
    Query(String),
    /// This column of the first row of the probe's query.
    Column(String),
}

/// How old the newest row may be.
#[derive(Debug, Clone)]
pub struct Newest {
    pub from: NewestFrom,
    pub within: Duration,
    /// Of times without an offset. Default: the site's.
    pub zone: TimeZone,
}

/// A query to PostgreSQL or MySQL/MariaDB and what its answer must be.
#[derive(Debug, Clone)]
pub struct SqlProbe {
    pub engine: Engine,
    pub host: Host<String>,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    /// PostgreSQL takes the user's name if there is none.
    pub database: Option<String>,
    /// One statement that reads. Default `select 1`.
    pub query: String,
    /// The first column of the first row must be a number of at least this.
    pub min: Option<f64>,
    /// The first column of the first row must be a number of at most this.
    pub max: Option<f64>,
    pub newest: Option<Newest>,
    /// Default `verify-full` with a `ca_file`, else `prefer`.
    pub sslmode: SslMode,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Slower than this is `slow` (and still up).
    pub slow_after: Option<Duration>,
}

/// What a query begins with: it reads. The session is read-only besides.
const READING: [&str; 6] = ["select", "with", "show", "values", "table", "explain"];

impl SqlProbe {
    pub(in crate::config) fn decode(
        cx: &mut Context<'_>,
        node: &Node,
        engine: Engine,
        timeout: Duration,
    ) -> Option<SqlProbe> {
        const KEYS: &[&str] =
            &["url", "password_file", "query", "min", "max", "newest", "sslmode", "ca_file", "slow_after"];
        let section = Section::open(cx, node, engine.as_str(), KEYS, &[])?;
        let target = section.required(cx, "url", |cx, node| target(cx, node, engine));
        let password = section.optional(cx, "password_file", decode::secret_file);
        let query = section.optional(cx, "query", query).unwrap_or_else(|| "select 1".to_owned());
        let min = section.optional(cx, "min", decode::number(f64::MIN..=f64::MAX));
        let max = section.optional(cx, "max", decode::number(f64::MIN..=f64::MAX));
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            cx.error(section.place, format!("{}: min ({min}) is above max ({max})", section.name()));
        }
        let newest = section.optional(cx, "newest", Newest::decode);
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let sslmode = section.optional(cx, "sslmode", decode::choice(&SslMode::WORDS));
        let slow_after = section.optional(cx, "slow_after", super::slow_after(timeout));
        if let (Some(mode), true) = (sslmode, section.get("ca_file").is_some())
            && !mode.verifies()
        {
            cx.error(
                section.place,
                format!(
                    "{}: ca_file has no use with this sslmode, which verifies nothing; use verify-ca or verify-full",
                    section.name()
                ),
            );
        }
        let default_mode = if ca_file.is_some() { SslMode::VerifyFull } else { SslMode::Prefer };
        let Target { host, port, user, database } = target?;
        Some(SqlProbe {
            engine,
            host,
            port,
            user,
            password,
            database,
            query,
            min,
            max,
            newest,
            sslmode: sslmode.unwrap_or(default_mode),
            ca_file,
            slow_after,
        })
    }
}

impl Newest {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Newest> {
        let section = Section::open(cx, node, "newest", &["query", "column", "within", "timezone"], &[])?;
        let own_query = section.optional(cx, "query", query);
        let column = section.optional(cx, "column", decode::text);
        let within = section.required(cx, "within", decode::duration(SECOND..=YEAR));
        let zone = section.optional(cx, "timezone", zone).unwrap_or_else(|| cx.zone.clone());
        let from = match (section.get("query").is_some(), section.get("column").is_some()) {
            (true, false) => own_query.map(NewestFrom::Query),
            (false, true) => column.map(NewestFrom::Column),
            (both, _) => {
                let found = if both { "both" } else { "none" };
                cx.error(
                    section.place,
                    format!(
                        "newest: found {found} of query and column, expected one: a query that gives the time of the \
                         newest row, or the column of the probe's own query that holds it"
                    ),
                );
                None
            }
        };
        Some(Newest { from: from?, within: within?, zone })
    }
}

/// What a URL says.
pub(in crate::config) struct Target {
    pub host: Host<String>,
    pub port: u16,
    pub user: String,
    pub database: Option<String>,
}

pub(in crate::config) fn target(cx: &mut Context<'_>, node: &Node, engine: Engine) -> Option<Target> {
    let [scheme, other] = engine.schemes();
    let text = decode::text(cx, node)?;
    let parsed = Url::parse(&text).ok();
    if parsed.as_ref().is_some_and(|url| url.password().is_some()) {
        // The URL itself is not repeated: it holds the secret.
        cx.wrong(node, "a password does not stand in this file: name its file with \"password_file\"");
        return None;
    }
    let url = parsed.filter(|url| url.scheme() == scheme || url.scheme() == other);
    // `Url` knows hosts of these schemes as text only.
    let host = url.as_ref().and_then(|url| Host::parse(url.host_str().filter(|host| !host.is_empty())?).ok());
    let (Some(url), Some(host)) = (url, host) else {
        // A text that is no URL may still hold a password.
        let shape = format!("expected a URL such as {scheme}://probe@db.vn.example/motcua");
        let found = if text.contains('@') { String::new() } else { format!("found {}, ", node.found()) };
        cx.wrong(node, format!("{found}{shape}"));
        return None;
    };
    let mut sound = true;
    if url.query().is_some() || url.fragment().is_some() {
        cx.wrong(
            node,
            "what follows ? or # in the URL is not read: use the keys beside it, such as sslmode and ca_file",
        );
        sound = false;
    }
    let port = url.port().unwrap_or(engine.port());
    if port == 0 {
        cx.wrong(node, "the port 0 cannot be connected to");
        sound = false;
    }
    let user = if url.username().is_empty() {
        cx.wrong(node, format!("the URL names no user, expected {scheme}://USER@{host}/…"));
        None
    } else {
        decode::username(cx, node, &url)
    };
    let path = url.path().trim_start_matches('/');
    let database = decode::percent_decoded(path).filter(|name| !name.contains('/'));
    if database.is_none() {
        cx.wrong(node, format!("{} is no name of a database", quote(path)));
    }
    let database = database.map(|name| Some(name).filter(|name| !name.is_empty()))?;
    sound.then_some(Target { host, port, user: user?, database })
}

/// One statement that reads.
pub(in crate::config) fn query(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    const MAX: usize = 16 * 1024;
    let text = decode::text(cx, node)?;
    let text = text.trim().trim_end_matches(';').trim_end();
    if text.len() > MAX || text.contains('\0') {
        cx.wrong(node, format!("expected a query of at most {MAX} bytes"));
        return None;
    }
    let first = first_word(text);
    if !READING.contains(&first.to_ascii_lowercase().as_str()) {
        let reading = READING.join(", ");
        cx.wrong(node, format!("begins with {}, expected a query that only reads: {reading}", quote(first)));
        return None;
    }
    Some(text.to_owned())
}

/// The first word after blanks, comments and parentheses.
fn first_word(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        let comment = match rest {
            _ if rest.starts_with("--") => rest.split_once('\n'),
            _ if rest.starts_with("/*") => rest.split_once("*/"),
            _ => break,
        };
        rest = comment.map_or("", |(_, after)| after);
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    &rest[..end]
}

fn zone(cx: &mut Context<'_>, node: &Node) -> Option<TimeZone> {
    let zone = node.as_text().and_then(|name| TimeZone::get(name).ok());
    if zone.is_none() {
        cx.expected(node, "a time zone such as Asia/Ho_Chi_Minh or UTC");
    }
    zone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_begins_with_is_found_behind_comments_and_parentheses() {
        for (query, first) in [
            ("select 1", "select"),
            ("  (SELECT 1)", "SELECT"),
            ("-- số hồ sơ\nwith x as (select 1) select * from x", "with"),
            ("/* drop */ delete from t", "delete"),
            ("select(1)", "select"),
            ("", ""),
            ("-- only a comment", ""),
            ("/* without end", ""),
        ] {
            assert_eq!(first_word(query), first, "{query}");
        }
    }
}
