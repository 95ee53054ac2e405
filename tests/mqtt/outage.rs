//! The broker dies under a whole fleet: the people of the broker are told, those of the devices are not, and once it is
//! back everything is right again at once. `IOC_WATCH_FLEET=5000` makes the fleet larger.

use crate::mosquitto::Mosquitto;
use crate::support::daemon::Daemon;
use crate::support::mailbox::MailServer;
use crate::support::{encode, free_port, get, wait_for};
use rumqttc::{Client, Event, MqttOptions, Outgoing, Packet, QoS};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const AGENCIES: usize = 5;
/// Devices that do not come back with the broker.
const LOST: usize = 3;
const TICK: Duration = Duration::from_secs(1);

/// Devices are told dead after two seconds, the broker too: as with the shipped rules, only faster.
const RULES: &str = r#"
groups:
  - name: fleet
    interval: 1s
    rules:
      - alert: DeviceDown
        expr: ioc_device_up == 0
        for: 2s
        labels: {severity: critical, area: camera}
        annotations: {summary: 'mất {{ $labels.device }}', summary_en: '{{ $labels.device }} is down', description: x, description_en: x, runbook: /runbooks/camera-offline}
      - alert: MqttDisconnected
        expr: ioc_mqtt_connected == 0
        for: 2s
        labels: {severity: critical, area: self}
        annotations: {summary: 'mất broker', summary_en: 'the broker is down', description: x, description_en: x, runbook: /runbooks/mqtt-disconnected}
"#;

fn configure(dir: &Path, port: u16, broker: u16, mail: u16, n_devices: usize, offline_after: u64) {
    let (mut agencies, mut people, mut devices) = (String::new(), String::new(), String::new());
    for number in 0..AGENCIES {
        let _ = writeln!(agencies, "  - {{id: xa-{number}, name: Xã {number}, leader: xa-{number}}}");
        let _ = writeln!(people, "  - {{id: xa-{number}, name: Xã {number}, email: lanhdao@xa-{number}.vn.example}}");
    }
    devices.push_str("id,kind,agency,site,village,name,lat,lon,state\n");
    for number in 0..n_devices {
        let agency = number % AGENCIES;
        let _ = writeln!(devices, "cam-{number},camera,xa-{agency},,Thôn {},Camera {number},,,installed", number / 40);
    }
    std::fs::write(dir.join("devices.csv"), devices).unwrap();
    std::fs::write(dir.join("rules.yml"), RULES).unwrap();
    let config = format!(
        "site: {{name: IOC, agency: ioc}}\nserver: {{listen: '127.0.0.1:{port}'}}\ndata_dir: data\nhistory: {{tick: 1s}}\n\
         rules: {{files: [rules.yml]}}\nincidents: {{group_wait: 1s, group_interval: 1s}}\n\
         people:\n  - {{id: ioc, name: IOC, email: truc@ioc.vn.example}}\n{people}\
         agencies:\n  - {{id: ioc, name: IOC, leader: ioc}}\n{agencies}\
         email: {{smtp: 'smtp://127.0.0.1:{mail}', from: 'ioc@vn.example'}}\n\
         mqtt:\n  - id: main\n    url: mqtt://127.0.0.1:{broker}\n    topics:\n\
         \x20     - {{filter: 'ioc/{{agency}}/{{kind}}/{{device}}/telemetry', decode: json, fields: {{fps: camera_frames_per_second}}}}\n\
         \x20     - {{filter: 'ioc/{{agency}}/{{kind}}/{{device}}/status', decode: status, retained: status}}\n\
         devices: {{inventory: devices.csv, offline_after: {offline_after}s}}\n"
    );
    std::fs::write(dir.join("ioc-watch.yml"), config).unwrap();
}

/// All cameras, speaking over one connection every second, and saying with each connection that they are online.
struct Cameras {
    stop: Arc<AtomicBool>,
    /// How many of them, from the first, are silent.
    n_mute: Arc<AtomicUsize>,
    task: Option<JoinHandle<()>>,
}

impl Cameras {
    fn start(port: u16, n_devices: usize, every: Duration) -> Cameras {
        let (stop, n_mute) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, mute) = (stop.clone(), n_mute.clone());
        let task = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                speak(port, n_devices, every, &stopped, &mute);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Cameras { stop, n_mute, task: Some(task) }
    }
}

impl Drop for Cameras {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            let _ = task.join();
        }
    }
}

