//! The fleet: every device's presence, its series, its interval in the ledger and when it was last seen.
//!
//! Lives as long as the daemon: a reload gives it a new inventory with [`Fleet::replace`] and nothing that is known is
//! forgotten. Brokers report through a [`Session`]; a sweep each second turns silence into *offline*.

mod report;
mod seen;
mod session;
mod unit;

pub use report::{Count, DeviceInfo, Filter, Listed};
pub use session::{Found, Session};

use super::inventory::{Inventory, Life, Listing};
use super::presence::Contact;
use crate::attribution::{Ledger, State, SubjectKind};
use crate::config::devices::{DeviceKind, Shard};
use crate::config::mqtt::Broker;
use crate::config::{Config, Id};
use crate::metrics::{Metrics, columns};
use crate::store::{Store, StoreError};
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use unit::Unit;

/// Unlisted devices of one broker that are told apart; more are not remembered.
const MAX_UNLISTED: usize = 10_000;

/// Filters of single agencies; where there would be more, all agencies' messages are asked for.
const MAX_FILTERS: usize = 5_000;

/// Both clocks at one moment: intervals are measured on the monotonic one, stored on the wall.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub wall: Timestamp,
    pub tick: Instant,
}

impl Now {
    pub fn read() -> Now {
        Now { wall: Timestamp::now(), tick: Instant::now() }
    }
}

/// What of the configuration matters to the fleet.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Unlisted devices admitted at most.
    pub discover_max: usize,
    /// `None`: silence says nothing.
    pub offline_after: Option<Duration>,
    /// For discovered devices only.
    pub forget_after: Duration,
    /// Messages of telemetry a second that one device may send, averaged over a minute; `None`: any number.
    pub rate_limit: Option<f64>,
    /// Which agencies' devices are ours, if several daemons share them.
    pub shard: Option<Shard>,
    pub agencies: BTreeSet<Id>,
    /// Owns discovered devices whose topic names no agency, and our own series.
    pub site_agency: Id,
}

impl Settings {
    pub fn new(config: &Config) -> Settings {
        let devices = config.devices.as_ref();
        Settings {
            discover_max: devices.and_then(|devices| devices.discover_max).unwrap_or(0),
            offline_after: devices.map_or(Some(Duration::from_secs(180)), |devices| devices.offline_after),
            forget_after: devices.map_or(Duration::from_secs(30 * 86_400), |devices| devices.forget_after),
            rate_limit: devices.map(|devices| f64::from(devices.rate_limit)),
            shard: devices.and_then(|devices| devices.shard),
            agencies: config.agencies.iter().map(|agency| agency.id.clone()).collect(),
            site_agency: config.site.agency.clone(),
        }
    }
}

/// All devices. Shared by the brokers' tasks and the sweeper.
pub struct Fleet {
    metrics: Arc<Metrics>,
    ledger: Ledger,
    store: Store,
    inner: Mutex<Inner>,
}

struct Inner {
    settings: Settings,
    units: Vec<Unit>,
    by_id: HashMap<Id, u32>,
    /// When silence has to be judged, and of which unit. At most one entry a unit (`Unit::queued`).
    due: BinaryHeap<Reverse<(Instant, u32)>>,
    links: Vec<Link>,
    n_discovered: usize,
    /// Listed devices that another daemon watches.
    elsewhere: HashSet<Id>,
    /// Units whose last_seen is not yet in the database.
    dirty: Vec<u32>,
}

/// Our connection to one broker.
struct Link {
    broker: Id,
    configured: bool,
    contact: Contact,
    /// Ids heard over it that no inventory lists, up to [`MAX_UNLISTED`].
    unlisted: HashMap<Box<str>, Stranger>,
}

/// An unlisted device, as its topic names it.
struct Stranger {
    /// Only one that is ours.
    agency: Option<Id>,
    kind: Option<DeviceKind>,
    last: Timestamp,
}

