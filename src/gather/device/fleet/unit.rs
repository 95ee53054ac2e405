//! One device of the fleet, and how it shows in metrics and ledger.

use super::super::decode::{Reading, Readings, Target};
use super::super::inventory::{Common, Commons, Device, Life};
use super::super::message::Source;
use super::super::presence::Presence;
use super::super::usable::{Camera, Hotspot, Limits};
use super::moment::{Moment, Once};
use super::{Now, Settings, discovered_listing, seen::Seen};
use crate::attribution::{Ledger, State, Subject};
use crate::config::Id;
use crate::config::devices::DeviceKind;
use crate::metrics::columns::{camera, device, device_flaps, device_info, hotspot, village};
use crate::metrics::{Cells, Column, Metrics, Row, Table};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How far a device's clock may be off for its times to be believed.
const CLOCK_TRUSTED: f64 = 300.0;
/// What a device may send is an average over so long.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// The number of no broker.
const NO_LINK: u16 = u16::MAX;

/// What is known of a device's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    /// The device's clock less ours, in seconds, when it last spoke.
    pub offset: f64,
    /// The last time that it told, in seconds since 1970.
    pub last: f64,
}

impl Clock {
    /// Nothing is known.
    const UNKNOWN: Clock = Clock { offset: f64::NAN, last: f64::NAN };

    fn known(self) -> Option<Clock> {
        (!self.offset.is_nan()).then_some(self)
    }
}

/// There are as many as devices, so it is packed: what the inventory knows is shared with it, what can be looked up when it
/// is needed is not kept, and "none" mostly is a value that does not occur.
pub struct Unit {
    pub listing: Arc<Device>,
    /// When it last gave a sign, or when we began to listen.
    since: Moment,
    /// When it last spoke, also in an earlier run.
    seen: Once,
    /// The recorder or bridge through which it was last heard; only with `source_link`.
    source: Source,
    clock: Clock,
    /// Until when what it sent is spread, at the rate it may send.
    sent_until: Moment,
    rows: Option<Rows>,
    /// Messages beyond what it may send, since the start of the program.
    pub n_limited: u32,
    /// How often it came back soon after it had gone, since the start of the program.
    pub n_flaps: u32,
    /// The broker that last brought something of it, or [`NO_LINK`].
    link: u16,
    /// The broker over which `source` was heard, or [`NO_LINK`].
    source_link: u16,
    /// How its village's series count it.
    counted: Option<Counted>,
    state: State,
    /// `None`: it says nothing of its work.
    usable: Option<bool>,
    pub discovered: bool,
    /// `seen` is not yet in the database.
    pub dirty: bool,
    /// It has an entry in the heap of due silences.
    pub queued: bool,
}

#[derive(Clone, Copy)]
struct Rows {
    device: Row,
    telemetry: Row,
    /// Not while its name or place changes.
    has_info: bool,
}

/// What a village's series count besides that it is planned: installed, up, usable.
#[derive(Clone, Copy, PartialEq)]
struct Counted([bool; 3]);

impl Counted {
    /// What it adds to each of the village's columns.
    fn shares(counted: Option<Counted>) -> [f64; 4] {
        let Some(Counted([installed, up, usable])) = counted else { return [0.0; 4] };
        [true, installed, up, usable].map(|is| f64::from(u8::from(is)))
    }
}

const CAMERAS: [Column; 4] =
    [village::CAMERAS_PLANNED, village::CAMERAS_INSTALLED, village::CAMERAS_UP, village::CAMERAS_USABLE];
const HOTSPOTS: [Column; 4] =
    [village::HOTSPOTS_PLANNED, village::HOTSPOTS_INSTALLED, village::HOTSPOTS_UP, village::HOTSPOTS_USABLE];

impl Unit {
    pub fn new(listing: Arc<Device>, now: Now) -> Unit {
        let Presence { state, since } = Presence::unknown(now.tick);
        Unit {
            listing,
            since: since.into(),
            seen: Once::NEVER,
            source: 0,
            clock: Clock::UNKNOWN,
            sent_until: now.tick.into(),
            rows: None,
            n_limited: 0,
            n_flaps: 0,
            link: NO_LINK,
            source_link: NO_LINK,
            counted: None,
            state,
            usable: None,
            discovered: false,
            dirty: false,
            queued: false,
        }
    }

    pub fn discovered(id: Id, kind: DeviceKind, agency: Id, commons: &mut Commons, now: Now) -> Unit {
        let listing = commons.device(discovered_listing(id, kind, agency));
        Unit { discovered: true, ..Unit::new(Arc::new(listing), now) }
    }

