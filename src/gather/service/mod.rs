//! Portals, applications and databases: probes.
//!
//! A check is one function of (target, its compiled config, a deadline) that gives an [`Outcome`]: `http.rs`. The
//! scheduler in `schedule.rs` decides when, `record.rs` what becomes of an outcome in metrics and ledger.

mod connect;
mod detail;
mod http;
mod outcome;
mod record;
mod schedule;
mod search;
#[cfg(test)]
mod tests;
mod tls;
mod watch;

pub use detail::Detail;
pub use http::{HttpCheck, HttpCheckError};
pub use outcome::{CheckResult, Expiry, Outcome, Phase, Phases};
pub use record::Series;
pub use schedule::{ServiceError, run};
pub use tls::{Anchor, Trust, TrustError};

use crate::config::services::Probe;
use std::time::Duration;

/// Why a check could not be made ready. Trying again may help: files are read again.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Http(#[from] HttpCheckError),
}

/// A probe made ready. One variant a protocol.
#[derive(Debug)]
pub enum Check {
    Http(Box<HttpCheck>),
}

impl Check {
    /// Reads what the probe needs (its CA file, the system's CAs) and parses the rest.
    pub async fn compile(probe: &Probe, trust: &Trust) -> Result<Check, CompileError> {
        match probe {
            Probe::Http(http) => {
                let anchor = trust.anchor(http.ca_file.as_deref()).await?;
                Ok(Check::Http(Box::new(HttpCheck::new(http, anchor)?)))
            }
        }
    }

    /// Makes the check; ends after `timeout` at the latest.
    pub async fn run(&self, timeout: Duration) -> Outcome {
        match self {
            Check::Http(check) => check.run(timeout).await,
        }
    }
}
