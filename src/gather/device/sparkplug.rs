//! Eclipse Sparkplug 3.0: what edge nodes and their devices say, whom it is said of, and what has to be remembered for it.
//!
//! A node counts its messages, so one that is lost is noticed; then, where the configuration allows it, the node is asked
//! to send its births again. An alias is what the node's last birth says. Births are sent at QoS 0 and are lost while we
//! are away: after each connection everything about aliases is forgotten. After a gap in the count aliases go on to be
//! used, since a lost value is far more likely than a lost birth that also renumbered them.
//!
//! A node's birth ends whatever was known of its devices: each is born after it, or is no more.

use super::decode::sparkplug::{Metric, Payload, rebirth};
use super::decode::{Mapping, Readings};
use super::message::{Hearer, Source};
use super::outcome::Outcome;
use super::topic::{Captures, Topic};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Nodes that are remembered; when there are more, the half that was silent longest is forgotten.
const MAX_NODES: usize = 20_000;
/// Metrics and devices of all births that are remembered; what exceeds it is not understood by its alias.
const MAX_DEFINITIONS: usize = 1_000_000;
/// Bytes of a group's and a node's name together.
const LONGEST_NAME: usize = 512;
/// How long a node has time to be born again before it is asked once more, doubling from the first to the last.
const FIRST_PATIENCE: Duration = Duration::from_secs(60);
const LAST_PATIENCE: Duration = Duration::from_secs(3_600);
/// Nodes of one broker asked within [`PACE`], so that a fleet's births do not come all at once.
const ASKED_AT_ONCE: usize = 20;
const PACE: Duration = Duration::from_secs(1);

/// The types of messages that say something of a node or device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Birth,
    Death,
    Data,
}

/// What a topic's name says: `spBv1.0/GROUP/TYPE/NODE[/DEVICE]`.
struct Address<'a> {
    verb: Verb,
    group: &'a str,
    node: &'a str,
    device: Option<&'a str>,
}

/// What is remembered of the nodes of one broker.
#[derive(Default)]
pub struct Nodes {
    nodes: HashMap<Box<str>, Node>,
    /// What its nodes remember, in sum: see [`MAX_DEFINITIONS`].
    n_definitions: usize,
    /// Counts messages, to tell who was silent longest.
    clock: u64,
    /// The connection over which it was heard.
    connection: Option<Instant>,
    /// Nodes to be asked for their births.
    wanted: VecDeque<Box<str>>,
    paced: Option<Instant>,
}

#[derive(Default)]
struct Node {
    heard: u64,
    born: bool,
    bd_seq: Option<u64>,
    /// Of its last message.
    seq: Option<u8>,
    definitions: HashMap<Name, Definition>,
    /// The hashes of its devices that were born since it was.
    devices: HashSet<u64>,
    is_wanted: bool,
    /// When it may be asked again.
    ask_after: Option<Instant>,
    /// How often it was asked since its last birth.
    n_asked: u32,
}

/// By what a metric is called in data: aliases are unique in a node with all its devices, names in a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    Alias(u64),
    Of { device: u64, key: u32 },
}

#[derive(Debug, Clone, Copy)]
struct Definition {
    key: u32,
    datatype: Option<u64>,
}

