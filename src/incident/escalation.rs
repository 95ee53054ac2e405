//! Who is told when nobody answers: a pure step of (escalation, time, policy) to what follows.
//!
//! An escalation begins with an incident's first mail. It climbs one level at a time, each after its wait since the last,
//! and stands still while nobody is to be told of the incident: it is over, or all of it is excused. An acknowledgement
//! stops it until the acknowledgement expires. No clock, no people: `Call` is asked whom a step names.

use super::address::Severity;
use crate::config::escalation::{Acknowledge, Policy, Step};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// How far the escalation of one incident has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Escalation {
    /// When it began; `None` before the incident's first mail.
    pub begun: Option<Timestamp>,
    /// The severity it began for: a higher one begins it anew.
    #[serde(with = "severity_text")]
    pub severity: Option<Severity>,
    /// Steps of the policy that are behind it.
    pub taken: usize,
    /// When somebody was last told because of it.
    pub last: Option<Timestamp>,
    /// Persons whom the last step told.
    pub asked: BTreeSet<String>,
    /// In the order given.
    pub acks: Vec<Ack>,
    /// Until when it stands still because somebody answered.
    pub held_until: Option<Timestamp>,
    /// Since when it stands still because nobody is to be told.
    pub paused: Option<Timestamp>,
    /// Nobody whom the policy names exists; those were told who are for want of anybody.
    pub is_nobodys: bool,
}

/// Somebody answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// A person's id, or the name of a user.
    pub person: String,
    pub at: Timestamp,
}

/// Whom an escalation calls, and when that is allowed.
pub struct Call<'a> {
    pub policy: &'a Policy,
    /// The persons a step names now; of step `None`, those who are told for want of anybody.
    pub names: &'a dyn Fn(Option<&Step>) -> Vec<String>,
    /// The next working time from a moment on.
    pub working: &'a dyn Fn(Timestamp) -> Timestamp,
}

impl Call<'_> {
    /// When something due at `at` may happen.
    pub fn allowed(&self, at: Timestamp) -> Timestamp {
        if self.policy.working_hours { (self.working)(at) } else { at }
    }
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raised {
    /// A step (by its position) tells its people; they are [`Escalation::asked`].
    Step(usize),
    /// A step names nobody and is skipped.
    Empty(usize),
    /// No step named anybody: those for want of anybody are told.
    Fallback,
    /// Everybody who was told is reminded.
    Again,
    /// Nobody's answer holds any longer.
    Expired,
}

impl Escalation {
    /// Somebody answered, enough of them, and it still holds.
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// When [`Escalation::step`] has something to do next, if `is_live` stays so.
    pub fn next_due(&self, call: &Call<'_>) -> Option<Timestamp> {
        let last = self.last.filter(|_| self.paused.is_none())?;
        if let Some(until) = self.held_until {
            return Some(call.allowed(until));
        }
        let steps = &call.policy.steps;
        let wait = match steps.get(self.taken) {
            Some(step) => gap(steps, self.taken, step),
            None => call.policy.repeat?,
        };
        Some(call.allowed(later(last, wait)))
    }

    /// Begins with the first mail about the incident, or anew because it became more severe.
    pub fn begin(&mut self, severity: Severity, now: Timestamp, call: &Call<'_>) -> Vec<Raised> {
        let is_answered = self.begun.is_none() && self.is_held(now);
        let fresh = Escalation { begun: Some(now), severity: Some(severity), last: Some(now), ..Escalation::default() };
        let old = std::mem::replace(self, fresh);
        if is_answered {
            // Somebody saw it before anybody was told.
            (self.acks, self.held_until) = (old.acks, old.held_until);
            return Vec::new();
        }
        if call.policy.steps.first().is_some_and(|step| step.after > Duration::ZERO) {
            Vec::new()
        } else {
            self.climb(now, call)
        }
    }

    /// Lets time pass. `is_live`: something fires of which people are told.
    pub fn step(&mut self, is_live: bool, now: Timestamp, call: &Call<'_>) -> Vec<Raised> {
        self.clamp(now);
        match (is_live, self.paused) {
            _ if self.begun.is_none() => return Vec::new(),
            (false, None) => self.paused = Some(now),
            (false, Some(_)) => {}
            (true, Some(since)) => {
                // The time it stood still does not count.
                self.last =
                    self.last.map(|last| last.saturating_add(now.duration_since(since)).unwrap_or(now).min(now));
                self.paused = None;
            }
            (true, None) => {}
        }
        if self.next_due(call).is_none_or(|due| now < due) {
            return Vec::new();
        }
        if self.held_until.is_some() {
            // Whoever answered has not mended it: they are reminded, and the climb goes on from here.
            (self.held_until, self.last) = (None, Some(now));
            self.acks.clear();
            return vec![Raised::Expired, Raised::Again];
        }
        if self.taken < call.policy.steps.len() {
            return self.climb(now, call);
        }
        self.last = Some(now);
        vec![Raised::Again]
    }