impl Fleet {
    /// Takes up the fleet where the last run left it: nothing is known of a device but when it was last seen.
    pub async fn open(
        metrics: Arc<Metrics>,
        ledger: Ledger,
        store: Store,
        settings: Settings,
        inventory: &Inventory,
        now: Now,
    ) -> Result<Arc<Fleet>, StoreError> {
        let seen = seen::load(&store).await?;
        let inner = Inner {
            settings: settings.clone(),
            units: Vec::new(),
            by_id: HashMap::new(),
            due: BinaryHeap::new(),
            links: Vec::new(),
            n_discovered: 0,
            elsewhere: HashSet::new(),
            dirty: Vec::new(),
        };
        let fleet = Fleet { metrics, ledger, store, inner: Mutex::new(inner) };
        fleet.lock().units = seen.into_iter().map(|row| Unit::remembered(row, now)).collect();
        fleet.replace(settings, inventory, now);
        Ok(Arc::new(fleet))
    }

    /// Applies a new inventory and configuration. What is known of devices that stay, stays.
    pub fn replace(&self, settings: Settings, inventory: &Inventory, now: Now) {
        let mut inner = self.lock();
        let mut old: HashMap<Id, Unit> = inner.units.drain(..).map(|unit| (unit.id.clone(), unit)).collect();
        inner.settings = settings;
        inner.due.clear();
        inner.by_id.clear();
        for link in &mut inner.links {
            link.unlisted.clear();
        }
        inner.n_discovered = 0;
        let shard = inner.settings.shard;
        let is_ours = |agency: &str| shard.is_none_or(|shard| shard.owns(agency));
        inner.elsewhere =
            inventory.devices.iter().filter(|device| !is_ours(&device.agency)).map(|d| d.id.clone()).collect();
        for listing in inventory.devices.iter().filter(|device| is_ours(&device.agency)) {
            let unit = match old.remove(&listing.id) {
                Some(unit) => unit.relisted(listing, &self.metrics),
                None => Unit::new(listing, now),
            };
            inner.insert(unit);
        }
        let mut discovered: Vec<Unit> = old.into_values().collect();
        // The most recently seen are kept.
        discovered.sort_by_key(|unit| (Reverse(unit.seen), unit.id.clone()));
        for mut unit in discovered {
            let stays = unit.discovered && is_ours(&unit.agency) && unit.is_remembered(&inner.settings, now.wall);
            if stays && inner.n_discovered < inner.settings.discover_max {
                inner.insert(unit);
            } else {
                unit.remove_rows(&self.metrics);
            }
        }
        for index in 0..inner.units.len() {
            inner.units[index].show(&self.metrics);
            inner.units[index].observe(&self.ledger, now.wall, "not heard yet");
            inner.queue(index as u32);
        }
        inner.dirty = (0..inner.units.len() as u32).filter(|&index| inner.units[index as usize].dirty).collect();
        self.retain(&inner, now);
    }

    /// Ends series and intervals of devices that are no longer ours, also those of an earlier run.
    fn retain(&self, inner: &Inner, now: Now) {
        let unit = |id: &str| inner.by_id.get(id).map(|&index| &inner.units[index as usize]);
        for (table, kind) in
            [(columns::camera::TABLE, DeviceKind::Camera), (columns::hotspot::TABLE, DeviceKind::Hotspot)]
        {
            // agency, site, device
            self.metrics.table(table).retain(|labels| {
                unit(&labels[2]).is_some_and(|u| u.kind == kind && *u.agency == *labels[0] && *u.site == *labels[1])
            });
        }
        // agency, kind, site, device[, village, name]
        for table in [columns::device::TABLE, columns::device_info::TABLE] {
            self.metrics.table(table).retain(|labels| {
                unit(&labels[3])
                    .is_some_and(|u| *u.agency == *labels[0] && u.kind.as_str() == &*labels[1] && *u.site == *labels[2])
            });
        }
        let villages: HashSet<(&str, &str)> =
            inner.units.iter().filter_map(|unit| Some((&*unit.agency, unit.village()?))).collect();
        self.metrics.table(columns::village::TABLE).retain(|labels| villages.contains(&(&*labels[0], &*labels[1])));
        self.ledger.retain(now.wall, |subject| {
            !matches!(subject.kind, SubjectKind::Camera | SubjectKind::Hotspot)
                || unit(&subject.id)
                    .is_some_and(|u| u.life == Life::Installed && SubjectKind::from(u.kind) == subject.kind)
        });
    }

