//! What a broker's messages do to the fleet. Holds the fleet's lock for one batch.

use super::super::decode::Readings;
use super::super::message::{Hearer, Source, refusal};
use super::super::outcome::Outcome;
use super::super::presence::{Contact, Sign};
use super::unit::Unit;
use super::{Fleet, Inner, MAX_UNLISTED, Now, Stranger};
use crate::attribution::State;
use crate::config::Id;
use crate::config::devices::DeviceKind;
use std::sync::MutexGuard;
use std::time::Instant;

/// A batch of messages of one broker.
pub struct Session<'f> {
    fleet: &'f Fleet,
    inner: MutexGuard<'f, Inner>,
    link: usize,
    now: Now,
}

/// A device of the fleet, or one that could join it.
#[derive(Debug)]
pub enum Found {
    Known(u32, DeviceKind),
    /// May be admitted once it has said something that makes sense.
    Candidate(Id, DeviceKind, Id),
}

impl Found {
    pub fn kind(&self) -> DeviceKind {
        match self {
            Found::Known(_, kind) | Found::Candidate(_, kind, _) => *kind,
        }
    }
}

impl<'f> Session<'f> {
    pub(super) fn new(fleet: &'f Fleet, inner: MutexGuard<'f, Inner>, link: usize, now: Now) -> Session<'f> {
        Session { fleet, inner, link, now }
    }

    /// Since when we have been connected to the broker.
    pub fn connection(&self) -> Option<Instant> {
        match self.inner.links.get(self.link)?.contact {
            Contact::Up(since) => Some(since),
            Contact::Away(_) => None,
        }
    }

    fn candidate(&mut self, agency: Option<&str>, kind: Option<DeviceKind>, device: &str) -> Result<Found, Outcome> {
        let settings = &self.inner.settings;
        let is_ours = |agency: &str| settings.shard.is_none_or(|shard| shard.owns(agency));
        if self.inner.elsewhere.contains(device) || !agency.is_none_or(is_ours) {
            return Err(Outcome::OtherShard);
        }
        let owner = match agency {
            Some(agency) => settings.agencies.get(agency).cloned(),
            None => Some(settings.site_agency.clone()),
        };
        let has_room = self.inner.n_discovered < settings.discover_max;
        if let (true, Some(agency), Some(kind), Some(id)) = (has_room, owner, kind, Id::parse(device)) {
            return Ok(Found::Candidate(id, kind, agency));
        }
        // Only ids that an inventory could list are told apart; the rest is hostile or misconfigured.
        let agency = agency.and_then(|agency| self.inner.settings.agencies.get(agency).cloned());
        if let Some(link) = self.inner.links.get_mut(self.link) {
            let last = self.now.wall;
            if let Some(stranger) = link.unlisted.get_mut(device) {
                stranger.last = last;
            } else if link.unlisted.len() < MAX_UNLISTED && Id::parse(device).is_some() {
                link.unlisted.insert(device.into(), Stranger { agency, kind, last });
            }
        }
        Err(Outcome::Unlisted)
    }

    fn admit(&mut self, found: Found) -> u32 {
        match found {
            Found::Known(index, _) => index,
            Found::Candidate(id, kind, agency) => {
                for link in &mut self.inner.links {
                    link.unlisted.remove(&*id);
                }
                let mut unit = Unit::discovered(id, kind, agency, &mut self.inner.commons, self.now);
                unit.show(&self.fleet.metrics);
                self.inner.insert(unit)
            }
        }
    }

    fn heard_over(&mut self, index: u32, source: Option<Source>) {
        if let Some(source) = source {
            self.inner.units[index as usize].heard_through(self.link, source);
        }
    }

    fn sign(&mut self, index: u32, sign: Sign, gone: &str) {
        let unit = &mut self.inner.units[index as usize];
        let was_heard = unit.heard_over(self.link);
        let known = unit.presence();
        if was_heard && known.is_flap(sign, self.now.tick) {
            unit.count_flap(&self.fleet.metrics);
        }
        let presence = known.hear(sign, self.now.tick);
        let reason = if sign == Sign::Gone { gone } else { "speaks" };
        unit.change(presence, &self.fleet.metrics, &self.fleet.ledger, self.now.wall, reason);
        self.inner.queue(index);
    }
}

impl Hearer for Session<'_> {
    /// The device that a topic names; `hint` is the kind of a candidate whose topic does not say it.
    fn find(
        &mut self,
        agency: Option<&str>,
        kind: Option<DeviceKind>,
        device: &str,
        hint: Option<DeviceKind>,
    ) -> Result<Found, Outcome> {
        let Some(index) = self.inner.find(device) else { return self.candidate(agency, kind.or(hint), device) };
        let listing = &self.inner.units[index as usize].listing;
        match refusal(agency, kind, (&listing.agency, listing.kind, listing.life)) {
            Some(outcome) => Err(outcome),
            None => Ok(Found::Known(index, listing.kind)),
        }
    }

    fn knows(&self, device: &str) -> bool {
        self.inner.find(device).is_some()
    }

    fn admits(&mut self, found: &Found) -> bool {
        let (Found::Known(index, _), Some(limit)) = (found, self.inner.settings.rate_limit) else { return true };
        self.inner.units[*index as usize].may_speak(limit, self.now.tick)
    }

    /// The device sent telemetry. What waited somewhere for longer than a silence may last revives nothing.
    fn telemetry(&mut self, found: Found, source: Option<Source>, readings: &Readings) -> Outcome {
        let index = self.admit(found);
        if let Some(time) = readings.time {
            let limit = self.inner.limit_of(index);
            let unit = &mut self.inner.units[index as usize];
            if let Some(spoke) = unit.note_time(time, limit, self.now.wall) {
                unit.saw(spoke, &self.fleet.metrics);
                self.inner.touch(index);
                return Outcome::Stale;
            }
        }
        self.heard_over(index, source);
        let gone = readings.online() == Some(false);
        self.sign(index, if gone { Sign::Gone } else { Sign::Alive }, "said that it is offline");
        self.inner.units[index as usize].take(readings, self.now.wall, &self.fleet.metrics);
        self.inner.touch(index);
        Outcome::Ok
    }

    /// The device's status topic said so. A retained word is the broker's memory: it is no sign of life now, so it does
    /// not count as being seen; nor does the offline word, which the broker speaks for a device that is gone.
    fn status(&mut self, found: Found, source: Option<Source>, online: bool, retained: bool) {
        let index = self.admit(found);
        self.heard_over(index, source);
        self.sign(index, if online { Sign::Alive } else { Sign::Gone }, "said that it is offline");
        if online && !retained {
            self.inner.units[index as usize].take(&Readings::default(), self.now.wall, &self.fleet.metrics);
            self.inner.touch(index);
        }
    }

    /// A recorder or bridge said, or the broker in its name, that it is gone: so is whatever was heard through it.
    fn source_gone(&mut self, source: Source) {
        for index in 0..self.inner.units.len() as u32 {
            let unit = &self.inner.units[index as usize];
            if unit.is_heard_through(self.link, source) && unit.state() != State::Down {
                self.sign(index, Sign::Gone, "what it was heard through is gone");
            }
        }
        if let Some(link) = self.inner.links.get_mut(self.link) {
            link.births.remove(source);
        }
    }

    fn source_born(&mut self, source: Source) {
        let now = self.now.tick;
        if let Some(link) = self.inner.links.get_mut(self.link) {
            link.births.add(source, now);
        }
    }
}
