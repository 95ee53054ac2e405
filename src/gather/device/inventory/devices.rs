//! The devices of an inventory as they are held, of which there may be a hundred thousand: what many have in common stands
//! once.

use super::{Life, Listing};
use crate::config::Id;
use crate::config::devices::DeviceKind;
use std::borrow::Borrow;
use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// What is held of one line of the inventory. Reads like its [`Common`] part.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    pub id: Id,
    /// NFC; may be empty.
    pub name: Box<str>,
    place: Place,
    common: Arc<Common>,
}

/// What the devices of one place mostly have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Common {
    pub kind: DeviceKind,
    pub agency: Id,
    /// Id of the site; may be empty.
    pub site: Arc<str>,
    /// NFC; may be empty.
    pub village: Arc<str>,
    pub life: Life,
    /// How long its silence may last; `None` if the configuration's value holds, `Some(None)` for `never`.
    pub offline_after: Option<Option<Duration>>,
}

/// Latitude and longitude in ten-millionths of a degree, of which the longest is a centimetre.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    lat: i32,
    lon: i32,
}

impl Place {
    const UNIT: f64 = 1e7;
    const NOWHERE: Place = Place { lat: i32::MAX, lon: i32::MAX };

    /// Of degrees.
    fn of((lat, lon): (f64, f64)) -> Place {
        let short = |degrees: f64| (degrees * Place::UNIT).round() as i32;
        Place { lat: short(lat), lon: short(lon) }
    }

    /// In degrees.
    fn degrees(self) -> Option<(f64, f64)> {
        (self != Place::NOWHERE).then(|| (f64::from(self.lat) / Place::UNIT, f64::from(self.lon) / Place::UNIT))
    }
}

impl Device {
    /// Latitude and longitude in degrees (WGS 84), to seven decimals.
    pub fn place(&self) -> Option<(f64, f64)> {
        self.place.degrees()
    }
}

impl Deref for Device {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

/// Each combination of what devices have in common, once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commons(HashSet<Arc<Common>>);

impl Commons {
    pub fn device(&mut self, listing: Listing) -> Device {
        let Listing { id, kind, agency, site, village, name, place, life, offline_after } = listing;
        let common = Common { kind, agency, site, village, life, offline_after };
        let common = match self.0.get(&common) {
            Some(known) => known.clone(),
            None => {
                let common = Arc::new(common);
                self.0.insert(common.clone());
                common
            }
        };
        Device { id, name, place: place.map_or(Place::NOWHERE, Place::of), common }
    }
}

/// The devices of an inventory, in the order of the file. Each is shared with the fleet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Devices {
    list: Vec<Arc<Device>>,
    commons: Commons,
}

impl Devices {
    pub fn push(&mut self, listing: Listing) {
        self.list.push(Arc::new(self.commons.device(listing)));
    }

    /// After the last one.
    pub fn shrink_to_fit(&mut self) {
        self.list.shrink_to_fit();
    }
}

impl Deref for Devices {
    type Target = [Arc<Device>];

    fn deref(&self) -> &[Arc<Device>] {
        &self.list
    }
}

impl<'d> IntoIterator for &'d Devices {
    type Item = &'d Arc<Device>;
    type IntoIter = std::slice::Iter<'d, Arc<Device>>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl<L: Borrow<Listing>> FromIterator<L> for Devices {
    fn from_iter<I: IntoIterator<Item = L>>(listings: I) -> Devices {
        let mut devices = Devices::default();
        listings.into_iter().for_each(|listing| devices.push(listing.borrow().clone()));
        devices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(kind: DeviceKind, place: Option<(f64, f64)>) -> Listing {
        let id = |text: &str| Id::parse(text).unwrap_or_else(|| panic!("{text}"));
        let (agency, site, village, name) = (id("tam-ky"), "nvh-1".into(), "Thôn 1".into(), "Cổng".into());
        Listing { id: id("cam-1"), kind, agency, site, village, name, place, life: Life::Planned, offline_after: None }
    }

    #[test]
    fn a_place_is_what_was_written_to_seven_decimals() {
        let rows = [
            (Some((15.57, 108.4700001)), Some((15.57, 108.4700001))),
            (Some((-90.0, 180.0)), Some((-90.0, 180.0))),
            (Some((0.0, -179.9999999)), Some((0.0, -179.9999999))),
            (Some((15.573_600_04, 108.0)), Some((15.573_6, 108.0))),
            (None, None),
        ];
        for (written, held) in rows {
            let device = Commons::default().device(listing(DeviceKind::Camera, written));
            assert_eq!(device.place(), held, "{written:?}");
        }
    }

    #[test]
    fn what_devices_have_in_common_stands_once_and_what_is_left_is_small() {
        let kinds = [DeviceKind::Camera, DeviceKind::Camera, DeviceKind::Hotspot];
        let devices: Devices = kinds.into_iter().map(|kind| listing(kind, None)).collect();
        assert_eq!(devices.commons.0.len(), 2);
        assert!(Arc::ptr_eq(&devices[0].common, &devices[1].common));
        assert_eq!((devices[2].kind, &*devices[2].village), (DeviceKind::Hotspot, "Thôn 1"));
        // For each of 100,000 devices; 64 bytes with the counts of an Arc, and the texts.
        assert_eq!(size_of::<Device>(), 48);
    }
}
