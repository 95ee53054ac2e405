//! A TCP connection and what the other side says.

use super::{CompileError, Outcome, Trust};
use crate::config::probes::tcp::TcpProbe;
use std::time::Duration;

/// A [`TcpProbe`] made ready.
#[derive(Debug)]
pub struct TcpCheck {}

impl TcpCheck {
    /// Reads what the probe needs and parses the rest.
    pub async fn new(_probe: &TcpProbe, _trust: &Trust) -> Result<TcpCheck, CompileError> {
        Ok(TcpCheck {})
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, _timeout: Duration) -> Outcome {
        Outcome::unmade("not built yet")
    }
}
