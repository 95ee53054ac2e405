//! What becomes of an outcome: the service's metrics and its state in the ledger.

use super::outcome::{CheckResult, Outcome, Phase};
use crate::attribution::{Ledger, State, Subject, SubjectKind};
use crate::config::probes::Probe;
use crate::config::services::Service;
use crate::config::site::Language;
use crate::metrics::{Column, Metrics, Row, Table, columns};
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;

/// The series and the ledger subject of one service.
pub struct Series {
    metrics: Arc<Metrics>,
    subject: Subject,
    agency: String,
    up: Row,
    /// In the order of [`CheckResult::ALL`].
    checks: Vec<Row>,
    /// In the order of [`Phase::ALL`].
    phases: Vec<Row>,
    leaf: Row,
    chain: Row,
    /// Of a database: its value and newest row.
    query: Row,
    /// Of a journey, those of `finally` last.
    steps: Vec<(String, Row)>,
}

impl Series {
    /// Finds or makes the rows. The counters of all results start at 0, so that their first increase is seen.
    pub fn new(metrics: &Arc<Metrics>, service: &Service) -> Series {
        let key = [service.agency.as_str(), service.id.as_str(), service.kind.as_str()];
        let with = |last| [key[0], key[1], key[2], last];
        let checks = metrics.table(columns::service_checks::TABLE);
        let phases = metrics.table(columns::service_phase::TABLE);
        let tls = metrics.table(columns::service_tls::TABLE);
        let check_rows = CheckResult::ALL.map(|result| checks.row(&with(result.as_str())));
        for row in check_rows {
            checks.add(row, columns::service_checks::CHECKS, 0.0);
        }
        Series {
            subject: Subject { kind: SubjectKind::Service, id: service.id.shared() },
            agency: service.agency.to_string(),
            up: metrics.table(columns::service::TABLE).row(&key),
            checks: check_rows.to_vec(),
            phases: Phase::ALL.map(|phase| phases.row(&with(phase.as_str()))).to_vec(),
            leaf: tls.row(&with("leaf")),
            chain: tls.row(&with("chain")),
            query: query_row(metrics, &key, &service.probe),
            steps: step_names(&service.probe)
                .map(|name| (name.to_owned(), metrics.table(columns::service_step::TABLE).row(&with(name))))
                .collect(),
            metrics: metrics.clone(),
        }
    }

    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Notes the outcome of the check that began at `at`. The ledger's reasons are in `language`.
    pub fn record(&self, ledger: &Ledger, outcome: &Outcome, at: Timestamp, language: Language) {
        self.measure(outcome);
        let state = outcome.state();
        let before = ledger.current(&self.subject).map(|(state, _)| state);
        let reason = outcome.detail.text(language);
        ledger.observe(&self.subject, &self.agency, state, at, &reason);
        let (service, result) = (&*self.subject.id, outcome.result.as_str());
        match (before, state) {
            (Some(before), after) if before == after => {
                tracing::debug!(service, result, "service {service} is still {after}: {result} {reason}");
            }
            (_, State::Up) => tracing::info!(service, result, "service {service} is up"),
            _ => tracing::warn!(service, result, reason, "service {service} is {state}: {result}, {reason}"),
        }
    }

    /// The service could not be checked, for a reason of our own: neither up nor down.
    pub fn record_unknown(&self, ledger: &Ledger, at: Timestamp, reason: &str) {
        self.metrics.table(columns::service::TABLE).clear(self.up, columns::service::UP);
        ledger.observe(&self.subject, &self.agency, State::Unknown, at, reason);
    }

