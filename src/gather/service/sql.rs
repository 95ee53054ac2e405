//! A query to PostgreSQL or MySQL/MariaDB.

use super::{CompileError, Outcome, Trust};
use crate::config::probes::sql::SqlProbe;
use std::time::Duration;

/// A [`SqlProbe`] made ready.
#[derive(Debug)]
pub struct SqlCheck {}

impl SqlCheck {
    /// Reads what the probe needs and parses the rest.
    pub async fn new(_probe: &SqlProbe, _trust: &Trust) -> Result<SqlCheck, CompileError> {
        Ok(SqlCheck {})
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, _timeout: Duration) -> Outcome {
        Outcome::unmade("not built yet")
    }
}
