//! Maintenance announced by a person through the API: kept on record for ever, with author and reason.

use super::{AttributionError, Ledger};
use crate::store::StoreError;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a window is about. At least one list is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    pub services: Vec<String>,
    pub devices: Vec<String>,
    pub sites: Vec<String>,
    /// Their own subjects only, not those of agencies below them.
    pub agencies: Vec<String>,
    /// And everything that needs them.
    pub dependencies: Vec<String>,
}

/// A window to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMaintenance {
    pub scope: Scope,
    /// May lie in the past: what is recorded already is then attributed anew.
    pub from: Timestamp,
    /// Exclusive; after `from`.
    pub to: Timestamp,
    pub reason: String,
    /// Who announces it.
    pub author: String,
}

/// A window as it is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Maintenance {
    /// `None` for windows of the configuration file.
    pub id: Option<i64>,
    #[serde(flatten)]
    pub scope: Scope,
    pub from: Timestamp,
    /// Exclusive, as announced.
    pub to: Timestamp,
    pub reason: String,
    /// Empty for windows of the configuration file.
    pub author: String,
    pub created: Option<Timestamp>,
    pub cancelled: Option<Timestamp>,
    pub cancelled_by: Option<String>,
}

impl Ledger {
    /// Announces maintenance; in force at once. Returns its number.
    pub async fn add_maintenance(&self, new: NewMaintenance, now: Timestamp) -> Result<i64, AttributionError> {
        let _ = (new, now);
        Err(AttributionError::NoSubjects)
    }

    /// The windows that touch `[from, to)`, of the file and of the API, by their beginning.
    pub async fn maintenance(&self, from: Timestamp, to: Timestamp) -> Result<Vec<Maintenance>, StoreError> {
        let _ = (from, to);
        Ok(Vec::new())
    }

    /// Ends a window at `now`; what passed of it stays maintenance, and it stays on record.
    pub async fn cancel_maintenance(&self, id: i64, who: &str, now: Timestamp) -> Result<(), AttributionError> {
        let _ = (who, now);
        Err(AttributionError::NotFound(id))
    }
}
