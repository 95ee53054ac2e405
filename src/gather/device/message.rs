//! What one message says, and to whom: its topic is found, its devices are found, its payload is read.

use super::decode::{self, Malformed, Readings};
use super::fleet::Found;
use super::inventory::Life;
use super::link::Message;
use super::outcome::Outcome;
use super::sparkplug::{self, Nodes};
use super::topic::{Captures, Decoder, Topic, Topics};
use crate::config::devices::DeviceKind;

/// What stands between a device and the broker and speaks for it: a recorder, a bridge, a Sparkplug node.
pub type Source = u64;

/// What is kept from one message to the next.
#[derive(Default)]
pub struct Memory {
    /// Kept to reuse its memory.
    pub readings: Readings,
    pub nodes: Nodes,
}

/// Whom messages are told: the fleet, or somebody who watches.
pub trait Hearer {
    /// The device of that name; `hint` is the kind of one that is not known yet and whose topic does not say it.
    fn find(
        &mut self,
        agency: Option<&str>,
        kind: Option<DeviceKind>,
        device: &str,
        hint: Option<DeviceKind>,
    ) -> Result<Found, Outcome>;

    /// Whether the name is that of a device which is known, listed or discovered.
    fn knows(&self, device: &str) -> bool;

    /// Whether the device may send one more message of telemetry now.
    fn admits(&mut self, found: &Found) -> bool;

    /// The device sent telemetry, through the source if there is one. [`Outcome::Stale`] if it says nothing of now.
    fn telemetry(&mut self, found: Found, source: Option<Source>, readings: &Readings) -> Outcome;

    /// The device was said to be there or not; `retained`: the broker remembers that it was said.
    fn status(&mut self, found: Found, source: Option<Source>, online: bool, retained: bool);

    /// A recorder or bridge said, or the broker in its name, that it is gone.
    fn source_gone(&mut self, source: Source);

    /// A Sparkplug node began a life: whoever is not born again after it is gone.
    fn source_born(&mut self, source: Source);
}

/// Why a device of the inventory is not heard where the topic says another agency or kind, or if it is retired.
pub(super) fn refusal(
    agency: Option<&str>,
    kind: Option<DeviceKind>,
    (own_agency, own_kind, life): (&str, DeviceKind, Life),
) -> Option<Outcome> {
    match () {
        () if agency.is_some_and(|agency| agency != own_agency) => Some(Outcome::AgencyMismatch),
        () if kind.is_some_and(|kind| kind != own_kind) => Some(Outcome::KindMismatch),
        () if life == Life::Retired => Some(Outcome::Retired),
        () => None,
    }
}

/// Lets `hearer` hear one message.
pub(super) fn handle(topics: &Topics, memory: &mut Memory, hearer: &mut impl Hearer, message: &Message) -> Outcome {
    let Ok(name) = std::str::from_utf8(&message.topic) else { return Outcome::Malformed };
    let Some((topic, captures)) = topics.find(name) else { return Outcome::UnknownTopic };
    if message.retain && !topic.retained_status {
        return Outcome::RetainedIgnored;
    }
    let Memory { readings, nodes } = memory;
    if let Decoder::Sparkplug { mapping, may_ask } = &topic.decoder {
        let message = (name, &*message.payload);
        return sparkplug::handle((topic, mapping, *may_ask), &captures, nodes, readings, hearer, message);
    }
    let Some(device) = captures.device else { return handle_source(topic, &captures, readings, hearer, message) };
    let device = topic.device(device);
    let found = match hearer.find(captures.agency, captures.kind, &device, topic.kind_hint) {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    if let Decoder::Status(status) = &topic.decoder {
        return match decode::read_status(status, &message.payload) {
            Ok(Some(online)) => {
                hearer.status(found, topic.source, online, message.retain);
                Outcome::Ok
            }
            Ok(None) => Outcome::Ok,
            Err(Malformed) => Outcome::Malformed,
        };
    }
    if !hearer.admits(&found) {
        return Outcome::RateLimited;
    }
    let read = match &topic.decoder {
        Decoder::Json(mapping) | Decoder::Each(mapping, _) => mapping.read(found.kind(), &message.payload, readings),
        Decoder::Value(mapping) => mapping.read_values(found.kind(), &message.payload, readings),
        // Both were dealt with above.
        Decoder::Status(_) | Decoder::Sparkplug { .. } => Err(Malformed),
    };
    match read {
        Ok(()) => take(topic, found, readings, hearer, message.retain),
        Err(Malformed) => Outcome::Malformed,
    }
}

/// Applies what was read of one device.
fn take(topic: &Topic, found: Found, readings: &Readings, hearer: &mut impl Hearer, is_retained: bool) -> Outcome {
    if is_retained {
        let Some(online) = readings.online() else { return Outcome::RetainedIgnored };
        hearer.status(found, topic.source, online, true);
    } else if hearer.telemetry(found, topic.source, readings) == Outcome::Stale {
        return Outcome::Stale;
    }
    if readings.n_bad > 0 { Outcome::BadValue } else { Outcome::Ok }
}

/// A message whose topic names no device: of a recorder or bridge about itself, or about several devices.
fn handle_source(
    topic: &Topic,
    captures: &Captures<'_>,
    readings: &mut Readings,
    hearer: &mut impl Hearer,
    message: &Message,
) -> Outcome {
    match &topic.decoder {
        Decoder::Status(status) => match decode::read_status(status, &message.payload) {
            Ok(online) => {
                if let (Some(source), Some(false)) = (topic.source, online) {
                    hearer.source_gone(source);
                }
                Outcome::Ok
            }
            Err(Malformed) => Outcome::Malformed,
        },
        Decoder::Each(mapping, each) => {
            let Ok(tree) = serde_json::from_slice::<serde_json::Value>(&message.payload) else {
                return Outcome::Malformed;
            };
            let Some(devices) = decode::each(each, &tree) else { return Outcome::Malformed };
            // The message counts once: as good if anything in it was, else as what the first of it was.
            let mut outcome = Outcome::Ok;
            let mut n_good = 0;
            for (name, part) in devices {
                let found =
                    name.map(|name| hearer.find(captures.agency, captures.kind, &topic.device(name), topic.kind_hint));
                let one = match found {
                    Some(Ok(found)) if !hearer.admits(&found) => Outcome::RateLimited,
                    Some(Ok(found)) => match mapping.read_part(found.kind(), part, readings) {
                        Ok(()) => take(topic, found, readings, hearer, message.retain),
                        Err(Malformed) => Outcome::BadValue,
                    },
                    Some(Err(outcome)) => outcome,
                    None => Outcome::BadValue,
                };
                n_good += usize::from(one == Outcome::Ok);
                // A bad value is told even where others are good.
                if one != Outcome::Ok && (outcome == Outcome::Ok || one == Outcome::BadValue) {
                    outcome = one;
                }
            }
            if n_good > 0 && outcome != Outcome::BadValue { Outcome::Ok } else { outcome }
        }
        // The configuration's reader refuses the first two; the last has its own reader.
        Decoder::Json(_) | Decoder::Value(_) | Decoder::Sparkplug { .. } => Outcome::UnknownTopic,
    }
}
