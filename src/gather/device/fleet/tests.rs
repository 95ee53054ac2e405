//! The fleet through the messages of a broker: what a scrape and the ledger show afterwards.

use super::super::inventory::{Inventory, Life, Listing};
use super::super::link::Message;
use super::super::message::handle;
use super::super::topic::Topics;
use super::super::{Outcome, message::Memory};
use super::{Fleet, Now, Settings};
use crate::attribution::{Ledger, State, Subject, SubjectKind};
use crate::config::Id;
use crate::config::devices::DeviceKind;
use crate::config::mqtt::{Broker, Decode, Field, Segment, Status, Topic, Version};
use crate::metrics::{Format, Metrics};
use crate::store::{Store, testing::Database};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) fn id(text: &str) -> Id {
    Id::parse(text).unwrap_or_else(|| panic!("{text}"))
}

pub(super) fn broker() -> Broker {
    let pattern = |last: &str| {
        let literal = |text: &str| Segment::Literal(text.into());
        vec![literal("ioc"), Segment::Agency, Segment::Kind, Segment::Device, literal(last)]
    };
    let field = |key: &str, metric: &str, multiply| Field::new(key, metric, multiply);
    let fields = vec![
        field("fps", "camera_frames_per_second", 1.0),
        field("kbps", "camera_bitrate_bits_per_second", 1000.0),
        field("rec", "camera_recording", 1.0),
        field("online", "device_up", 1.0),
        field("clients", "hotspot_clients", 1.0),
        field("rx", "hotspot_receive_bytes_total", 1.0),
        field("wan", "hotspot_uplink_up", 1.0),
    ];
    let status = Decode::Status(Status::words("online", "offline"));
    Broker {
        id: id("main"),
        host: "127.0.0.1".into(),
        port: 1,
        tls: false,
        ca_file: None,
        version: Version::V5,
        client_id: "ioc-watch-main".into(),
        username: None,
        password: None,
        share: None,
        topics: vec![
            Topic { time: Some("ts".into()), ..Topic::new(pattern("telemetry"), Decode::Json { fields, each: None }) },
            Topic { retained_status: true, ..Topic::new(pattern("status"), status) },
        ],
    }
}

pub(super) fn listing(device: &str, kind: DeviceKind, life: Life) -> Listing {
    Listing {
        site: "nvh-1".into(),
        village: "Thôn 1".into(),
        name: "Cổng".into(),
        life,
        ..super::discovered_listing(id(device), kind, id("tam-ky"))
    }
}

pub(super) fn listings() -> [Listing; 4] {
    [
        listing("cam-1", DeviceKind::Camera, Life::Installed),
        listing("cam-2", DeviceKind::Camera, Life::Planned),
        listing("cam-3", DeviceKind::Camera, Life::Retired),
        listing("ap-1", DeviceKind::Hotspot, Life::Installed),
    ]
}

pub(super) fn inventory() -> Inventory {
    Inventory { devices: listings().into_iter().collect() }
}

pub(super) fn settings(discover_max: usize) -> Settings {
    Settings {
        discover_max,
        offline_after: Some(Duration::from_secs(180)),
        forget_after: Duration::from_secs(86_400),
        rate_limit: None,
        shard: None,
        agencies: [id("tam-ky"), id("ioc")].into(),
        site_agency: id("ioc"),
    }
}

pub(super) struct World {
    pub metrics: Arc<Metrics>,
    pub ledger: Ledger,
    pub store: Store,
    pub fleet: Arc<Fleet>,
    topics: Topics,
    memory: Mutex<Memory>,
    /// The broker over which messages come.
    link: AtomicUsize,
    pub start: Now,
    _database: Database,
}

impl World {
    pub async fn new(discover_max: usize) -> World {
        World::on(Database::sqlite().await, discover_max).await
    }

    async fn on(database: Database, discover_max: usize) -> World {
        let store = database.store.clone();
        let ledger = Ledger::resume(store.clone()).await.unwrap_or_else(|error| panic!("{error}"));
        let metrics = Arc::new(Metrics::new());
        let start = Now::read();
        let fleet =
            Fleet::open(metrics.clone(), ledger.clone(), store.clone(), settings(discover_max), &inventory(), start)
                .await
                .unwrap_or_else(|error| panic!("{error}"));
        fleet.configure_links(&[id("main")]);
        fleet.link_changed(0, true, start.tick);
        let topics = Topics::compile(&broker()).unwrap_or_else(|error| panic!("{error}"));
        World {
            metrics,
            ledger,
            store,
            fleet,
            topics,
            memory: Mutex::default(),
            link: AtomicUsize::new(0),
            start,
            _database: database,
        }
    }

