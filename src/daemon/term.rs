//! What lives as long as this daemon leads: the state taken up from the database, and everything that works on it.

use super::generation::{self, Foundation};
use super::prepare::Prepared;
use super::pulse::Vitals;
use super::seat::Tenure;
use super::supervisor::{Group, Supervisor};
use super::{GRACE, HEARTBEAT, wires};
use crate::attribution::Ledger;
use crate::gather::device::fleet::{Fleet, Now, Settings};
use crate::heartbeat::Heartbeats;
use crate::history::{History, Keeper};
use crate::incident::Incidents;
use crate::mail::Outbox;
use crate::metrics::Metrics;
use crate::rules::RulesBoard;
use crate::store::{Store, StoreError};
use crate::web::{self, AppState, StatusBoard};
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often what changes with the calendar (leaders) is described again.
const DESCRIBE: Duration = Duration::from_secs(60);

/// How often the past that outlives a restart is written: so much of it is lost if the daemon is killed.
const KEEP: Duration = Duration::from_secs(5 * 60);

/// What a term needs of the daemon.
pub struct Parts<'d> {
    pub supervisor: &'d Supervisor,
    pub metrics: &'d Arc<Metrics>,
    pub board: &'d StatusBoard,
    pub store: &'d Store,
    pub reload: &'d mpsc::Sender<web::ReloadRequest>,
}

pub struct Term {
    foundation: Foundation,
    generation: Group,
    /// Reloads leave it alone.
    permanent: Group,
    pub state: AppState,
    ready: Arc<AtomicBool>,
    tenure: Tenure,
}

impl Term {
    /// Takes the state up, starts everything, and serves it at `front`. On an error the lead is given back to the caller:
    /// it may be over already.
    pub async fn start(
        parts: Parts<'_>,
        prepared: &Prepared,
        tenure: Tenure,
        front: &web::Front,
    ) -> Result<Term, (Tenure, StoreError)> {
        let started = Timestamp::now();
        let store = tenure.store(parts.store);
        let foundation = match lay_foundation(prepared, parts.metrics.clone(), store, started).await {
            Ok(foundation) => foundation,
            Err(error) => return Err((tenure, error)),
        };
        let ready = Arc::new(AtomicBool::new(false));
        let state = AppState::new(web::Parts {
            config: prepared.config.clone(),
            metrics: parts.metrics.clone(),
            history: foundation.history.clone(),
            rules: foundation.board.clone(),
            store: foundation.store.clone(),
            ledger: foundation.ledger.clone(),
            ready: ready.clone(),
            reload: parts.reload.clone(),
            status: parts.board.clone(),
        });
        if let Err(error) = state.purge_sessions().await {
            return Err((tenure, error));
        }
        let alerts = web::alerts_v2::routes(web::alerts_v2::AlertsApi {
            incidents: foundation.incidents.clone(),
            heartbeats: Some(foundation.heartbeats.clone()),
            metrics: parts.metrics.clone(),
            started,
        });
        let acts = web::acts::routes(state.clone(), foundation.incidents.clone());
        let ack = web::ack::routes(state.clone(), foundation.incidents.clone());
        let push = web::push::routes(state.clone(), foundation.pushes.clone());
        let outbox = web::outbox::routes(foundation.outbox.clone());
        let heartbeats = web::heartbeats::routes(foundation.heartbeats.clone());
        let extra = axum::Router::new().nest("/api/v2", alerts).merge(acts).merge(ack);
        let devices = web::devices::routes(state.clone(), foundation.fleet.clone());
        let extra = extra.merge(outbox).merge(push).merge(heartbeats).merge(devices);
        front.show(web::router(state.clone(), extra));
        let permanent = parts.supervisor.group();
        spawn_heartbeat(&permanent, &state, &foundation);
        let keeper = foundation.keeper.clone();
        permanent.spawn("history", move |stop| keep(keeper.clone(), stop));
        let generation = parts.supervisor.group();
        generation::start(&foundation, prepared, &generation);
        ready.store(true, Ordering::Release);
        Ok(Term { foundation, generation, permanent, state, ready, tenure })
    }

    /// Returns when another daemon leads.
    pub async fn over(&self) {
        self.tenure.over().await;
    }

    /// Goes on with another configuration.
    pub async fn swap(&mut self, prepared: &Prepared, supervisor: &Supervisor) {
        self.generation.stop(GRACE).await;
        self.generation = supervisor.group();
        generation::start(&self.foundation, prepared, &self.generation);
        self.state.replace_config(prepared.config.clone());
    }

