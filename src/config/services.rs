//! Section `services`: portals, applications and databases that are probed.

use super::Id;
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
