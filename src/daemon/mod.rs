//! Wires, supervises, reloads, shuts down.
//!
//! `prepare.rs` reads everything that can be wrong before anything starts; this file opens what lives as long as the
//! process; `generation.rs` starts the tasks that depend on the configuration; `supervisor.rs` keeps them running.

mod attribution;
mod generation;
pub mod prepare;
mod ruling;
pub mod supervisor;
mod wires;

use crate::attribution::Ledger;
use crate::config::Problem;
use crate::gather::device::fleet::{Fleet, Now, Settings};
use crate::history::History;
use crate::incident::Incidents;
use crate::mail::Outbox;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use crate::web;
use generation::Foundation;
use jiff::Timestamp;
use prepare::Prepared;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use supervisor::{Group, Supervisor};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use web::tls::Certificates;
use web::{AppState, ReloadRequest, StatusBoard};

/// How long tasks may take to stop, all together.
const GRACE: Duration = Duration::from_secs(8);
/// How often the ledger is written and the daemon says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How often what changes with the calendar (leaders) is described again.
const DESCRIBE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("{} problem(s) in the configuration", .0.len())]
    Configuration(Vec<Problem>),
    #[error("listening on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    #[error("taking up the state")]
    State(#[from] StoreError),
    #[error("reading the server's certificate")]
    Tls(#[from] crate::config::tls::TlsError),
}

/// Runs until `shutdown`; reloads whenever `reload` gives a value (SIGHUP).
pub async fn run(
    file: &Path,
    shutdown: impl Future<Output = ()>,
    hangups: mpsc::Receiver<()>,
) -> Result<(), DaemonError> {
    let prepared = prepare::prepare(file).map_err(DaemonError::Configuration)?;
    let address = prepared.config.server.listen;
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| DaemonError::Listen(address, error))?;
    let mut daemon = Daemon::start(file, prepared, listener).await?;
    daemon.serve(shutdown, hangups).await;
    daemon.stop().await;
    Ok(())
}

struct Daemon {
    file: PathBuf,
    foundation: Foundation,
    supervisor: Supervisor,
    generation: Group,
    state: AppState,
    /// With TLS.
    certificates: Option<Certificates>,
    reloads: mpsc::Receiver<ReloadRequest>,
    ready: Arc<AtomicBool>,
    /// The settings that only a restart applies.
    fixed: Fixed,
}

/// What a reload cannot change.
#[derive(PartialEq)]
struct Fixed {
    listen: SocketAddr,
    /// Whether; the files may change.
    tls: bool,
    data_dir: PathBuf,
    state: String,
}

impl Fixed {
    fn of(prepared: &Prepared) -> Fixed {
        let config = &prepared.config;
        Fixed {
            listen: config.server.listen,
            tls: config.server.tls.is_some(),
            data_dir: config.data_dir.clone(),
            state: match &config.state {
                crate::config::site::State::Sqlite => "sqlite".into(),
                crate::config::site::State::Postgres { url, .. } => url.clone(),
            },
        }
    }
}

