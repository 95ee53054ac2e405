//! Sparkplug over a real broker: a node whose birth was missed is asked for it, and its answer is understood. The bytes
//! are those of the field numbers in Eclipse Tahu's `sparkplug_b.proto`.

use super::*;
use std::process::{Command, Stdio};

/// A metric `FPS` with alias 1: by name and type as in a birth, or by alias alone, and a double.
fn fps(by_name: bool, value: f64) -> Vec<u8> {
    let mut metric = if by_name { b"\x0a\x03FPS\x10\x01\x20\x0a".to_vec() } else { b"\x10\x01".to_vec() };
    metric.push(13 << 3 | 1);
    metric.extend(value.to_le_bytes());
    let mut field = vec![2 << 3 | 2, metric.len() as u8];
    field.extend(metric);
    field
}

fn payload(seq: u8, metrics: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = metrics.concat();
    payload.extend([3 << 3, seq]);
    payload
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_birth_is_asked_for_and_the_brokers_losses_are_known() {
    let mosquitto = Mosquitto::start("allow_anonymous true\nsys_interval 1\nlog_type subscribe");
    let fields = vec![Field::new("FPS", "camera_frames_per_second", 1.0)];
    let literal = |text: &str| Segment::Literal(text.into());
    let pattern = vec![literal("spBv1.0"), Segment::Any, Segment::Any, Segment::Any, Segment::Rest];
    let topic = Topic { source: Some(1), ..Topic::new(pattern, Decode::Sparkplug { fields, rebirth: true }) };
    let sparkplug = Broker { topics: vec![topic], ..broker(mosquitto.port, Version::V5) };
    let gatherer = Gatherer::start(sparkplug, Duration::from_secs(600)).await;
    gatherer.connected(1.0).await;
    let port = mosquitto.port.to_string();
    let node = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port, "-t", "spBv1.0/g/NCMD/nvh-1", "-C", "1", "-W", "30", "-F", "%q %r %x"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_sub is installed");
    mosquitto.wait_subscribed("spBv1.0/g/NCMD/nvh-1");
    mosquitto.publish(&[], "spBv1.0/g/DDATA/nvh-1/CAM-1", &payload(9, &[fps(false, 5.0)]));
    gatherer.until("the node is asked", |g| g.value("ioc_mqtt_rebirths_requested_total{") == Some(1.0)).await;
    assert!(gatherer.count("unborn") > 0.0);
    assert_eq!((gatherer.fps(), gatherer.fleet.state("cam-1")), (None, Some(State::Up)));
    let asked = node.wait_with_output().expect("mosquitto_sub ends");
    let asked = String::from_utf8(asked.stdout).expect("UTF-8");
    let name: String = b"Node Control/Rebirth".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(asked.starts_with("0 0 ") && asked.contains(&name), "QoS 0, not retained: {asked}");

    mosquitto.publish(&[], "spBv1.0/g/NBIRTH/nvh-1", &payload(0, &[]));
    mosquitto.publish(&[], "spBv1.0/g/DBIRTH/nvh-1/CAM-1", &payload(1, &[fps(true, 24.0)]));
    gatherer.until("the birth", |g| g.fps() == Some(24.0)).await;
    mosquitto.publish(&[], "spBv1.0/g/DDATA/nvh-1/CAM-1", &payload(2, &[fps(false, 25.0)]));
    gatherer.until("data by its alias", |g| g.fps() == Some(25.0)).await;
    mosquitto.publish(&[], "spBv1.0/g/NDEATH/nvh-1", b"\x08\x01");
    gatherer.until("the node's death", |g| g.fleet.state("cam-1") == Some(State::Down)).await;

    mosquitto.publish(&[], "spBv1.0/g/NBIRTH/nvh-1", &payload(0, &[]));
    mosquitto.publish(&[], "spBv1.0/g/DBIRTH/nvh-1/CAM-1", &payload(1, &[fps(true, 26.0)]));
    gatherer.until("its next life", |g| g.fps() == Some(26.0)).await;
    let n_heard = gatherer.count("ok");
    mosquitto.publish(&[], "spBv1.0/g/NBIRTH/nvh-1", &payload(0, &[]));
    gatherer.until("a life without the camera", |g| g.count("ok") > n_heard).await;
    let later = |seconds: u64| {
        let now = Now::read();
        Now { wall: now.wall + Duration::from_secs(seconds), tick: now.tick + Duration::from_secs(seconds) }
    };
    // Within the grace it may still be born; and its silence alone would take it for gone only after `offline_after`.
    gatherer.fleet.sweep(later(50));
    assert_eq!(gatherer.fleet.state("cam-1"), Some(State::Up));
    gatherer.fleet.sweep(later(125));
    assert_eq!(gatherer.fleet.state("cam-1"), Some(State::Down));
    gatherer.until("the broker's own count", |g| g.value("ioc_mqtt_broker_dropped_total{") == Some(0.0)).await;
    assert_eq!(gatherer.count("subscribe_refused"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_shares_telemetry_and_each_member_hears_the_retained_words() {
    let mosquitto = Mosquitto::start("allow_anonymous true");
    mosquitto.publish(&["-r"], STATUS, b"online");
    let member = |name: &str| Broker {
        client_id: name.into(),
        share: Some("ioc".into()),
        ..broker(mosquitto.port, Version::V5)
    };
    let one = Gatherer::start(member("one"), Duration::from_secs(60)).await;
    let other = Gatherer::start(member("other"), Duration::from_secs(60)).await;
    for gatherer in [&one, &other] {
        gatherer.until("the retained word", |g| g.fleet.state("cam-1") == Some(State::Up)).await;
    }
    let n_words = one.count("ok") + other.count("ok");
    for _ in 0..10 {
        mosquitto.publish(&[], TELEMETRY, br#"{"fps":24}"#);
    }
    one.until("each message once", |g| g.count("ok") + other.count("ok") == n_words + 10.0).await;
}