    fn measure(&self, outcome: &Outcome) {
        use columns::{service, service_checks, service_phase, service_query, service_tls};
        // Counted first: whoever sees a new state finds its check counted.
        if let Some(index) = CheckResult::ALL.iter().position(|result| *result == outcome.result) {
            self.metrics.table(service_checks::TABLE).add(self.checks[index], service_checks::CHECKS, 1.0);
        }
        let phases = self.metrics.table(service_phase::TABLE);
        for (phase, &row) in Phase::ALL.into_iter().zip(&self.phases) {
            match outcome.phases.get(phase) {
                Some(length) => phases.set(row, service_phase::SECONDS, length.as_secs_f64()),
                // A phase that the last check did not finish has no duration; an old one would mislead.
                None => phases.clear(row, service_phase::SECONDS),
            }
        }
        // A check that did not come to see the certificates says nothing about them: the last ones stay.
        if let Some(expiry) = outcome.expiry {
            let tls = self.metrics.table(service_tls::TABLE);
            tls.set(self.leaf, service_tls::EXPIRY, expiry.leaf.as_second() as f64);
            tls.set(self.chain, service_tls::EXPIRY, expiry.chain.as_second() as f64);
        }
        // What the last check did not come to see has no value; an old one would mislead.
        let queries = self.metrics.table(service_query::TABLE);
        set_or_clear(queries, self.query, service_query::VALUE, outcome.value);
        let newest = outcome.newest.map(|newest| newest.as_duration().as_secs_f64());
        set_or_clear(queries, self.query, service_query::NEWEST, newest);
        self.measure_steps(outcome);
        let up = if outcome.result.is_up() { 1.0 } else { 0.0 };
        self.metrics.table(service::TABLE).set(self.up, service::UP, up);
    }

    /// A step that was not reached has no duration and neither failed nor succeeded.
    fn measure_steps(&self, outcome: &Outcome) {
        use columns::service_step;
        let table = self.metrics.table(service_step::TABLE);
        for (name, row) in &self.steps {
            let step = outcome.steps.iter().find(|step| step.name == *name);
            set_or_clear(table, *row, service_step::SECONDS, step.map(|step| step.took.as_secs_f64()));
            set_or_clear(table, *row, service_step::FAILED, step.map(|step| if step.ok { 0.0 } else { 1.0 }));
        }
    }
}

/// The steps of a journey; nothing else has any.
fn step_names(probe: &Probe) -> impl Iterator<Item = &str> {
    let journey = if let Probe::Journey(journey) = probe { Some(journey) } else { None };
    journey.into_iter().flat_map(|journey| journey.names())
}

/// The row of a query's answers, its limit of age as configured: after a reload it may have another, or none.
fn query_row(metrics: &Metrics, key: &[&str; 3], probe: &Probe) -> Row {
    let queries = metrics.table(columns::service_query::TABLE);
    let row = queries.row(key);
    let newest = if let Probe::Sql(sql) = probe { sql.newest.as_ref() } else { None };
    let max_age = newest.map(|newest| newest.within.as_secs_f64());
    set_or_clear(queries, row, columns::service_query::MAX_AGE, max_age);
    row
}

fn set_or_clear(table: &Table, row: Row, column: Column, value: Option<f64>) {
    match value {
        Some(value) => table.set(row, column, value),
        None => table.clear(row, column),
    }
}

/// Ends the series and ledger intervals of services that are not (or no longer so) configured.
pub(super) fn retain(metrics: &Metrics, ledger: &Ledger, services: &[Service], now: Timestamp) {
    let keys: HashSet<[&str; 3]> =
        services.iter().map(|s| [s.agency.as_str(), s.id.as_str(), s.kind.as_str()]).collect();
    let tables = [
        columns::service::TABLE,
        columns::service_query::TABLE,
        columns::service_excused::TABLE,
        columns::service_phase::TABLE,
        columns::service_checks::TABLE,
        columns::service_tls::TABLE,
    ];
    for table in tables {
        metrics.table(table).retain(|labels| keys.contains(&[labels[0], labels[1], labels[2]]));
    }
    let steps: HashSet<[&str; 4]> = services
        .iter()
        .flat_map(|s| step_names(&s.probe).map(|step| [s.agency.as_str(), s.id.as_str(), s.kind.as_str(), step]))
        .collect();
    let is_step = |labels: &[&str]| steps.contains(&[labels[0], labels[1], labels[2], labels[3]]);
    metrics.table(columns::service_step::TABLE).retain(is_step);
    let ids: HashSet<&str> = services.iter().map(|service| service.id.as_str()).collect();
    ledger.retain(now, |subject| subject.kind != SubjectKind::Service || ids.contains(&*subject.id));
}
