//! Mails that did not arrive: the timeline says so, and the next step of the escalation is taken at once.

use super::change::Change;
use super::life;
use super::rows::{self, Entry};
use super::stage::Incidents;
use crate::mail::Failure;
use crate::store::StoreError;
use jiff::Timestamp;
use std::sync::Arc;

/// Failures read at once.
const AT_ONCE: i64 = 100;

impl Incidents {
    /// Takes note of every mail that failed for good and of which nobody has; each in one transaction with what follows.
    pub async fn take_failures(&self, now: Timestamp) -> Result<(), StoreError> {
        loop {
            let failures = self.outbox.failures(AT_ONCE).await?;
            if failures.is_empty() {
                return Ok(());
            }
            for failure in &failures {
                self.take_failure(failure, now).await?;
            }
        }
    }

    async fn take_failure(&self, failure: &Failure, now: Timestamp) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let mut change = Change::default();
        self.outbox.note(change.tx(&self.store).await?, failure.id, now).await?;
        for incident in &failure.incidents {
            let found = self.state().open.values().find(|open| open.incident.id == *incident).cloned();
            match found {
                Some(mut open) => {
                    let settings = self.settings();
                    let before = open.incident.clone();
                    let (person, reason) = (&failure.person, &failure.reason);
                    let events = settings.with_rules(&before, None, now, |rules| {
                        life::undeliverable(Arc::make_mut(&mut open.incident), person, reason, now, rules)
                    });
                    self.advance(&settings, open, &[], events, now, &mut change).await?;
                }
                None => {
                    let entry = Entry {
                        at: now,
                        event: "undeliverable".into(),
                        person: failure.person.clone(),
                        detail: failure.reason.clone(),
                    };
                    rows::append_timeline(change.tx(&self.store).await?, *incident, &entry).await?;
                }
            }
        }
        self.commit(change, now).await
    }
}
