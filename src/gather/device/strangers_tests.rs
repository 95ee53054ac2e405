//! What other makers' devices publish, read by configuration alone: each sample is written after the sender's own
//! documentation, which is named beside it.

use super::fleet::{Fleet, Now, Settings};
use super::inventory::{Inventory, Life, Listing};
use super::link::Message;
use super::message::{Memory, handle};
use super::outcome::Outcome;
use super::topic::Topics;
use crate::attribution::Ledger;
use crate::config::devices::DeviceKind;
use crate::config::{self, Id};
use crate::metrics::{Format, Metrics};
use crate::store::testing::Database;
use std::sync::{Arc, Mutex};

pub(super) struct World {
    metrics: Arc<Metrics>,
    fleet: Arc<Fleet>,
    topics: Topics,
    pub memory: Mutex<Memory>,
    pub now: Now,
    _database: Database,
}

/// A configuration with these topics, and devices `ID KIND`, or `ID KIND never` if its silence says nothing.
pub(super) async fn world(topics: &str, devices: &[&str]) -> World {
    let text = format!(
        "site: {{name: IOC, agency: ioc, timezone: Asia/Ho_Chi_Minh}}\n\
         people: [{{id: truc, name: Trực IOC, email: truc@ioc.vn.example}}]\n\
         agencies: [{{id: ioc, name: IOC, leader: truc}}, {{id: tam-ky, name: Tam Kỳ, leader: truc}}]\n\
         mqtt: [{{id: main, url: \"mqtt://127.0.0.1:1\", topics: [{topics}]}}]\n\
         devices: {{discover: {{max: 5}}}}\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ioc-watch.yml");
    std::fs::write(&file, text).unwrap();
    let config = config::load(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
    let database = Database::sqlite().await;
    let ledger = Ledger::resume(database.store.clone()).await.unwrap();
    let metrics = Arc::new(Metrics::new());
    let now = Now::read();
    let listing = |device: &&str| {
        let mut words = device.split(' ');
        let (id, kind) = (words.next().unwrap(), words.next().unwrap());
        let kind = DeviceKind::ALL.into_iter().find(|known| known.as_str() == kind).unwrap();
        Arc::new(Listing {
            village: "Thôn 1".into(),
            life: Life::Installed,
            offline_after: words.next().map(|_| None),
            ..super::fleet::discovered_listing(Id::parse(id).unwrap(), kind, Id::parse("tam-ky").unwrap())
        })
    };
    let inventory = Inventory { devices: devices.iter().map(listing).collect() };
    let settings = Settings { discover_max: 0, ..Settings::new(&config) };
    let fleet = Fleet::open(metrics.clone(), ledger, database.store.clone(), settings, &inventory, now).await.unwrap();
    fleet.configure_links(&[Id::parse("main").unwrap()]);
    fleet.link_changed(0, true, now.tick);
    let topics = Topics::compile(&config.mqtt[0]).unwrap();
    World { metrics, fleet, topics, memory: Mutex::default(), now, _database: database }
}

impl World {
    pub fn send(&self, topic: &str, payload: &str) -> Outcome {
        self.message(topic, payload, false)
    }

    fn message(&self, topic: &str, payload: &str, retain: bool) -> Outcome {
        self.bytes(topic, payload.as_bytes(), retain)
    }

    pub fn bytes(&self, topic: &str, payload: &[u8], retain: bool) -> Outcome {
        self.raw(topic.as_bytes(), payload, retain)
    }

    pub fn raw(&self, topic: &[u8], payload: &[u8], retain: bool) -> Outcome {
        let topic = bytes::Bytes::copy_from_slice(topic);
        let message = Message { topic, payload: bytes::Bytes::copy_from_slice(payload), retain };
        let mut memory = self.memory.lock().unwrap();
        handle(&self.topics, &mut memory, &mut self.fleet.session(0, self.now), &message)
    }

    /// Lets time pass.
    pub fn wait(&mut self, seconds: u64) {
        let step = std::time::Duration::from_secs(seconds);
        self.now = Now { wall: self.now.wall + step, tick: self.now.tick + step };
        self.fleet.sweep(self.now);
    }

    /// Our connection to the broker was away, and is there again.
    pub fn reconnect(&self) {
        self.fleet.link_changed(0, false, self.now.tick);
        self.fleet.link_changed(0, true, self.now.tick);
    }

    pub fn page(&self) -> String {
        self.metrics.render(Format::Text)
    }

    /// The device's samples, as `name value`, without the prefix `ioc_`, its last sighting and the inventory's.
    pub fn shown(&self, device: &str) -> String {
        let page = self.metrics.render(Format::Text);
        let own = format!("device=\"{device}\"");
        let lines = page.lines().filter(|line| !line.starts_with('#') && line.contains(&own));
        let left_out = ["ioc_device_last_seen", "ioc_device_installed", "ioc_device_info"];
        let mut samples: Vec<String> = lines
            .filter(|line| !left_out.iter().any(|name| line.starts_with(name)))
            .map(|line| {
                let name = line.split('{').next().unwrap_or("").trim_start_matches("ioc_");
                format!("{name} {}", line.rsplit(' ').next().unwrap_or(""))
            })
            .collect();
        samples.sort();
        samples.join(", ")
    }

    fn village(&self, family: &str) -> Option<String> {
        let page = self.metrics.render(Format::Text);
        let line = page.lines().find(|line| line.starts_with(&format!("ioc_village_{family}{{")))?;
        line.rsplit(' ').next().map(str::to_owned)
    }
}

/// docs.frigate.video, "MQTT" and "HTTP API" (stats).
#[tokio::test]
async fn frigate_speaks_for_its_cameras_and_its_end_is_theirs() {
    let world =
        world("{preset: frigate, agency: tam-ky, device_prefix: tk-}", &["tk-cong camera", "tk-cho camera"]).await;
    let stats = r#"{"cameras": {
        "cong": {"camera_fps": 5.0, "detection_fps": 1.5, "capture_pid": 27, "pid": 34, "process_fps": 5.1, "skipped_fps": 0.0},
        "cho": {"camera_fps": 0.0, "detection_fps": 0.0, "capture_pid": 28, "pid": 35, "process_fps": 0.0, "skipped_fps": 0.0}},
        "detection_fps": 1.5, "detectors": {"coral": {"inference_speed": 8.9, "detection_start": 0.0, "pid": 25}},
        "service": {"uptime": 10, "version": "0.16.0", "storage": {"/media/frigate/recordings": {"total": 1000, "used": 400, "free": 600}}}}"#;
    assert_eq!(world.message("frigate/available", "online", true), Outcome::Ok);
    assert_eq!(world.shown("tk-cong"), "", "the recorder's word says nothing of a camera");
    assert_eq!(world.send("frigate/stats", stats), Outcome::Ok);
    assert_eq!(world.shown("tk-cong"), "camera_frames_per_second 5, device_up 1, device_usable 1");
    assert_eq!(world.shown("tk-cho"), "device_up 0, device_usable 0", "Frigate speaks for it, but it delivers nothing");
    assert_eq!(world.send("frigate/cong/status/record", "offline"), Outcome::Ok);
    assert_eq!(
        world.shown("tk-cong"),
        "camera_frames_per_second 5, camera_recording 0, device_up 1, device_usable 0",
        "a picture that is not recorded is none"
    );
    assert_eq!(world.send("frigate/cong/status/record", "online"), Outcome::Ok);
    assert_eq!(world.village("cameras_usable").as_deref(), Some("1"));
    assert_eq!(world.send("frigate/cong/status/detect", "disabled"), Outcome::Ok);
    assert_eq!(world.send("frigate/cong/status/detect", "asleep"), Outcome::Malformed);
    assert_eq!(world.send("frigate/events", "{}"), Outcome::UnknownTopic);
    assert_eq!(world.message("frigate/available", "offline", true), Outcome::Ok, "its last will");
    assert_eq!(world.shown("tk-cong"), "device_up 0, device_usable 0");
    assert_eq!(world.village("cameras_up").as_deref(), Some("0"));
    assert_eq!(world.village("cameras_installed").as_deref(), Some("2"));
}

