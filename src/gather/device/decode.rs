//! JSON telemetry into readings, without building a tree: only the wanted keys are looked at, the rest is skipped.
//!
//! A payload is read as a whole before anything of it counts: one that ends in garbage changes nothing. A field that
//! cannot be a value of its metric is left out and counted; `null` says that the device does not know. A number in
//! quotes counts as the number, as many devices send it.

use crate::config::devices::DeviceKind;
use crate::config::mqtt::Field;
use crate::metrics::Column;
use crate::metrics::columns::{camera, hotspot};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Where a reading goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Says whether the device is online.
    Up,
    Cell(Column),
}

/// What a field said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    Value(f64),
    /// `null`: the device does not know.
    Absent,
}

/// What a payload said. Kept between messages to reuse its memory.
#[derive(Debug, Default)]
pub struct Readings {
    pub list: Vec<(Target, Reading)>,
    /// Fields whose value was unusable.
    pub n_bad: usize,
}

impl Readings {
    /// What the payload says about being online; the last word counts.
    pub fn online(&self) -> Option<bool> {
        self.list.iter().rev().find_map(|reading| match reading {
            (Target::Up, Reading::Value(value)) => Some(*value != 0.0),
            _ => None,
        })
    }
}

/// The payload is not a JSON object.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// The fields of one topic, for each kind of device.
pub struct Mapping {
    cameras: Plan,
    hotspots: Plan,
    only: Option<DeviceKind>,
}

struct Plan {
    fields: Vec<Slot>,
    /// Pointers need the tree.
    needs_tree: bool,
}

struct Slot {
    key: Box<str>,
    target: Target,
    multiply: f64,
    range: Range,
}

/// What values a metric can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    Any,
    NotNegative,
    /// 0 to 1.
    Ratio,
    /// 0 or 1.
    Flag,
}

impl Mapping {
    /// Fails with the metric that does not exist.
    pub fn compile(fields: &[Field]) -> Result<Mapping, String> {
        let (mut cameras, mut hotspots) = (Vec::new(), Vec::new());
        for field in fields {
            let slot = |target, range| Slot { key: field.key.as_str().into(), target, multiply: field.multiply, range };
            let family = format!("ioc_{}", field.metric);
            if field.metric == "device_up" {
                cameras.push(slot(Target::Up, Range::Flag));
                hotspots.push(slot(Target::Up, Range::Flag));
            } else if let Some(column) = Column::find(camera::TABLE, &family) {
                cameras.push(slot(Target::Cell(column), Range::of(&family)));
            } else if let Some(column) = Column::find(hotspot::TABLE, &family) {
                hotspots.push(slot(Target::Cell(column), Range::of(&family)));
            } else {
                return Err(field.metric.clone());
            }
        }
        let has_cells = |slots: &[Slot]| slots.iter().any(|slot| slot.target != Target::Up);
        let only = match (has_cells(&cameras), has_cells(&hotspots)) {
            (true, false) => Some(DeviceKind::Camera),
            (false, true) => Some(DeviceKind::Hotspot),
            _ => None,
        };
        Ok(Mapping { cameras: Plan::new(cameras), hotspots: Plan::new(hotspots), only })
    }

    /// The kind whose metrics alone are fed.
    pub fn only_kind(&self) -> Option<DeviceKind> {
        self.only
    }

    /// Reads `payload` of a device of `kind` into `readings`, which are emptied first.
    pub fn read(&self, kind: DeviceKind, payload: &[u8], readings: &mut Readings) -> Result<(), Malformed> {
        readings.list.clear();
        readings.n_bad = 0;
        let plan = match kind {
            DeviceKind::Camera => &self.cameras,
            DeviceKind::Hotspot => &self.hotspots,
        };
        if plan.needs_tree { plan.read_tree(payload, readings) } else { plan.read_stream(payload, readings) }
    }
}

impl Plan {
    fn new(fields: Vec<Slot>) -> Plan {
        let needs_tree = fields.iter().any(|slot| slot.key.starts_with('/'));
        Plan { fields, needs_tree }
    }

