//! Kind `sql`: a query to PostgreSQL or MySQL/MariaDB, from a watermark on.

use crate::config::Secret;
use crate::config::decode::{self, Context, DAY, MINUTE, SECOND, Section};
use crate::config::node::{Node, quote};
use crate::config::probes::sql::{Engine, SslMode, Target, query, target};
use std::path::PathBuf;
use std::time::Duration;
use url::Host;

/// What stands for the watermark in the query.
pub const WATERMARK: &str = ":watermark";

/// A query to PostgreSQL or MySQL/MariaDB.
#[derive(Debug, Clone)]
pub struct Sql {
    pub engine: Engine,
    pub host: Host<String>,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub database: Option<String>,
    /// Default `verify-full` with a `ca_file`, else `prefer`.
    pub sslmode: SslMode,
    pub ca_file: Option<PathBuf>,
    /// Default 1 m.
    pub every: Duration,
    /// Of one statement. Default 30 s.
    pub timeout: Duration,
    /// One statement that reads; [`WATERMARK`] stands for where it begins.
    pub query: String,
    /// The column of its result that only grows: a time, or a number.
    pub watermark: String,
    /// The watermark of the first run. Default: 1970 for times, 0 for numbers.
    pub start: Option<String>,
    /// How far back each run looks again, for rows whose transaction ended late; for times. Default 0.
    pub overlap: Duration,
    /// Rows read at once. Default 5,000.
    pub batch: u32,
}

impl Sql {
    pub(super) const KEYS: &'static [&'static str] = &[
        "url",
        "password_file",
        "sslmode",
        "ca_file",
        "every",
        "timeout",
        "query",
        "watermark",
        "start",
        "overlap",
        "batch",
    ];

    pub(super) fn decode(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Sql> {
        let engine = section.optional(cx, "url", engine);
        let target = match engine {
            Some(engine) => section.optional(cx, "url", |cx, node| target(cx, node, engine)),
            None => {
                section.required(cx, "url", |_, _| None::<()>);
                None
            }
        };
        let password = section.optional(cx, "password_file", decode::secret_file);
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let sslmode = section.optional(cx, "sslmode", decode::choice(&SslMode::WORDS));
        let every = section.optional(cx, "every", decode::duration(SECOND..=DAY)).unwrap_or(MINUTE);
        let timeout = section.optional(cx, "timeout", decode::duration(SECOND..=10 * MINUTE)).unwrap_or(30 * SECOND);
        let query = section.required(cx, "query", statement);
        let watermark = section.required(cx, "watermark", column);
        let start = section.optional(cx, "start", start);
        let overlap = section.optional(cx, "overlap", decode::duration(Duration::ZERO..=DAY)).unwrap_or_default();
        let batch = section.optional(cx, "batch", decode::integer(1..=50_000)).unwrap_or(5_000);
        let default_mode = if ca_file.is_some() { SslMode::VerifyFull } else { SslMode::Prefer };
        let Target { host, port, user, database } = target?;
        Some(Sql {
            engine: engine?,
            host,
            port,
            user,
            password,
            database,
            sslmode: sslmode.unwrap_or(default_mode),
            ca_file,
            every,
            timeout,
            query: query?,
            watermark: watermark?,
            start,
            overlap,
            batch: u32::try_from(batch).unwrap_or(5_000),
        })
    }
}

fn engine(cx: &mut Context<'_>, node: &Node) -> Option<Engine> {
    let scheme = node.as_text().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
    let found = [Engine::Postgres, Engine::Mysql]
        .into_iter()
        .find(|engine| scheme.is_some_and(|scheme| engine.schemes().contains(&scheme)));
    if found.is_none() {
        // What is there may hold a password: it is not repeated.
        cx.wrong(node, "expected a URL such as postgres://ioc@db.vn.example/dvc or mysql://ioc@db.vn.example/dvc");
    }
    found
}

/// A query that reads and says where the watermark goes.
fn statement(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = query(cx, node)?;
    if !text.contains(WATERMARK) {
        cx.wrong(node, format!("expected {WATERMARK} in the query, as in \"where updated_at > {WATERMARK}\""));
        return None;
    }
    // It becomes part of a statement of ours.
    if text.contains(';') {
        cx.wrong(node, "expected one statement without ;");
        return None;
    }
    Some(text)
}

fn column(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let name = decode::text(cx, node)?;
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    if !name.chars().all(is_name) || name.len() > 63 {
        cx.wrong(node, format!("found {}, expected the name of a column of the query's result", quote(&name)));
        return None;
    }
    Some(name)
}

/// A time or a number.
fn start(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = decode::text(cx, node)?;
    let is_plain = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | '+' | ' ' | 'T' | 'Z');
    if !text.chars().all(is_plain) || text.len() > 40 {
        cx.expected(node, "a time such as \"2026-01-31 00:00:00+07\" or a number");
        return None;
    }
    Some(text)
}