    /// The daemon again, on the same database and with nothing heard yet.
    pub async fn restarted(self, settings: Settings, seconds: u64) -> World {
        let metrics = Arc::new(Metrics::new());
        let now = self.at(seconds);
        let fleet =
            Fleet::open(metrics.clone(), self.ledger.clone(), self.store.clone(), settings, &inventory(), now).await;
        let fleet = fleet.unwrap_or_else(|error| panic!("{error}"));
        fleet.configure_links(&[id("main")]);
        fleet.link_changed(0, true, now.tick);
        World { metrics, fleet, ..self }
    }

    pub fn at(&self, seconds: u64) -> Now {
        let wall = self.start.wall + jiff::SignedDuration::from_secs(seconds as i64);
        Now { wall, tick: self.start.tick + Duration::from_secs(seconds) }
    }

    /// Messages come over this broker from now on.
    pub fn over(&self, link: usize) -> &World {
        self.link.store(link, Ordering::Relaxed);
        self
    }

    pub fn send(&self, seconds: u64, topic: &str, payload: &[u8], retain: bool) -> Outcome {
        let topic = bytes::Bytes::copy_from_slice(topic.as_bytes());
        let message = Message { topic, payload: bytes::Bytes::copy_from_slice(payload), retain };
        let mut session = self.fleet.session(self.link.load(Ordering::Relaxed), self.at(seconds));
        handle(&self.topics, &mut self.memory.lock().unwrap(), &mut session, &message)
    }

    pub fn telemetry(&self, seconds: u64, device: &str, payload: &str) -> Outcome {
        self.send(seconds, &format!("ioc/tam-ky/{device}/telemetry"), payload.as_bytes(), false)
    }

    /// The lines of the page that contain `part`, without comments.
    pub fn shown(&self, part: &str) -> Vec<String> {
        let page = self.metrics.render(Format::Text);
        page.lines().filter(|line| !line.starts_with('#') && line.contains(part)).map(str::to_string).collect()
    }

