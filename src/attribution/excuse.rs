//! Why a subject answers for nothing just now.

use super::Cause;
use jiff::Timestamp;

/// While a subject has one, its downtime is not its agency's, and no new notification about it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excuse {
    pub cause: Cause,
    /// The dependency that is down; for maintenance empty.
    pub dependency: String,
    /// For people: the dependency's name, or the reason of the maintenance.
    pub by: String,
    pub since: Timestamp,
}
