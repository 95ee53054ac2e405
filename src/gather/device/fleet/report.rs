//! What pages and the API say of devices: the inventory beside what was really heard.

use super::unit::Unit;
use super::{Fleet, Inner};
use crate::attribution::State;
use crate::config::Id;
use crate::config::devices::DeviceKind;
use crate::gather::device::inventory::Life;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// How a device stands in the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listed {
    Planned,
    Installed,
    Retired,
    /// In no inventory, but admitted.
    Discovered,
    /// In no inventory, and not admitted.
    Unlisted,
}

impl Listed {
    pub const ALL: [Listed; 5] =
        [Listed::Planned, Listed::Installed, Listed::Retired, Listed::Discovered, Listed::Unlisted];

    pub fn as_str(self) -> &'static str {
        match self {
            Listed::Planned => "planned",
            Listed::Installed => "installed",
            Listed::Retired => "retired",
            Listed::Discovered => "discovered",
            Listed::Unlisted => "unlisted",
        }
    }

    fn of(unit: &Unit) -> Listed {
        match unit.listing.life {
            _ if unit.discovered => Listed::Discovered,
            Life::Planned => Listed::Planned,
            Life::Installed => Listed::Installed,
            Life::Retired => Listed::Retired,
        }
    }
}

/// Which devices are asked for; `None`: whatever it is.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub agency: Option<String>,
    pub kind: Option<DeviceKind>,
    pub site: Option<String>,
    pub village: Option<String>,
    pub state: Option<State>,
    pub usable: Option<bool>,
    pub listed: Option<Vec<Listed>>,
    /// Whether it was ever heard.
    pub heard: Option<bool>,
    /// Those whose id comes after this one.
    pub after: Option<String>,
}

/// A device as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceInfo {
    pub id: String,
    pub listed: Listed,
    /// Of an unlisted one: as its topic says, if it does.
    pub agency: Option<Id>,
    pub kind: Option<DeviceKind>,
    pub site: String,
    pub village: String,
    pub name: String,
    /// Latitude and longitude in degrees.
    pub place: Option<(f64, f64)>,
    /// `None` of one that is not judged: planned, retired, unlisted.
    pub state: Option<State>,
    /// `None` while it says nothing of its work, or is not there.
    pub usable: Option<bool>,
    pub last_seen: Option<Timestamp>,
    pub was_heard: bool,
    /// Messages beyond what it may send, since the start of the program.
    pub n_limited: u32,
    /// How often it came back within an hour after it had gone, since the start of the program.
    pub n_flaps: u32,
}

/// Devices of one agency and kind, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub planned: usize,
    pub installed: usize,
    /// Of the installed ones.
    pub never_heard: usize,
    pub up: usize,
    pub usable: usize,
    pub unknown: usize,
    pub discovered: usize,
}

impl Fleet {
    /// At most `limit` devices of agencies that `sees` allows, by id, and whether there are more. An unlisted device whose
    /// topic names no agency is seen by who sees all: `sees(None)`.
    pub fn list(&self, filter: &Filter, limit: usize, sees: impl Fn(Option<&str>) -> bool) -> (Vec<DeviceInfo>, bool) {
        let inner = self.lock();
        let mut found: Vec<&Unit> = inner
            .units
            .iter()
            .filter(|unit| sees(Some(&unit.listing.agency)) && filter.takes(&Facts::of_unit(unit)))
            .collect();
        // One more tells whether there are more.
        keep_first(&mut found, limit + 1, |unit| &unit.listing.id);
        let mut devices: Vec<DeviceInfo> = found.into_iter().map(DeviceInfo::of).collect();
        if filter.listed.as_ref().is_none_or(|listed| listed.contains(&Listed::Unlisted)) {
            let strangers = inner.strangers();
            let mut found: Vec<DeviceInfo> = strangers
                .into_values()
                .filter(|device| sees(device.agency.as_deref()) && filter.takes(&Facts::of_stranger(device)))
                .collect();
            keep_first(&mut found, limit + 1, |device| &device.id);
            devices.append(&mut found);
            devices.sort_by(|a, b| a.id.cmp(&b.id));
        }
        let has_more = devices.len() > limit;
        devices.truncate(limit);
        (devices, has_more)
    }

