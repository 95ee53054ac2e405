//! A private PostgreSQL cluster: its own directory, its own port on loopback, gone when dropped.
//!
//! PostgreSQL refuses to run as root, so under root it runs as the user `postgres`.
#![allow(dead_code, reason = "each test binary uses some of it")]

use ioc_watch::config::Secret;
use ioc_watch::config::site::State;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian keeps the programs of the versions it knows; the newest is taken.
const PROGRAMS: &str = "/usr/lib/postgresql";
const PASSWORD: &str = "of a test, on loopback";

pub struct Postgres {
    server: Child,
    programs: PathBuf,
    pub port: u16,
    has_tls: bool,
    /// Removed when dropped, after the server was stopped.
    dir: tempfile::TempDir,
}

impl Postgres {
    /// Makes and starts a cluster; waits until it answers.
    pub fn start() -> Postgres {
        Postgres::start_with(None, "")
    }

    /// The same with TLS by `certificate` (file, key), and lines of pg_hba.conf that come before its own.
    pub fn start_with(certificate: Option<&(PathBuf, PathBuf)>, hba: &str) -> Postgres {
        let programs = programs();
        let dir = tempfile::Builder::new().prefix("ioc-watch-pg").tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        let password_file = dir.path().join("password");
        std::fs::File::create(&password_file).and_then(|mut file| file.write_all(PASSWORD.as_bytes())).unwrap();
        if let Some((user, group)) = user() {
            std::os::unix::fs::chown(dir.path(), Some(user), Some(group)).unwrap();
            std::os::unix::fs::chown(&password_file, Some(user), Some(group)).unwrap();
        }
        let made = as_user(&programs.join("initdb"))
            .args(["--no-sync", "--auth=scram-sha-256", "--username=ioc", "--encoding=UTF8", "--locale=C.UTF-8"])
            .arg("--pwfile")
            .arg(&password_file)
            .arg("--pgdata")
            .arg(&data)
            .current_dir(dir.path())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let hba_file = data.join("pg_hba.conf");
        let rest = std::fs::read_to_string(&hba_file).unwrap();
        std::fs::write(&hba_file, format!("{hba}{rest}")).unwrap();
        if let Some((certificate, key)) = certificate {
            for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
                let to = data.join(to);
                std::fs::copy(from, &to).unwrap();
                std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
                if let Some((user, group)) = user() {
                    std::os::unix::fs::chown(&to, Some(user), Some(group)).unwrap();
                }
            }
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).unwrap().port();
        let has_tls = certificate.is_some();
        let server = serve(&programs, dir.path(), port, has_tls);
        let postgres = Postgres { server, programs, port, has_tls, dir };
        postgres.wait_ready();
        postgres
    }

    /// Ends it at once, as a crash does: what was committed is there after [`Postgres::resume`].
    pub fn stop(&mut self) {
        let stopped = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        assert!(stopped.is_ok_and(|status| status.success()));
        let _ = self.server.wait();
    }

    pub fn resume(&mut self) {
        self.server = serve(&self.programs, self.dir.path(), self.port, self.has_tls);
        self.wait_ready();
    }

    fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() || !self.is_ready() {
            assert!(Instant::now() < deadline, "PostgreSQL does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes an empty database; returns the `state` that leads to it.
    pub fn database(&self, name: &str) -> State {
        let made = self.client("createdb").arg(name).output().expect("createdb runs");
        assert!(made.status.success(), "createdb: {}", String::from_utf8_lossy(&made.stderr));
        State::Postgres {
            url: format!("postgres://ioc@127.0.0.1:{}/{name}", self.port),
            password: Some(Secret::new(PASSWORD)),
        }
    }

    /// Runs statements as the superuser; what they print, without decoration.
    pub fn sql(&self, database: &str, text: &str) -> String {
        let mut psql = self.client("psql");
        let run =
            psql.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", text]).output().expect("psql runs");
        assert!(run.status.success(), "psql: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).trim().to_string()
    }

    /// The postmaster, which accepts connections.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    fn is_ready(&self) -> bool {
        self.client("pg_isready").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(["-h", "127.0.0.1", "-U", "ioc", "-p", &self.port.to_string()]).env("PGPASSWORD", PASSWORD);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The postmaster takes its children along: SIGQUIT is its immediate stop.
        let stopped = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        if stopped.is_err() {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
    }
}

fn serve(programs: &Path, dir: &Path, port: u16, has_tls: bool) -> Child {
    as_user(&programs.join("postgres"))
        .arg("-D")
        .arg(dir.join("data"))
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", if has_tls { "ssl=on" } else { "ssl=off" }])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("postgres starts")
}

fn programs() -> PathBuf {
    let versions = std::fs::read_dir(PROGRAMS).expect("PostgreSQL is installed (apt-get install postgresql)");
    let newest = versions.filter_map(|version| version.ok()?.file_name().to_str()?.parse::<u32>().ok()).max();
    Path::new(PROGRAMS).join(newest.expect("a version of PostgreSQL").to_string()).join("bin")
}

/// The user and group `postgres`, if this process is root.
fn user() -> Option<(u32, u32)> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let passwd = is_root.then(|| std::fs::read_to_string("/etc/passwd").unwrap_or_default())?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn as_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = user() {
        command.uid(user).gid(group);
    }
    command
}
