//! Section `devices`: the inventory of cameras and hotspots. The CSV itself is read by `gather/device`.

use super::decode::{self, Context, DAY, HOUR, MINUTE, SECOND, Section, YEAR};
use super::node::Node;
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

/// Unlisted devices that may be admitted: each has some twenty series.
const MAX_DISCOVERED: u64 = 100_000;

impl Devices {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Devices> {
        const KEYS: &[&str] = &["inventory", "discover", "offline_after", "forget_after"];
        let section = Section::open(cx, node, "devices", KEYS, &[])?;
        let inventory = section.optional(cx, "inventory", decode::readable_file);
        let discover_max = section.optional(cx, "discover", |cx, node| {
            let section = Section::open(cx, node, "discover", &["max"], &[])?;
            section.required(cx, "max", decode::integer(1..=MAX_DISCOVERED))
        });
        let offline_after = section.optional(cx, "offline_after", offline_after).unwrap_or(Some(3 * MINUTE));
        let forget_after = section.optional(cx, "forget_after", decode::duration(HOUR..=YEAR)).unwrap_or(30 * DAY);
        if section.get("inventory").is_none() && section.get("discover").is_none() {
            cx.error(
                section.place,
                "devices: neither \"inventory\" nor \"discover\" is given, so no device is admitted",
            );
        }
        let discover_max = discover_max.and_then(|max| usize::try_from(max).ok());
        Some(Devices { inventory, discover_max, offline_after, forget_after })
    }
}

fn offline_after(cx: &mut Context<'_>, node: &Node) -> Option<Option<Duration>> {
    match node.as_text() {
        Some("never") => Some(None),
        Some(text) if decode::parse_duration(text).is_some() => decode::duration(SECOND..=31 * DAY)(cx, node).map(Some),
        _ => {
            cx.expected(node, "a duration such as 3m, or never");
            None
        }
    }
}
