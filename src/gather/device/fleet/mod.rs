//! The fleet: every device's presence, its series, its interval in the ledger and when it was last seen.
//!
//! Lives as long as the daemon: a reload gives it a new inventory with [`Fleet::replace`] and nothing that is known is
//! forgotten. Brokers report through a [`Session`]; a sweep each second turns silence into *offline*.

mod births;
mod index;
mod moment;
mod report;
mod seen;
mod session;
mod unit;

pub use report::{Count, DeviceInfo, Filter, Listed};
pub use session::{Found, Session};

use super::inventory::{Commons, Device, Inventory, Life, Listing};
use super::presence::{Contact, Sign};
use crate::attribution::{Ledger, State, SubjectKind};
use crate::config::devices::{DeviceKind, Shard};
use crate::config::mqtt::Broker;
use crate::config::{Config, Id};
use crate::lean::push;
use crate::metrics::{Metrics, columns};
use crate::store::{Store, StoreError};
use births::Births;
use index::Index;
use jiff::Timestamp;
use moment::Moment;
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
    by_id: Index,
    /// When silence has to be judged, and of which unit. At most one entry a unit (`Unit::queued`).
    due: BinaryHeap<Reverse<(Moment, u32)>>,
    links: Vec<Link>,
    n_discovered: usize,
    /// Of discovered devices.
    commons: Commons,
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
    births: Births,
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
        let mut inner = Inner {
            settings: settings.clone(),
            units: Vec::new(),
            by_id: Index::default(),
            due: BinaryHeap::new(),
            links: Vec::new(),
            n_discovered: 0,
            commons: Commons::default(),
            elsewhere: HashSet::new(),
            dirty: Vec::new(),
        };
        let Inner { units, commons, .. } = &mut inner;
        seen::load(&store, |row| push(units, Unit::remembered(row, commons, now))).await?;
        let fleet = Fleet { metrics, ledger, store, inner: Mutex::new(inner) };
        fleet.replace(settings, inventory, now);
        Ok(Arc::new(fleet))
    }

    /// Applies a new inventory and configuration. What is known of devices that stay, stays.
    pub fn replace(&self, settings: Settings, inventory: &Inventory, now: Now) {
        let mut inner = self.lock();
        inner.settings = settings;
        for link in &mut inner.links {
            link.unlisted.clear();
        }
        inner.relist(inventory, &self.metrics, now);
        for index in 0..inner.units.len() {
            inner.units[index].show(&self.metrics);
            inner.units[index].observe(&self.ledger, now.wall, "not heard yet");
        }
        inner.reindex();
        self.retain(&inner, now);
    }

    /// Ends series and intervals of devices that are no longer ours, also those of an earlier run.
    fn retain(&self, inner: &Inner, now: Now) {
        let unit = |id: &str| inner.find(id).map(|index| &inner.units[index as usize]);
        let listing = |id: &str| unit(id).map(|unit| &unit.listing);
        for (table, kind) in
            [(columns::camera::TABLE, DeviceKind::Camera), (columns::hotspot::TABLE, DeviceKind::Hotspot)]
        {
            // agency, site, device
            self.metrics.table(table).retain(|labels| {
                listing(labels[2]).is_some_and(|d| d.kind == kind && *d.agency == *labels[0] && *d.site == *labels[1])
            });
        }
        // agency, kind, site, device[, village, name]
        for table in [columns::device::TABLE, columns::device_info::TABLE] {
            self.metrics.table(table).retain(|labels| {
                listing(labels[3])
                    .is_some_and(|d| *d.agency == *labels[0] && d.kind.as_str() == labels[1] && *d.site == *labels[2])
            });
        }
        self.metrics.table(columns::device_flaps::TABLE).retain(|labels| inner.settings.agencies.contains(labels[0]));
        let villages: HashSet<(&str, &str)> =
            inner.units.iter().filter_map(|unit| Some((&*unit.listing.agency, unit.village()?))).collect();
        self.metrics.table(columns::village::TABLE).retain(|labels| villages.contains(&(labels[0], labels[1])));
        self.ledger.retain(now.wall, |subject| {
            !matches!(subject.kind, SubjectKind::Camera | SubjectKind::Hotspot)
                || listing(&subject.id)
                    .is_some_and(|d| d.life == Life::Installed && SubjectKind::from(d.kind) == subject.kind)
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
                    births: Births::default(),
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
        // What was born meanwhile we may have missed.
        entry.births.clear();
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
        let moment = Moment::from(now.tick);
        while let Some(&Reverse((due, index))) = inner.due.peek() {
            if due > moment {
                break;
            }
            inner.due.pop();
            let contact = inner.contact_of(index);
            let limit = inner.limit_of(index);
            let unit = &mut inner.units[index as usize];
            unit.queued = false;
            let presence = unit.presence().silence(limit, contact, now.tick);
            if presence.state != unit.state() {
                let reason = if presence.state == State::Down { "silent" } else { "not connected to the broker" };
                unit.change(presence, &self.metrics, &self.ledger, now.wall, reason);
            }
            inner.queue(index);
        }
        self.bury(&mut inner, now);
    }

    /// The devices of a Sparkplug node that began a life a while ago, and was not followed by theirs, are gone.
    fn bury(&self, inner: &mut Inner, now: Now) {
        for link in 0..inner.links.len() {
            let born = inner.links[link].births.take_due(now.tick);
            if born.is_empty() {
                continue;
            }
            for index in 0..inner.units.len() as u32 {
                let unit = &mut inner.units[index as usize];
                let born = unit.source_over(link).and_then(|source| born.get(&source));
                let presence = unit.presence();
                if born.is_some_and(|born| presence.since < *born) && presence.state != State::Down {
                    let gone = presence.hear(Sign::Gone, now.tick);
                    unit.change(gone, &self.metrics, &self.ledger, now.wall, "its node was born again without it");
                    inner.queue(index);
                }
            }
        }
    }

    /// Forgets discovered devices that have been silent for `forget_after`. Call now and then.
    pub fn forget(&self, now: Now) {
        let mut inner = self.lock();
        let settings = inner.settings.clone();
        let is_gone = |unit: &mut Unit| unit.discovered && !unit.is_remembered(&settings, now.wall);
        let gone: Vec<Unit> = inner.units.extract_if(.., is_gone).collect();
        if gone.is_empty() {
            return;
        }
        for mut unit in gone {
            unit.remove_rows(&self.metrics);
        }
        inner.reindex();
        self.retain(&inner, now);
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
        inner.find(id).map(|index| inner.units[index as usize].state())
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
    fn find(&self, id: &str) -> Option<u32> {
        self.by_id.find(&self.units, id)
    }

    fn insert(&mut self, unit: Unit) -> u32 {
        let index = self.units.len() as u32;
        self.n_discovered += usize::from(unit.discovered);
        push(&mut self.units, unit);
        self.by_id.add(&self.units, index);
        index
    }

    /// Brings the units in line with an inventory. Who stays, stays where it is: there is never a second fleet in memory.
    /// [`Inner::reindex`] has to follow.
    fn relist(&mut self, inventory: &Inventory, metrics: &Metrics, now: Now) {
        let shard = self.settings.shard;
        let is_ours = |agency: &str| shard.is_none_or(|shard| shard.owns(agency));
        let of_others = inventory.devices.iter().filter(|device| !is_ours(&device.agency));
        self.elsewhere = of_others.map(|device| device.id.clone()).collect();
        let mut new: HashMap<&str, &Arc<Device>> =
            inventory.devices.iter().filter(|d| is_ours(&d.agency)).map(|d| (d.id.as_str(), d)).collect();
        let is_unlisted = |unit: &mut Unit| match new.remove(unit.listing.id.as_str()) {
            Some(listing) => {
                unit.relist(listing, metrics);
                false
            }
            None => true,
        };
        let mut discovered: Vec<Unit> = self.units.extract_if(.., is_unlisted).collect();
        self.units.reserve_exact(new.len());
        let listed = inventory.devices.iter().filter(|device| new.contains_key(device.id.as_str()));
        self.units.extend(listed.map(|listing| Unit::new(listing.clone(), now)));
        // The most recently seen are kept.
        discovered.sort_by_key(|unit| (Reverse(unit.seen()), unit.listing.id.clone()));
        let mut n_free = self.settings.discover_max;
        for mut unit in discovered {
            let stays =
                unit.discovered && is_ours(&unit.listing.agency) && unit.is_remembered(&self.settings, now.wall);
            if stays && n_free > 0 {
                n_free -= 1;
                push(&mut self.units, unit);
            } else {
                unit.remove_rows(metrics);
            }
        }
    }

    /// After the units changed places: works out anew what names them by their place.
    fn reindex(&mut self) {
        self.by_id.reset(self.units.len());
        self.due.clear();
        self.dirty.clear();
        self.n_discovered = self.units.iter().filter(|unit| unit.discovered).count();
        for index in 0..self.units.len() as u32 {
            self.by_id.add(&self.units, index);
            let unit = &mut self.units[index as usize];
            unit.queued = false;
            if unit.dirty {
                self.dirty.push(index);
            }
            self.queue(index);
        }
    }

    /// Whether we could have heard the unit: over the broker that last brought it, else over every broker.
    fn contact_of(&self, index: u32) -> Contact {
        let heard = self.units[index as usize].link().and_then(|link| self.links.get(link));
        if let Some(link) = heard.filter(|link| link.configured) {
            return link.contact;
        }
        let configured = self.links.iter().filter(|link| link.configured).map(|link| link.contact);
        configured.reduce(Contact::and).unwrap_or(Contact::Away(None))
    }

    fn limit_of(&self, index: u32) -> Option<Duration> {
        self.units[index as usize].listing.offline_after.unwrap_or(self.settings.offline_after)
    }

    /// Makes sure that the unit's silence will be judged.
    fn queue(&mut self, index: u32) {
        if self.units[index as usize].queued {
            return;
        }
        let due = self.units[index as usize].presence().due(self.limit_of(index), self.contact_of(index));
        if let Some(due) = due {
            self.units[index as usize].queued = true;
            if self.due.len() == self.due.capacity() {
                self.due.reserve_exact((self.due.len() / 8).max(64));
            }
            self.due.push(Reverse((due.into(), index)));
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
        site: Arc::default(),
        village: Arc::default(),
        name: Box::default(),
        place: None,
        life: Life::Installed,
        offline_after: None,
    }
}

#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod tests;