/// Lets `hearer` hear a message of a Sparkplug topic.
pub(super) fn handle(
    (topic, mapping, may_ask): (&Topic, &Mapping, bool),
    captures: &Captures<'_>,
    nodes: &mut Nodes,
    readings: &mut Readings,
    hearer: &mut impl Hearer,
    (name, payload): (&str, &[u8]),
) -> Outcome {
    let address = match address(name) {
        Ok(Some(address)) => address,
        // Commands of others, and whether they are there.
        Ok(None) => return Outcome::Ok,
        Err(outcome) => return outcome,
    };
    let Ok(payload) = Payload::read(payload) else { return Outcome::Malformed };
    let key = format!("{}/{}", address.group, address.node);
    let source = hash(&(topic.source, &key));
    let device = hash(&address.device);
    let (verb, is_node) = (address.verb, address.device.is_none());
    if (verb, is_node) == (Verb::Death, true) {
        if !nodes.dies(&key, payload.bd_seq()) {
            return Outcome::Stale;
        }
        hearer.source_gone(source);
        return Outcome::Ok;
    }
    let node = nodes.heard(&key);
    let is_next = node.counts(payload.seq, (verb, is_node) == (Verb::Birth, true));
    let mut is_understood = true;
    match verb {
        Verb::Birth if is_node => {
            nodes.born(&key, payload.bd_seq(), mapping, &payload.metrics);
            hearer.source_born(source);
        }
        Verb::Birth => nodes.learn(&key, device, mapping, &payload.metrics),
        Verb::Death => _ = node.devices.remove(&device),
        Verb::Data => is_understood = node.born && (is_node || node.devices.contains(&device)),
    }
    let node = nodes.heard(&key);
    if may_ask && !(is_next && node.born && is_understood) {
        nodes.ask(&key);
    }
    let speaker = topic.device(address.device.unwrap_or(address.node));
    // A node may be a device itself; most only stand between their devices and the broker, and need not be listed.
    if is_node && !hearer.knows(&speaker) {
        return Outcome::Ok;
    }
    let found = match hearer.find(captures.agency, captures.kind, &speaker, topic.kind_hint) {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    if verb == Verb::Death {
        hearer.status(found, Some(source), false, false);
        return Outcome::Ok;
    }
    if !hearer.admits(&found) {
        return Outcome::RateLimited;
    }
    let node = nodes.heard(&key);
    let mut n_unknown = 0;
    let now = payload.metrics.iter().filter(|metric| !metric.is_historical);
    let wanted = now.filter_map(|metric| {
        let known = node.resolve(metric, device, mapping);
        n_unknown += usize::from(known.is_none() && metric.name.is_none() && !is_understood);
        known.map(|known| (known.key, metric, known.datatype))
    });
    let time = payload.timestamp.map(|milliseconds| milliseconds as f64 / 1e3);
    mapping.read_metrics(found.kind(), wanted, time, readings);
    let n_bad = readings.n_bad;
    match hearer.telemetry(found, Some(source), readings) {
        Outcome::Ok if n_bad > 0 => Outcome::BadValue,
        Outcome::Ok if n_unknown > 0 => Outcome::Unborn,
        outcome => outcome,
    }
}

/// `Ok(None)`: it speaks of no node's state.
fn address(name: &str) -> Result<Option<Address<'_>>, Outcome> {
    let mut levels = name.split('/').skip(1);
    let (Some(group), Some(kind), Some(node)) = (levels.next(), levels.next(), levels.next()) else {
        return Err(Outcome::UnknownTopic);
    };
    let device = levels.next();
    let (verb, is_node) = match kind {
        "NBIRTH" => (Verb::Birth, true),
        "NDEATH" => (Verb::Death, true),
        "NDATA" => (Verb::Data, true),
        "DBIRTH" => (Verb::Birth, false),
        "DDEATH" => (Verb::Death, false),
        "DDATA" => (Verb::Data, false),
        "NCMD" | "DCMD" | "STATE" => return Ok(None),
        _ => return Err(Outcome::UnknownTopic),
    };
    if device.is_none() != is_node || levels.next().is_some() {
        return Err(Outcome::UnknownTopic);
    }
    if group.len() + node.len() > LONGEST_NAME {
        return Err(Outcome::Malformed);
    }
    Ok(Some(Address { verb, group, node, device }))
}

