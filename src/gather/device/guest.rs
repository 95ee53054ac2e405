//! Listening to a broker as a guest: what arrives, how it is decoded, why it is rejected. For who adds a new brand of
//! cameras, see `ioc-watch mqtt-watch`.
//!
//! A guest has a client id of its own and a session that ends with its connection: what the daemon receives is not
//! touched. The rules are those of the daemon (`message.rs`); only nothing comes of it.

use super::DeviceError;
use super::decode::{Reading, Readings, Target};
use super::fleet::Found;
use super::inventory::{Devices, Inventory};
use super::link::{Event, Link, MAX_PACKET, Message};
use super::message::{self, Hearer, Memory, Source};
use super::outcome::Outcome;
use super::topic::Topics;
use crate::config::devices::DeviceKind;
use crate::config::mqtt::Broker;
use crate::config::{Config, Id};
use crate::metrics::{Column, Metrics, columns};
use std::collections::HashMap;
use std::time::Instant;

/// Devices whose recorder, bridge or node a guest remembers.
const MAX_HEARD: usize = 10_000;

/// A connection of a guest.
pub struct Guest {
    link: Link,
    topics: Topics,
    filters: Vec<(String, u8)>,
    ear: Ear,
}

/// What a guest hears.
#[derive(Debug)]
pub enum Heard {
    Connected,
    /// So many of the filters were refused.
    Refused(usize),
    Message(Explained),
    /// The connection ended, and why; the next call tries again.
    Lost(String),
}

/// A message and what the daemon makes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// As it came, but for what is not UTF-8.
    pub topic: String,
    pub payload: Vec<u8>,
    pub retained: bool,
    pub outcome: Outcome,
    /// What it says, of each device it speaks of.
    pub said: Vec<Said>,
    /// Devices that it names and that are not taken, with the reason.
    pub refused: Vec<(String, Outcome)>,
    /// It says that a recorder, bridge or node is gone, and with it so many devices that were heard through it meanwhile.
    pub gone: Option<usize>,
}

/// What a message says of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub device: String,
    pub kind: DeviceKind,
    /// No inventory lists it; it would be discovered.
    pub is_discovered: bool,
    /// Whether it is said to be there; `None`: it speaks, so it is.
    pub online: Option<bool>,
    /// Metrics with their values; `None`: the device does not know.
    pub readings: Vec<(&'static str, Option<f64>)>,
    /// Fields whose value cannot be.
    pub n_bad: usize,
}

impl Guest {
    /// Prepares to listen to `filter` instead of the broker's topics, if one is given. Connects when first polled.
    pub fn new(
        config: &Config,
        broker: &Broker,
        inventory: Inventory,
        filter: Option<&str>,
    ) -> Result<Guest, DeviceError> {
        let client_id = format!("{}-watch-{}", broker.client_id, std::process::id());
        let own = Broker { client_id, ..broker.clone() };
        let mut link = Link::new(&own)?;
        link.set_clean(true);
        link.forget_session();
        let filters = match filter {
            Some(filter) => vec![(filter.to_owned(), 0)],
            None => broker.topics.iter().map(|topic| (topic.filter(), 0)).collect(),
        };
        let discovers = config.devices.as_ref().is_some_and(|devices| devices.discover_max.is_some());
        Ok(Guest { link, topics: Topics::compile(broker)?, filters, ear: Ear::new(inventory, discovers) })
    }

    /// The next thing that is heard.
    pub async fn next(&mut self) -> Heard {
        loop {
            match self.link.poll().await {
                Ok(Event::Connected { .. }) => {
                    self.ear.memory.nodes.connected(Some(Instant::now()));
                    return match self.link.subscribe(&self.filters) {
                        Ok(_) => Heard::Connected,
                        Err(reason) => Heard::Lost(reason),
                    };
                }
                Ok(Event::Message(message)) => return Heard::Message(self.ear.explain(&self.topics, &message)),
                Ok(Event::Subscribed { n_refused }) if n_refused > 0 => return Heard::Refused(n_refused),
                Ok(Event::Subscribed { .. } | Event::Other) => {}
                Err(lost) => return Heard::Lost(lost.reason),
            }
        }
    }
}