    fn read_stream(&self, payload: &[u8], readings: &mut Readings) -> Result<(), Malformed> {
        let mut json = serde_json::Deserializer::from_slice(payload);
        json.deserialize_map(ObjectVisitor { plan: self, readings }).map_err(|_| Malformed)?;
        json.end().map_err(|_| Malformed)
    }

    fn read_tree(&self, payload: &[u8], readings: &mut Readings) -> Result<(), Malformed> {
        let tree: serde_json::Value = serde_json::from_slice(payload).map_err(|_| Malformed)?;
        let object = tree.as_object().ok_or(Malformed)?;
        for slot in &self.fields {
            let found = if slot.key.starts_with('/') { tree.pointer(&slot.key) } else { object.get(&*slot.key) };
            let Some(found) = found else { continue };
            let raw = match found {
                serde_json::Value::Null => Raw::Null,
                serde_json::Value::Bool(flag) => Raw::Number(f64::from(u8::from(*flag))),
                serde_json::Value::Number(number) => number.as_f64().map_or(Raw::Other, Raw::Number),
                serde_json::Value::String(text) => number_in(text),
                _ => Raw::Other,
            };
            slot.take(raw, readings);
        }
        Ok(())
    }
}

impl Slot {
    fn take(&self, raw: Raw, readings: &mut Readings) {
        match raw {
            Raw::Null => readings.list.push((self.target, Reading::Absent)),
            Raw::Number(number) if self.range.contains(number * self.multiply) => {
                readings.list.push((self.target, Reading::Value(number * self.multiply)));
            }
            Raw::Number(_) | Raw::Other => readings.n_bad += 1,
        }
    }
}

impl Range {
    fn of(family: &str) -> Range {
        if family.ends_with("_ratio") {
            Range::Ratio
        } else if family.ends_with("_recording") || family.ends_with("_up") {
            Range::Flag
        } else if family.ends_with("_celsius") || family.ends_with("_offset_seconds") {
            Range::Any
        } else {
            Range::NotNegative
        }
    }

    fn contains(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Range::Any => true,
                Range::NotNegative => value >= 0.0,
                Range::Ratio => (0.0..=1.0).contains(&value),
                Range::Flag => value == 0.0 || value == 1.0,
            }
    }
}

/// A JSON value as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Raw {
    Null,
    Number(f64),
    Other,
}

/// `"23.5"`, but neither `"nan"`, `"0x10"` nor `" 5"`.
fn number_in(text: &str) -> Raw {
    let is_plain =
        text.len() <= 32 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'e' | b'E'));
    match text.parse::<f64>() {
        Ok(number) if is_plain => Raw::Number(number),
        _ => Raw::Other,
    }
}

struct ObjectVisitor<'a> {
    plan: &'a Plan,
    readings: &'a mut Readings,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(first) = map.next_key_seed(KeySeed(self.plan))? {
            let Some(first) = first else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw = map.next_value_seed(ValueSeed)?;
            let key = &self.plan.fields[first].key;
            // One key may feed several metrics.
            for slot in self.plan.fields[first..].iter().filter(|slot| slot.key == *key) {
                slot.take(raw, self.readings);
            }
        }
        Ok(())
    }
}

/// A key, as the place of the first field that wants it.
struct KeySeed<'a>(&'a Plan);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Option<usize>, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        // A handful of fields: comparing beats hashing.
        Ok(self.0.fields.iter().position(|slot| &*slot.key == key))
    }
}

struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Raw, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Number(f64::from(u8::from(flag))))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(number_in(text))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Raw::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Raw::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(key: &str, metric: &str, multiply: f64) -> Field {
        Field { key: key.into(), metric: metric.into(), multiply }
    }

    fn mapping() -> Mapping {
        Mapping::compile(&[
            field("fps", "camera_frames_per_second", 1.0),
            field("bitrate_kbps", "camera_bitrate_bits_per_second", 1000.0),
            field("online", "device_up", 1.0),
            field("recording", "camera_recording", 1.0),
            field("temp", "camera_temperature_celsius", 1.0),
            field("free", "camera_storage_free_ratio", 0.01),
            field("clients", "hotspot_clients", 1.0),
        ])
        .unwrap_or_else(|metric| panic!("{metric}"))
    }

    fn read(payload: &[u8]) -> Result<Readings, Malformed> {
        let mut readings = Readings::default();
        mapping().read(DeviceKind::Camera, payload, &mut readings)?;
        Ok(readings)
    }

    #[test]
    fn wanted_fields_are_read_with_their_unit_and_others_skipped() {
        let payload =
            r#"{"a":[{"fps":9}],"fps":24.5,"bitrate_kbps":"1500","online":true,"recording":null,"clients":7}"#;
        let readings = read(payload.as_bytes()).unwrap_or_else(|_| panic!("well formed"));
        let expected = [
            (Target::Cell(camera::FRAMES), Reading::Value(24.5)),
            (Target::Cell(camera::BITRATE), Reading::Value(1_500_000.0)),
            (Target::Up, Reading::Value(1.0)),
            (Target::Cell(camera::RECORDING), Reading::Absent),
        ];
        assert_eq!(readings.list, expected);
        assert_eq!((readings.n_bad, readings.online()), (0, Some(true)));
    }

    #[test]
    fn unusable_values_are_left_out_and_the_rest_counts() {
        let bad = [
            r#"{"fps":-1}"#,
            r#"{"fps":"NaN"}"#,
            r#"{"fps":"1e400"}"#,
            r#"{"fps":[1]}"#,
            r#"{"fps":{"v":1}}"#,
            r#"{"fps":"fast"}"#,
            r#"{"online":"yes"}"#,
            r#"{"online":2}"#,
            r#"{"free":101}"#,
            r#"{"bitrate_kbps":1e306}"#,
        ];
        for payload in bad {
            let with_temp = payload.replacen('{', r#"{"temp":-5,"#, 1);
            let readings = read(with_temp.as_bytes()).unwrap_or_else(|_| panic!("{payload}"));
            assert_eq!(readings.list, [(Target::Cell(camera::TEMPERATURE), Reading::Value(-5.0))], "{payload}");
            assert_eq!(readings.n_bad, 1, "{payload}");
        }
    }

    #[test]
    fn hostile_payloads_are_malformed_and_harmless() {
        let deep_object = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
        assert!(read(deep_object.as_bytes()).is_ok(), "skipped without recursion");
        let deep_wanted = format!(r#"{{"fps":{}1{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(read(deep_wanted.as_bytes()).map(|readings| readings.n_bad), Ok(1));
        let rows: [&[u8]; 13] = [
            b"",
            b"null",
            b"5",
            b"[]",
            b"\"x\"",
            b"{",
            b"{\"fps\":NaN}",
            b"{\"fps\":1e400}",
            b"{\"fps\":1} {",
            b"{\"fps\":1,}",
            b"{\"fps\":\"\xff\xfe\"}",
            b"{\"\xff\":1}",
            b"\xff\xfe\x00",
        ];
        for payload in rows {
            assert_eq!(read(payload).map(|_| ()), Err(Malformed), "{}", String::from_utf8_lossy(payload));
        }
    }

    #[test]
    fn pointers_reach_into_the_tree() {
        let mapping = Mapping::compile(&[field("/video/fps", "camera_frames_per_second", 1.0)]);
        let mapping = mapping.unwrap_or_else(|metric| panic!("{metric}"));
        let mut readings = Readings::default();
        assert!(mapping.read(DeviceKind::Camera, br#"{"video":{"fps":12}}"#, &mut readings).is_ok());
        assert_eq!(readings.list, [(Target::Cell(camera::FRAMES), Reading::Value(12.0))]);
        let deep = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
        assert_eq!(mapping.read(DeviceKind::Camera, deep.as_bytes(), &mut readings), Err(Malformed));
        assert_eq!(Mapping::compile(&[field("x", "camera_fps", 1.0)]).err(), Some("camera_fps".into()));
    }
}