    /// Names the brokers that are configured now; connections to others no longer count.
    pub(super) fn configure_links(&self, brokers: &[Id]) {
        let mut inner = self.lock();
        for link in &mut inner.links {
            link.configured = brokers.contains(&link.broker);
            link.contact = Contact::Away(None);
        }
        for broker in brokers {
            if !inner.links.iter().any(|link| link.broker == *broker) {
                inner.links.push(Link {
                    broker: broker.clone(),
                    configured: true,
                    contact: Contact::Away(None),
                    unlisted: HashMap::new(),
                });
            }
        }
    }

    /// What to subscribe to at a broker, with the quality of service: of one's own agencies where several daemons share
    /// them and the topics tell them apart.
    pub(super) fn filters(&self, broker: &Broker) -> Vec<(String, u8)> {
        let inner = self.lock();
        let Settings { shard, agencies, .. } = &inner.settings;
        let own: Option<Vec<&str>> =
            shard.map(|shard| agencies.iter().map(Id::as_str).filter(|agency| shard.owns(agency)).collect());
        let fits = |own: &Vec<&str>| !own.is_empty() && own.len() * broker.topics.len() <= MAX_FILTERS;
        let own = own.filter(fits).unwrap_or_else(|| vec!["+"]);
        let mut filters = Vec::new();
        for topic in &broker.topics {
            let names: BTreeSet<String> = own.iter().map(|agency| topic.filter_of(agency)).collect();
            let group = broker.share.as_ref().filter(|_| !topic.retained_status);
            let whole = |name: String| group.map_or(name.clone(), |group| format!("$share/{group}/{name}"));
            filters.extend(names.into_iter().map(|name| (whole(name), topic.qos)));
        }
        filters
    }

    /// The number under which a configured broker reports.
    pub(super) fn link(&self, broker: &Id) -> usize {
        let inner = self.lock();
        inner.links.iter().position(|link| link.broker == *broker).unwrap_or(0)
    }

    /// Our connection to a broker came, or is (still) away. Its devices' silence begins to count anew when it comes back.
    pub fn link_changed(&self, link: usize, is_up: bool, now: Instant) {
        let mut inner = self.lock();
        let Some(entry) = inner.links.get_mut(link) else { return };
        entry.contact = match entry.contact {
            _ if is_up => Contact::Up(now),
            Contact::Away(Some(_)) => return,
            Contact::Up(_) | Contact::Away(None) => Contact::Away(Some(now)),
        };
        for index in 0..inner.units.len() as u32 {
            inner.queue(index);
        }
    }

