//! A private MariaDB server: its own directory, its own port on loopback, gone when dropped.

use crate::support::{Process, free_port, wait_for};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

pub struct MariaDb {
    pub port: u16,
    socket: PathBuf,
    process: Option<Process>,
    /// Removed when dropped, after the server was stopped.
    _dir: tempfile::TempDir,
}

impl MariaDb {
    /// Makes and starts a server with TLS by `certificate` (file, key); waits until it answers.
    pub fn start((certificate, key): &(PathBuf, PathBuf)) -> MariaDb {
        let dir = tempfile::Builder::new().prefix("ioc-watch-maria").tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        let user = user();
        let made = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--user={user}"))
            .arg(format!("--datadir={}", data.display()))
            .output()
            .expect("mariadb-install-db runs (apt-get install mariadb-server)");
        assert!(made.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&made.stderr));
        let (port, socket) = (free_port(), dir.path().join("socket"));
        let log = std::fs::File::create(dir.path().join("log")).expect("a writable directory");
        let child = Command::new("/usr/sbin/mariadbd")
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0"])
            .arg(format!("--user={user}"))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--port={port}"))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", dir.path().join("pid").display()))
            .arg(format!("--ssl-cert={}", certificate.display()))
            .arg(format!("--ssl-key={}", key.display()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mariadbd starts (apt-get install mariadb-server)");
        let server = MariaDb { port, socket, process: Some(Process(child)), _dir: dir };
        wait_for("MariaDB to answer", Duration::from_secs(30), || server.run("", "select 1").ok());
        server
    }

    /// Runs statements as root; what they print, without decoration.
    pub fn sql(&self, database: &str, text: &str) -> String {
        self.run(database, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn run(&self, database: &str, text: &str) -> Result<String, String> {
        let socket = format!("--socket={}", self.socket.display());
        let run = Command::new("mariadb")
            .args(["--no-defaults", "-uroot", "-N", "-B", &socket, "-e", text, database])
            .output()
            .expect("mariadb runs");
        if run.status.success() {
            Ok(String::from_utf8_lossy(&run.stdout).trim().to_string())
        } else {
            Err(String::from_utf8_lossy(&run.stderr).into_owned())
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running server").0.id()
    }

    /// kill -9.
    pub fn stop(&mut self) {
        self.process = None;
    }
}

/// The user that runs this process: MariaDB changes to it, that is, it stays.
fn user() -> String {
    let id = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&id.stdout).trim().to_string()
}
