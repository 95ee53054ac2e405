//! Who would be told of an incident, when, and why: the escalation played forward while nobody answers. Asked by
//! `ioc-watch who`; it goes by the same policies, calendar and offices as the stage itself, and keeps nothing.

use super::address::Severity;
use super::escalation::{Call, Escalation, Raised};
use super::letter::NoEvidence;
use super::life::Incident;
use super::settings::Settings;
use crate::config::escalation::{Office, Policy, Step, Target, defaults};
use crate::config::organisation::Area;
use crate::config::{Config, Id};
use crate::org::{Org, Sought};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// What would happen.
#[derive(Debug, Clone)]
pub struct Foresight {
    pub policy: Policy,
    /// Its position in the section `escalation`; `None`: the built-in one for what no policy of the file matches.
    pub position: Option<usize>,
    /// When the first mail would be written: after the group's wait, and in working hours if the policy says so.
    pub first: Timestamp,
    /// In order of time.
    pub moments: Vec<Moment>,
    /// When everybody would be reminded for the first time.
    pub reminded: Option<Timestamp>,
    /// When it would become critical, and the policy for that take over.
    pub critical: Option<Timestamp>,
}

/// One step of the policy at its time.
#[derive(Debug, Clone)]
pub struct Moment {
    pub at: Timestamp,
    pub what: What,
    /// What each target of the step means then.
    pub sought: Vec<Meant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The step (by its position) tells somebody.
    Step(usize),
    /// The step names nobody: the next is taken at once.
    Skipped(usize),
    /// No step named anybody: those for want of anybody.
    Fallback,
}

/// What a target means at a time.
#[derive(Debug, Clone)]
pub enum Meant {
    Person(Id),
    Office {
        up: u8,
        office: Office,
        sought: Sought,
    },
    /// The nearest superior leader, or the site agency's, for want of anybody.
    Fallback(Id),
}

impl Meant {
    pub fn person(&self) -> Option<&Id> {
        match self {
            Meant::Person(id) | Meant::Fallback(id) => Some(id),
            Meant::Office { sought, .. } => sought.held.as_ref().map(|held| &held.person),
        }
    }
}

/// An incident that might be.
struct Case {
    settings: Settings,
    incident: Incident,
}

impl Case {
    fn ask<R>(&self, now: Timestamp, ask: impl FnOnce(&Call<'_>) -> R) -> R {
        self.settings.with_rules(&self.incident, None, now, |rules| ask(&rules.call(self.incident.severity)))
    }
}

impl Case {
    /// When what was first told at `first` and lasted `after` may be told to be of `severity`.
    fn becomes(&self, severity: Severity, first: Timestamp, after: Duration) -> Timestamp {
        let at = SignedDuration::try_from(after).ok().and_then(|after| first.checked_add(after).ok()).unwrap_or(first);
        self.settings.with_rules(&self.incident, None, at, |rules| rules.call(severity).allowed(at))
    }
}

/// What would happen if such an incident began at `at`. The agency is one of the configuration's.
pub fn foresee(
    config: &Config,
    org: Arc<Org>,
    agency: &str,
    area: Area,
    severity: Severity,
    at: Timestamp,
) -> Foresight {
    let settings = Settings::new(config, org.clone(), Arc::new(NoEvidence));
    let incident = Incident { severity, ..Incident::open(0, String::new(), agency.to_owned(), area, at) };
    let waited = at.saturating_add(settings.timing.group_wait).unwrap_or(at);
    let case = Case { settings, incident };
    let (policy, first) = case.ask(at, |call| (call.policy.clone(), call.allowed(waited)));
    let critical = policy.critical_after.filter(|_| severity < Severity::Critical);
    let position = position(config, &policy);
    let mut foresight = Foresight { position, policy, first, moments: Vec::new(), reminded: None, critical: None };
    foresight.critical = critical.map(|after| case.becomes(Severity::Critical, first, after));
    let mut escalation = Escalation::default();
    let mut now = first;
    let mut raised = case.ask(now, |call| escalation.begin(severity, now, call));
    loop {
        for raised in &raised {
            let (what, step) = match raised {
                Raised::Step(index) => (What::Step(*index), foresight.policy.steps.get(*index)),
                Raised::Empty(index) => (What::Skipped(*index), foresight.policy.steps.get(*index)),
                Raised::Fallback => (What::Fallback, None),
                Raised::Again => {
                    foresight.reminded = Some(now);
                    return foresight;
                }
                // Nobody answers here.
                Raised::Expired => continue,
            };
            let sought = match step {
                Some(step) => meant(&org, step, agency, area, now),
                None => {
                    let called = case.settings.called(&case.incident, None, now);
                    called.into_iter().map(|(id, _)| Meant::Fallback(id)).collect()
                }
            };
            foresight.moments.push(Moment { at: now, what, sought });
        }
        let Some(due) = case.ask(now, |call| escalation.next_due(call)) else { return foresight };
        now = due.max(now);
        raised = case.ask(now, |call| escalation.step(true, now, call));
        if raised.is_empty() {
            return foresight;
        }
    }
}

fn meant(org: &Org, step: &Step, agency: &str, area: Area, at: Timestamp) -> Vec<Meant> {
    let targets = step.notify.iter();
    targets
        .map(|target| match target {
            Target::Person(id) => Meant::Person(id.clone()),
            Target::Office { up, office } => {
                Meant::Office { up: *up, office: *office, sought: org.seek(agency, *up, *office, area, at) }
            }
        })
        .collect()
}

/// Where in the file a policy stands.
fn position(config: &Config, policy: &Policy) -> Option<usize> {
    let of_the_file = config.escalation.len().saturating_sub(defaults().len());
    config.escalation[..of_the_file].iter().position(|one| one == policy)
}