    /// Holds the fleet for a batch of messages of one broker.
    pub fn session(&self, link: usize, now: Now) -> Session<'_> {
        Session::new(self, self.lock(), link, now)
    }

    /// Judges the silence of whoever is due. Call each second.
    pub fn sweep(&self, now: Now) {
        let mut inner = self.lock();
        while let Some(&Reverse((due, index))) = inner.due.peek() {
            if due > now.tick {
                break;
            }
            inner.due.pop();
            let contact = inner.contact_of(index);
            let limit = inner.limit_of(index);
            let unit = &mut inner.units[index as usize];
            unit.queued = false;
            let presence = unit.presence.silence(limit, contact, now.tick);
            if presence.state != unit.presence.state {
                let reason = if presence.state == State::Down { "silent" } else { "not connected to the broker" };
                unit.change(presence, &self.metrics, &self.ledger, now.wall, reason);
            }
            inner.queue(index);
        }
    }

    /// Forgets discovered devices that have been silent for `forget_after`. Call now and then.
    pub fn forget(&self, now: Now) {
        let mut inner = self.lock();
        let settings = inner.settings.clone();
        let gone = |unit: &Unit| unit.discovered && !unit.is_remembered(&settings, now.wall);
        if !inner.units.iter().any(gone) {
            return;
        }
        for mut unit in std::mem::take(&mut inner.units) {
            if gone(&unit) { unit.remove_rows(&self.metrics) } else { inner.units.push(unit) }
        }
        let units = std::mem::take(&mut inner.units);
        inner.by_id.clear();
        inner.due.clear();
        inner.n_discovered = 0;
        for mut unit in units {
            unit.queued = false;
            inner.insert(unit);
        }
        for index in 0..inner.units.len() as u32 {
            inner.queue(index);
        }
        inner.dirty = (0..inner.units.len() as u32).filter(|&index| inner.units[index as usize].dirty).collect();
        self.retain(&inner, now);
    }

    /// Writes to the database when devices were last seen. On an error nothing is lost: the next flush writes it.
    pub async fn flush(&self, now: Timestamp) -> Result<(), StoreError> {
        let rows: Vec<seen::Seen> = {
            let mut inner = self.lock();
            let dirty = std::mem::take(&mut inner.dirty);
            let row = |index: u32| {
                let unit = inner.units.get_mut(index as usize)?;
                unit.dirty = false;
                unit.seen_row()
            };
            dirty.into_iter().filter_map(row).collect()
        };
        let written = seen::write(&self.store, &rows).await;
        if written.is_err() {
            let mut inner = self.lock();
            for row in &rows {
                if let Some(&index) = inner.by_id.get(&row.device) {
                    inner.touch(index);
                }
            }
        }
        let forget_before = {
            let inner = self.lock();
            let age = jiff::SignedDuration::try_from(inner.settings.forget_after).ok();
            age.and_then(|age| now.checked_sub(age).ok())
        };
        written?;
        match forget_before {
            Some(before) => seen::forget(&self.store, before).await,
            None => Ok(()),
        }
    }

    /// How many devices there are or may yet be discovered: the bound of what a queue has to hold.
    pub fn capacity(&self) -> usize {
        let inner = self.lock();
        inner.units.len() + inner.settings.discover_max.saturating_sub(inner.n_discovered)
    }

    /// How many devices there are, listed and discovered.
    pub fn len(&self) -> usize {
        self.lock().units.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many different unlisted devices were heard over a broker since the last reload, up to a bound.
    pub fn n_unlisted(&self, link: usize) -> usize {
        self.lock().links.get(link).map_or(0, |link| link.unlisted.len())
    }

    /// Presence of a device, as pages and tests ask for it.
    pub fn state(&self, id: &str) -> Option<State> {
        let inner = self.lock();
        inner.by_id.get(id).map(|&index| inner.units[index as usize].presence.state)
    }

    /// As if the broker were the only one, and connected.
    #[cfg(test)]
    pub(crate) fn connect_for_test(&self, broker: &str, now: Now) {
        self.configure_links(&[Id::parse(broker).unwrap_or_else(|| panic!("{broker}"))]);
        self.link_changed(0, true, now.tick);
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn site_agency(&self) -> Id {
        self.lock().settings.site_agency.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic between two changes of a unit leaves at worst one stale series, which its next message corrects.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, mut unit: Unit) -> u32 {
        let index = self.units.len() as u32;
        unit.queued = false;
        self.n_discovered += usize::from(unit.discovered);
        self.by_id.insert(unit.id.clone(), index);
        self.units.push(unit);
        index
    }

    /// Whether we could have heard the unit: over the broker that last brought it, else over every broker.
    fn contact_of(&self, index: u32) -> Contact {
        let heard = self.units[index as usize].link.and_then(|link| self.links.get(link));
        if let Some(link) = heard.filter(|link| link.configured) {
            return link.contact;
        }
        let configured = self.links.iter().filter(|link| link.configured).map(|link| link.contact);
        configured.reduce(Contact::and).unwrap_or(Contact::Away(None))
    }

    fn limit_of(&self, index: u32) -> Option<Duration> {
        self.units[index as usize].offline_after.unwrap_or(self.settings.offline_after)
    }

    /// Makes sure that the unit's silence will be judged.
    fn queue(&mut self, index: u32) {
        if self.units[index as usize].queued {
            return;
        }
        let due = self.units[index as usize].presence.due(self.limit_of(index), self.contact_of(index));
        if let Some(due) = due {
            self.units[index as usize].queued = true;
            self.due.push(Reverse((due, index)));
        }
    }

    fn touch(&mut self, index: u32) {
        let unit = &mut self.units[index as usize];
        if !unit.dirty {
            unit.dirty = true;
            self.dirty.push(index);
        }
    }
}

/// What a listing and a discovered device have in common: used to admit the latter.
pub(super) fn discovered_listing(id: Id, kind: DeviceKind, agency: Id) -> Listing {
    Listing {
        id,
        kind,
        agency,
        site: String::new(),
        village: String::new(),
        name: String::new(),
        place: None,
        life: Life::Installed,
        offline_after: None,
    }
}

#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod tests;
