//! The built program, running with a configuration written by the test.

use super::{Process, get, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub struct Daemon {
    pub port: u16,
    log: PathBuf,
    process: Option<Process>,
}

impl Daemon {
    /// `ioc-watch run --config FILE`; waits until it is ready. Its log is `dir/daemon.log`.
    pub fn start(dir: &Path, config: &Path, port: u16) -> Daemon {
        let daemon = Daemon::spawn(dir, config, port);
        daemon.wait_ready();
        daemon
    }

    /// As [`Daemon::start`], with these variables in its environment.
    pub fn start_with(dir: &Path, config: &Path, port: u16, environment: &[(&str, &str)]) -> Daemon {
        let daemon = Daemon::spawn_with(dir, config, port, environment);
        daemon.wait_ready();
        daemon
    }

    pub fn spawn(dir: &Path, config: &Path, port: u16) -> Daemon {
        Daemon::spawn_with(dir, config, port, &[])
    }

    fn spawn_with(dir: &Path, config: &Path, port: u16, environment: &[(&str, &str)]) -> Daemon {
        let log = dir.join("daemon.log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a writable directory");
        let child = Command::new(env!("CARGO_BIN_EXE_ioc-watch"))
            .args(["run", "--config"])
            .arg(config)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the built program");
        Daemon { port, log, process: Some(Process(child)) }
    }

    pub fn wait_ready(&self) {
        wait_for(&format!("the daemon to be ready; its log:\n{}", self.log()), Duration::from_secs(30), || {
            get(self.port, "/-/ready").ok().filter(|(status, _)| *status == 200)
        });
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running daemon").0.id()
    }

    pub fn signal(&self, name: &str) {
        super::signal(self.pid(), name);
    }

    /// SIGTERM; gives whether it left with code 0 within 10 s.
    pub fn stop(&mut self) -> bool {
        let Some(mut process) = self.process.take() else { return true };
        process.signal("TERM");
        let status = wait_for("the daemon to stop", Duration::from_secs(15), || process.0.try_wait().ok().flatten());
        status.success()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The value of one series on `/metrics`, by its whole text before the value.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let (_, page) = get(self.port, "/metrics").ok()?;
        let line = page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line[series.len()..].trim().parse().ok()
    }
}