/// Until the connection ends.
fn speak(port: u16, n_devices: usize, every: Duration, stop: &Arc<AtomicBool>, n_mute: &Arc<AtomicUsize>) {
    let mut options = MqttOptions::new("cameras", "127.0.0.1", port);
    options.set_inflight(200);
    let (client, mut connection) = Client::new(options, 10);
    let (own_stop, n_mute, over) = (stop.clone(), n_mute.clone(), Arc::new(AtomicBool::new(false)));
    let ended = over.clone();
    let sending = std::thread::spawn(move || {
        let mut is_first = true;
        while !own_stop.load(Ordering::Relaxed) && !ended.load(Ordering::Relaxed) {
            let begin = Instant::now();
            for number in n_mute.load(Ordering::Relaxed)..n_devices {
                let topic = format!("ioc/xa-{}/camera/cam-{number}", number % AGENCIES);
                if is_first && client.publish(format!("{topic}/status"), QoS::AtLeastOnce, true, "online").is_err() {
                    return;
                }
                if client.publish(format!("{topic}/telemetry"), QoS::AtLeastOnce, false, "{\"fps\":25}").is_err() {
                    return;
                }
            }
            is_first = false;
            std::thread::sleep(every.saturating_sub(begin.elapsed()));
        }
        let _ = client.disconnect();
    });
    for event in connection.iter() {
        match event {
            Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_) => break,
            Ok(Event::Incoming(Packet::ConnAck(_)) | _) => {}
        }
    }
    over.store(true, Ordering::Relaxed);
    // Whoever waits for room in its queue is told that nobody reads any more.
    drop(connection);
    let _ = sending.join();
}

fn query(port: u16, expression: &str) -> Vec<Value> {
    let (status, body) = get(port, &format!("/api/v1/query?query={}", encode(expression))).unwrap();
    assert_eq!(status, 200, "{expression}: {body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

fn number(port: u16, expression: &str) -> Option<f64> {
    query(port, expression).first()?["value"][1].as_str()?.parse().ok()
}

/// Area and agency of every incident there ever was.
fn incidents(port: u16) -> Vec<String> {
    let mut found = Vec::new();
    for state in ["open", "resolved"] {
        let (status, body) = get(port, &format!("/api/ioc/v1/incidents?state={state}")).unwrap();
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        for incident in answer["incidents"].as_array().unwrap() {
            found.push(format!("{} {}", incident["area"].as_str().unwrap(), incident["agency"].as_str().unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_broker_that_dies_under_a_fleet_is_one_incident_and_no_device_is_blamed() {
    let n_devices: usize = std::env::var("IOC_WATCH_FLEET").ok().and_then(|text| text.parse().ok()).unwrap_or(250);
    // A large fleet needs its time on a machine that does other things, too.
    let (offline_after, every) = if n_devices > 1_000 { (15, 5) } else { (4, 1) };
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Mosquitto::start("allow_anonymous true");
    let mail = MailServer::start(dir.path(), None);
    let port = free_port();
    configure(dir.path(), port, broker.port, mail.port, n_devices, offline_after);
    let cameras = Cameras::start(broker.port, n_devices, Duration::from_secs(every));
    let _daemon = Daemon::start(dir.path(), &dir.path().join("ioc-watch.yml"), port);
    let up = || number(port, "sum(ioc_device_up)").unwrap_or(0.0) as usize;
    wait_for("all cameras", Duration::from_secs(60), || (up() == n_devices).then_some(()));

    broker.stop("KILL");
    let told = mail.wait("truc@ioc.vn.example", 1, Duration::from_secs(30));
    wait_for("nobody to be known any more", Duration::from_secs(60), || {
        query(port, "ioc_device_up").is_empty().then_some(())
    });
    // Longer than it takes a rule to blame somebody.
    std::thread::sleep(4 * TICK);
    assert_eq!(query(port, "ALERTS{alertname=\"DeviceDown\"}"), Vec::<Value>::new());
    assert_eq!(incidents(port), ["self ioc"], "one, of the broker");
    assert_eq!(mail.mails().len(), told.len(), "and nobody else is told");

    cameras.n_mute.store(LOST, Ordering::Relaxed);
    broker.resume();
    wait_for("the daemon to be connected", Duration::from_secs(60), || {
        (number(port, "ioc_mqtt_connected") == Some(1.0)).then_some(())
    });
    let all_back = n_devices - LOST;
    // What the page says is what is known now; the history sees it with the next tick.
    let page_up = || {
        let (_, page) = get(port, "/metrics").unwrap();
        page.lines().filter(|line| line.starts_with("ioc_device_up{") && line.ends_with(" 1")).count()
    };
    wait_for("the cameras that are back", Duration::from_secs(60), || (page_up() == all_back).then_some(()));
    let begin = Instant::now();
    wait_for("their states", Duration::from_secs(10), || (up() == all_back).then_some(()));
    println!("{n_devices} devices: all states right {:.2} s after the last was heard", begin.elapsed().as_secs_f64());
    assert_eq!(query(port, "ioc_device_up == 0"), Vec::<Value>::new(), "nobody is blamed yet");

    let lost = wait_for("the lost ones to be missed", Duration::from_secs(60), || {
        Some(query(port, "ioc_device_up == 0")).filter(|lost| lost.len() == LOST)
    });
    let names: Vec<&str> = lost.iter().filter_map(|series| series["metric"]["device"].as_str()).collect();
    assert!(["cam-0", "cam-1", "cam-2"].iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(up(), all_back);
}