impl Daemon {
    async fn start(file: &Path, prepared: Prepared, listener: tokio::net::TcpListener) -> Result<Daemon, DaemonError> {
        let started = Timestamp::now();
        let metrics = Arc::new(Metrics::new());
        let foundation = lay_foundation(&prepared, metrics.clone(), started).await?;
        let board = StatusBoard::new(started);
        let supervisor = Supervisor::new(metrics.clone(), board.clone());
        let (reload, reloads) = mpsc::channel(1);
        let ready = Arc::new(AtomicBool::new(false));
        let state = AppState::new(web::Parts {
            config: prepared.config.clone(),
            metrics: metrics.clone(),
            history: foundation.history.clone(),
            store: foundation.store.clone(),
            ledger: foundation.ledger.clone(),
            ready: ready.clone(),
            reload,
            status: board,
        });
        let permanent = supervisor.group();
        state.purge_sessions().await?;
        let tls = prepared.config.server.tls.as_ref();
        let certificates = tls.map(|tls| Certificates::open(tls, &metrics)).transpose()?;
        spawn_web(&permanent, &state, &foundation, (listener, certificates.clone()), started);
        if let Some(certificates) = certificates.clone() {
            let state = state.clone();
            permanent.spawn("certificate", move |stop| web::tls::watch(certificates.clone(), state.clone(), stop));
        }
        spawn_heartbeat(&permanent, &state, &foundation);
        let generation = supervisor.group();
        generation::start(&foundation, &prepared, &generation);
        note_loaded(&metrics, true);
        tracing::info!("{}", describe(&prepared));
        warn_exposed(&prepared);
        let fixed = Fixed::of(&prepared);
        let file = file.to_path_buf();
        Ok(Daemon { file, foundation, supervisor, generation, state, certificates, reloads, ready, fixed })
    }

    async fn serve(&mut self, shutdown: impl Future<Output = ()>, mut hangups: mpsc::Receiver<()>) {
        self.ready.store(true, Ordering::Release);
        // Outside systemd there is nobody to tell.
        let watched = crate::cli::check::summary(&self.state.config());
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&watched)]);
        let mut shutdown = std::pin::pin!(shutdown);
        let mut hangups_open = true;
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                Some(answer) = self.reloads.recv() => {
                    let outcome = self.reload().await;
                    // Who asked may have gone.
                    let _ = answer.send(outcome);
                }
                hangup = hangups.recv(), if hangups_open => match hangup {
                    Some(()) => {
                        let _ = self.reload().await;
                    }
                    None => hangups_open = false,
                },
            }
        }
    }

    /// Reads the configuration again. A bad one changes nothing.
    async fn reload(&mut self) -> Result<(), String> {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading]);
        let file = self.file.clone();
        let outcome = match tokio::task::spawn_blocking(move || prepare::prepare(&file)).await {
            Ok(Ok(prepared)) => self.swap(&prepared).await,
            Ok(Err(problems)) => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
            Err(panic) => Err(format!("reading the configuration failed: {panic}")),
        };
        note_loaded(&self.foundation.metrics, outcome.is_ok());
        self.state.status().reloaded(outcome.clone(), Timestamp::now());
        match &outcome {
            Ok(()) => tracing::info!("reloaded {}", self.file.display()),
            Err(problems) => tracing::error!("reloading changed nothing:\n{problems}"),
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        outcome
    }

    async fn swap(&mut self, prepared: &Prepared) -> Result<(), String> {
        if Fixed::of(prepared) != self.fixed {
            return Err("server.listen, turning server.tls on or off, data_dir and state need a restart".into());
        }
        self.generation.stop(GRACE).await;
        self.generation = self.supervisor.group();
        generation::start(&self.foundation, prepared, &self.generation);
        self.state.replace_config(prepared.config.clone());
        if let (Some(certificates), Some(tls)) = (&self.certificates, &prepared.config.server.tls) {
            // It was read a moment ago to check it: in the page cache.
            certificates.refresh(tls, &self.foundation.metrics);
        }
        warn_exposed(prepared);
        if let Err(error) = self.state.purge_sessions().await {
            // They are refused all the same: each request asks for its user again.
            tracing::error!(error = &error as &dyn std::error::Error, "sessions of changed users are left over");
        }
        Ok(())
    }

    async fn stop(self) {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.ready.store(false, Ordering::Release);
        let late = self.supervisor.shutdown(GRACE).await;
        if late.is_empty() {
            tracing::info!("all tasks stopped");
        }
        if let Err(error) = self.foundation.ledger.heartbeat(Timestamp::now()).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the ledger's last entries are lost");
        }
        self.foundation.store.close().await;
    }
}

