//! A mosquitto of our own on a free loopback port, and messages sent to it with mosquitto_pub.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running broker; ends with the value.
pub struct Mosquitto {
    pub directory: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts a broker that keeps sessions on disk. `extra` is added to its configuration; `DIR` in it is the broker's
    /// directory.
    pub fn start(extra: &str) -> Mosquitto {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Mosquitto::start_in(directory, extra)
    }

    /// As [`Mosquitto::start`], in a directory that already holds password files or certificates.
    pub fn start_in(directory: tempfile::TempDir, extra: &str) -> Mosquitto {
        let port = free_port();
        let place = directory.path().display().to_string();
        let config = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence true\npersistence_location {place}/\n\
             max_queued_messages 10000\nlog_dest file {place}/log\n{}\n",
            extra.replace("DIR", &place)
        );
        std::fs::write(directory.path().join("mosquitto.conf"), config).expect("the configuration is written");
        let mut broker = Mosquitto { directory, port, child: None };
        broker.resume();
        broker
    }

    /// Starts the broker again after [`Mosquitto::stop`].
    pub fn resume(&mut self) {
        let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let child = Command::new(program)
            .arg("-c")
            .arg(self.directory.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the broker, with `TERM` as an administrator would (it keeps its sessions) or with `KILL`.
    pub fn stop(&mut self, signal: &str) {
        self.signal(signal);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// `HUP` makes it read its password file again.
    pub fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            let _ = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
        }
    }

    /// Waits until somebody has subscribed to exactly this filter. Needs `log_type subscribe` in the configuration.
    pub fn wait_subscribed(&self, filter: &str) {
        let log = self.directory.path().join("log");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !std::fs::read_to_string(&log).unwrap_or_default().contains(filter) {
            assert!(Instant::now() < deadline, "nobody subscribes to {filter}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Publishes one message at QoS 1 and waits until the broker has it.
    pub fn publish(&self, arguments: &[&str], topic: &str, payload: &[u8]) {
        self.feed(arguments, topic, "-s", payload);
    }

    /// Publishes each line as a message at QoS 1.
    pub fn publish_lines(&self, topic: &str, lines: &str) {
        self.feed(&[], topic, "-l", lines.as_bytes());
    }

    fn feed(&self, arguments: &[&str], topic: &str, input: &str, payload: &[u8]) {
        let port = self.port.to_string();
        let mut child = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-V", "mqttv5", "-t", topic, input])
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("mosquitto_pub is installed");
        child.stdin.take().expect("a pipe").write_all(payload).expect("mosquitto_pub reads");
        assert!(child.wait().expect("mosquitto_pub ends").success(), "publishing to {topic}");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Makes a password file for mosquitto with one user.
pub fn set_password(file: &Path, user: &str, password: &str) {
    let status = Command::new("mosquitto_passwd").args(["-c", "-b"]).arg(file).args([user, password]).status();
    assert!(status.expect("mosquitto_passwd is installed").success());
}

/// A certificate for 127.0.0.1 and its key, signed by itself.
pub fn certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("openssl is installed").success());
    (certificate, key)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
