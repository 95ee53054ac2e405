//! Any bare value, or collectd's form of several, is read or counted; every value that is taken is one its metric can have.

use ioc_watch::config::devices::DeviceKind;
use ioc_watch::config::mqtt::{Field, Scale};
use ioc_watch::gather::device::decode::{Mapping, Reading, Readings};
use std::sync::LazyLock;

static MAPPING: LazyLock<Mapping> = LazyLock::new(|| {
    let field = |key: &str, metric: &str| Field::new(key, metric, 1.0);
    let words = vec![("ON".to_owned(), 1.0), ("OFF".to_owned(), 0.0)];
    let fields = [
        field("1", "camera_picture_changed_timestamp_seconds"),
        Field { words, ..field("2", "camera_recording") },
        Field { scale: Scale::Above(10.0), ..field("3", "device_usable") },
        field("1", "hotspot_uplink_loss_ratio"),
    ];
    Mapping::compile(&fields, None).unwrap_or_else(|metric| panic!("no metric {metric}"))
});

pub fn run(payload: &[u8]) {
    let mut readings = Readings::default();
    for kind in DeviceKind::ALL {
        if MAPPING.read_values(kind, payload, &mut readings).is_ok() {
            for (_, reading) in &readings.list {
                assert!(!matches!(reading, Reading::Value(value) if !value.is_finite()));
            }
            assert!(readings.time.is_none_or(|time| time.is_finite() && time >= 0.0));
        }
    }
}
