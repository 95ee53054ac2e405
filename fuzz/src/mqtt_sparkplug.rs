//! Any bytes are a Sparkplug payload or malformed; its metrics, by any name and datatype, are values their metric can have.

use ioc_watch::config::devices::DeviceKind;
use ioc_watch::config::mqtt::Field;
use ioc_watch::gather::device::decode::sparkplug::Payload;
use ioc_watch::gather::device::decode::{Mapping, Reading, Readings};
use std::sync::LazyLock;

static MAPPING: LazyLock<Mapping> = LazyLock::new(|| {
    let field = |key: &str, metric: &str| Field::new(key, metric, 1.0);
    let fields = [
        field("a", "camera_temperature_celsius"),
        field("b", "camera_picture_changed_timestamp_seconds"),
        field("c", "device_up"),
        field("d", "hotspot_uplink_loss_ratio"),
    ];
    Mapping::compile(&fields, None).unwrap_or_else(|metric| panic!("no metric {metric}"))
});

pub fn run(bytes: &[u8]) {
    let Ok(payload) = Payload::read(bytes) else { return };
    let _ = payload.bd_seq();
    let mut readings = Readings::default();
    let time = payload.timestamp.map(|milliseconds| milliseconds as f64 / 1e3);
    for kind in DeviceKind::ALL {
        for datatype in [None, Some(1), Some(4), Some(13)] {
            for key in 0..4 {
                let metrics = payload.metrics.iter().map(|metric| (key, metric, datatype));
                MAPPING.read_metrics(kind, metrics, time, &mut readings);
                for (_, reading) in &readings.list {
                    assert!(!matches!(reading, Reading::Value(value) if !value.is_finite()));
                }
            }
        }
    }
}