    pub fn value(&self, family: &str, device: &str) -> Option<f64> {
        let lines = self.shown(&format!("device=\"{device}\""));
        let line = lines.iter().find(|line| line.starts_with(&format!("{family}{{")))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    pub fn ledger_state(&self, kind: SubjectKind, device: &str) -> Option<State> {
        self.ledger.current(&Subject { kind, id: device.into() }).map(|(state, _)| state)
    }
}

#[tokio::test]
async fn a_device_is_unknown_then_up_then_down_and_its_series_follow() {
    let world = World::new(0).await;
    assert_eq!(world.value("ioc_device_installed", "cam-1"), Some(1.0));
    assert_eq!(world.value("ioc_device_up", "cam-1"), None, "unknown");
    assert_eq!(world.ledger_state(SubjectKind::Camera, "cam-1"), Some(State::Unknown));

    let said = world.telemetry(1, "camera/cam-1", r#"{"fps":24.5,"kbps":1500,"rec":true,"clients":3}"#);
    assert_eq!(said, Outcome::Ok);
    for (family, value) in [
        ("ioc_device_up", 1.0),
        ("ioc_device_usable", 1.0),
        ("ioc_camera_frames_per_second", 24.5),
        ("ioc_camera_bitrate_bits_per_second", 1_500_000.0),
        ("ioc_camera_recording", 1.0),
        ("ioc_device_info", 1.0),
    ] {
        assert_eq!(world.value(family, "cam-1"), Some(value), "{family}");
    }
    assert_eq!(world.value("ioc_hotspot_clients", "cam-1"), None);
    world.telemetry(2, "camera/cam-1", r#"{"fps":0}"#);
    assert_eq!(world.value("ioc_device_usable", "cam-1"), Some(0.0), "no frames");
    assert_eq!(world.value("ioc_camera_recording", "cam-1"), Some(1.0), "what a message does not name stays");
    let seen = world.value("ioc_device_last_seen_timestamp_seconds", "cam-1");

    world.fleet.sweep(world.at(181));
    assert_eq!(world.value("ioc_device_up", "cam-1"), Some(1.0));
    assert_eq!(world.fleet.state("ap-1"), Some(State::Down), "never heard in its time");
    world.fleet.sweep(world.at(182));
    assert_eq!(world.value("ioc_device_up", "cam-1"), Some(0.0));
    assert_eq!(world.value("ioc_device_usable", "cam-1"), Some(0.0));
    assert_eq!(world.value("ioc_camera_frames_per_second", "cam-1"), None, "telemetry ends");
    assert_eq!(world.value("ioc_device_last_seen_timestamp_seconds", "cam-1"), seen, "last seen stays");
    assert_eq!(world.ledger_state(SubjectKind::Camera, "cam-1"), Some(State::Down));

    world.telemetry(300, "camera/cam-1", r#"{"online":false,"fps":20}"#);
    assert_eq!(world.value("ioc_device_up", "cam-1"), Some(0.0), "it says so itself");
    assert_eq!(world.value("ioc_camera_frames_per_second", "cam-1"), None);
    world.telemetry(301, "camera/cam-1", r#"{"online":true,"fps":20}"#);
    assert_eq!(world.value("ioc_camera_frames_per_second", "cam-1"), Some(20.0));
    world.telemetry(302, "hotspot/ap-1", r#"{"wan":false,"clients":4,"rx":1000}"#);
    assert_eq!(world.value("ioc_device_usable", "ap-1"), Some(0.0), "no internet");
}

#[tokio::test]
async fn planned_devices_are_counted_but_not_judged() {
    let world = World::new(0).await;
    assert_eq!(world.telemetry(1, "camera/cam-2", r#"{"fps":24}"#), Outcome::Ok);
    assert_eq!(world.value("ioc_device_installed", "cam-2"), Some(0.0));
    assert_eq!(world.value("ioc_device_up", "cam-2"), None);
    assert_eq!(world.ledger_state(SubjectKind::Camera, "cam-2"), None);
    assert_eq!(world.telemetry(1, "camera/cam-3", r#"{"fps":24}"#), Outcome::Retired);
    assert_eq!(world.shown("cam-3"), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_hostile_makes_a_series() {
    let world = World::new(0).await;
    let before = world.metrics.render(Format::Text).lines().count();
    let rows: [(&str, &[u8], bool, Outcome); 12] = [
        ("ioc/tam-ky/camera/cam-9/telemetry", b"{}", false, Outcome::Unlisted),
        ("ioc/tam-ky/camera/x\" y/telemetry", b"{}", false, Outcome::Unlisted),
        ("ioc/hoi-an/camera/cam-1/telemetry", b"{}", false, Outcome::AgencyMismatch),
        ("ioc/tam-ky/hotspot/cam-1/telemetry", b"{}", false, Outcome::KindMismatch),
        ("ioc/tam-ky/toaster/cam-1/telemetry", b"{}", false, Outcome::UnknownTopic),
        ("a/b/c/d/e/f/g/h/i/j", b"{}", false, Outcome::UnknownTopic),
        ("ioc/tam-ky/camera/cam-1/telemetry", b"{", false, Outcome::Malformed),
        ("ioc/tam-ky/camera/cam-1/telemetry", b"\xff\xfe", false, Outcome::Malformed),
        ("ioc/tam-ky/camera/cam-1/telemetry", b"{\"fps\":1e400}", false, Outcome::Malformed),
        ("ioc/tam-ky/camera/cam-1/telemetry", b"{\"fps\":20}", true, Outcome::RetainedIgnored),
        ("ioc/tam-ky/camera/cam-1/status", b"maybe", false, Outcome::Malformed),
        ("ioc/tam-ky/camera/cam-1/status", b"", true, Outcome::Malformed),
    ];
    for (topic, payload, retain, expected) in rows {
        assert_eq!(world.send(1, topic, payload, retain), expected, "{topic}");
    }
    assert_eq!(world.metrics.render(Format::Text).lines().count(), before);
    assert_eq!(world.fleet.n_unlisted(0), 1, "only ids that could be listed are remembered");
    for number in 0..20_000 {
        world.telemetry(1, &format!("camera/flood-{number}"), "{}");
    }
    assert_eq!(world.fleet.n_unlisted(0), super::MAX_UNLISTED);
}

#[tokio::test]
async fn a_retained_word_is_state_but_not_being_seen() {
    let world = World::new(0).await;
    assert_eq!(world.send(1, "ioc/tam-ky/camera/cam-1/status", b"online", true), Outcome::Ok);
    assert_eq!(world.value("ioc_device_up", "cam-1"), Some(1.0));
    assert_eq!(world.value("ioc_device_last_seen_timestamp_seconds", "cam-1"), None);
    assert_eq!(world.send(2, "ioc/tam-ky/camera/cam-1/status", b"online\n", false), Outcome::Ok);
    assert!(world.value("ioc_device_last_seen_timestamp_seconds", "cam-1").is_some());
    assert_eq!(world.send(3, "ioc/tam-ky/camera/cam-1/status", b"offline", true), Outcome::Ok);
    assert_eq!(world.value("ioc_device_up", "cam-1"), Some(0.0));
}

#[tokio::test]
async fn while_we_are_cut_off_devices_become_unknown_and_not_offline() {
    let world = World::new(0).await;
    world.telemetry(1, "camera/cam-1", r#"{"fps":24}"#);
    world.fleet.link_changed(0, false, world.at(2).tick);
    world.fleet.sweep(world.at(200));
    assert_eq!(world.fleet.state("cam-1"), Some(State::Unknown));
    assert_eq!(world.value("ioc_device_up", "cam-1"), None);
    assert_eq!(world.value("ioc_camera_frames_per_second", "cam-1"), None);
    assert_eq!(world.ledger_state(SubjectKind::Camera, "cam-1"), Some(State::Unknown));
    world.fleet.link_changed(0, true, world.at(210).tick);
    world.fleet.sweep(world.at(389));
    assert_eq!(world.fleet.state("cam-1"), Some(State::Unknown));
    world.fleet.sweep(world.at(390));
    assert_eq!(world.fleet.state("cam-1"), Some(State::Down));
}

#[tokio::test]
async fn a_new_inventory_keeps_what_is_known_and_ends_what_is_gone() {
    let world = World::new(0).await;
    world.telemetry(1, "camera/cam-1", r#"{"fps":24}"#);
    world.telemetry(1, "hotspot/ap-1", r#"{"clients":3}"#);
    let mut moved = listing("cam-1", DeviceKind::Camera, Life::Installed);
    moved.site = "nvh-2".into();
    world.fleet.replace(settings(0), &Inventory { devices: [moved].into_iter().collect() }, world.at(2));
    assert_eq!(world.fleet.state("cam-1"), Some(State::Up));
    let up = world.shown("ioc_device_up");
    assert_eq!(up, [r#"ioc_device_up{agency="tam-ky",kind="camera",site="nvh-2",device="cam-1"} 1"#]);
    assert_eq!(world.shown("ap-1"), Vec::<String>::new());
    assert_eq!(world.ledger_state(SubjectKind::Hotspot, "ap-1"), None);
    assert_eq!(world.telemetry(3, "camera/cam-1", r#"{"fps":23}"#), Outcome::Ok);
    assert_eq!(world.value("ioc_camera_frames_per_second", "cam-1"), Some(23.0));
    world.fleet.replace(settings(0), &inventory(), world.at(4));
    assert_eq!(world.fleet.state("cam-1"), Some(State::Up));
    assert_eq!(world.fleet.state("ap-1"), Some(State::Unknown));
}

#[tokio::test]
async fn unlisted_devices_are_admitted_up_to_a_maximum_and_forgotten() {
    let world = World::new(2).await;
    assert_eq!(world.telemetry(1, "camera/new-1", "{"), Outcome::Malformed, "nonsense admits nobody");
    assert_eq!(world.fleet.len(), 4);
    assert_eq!(world.telemetry(1, "camera/new-1", r#"{"fps":24}"#), Outcome::Ok);
    assert_eq!(world.telemetry(50_000, "hotspot/new-2", r#"{"clients":1}"#), Outcome::Ok);
    assert_eq!(world.telemetry(50_000, "camera/new-3", r#"{"fps":24}"#), Outcome::Unlisted);
    assert_eq!(world.value("ioc_camera_frames_per_second", "new-1"), Some(24.0));
    world.fleet.forget(world.at(86_402));
    assert_eq!(world.shown("new-1"), Vec::<String>::new());
    assert_eq!(world.value("ioc_hotspot_clients", "new-2"), Some(1.0));
    assert_eq!(world.telemetry(86_403, "camera/new-3", r#"{"fps":24}"#), Outcome::Ok);
}

#[tokio::test]
async fn last_seen_survives_a_restart_and_the_state_does_not() {
    for world in [World::new(1).await, World::on(Database::postgres().await, 1).await] {
        world.telemetry(1, "camera/cam-1", r#"{"fps":24}"#);
        world.telemetry(1, "camera/new-1", r#"{"fps":24}"#);
        let seen = world.value("ioc_device_last_seen_timestamp_seconds", "cam-1");
        assert!(seen.is_some());
        world.fleet.flush(world.at(2).wall).await.unwrap_or_else(|error| panic!("{error}"));
        let metrics = Arc::new(Metrics::new());
        let (ledger, store) = (world.ledger.clone(), world.store.clone());
        let again = Fleet::open(metrics.clone(), ledger, store, settings(1), &inventory(), world.at(10)).await;
        let again = again.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.state("cam-1"), Some(State::Unknown));
        assert_eq!(again.state("new-1"), Some(State::Unknown), "a discovered device is remembered");
        let restarted = World { metrics, fleet: again, ..world };
        assert_eq!(restarted.value("ioc_device_last_seen_timestamp_seconds", "cam-1"), seen);
        assert_eq!(restarted.value("ioc_device_up", "cam-1"), None);
    }
}