/// The same in every run of the reader, so that devices keep their source over a reload.
pub(super) fn hash(value: &impl Hash) -> Source {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Nodes {
    /// Notes over which connection messages come now: over another one than before, births may have been missed.
    pub fn connected(&mut self, connection: Option<Instant>) {
        if connection.is_none() || connection == self.connection {
            return;
        }
        self.connection = connection;
        self.n_definitions = 0;
        for node in self.nodes.values_mut() {
            node.forget();
        }
    }

    /// Topic and payload of the commands that are due. `timestamp` in milliseconds since 1970.
    pub fn requests(&mut self, now: Instant, timestamp: u64) -> Vec<(String, Vec<u8>)> {
        if self.wanted.is_empty() || self.paced.is_some_and(|last| now.saturating_duration_since(last) < PACE) {
            return Vec::new();
        }
        let mut requests = Vec::new();
        for _ in 0..self.wanted.len() {
            if requests.len() >= ASKED_AT_ONCE {
                break;
            }
            let Some(key) = self.wanted.pop_front() else { break };
            let Some(node) = self.nodes.get_mut(&key) else { continue };
            match node.ask_after {
                Some(after) if after > now => self.wanted.push_back(key),
                _ => {
                    // After six doublings it is the longest anyway.
                    let patience = (FIRST_PATIENCE * 2_u32.pow(node.n_asked.min(6))).min(LAST_PATIENCE);
                    node.ask_after = Some(now + patience);
                    node.n_asked = node.n_asked.saturating_add(1);
                    node.is_wanted = false;
                    if let Some((group, name)) = key.split_once('/') {
                        requests.push((format!("spBv1.0/{group}/NCMD/{name}"), rebirth(timestamp)));
                    }
                }
            }
        }
        self.paced = Some(now);
        requests
    }

    /// Whether a node waits to be asked.
    pub fn is_waiting(&self) -> bool {
        !self.wanted.is_empty()
    }

    fn heard(&mut self, key: &str) -> &mut Node {
        self.clock += 1;
        if !self.nodes.contains_key(key) {
            if self.nodes.len() >= MAX_NODES {
                self.thin_out();
            }
            self.nodes.insert(key.into(), Node::default());
        }
        let node = self.nodes.entry(key.into()).or_default();
        node.heard = self.clock;
        node
    }

    fn thin_out(&mut self) {
        let mut heard: Vec<u64> = self.nodes.values().map(|node| node.heard).collect();
        let middle = heard.len() / 2;
        let (_, &mut median, _) = heard.select_nth_unstable(middle);
        self.nodes.retain(|_, node| node.heard > median);
        self.n_definitions = self.nodes.values().map(Node::size).sum();
        self.wanted.retain(|key| self.nodes.contains_key(key));
    }

    /// Whether the death is that of the node's present life: the broker may speak an older connection's will late.
    fn dies(&mut self, key: &str, bd_seq: Option<u64>) -> bool {
        let Some(node) = self.nodes.get_mut(key) else { return true };
        if node.born && node.bd_seq != bd_seq {
            return false;
        }
        self.n_definitions -= node.size();
        node.forget();
        true
    }

    fn born(&mut self, key: &str, bd_seq: Option<u64>, mapping: &Mapping, metrics: &[Metric<'_>]) {
        let node = self.heard(key);
        let (size, seq) = (node.size(), node.seq);
        node.forget();
        node.born = true;
        node.bd_seq = bd_seq;
        node.seq = seq;
        node.n_asked = 0;
        self.n_definitions -= size;
        self.learn(key, hash(&None::<&str>), mapping, metrics);
    }

    fn learn(&mut self, key: &str, device: u64, mapping: &Mapping, metrics: &[Metric<'_>]) {
        let room = MAX_DEFINITIONS.saturating_sub(self.n_definitions);
        let node = self.heard(key);
        let before = node.size();
        if room > 0 {
            node.devices.insert(device);
        }
        for metric in metrics {
            let Some(key) = metric.name.and_then(|name| mapping.key(name)) else { continue };
            // Each takes two.
            if node.size() - before + 2 > room {
                break;
            }
            let definition = Definition { key, datatype: metric.datatype };
            node.definitions.insert(Name::Of { device, key }, definition);
            if let Some(alias) = metric.alias {
                node.definitions.insert(Name::Alias(alias), definition);
            }
        }
        self.n_definitions += node.size() - before;
    }

    fn ask(&mut self, key: &str) {
        let node = self.heard(key);
        if !node.is_wanted {
            node.is_wanted = true;
            self.wanted.push_back(key.into());
        }
    }
}

impl Node {
    fn size(&self) -> usize {
        self.definitions.len() + self.devices.len()
    }

    fn forget(&mut self) {
        self.born = false;
        self.bd_seq = None;
        self.seq = None;
        self.definitions = HashMap::new();
        self.devices = HashSet::new();
    }

    /// Whether this is the message after the last one. A birth begins anew.
    fn counts(&mut self, seq: Option<u8>, is_birth: bool) -> bool {
        let last = std::mem::replace(&mut self.seq, seq);
        match (last, seq) {
            (Some(last), Some(seq)) => is_birth || last.wrapping_add(1) == seq,
            _ => true,
        }
    }

    fn resolve(&self, metric: &Metric<'_>, device: u64, mapping: &Mapping) -> Option<Definition> {
        match metric.name {
            Some(name) => {
                let key = mapping.key(name)?;
                let born = self.definitions.get(&Name::Of { device, key });
                Some(born.copied().unwrap_or(Definition { key, datatype: None }))
            }
            None => self.definitions.get(&Name::Alias(metric.alias?)).copied(),
        }
    }
}

#[cfg(test)]
mod tests;
