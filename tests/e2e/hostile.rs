//! Our verdicts on a hostile server, beside those of blackbox_exporter on the same doors. The table goes to
//! `docs/measurements.md`.

use crate::support::hostile::{Act, Authority, Gate, open};
use crate::support::{Process, encode, free_port, get, wait_for_port};
use ioc_watch::config::probes::{Probe, http::HttpProbe};
use ioc_watch::config::site::Language;
use ioc_watch::gather::service::{Check, Outcome, Phase, Trust};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(2);

struct Door {
    name: &'static str,
    url: String,
    /// Ours.
    result: &'static str,
    /// Whether blackbox_exporter calls it a success; different only where the table says why.
    theirs: bool,
}

async fn doors(dir: &Path) -> (Vec<Door>, std::path::PathBuf) {
    let (ours, foreign) = (Authority::new(dir, "ours"), Authority::new(dir, "foreign"));
    let fine = || Act::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let pause = Duration::from_millis(200);
    // 64 KiB a write; a test's few bytes are never given back.
    let endless: &'static str = "x".repeat(65_536).leak();
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    let mut bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n".to_vec();
    bomb.extend(gzip_bomb());
    let rows: Vec<(&str, &str, Gate, Act, &str, bool)> = vec![
        ("fine", "http", Gate::Plain, fine(), "ok", true),
        ("fine over TLS", "https", ours.gate("localhost", 2043), fine(), "ok", true),
        ("silent after accepting", "http", Gate::Plain, Act::Silence(""), "hang", false),
        ("silent in the handshake", "https", Gate::Mute, fine(), "hang", false),
        ("silent in the header", "http", Gate::Plain, Act::Silence("HTTP/1.1 200 OK\r\nServer"), "hang", false),
        ("silent in the body", "http", Gate::Plain, Act::Silence(head), "hang", false),
        ("slow header", "http", Gate::Plain, Act::Drip("HTTP/1.1 200 OK\r\nX-A: ", "a", pause), "timeout", false),
        ("drip-fed body", "http", Gate::Plain, Act::Drip(head, "a", pause), "timeout", false),
        // Read to `max_body`, then judged.
        (
            "endless body",
            "http",
            Gate::Plain,
            Act::Drip("HTTP/1.1 200 OK\r\n\r\n", endless, Duration::ZERO),
            "ok",
            false,
        ),
        ("redirect loop", "http", Gate::Plain, Act::Loop, "status", false),
        ("body shorter than announced", "http", Gate::Plain, Act::Answer(format!("{head}abc").into()), "error", false),
        (
            "body longer than announced",
            "http",
            Gate::Plain,
            Act::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokokokok".to_vec()),
            "ok",
            true,
        ),
        ("gzip bomb", "http", Gate::Plain, Act::Answer(bomb), "ok", true),
        ("expired", "https", ours.gate("localhost", 2021), fine(), "tls", false),
        ("foreign CA", "https", foreign.gate("localhost", 2043), fine(), "tls", false),
        ("self-signed", "https", Authority::self_signed("localhost"), fine(), "tls", false),
        ("wrong name", "https", ours.gate("other.example", 2043), fine(), "tls", false),
        ("TLS 1.0 only", "https", Gate::OldTls, fine(), "tls", false),
        ("reset when accepted", "http", Gate::ResetAtOnce, fine(), "error", false),
        ("reset in the handshake", "https", Gate::ResetInHandshake, fine(), "tls", false),
        ("reset before the answer", "http", Gate::Plain, Act::Reset(""), "error", false),
        ("reset in the header", "http", Gate::Plain, Act::Reset("HTTP/1.1 200 OK\r\nSer"), "error", false),
        ("reset in the body", "http", Gate::Plain, Act::Reset(head), "error", false),
    ];
    let mut doors = Vec::new();
    for (name, scheme, gate, act, result, theirs) in rows {
        let url = format!("{scheme}://localhost:{}/", open(gate, act).await);
        doors.push(Door { name, url, result, theirs });
    }
    (doors, ours.ca_file)
}

