//! A question to a resolver.

use super::{CompileError, Outcome, Trust};
use crate::config::probes::dns::DnsProbe;
use std::time::Duration;

/// A [`DnsProbe`] made ready.
#[derive(Debug)]
pub struct DnsCheck {}

impl DnsCheck {
    /// Reads what the probe needs and parses the rest.
    pub async fn new(_probe: &DnsProbe, _trust: &Trust) -> Result<DnsCheck, CompileError> {
        Ok(DnsCheck {})
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, _timeout: Duration) -> Outcome {
        Outcome::unmade("not built yet")
    }
}