    /// From the database: listed or discovered, the inventory decides.
    pub fn remembered(row: Seen, commons: &mut Commons, now: Now) -> Unit {
        let listing = commons.device(discovered_listing(row.device, row.kind, row.agency));
        Unit {
            seen: row.at.into(),
            clock: row.clock.unwrap_or(Clock::UNKNOWN),
            discovered: row.discovered,
            ..Unit::new(Arc::new(listing), now)
        }
    }

    /// The same device under a new listing: what is known of it stays. Series whose labels changed end.
    pub fn relist(&mut self, listing: &Arc<Device>, metrics: &Metrics) {
        let (old, new) = (&*self.listing, &**listing);
        let same_labels = old.kind == new.kind && old.agency == new.agency && old.site == new.site;
        let same_info = old.village == new.village && old.name == new.name && old.place() == new.place();
        if !same_labels || new.life == Life::Retired {
            self.remove_rows(metrics);
            self.usable = None;
        } else if !same_info {
            // Its state and telemetry go on without a gap.
            self.remove_info(metrics);
        }
        self.dirty |= self.discovered && self.seen != Once::NEVER;
        self.listing = listing.clone();
        self.discovered = false;
    }

    /// Whether a discovered device was seen recently enough to be kept.
    pub fn is_remembered(&self, settings: &Settings, now: Timestamp) -> bool {
        let silent_for = self.seen().map(|seen| now.duration_since(seen));
        let limit = jiff::SignedDuration::try_from(settings.forget_after).unwrap_or(jiff::SignedDuration::MAX);
        settings.agencies.contains(&self.listing.agency) && silent_for.is_none_or(|silent_for| silent_for < limit)
    }

    pub fn seen_row(&self) -> Option<Seen> {
        let at = self.seen()?;
        let (device, agency) = (self.listing.id.clone(), self.listing.agency.clone());
        Some(Seen {
            device,
            kind: self.listing.kind,
            agency,
            at,
            discovered: self.discovered,
            clock: self.clock.known(),
        })
    }

    pub fn remove_rows(&mut self, metrics: &Metrics) {
        self.remove_info(metrics);
        if let Some(rows) = self.rows.take() {
            metrics.table(device::TABLE).remove(rows.device);
            self.telemetry_table(metrics).remove(rows.telemetry);
        }
    }

    fn remove_info(&mut self, metrics: &Metrics) {
        if self.rows.as_mut().is_some_and(|rows| std::mem::take(&mut rows.has_info)) {
            metrics.table(device_info::TABLE).remove(self.info_row(metrics));
        }
        self.count(metrics, None);
    }

    /// Whether anything of it was ever heard.
    pub fn was_heard(&self) -> bool {
        self.seen != Once::NEVER || self.link != NO_LINK
    }