    /// Counts by agency and kind, of agencies that `sees` allows.
    pub fn counts(&self, sees: impl Fn(&str) -> bool) -> BTreeMap<(Id, DeviceKind), Count> {
        let mut counts: BTreeMap<(Id, DeviceKind), Count> = BTreeMap::new();
        for unit in &self.lock().units {
            if !sees(&unit.listing.agency) || unit.listing.life == Life::Retired {
                continue;
            }
            let count = counts.entry((unit.listing.agency.clone(), unit.listing.kind)).or_default();
            count.discovered += usize::from(unit.discovered);
            // As in the village's series: what is installed was planned.
            count.planned += 1;
            if unit.listing.life == Life::Installed {
                count.installed += 1;
                count.never_heard += usize::from(!unit.was_heard());
                count.up += usize::from(unit.state() == State::Up);
                count.unknown += usize::from(unit.state() == State::Unknown);
                count.usable += usize::from(unit.state() == State::Up && unit.usable() == Some(true));
            }
        }
        counts
    }
}

/// The first `limit` by their key, in order; without sorting a whole fleet.
fn keep_first<T>(found: &mut Vec<T>, limit: usize, key: impl Fn(&T) -> &str) {
    if found.len() > limit {
        found.select_nth_unstable_by(limit, |a, b| key(a).cmp(key(b)));
        found.truncate(limit);
    }
    found.sort_by(|a, b| key(a).cmp(key(b)));
}

impl Inner {
    /// Unlisted devices of all brokers by id.
    fn strangers(&self) -> BTreeMap<&str, DeviceInfo> {
        let mut strangers: BTreeMap<&str, DeviceInfo> = BTreeMap::new();
        for (id, stranger) in self.links.iter().flat_map(|link| &link.unlisted) {
            // A reload or another broker may have made it known meanwhile.
            if self.find(id).is_some() {
                continue;
            }
            let info = DeviceInfo {
                id: id.to_string(),
                listed: Listed::Unlisted,
                agency: stranger.agency.clone(),
                kind: stranger.kind,
                site: String::new(),
                village: String::new(),
                name: String::new(),
                place: None,
                state: None,
                usable: None,
                last_seen: Some(stranger.last),
                was_heard: true,
                n_limited: 0,
                n_flaps: 0,
            };
            let known = strangers.entry(id).or_insert_with(|| info.clone());
            if known.last_seen < info.last_seen {
                *known = info;
            }
        }
        strangers
    }
}

impl DeviceInfo {
    fn of(unit: &Unit) -> DeviceInfo {
        let Facts { state, usable, listed, was_heard, .. } = Facts::of_unit(unit);
        DeviceInfo {
            id: unit.listing.id.to_string(),
            listed,
            agency: Some(unit.listing.agency.clone()),
            kind: Some(unit.listing.kind),
            site: unit.listing.site.to_string(),
            village: unit.village().unwrap_or_default().to_owned(),
            name: unit.listing.name.to_string(),
            place: unit.listing.place(),
            state,
            usable,
            last_seen: unit.seen(),
            was_heard,
            n_limited: unit.n_limited,
            n_flaps: unit.n_flaps,
        }
    }
}

/// What a filter looks at; borrowed, so that asking a whole fleet copies nothing.
struct Facts<'a> {
    id: &'a str,
    agency: Option<&'a str>,
    kind: Option<DeviceKind>,
    site: &'a str,
    village: &'a str,
    state: Option<State>,
    usable: Option<bool>,
    listed: Listed,
    was_heard: bool,
}

impl<'a> Facts<'a> {
    fn of_unit(unit: &'a Unit) -> Facts<'a> {
        let state = (unit.listing.life == Life::Installed).then_some(unit.state());
        Facts {
            id: &unit.listing.id,
            agency: Some(&unit.listing.agency),
            kind: Some(unit.listing.kind),
            site: &unit.listing.site,
            village: unit.village().unwrap_or_default(),
            state,
            usable: unit.usable().filter(|_| state == Some(State::Up)),
            listed: Listed::of(unit),
            was_heard: unit.was_heard(),
        }
    }

    fn of_stranger(device: &'a DeviceInfo) -> Facts<'a> {
        Facts {
            id: &device.id,
            agency: device.agency.as_deref(),
            kind: device.kind,
            site: "",
            village: "",
            state: None,
            usable: None,
            listed: Listed::Unlisted,
            was_heard: true,
        }
    }
}

impl Filter {
    fn takes(&self, device: &Facts<'_>) -> bool {
        self.agency.as_deref().is_none_or(|agency| device.agency == Some(agency))
            && self.kind.is_none_or(|kind| device.kind == Some(kind))
            && self.site.as_deref().is_none_or(|site| device.site == site)
            && self.village.as_deref().is_none_or(|village| device.village == village)
            && self.state.is_none_or(|state| device.state == Some(state))
            && self.usable.is_none_or(|usable| device.usable == Some(usable))
            && self.listed.as_ref().is_none_or(|listed| listed.contains(&device.listed))
            && self.heard.is_none_or(|heard| device.was_heard == heard)
            && self.after.as_deref().is_none_or(|after| device.id > after)
    }
}
