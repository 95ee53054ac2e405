//! Nodes and devices as the Sparkplug specification 3.0 (sparkplug.eclipse.org) describes their life; payloads are built
//! from the field numbers of its `sparkplug_b.proto`, in the shapes of its examples.

use super::super::decode::protobuf::Writer;
use super::super::outcome::Outcome;
use super::super::strangers_tests::{World, world};
use super::*;

const BOOLEAN: u64 = 11;
const DOUBLE: u64 = 10;
const INT32: u64 = 3;

enum Of<'a> {
    Born(&'a str, u64),
    Alias(u64),
    Named(&'a str),
}

fn metric(of: &Of<'_>, datatype: u64, value: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    match of {
        Of::Born(name, alias) => _ = writer.bytes(1, name.as_bytes()).varint(2, *alias).varint(4, datatype),
        Of::Alias(alias) => _ = writer.varint(2, *alias),
        Of::Named(name) => _ = writer.bytes(1, name.as_bytes()),
    }
    value(&mut writer);
    writer.finish()
}

fn double(of: &Of<'_>, value: f64) -> Vec<u8> {
    metric(of, DOUBLE, |w| _ = w.fixed64(13, value.to_bits()))
}

fn whole(of: &Of<'_>, value: i32) -> Vec<u8> {
    metric(of, INT32, |w| _ = w.varint(10, u64::from(value as u32)))
}

fn flag(of: &Of<'_>, value: bool) -> Vec<u8> {
    metric(of, BOOLEAN, |w| _ = w.varint(14, u64::from(value)))
}

fn bd_seq(number: u64) -> Vec<u8> {
    Writer::default().bytes(1, b"bdSeq").varint(4, 8).varint(11, number).finish()
}

fn payload(seq: Option<u64>, metrics: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::default();
    for metric in metrics {
        writer.bytes(2, metric);
    }
    if let Some(seq) = seq {
        writer.varint(3, seq);
    }
    writer.finish()
}

const TOPICS: &str = r#"{preset: sparkplug_b, agency: tam-ky, rebirth: true, fields: {"Video/FPS": camera_frames_per_second,
    Recording: camera_recording, Temp: camera_temperature_celsius}}"#;

impl World {
    fn spark(&self, kind: &str, of: &str, seq: Option<u64>, metrics: &[Vec<u8>]) -> Outcome {
        self.bytes(&format!("spBv1.0/Q Nam/{kind}/{of}"), &payload(seq, metrics), false)
    }

    /// A node with a camera, both born.
    fn birth(&self, bd: u64) {
        let control = flag(&Of::Born("Node Control/Rebirth", 0), false);
        assert_eq!(self.spark("NBIRTH", "Nvh-1", Some(0), &[bd_seq(bd), control]), Outcome::Ok);
        let born = [
            double(&Of::Born("Video/FPS", 1), 25.0),
            flag(&Of::Born("Recording", 2), true),
            whole(&Of::Born("Temp", 3), -2),
            double(&Of::Born("Bandwidth", 4), 9.0),
        ];
        assert_eq!(self.spark("DBIRTH", "Nvh-1/CAM-1", Some(1), &born), Outcome::Ok);
    }

    fn asked(&self, seconds: u64) -> Vec<(String, Vec<u8>)> {
        let now = self.now.tick + Duration::from_secs(seconds);
        self.memory.lock().unwrap().nodes.requests(now, 1_764_061_200_000)
    }
}

