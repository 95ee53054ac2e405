//! Several HTTP steps, as a citizen would go.

use super::{CompileError, Outcome, Trust};
use crate::config::probes::journey::Journey;
use std::time::Duration;

/// A [`Journey`] made ready.
#[derive(Debug)]
pub struct JourneyCheck {}

impl JourneyCheck {
    /// Reads what the probe needs and parses the rest.
    pub async fn new(_probe: &Journey, _trust: &Trust) -> Result<JourneyCheck, CompileError> {
        Ok(JourneyCheck {})
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, _timeout: Duration) -> Outcome {
        Outcome::unmade("not built yet")
    }
}
