//! What can be wrong with what a person asks of the ledger.

use crate::store::StoreError;

/// Why a maintenance window or an override was not accepted, or a question not answered.
#[derive(Debug, thiserror::Error)]
pub enum AttributionError {
    #[error("the end is not after the beginning")]
    EmptyRange,
    #[error("the maintenance names nothing that it is about")]
    NoSubjects,
    #[error("{0:?} is not known")]
    UnknownSubject(String),
    #[error("a reason is wanted, of at most {MAX_REASON} characters")]
    Reason,
    #[error("at most {MAX_SUBJECTS} subjects at once")]
    TooManySubjects,
    #[error("there is no number {0}")]
    NotFound(i64),
    /// It ended, was cancelled or was withdrawn before.
    #[error("number {0} has ended already")]
    Ended(i64),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Characters of a reason that a person gives.
pub const MAX_REASON: usize = 1_000;
/// Subjects of one maintenance window.
pub const MAX_SUBJECTS: usize = 1_000;
