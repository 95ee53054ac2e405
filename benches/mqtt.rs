//! The parts of the MQTT measurement, each to be a process of its own; `benches/mqtt.py` and `benches/scrape.py` run them.
//!
//! `publish PORT MESSAGES DEVICES` sends JSON telemetry at QoS 1, as fast as the broker takes it.
//! `pace PORT RATE SECONDS DEVICES [steady]` sends RATE messages a second, every measured value changing, another twentieth
//! of the devices offline each round, or with `steady` none. `count PORT MESSAGES` is
//! the bare rumqttc counter (MQTT 3.1.1, one thread, does nothing but count). `ours-v3` and `ours-v5 PORT MESSAGES
//! DEVICES` are our ingest over either version. A receiver prints `ready`, then one line with what it received and used.
//!
//! `fleet PORT DEVICES ROUND [flip]` publishes one round of the fleet that `benches/rules.py` measures with.
//!
//! `cargo bench --bench mqtt -- sweep [DEVICES]` measures what judging silence costs a large fleet.

use ioc_watch::attribution::Ledger;
use ioc_watch::config::devices::DeviceKind;
use ioc_watch::config::mqtt::{Broker, Decode, Field, Segment, Topic, Version};
use ioc_watch::config::{Id, site};
use ioc_watch::gather::device::inventory::{Life, Listing};
use ioc_watch::gather::device::{self, Fleet, Hearer, Inventory, Now, Settings};
use ioc_watch::metrics::{Format, Metrics};
use ioc_watch::store::Store;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const N_AGENCIES: usize = 50;
/// A subject that hears nothing for so long is done.
const IDLE: Duration = Duration::from_secs(6);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |place: usize, default: usize| arguments.get(place).and_then(|a| a.parse().ok()).unwrap_or(default);
    match arguments.first().map(String::as_str) {
        Some("publish") => publish(number(1, 0) as u16, number(2, 0), number(3, 0)),
        Some("fleet") => {
            let flips = arguments.get(4).is_some_and(|argument| argument == "flip");
            fleet_round(number(1, 0) as u16, number(2, 0), number(3, 0), flips);
        }
        Some("pace") => {
            let is_steady = arguments.get(5).is_some_and(|argument| argument == "steady");
            pace(number(1, 0) as u16, number(2, 0), number(3, 0), number(4, 0), is_steady);
        }
        Some("count") => count(number(1, 0) as u16, number(2, 0)),
        Some("ours-v3") => ours(number(1, 0) as u16, number(2, 0), number(3, 0), Version::V3),
        Some("ours-v5") => ours(number(1, 0) as u16, number(2, 0), number(3, 0), Version::V5),
        Some("sweep") => sweep(number(1, 100_000)),
        // `cargo bench` without arguments, or a test run of all targets: nothing to measure against.
        _ => println!("usage: mqtt publish|pace|count|ours-v3|ours-v5 PORT MESSAGES [DEVICES] | sweep [DEVICES]"),
    }
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<f64>().unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn options(name: &str, port: u16) -> MqttOptions {
    let mut options = MqttOptions::new(format!("{name}-{}", std::process::id()), "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(60)).set_max_packet_size(1 << 20, 1 << 20).set_inflight(500);
    options
}

fn device_id(number: usize) -> String {
    format!("cam{number:05}")
}

fn publish(port: u16, n_messages: usize, n_devices: usize) {
    send(port, n_messages, move |number| telemetry(number, n_devices, false));
}

/// One message of every device; `values` of `benches/rules.py` says the same.
fn fleet_round(port: u16, n_devices: usize, round: usize, flips: bool) {
    send(port, n_devices, move |device| {
        let up = if flips && round > 0 { (device + round) % 2 == 1 } else { (device + round) % 20 != 7 };
        let while_up = |value: usize| if up { value } else { 0 };
        let (frames, celsius) =
            (while_up(120 + (device * 7 + round * 13) % 180), 250 + (device * 11 + round * 17) % 501);
        let payload = format!(
            "{{\"online\":{up},\"fps\":{}.{},\"bitrate_kbps\":{},\"uptime_s\":{},\"temp_c\":{}.{}}}",
            frames / 10,
            frames % 10,
            while_up(512 + (device * 31 + round * 97) % 5489),
            100 + (device * 101 + round * 7919) % 999_983,
            celsius / 10,
            celsius % 10
        );
        (topic_of(device), payload)
    });
}

/// Publishes what `message` makes of each number, a topic and its payload, until all is acknowledged.
#[tokio::main(flavor = "current_thread")]
async fn send(port: u16, n_messages: usize, message: impl Fn(usize) -> (String, String) + Send + 'static) {
    let (client, mut events) = AsyncClient::new(options("publisher", port), 1_000);
    tokio::spawn(async move {
        for number in 0..n_messages {
            let (topic, payload) = message(number);
            if client.publish(topic, QoS::AtLeastOnce, false, payload).await.is_err() {
                return;
            }
        }
        // The client must outlive its queue.
        std::future::pending::<()>().await;
    });
    let mut n_acknowledged = 0;
    while n_acknowledged < n_messages {
        if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.expect("the broker stays") {
            n_acknowledged += 1;
        }
    }
}

/// The message of that number: of one device after the other, with other values each round; some say that they are offline,
/// unless `is_steady`.
fn telemetry(number: usize, n_devices: usize, is_steady: bool) -> (String, String) {
    let (device, round) = (number % n_devices, number / n_devices);
    let online = is_steady || (device + round) % 20 != 0;
    let payload = format!(
        "{{\"online\":{online},\"fps\":{}.{},\"bitrate_kbps\":{},\"uptime_s\":{},\"temp_c\":{}.5,\
         \"fw\":\"v4.2.{:03}-ioc\",\"ts\":\"2026-01-{:02}T10:{:02}:00Z\"}}",
        20 + device % 10,
        number % 9 + 1,
        1024 + number % 4096,
        10_000 + round * 15 + device,
        35 + (device + round) % 20,
        device % 1000,
        1 + round % 28,
        round % 60
    );
    (topic_of(device), payload)
}

fn topic_of(device: usize) -> String {
    format!("ioc/agency{:02}/camera/{}/telemetry", device % N_AGENCIES, device_id(device))
}

/// Keeps the pace as long as the broker does; prints how many messages it acknowledged.
#[tokio::main(flavor = "current_thread")]
async fn pace(port: u16, rate: usize, seconds: usize, n_devices: usize, is_steady: bool) {
    const STEPS_A_SECOND: usize = 50;
    let (client, mut events) = AsyncClient::new(options("pacer", port), rate.max(1));
    let n_messages = rate * seconds;
    tokio::spawn(async move {
        let mut steps = tokio::time::interval(Duration::from_millis(1_000 / STEPS_A_SECOND as u64));
        for number in 0..n_messages {
            if number % (rate / STEPS_A_SECOND).max(1) == 0 {
                steps.tick().await;
            }
            let (topic, payload) = telemetry(number, n_devices, is_steady);
            if client.publish(topic, QoS::AtLeastOnce, false, payload).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    });
    let (mut n_acknowledged, start) = (0, Instant::now());
    while n_acknowledged < n_messages {
        if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.expect("the broker stays") {
            n_acknowledged += 1;
        }
    }
    println!("sent={n_acknowledged} seconds={:.1}", start.elapsed().as_secs_f64());
}

#[tokio::main(flavor = "current_thread")]
async fn count(port: u16, n_messages: usize) {
    let (client, mut events) = AsyncClient::new(options("counter", port), 1_000);
    client.subscribe("ioc/#", QoS::AtLeastOnce).await.expect("room in the queue");
    let (mut received, mut n_bytes, before) = (0, 0, cpu());
    loop {
        let wait = if received == 0 { Duration::from_secs(60) } else { IDLE };
        match tokio::time::timeout(wait, events.poll()).await {
            Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                received += 1;
                n_bytes += publish.payload.len();
                if received >= n_messages {
                    break;
                }
            }
            Ok(Ok(Event::Incoming(Packet::SubAck(_)))) => println!("ready"),
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    println!("received={received} cpu_s={:.2} payload_bytes={n_bytes}", cpu() - before);
}

fn id(text: &str) -> Id {
    Id::parse(text).expect("an id")
}

fn broker(port: u16, version: Version) -> Broker {
    let literal = |text: &str| Segment::Literal(text.into());
    let field = |key: &str, metric: &str, multiply| Field::new(key, metric, multiply);
    let fields = vec![
        field("online", "device_up", 1.0),
        field("fps", "camera_frames_per_second", 1.0),
        field("bitrate_kbps", "camera_bitrate_bits_per_second", 1000.0),
        field("uptime_s", "camera_uptime_seconds", 1.0),
        field("temp_c", "camera_temperature_celsius", 1.0),
    ];
    let pattern = vec![literal("ioc"), Segment::Agency, Segment::Kind, Segment::Device, literal("telemetry")];
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
        topics: vec![Topic::new(pattern, Decode::Json { fields, each: None })],
    }
}

/// A fleet of cameras and its metrics, with nothing heard yet.
async fn fleet(n_devices: usize, directory: &std::path::Path) -> (Arc<Fleet>, Arc<Metrics>) {
    let store = Store::open(&site::State::Sqlite, directory).await.expect("a database");
    let ledger = Ledger::resume(store.clone()).await.expect("a ledger");
    let metrics = Arc::new(Metrics::new());
    let settings = Settings {
        discover_max: 0,
        offline_after: Some(Duration::from_secs(180)),
        forget_after: Duration::from_secs(86_400),
        rate_limit: None,
        shard: None,
        agencies: (0..N_AGENCIES).map(|number| id(&format!("agency{number:02}"))).collect(),
        site_agency: id("ioc"),
    };
    let listing = |number: usize| Listing {
        id: id(&device_id(number)),
        kind: DeviceKind::Camera,
        agency: id(&format!("agency{:02}", number % N_AGENCIES)),
        site: format!("site-{}", number / 4).into(),
        village: format!("Thôn {}", number / 40).into(),
        name: format!("Camera {number}").into(),
        place: None,
        life: Life::Installed,
        offline_after: None,
    };
    let inventory = Inventory { devices: (0..n_devices).map(|number| Arc::new(listing(number))).collect() };
    let fleet = Fleet::open(metrics.clone(), ledger, store, settings, &inventory, Now::read()).await.expect("a fleet");
    (fleet, metrics)
}

/// What a second of sweeping costs: nothing due, each device due once in its 180 s, and all gone silent at once.
#[tokio::main(flavor = "current_thread")]
async fn sweep(n_devices: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let start = Instant::now();
    let (fleet, _metrics) = fleet(n_devices, directory.path()).await;
    println!("{n_devices} devices: opened in {:.2} s, {:.1} MB resident", start.elapsed().as_secs_f64(), resident_mb());
    let base = Now::read();
    let at = |seconds: u64| {
        let wall = base.wall + jiff::SignedDuration::from_secs(seconds as i64);
        Now { wall, tick: base.tick + Duration::from_secs(seconds) }
    };
    let speak = |number: usize, seconds: u64| {
        let mut session = fleet.session(0, at(seconds));
        let found = session.find(None, None, &device_id(number), None).expect("listed");
        session.status(found, None, true, false);
    };
    // Each device speaks once a minute; its turn comes at its own second.
    const N_SECONDS: u64 = 600;
    let mut swept = 0.0;
    for second in 1..=N_SECONDS {
        for number in (0..n_devices).filter(|number| *number as u64 % 60 == second % 60) {
            speak(number, second);
        }
        let before = Instant::now();
        fleet.sweep(at(second));
        swept += before.elapsed().as_secs_f64();
    }
    println!("steady: {:.6} s a sweep", swept / N_SECONDS as f64);
    let before = Instant::now();
    fleet.sweep(at(N_SECONDS + 181));
    println!("all change at once: {:.3} s", before.elapsed().as_secs_f64());
    let before = Instant::now();
    fleet.flush(at(N_SECONDS).wall).await.expect("written");
    println!("last seen of all written in {:.2} s", before.elapsed().as_secs_f64());
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn ours(port: u16, n_messages: usize, n_devices: usize, version: Version) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (fleet, metrics) = fleet(n_devices, directory.path()).await;
    let stop = CancellationToken::new();
    let before = cpu();
    let task = tokio::spawn(device::run(vec![broker(port, version)], fleet, stop.clone()));
    while value(&metrics, "ioc_mqtt_connected{") != 1.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The subscription follows the connection.
    tokio::time::sleep(Duration::from_millis(300)).await;
    println!("ready");
    let (mut received, mut last) = (0.0, Instant::now() + Duration::from_secs(60));
    while received < n_messages as f64 && last.checked_add(IDLE).is_some_and(|end| Instant::now() < end) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = metrics
            .table(ioc_watch::metrics::columns::broker_messages::TABLE)
            .snapshot()
            .column(0)
            .iter()
            .filter(|value| !value.is_nan())
            .sum();
        if now > received {
            (received, last) = (now, Instant::now());
        }
    }
    let used = cpu() - before;
    let ok = value(&metrics, "result=\"ok\"");
    stop.cancel();
    let _ = task.await;
    const RENDERS: u32 = 200;
    let (before, start) = (cpu(), Instant::now());
    let mut n_bytes = 0;
    for _ in 0..RENDERS {
        n_bytes = metrics.render(Format::Text).len();
    }
    let render_cpu = (cpu() - before) / f64::from(RENDERS);
    println!(
        "received={received} cpu_s={used:.2} ok={ok} render_cpu_s={render_cpu:.5} render_wall_s={:.5} page_bytes={n_bytes} \
         rss_mb={:.1}",
        start.elapsed().as_secs_f64() / f64::from(RENDERS),
        resident_mb()
    );
}

fn value(metrics: &Arc<Metrics>, part: &str) -> f64 {
    let page = metrics.render(Format::Text);
    let line = page.lines().find(|line| !line.starts_with('#') && line.contains(part));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(f64::NAN)
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}
