//! What people do to an incident: they answer for it, comment on it, say that it is over.

use super::change::Change;
use super::life;
use super::rows::Entry;
use super::silence::{self, Silence};
use super::stage::Incidents;
use crate::alert::LabelSet;
use crate::matcher::Matcher;
use crate::store::StoreError;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// Nobody is to hear of what fires in it, and of what comes to it, for so long; with the reason.
    Silence {
        reason: String,
        lasts: SignedDuration,
    },
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Until when nobody else is told, if enough people acknowledged.
    Acknowledged(Option<Timestamp>),
    Commented,
    Resolved,
    /// Until then.
    Silenced(Timestamp),
    /// There is no such incident, or it is closed.
    NotOpen,
    /// Nothing fires in it: there is nothing to acknowledge or to resolve.
    NotFiring,
    /// A comment or a reason is missing.
    NoText,
    /// The alerts have nothing in common by which they could be silenced, or there are too many silences.
    NotSilenced,
}

impl Incidents {
    /// `person` (an id, or the name of a user) does something to an incident; it is in the timeline when this returns.
    pub async fn act(&self, incident: i64, person: &str, deed: Deed, now: Timestamp) -> Result<Done, StoreError> {
        let _turn = self.turn.lock().await;
        let settings = self.settings();
        let found = self.state().open.values().find(|open| open.incident.id == incident).cloned();
        let Some(mut open) = found else { return Ok(Done::NotOpen) };
        let is_firing = !open.incident.firing().is_empty();
        let mut change = Change::default();
        let (done, events) = match &deed {
            Deed::Acknowledge | Deed::Resolve(_) | Deed::Silence { .. } if !is_firing => return Ok(Done::NotFiring),
            Deed::Comment(text) | Deed::Resolve(text) | Deed::Silence { reason: text, .. }
                if text.trim().is_empty() =>
            {
                return Ok(Done::NoText);
            }
            Deed::Acknowledge => {
                let before = open.incident.clone();
                let event = settings.with_rules(&before, None, now, |rules| {
                    life::acknowledge(Arc::make_mut(&mut open.incident), person, now, rules)
                });
                self.measure_answer(&before, now);
                (Done::Acknowledged(open.incident.escalation.held_until), vec![event])
            }
            Deed::Comment(text) => {
                let entry = Entry { at: now, event: "commented".into(), person: person.to_owned(), detail: cut(text) };
                change.writes.lines(&mut open, [entry]);
                (Done::Commented, Vec::new())
            }
            Deed::Silence { reason, lasts } => {
                let written = {
                    let silence = Silence {
                        id: String::new(),
                        matchers: common(&open.incident, &settings.group_by),
                        starts_at: now,
                        ends_at: now.saturating_add(*lasts).unwrap_or(now),
                        updated_at: now,
                        created_by: person.to_owned(),
                        comment: cut(reason),
                    };
                    let state = self.state();
                    silence::new_id().and_then(|id| state.silences.set(silence, id, now))
                };
                let Ok(written) = written else { return Ok(Done::NotSilenced) };
                let until = written.last().map_or(now, |silence| silence.ends_at);
                change.silences = written;
                change.write_silences(&self.store).await?;
                let detail =
                    format!("{}: {}", crate::format::date_time(until, &settings.desk.site.timezone), cut(reason));
                let entry = Entry { at: now, event: "silenced".into(), person: person.to_owned(), detail };
                change.writes.lines(&mut open, [entry]);
                (Done::Silenced(until), Vec::new())
            }
            Deed::Resolve(text) => {
                (Done::Resolved, vec![life::dismiss(Arc::make_mut(&mut open.incident), person, &cut(text), now)])
            }
        };
        self.advance(&settings, open, &[], events, now, &mut change).await?;
        self.commit(change, now).await?;
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

/// What all alerts that fire in an incident have in common: what they are grouped by, or else every label.
fn common(incident: &life::Incident, group_by: &[String]) -> Vec<Matcher> {
    let mut firing = incident.firing().into_iter().map(|member| &member.alert.labels);
    let mut labels: BTreeMap<String, String> = firing.next().map(LabelSet::to_map).unwrap_or_default();
    firing.for_each(|others| labels.retain(|name, value| others.get(name) == Some(value.as_str())));
    let is_grouped = group_by.iter().any(|name| labels.contains_key(name));
    labels.retain(|name, _| !is_grouped || group_by.contains(name));
    labels.iter().filter_map(|(name, value)| Matcher::new(name, value, false, false).ok()).collect()
}

pub(super) fn cut(text: &str) -> String {
    // PostgreSQL keeps no NUL in text.
    text.trim().chars().filter(|c| *c != '\0').take(TEXT).collect()
}
