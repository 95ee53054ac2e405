//! An echo request.

use super::{CompileError, Outcome, Trust};
use crate::config::probes::icmp::IcmpProbe;
use std::time::Duration;

/// A [`IcmpProbe`] made ready.
#[derive(Debug)]
pub struct IcmpCheck {}

impl IcmpCheck {
    /// Reads what the probe needs and parses the rest.
    pub async fn new(_probe: &IcmpProbe, _trust: &Trust) -> Result<IcmpCheck, CompileError> {
        Ok(IcmpCheck {})
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, _timeout: Duration) -> Outcome {
        Outcome::unmade("not built yet")
    }
}
