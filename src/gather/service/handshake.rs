//! A TLS handshake and the certificates shown.

use super::{CompileError, Outcome, Trust};
use crate::config::probes::tls::TlsProbe;
use std::time::Duration;

/// A [`TlsProbe`] made ready.
#[derive(Debug)]
pub struct TlsCheck {}

impl TlsCheck {
    /// Reads what the probe needs and parses the rest.
    pub async fn new(_probe: &TlsProbe, _trust: &Trust) -> Result<TlsCheck, CompileError> {
        Ok(TlsCheck {})
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, _timeout: Duration) -> Outcome {
        Outcome::unmade("not built yet")
    }
}