#[tokio::test]
async fn a_device_is_born_speaks_by_aliases_and_dies() {
    let world = world(TOPICS, &["cam-1 camera"]).await;
    world.birth(7);
    let born =
        "camera_frames_per_second 25, camera_recording 1, camera_temperature_celsius -2, device_up 1, device_usable 1";
    assert_eq!(world.shown("cam-1"), born);
    let data = [double(&Of::Alias(1), 12.5), whole(&Of::Alias(3), -5), double(&Of::Alias(4), 1.0)];
    assert_eq!(world.spark("DDATA", "Nvh-1/CAM-1", Some(2), &data), Outcome::Ok);
    assert!(
        world
            .shown("cam-1")
            .starts_with("camera_frames_per_second 12.5, camera_recording 1, camera_temperature_celsius -5")
    );
    let null = metric(&Of::Alias(3), 0, |w| _ = w.varint(7, 1));
    let past = metric(&Of::Alias(1), 0, |w| _ = w.varint(5, 1).fixed64(13, 3.0_f64.to_bits()));
    assert_eq!(world.spark("DDATA", "Nvh-1/CAM-1", Some(3), &[null, past]), Outcome::Ok);
    assert_eq!(world.shown("cam-1"), "camera_frames_per_second 12.5, camera_recording 1, device_up 1, device_usable 1");
    let unusable = [double(&Of::Named("Video/FPS"), -1.0), flag(&Of::Alias(2), false)];
    assert_eq!(world.spark("DDATA", "Nvh-1/CAM-1", Some(4), &unusable), Outcome::BadValue);
    assert!(world.shown("cam-1").contains("camera_recording 0"));
    assert_eq!(world.spark("DDEATH", "Nvh-1/CAM-1", Some(5), &[]), Outcome::Ok);
    assert_eq!(world.shown("cam-1"), "device_up 0, device_usable 0");
    assert_eq!(world.asked(0), [], "nothing was missed");
    // A retained message, commands to others and the states of hosts say nothing.
    assert_eq!(world.bytes("spBv1.0/Q Nam/DBIRTH/Nvh-1/CAM-1", &payload(Some(6), &[]), true), Outcome::RetainedIgnored);
    assert_eq!(world.spark("NCMD", "Nvh-1", None, &[]), Outcome::Ok);
    assert_eq!(world.send("spBv1.0/STATE/ioc", "ONLINE"), Outcome::UnknownTopic);
    assert_eq!(world.shown("cam-1"), "device_up 0, device_usable 0");
}

#[tokio::test]
async fn a_nodes_death_is_its_devices_and_an_earlier_lifes_will_is_not() {
    let world = world(TOPICS, &["cam-1 camera", "nvh-1 camera"]).await;
    world.birth(7);
    assert!(world.shown("nvh-1").contains("device_up 1"), "a node may be listed, too");
    assert_eq!(world.spark("NDEATH", "Nvh-1", None, &[bd_seq(6)]), Outcome::Stale);
    assert!(world.shown("cam-1").contains("device_up 1"));
    assert_eq!(world.spark("NDEATH", "Nvh-1", None, &[bd_seq(7)]), Outcome::Ok);
    assert_eq!(world.shown("cam-1"), "device_up 0, device_usable 0");
    assert_eq!(world.shown("nvh-1"), "device_up 0, device_usable 0");
    world.birth(8);
    assert!(world.shown("cam-1").contains("device_up 1"));
}

#[tokio::test]
async fn who_is_not_born_after_its_node_is_gone_although_silence_says_nothing() {
    let mut world = world(TOPICS, &["cam-1 camera never", "cam-2 camera never", "nvh-1 camera never"]).await;
    world.birth(7);
    let second = |world: &World, seq| world.spark("DBIRTH", "Nvh-1/CAM-2", Some(seq), &[]);
    assert_eq!(second(&world, 2), Outcome::Ok);
    let is_up = |world: &World, device: &str| world.shown(device).contains("device_up 1");
    world.wait(86_400);
    assert!(is_up(&world, "cam-1") && is_up(&world, "cam-2"), "they report by exception");
    // While we are away the node begins another life, in which there is no second camera.
    world.reconnect();
    world.birth(8);
    world.wait(119);
    assert!(is_up(&world, "cam-2"), "its birth may still come");
    world.wait(1);
    assert_eq!(world.shown("cam-2"), "device_up 0, device_usable 0");
    assert!(is_up(&world, "cam-1") && is_up(&world, "nvh-1"));
    assert_eq!(second(&world, 2), Outcome::Ok);
    assert!(is_up(&world, "cam-2"), "late is not never");
    // A birth that we may have missed buries nobody.
    world.birth(9);
    world.wait(60);
    world.reconnect();
    world.wait(600);
    assert!(is_up(&world, "cam-2"));
}

