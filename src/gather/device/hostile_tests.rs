//! What no device would send: topics and payloads made to break something, and mutations of good ones. Whatever comes,
//! only listed devices have series, and each message is counted as something.
//!
//! `IOC_WATCH_MUTATIONS=10000000` makes more of them than a test run has time for; `fuzz/` looks deeper into each decoder.

use super::decode::protobuf::Writer;
use super::outcome::Outcome;
use super::strangers_tests::world;

const TOPICS: &str = r#"
    {filter: "ioc/{agency}/{kind}/{device}/telemetry", decode: json, time: ts, fields: {fps: camera_frames_per_second, /net/clients: hotspot_clients, list: {metric: hotspot_clients, count: true}}},
    {filter: "val/{device}/{kind}", decode: value, metric: [camera_frames_per_second, camera_recording]},
    {filter: "st/{device}", decode: status, field: /state, retained: status, kind: camera},
    {filter: "all", decode: json, each: /cams, each_id: /id, kind: camera, fields: {fps: camera_frames_per_second}},
    {preset: frigate, agency: tam-ky}, {preset: axis}, {preset: openwrt}, {preset: zigbee2mqtt},
    {preset: sparkplug_b, rebirth: true, fields: {FPS: camera_frames_per_second, Up: device_up}}"#;

const DEVICES: [&str; 2] = ["cam-1 camera", "ap-1 hotspot"];

#[tokio::test]
async fn hostile_topics_change_nothing() {
    let world = world(TOPICS, &DEVICES).await;
    let before = world.page();
    let long = "x/".repeat(32_767);
    let deep = format!("ioc/tam-ky/camera/{}/telemetry", "c".repeat(60_000));
    let topics: [&[u8]; 20] = [
        b"",
        b"#",
        b"+",
        b"/",
        b"\0",
        b"ioc/#",
        b"ioc/+/camera/+/telemetry",
        b"ioc/tam-ky/camera/cam-1\0/telemetry",
        b"ioc/tam-ky/camera/cam\xff1/telemetry",
        b"\xff\xfe\xfd",
        b"ioc/tam-ky/camera/cam-1\",up=\"1/telemetry",
        b"ioc/tam-ky/camera/cam-9\"} 1\nioc_device_up{device=\"x/telemetry",
        b"ioc/tam-ky\",x=\"y/camera/cam-9/telemetry",
        b"ioc/tam-ky/camera/../telemetry",
        b"ioc//camera//telemetry",
        b"ioc/tam-ky/camera/cam-1/telemetry/",
        b"$SYS/broker/uptime",
        b"$share/g/ioc/tam-ky/camera/cam-1/telemetry",
        long.as_bytes(),
        deep.as_bytes(),
    ];
    for topic in topics {
        for payload in [&b"{\"fps\":1}"[..], b"online", b"1", b"\x12\x02\x0a\x00"] {
            for retain in [false, true] {
                let outcome = world.raw(topic, payload, retain);
                let shown = String::from_utf8_lossy(&topic[..topic.len().min(80)]).into_owned();
                assert!(!matches!(outcome, Outcome::Ok | Outcome::BadValue), "{shown}: {outcome:?}");
            }
        }
    }
    assert_eq!(world.page(), before);
}

/// xorshift: the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// Cuts, doubles, swaps and changes some bytes.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\"{}[],:/+#-.09eN \n";
        for _ in 0..self.below(4) {
            let place = self.below(bytes.len());
            match self.below(5) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, TELLING[self.below(TELLING.len())]),
                2 if !bytes.is_empty() => bytes[place] ^= 1 << self.below(8),
                3 if !bytes.is_empty() => _ = bytes.remove(place),
                _ => bytes.extend_from_within(place.min(bytes.len())..),
            }
            bytes.truncate(4_096);
        }
    }
}

#[tokio::test]
async fn mutations_of_good_messages_make_no_series_and_no_panic() {
    let world = world(TOPICS, &DEVICES).await;
    let metric = |name: &[u8]| {
        Writer::default().bytes(1, name).varint(2, 1).varint(4, 9).fixed32(12, 1.5_f32.to_bits()).finish()
    };
    let spark = Writer::default()
        .varint(1, 1_764_061_200_000)
        .bytes(2, &metric(b"FPS"))
        .bytes(2, &metric(b"bdSeq"))
        .varint(3, 1)
        .finish();
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        (
            "ioc/tam-ky/camera/cam-1/telemetry",
            br#"{"fps":24.5,"ts":"2025-11-25T08:00:00Z","list":[1,{"a":null}]}"#.to_vec(),
        ),
        ("ioc/tam-ky/hotspot/ap-1/telemetry", br#"{"net":{"clients":3},"list":[1,2],"ts":1764061200}"#.to_vec()),
        ("val/cam-1/camera", b"1764061200.5:25:1\0".to_vec()),
        ("st/cam-1", br#"{"state":"online"}"#.to_vec()),
        ("all", br#"{"cams":[{"id":"cam-1","fps":5},{"id":"cam-9","fps":1}]}"#.to_vec()),
        ("frigate/stats", br#"{"cameras":{"cam-1":{"camera_fps":5.0}}}"#.to_vec()),
        ("axis/CAM-1/event/connection", br#"{"connected":true}"#.to_vec()),
        ("collectd/ap-1/interface-br-lan/if_octets", b"N:1:2".to_vec()),
        ("zigbee2mqtt/ap-1/availability", b"offline".to_vec()),
        ("spBv1.0/g/NBIRTH/n", spark.clone()),
        ("spBv1.0/g/DBIRTH/n/cam-1", spark.clone()),
        ("spBv1.0/g/DDATA/n/cam-1", spark.clone()),
        ("spBv1.0/g/NDEATH/n", spark),
    ];
    let n_mutations: u64 =
        std::env::var("IOC_WATCH_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut n_understood = 0_u64;
    for _ in 0..n_mutations {
        let (topic, payload) = &seeds[chance.below(seeds.len())];
        let (mut topic, mut payload) = (topic.as_bytes().to_vec(), payload.clone());
        if chance.below(4) == 0 {
            chance.mutate(&mut topic);
        }
        chance.mutate(&mut payload);
        let retain = chance.below(8) == 0;
        n_understood += u64::from(world.raw(&topic, &payload, retain) == Outcome::Ok);
    }
    println!("{n_mutations} messages, {n_understood} understood");
    assert!(n_understood > n_mutations / 20 && n_understood < n_mutations, "{n_understood}");
    let page = world.page();
    for line in page.lines().filter(|line| line.contains("device=")) {
        assert!(line.contains("device=\"cam-1\"") || line.contains("device=\"ap-1\""), "{line}");
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        assert!(value.is_some_and(f64::is_finite), "{line}");
    }
    assert!(page.len() < 100_000, "bounded");
}