/// Hears as the fleet would, and takes note of what was said.
struct Ear {
    devices: Devices,
    by_id: HashMap<Id, u32>,
    discovers: bool,
    names: Vec<(Column, DeviceKind, &'static str)>,
    memory: Memory,
    said: Vec<Said>,
    refused: Vec<(String, Outcome)>,
    gone: Option<usize>,
    /// Through what devices were last heard, up to [`MAX_HEARD`].
    sources: HashMap<String, Source>,
}

impl Ear {
    fn new(inventory: Inventory, discovers: bool) -> Ear {
        let metrics = Metrics::new();
        let names = [(columns::camera::TABLE, DeviceKind::Camera), (columns::hotspot::TABLE, DeviceKind::Hotspot)]
            .into_iter()
            .flat_map(|(table, kind)| {
                let families = metrics.table(table).families().iter();
                families.filter_map(move |family| Some((Column::find(table, family.name)?, kind, family.name)))
            })
            .collect();
        let by_id = inventory.devices.iter().enumerate().map(|(index, device)| (device.id.clone(), index as u32));
        Ear {
            by_id: by_id.collect(),
            devices: inventory.devices,
            discovers,
            names,
            memory: Memory::default(),
            said: Vec::new(),
            refused: Vec::new(),
            gone: None,
            sources: HashMap::new(),
        }
    }

    fn explain(&mut self, topics: &Topics, message: &Message) -> Explained {
        self.said.clear();
        self.refused.clear();
        self.gone = None;
        let mut memory = std::mem::take(&mut self.memory);
        let outcome = if message.payload.len() > MAX_PACKET {
            Outcome::Oversized
        } else {
            message::handle(topics, &mut memory, self, message)
        };
        self.memory = memory;
        Explained {
            topic: String::from_utf8_lossy(&message.topic).into_owned(),
            payload: message.payload.to_vec(),
            retained: message.retain,
            outcome,
            said: std::mem::take(&mut self.said),
            refused: std::mem::take(&mut self.refused),
            gone: self.gone,
        }
    }

    fn note(
        &mut self,
        found: &Found,
        source: Option<Source>,
        online: Option<bool>,
        readings: Vec<(&'static str, Option<f64>)>,
        n_bad: usize,
    ) {
        let (device, is_discovered) = match found {
            Found::Known(index, _) => (self.devices[*index as usize].id.to_string(), false),
            Found::Candidate(id, ..) => (id.to_string(), true),
        };
        if let Some(source) = source
            && (self.sources.len() < MAX_HEARD || self.sources.contains_key(&device))
        {
            self.sources.insert(device.clone(), source);
        }
        self.said.push(Said { device, kind: found.kind(), is_discovered, online, readings, n_bad });
    }

    fn name(&self, kind: DeviceKind, target: Target) -> &'static str {
        match target {
            Target::Up => "ioc_device_up",
            Target::Usable => "ioc_device_usable",
            Target::Time => "time",
            Target::Cell(column) => {
                let known = self.names.iter().find(|(known, of, _)| *known == column && *of == kind);
                known.map_or("?", |(_, _, name)| *name)
            }
        }
    }
}

impl Hearer for Ear {
    fn find(
        &mut self,
        agency: Option<&str>,
        kind: Option<DeviceKind>,
        device: &str,
        hint: Option<DeviceKind>,
    ) -> Result<Found, Outcome> {
        let found = match self.by_id.get(device) {
            Some(&index) => {
                let listing = &self.devices[index as usize];
                match message::refusal(agency, kind, (&listing.agency, listing.kind, listing.life)) {
                    Some(outcome) => Err(outcome),
                    None => Ok(Found::Known(index, listing.kind)),
                }
            }
            None => match (Id::parse(device), kind.or(hint)) {
                (Some(id), Some(kind)) if self.discovers => {
                    let agency = agency.and_then(Id::parse).unwrap_or_else(|| id.clone());
                    Ok(Found::Candidate(id, kind, agency))
                }
                _ => Err(Outcome::Unlisted),
            },
        };
        if let Err(outcome) = &found {
            self.refused.push((device.to_owned(), *outcome));
        }
        found
    }

    fn knows(&self, device: &str) -> bool {
        self.by_id.contains_key(device)
    }

    fn admits(&mut self, _: &Found) -> bool {
        true
    }

    fn telemetry(&mut self, found: Found, source: Option<Source>, readings: &Readings) -> Outcome {
        let kind = found.kind();
        let said = readings.list.iter().map(|(target, reading)| {
            let value = match reading {
                Reading::Value(value) => Some(*value),
                Reading::Absent => None,
            };
            (self.name(kind, *target), value)
        });
        let said = said.collect();
        self.note(&found, source, readings.online(), said, readings.n_bad);
        Outcome::Ok
    }

    fn status(&mut self, found: Found, source: Option<Source>, online: bool, _: bool) {
        self.note(&found, source, Some(online), Vec::new(), 0);
    }

    fn source_gone(&mut self, source: Source) {
        self.gone = Some(self.sources.values().filter(|heard| **heard == source).count());
    }

    /// What follows from it follows later, and is shown with no message.
    fn source_born(&mut self, _: Source) {}
}
