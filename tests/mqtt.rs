//! Devices over a real mosquitto: passwords, TLS, interruptions, oversized and malformed messages, kept sessions.

#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "mqtt/outage.rs"]
mod outage;
#[path = "mqtt/sparkplug.rs"]
mod sparkplug;
mod support;

use ioc_watch::attribution::{Ledger, State};
use ioc_watch::config::mqtt::{Broker, Decode, Field, Segment, Status, Topic, Version};
use ioc_watch::config::{Id, Problems, Secret, site};
use ioc_watch::gather::device::{self, DeviceError, Fleet, Inventory, Now, Settings, inventory};
use ioc_watch::metrics::{Format, Metrics};
use ioc_watch::store::Store;
use mosquitto::{Mosquitto, certificate, set_password};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TELEMETRY: &str = "ioc/tam-ky/camera/cam-1/telemetry";
const STATUS: &str = "ioc/tam-ky/camera/cam-1/status";

fn id(text: &str) -> Id {
    Id::parse(text).expect("an id")
}

fn broker(port: u16, version: Version) -> Broker {
    let pattern = |last: &str| {
        let literal = |text: &str| Segment::Literal(text.into());
        vec![literal("ioc"), Segment::Agency, Segment::Kind, Segment::Device, literal(last)]
    };
    let field = |key: &str, metric: &str| Field::new(key, metric, 1.0);
    let fields = vec![field("fps", "camera_frames_per_second"), field("clients", "hotspot_clients")];
    let status = Decode::Status(Status::words("online", "offline"));
    Broker {
        id: id("main"),
        host: "127.0.0.1".into(),
        port,
        tls: false,
        ca_file: None,
        version,
        client_id: "ioc-watch-main".into(),
        username: None,
        password: None,
        share: None,
        topics: vec![
            Topic::new(pattern("telemetry"), Decode::Json { fields, each: None }),
            Topic { retained_status: true, ..Topic::new(pattern("status"), status) },
        ],
    }
}

/// The gatherer, as the daemon runs it.
struct Gatherer {
    metrics: Arc<Metrics>,
    fleet: Arc<Fleet>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), DeviceError>>,
    _directory: tempfile::TempDir,
}

