//! What follows from alerts, from time or from what a person did, before it is written.

use super::member::Member;
use super::rows::Open;
use super::silence::Silence;
use super::writes::Writes;
use crate::store::{Store, StoreError, Tx};

/// A change on its way into the database, then into memory.
#[derive(Default)]
pub(super) struct Change {
    /// By group; `None` is closed.
    pub open: Vec<(String, Option<Open>)>,
    /// By fingerprint; `None` ended.
    pub recorded: Vec<(String, Option<Member>)>,
    pub next_id: Option<i64>,
    pub silences: Vec<Silence>,
    pub writes: Writes,
    /// Begun once there is something to write.
    pub tx: Option<Tx>,
}

impl Change {
    pub fn of_silences(silences: Vec<Silence>) -> Change {
        Change { silences, ..Change::default() }
    }

    /// Its transaction. What is written there is committed with the rest of the change.
    pub async fn tx(&mut self, store: &Store) -> Result<&mut Tx, StoreError> {
        let tx = match self.tx.take() {
            Some(tx) => tx,
            None => store.begin().await?,
        };
        Ok(self.tx.insert(tx))
    }
}
