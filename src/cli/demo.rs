//! `ioc-watch demo`: everything outside the daemon simulated on real sockets, and the daemon itself beside it.

use crate::cli::run;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Demo {
    /// Where pages and metrics are served; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9470")]
    listen: SocketAddr,
    /// Where state, files and mails are kept; default: a new temporary directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Demo {
    pub fn run(&self) -> ExitCode {
        if !self.listen.ip().is_loopback() {
            eprintln!("error: the demo listens on loopback only, not on {}", self.listen);
            return ExitCode::from(2);
        }
        run::log(run::LogFormat::Text, "warn,rumqttd=off,ioc_watch=warn");
        let outcome = run::runtime().map_err(anyhow::Error::from).and_then(|runtime| {
            let done = runtime.block_on(crate::demo::run(self.listen, self.data_dir.clone(), run::stop_signal()));
            // The embedded broker's threads end with the process.
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            done
        });
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}
