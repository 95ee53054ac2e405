//! What people do to an incident: they answer for it, comment on it, say that it is over.

use super::life;
use super::rows::{self, Entry};
use super::stage::{Change, Incidents};
use crate::store::StoreError;
use jiff::Timestamp;

/// Characters of a comment or reason that are kept.
pub const TEXT: usize = 2_000;

/// Something that a person does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Stops the escalation until it expires.
    Acknowledge,
    Comment(String),
    /// It is over, whatever its sources say; with the reason.
    Resolve(String),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Until when nobody else is told, if enough people acknowledged.
    Acknowledged(Option<Timestamp>),
    Commented,
    Resolved,
    /// There is no such incident, or it is closed.
    NotOpen,
    /// Nothing fires in it: there is nothing to acknowledge or to resolve.
    NotFiring,
    /// A comment or a reason is missing.
    NoText,
}

impl Incidents {
    /// `person` (an id, or the name of a user) does something to an incident; it is in the timeline when this returns.
    pub async fn act(&self, incident: i64, person: &str, deed: Deed, now: Timestamp) -> Result<Done, StoreError> {
        let mut tx = self.store.begin().await?;
        let _turn = self.turn.lock().await;
        let settings = self.settings();
        let found = self.state().open.values().find(|open| open.incident.id == incident).cloned();
        let Some(mut open) = found else { return Ok(Done::NotOpen) };
        let is_firing = !open.incident.firing().is_empty();
        let (done, events) = match &deed {
            Deed::Acknowledge | Deed::Resolve(_) if !is_firing => return Ok(Done::NotFiring),
            Deed::Comment(text) | Deed::Resolve(text) if text.trim().is_empty() => return Ok(Done::NoText),
            Deed::Acknowledge => {
                let before = open.incident.clone();
                let event = settings
                    .with_rules(&before, None, now, |rules| life::acknowledge(&mut open.incident, person, now, rules));
                self.measure_answer(&before, now);
                (Done::Acknowledged(open.incident.escalation.held_until), vec![event])
            }
            Deed::Comment(text) => {
                let entry = Entry { at: now, event: "commented".into(), person: person.to_owned(), detail: cut(text) };
                rows::write_timeline(&mut tx, &mut open, &entry).await?;
                (Done::Commented, Vec::new())
            }
            Deed::Resolve(text) => (Done::Resolved, vec![life::dismiss(&mut open.incident, person, &cut(text), now)]),
        };
        let mut change = Change::default();
        self.advance(&mut tx, &settings, open, &[], events, now, &mut change).await?;
        tx.commit().await?;
        self.apply(change);
        Ok(done)
    }

    /// Of the first answer, how long people took.
    fn measure_answer(&self, incident: &life::Incident, now: Timestamp) {
        if let (Some(told), true) = (incident.first_mail, incident.escalation.acks.is_empty()) {
            let seconds = now.duration_since(told).as_secs_f64().max(0.0);
            self.metrics.own.incident_ack.with_label_values(&[incident.severity.as_str()]).observe(seconds);
        }
    }
}

fn cut(text: &str) -> String {
    // PostgreSQL keeps no NUL in text.
    text.trim().chars().filter(|c| *c != '\0').take(TEXT).collect()
}
