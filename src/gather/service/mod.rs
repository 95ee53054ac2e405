//! Portals, applications, databases, and the dependencies they share: probes.
//!
//! A check is one function of (target, its compiled config, a deadline) that gives an [`Outcome`]: `http.rs`. The
//! scheduler in `schedule.rs` decides when, `record.rs` what becomes of an outcome in metrics and ledger.

mod connect;
mod dependency;
mod detail;
mod dial;
mod dns;
mod handshake;
mod http;
mod icmp;
mod journey;
mod outcome;
mod record;
mod schedule;
mod search;
mod sql;
mod target;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod trace;
mod watch;

pub use detail::Detail;
pub use http::{HttpCheck, HttpCheckError};
pub use outcome::{CheckResult, Expiry, Outcome, Phase, Phases, Step};
pub use record::Series;
pub use schedule::{ServiceError, run, run_all};
pub use target::{Doubts, Needs, Targets};
pub use tls::{Anchor, Trust, TrustError};

use crate::config::probes::Probe;
use std::time::Duration;

/// Why a check could not be made ready. Trying again may help: files are read again.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Http(#[from] HttpCheckError),
    #[error(transparent)]
    Icmp(#[from] icmp::IcmpError),
    #[error(transparent)]
    Dns(#[from] dns::DnsError),
}

/// A probe made ready. One variant a protocol.
#[derive(Debug)]
pub enum Check {
    Http(Box<HttpCheck>),
    Journey(Box<journey::JourneyCheck>),
    Tcp(Box<tcp::TcpCheck>),
    Tls(Box<handshake::TlsCheck>),
    Dns(Box<dns::DnsCheck>),
    Icmp(Box<icmp::IcmpCheck>),
    Sql(Box<sql::SqlCheck>),
}

impl Check {
    /// Reads what the probe needs (its CA file, the system's CAs) and parses the rest.
    pub async fn compile(probe: &Probe, trust: &Trust) -> Result<Check, CompileError> {
        Ok(match probe {
            Probe::Http(http) => Check::Http(Box::new(HttpCheck::compile(http, trust).await?)),
            Probe::Journey(probe) => Check::Journey(Box::new(journey::JourneyCheck::new(probe, trust).await?)),
            Probe::Tcp(probe) => Check::Tcp(Box::new(tcp::TcpCheck::new(probe, trust).await?)),
            Probe::Tls(probe) => Check::Tls(Box::new(handshake::TlsCheck::new(probe, trust).await?)),
            Probe::Dns(probe) => Check::Dns(Box::new(dns::DnsCheck::new(probe, trust).await?)),
            Probe::Icmp(probe) => Check::Icmp(Box::new(icmp::IcmpCheck::new(probe, trust).await?)),
            Probe::Sql(probe) => Check::Sql(Box::new(sql::SqlCheck::new(probe, trust).await?)),
        })
    }

    /// Makes the check; ends after `timeout` at the latest.
    pub async fn run(&self, timeout: Duration) -> Outcome {
        match self {
            Check::Http(check) => check.run(timeout).await,
            Check::Journey(check) => check.run(timeout).await,
            Check::Tcp(check) => check.run(timeout).await,
            Check::Tls(check) => check.run(timeout).await,
            Check::Dns(check) => check.run(timeout).await,
            Check::Icmp(check) => check.run(timeout).await,
            Check::Sql(check) => check.run(timeout).await,
        }
    }
}