    /// When it last spoke, also in an earlier run.
    pub fn seen(&self) -> Option<Timestamp> {
        self.seen.time()
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn presence(&self) -> Presence {
        Presence { state: self.state, since: self.since.instant() }
    }

    /// The number of the broker that last brought something of it.
    pub fn link(&self) -> Option<usize> {
        (self.link != NO_LINK).then_some(self.link.into())
    }

    /// A broker brought something of it. Whether one had before.
    pub fn heard_over(&mut self, link: usize) -> bool {
        std::mem::replace(&mut self.link, short(link)) != NO_LINK
    }

    /// It was heard through a recorder or bridge, over this broker.
    pub fn heard_through(&mut self, link: usize, source: Source) {
        (self.source_link, self.source) = (short(link), source);
    }

    /// Whether it was last heard through this recorder or bridge, over this broker.
    pub fn is_heard_through(&self, link: usize, source: Source) -> bool {
        self.source_over(link) == Some(source)
    }

    /// The recorder or bridge through which it was last heard, if that was over this broker.
    pub fn source_over(&self, link: usize) -> Option<Source> {
        (self.source_link != NO_LINK && self.source_link == short(link)).then_some(self.source)
    }

    pub fn usable(&self) -> Option<bool> {
        self.usable
    }

    /// Its village's name, if it has one.
    pub fn village(&self) -> Option<&str> {
        Some(&*self.listing.village).filter(|village| !village.is_empty())
    }

    /// Lets its village's series count it as it is now.
    fn recount(&mut self, metrics: &Metrics) {
        if self.village().is_none() || self.listing.life == Life::Retired {
            return;
        }
        let installed = self.listing.life == Life::Installed;
        let up = installed && self.state == State::Up;
        self.count(metrics, Some(Counted([installed, up, up && self.usable == Some(true)])));
    }

    fn count(&mut self, metrics: &Metrics, now: Option<Counted>) {
        let before = std::mem::replace(&mut self.counted, now);
        let Some(village) = self.village().filter(|_| before != now) else { return };
        let columns = if self.listing.kind == DeviceKind::Camera { &CAMERAS } else { &HOTSPOTS };
        let table = metrics.table(village::TABLE);
        let row = table.row(&[&self.listing.agency, village]);
        let (was, is) = (Counted::shares(before), Counted::shares(now));
        table.update(row, |cells| {
            for (place, column) in columns.iter().enumerate() {
                let known = cells.get(*column).unwrap_or(0.0);
                cells.set(*column, known + is[place] - was[place]);
            }
        });
    }

    fn telemetry_table<'m>(&self, metrics: &'m Metrics) -> &'m Table {
        metrics.table(match self.listing.kind {
            DeviceKind::Camera => camera::TABLE,
            DeviceKind::Hotspot => hotspot::TABLE,
        })
    }

    /// Brings the device's series in line with what is known, and makes them if they are not there.
    pub fn show(&mut self, metrics: &Metrics) {
        if self.listing.life == Life::Retired {
            return;
        }
        let rows = match self.rows {
            Some(rows) if rows.has_info => rows,
            rows => self.make_rows(rows, metrics),
        };
        metrics.table(device::TABLE).update(rows.device, |cells| {
            let installed = self.listing.life == Life::Installed;
            cells.set(device::INSTALLED, f64::from(u8::from(installed)));
            let up = match self.state {
                State::Up => Some(1.0),
                State::Down => Some(0.0),
                State::Unknown => None,
            };
            let usable = match self.state {
                State::Up => self.usable.map(|usable| f64::from(u8::from(usable))),
                State::Down => Some(0.0),
                State::Unknown => None,
            };
            for (column, value) in [(device::UP, up), (device::USABLE, usable)] {
                match value.filter(|_| installed) {
                    Some(value) => cells.set(column, value),
                    None => cells.clear(column),
                }
            }
            if let Some(seen) = self.seen() {
                cells.set(device::LAST_SEEN, seconds(seen));
            }
        });
        self.recount(metrics);
    }

    fn make_rows(&mut self, known: Option<Rows>, metrics: &Metrics) -> Rows {
        let info = self.info_row(metrics);
        metrics.table(device_info::TABLE).set(info, device_info::INFO, 1.0);
        let (device, telemetry) = match known {
            Some(Rows { device, telemetry, .. }) => (device, telemetry),
            None => {
                let Device { id, .. } = &*self.listing;
                let Common { kind, agency, site, .. } = &**self.listing;
                let telemetry = self.telemetry_table(metrics).row(&[agency, site, id]);
                (metrics.table(device::TABLE).row(&[agency, kind.as_str(), site, id]), telemetry)
            }
        };
        let rows = Rows { device, telemetry, has_info: true };
        self.rows = Some(rows);
        rows
    }

    /// The row of its name and place, made if it is not there.
    fn info_row(&self, metrics: &Metrics) -> Row {
        let degrees = |number: f64| format!("{number:.6}");
        let (lat, lon) =
            self.listing.place().map_or((String::new(), String::new()), |(lat, lon)| (degrees(lat), degrees(lon)));
        let Device { id, name, .. } = &*self.listing;
        let Common { kind, agency, site, village, .. } = &**self.listing;
        metrics.table(device_info::TABLE).row(&[agency, kind.as_str(), site, id, village, name, &lat, &lon])
    }

    /// Notes the state in the ledger; costs little when it is what it was.
    pub fn observe(&self, ledger: &Ledger, at: Timestamp, reason: &str) {
        if self.listing.life == Life::Installed {
            let subject = Subject { kind: self.listing.kind.into(), id: self.listing.id.shared() };
            ledger.observe(&subject, &self.listing.agency, self.state, at, reason);
        }
    }

    /// Takes a new presence; if the state changed, shows and notes it. Telemetry of a device that is not up ends.
    pub fn change(&mut self, presence: Presence, metrics: &Metrics, ledger: &Ledger, at: Timestamp, reason: &str) {
        let changed = presence.state != self.state;
        (self.state, self.since) = (presence.state, presence.since.into());
        if !changed {
            return;
        }
        if presence.state != State::Up {
            self.usable = None;
            if let Some(rows) = self.rows {
                let table = self.telemetry_table(metrics);
                table.update(rows.telemetry, |cells| {
                    for family in table.families() {
                        let column = match self.listing.kind {
                            DeviceKind::Camera => Column::find(camera::TABLE, family.name),
                            DeviceKind::Hotspot => Column::find(hotspot::TABLE, family.name),
                        };
                        if let Some(column) = column {
                            cells.clear(column);
                        }
                    }
                });
            }
        }
        self.show(metrics);
        self.observe(ledger, at, reason);
    }

    /// Counts that it came back soon after it had gone.
    pub fn count_flap(&mut self, metrics: &Metrics) {
        self.n_flaps = self.n_flaps.saturating_add(1);
        let table = metrics.table(device_flaps::TABLE);
        table.add(table.row(&[&self.listing.agency, self.listing.kind.as_str()]), device_flaps::FLAPS, 1.0);
    }

    /// Whether it may send one more message at `now`: at most `limit` a second, averaged over a minute.
    pub fn may_speak(&mut self, limit: f64, now: Instant) -> bool {
        let until = self.sent_until.instant().max(now) + Duration::from_secs_f64(1.0 / limit);
        let may = until <= now + RATE_WINDOW;
        if may {
            self.sent_until = until.into();
        } else {
            self.n_limited = self.n_limited.saturating_add(1);
        }
        may
    }

    /// Notes the time by the device's clock (seconds since 1970) that came with a message. If the message is older than
    /// `limit` by a clock that is known to be right: when it was sent.
    ///
    /// A clock that was set back (many forget the time when the power fails) is not right any more, and what it says
    /// counts as said now; so does everything while nothing is known of the clock.
    pub fn note_time(&mut self, time: f64, limit: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
        let now = seconds(now);
        // Of a clock of which nothing is known, neither comparison holds.
        let is_right = self.clock.offset.abs() <= CLOCK_TRUSTED && time >= self.clock.last;
        let is_late = limit.is_some_and(|limit| now - time >= limit.as_secs_f64());
        if is_right && is_late {
            self.clock.last = time;
            return Timestamp::from_microsecond(((time - self.clock.offset) * 1e6) as i64).ok();
        }
        self.clock = Clock { offset: time - now, last: time };
        None
    }

    /// It spoke at `at`, which is past.
    pub fn saw(&mut self, at: Timestamp, metrics: &Metrics) {
        if self.seen >= at.into() {
            return;
        }
        self.seen = at.into();
        if let Some(rows) = self.rows {
            metrics.table(device::TABLE).set(rows.device, device::LAST_SEEN, seconds(at));
        }
    }

    /// Writes readings of a device that is up, and when it spoke.
    pub fn take(&mut self, readings: &Readings, at: Timestamp, metrics: &Metrics) {
        self.seen = at.into();
        let Some(rows) = self.rows else { return };
        let mut usable = self.usable;
        if !readings.list.is_empty() && self.state == State::Up {
            self.telemetry_table(metrics).update(rows.telemetry, |cells| {
                for (target, reading) in &readings.list {
                    match (target, reading) {
                        (Target::Cell(column), Reading::Value(value)) => cells.set(*column, *value),
                        (Target::Cell(column), Reading::Absent) => cells.clear(*column),
                        (Target::Up | Target::Usable | Target::Time, _) => {}
                    }
                }
                usable = readings.usable().or_else(|| judge(self.listing.kind, cells, at));
            });
        }
        let table = metrics.table(device::TABLE);
        let usable_changed = usable != self.usable && self.state == State::Up;
        self.usable = usable;
        table.update(rows.device, |cells| {
            cells.set(device::LAST_SEEN, seconds(at));
            if usable_changed && self.listing.life == Life::Installed {
                match usable {
                    Some(usable) => cells.set(device::USABLE, f64::from(u8::from(usable))),
                    None => cells.clear(device::USABLE),
                }
            }
        });
        if usable_changed {
            self.recount(metrics);
        }
    }
}

/// Whether a device is usable by what it last said.
fn judge(kind: DeviceKind, cells: &Cells<'_>, now: Timestamp) -> Option<bool> {
    match kind {
        DeviceKind::Camera => {
            let camera = Camera {
                frames_per_second: cells.get(camera::FRAMES),
                recording: cells.get(camera::RECORDING),
                picture_changed: cells.get(camera::PICTURE_CHANGED),
                clock_offset: cells.get(camera::CLOCK_OFFSET),
            };
            camera.is_usable(&Limits::default(), seconds(now))
        }
        DeviceKind::Hotspot => {
            let hotspot = Hotspot {
                uplink_up: cells.get(hotspot::UPLINK_UP),
                uplink_loss: cells.get(hotspot::UPLINK_LOSS),
                pool_free: cells.get(hotspot::POOL_FREE),
            };
            hotspot.is_usable()
        }
    }
}

/// A broker's number in less room. Nobody has so many that the last number has to mean none.
fn short(link: usize) -> u16 {
    u16::try_from(link).unwrap_or(NO_LINK)
}

fn seconds(time: Timestamp) -> f64 {
    time.as_microsecond() as f64 / 1e6
}
