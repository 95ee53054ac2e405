//! Whose a minute of downtime is.

use crate::config::dependencies::DependencyCause;
use serde::{Serialize, Serializer};
use std::fmt;

/// Every minute of downtime has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The agency's own.
    Own,
    Maintenance,
    Dependency(DependencyCause),
    /// Nobody knows: the daemon was not running, or did not see.
    Unknown,
}

impl Cause {
    /// As the state database, metrics and API write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Own => "own",
            Cause::Maintenance => "maintenance",
            Cause::Dependency(cause) => cause.as_str(),
            Cause::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<Cause> {
        let dependencies = DependencyCause::ALL.into_iter().map(Cause::Dependency);
        [Cause::Own, Cause::Maintenance, Cause::Unknown].into_iter().chain(dependencies).find(|c| c.as_str() == text)
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
