//! What becomes of a dependency's outcome: its metric and its state in the ledger.

use super::outcome::Outcome;
use super::target::Targets;
use crate::attribution::{Ledger, State, Subject, SubjectKind};
use crate::config::dependencies::Dependency;
use crate::config::site::Language;
use crate::metrics::{Metrics, Row, columns};
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;

/// The series and the ledger subject of one dependency.
pub(super) struct DependencySeries {
    metrics: Arc<Metrics>,
    subject: Subject,
    agency: String,
    up: Row,
}

impl DependencySeries {
    pub fn new(metrics: &Arc<Metrics>, dependency: &Dependency, agency: &str) -> DependencySeries {
        let table = metrics.table(columns::dependency::TABLE);
        DependencySeries {
            subject: Subject { kind: SubjectKind::Dependency, id: dependency.id.shared() },
            agency: agency.to_owned(),
            up: table.row(&[agency, &dependency.id, dependency.cause.as_str()]),
            metrics: metrics.clone(),
        }
    }

    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Notes the outcome of the check that began at `at`.
    pub fn record(&self, ledger: &Ledger, outcome: &Outcome, at: Timestamp, language: Language) {
        let state = outcome.state();
        let before = ledger.current(&self.subject).map(|(state, _)| state);
        let reason = outcome.detail.text(language);
        ledger.observe(&self.subject, &self.agency, state, at, &reason);
        let up = if state == State::Up { 1.0 } else { 0.0 };
        self.metrics.table(columns::dependency::TABLE).set(self.up, columns::dependency::UP, up);
        let (dependency, result) = (&*self.subject.id, outcome.result.as_str());
        match (before, state) {
            (Some(before), after) if before == after => {
                tracing::debug!(dependency, result, "dependency {dependency} is still {after}: {result} {reason}");
            }
            (_, State::Up) => tracing::info!(dependency, result, "dependency {dependency} is up"),
            _ => tracing::warn!(
                dependency,
                result,
                reason,
                "dependency {dependency} is {state}: {result}, {reason}; what needs it is excused"
            ),
        }
    }

    /// It could not be checked, for a reason of our own: neither up nor down, and excuses nobody.
    pub fn record_unknown(&self, ledger: &Ledger, at: Timestamp, reason: &str) {
        self.metrics.table(columns::dependency::TABLE).clear(self.up, columns::dependency::UP);
        ledger.observe(&self.subject, &self.agency, State::Unknown, at, reason);
    }
}

/// Ends the series and ledger intervals of dependencies that are not (or no longer so) configured.
pub(super) fn retain(metrics: &Metrics, ledger: &Ledger, targets: &Targets, now: Timestamp) {
    let keys: HashSet<[&str; 3]> =
        targets.dependencies.iter().map(|d| [targets.owner(d), d.id.as_str(), d.cause.as_str()]).collect();
    metrics.table(columns::dependency::TABLE).retain(|labels| keys.contains(&[labels[0], labels[1], labels[2]]));
    let ids: HashSet<&str> = targets.dependencies.iter().map(|dependency| dependency.id.as_str()).collect();
    ledger.retain(now, |subject| subject.kind != SubjectKind::Dependency || ids.contains(&*subject.id));
}
