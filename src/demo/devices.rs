//! The demo's cameras and hotspots: they speak real MQTT to the demo's broker, and a village can go dark.

use rumqttc::{AsyncClient, MqttOptions, QoS};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Villages and urban quarters with their place, in the order in which agencies get them.
const VILLAGES: [(&str, f64, f64); 8] = [
    ("Thôn An Thành 1", 15.6912, 108.3904),
    ("Thôn An Thành 2", 15.6958, 108.3971),
    ("Thôn Bình Hòa", 15.7230, 108.3655),
    ("Thôn Vinh Huy", 15.6541, 108.3410),
    ("Khối phố Hà Lam 1", 15.7402, 108.3597),
    ("Khối phố Hà Lam 2", 15.7435, 108.3642),
    ("Thôn Tiên Đỏa", 15.7688, 108.4120),
    ("Thôn Phước Long", 15.6207, 108.3022),
];
const N_CAMERAS: usize = 100;
const N_HOTSPOTS: usize = 60;
/// Where in a village a device hangs.
const CAMERA_PLACES: [&str; 5] = ["Cổng thôn", "Nhà văn hóa", "Chợ", "Trường tiểu học", "Ngã ba"];
const HOTSPOT_PLACES: [&str; 3] = ["Nhà văn hóa", "Chợ", "Công viên"];

/// One simulated device.
#[derive(Debug, Clone)]
pub struct Simulated {
    pub id: String,
    /// `camera` or `hotspot`.
    pub kind: &'static str,
    pub agency: String,
    pub site: String,
    pub village: &'static str,
    pub name: String,
    place: (f64, f64),
}

/// Who hangs where, and how often it speaks.
#[derive(Debug, Clone)]
pub struct Script {
    pub devices: Vec<Simulated>,
    /// Between two reports of a device.
    pub every: Duration,
    power: Power,
}

/// The villages' power switch; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Power(Arc<Mutex<BTreeSet<String>>>);

impl Power {
    /// Everything in the village falls silent.
    pub fn cut(&self, village: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(village.to_string());
    }

    /// It comes back.
    pub fn restore(&self, village: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(village);
    }

    fn is_cut(&self, village: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(village)
    }
}

impl Script {
    /// 100 cameras and 60 hotspots in eight villages, which the agencies (ids) share in turn.
    pub fn new(agencies: &[&str], every: Duration) -> Script {
        let n_agencies = agencies.len().max(1);
        let mut devices = Vec::with_capacity(N_CAMERAS + N_HOTSPOTS);
        let kinds =
            [("camera", "cam", N_CAMERAS, &CAMERA_PLACES[..]), ("hotspot", "ap", N_HOTSPOTS, &HOTSPOT_PLACES[..])];
        for (kind, prefix, count, places) in kinds {
            for number in 0..count {
                let home = number % VILLAGES.len();
                let (village, lat, lon) = VILLAGES[home];
                let nth = number / VILLAGES.len();
                let place = places[nth % places.len()];
                let shift = nth as f64 * 0.0007;
                devices.push(Simulated {
                    id: format!("{prefix}-{:03}", number + 1),
                    kind,
                    agency: agencies.get(home % n_agencies).unwrap_or(&"ioc").to_string(),
                    site: format!("thon-{}", home + 1),
                    village,
                    name: format!("{place} {}", nth / places.len() + 1),
                    place: (lat + shift, lon - shift),
                });
            }
        }
        Script { devices, every, power: Power::default() }
    }

    pub fn power(&self) -> Power {
        self.power.clone()
    }

    /// The names of the villages of an agency.
    pub fn villages(&self, agency: &str) -> Vec<&'static str> {
        let villages: BTreeSet<&'static str> =
            self.devices.iter().filter(|device| device.agency == agency).map(|device| device.village).collect();
        villages.into_iter().collect()
    }

    pub fn all_villages(&self) -> Vec<&'static str> {
        self.devices.iter().map(|device| device.village).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The configuration's section `sites`: all of them need `dependency`.
    pub fn sites_yaml(&self, dependency: &str) -> String {
        let places: BTreeSet<(&str, &str, &str)> =
            self.devices.iter().map(|device| (device.site.as_str(), device.agency.as_str(), device.village)).collect();
        let mut yaml = String::from("sites:\n");
        for (site, agency, village) in places {
            let _ =
                writeln!(yaml, "  - {{id: {site}, agency: {agency}, village: {village}, depends_on: [{dependency}]}}");
        }
        yaml
    }

    /// The inventory that lists these devices, as `gather/device` reads it.
    pub fn inventory_csv(&self) -> String {
        let mut csv = String::from("id,kind,agency,site,village,name,lat,lon,state\n");
        for Simulated { id, kind, agency, site, village, name, place: (lat, lon) } in &self.devices {
            let _ = writeln!(csv, "{id},{kind},{agency},{site},{village},{name},{lat:.5},{lon:.5},installed");
        }
        csv
    }

    /// The configuration's section `mqtt` for these devices and a broker on a loopback port.
    pub fn mqtt_yaml(port: u16) -> String {
        format!(
            r#"mqtt:
  - id: demo
    url: mqtt://127.0.0.1:{port}
    version: 3.1.1
    topics:
      - filter: "ioc/{{agency}}/{{kind}}/{{device}}/telemetry"
        qos: 1
        decode: json
        fields:
          fps: camera_frames_per_second
          bitrate_kbps: {{metric: camera_bitrate_bits_per_second, multiply: 1000}}
          recording: camera_recording
          storage_free: camera_storage_free_ratio
          clients: hotspot_clients
          rx_bytes: hotspot_receive_bytes_total
          tx_bytes: hotspot_transmit_bytes_total
          wan: hotspot_uplink_up
          latency_ms: {{metric: hotspot_uplink_latency_seconds, multiply: 0.001}}
"#
        )
    }
}

