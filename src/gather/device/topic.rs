//! Topics of one broker, compiled: which pattern a topic name matches, and what it says about its device.

use super::DeviceError;
use super::decode::Mapping;
use super::message::Source;
use super::sparkplug;
use crate::config::Id;
use crate::config::devices::DeviceKind;
use crate::config::mqtt::{Broker, Decode, Each, Field, Segment, Status};
use std::borrow::Cow;

/// One topic pattern, ready for matching and decoding.
pub struct Topic {
    segments: Box<[Segment]>,
    pub retained_status: bool,
    pub decoder: Decoder,
    /// The kind of devices that can speak here if the topic itself does not say it.
    pub kind_hint: Option<DeviceKind>,
    /// Makes a device's id of the name by which it speaks.
    device_prefix: Box<str>,
    /// Whose devices speak here, where the name does not say it.
    agency: Option<Id>,
    /// What speaks here by configuration, where the name does not say it.
    kind: Option<DeviceKind>,
    /// Who speaks for the devices heard here, see [`config::mqtt::Topic::source`](crate::config::mqtt::Topic::source):
    /// what is the same in another run of the same configuration.
    pub source: Option<Source>,
}

/// How a payload is read.
pub enum Decoder {
    Json(Mapping),
    /// A JSON payload that speaks of several devices.
    Each(Mapping, Each),
    Value(Mapping),
    Status(Status),
    Sparkplug {
        mapping: Mapping,
        /// Nodes may be asked to send their births again.
        may_ask: bool,
    },
}

/// What a topic name says.
#[derive(Debug, PartialEq, Eq)]
pub struct Captures<'a> {
    pub agency: Option<&'a str>,
    pub kind: Option<DeviceKind>,
    /// `None`: the payload says it, or all devices of the topic's source are meant.
    pub device: Option<&'a str>,
}

/// All topics of a broker.
pub struct Topics(Vec<Topic>);

impl Topics {
    /// Fails if a field names a metric that does not exist, which the configuration's reader should have refused.
    pub fn compile(broker: &Broker) -> Result<Topics, DeviceError> {
        let compile = |topic: &crate::config::mqtt::Topic| {
            let mapping = |fields: &[Field]| {
                Mapping::compile(fields, topic.time.as_deref()).map_err(|metric| DeviceError::UnknownMetric {
                    broker: broker.id.to_string(),
                    filter: topic.filter(),
                    metric,
                })
            };
            let (decoder, kind_hint) = match &topic.decode {
                Decode::Json { fields, each } => {
                    let mapping = mapping(fields)?;
                    let hint = mapping.only_kind();
                    let decoder = match each {
                        Some(each) => Decoder::Each(mapping, each.clone()),
                        None => Decoder::Json(mapping),
                    };
                    (decoder, hint)
                }
                Decode::Value { fields } => {
                    let mapping = mapping(fields)?;
                    let hint = mapping.only_kind();
                    (Decoder::Value(mapping), hint)
                }
                Decode::Status(status) => (Decoder::Status(status.clone()), None),
                Decode::Sparkplug { fields, rebirth } => {
                    let mapping = mapping(fields)?;
                    let hint = mapping.only_kind();
                    (Decoder::Sparkplug { mapping, may_ask: *rebirth }, hint)
                }
            };
            let kind_hint = topic.kind.or(kind_hint).or_else(|| literal_kind(&topic.pattern));
            Ok(Topic {
                segments: topic.pattern.clone().into_boxed_slice(),
                retained_status: topic.retained_status,
                decoder,
                kind_hint,
                device_prefix: topic.device_prefix.as_str().into(),
                agency: topic.agency.clone(),
                kind: topic.kind,
                source: topic.source.map(|number| {
                    let of_source = broker.topics.iter().filter(|other| other.source == Some(number));
                    sparkplug::hash(&of_source.map(crate::config::mqtt::Topic::filter).collect::<Vec<_>>())
                }),
            })
        };
        broker.topics.iter().map(compile).collect::<Result<_, _>>().map(Topics)
    }

    /// The first pattern that describes `name`.
    pub fn find<'t, 'a>(&'t self, name: &'a str) -> Option<(&'t Topic, Captures<'a>)>
    where
        't: 'a,
    {
        self.0.iter().find_map(|topic| {
            let found = captures(&topic.segments, name)?;
            let agency = found.agency.or(topic.agency.as_deref());
            Some((topic, Captures { agency, kind: found.kind.or(topic.kind), ..found }))
        })
    }
}

impl Topic {
    /// The id of the device that speaks by `name`: ids have no capitals, many devices' names do.
    pub fn device<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let is_plain = self.device_prefix.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase());
        if is_plain {
            return Cow::Borrowed(name);
        }
        Cow::Owned(format!("{}{}", self.device_prefix, name.to_ascii_lowercase()))
    }
}

/// A pattern like `ioc/+/camera/{device}` names its kind in a literal.
fn literal_kind(pattern: &[Segment]) -> Option<DeviceKind> {
    DeviceKind::ALL.into_iter().find(|kind| {
        pattern.iter().any(|segment| matches!(segment, Segment::Literal(text) if text.as_str() == kind.as_str()))
    })
}

fn captures<'a>(segments: &[Segment], name: &'a str) -> Option<Captures<'a>> {
    let (mut agency, mut kind, mut device) = (None, None, None);
    let mut levels = name.split('/');
    for segment in segments {
        if *segment == Segment::Rest {
            // "#" also matches the level above it, that is, nothing more.
            return Some(Captures { agency, kind, device });
        }
        let level = levels.next()?;
        match segment {
            Segment::Literal(text) if text == level => {}
            Segment::Literal(_) => return None,
            Segment::Agency => agency = Some(level),
            Segment::Kind => kind = Some(DeviceKind::ALL.into_iter().find(|kind| kind.as_str() == level)?),
            Segment::Device => device = Some(level),
            Segment::Any | Segment::Rest => {}
        }
    }
    match levels.next() {
        None => Some(Captures { agency, kind, device }),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_matched_level_by_level() {
        let pattern = [
            Segment::Literal("ioc".into()),
            Segment::Agency,
            Segment::Kind,
            Segment::Device,
            Segment::Literal("telemetry".into()),
        ];
        let found = captures(&pattern, "ioc/tam-ky/camera/cam-1/telemetry");
        let expected = Captures { agency: Some("tam-ky"), kind: Some(DeviceKind::Camera), device: Some("cam-1") };
        assert_eq!(found, Some(expected));
        for other in [
            "",
            "ioc",
            "ioc/tam-ky/camera/cam-1",
            "ioc/tam-ky/camera/cam-1/status",
            "ioc/tam-ky/toaster/cam-1/telemetry",
            "ioc/tam-ky/camera/cam-1/telemetry/",
            &"a/".repeat(30_000),
        ] {
            assert_eq!(captures(&pattern, other), None, "{other:.40}");
        }
        let open = [Segment::Any, Segment::Device, Segment::Rest];
        assert_eq!(captures(&open, "x/cam-1/a/b").and_then(|found| found.device), Some("cam-1"));
        assert_eq!(captures(&open, "x/cam-1").and_then(|found| found.device), Some("cam-1"));
        assert_eq!(captures(&open, "x"), None);
        assert_eq!(captures(&[Segment::Any], "x").and_then(|found| found.device), None);
    }
}
