//! Any payload of a device is read or counted as malformed; every value that is taken is one its metric can have.

use ioc_watch::config::devices::DeviceKind;
use ioc_watch::config::mqtt::Field;
use ioc_watch::gather::device::decode::{Mapping, Reading, Readings};
use std::sync::LazyLock;

/// Plain keys, which are read from a stream, and the same with a pointer, which needs the tree.
static MAPPINGS: LazyLock<[Mapping; 2]> = LazyLock::new(|| {
    let field = |key: &str, metric: &str, multiply| Field::new(key, metric, multiply);
    let plain = || {
        vec![
            field("fps", "camera_frames_per_second", 1.0),
            field("kbps", "camera_bitrate_bits_per_second", 1000.0),
            field("rec", "camera_recording", 1.0),
            field("free", "camera_storage_free_ratio", 0.01),
            field("temp", "camera_temperature_celsius", 1.0),
            field("online", "device_up", 1.0),
            field("clients", "hotspot_clients", 1.0),
        ]
    };
    let mut deep = plain();
    deep.push(field("/net/rx", "hotspot_receive_bytes_total", 1.0));
    [plain(), deep].map(|fields| Mapping::compile(&fields, None).unwrap_or_else(|metric| panic!("no metric {metric}")))
});

pub fn run(payload: &[u8]) {
    let mut readings = Readings::default();
    for mapping in &*MAPPINGS {
        for kind in DeviceKind::ALL {
            if mapping.read(kind, payload, &mut readings).is_ok() {
                let _ = readings.online();
                for (_, reading) in &readings.list {
                    assert!(!matches!(reading, Reading::Value(value) if !value.is_finite()));
                }
            }
        }
    }
}