#[tokio::test]
async fn what_was_missed_is_asked_for_once_and_not_too_often() {
    let world = world(TOPICS, &["cam-1 camera"]).await;
    let data = |seq| world.spark("DDATA", "Nvh-1/CAM-1", Some(seq), &[double(&Of::Alias(1), 5.0)]);
    assert_eq!(data(9), Outcome::Unborn, "an alias of an unheard birth");
    assert_eq!(world.shown("cam-1"), "device_up 1", "but it lives");
    assert_eq!(data(10), Outcome::Unborn);
    let asked = world.asked(0);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].0, "spBv1.0/Q Nam/NCMD/Nvh-1");
    let read = Payload::read(&asked[0].1).unwrap();
    assert_eq!((read.timestamp, read.seq), (Some(1_764_061_200_000), None));
    assert_eq!(read.metrics[0].name, Some("Node Control/Rebirth"));
    data(11);
    assert_eq!(world.asked(59), [], "it has a minute");
    assert_eq!(world.asked(60).len(), 1);
    data(12);
    assert_eq!(world.asked(179), [], "then two");
    world.birth(1);
    assert_eq!(data(2), Outcome::Ok);
    assert_eq!(data(4), Outcome::Ok, "after a gap aliases go on");
    assert_eq!(world.asked(200).len(), 1, "but the gap is noticed");
    // Over a new connection births may have been missed.
    world.memory.lock().unwrap().nodes.connected(Some(world.now.tick + Duration::from_secs(1)));
    assert_eq!(data(5), Outcome::Unborn);
}

#[tokio::test]
async fn nobody_is_asked_unless_the_site_allows_it() {
    let world = world(&TOPICS.replace("rebirth: true, ", ""), &["cam-1 camera"]).await;
    assert_eq!(world.spark("DDATA", "N/CAM-1", Some(9), &[double(&Of::Alias(1), 5.0)]), Outcome::Unborn);
    assert_eq!(world.spark("DDATA", "N/CAM-1", Some(12), &[double(&Of::Named("Video/FPS"), 5.0)]), Outcome::Ok);
    assert!(world.shown("cam-1").contains("camera_frames_per_second 5"), "a name needs no birth");
    assert_eq!(world.asked(0), []);
}

#[tokio::test]
async fn hostile_nodes_are_refused_or_bounded() {
    let world = world(TOPICS, &["cam-1 camera"]).await;
    for (topic, payload, outcome) in [
        ("spBv1.0/g/NBIRTH/n/d", &b""[..], Outcome::UnknownTopic),
        ("spBv1.0/g/DDATA/n", b"", Outcome::UnknownTopic),
        ("spBv1.0/g/DDATA/n/cam-1/x", b"", Outcome::UnknownTopic),
        ("spBv1.0/g/XDATA/n", b"", Outcome::UnknownTopic),
        ("spBv1.0/g/DDATA/n/cam-1", b"{\"fps\":1}", Outcome::Malformed),
        ("spBv1.0/g/DDATA/n/cam-1", b"\x18\x80\x02", Outcome::Malformed),
        ("spBv1.0/g/DDATA/n/cam-9", b"", Outcome::Unlisted),
    ] {
        assert_eq!(world.bytes(topic, payload, false), outcome, "{topic}");
    }
    assert_eq!(world.bytes(&format!("spBv1.0/g/NBIRTH/{}", "n".repeat(60_000)), b"", false), Outcome::Malformed);
    let mut nodes = Nodes::default();
    for number in 0..MAX_NODES + 10 {
        nodes.heard(&format!("g/{number}"));
        nodes.ask(&format!("g/{number}"));
    }
    assert!(nodes.nodes.len() <= MAX_NODES && nodes.wanted.len() <= nodes.nodes.len());
    assert!(nodes.nodes.contains_key(format!("g/{}", MAX_NODES + 9).as_str()), "the latest is there");
    let asked = nodes.requests(Instant::now(), 0);
    assert_eq!(asked.len(), ASKED_AT_ONCE);
    nodes.n_definitions = MAX_DEFINITIONS;
    let mapping = Mapping::compile(&[crate::config::mqtt::Field::new("a", "device_up", 1.0)], None).unwrap();
    let bytes = payload(None, &[flag(&Of::Born("a", 1), true)]);
    nodes.born("g/new", None, &mapping, &Payload::read(&bytes).unwrap().metrics);
    assert_eq!(nodes.nodes["g/new"].size(), 0, "no room");
    assert_eq!(nodes.n_definitions, MAX_DEFINITIONS);
}
