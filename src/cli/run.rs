//! `ioc-watch run`: the daemon.

use crate::daemon::{self, DaemonError};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

#[derive(clap::Args)]
pub struct Run {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// How to log to stderr; what to log is RUST_LOG's, default info
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
    /// For the journal: no times and no colours, which it has or cannot show.
    Journald,
}

impl Run {
    pub fn run(&self) -> ExitCode {
        log(self.log_format, "info");
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("error: starting the runtime: {error}");
                return ExitCode::FAILURE;
            }
        };
        match runtime.block_on(supervise(&self.config)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                report(&error);
                ExitCode::FAILURE
            }
        }
    }
}

/// The runtime of the daemon. Evaluation recurses; its blocking threads get room for the deepest query.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 * 1024 * 1024).build()
}

/// Sets the process's log up; `default` is used without RUST_LOG.
pub fn log(format: LogFormat, default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
        LogFormat::Journald => builder.without_time().with_ansi(false).with_target(false).init(),
    }
}

/// Prints an error with all its causes, and each problem of a configuration.
pub fn report(error: &DaemonError) {
    if let DaemonError::Configuration(problems) = error {
        eprint!("{}", super::check::report(problems));
        return;
    }
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    eprintln!("error: {message}");
}

async fn supervise(config: &std::path::Path) -> Result<(), DaemonError> {
    let (hangup, hangups) = mpsc::channel(1);
    if let Ok(mut signals) = signal(SignalKind::hangup()) {
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // One reload at a time; one that waits already reads the newest file.
                let _ = hangup.try_send(());
            }
        });
    }
    daemon::run(config, stop_signal(), hangups).await
}

/// SIGINT or SIGTERM.
pub async fn stop_signal() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