impl Gatherer {
    async fn start(broker: Broker, offline_after: Duration) -> Gatherer {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&site::State::Sqlite, directory.path()).await.expect("a database");
        let ledger = Ledger::resume(store.clone()).await.expect("a ledger");
        let metrics = Arc::new(Metrics::new());
        let settings = Settings {
            discover_max: 0,
            offline_after: Some(offline_after),
            forget_after: Duration::from_secs(86_400),
            rate_limit: None,
            shard: None,
            agencies: [id("tam-ky"), id("ioc")].into(),
            site_agency: id("ioc"),
        };
        let listed = listed(directory.path(), &settings);
        let fleet = Fleet::open(metrics.clone(), ledger, store, settings, &listed, Now::read()).await.expect("a fleet");
        let stop = CancellationToken::new();
        let task = tokio::spawn(device::run(vec![broker], fleet.clone(), stop.clone()));
        Gatherer { metrics, fleet, stop, task, _directory: directory }
    }

    /// Stops listening; the fleet stays, as at a reload.
    async fn pause(&mut self) {
        self.stop.cancel();
        let ended = (&mut self.task).await.expect("no panic");
        ended.expect("a clean end");
    }

    fn resume(&mut self, broker: Broker) {
        self.stop = CancellationToken::new();
        self.task = tokio::spawn(device::run(vec![broker], self.fleet.clone(), self.stop.clone()));
    }

    /// The value of the only series that contains `part`.
    fn value(&self, part: &str) -> Option<f64> {
        let page = self.metrics.render(Format::Text);
        let line = page.lines().find(|line| !line.starts_with('#') && line.contains(part))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    fn count(&self, result: &str) -> f64 {
        self.value(&format!(r#"ioc_mqtt_messages_total{{agency="ioc",broker="main",result="{result}"}}"#))
            .unwrap_or(0.0)
    }

    fn fps(&self) -> Option<f64> {
        self.value("ioc_camera_frames_per_second{")
    }

    async fn until(&self, what: &str, condition: impl Fn(&Gatherer) -> bool) {
        // Longer than the longest wait between two attempts to connect.
        let deadline = Instant::now() + Duration::from_secs(40);
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what}\n{}", self.metrics.render(Format::Text));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn connected(&self, wanted: f64) {
        let what = format!("connected {wanted}");
        self.until(&what, |gatherer| gatherer.value("ioc_mqtt_connected{") == Some(wanted)).await;
    }
}

fn listed(directory: &std::path::Path, settings: &Settings) -> Inventory {
    let file = directory.join("devices.csv");
    let rows = "id,kind,agency,site,village,name,lat,lon,state\n\
                cam-1,camera,tam-ky,nvh-1,Thôn 1,Cổng,15.57,108.47,installed\n\
                ap-1,hotspot,tam-ky,nvh-1,Thôn 1,Nhà văn hóa,,,installed\n";
    std::fs::write(&file, rows).expect("the inventory is written");
    let mut problems = Problems::default();
    let inventory = inventory::load(&file, &settings.agencies, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    inventory
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telemetry_flows_and_resumes_after_the_broker_was_away() {
    let mut mosquitto = Mosquitto::start("allow_anonymous true");
    mosquitto.publish(&["-r"], TELEMETRY, br#"{"fps":11}"#);
    let gatherer = Gatherer::start(broker(mosquitto.port, Version::V5), Duration::from_secs(2)).await;
    gatherer.connected(1.0).await;
    gatherer.until("the retained message", |g| g.count("retained_ignored") == 1.0).await;
    assert_eq!(gatherer.fps(), None, "a retained message is no telemetry");

    mosquitto.publish(&[], TELEMETRY, br#"{"fps":24}"#);
    gatherer.until("telemetry", |g| g.fps() == Some(24.0)).await;
    mosquitto.publish(&[], TELEMETRY, b"{\"fps\":");
    mosquitto.publish(&[], TELEMETRY, br#"{"fps":"fast"}"#);
    mosquitto.publish(&[], "ioc/tam-ky/camera/stranger/telemetry", br#"{"fps":24}"#);
    mosquitto.publish(&[], "ioc/ioc/camera/cam-1/telemetry", br#"{"fps":1}"#);
    for result in ["malformed", "bad_value", "unlisted", "agency_mismatch", "ok"] {
        gatherer.until(result, |g| g.count(result) == 1.0).await;
    }
    assert_eq!(gatherer.value("ioc_mqtt_devices_unlisted{"), Some(1.0));
    assert_eq!(gatherer.fps(), Some(24.0));

    // Silent for its time while we are connected: offline.
    gatherer.until("offline", |g| g.fleet.state("cam-1") == Some(State::Down)).await;
    mosquitto.publish(&["-r"], STATUS, b"online");
    gatherer.until("online", |g| g.fleet.state("cam-1") == Some(State::Up)).await;

    // Not connected for longer than that: unknown.
    mosquitto.stop("TERM");
    gatherer.connected(0.0).await;
    gatherer.until("unknown", |g| g.fleet.state("cam-1") == Some(State::Unknown)).await;
    // By itself the reconnection's backoff is not long enough to be seen: IOC_WATCH_BROKER_AWAY=60 makes it.
    let away = std::env::var("IOC_WATCH_BROKER_AWAY").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    tokio::time::sleep(Duration::from_secs(away)).await;
    mosquitto.resume();
    mosquitto.publish(&[], TELEMETRY, br#"{"fps":25}"#);
    gatherer.until("telemetry again", |g| g.fps() == Some(25.0)).await;
    assert_eq!(gatherer.value("ioc_mqtt_connected{"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_again_and_again_costs_no_session() {
    for version in [Version::V3, Version::V5] {
        let mut mosquitto = Mosquitto::start("allow_anonymous true");
        let gatherer = Gatherer::start(broker(mosquitto.port, version), Duration::from_secs(60)).await;
        for fps in 1..=3 {
            gatherer.connected(1.0).await;
            mosquitto.publish(&[], TELEMETRY, format!(r#"{{"fps":{fps}}}"#).as_bytes());
            gatherer.until("telemetry", |g| g.fps() == Some(f64::from(fps))).await;
            mosquitto.stop("KILL");
            gatherer.connected(0.0).await;
            mosquitto.resume();
        }
        gatherer.connected(1.0).await;
        assert_eq!((gatherer.count("session_cleared"), gatherer.count("malformed")), (0.0, 0.0));
        assert_eq!(gatherer.count("ok"), 3.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_is_tried_again_over_tls() {
    ioc_watch::install_tls_provider();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let passwords = directory.path().join("passwords");
    set_password(&passwords, "ioc", "old");
    let (certificate, _) = certificate(directory.path());
    let config = "allow_anonymous false\npassword_file DIR/passwords\ncertfile DIR/cert.pem\nkeyfile DIR/key.pem";
    let mosquitto = Mosquitto::start_in(directory, config);
    let login = Broker {
        tls: true,
        ca_file: Some(certificate.clone()),
        username: Some("ioc".into()),
        password: Some(Secret::new("new")),
        ..broker(mosquitto.port, Version::V5)
    };
    let gatherer = Gatherer::start(login, Duration::from_secs(60)).await;
    let log = mosquitto.directory.path().join("log");
    gatherer.until("refused", |_| std::fs::read_to_string(&log).unwrap_or_default().contains("not authorised")).await;
    assert_eq!(gatherer.value("ioc_mqtt_connected{"), Some(0.0));

    set_password(&passwords, "ioc", "new");
    mosquitto.signal("HUP");
    gatherer.connected(1.0).await;
    let ca = certificate.display().to_string();
    mosquitto.publish(&["--cafile", &ca, "-u", "ioc", "-P", "new"], TELEMETRY, br#"{"fps":24}"#);
    gatherer.until("telemetry", |g| g.fps() == Some(24.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_message_neither_kills_nor_sticks() {
    let mosquitto = Mosquitto::start("allow_anonymous true");
    let v3 = Gatherer::start(broker(mosquitto.port, Version::V3), Duration::from_secs(60)).await;
    let other = Broker { client_id: "ioc-watch-v5".into(), ..broker(mosquitto.port, Version::V5) };
    let v5 = Gatherer::start(other, Duration::from_secs(60)).await;
    v3.connected(1.0).await;
    v5.connected(1.0).await;

    // Version 5 has told the broker to withhold it; version 3.1.1 reads and counts it.
    let large = format!(r#"{{"fps":1,"filler":"{}"}}"#, "x".repeat(200 * 1024));
    mosquitto.publish(&[], TELEMETRY, large.as_bytes());
    v3.until("oversized", |g| g.count("oversized") == 1.0).await;
    mosquitto.publish(&[], TELEMETRY, br#"{"fps":24}"#);
    v3.until("telemetry", |g| g.fps() == Some(24.0)).await;
    v5.until("telemetry", |g| g.fps() == Some(24.0)).await;
    assert_eq!(v3.count("session_cleared"), 0.0);

    // Beyond what is read at all: the second time in a row the session goes, then all is well.
    mosquitto.publish(&[], TELEMETRY, "x".repeat(2 * 1024 * 1024).as_bytes());
    v3.until("cleared", |g| g.count("session_cleared") == 1.0).await;
    v3.connected(1.0).await;
    mosquitto.publish(&[], TELEMETRY, br#"{"fps":25}"#);
    v3.until("telemetry after it", |g| g.fps() == Some(25.0)).await;
    v5.until("telemetry after it", |g| g.fps() == Some(25.0)).await;
    assert_eq!((v3.count("session_cleared"), v3.count("oversized")), (1.0, 3.0));
    assert_eq!(v5.count("oversized"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_sent_while_the_daemon_was_away_are_processed() {
    let mosquitto = Mosquitto::start("allow_anonymous true");
    for version in [Version::V3, Version::V5] {
        let mut gatherer = Gatherer::start(broker(mosquitto.port, version), Duration::from_secs(60)).await;
        gatherer.connected(1.0).await;
        mosquitto.publish(&[], TELEMETRY, br#"{"fps":1}"#);
        gatherer.until("telemetry", |g| g.fps() == Some(1.0)).await;
        gatherer.pause().await;
        assert_eq!(gatherer.value("ioc_mqtt_connected{"), Some(0.0));
        let lines: String = (1..=3_000).map(|number| format!("{{\"fps\":{number}}}\n")).collect();
        mosquitto.publish_lines(TELEMETRY, &lines);
        gatherer.resume(broker(mosquitto.port, version));
        gatherer.until("all of them", |g| g.count("ok") == 3_001.0).await;
        assert_eq!(gatherer.fps(), Some(3_000.0), "in their order");
        gatherer.pause().await;
    }
}

/// The program itself, beside a daemon whose session it must not disturb.
#[test]
fn mqtt_watch_shows_what_arrives_and_why_it_is_rejected() {
    use std::io::{BufRead, BufReader};
    let mosquitto = Mosquitto::start("allow_anonymous true");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("ioc-watch.yml");
    let devices = "id,kind,agency,site,village,name,lat,lon,state\ncong,camera,ioc,,Thôn 1,Cổng,,,installed\n";
    std::fs::write(directory.path().join("devices.csv"), devices).expect("the inventory is written");
    let config = format!(
        "site: {{name: IOC, agency: ioc, language: en}}\n\
         people: [{{id: truc, name: Cán bộ trực, email: truc@ioc.vn.example}}]\n\
         agencies: [{{id: ioc, name: IOC, leader: truc}}]\n\
         devices: {{inventory: devices.csv}}\n\
         mqtt: [{{id: main, url: \"mqtt://127.0.0.1:{}\", topics: [{{preset: frigate, agency: ioc}}]}}]\n",
        mosquitto.port
    );
    std::fs::write(&file, config).expect("the configuration is written");
    let mut watch = std::process::Command::new(env!("CARGO_BIN_EXE_ioc-watch"))
        .args(["mqtt-watch", "--filter", "#", "--count", "3", "--seconds", "60", "--config"])
        .arg(&file)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stderr = BufReader::new(watch.stderr.take().expect("a pipe"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("a line");
    assert_eq!(line, "connected to main; Ctrl-C ends it\n");
    // The subscription follows the welcome; a retained message comes whenever it is there.
    mosquitto.publish(&["-r"], "frigate/cong/status/record", b"offline");
    mosquitto.publish(&["-r"], "frigate/stats", br#"{"cameras":{"cong":{"camera_fps":5.0},"cho":{"camera_fps":0}}}"#);
    mosquitto.publish(&["-r"], "other/thing", b"\x00\xff");
    let output = watch.wait_with_output().expect("it ends by itself");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text}");
    for part in [
        "✗ cho: in no inventory, and \"discover\" does not admit it",
        "(not UTF-8) 00 ff",
        "✗ no configured topic describes it",
        r#"{"cameras":{"cong":{"camera_fps":5.0}"#,
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
