//! Topics of one broker, compiled: which pattern a topic name matches, and what it says about its device.

use super::DeviceError;
use super::decode::Mapping;
use crate::config::devices::DeviceKind;
use crate::config::mqtt::{Broker, Decode, Segment};

/// One topic pattern, ready for matching and decoding.
pub struct Topic {
    segments: Box<[Segment]>,
    pub retained_status: bool,
    pub decoder: Decoder,
    /// The kind of devices that can speak here if the topic itself does not say it.
    pub kind_hint: Option<DeviceKind>,
}

/// How a payload is read.
pub enum Decoder {
    Json(Mapping),
    Status { online: Box<[u8]>, offline: Box<[u8]> },
}

/// What a topic name says.
#[derive(Debug, PartialEq, Eq)]
pub struct Captures<'a> {
    pub agency: Option<&'a str>,
    pub kind: Option<DeviceKind>,
    pub device: &'a str,
}

/// All topics of a broker.
pub struct Topics(Vec<Topic>);

impl Topics {
    /// Fails if a field names a metric that does not exist, which the configuration's reader should have refused.
    pub fn compile(broker: &Broker) -> Result<Topics, DeviceError> {
        let compile = |topic: &crate::config::mqtt::Topic| {
            let (decoder, kind_hint) = match &topic.decode {
                Decode::Json { fields } => {
                    let mapping = Mapping::compile(fields).map_err(|metric| DeviceError::UnknownMetric {
                        broker: broker.id.to_string(),
                        filter: topic.filter(),
                        metric,
                    })?;
                    let hint = mapping.only_kind();
                    (Decoder::Json(mapping), hint)
                }
                Decode::Status { online, offline } => {
                    (Decoder::Status { online: online.as_bytes().into(), offline: offline.as_bytes().into() }, None)
                }
            };
            let kind_hint = kind_hint.or_else(|| literal_kind(&topic.pattern));
            let segments = topic.pattern.clone().into_boxed_slice();
            Ok(Topic { segments, retained_status: topic.retained_status, decoder, kind_hint })
        };
        broker.topics.iter().map(compile).collect::<Result<_, _>>().map(Topics)
    }

    /// The first pattern that describes `name`.
    pub fn find<'t, 'a>(&'t self, name: &'a str) -> Option<(&'t Topic, Captures<'a>)> {
        self.0.iter().find_map(|topic| Some((topic, captures(&topic.segments, name)?)))
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
            return Some(Captures { agency, kind, device: device? });
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
        None => Some(Captures { agency, kind, device: device? }),
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
        let expected = Captures { agency: Some("tam-ky"), kind: Some(DeviceKind::Camera), device: "cam-1" };
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
        assert_eq!(captures(&open, "x/cam-1/a/b").map(|found| found.device), Some("cam-1"));
        assert_eq!(captures(&open, "x/cam-1").map(|found| found.device), Some("cam-1"));
        assert_eq!(captures(&open, "x"), None);
        assert_eq!(captures(&[Segment::Any], "x"), None, "a topic that names no device says nothing");
    }
}
