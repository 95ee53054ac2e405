//! Causes that a person gave instead of the automatic one: kept beside the intervals, applied when they are read.

use super::{AttributionError, Cause, Ledger, Subject};
use crate::store::StoreError;
use jiff::Timestamp;
use serde::Serialize;

/// A judgement to be put on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOverride {
    pub subject: Subject,
    pub from: Timestamp,
    /// Exclusive; after `from`.
    pub to: Timestamp,
    /// [`Cause::Own`] accuses, everything else excuses.
    pub cause: Cause,
    pub reason: String,
    pub who: String,
}

/// A judgement on record. It holds for the downtime of its stretch; where several overlap, the latest holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Override {
    pub id: i64,
    pub subject: Subject,
    pub from: Timestamp,
    pub to: Timestamp,
    pub cause: Cause,
    pub reason: String,
    pub who: String,
    pub created: Timestamp,
    pub withdrawn: Option<Timestamp>,
    pub withdrawn_by: Option<String>,
}

impl Ledger {
    /// Overrides the cause of a subject's downtime in a stretch of time. Returns its number.
    pub async fn add_override(&self, new: NewOverride, now: Timestamp) -> Result<i64, AttributionError> {
        let _ = (new, now);
        Err(AttributionError::EmptyRange)
    }

    /// The overrides that touch `[from, to)`, of one subject or of all, withdrawn ones too, by number.
    pub async fn overrides(
        &self,
        from: Timestamp,
        to: Timestamp,
        subject: Option<&Subject>,
    ) -> Result<Vec<Override>, StoreError> {
        let _ = (from, to, subject);
        Ok(Vec::new())
    }

    /// Takes an override back; it stays on record.
    pub async fn withdraw_override(&self, id: i64, who: &str, now: Timestamp) -> Result<(), AttributionError> {
        let _ = (who, now);
        Err(AttributionError::NotFound(id))
    }
}
