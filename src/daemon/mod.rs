//! Wires, supervises, reloads, shuts down.
//!
//! `prepare.rs` reads everything that can be wrong before anything starts; this file opens what lives as long as the
//! process; `seat.rs` says whether it leads or stands by; `term.rs` is what lives as long as it leads; `generation.rs`
//! starts the tasks that depend on the configuration; `supervisor.rs` keeps them running.

mod affected;
mod attribution;
mod curves;
mod expected;
mod generation;
pub mod prepare;
mod pulse;
mod ruling;
mod seat;
pub mod supervisor;
mod term;
mod wires;

use crate::attribution::Ledger;
use crate::config::Problem;
use crate::history::History;
use crate::metrics::Metrics;
use crate::rules::RulesBoard;
use crate::store::lease::Lease;
use crate::store::{DataLock, Store, StoreError};
use crate::web;
use jiff::Timestamp;
use prepare::Prepared;
use seat::{Candidate, Look, Tenure};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use supervisor::{Group, Supervisor};
use term::Term;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use web::tls::Certificates;
use web::{AppState, Front, ReloadRequest, StatusBoard};

/// How long tasks may take to stop, all together.
const GRACE: Duration = Duration::from_secs(8);
/// How long giving the lead back may take.
const RELEASE: Duration = Duration::from_secs(2);
/// How often the ledger is written and the daemon says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(2);
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

/// Runs until `shutdown`; reloads whenever `hangups` gives a value (SIGHUP).
pub async fn run(
    file: &Path,
    shutdown: impl Future<Output = ()>,
    hangups: mpsc::Receiver<()>,
) -> Result<(), DaemonError> {
    let prepared = prepare::prepare(file).map_err(DaemonError::Configuration)?;
    let lock = DataLock::take(&prepared.config.data_dir)?;
    let address = prepared.config.server.listen;
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| DaemonError::Listen(address, error))?;
    let mut daemon = Daemon::open(file, prepared, listener, lock).await?;
    let signals = Signals { shutdown: Box::pin(shutdown), hangups, hangups_open: true };
    let outcome = daemon.live(signals).await;
    daemon.close().await;
    outcome
}

/// What the outside wants.
struct Signals<'s> {
    shutdown: Pin<Box<dyn Future<Output = ()> + 's>>,
    hangups: mpsc::Receiver<()>,
    hangups_open: bool,
}

enum Signal {
    Stop,
    Reload,
}

impl Signals<'_> {
    async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                () = &mut self.shutdown => return Signal::Stop,
                hangup = self.hangups.recv(), if self.hangups_open => match hangup {
                    Some(()) => return Signal::Reload,
                    None => self.hangups_open = false,
                },
            }
        }
    }
}

/// What lives as long as the process.
struct Daemon {
    file: PathBuf,
    /// The configuration in force.
    prepared: Prepared,
    metrics: Arc<Metrics>,
    board: StatusBoard,
    supervisor: Supervisor,
    /// Not fenced: for what every daemon may write, its own sessions.
    store: Store,
    /// `None` with SQLite.
    lease: Option<Arc<Lease>>,
    front: Front,
    /// With TLS.
    certificates: Option<Certificates>,
    reload: mpsc::Sender<ReloadRequest>,
    reloads: mpsc::Receiver<ReloadRequest>,
    /// The settings that only a restart applies.
    fixed: Fixed,
    _lock: DataLock,
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
    async fn open(
        file: &Path,
        prepared: Prepared,
        listener: tokio::net::TcpListener,
        lock: DataLock,
    ) -> Result<Daemon, DaemonError> {
        let metrics = Arc::new(Metrics::new());
        let config = &prepared.config;
        let store = Store::open(&config.state, &config.data_dir).await?;
        let lease = Lease::open(&store, &own_name(config.server.listen)).await?;
        let board = StatusBoard::new(Timestamp::now());
        let supervisor = Supervisor::new(metrics.clone(), board.clone());
        let tls = config.server.tls.as_ref();
        let certificates = tls.map(|tls| Certificates::open(tls, &metrics)).transpose()?;
        let front = Front::default();
        spawn_web(&supervisor.group(), &front, listener, certificates.clone());
        note_loaded(&metrics, true);
        tracing::info!("{}", describe(&prepared));
        warn_exposed(&prepared);
        let (reload, reloads) = mpsc::channel(1);
        Ok(Daemon {
            file: file.to_path_buf(),
            fixed: Fixed::of(&prepared),
            prepared,
            metrics,
            board,
            supervisor,
            store,
            lease: lease.map(Arc::new),
            front,
            certificates,
            reload,
            reloads,
            _lock: lock,
        })
    }

