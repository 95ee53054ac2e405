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
    /// Messages of telemetry a second that one device may send, averaged over a minute. Default 100.
    pub rate_limit: u16,
    /// `None`: all agencies' devices are ours.
    pub shard: Option<Shard>,
}

/// One of several daemons that divide the agencies' devices among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0, below `of`.
    pub index: u32,
    pub of: u32,
}

impl Shard {
    /// Whether the agency's devices are ours. Depends on its id and `of` alone (FNV-1a, 64 bits), so that all daemons of
    /// all versions agree.
    pub fn owns(self, agency: &str) -> bool {
        let hash = agency
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        hash % u64::from(self.of.max(1)) == u64::from(self.index)
    }
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
        const KEYS: &[&str] = &["inventory", "discover", "offline_after", "forget_after", "rate_limit", "shard"];
        let section = Section::open(cx, node, "devices", KEYS, &[])?;
        let inventory = section.optional(cx, "inventory", decode::readable_file);
        let discover_max = section.optional(cx, "discover", |cx, node| {
            let section = Section::open(cx, node, "discover", &["max"], &[])?;
            section.required(cx, "max", decode::integer(1..=MAX_DISCOVERED))
        });
        let offline_after = section.optional(cx, "offline_after", offline_after).unwrap_or(Some(3 * MINUTE));
        let forget_after = section.optional(cx, "forget_after", decode::duration(HOUR..=YEAR)).unwrap_or(30 * DAY);
        let rate_limit = section.optional(cx, "rate_limit", decode::integer(1..=10_000)).unwrap_or(100);
        let shard = section.optional(cx, "shard", shard);
        if section.get("inventory").is_none() && section.get("discover").is_none() {
            cx.error(
                section.place,
                "devices: neither \"inventory\" nor \"discover\" is given, so no device is admitted",
            );
        }
        let discover_max = discover_max.and_then(|max| usize::try_from(max).ok());
        let rate_limit = u16::try_from(rate_limit).unwrap_or(u16::MAX);
        Some(Devices { inventory, discover_max, offline_after, forget_after, rate_limit, shard })
    }
}

fn shard(cx: &mut Context<'_>, node: &Node) -> Option<Shard> {
    const MOST: u64 = 100;
    let section = Section::open(cx, node, "shard", &["index", "of"], &[])?;
    let of = section.required(cx, "of", decode::integer(1..=MOST));
    let index = section.required(cx, "index", decode::integer(0..=MOST - 1));
    let (index, of) = (u32::try_from(index?).ok()?, u32::try_from(of?).ok()?);
    if index >= of {
        cx.error(section.place, format!("shard: \"index\" counts from 0, so of {of} it is at most {}", of - 1));
        return None;
    }
    Some(Shard { index, of })
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

#[cfg(test)]
mod tests {
    use super::Shard;

    #[test]
    fn every_agency_has_one_shard_and_keeps_it() {
        let shards: Vec<Shard> = (0..3).map(|index| Shard { index, of: 3 }).collect();
        let mut n_owned = [0; 3];
        for number in 0..300 {
            let agency = format!("xa-{number}");
            let owners: Vec<usize> = (0..3).filter(|&index| shards[index].owns(&agency)).collect();
            assert_eq!(owners.len(), 1, "{agency}");
            n_owned[owners[0]] += 1;
        }
        assert!(n_owned.iter().all(|n| *n > 60), "{n_owned:?}");
        // Another version must not move an agency to another daemon.
        let owner = |agency: &str| (0..97).find(|&index| Shard { index, of: 97 }.owns(agency));
        assert_eq!([owner("tam-ky"), owner("hoi-an"), owner("thang-binh")], [Some(69), Some(75), Some(65)]);
    }
}
