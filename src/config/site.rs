//! Sections `site`, `server`, `state`, `history`, `rules` and `host`: the daemon itself.

use super::{Id, Secret};
use std::collections::BTreeSet;
use std::net::SocketAddr;
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
    /// Base of the links in mails, without a trailing slash. Default: `http://` and the listen address.
    pub external_url: String,
}

/// Language of mails, pages and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    #[default]
    Vi,
    En,
}

/// The HTTP server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Default `127.0.0.1:9470`. Without `users_file` only loopback is accepted.
    pub listen: SocketAddr,
    pub tokens: Vec<Token>,
}

/// A bearer token and what it may do.
#[derive(Debug, Clone)]
pub struct Token {
    pub name: String,
    pub secret: Secret,
    pub may: BTreeSet<Right>,
    /// Restricts the token to one agency.
    pub agency: Option<Id>,
}

/// A right a token can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    Alerts,
    Silences,
    Metrics,
    Query,
    Reload,
    Payments,
    Usage,
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
