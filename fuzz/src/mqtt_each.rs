//! A payload about several devices: each part is read or counted, in its three forms.

use ioc_watch::config::devices::DeviceKind;
use ioc_watch::config::mqtt::{Each, Field, Scale};
use ioc_watch::gather::device::decode::{self, Mapping, Reading, Readings};
use std::sync::LazyLock;

static MAPPING: LazyLock<Mapping> = LazyLock::new(|| {
    let field = |key: &str, metric: &str| Field::new(key, metric, 1.0);
    let fields = [
        field("fps", "camera_frames_per_second"),
        field("/net/loss", "hotspot_uplink_loss_ratio"),
        Field { scale: Scale::Count, ..field("/stations", "hotspot_clients") },
    ];
    Mapping::compile(&fields, Some("ts")).unwrap_or_else(|metric| panic!("no metric {metric}"))
});

pub fn run(payload: &[u8]) {
    let Ok(tree) = serde_json::from_slice(payload) else { return };
    let mut readings = Readings::default();
    for (at, id) in [("/cameras", None), ("/aps", Some("/mac")), ("", Some("/id"))] {
        let each = Each { at: at.to_owned(), id: id.map(str::to_owned) };
        for (_, part) in decode::each(&each, &tree).into_iter().flatten() {
            for kind in DeviceKind::ALL {
                if MAPPING.read_part(kind, part, &mut readings).is_ok() {
                    for (_, reading) in &readings.list {
                        assert!(!matches!(reading, Reading::Value(value) if !value.is_finite()));
                    }
                }
            }
        }
    }
}