/// 100 MB of zeros in some 100 kB: as `gzip` packs them.
fn gzip_bomb() -> Vec<u8> {
    let packed = Command::new("sh").args(["-c", "head -c 100000000 /dev/zero | gzip -9"]).output().expect("gzip");
    packed.stdout
}

struct Blackbox {
    port: u16,
    _process: Process,
}

impl Blackbox {
    fn start(dir: &Path, ca_file: &Path) -> Blackbox {
        let port = free_port();
        let config = dir.join("blackbox.yml");
        let text = format!(
            "modules: {{m: {{prober: http, timeout: 2s, http: {{preferred_ip_protocol: ip4, \
             tls_config: {{ca_file: {}}}}}}}}}\n",
            ca_file.display()
        );
        std::fs::write(&config, text).expect("a writable directory");
        let child = Command::new("prometheus-blackbox-exporter")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus-blackbox-exporter is installed");
        wait_for_port("blackbox_exporter", port);
        Blackbox { port, _process: Process(child) }
    }

    fn probe(&self, url: &str) -> Theirs {
        let (_, page) = get(self.port, &format!("/probe?module=m&target={}", encode(url))).expect("it answers");
        let value =
            |name: &str| -> Option<f64> { page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()) };
        Theirs {
            success: value("probe_success ") == Some(1.0),
            seconds: value("probe_duration_seconds ").unwrap_or_default(),
            expiry: value("probe_ssl_earliest_cert_expiry "),
        }
    }
}

struct Theirs {
    success: bool,
    seconds: f64,
    expiry: Option<f64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_on_a_hostile_server_beside_blackbox_exporter() {
    let dir = tempfile::tempdir().unwrap();
    let (doors, ca_file) = doors(dir.path()).await;
    let blackbox = std::sync::Arc::new(Blackbox::start(dir.path(), &ca_file));
    println!("| door | ours | reason | phases reached | s | blackbox_exporter | s |\n|---|---|---|---|---|---|---|");
    let probes = doors.iter().map(|door| {
        let probe = HttpProbe { ca_file: Some(ca_file.clone()), ..HttpProbe::get(door.url.parse().unwrap()) };
        let (url, blackbox) = (door.url.clone(), blackbox.clone());
        async move {
            let check = Check::compile(&Probe::Http(probe), &Trust::default()).await.unwrap();
            let begin = Instant::now();
            let outcome = check.run(TIMEOUT).await;
            let took = begin.elapsed();
            (outcome, took, tokio::task::spawn_blocking(move || blackbox.probe(&url)).await.unwrap())
        }
    });
    let found: Vec<(Outcome, Duration, Theirs)> = futures_util::future::join_all(probes).await;
    for (door, (outcome, took, theirs)) in doors.iter().zip(&found) {
        let phases =
            Phase::ALL.into_iter().filter(|phase| *phase != Phase::Total && outcome.phases.get(*phase).is_some());
        let phases: Vec<&str> = phases.map(Phase::as_str).collect();
        println!(
            "| {} | {} | {} | {} | {:.1} | {} | {:.1} |",
            door.name,
            outcome.result.as_str(),
            outcome.detail.text(Language::En).replace("127.0.0.1:", "127.0.0.1:…"),
            phases.join(" "),
            took.as_secs_f64(),
            if theirs.success { "success" } else { "failure" },
            theirs.seconds
        );
    }
    for (door, (outcome, took, theirs)) in doors.iter().zip(&found) {
        assert_eq!(outcome.result.as_str(), door.result, "{}: {:?}", door.name, outcome.detail);
        assert_eq!(theirs.success, door.theirs, "{}: blackbox_exporter", door.name);
        // The deadline holds, whatever the other side does.
        assert!(*took < TIMEOUT + Duration::from_secs(3), "{}: {took:?}", door.name);
        if let (Some(ours), Some(theirs)) = (outcome.expiry, theirs.expiry) {
            assert_eq!(ours.chain.as_second() as f64, theirs, "{}", door.name);
        }
    }
    let compared = found.iter().filter(|(ours, _, theirs)| ours.expiry.is_some() && theirs.expiry.is_some()).count();
    assert!(compared >= 1, "certificate times were compared");
}