    /// The end by our own will: `stop` ends the tasks, then what they left is written.
    pub async fn finish(self, stop: impl Future<Output = ()>) -> Tenure {
        self.ready.store(false, Ordering::Release);
        stop.await;
        if let Err(error) = self.foundation.ledger.heartbeat(Timestamp::now()).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the ledger's last entries are lost");
        }
        if let Err(error) = self.foundation.keeper.write().await {
            tracing::error!(error = &error as &dyn std::error::Error, "the history's last minutes are lost");
        }
        self.tenure
    }

    /// The end because another daemon leads: nothing can be written any more, and nothing needs to.
    pub async fn abandon(self) {
        self.ready.store(false, Ordering::Release);
        tokio::join!(self.generation.stop(GRACE), self.permanent.stop(GRACE));
        self.foundation.metrics.forget_subjects();
    }
}

async fn lay_foundation(
    prepared: &Prepared,
    metrics: Arc<Metrics>,
    store: Store,
    started: Timestamp,
) -> Result<Foundation, StoreError> {
    let Prepared { config, org, inventory, .. } = prepared;
    let ledger = Ledger::resume(store.clone()).await?;
    let outbox = Outbox::open(store.clone(), metrics.clone()).await?;
    let incidents =
        Incidents::resume(store.clone(), outbox.clone(), org.clone(), config, metrics.clone(), started).await?;
    let history = Arc::new(History::new(&config.history));
    history.set_retention(&config.history, &prepared.needs);
    let keeper = Keeper::resume(history.clone(), store.clone(), metrics.clone(), started).await?;
    let zone = config.site.timezone.clone();
    let heartbeats = Heartbeats::resume(store.clone(), metrics.clone(), config, Instant::now()).await?;
    let settings = Settings::new(config);
    let fleet = Fleet::open(metrics.clone(), ledger.clone(), store.clone(), settings, inventory, Now::read()).await?;
    let known = wires::Known { history: history.clone(), store: store.clone(), fleet: fleet.clone(), zone };
    Ok(Foundation {
        history,
        keeper,
        history_since: started,
        incidents: Arc::new(incidents.with_evidence(Arc::new(known)).with_ledger(ledger.clone())),
        metrics,
        store,
        ledger,
        fleet,
        outbox,
        heartbeats: Arc::new(heartbeats),
        vitals: Vitals::new(Instant::now()),
        pushes: Default::default(),
        board: RulesBoard::default(),
    })
}

/// Writes the past that outlives a restart, every [`KEEP`].
async fn keep(keeper: Keeper, stop: CancellationToken) -> Result<(), StoreError> {
    let mut told = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(KEEP) => {}
        }
        match keeper.write().await {
            Ok(()) => told = false,
            Err(error) if !told => {
                told = true;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the history cannot be written; it is tried again"
                );
            }
            Err(_) => {}
        }
    }
}

/// Writes the ledger, says that the daemon is alive (to the database and to systemd's watchdog), and describes the
/// agencies again as leaders change.
fn spawn_heartbeat(group: &Group, state: &AppState, foundation: &Foundation) {
    let (ledger, metrics, state) = (foundation.ledger.clone(), foundation.metrics.clone(), state.clone());
    let vitals = foundation.vitals.clone();
    group.spawn("heartbeat", move |stop| {
        heartbeat(ledger.clone(), metrics.clone(), vitals.clone(), state.clone(), stop)
    });
}

async fn heartbeat(
    ledger: Ledger,
    metrics: Arc<Metrics>,
    vitals: Vitals,
    state: AppState,
    stop: CancellationToken,
) -> Result<(), StoreError> {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut described = Instant::now();
    let mut told = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        let begin = Instant::now();
        match ledger.heartbeat(Timestamp::now()).await {
            Ok(()) => {
                told = false;
                vitals.written(Instant::now());
            }
            Err(error) if !told => {
                told = true;
                tracing::error!(error = &error as &dyn std::error::Error, "the ledger cannot be written; it is kept");
            }
            Err(_) => {}
        }
        metrics.own.store_commit.observe(begin.elapsed().as_secs_f64());
        if described.elapsed() >= DESCRIBE {
            described = Instant::now();
            generation::describe_agencies(&metrics, &crate::org::Org::new(&state.config()), Timestamp::now());
        }
    }
}