/// www.zigbee2mqtt.io, "MQTT Topics and Messages".
#[tokio::test]
async fn zigbee2mqtt_says_availability_in_both_its_forms() {
    let world = world("{preset: zigbee2mqtt, kind: hotspot, agency: tam-ky}", &["tu-mang-1 hotspot"]).await;
    assert_eq!(world.message("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#, true), Outcome::Ok);
    assert_eq!(world.message("zigbee2mqtt/tu-mang-1/availability", r#"{"state":"online"}"#, true), Outcome::Ok);
    assert_eq!(world.shown("tu-mang-1"), "device_up 1", "a status sets state, not usable");
    let state = r#"{"battery":97,"humidity":44.72,"linkquality":105,"temperature":27.34}"#;
    assert_eq!(world.send("zigbee2mqtt/tu-mang-1", state), Outcome::Ok);
    assert_eq!(world.shown("tu-mang-1"), "device_up 1, hotspot_temperature_celsius 27.34");
    assert_eq!(world.send("zigbee2mqtt/tu-mang-1/availability", "offline"), Outcome::Ok, "the older form");
    assert_eq!(world.shown("tu-mang-1"), "device_up 0, device_usable 0");
    assert_eq!(world.send("zigbee2mqtt/tu-mang-1/availability", r#"{"status":"online"}"#), Outcome::Malformed);
    assert_eq!(world.send("zigbee2mqtt/tu-mang-1/set", "{}"), Outcome::UnknownTopic);
}

/// developer.axis.com, "MQTT client API" and "MQTT Event Bridge": serial numbers in capitals, data as texts.
#[tokio::test]
async fn axis_cameras_tell_their_birth_their_last_will_and_a_lost_disk() {
    let world = world("{preset: axis, agency: tam-ky}", &["accc8e000001 camera"]).await;
    let connected = r#"{"timestamp":1764061200123,"serial":"ACCC8E000001","connected":true}"#;
    assert_eq!(world.message("axis/ACCC8E000001/event/connection", connected, true), Outcome::Ok);
    assert_eq!(world.shown("accc8e000001"), "device_up 1");
    let lost = r#"{"topic":"axis:Storage/Disruption","timestamp":1764061260123,
        "message":{"source":{"disk_id":"SD_DISK"},"key":{},"data":{"disruption":"1"}}}"#;
    assert_eq!(world.send("axis/ACCC8E000001/event/tns:axis/Storage/Disruption", lost), Outcome::Ok);
    assert_eq!(world.shown("accc8e000001"), "camera_recording 0, device_up 1, device_usable 0");
    let back = lost.replace(r#""disruption":"1""#, r#""disruption":"0""#);
    assert_eq!(world.send("axis/ACCC8E000001/event/tns:axis/Storage/Disruption", &back), Outcome::Ok);
    assert_eq!(world.shown("accc8e000001"), "camera_recording 1, device_up 1, device_usable 1");
    let will = r#"{"serial":"ACCC8E000001","connected":false}"#;
    assert_eq!(world.message("axis/ACCC8E000001/event/connection", will, false), Outcome::Ok);
    assert_eq!(world.shown("accc8e000001"), "device_up 0, device_usable 0");
}

/// collectd.org, "Plugin MQTT" and "Plain text protocol", on OpenWrt with the plugins interface, iwinfo, ping, thermal, uptime.
#[tokio::test]
async fn openwrt_routers_speak_collectd() {
    let world = world("{preset: openwrt, agency: tam-ky, radio: wlan1, ping: 192.0.2.1}", &["nvh-1 hotspot"]).await;
    for (topic, payload) in [
        ("collectd/nvh-1/interface-br-lan/if_octets", "1764061200.512:123456:654321\0"),
        ("collectd/nvh-1/iwinfo-wlan1/stations", "1764061200.512:7\0"),
        ("collectd/nvh-1/ping/ping-192.0.2.1", "1764061200.512:23.5\0"),
        ("collectd/nvh-1/ping/ping_droprate-192.0.2.1", "N:0.25"),
        ("collectd/nvh-1/thermal-thermal_zone0/temperature", "1764061200.512:51.2"),
        ("collectd/nvh-1/uptime/uptime", "1764061200.512:86400"),
    ] {
        assert_eq!(world.send(topic, payload), Outcome::Ok, "{topic}");
    }
    assert_eq!(
        world.shown("nvh-1"),
        "device_up 1, device_usable 1, hotspot_clients 7, hotspot_receive_bytes_total 123456, \
         hotspot_temperature_celsius 51.2, hotspot_transmit_bytes_total 654321, \
         hotspot_uplink_latency_seconds 0.0235, hotspot_uplink_loss_ratio 0.25, hotspot_uptime_seconds 86400"
    );
    assert_eq!(world.send("collectd/nvh-1/ping/ping_droprate-192.0.2.1", "N:1"), Outcome::Ok);
    assert!(world.shown("nvh-1").contains("device_usable 0"), "everything is lost on the way");
    assert_eq!(world.send("collectd/nvh-1/ping/ping-192.0.2.1", "N:U"), Outcome::Ok);
    assert!(!world.shown("nvh-1").contains("latency"), "it does not know");
    for bad in ["", ":", "N:", "N:abc", "N:-5", "x:1", "1764061200"] {
        let outcome = world.send("collectd/nvh-1/interface-br-lan/if_octets", bad);
        assert!(matches!(outcome, Outcome::Malformed | Outcome::BadValue), "{bad:?}: {outcome:?}");
    }
}

/// tasmota.github.io, "MQTT" and "Status 0 Output".
#[tokio::test]
async fn tasmota_is_read_by_fields_and_words() {
    let topics = r#"{filter: "tele/{device}/LWT", decode: status, online: Online, offline: Offline, retained: status, kind: hotspot},
        {filter: "tele/{device}/STATE", decode: json, fields: {UptimeSec: hotspot_uptime_seconds, POWER: {metric: device_usable, words: {"ON": 1, "OFF": 0}}}}"#;
    let world = world(topics, &["o-cam-1 hotspot"]).await;
    assert_eq!(world.message("tele/o-cam-1/LWT", "Online", true), Outcome::Ok);
    let state = r#"{"Time":"2026-11-25T20:45:37","Uptime":"1T23:46:58","UptimeSec":172018,"Heap":27,"SleepMode":"Dynamic",
        "Sleep":50,"LoadAvg":19,"MqttCount":1,"POWER":"OFF","Wifi":{"AP":1,"SSId":"ioc","RSSI":80,"Signal":-60}}"#;
    assert_eq!(world.send("tele/o-cam-1/STATE", state), Outcome::Ok);
    assert_eq!(world.shown("o-cam-1"), "device_up 1, device_usable 0, hotspot_uptime_seconds 172018");
    assert_eq!(world.send("tele/o-cam-1/STATE", &state.replace("OFF", "ON")), Outcome::Ok);
    assert_eq!(world.shown("o-cam-1"), "device_up 1, device_usable 1, hotspot_uptime_seconds 172018");
    assert_eq!(
        world.send("tele/o-cam-1/STATE", &state.replace("OFF", "on")),
        Outcome::BadValue,
        "words are as they are"
    );
}

#[tokio::test]
async fn arrays_counts_times_and_units_are_a_matter_of_configuration() {
    let topics = r#"{filter: "ap/report", decode: json, each: /aps, each_id: /mac, agency: tam-ky, kind: hotspot,
            fields: {/stations: {metric: hotspot_clients, count: true}, /pool/used_percent: {metric: hotspot_address_pool_free_ratio, multiply: -0.01, add: 1}}},
        {filter: "cam/{device}/changed", decode: value, metric: camera_picture_changed_timestamp_seconds},
        {filter: "cam/{device}/wan", decode: value, metric: {metric: device_usable, above: 10}}"#;
    let world = world(topics, &["ap-1 hotspot", "ap-2 hotspot", "cam-1 camera"]).await;
    let report = r#"{"aps":[{"mac":"AP-1","stations":[{"a":1},{"a":2}],"pool":{"used_percent":75}},
        {"mac":"ap-2","stations":[],"pool":{"used_percent":100}},{"mac":"ap-9","stations":[]}]}"#;
    assert_eq!(world.send("ap/report", report), Outcome::Ok);
    assert_eq!(
        world.shown("ap-1"),
        "device_up 1, device_usable 1, hotspot_address_pool_free_ratio 0.25, hotspot_clients 2"
    );
    assert!(world.shown("ap-2").contains("device_usable 0"), "no address left for a client");
    assert_eq!(world.fleet.n_unlisted(0), 1, "ap-9 is in no inventory");
    for bad in ["[]", "{}", r#"{"aps":5}"#, r#"{"aps":{"ap-1":5}}"#, r#"{"aps":[{"name":"x"}]}"#, "{"] {
        assert_ne!(world.send("ap/report", bad), Outcome::Ok, "{bad}");
    }
    let frozen = world.now.wall - jiff::SignedDuration::from_hours(2);
    assert_eq!(world.send("cam/cam-1/changed", &frozen.to_string()), Outcome::Ok);
    assert!(world.shown("cam-1").contains("device_usable 0"), "{}", world.shown("cam-1"));
    assert_eq!(world.send("cam/cam-1/changed", &world.now.wall.as_second().to_string()), Outcome::Ok);
    assert!(world.shown("cam-1").contains("device_usable 1"));
    assert_eq!(world.send("cam/cam-1/changed", "yesterday"), Outcome::BadValue);
    assert_eq!(world.send("cam/cam-1/wan", "10.5"), Outcome::Ok);
    assert!(world.shown("cam-1").contains("device_usable 1"), "what it says of itself counts");
}