    /// Leads, or stands by until it does, until the outside ends it.
    async fn live(&mut self, mut signals: Signals<'_>) -> Result<(), DaemonError> {
        loop {
            let Some(tenure) = self.await_lead(&mut signals).await else { return Ok(()) };
            let parts = term::Parts {
                supervisor: &self.supervisor,
                metrics: &self.metrics,
                board: &self.board,
                store: &self.store,
                reload: &self.reload,
            };
            let mut term = match Term::start(parts, &self.prepared, tenure, &self.front).await {
                Ok(term) => term,
                Err((tenure, _)) if tenure.is_over() => continue,
                Err((tenure, error)) => {
                    self.release(tenure.end()).await;
                    return Err(error.into());
                }
            };
            // Outside systemd there is nobody to tell.
            let watched = crate::cli::check::summary(&self.prepared.config);
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&watched)]);
            if self.lead(&mut term, &mut signals).await {
                self.stop(term).await;
                return Ok(());
            }
            tracing::warn!("another daemon took the lead over; this one stands by");
            term.abandon().await;
        }
    }

    /// Waits for the lead, standing by meanwhile; `None` if the outside ends it first.
    async fn await_lead(&mut self, signals: &mut Signals<'_>) -> Option<Tenure> {
        let Some(lease) = self.lease.clone() else { return Some(Tenure::alone(&self.metrics)) };
        let mut candidate = Candidate::default();
        let mut reserve: Option<Reserve> = None;
        let mut told = false;
        let epoch = loop {
            let leader = match seat::look(&lease, &mut candidate).await {
                Look::Leads(epoch) => break epoch,
                Look::Other(name) => {
                    told = false;
                    name
                }
                Look::Failed(error) => {
                    if !std::mem::replace(&mut told, true) {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "the database does not say who leads; it is asked again");
                    }
                    String::new()
                }
            };
            reserve.get_or_insert_with(|| self.stand_by()).show(&leader);
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            let pause = tokio::time::sleep(seat::LOOK);
            tokio::select! {
                () = pause => {}
                signal = signals.next() => match signal {
                    Signal::Stop => {
                        self.release(None).await;
                        return None;
                    }
                    Signal::Reload => _ = self.reload(Target::Reserve(reserve.as_ref())).await,
                },
                Some(answer) = self.reloads.recv() => {
                    // Who asked may have gone.
                    let _ = answer.send(self.reload(Target::Reserve(reserve.as_ref())).await);
                }
            }
        };
        if let Some(reserve) = reserve {
            reserve.group.stop(GRACE).await;
        }
        tracing::info!(term = epoch, "this daemon leads: term {epoch}");
        Some(Tenure::begin(lease, epoch, self.metrics.clone()))
    }

    /// Answers for itself only.
    fn stand_by(&self) -> Reserve {
        self.metrics.own.leader.set(0);
        let (leader, leads) = watch::channel(String::new());
        let state = AppState::new(web::Parts {
            config: self.prepared.config.clone(),
            metrics: self.metrics.clone(),
            history: Arc::new(History::new(&self.prepared.config.history)),
            rules: RulesBoard::default(),
            store: self.store.clone(),
            ledger: Ledger::reader(self.store.clone()),
            ready: Arc::default(),
            reload: self.reload.clone(),
            status: self.board.clone(),
        });
        self.front.show(web::standby::router(state.clone(), leads));
        let group = self.supervisor.group();
        self.spawn_certificate(&group, &state);
        Reserve { state, leader, told: None, group }
    }

    /// Works until the outside ends it (`true`) or another daemon leads.
    async fn lead(&mut self, term: &mut Term, signals: &mut Signals<'_>) -> bool {
        let group = self.supervisor.group();
        self.spawn_certificate(&group, &term.state);
        loop {
            tokio::select! {
                () = term.over() => {
                    group.stop(GRACE).await;
                    return false;
                }
                signal = signals.next() => match signal {
                    Signal::Stop => return true,
                    Signal::Reload => _ = self.reload(Target::Term(term)).await,
                },
                Some(answer) = self.reloads.recv() => {
                    // Who asked may have gone.
                    let _ = answer.send(self.reload(Target::Term(term)).await);
                }
            }
        }
    }

    /// Reads the configuration again. A bad one changes nothing.
    async fn reload(&mut self, target: Target<'_>) -> Result<(), String> {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading]);
        let file = self.file.clone();
        let outcome = match tokio::task::spawn_blocking(move || prepare::prepare(&file)).await {
            Ok(Ok(prepared)) => self.swap(prepared, target).await,
            Ok(Err(problems)) => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
            Err(panic) => Err(format!("reading the configuration failed: {panic}")),
        };
        note_loaded(&self.metrics, outcome.is_ok());
        self.board.reloaded(outcome.clone(), Timestamp::now());
        match &outcome {
            Ok(()) => tracing::info!("reloaded {}", self.file.display()),
            Err(problems) => tracing::error!("reloading changed nothing:\n{problems}"),
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        outcome
    }

    async fn swap(&mut self, prepared: Prepared, target: Target<'_>) -> Result<(), String> {
        if Fixed::of(&prepared) != self.fixed {
            return Err("server.listen, turning server.tls on or off, data_dir and state need a restart".into());
        }
        let state = match target {
            Target::Term(term) => {
                term.swap(&prepared, &self.supervisor).await;
                Some(term.state.clone())
            }
            Target::Reserve(reserve) => reserve.map(|reserve| {
                reserve.state.replace_config(prepared.config.clone());
                reserve.state.clone()
            }),
        };
        if let (Some(certificates), Some(tls)) = (&self.certificates, &prepared.config.server.tls) {
            // It was read a moment ago to check it: in the page cache.
            certificates.refresh(tls, &self.metrics);
        }
        warn_exposed(&prepared);
        self.prepared = prepared;
        if let Some(state) = state
            && let Err(error) = state.purge_sessions().await
        {
            // They are refused all the same: each request asks for its user again.
            tracing::error!(error = &error as &dyn std::error::Error, "sessions of changed users are left over");
        }
        Ok(())
    }

    /// The end of a term by our own will: another daemon may go on at once.
    async fn stop(&self, term: Term) {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        let tenure = term.finish(self.stop_tasks()).await;
        self.release(tenure.end()).await;
    }

    async fn stop_tasks(&self) {
        if self.supervisor.shutdown(GRACE).await.is_empty() {
            tracing::info!("all tasks stopped");
        }
    }

    async fn release(&self, epoch: Option<i64>) {
        let Some(lease) = &self.lease else { return };
        let released = tokio::time::timeout(RELEASE, lease.release(epoch)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!("the lead could not be given back; another daemon takes it once it is over");
        }
    }

    async fn close(self) {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.supervisor.shutdown(GRACE).await;
        self.store.close().await;
    }

    fn spawn_certificate(&self, group: &Group, state: &AppState) {
        let Some(certificates) = self.certificates.clone() else { return };
        let state = state.clone();
        group.spawn("certificate", move |stop| web::tls::watch(certificates.clone(), state.clone(), stop));
    }
}

/// What a reload changes.
enum Target<'t> {
    Term(&'t mut Term),
    Reserve(Option<&'t Reserve>),
}

/// A daemon that stands by.
struct Reserve {
    state: AppState,
    leader: watch::Sender<String>,
    /// Who was last said to lead.
    told: Option<String>,
    group: Group,
}

impl Reserve {
    fn show(&mut self, leader: &str) {
        if self.told.as_deref() == Some(leader) {
            return;
        }
        self.told = Some(leader.to_string());
        self.leader.send_replace(leader.to_string());
        let status = match leader {
            "" => "standing by; nobody is known to lead".to_string(),
            leader => format!("standing by; {leader} leads"),
        };
        tracing::info!("{status}");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&status)]);
    }
}

/// Which daemon of several this is, for people: the machine's name and the port.
fn own_name(listen: SocketAddr) -> String {
    let host = sysinfo::System::host_name().unwrap_or_else(|_| "localhost".into());
    format!("{host}:{}", listen.port())
}

fn spawn_web(group: &Group, front: &Front, listener: tokio::net::TcpListener, certificates: Option<Certificates>) {
    let router = front.router();
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