/// Publishes until `shutdown`; a lost broker is tried again.
pub async fn run(port: u16, script: Script, shutdown: CancellationToken) {
    let mut options = MqttOptions::new("demo-devices", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(10)).set_inflight(200);
    let (client, mut events) = AsyncClient::new(options, 256);
    let speak = speak(client, &script);
    let listen = async {
        loop {
            if let Err(error) = events.poll().await {
                tracing::debug!(%error, "the demo's devices have no broker");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = speak => {}
        () = listen => {}
    }
}

/// Each device once per `every`, spread evenly. Ends when the client's other half is gone.
async fn speak(client: AsyncClient, script: &Script) {
    let start = Instant::now();
    let step = script.every / script.devices.len().max(1) as u32;
    let mut ticks = tokio::time::interval(step.max(Duration::from_millis(1)));
    for round in 0_u64.. {
        for (number, device) in script.devices.iter().enumerate() {
            ticks.tick().await;
            if script.power.is_cut(device.village) {
                continue;
            }
            let topic = format!("ioc/{}/{}/{}/telemetry", device.agency, device.kind, device.id);
            let payload = telemetry(device, number as u64, round, start.elapsed().as_secs());
            if client.publish(topic, QoS::AtLeastOnce, false, payload).await.is_err() {
                return;
            }
        }
    }
}

/// What a device says: plausible and different each time, the same in every run.
fn telemetry(device: &Simulated, number: u64, round: u64, seconds: u64) -> String {
    let noise =
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(round.wrapping_mul(0x2545_f491_4f6c_dd1d)) >> 40;
    if device.kind == "camera" {
        let (fps, kbps) = (24 + noise % 2, 1_400 + noise % 800);
        return format!(
            r#"{{"fps":{fps},"bitrate_kbps":{kbps},"recording":true,"storage_free":0.{}}}"#,
            20 + number % 60
        );
    }
    let clients = noise % 25;
    let received = seconds * (10_000 + number * 700);
    format!(
        r#"{{"clients":{clients},"rx_bytes":{received},"tx_bytes":{},"wan":true,"latency_ms":{}.5}}"#,
        received * 8,
        8 + noise % 30
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Id, Problems};
    use crate::gather::device::inventory;

    #[test]
    fn the_inventory_lists_every_device_and_reads_without_a_problem() {
        let script = Script::new(&["tam-ky", "hoi-an"], Duration::from_secs(3));
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let file = directory.path().join("devices.csv");
        std::fs::write(&file, script.inventory_csv()).unwrap_or_else(|error| panic!("{error}"));
        let agencies = ["tam-ky", "hoi-an"].iter().filter_map(|id| Id::parse(id)).collect();
        let mut problems = Problems::default();
        let inventory = inventory::load(&file, &agencies, &mut problems);
        assert_eq!((problems.into_sorted(), inventory.devices.len()), (vec![], 160));
        assert_eq!(script.villages("tam-ky").len(), 4);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_village_goes_dark_and_comes_back() {
        let port = crate::demo::broker::start().unwrap_or_else(|error| panic!("{error}"));
        let script = Script::new(&["tam-ky"], Duration::from_millis(320));
        let (power, dark) = (script.power(), VILLAGES[0].0);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(port, script.clone(), shutdown.clone()));
        let (client, mut events) = AsyncClient::new(MqttOptions::new("listener", "127.0.0.1", port), 10);
        client.subscribe("ioc/#", QoS::AtLeastOnce).await.unwrap_or_else(|error| panic!("{error}"));
        let topic_of_dark = |topic: &str| {
            script.devices.iter().any(|d| d.village == dark && topic.split('/').nth(3) == Some(d.id.as_str()))
        };
        let mut heard = async |wanted: bool, patience: Duration| {
            let deadline = tokio::time::Instant::now() + patience;
            while let Ok(event) = tokio::time::timeout_at(deadline, events.poll()).await {
                if let Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish))) = event
                    && topic_of_dark(&publish.topic) == wanted
                {
                    return true;
                }
            }
            false
        };
        assert!(heard(true, Duration::from_secs(10)).await);
        power.cut(dark);
        // What was under way may still come.
        heard(true, Duration::from_millis(500)).await;
        while heard(true, Duration::from_millis(700)).await {}
        assert!(heard(false, Duration::from_secs(10)).await, "the others go on");
        power.restore(dark);
        assert!(heard(true, Duration::from_secs(10)).await);
        shutdown.cancel();
        running.await.unwrap_or_else(|error| panic!("{error}"));
    }
}