    /// Takes the next step that names somebody.
    fn climb(&mut self, now: Timestamp, call: &Call<'_>) -> Vec<Raised> {
        let mut raised = Vec::new();
        self.last = Some(now);
        while let Some(step) = call.policy.steps.get(self.taken) {
            let persons = (call.names)(Some(step));
            self.taken += 1;
            if persons.is_empty() {
                raised.push(Raised::Empty(self.taken - 1));
                continue;
            }
            self.asked = persons.into_iter().collect();
            raised.push(Raised::Step(self.taken - 1));
            return raised;
        }
        // Those for want of anybody are told once: were they out of reach too, each mail would call for the next.
        if self.asked.is_empty() && !self.is_nobodys {
            self.is_nobodys = true;
            self.asked = (call.names)(None).into_iter().collect();
            raised.push(Raised::Fallback);
        }
        raised
    }

    /// Takes the next step at once: the mail to one of those whom the last step told cannot be delivered. Nothing
    /// happens if others were told by it, or somebody answered.
    pub fn undeliverable(&mut self, person: &str, now: Timestamp, call: &Call<'_>) -> Vec<Raised> {
        if self.held_until.is_some() || self.paused.is_some() || !self.asked.remove(person) || !self.asked.is_empty() {
            return Vec::new();
        }
        self.climb(now, call)
    }

    /// `person` answers. Returns whether that stops the escalation: enough people did.
    pub fn acknowledge(&mut self, person: &str, now: Timestamp, policy: &Policy) -> bool {
        self.acks.retain(|ack| ack.person != person);
        self.acks.push(Ack { person: person.to_owned(), at: now });
        let step = self.taken.checked_sub(1).and_then(|index| policy.steps.get(index));
        let is_enough = match step.map_or(Acknowledge::AtLeast(1), |step| step.acknowledge) {
            // More than were asked cannot answer.
            Acknowledge::AtLeast(n) => self.acks.len() >= n.min(self.asked.len()).max(1),
            Acknowledge::All => self.asked.iter().all(|asked| self.acks.iter().any(|ack| ack.person == *asked)),
        };
        if is_enough {
            self.held_until = Some(later(now, policy.ack_expires));
        }
        is_enough
    }

    /// A clock that was set back must not put anything off by as much.
    fn clamp(&mut self, now: Timestamp) {
        for time in [&mut self.last, &mut self.paused] {
            *time = time.map(|time| time.min(now));
        }
    }

    /// The next step that will be taken if nobody answers, and when; `None` when only reminders follow.
    pub fn next_step<'p>(&self, call: &Call<'p>) -> Option<(Timestamp, &'p Step)> {
        let step = call.policy.steps.get(self.taken)?;
        Some((self.next_due(call).filter(|_| self.held_until.is_none())?, step))
    }
}

impl Escalation {
    /// The steps that will be taken if nobody answers, each with its time and people; one that names nobody is skipped
    /// at once, as [`Escalation::step`] does.
    pub fn next_steps(&self, call: &Call<'_>) -> Vec<(Timestamp, Vec<String>)> {
        let Some((mut at, _)) = self.next_step(call) else { return Vec::new() };
        let mut next = Vec::new();
        let mut comes_later = false;
        for (index, step) in call.policy.steps.iter().enumerate().skip(self.taken) {
            if comes_later {
                at = call.allowed(later(at, gap(&call.policy.steps, index, step)));
            }
            let people = (call.names)(Some(step));
            comes_later = !people.is_empty();
            if comes_later {
                next.push((at, people));
            }
        }
        next
    }
}

/// How long after the step before it a step comes.
fn gap(steps: &[Step], index: usize, step: &Step) -> Duration {
    let before = index.checked_sub(1).map_or(Duration::ZERO, |before| steps[before].after);
    step.after.saturating_sub(before)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(time)
}

/// A severity by its name.
mod severity_text {
    use super::Severity;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(severity: &Option<Severity>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(severity.map_or("", Severity::as_str))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Severity>, D::Error> {
        Ok(Severity::parse(&String::deserialize(from)?))
    }
}

#[cfg(test)]
#[path = "escalation_tests.rs"]
mod tests;