async fn lay_foundation(
    prepared: &Prepared,
    metrics: Arc<Metrics>,
    started: Timestamp,
) -> Result<Foundation, DaemonError> {
    let Prepared { config, org, inventory, .. } = prepared;
    let store = Store::open(&config.state, &config.data_dir).await?;
    let ledger = Ledger::resume(store.clone()).await?;
    let outbox = Outbox::open(store.clone(), metrics.clone()).await?;
    let incidents =
        Incidents::resume(store.clone(), outbox.clone(), org.clone(), config, metrics.clone(), started).await?;
    let dossiers = wires::Dossiers { store: store.clone(), zone: config.site.timezone.clone() };
    let settings = Settings::new(config);
    let fleet = Fleet::open(metrics.clone(), ledger.clone(), store.clone(), settings, inventory, Now::read()).await?;
    Ok(Foundation {
        history: Arc::new(History::new(&config.history)),
        history_since: started,
        incidents: Arc::new(incidents.with_evidence(Arc::new(dossiers)).with_ledger(ledger.clone())),
        metrics,
        store,
        ledger,
        fleet,
        outbox,
    })
}

fn spawn_web(
    group: &Group,
    state: &AppState,
    foundation: &Foundation,
    (listener, certificates): (tokio::net::TcpListener, Option<Certificates>),
    started: Timestamp,
) {
    let alerts = web::alerts_v2::routes(web::alerts_v2::AlertsApi {
        incidents: foundation.incidents.clone(),
        store: foundation.store.clone(),
        metrics: state.metrics().clone(),
        started,
    });
    let acts = web::acts::routes(state.clone(), foundation.incidents.clone());
    let ack = web::ack::routes(state.clone(), foundation.incidents.clone());
    let outbox = web::outbox::routes(foundation.outbox.clone());
    let extra = axum::Router::new().nest("/api/v2", alerts).merge(acts).merge(ack).merge(outbox);
    let router = web::router(state.clone(), extra);
    // The first run takes the listener bound at the start; a later one, after a panic, binds the address again.
    let address = listener.local_addr();
    let listener = Arc::new(std::sync::Mutex::new(Some(listener)));
    group.spawn("web", move |stop: CancellationToken| {
        let (router, listener, certificates) = (router.clone(), listener.clone(), certificates.clone());
        let address = address.as_ref().map(|address| *address).map_err(std::io::Error::kind);
        async move {
            let bound = listener.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            let listener = match bound {
                Some(listener) => listener,
                None => tokio::net::TcpListener::bind(address?).await?,
            };
            web::serve(listener, router, certificates, stop).await
        }
    });
}

/// Writes the ledger, says that the daemon is alive (to the database and to systemd's watchdog), and describes the
/// agencies again as leaders change.
fn spawn_heartbeat(group: &Group, state: &AppState, foundation: &Foundation) {
    let (ledger, metrics, state) = (foundation.ledger.clone(), foundation.metrics.clone(), state.clone());
    group.spawn("heartbeat", move |stop| heartbeat(ledger.clone(), metrics.clone(), state.clone(), stop));
}

async fn heartbeat(
    ledger: Ledger,
    metrics: Arc<Metrics>,
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
            Ok(()) => told = false,
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

fn note_loaded(metrics: &Metrics, successful: bool) {
    metrics.own.config_last_reload_successful.set(i64::from(successful));
    if successful {
        metrics.own.config_last_reload_success.set(Timestamp::now().as_second() as f64);
    }
}

/// Says if others can read the password hashes.
fn warn_exposed(prepared: &Prepared) {
    if let Some(warning) = prepared.config.server.users.as_ref().and_then(|users| users.exposure()) {
        tracing::warn!("{warning}");
    }
}

/// What is watched, in one line.
fn describe(prepared: &Prepared) -> String {
    format!(
        "watching: {}; listening on {}/",
        crate::cli::check::summary(&prepared.config),
        prepared.config.server.url()
    )
}
