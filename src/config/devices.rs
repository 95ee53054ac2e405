//! Section `devices`: the inventory of cameras and hotspots. The CSV itself is read by `gather/device`.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Devices {
    pub inventory: Option<PathBuf>,
    /// Unlisted devices admitted at most; `None` admits none.
    pub discover_max: Option<usize>,
    /// Silence that counts as offline; `None` is `never`. Default 3 m.
    pub offline_after: Option<Duration>,
    /// For discovered devices only. Default 30 d.
    pub forget_after: Duration,
}

/// What a device is. The label value `kind`, and the prefix of its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    Camera,
    Hotspot,
}

impl DeviceKind {
    pub const ALL: [DeviceKind; 2] = [DeviceKind::Camera, DeviceKind::Hotspot];

    pub fn as_str(self) -> &'static str {
        match self {
            DeviceKind::Camera => "camera",
            DeviceKind::Hotspot => "hotspot",
        }
    }
}
