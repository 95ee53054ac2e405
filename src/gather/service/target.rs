//! What the scheduler checks: services and dependencies alike; and the doubt that has a dependency checked at once.

use super::dependency::DependencySeries;
use super::record::Series;
use crate::attribution::{Ledger, State};
use crate::config::dependencies::{Dependency, DependencyCause};
use crate::config::probes::Probe;
use crate::config::services::Service;
use crate::config::site::Language;
use crate::config::{Config, Id};
use crate::metrics::Metrics;
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What is checked.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    pub services: Vec<Service>,
    pub dependencies: Vec<Dependency>,
    /// Owns the dependencies that name nobody; `None` only where there are none.
    pub site_agency: Option<Id>,
    /// Of the reasons in the ledger.
    pub language: Language,
}

impl Targets {
    /// Everything that a configuration has checked.
    pub fn of(config: &Config) -> Targets {
        Targets {
            services: config.services.clone(),
            dependencies: config.dependencies.clone(),
            site_agency: Some(config.site.agency.clone()),
            language: config.site.language,
        }
    }

    /// The agency that answers for a dependency.
    pub(super) fn owner<'a>(&'a self, dependency: &'a Dependency) -> &'a str {
        dependency.agency.as_ref().or(self.site_agency.as_ref()).map_or("", Id::as_str)
    }
}

/// Asks for dependencies to be checked at once: something that needs them failed. Cheap to clone; never waits.
#[derive(Debug, Clone, Default)]
pub struct Doubts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Ids; bounded by what is configured, because nothing else is kept when they are taken.
    open: Mutex<BTreeSet<String>>,
    raised: Notify,
}

impl Doubts {
    /// Whether these still answer is in doubt.
    pub fn raise<'a>(&self, dependencies: impl IntoIterator<Item = &'a str>) {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let before = open.len();
        open.extend(dependencies.into_iter().map(str::to_owned));
        if open.len() > before {
            self.0.raised.notify_one();
        }
    }

    pub(super) async fn raised(&self) {
        self.0.raised.notified().await;
    }

    pub(super) fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.0.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One thing that is checked, with what its outcomes become.
pub(super) struct Target {
    pub id: Id,
    pub every: Duration,
    pub timeout: Duration,
    pub probe: Arc<Probe>,
    /// Positions of the dependencies it needs, directly or not, among the targets; the own uplink first.
    pub needs: Vec<usize>,
    pub series: Recorder,
}

/// What becomes of an outcome.
pub(super) enum Recorder {
    Service(Box<Series>),
    Dependency(DependencySeries),
}

impl Target {
    /// Makes the targets ready, dependencies first.
    pub fn all(targets: Targets, metrics: &Arc<Metrics>) -> Vec<Target> {
        let needs = Needs::new(&targets.dependencies);
        let dependencies = targets.dependencies.iter().map(|dependency| Target {
            id: dependency.id.clone(),
            every: dependency.every,
            timeout: dependency.timeout,
            probe: Arc::new(dependency.probe.clone()),
            needs: needs.of(&dependency.depends_on),
            series: Recorder::Dependency(DependencySeries::new(metrics, dependency, targets.owner(dependency))),
        });
        let services = targets.services.iter().map(|service| Target {
            id: service.id.clone(),
            every: service.every,
            timeout: service.timeout,
            probe: Arc::new(service.probe.clone()),
            needs: needs.of(&service.depends_on),
            series: Recorder::Service(Box::new(Series::new(metrics, service))),
        });
        dependencies.chain(services).collect()
    }

    pub fn is_dependency(&self) -> bool {
        matches!(self.series, Recorder::Dependency(_))
    }

    /// For logs.
    pub fn kind(&self) -> &'static str {
        if self.is_dependency() { "dependency" } else { "service" }
    }
}

impl Recorder {
    /// The last state that the ledger knows.
    pub fn current(&self, ledger: &Ledger) -> Option<State> {
        let subject = match self {
            Recorder::Service(series) => series.subject(),
            Recorder::Dependency(series) => series.subject(),
        };
        ledger.current(subject).map(|(state, _)| state)
    }

    pub fn record(&self, ledger: &Ledger, outcome: &super::Outcome, at: Timestamp, language: Language) {
        match self {
            Recorder::Service(series) => series.record(ledger, outcome, at, language),
            Recorder::Dependency(series) => series.record(ledger, outcome, at, language),
        }
    }

    pub fn record_unknown(&self, ledger: &Ledger, at: Timestamp, reason: &str) {
        match self {
            Recorder::Service(series) => series.record_unknown(ledger, at, reason),
            Recorder::Dependency(series) => series.record_unknown(ledger, at, reason),
        }
    }
}

/// The dependencies by id, with what they need themselves.
pub struct Needs {
    by_id: HashMap<Id, (usize, DependencyCause, Vec<Id>)>,
}

impl Needs {
    pub fn new(dependencies: &[Dependency]) -> Needs {
        let all = dependencies.iter().enumerate();
        let by_id = all.map(|(place, d)| (d.id.clone(), (place, d.cause, d.depends_on.clone()))).collect();
        Needs { by_id }
    }

    /// The positions of `ids` and all they need; the own uplink first, then by precedence of the causes.
    pub fn of(&self, ids: &[Id]) -> Vec<usize> {
        let mut found: BTreeSet<(DependencyCause, usize)> = BTreeSet::new();
        let mut open: Vec<&Id> = ids.iter().collect();
        while let Some(id) = open.pop() {
            let Some((place, cause, needs)) = self.by_id.get(id) else { continue };
            if found.insert((*cause, *place)) {
                open.extend(needs);
            }
        }
        found.into_iter().map(|(_, place)| place).collect()
    }
}
