//! Payloads into readings: JSON without building a tree (only the wanted keys are looked at, the rest is skipped), bare
//! values, Sparkplug's metrics, and words about being there.
//!
//! A payload is read as a whole before anything of it counts: one that ends in garbage changes nothing. A field that
//! cannot be a value of its metric is left out and counted; `null` says that the device does not know. A number in
//! quotes counts as the number, as many devices send it.

mod json;
pub(super) mod protobuf;
pub mod sparkplug;
mod value;

use crate::config::devices::DeviceKind;
use crate::config::mqtt::{Each, Field, Scale, Status};
use crate::metrics::Column;
use crate::metrics::columns::{camera, hotspot};
use jiff::Timestamp;
use sparkplug::Metric;

/// Where a reading goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Says whether the device is online.
    Up,
    /// Says whether the device does what it is for; before what its other readings say.
    Usable,
    Cell(Column),
    /// When the device says that it speaks; never in a list of readings.
    Time,
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
    /// When the device says that it spoke, in seconds since 1970 by its own clock.
    pub time: Option<f64>,
}

impl Readings {
    fn clear(&mut self) {
        self.list.clear();
        self.n_bad = 0;
        self.time = None;
    }

    /// What the payload says about being online; the last word counts.
    pub fn online(&self) -> Option<bool> {
        self.flag(Target::Up)
    }

    /// What the payload says about being usable; the last word counts.
    pub fn usable(&self) -> Option<bool> {
        self.flag(Target::Usable)
    }

    fn flag(&self, wanted: Target) -> Option<bool> {
        self.list.iter().rev().find_map(|reading| match reading {
            (target, Reading::Value(value)) if *target == wanted => Some(*value != 0.0),
            _ => None,
        })
    }
}

/// The payload is not what its topic says: no JSON object, no value, no known word.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// The fields of one topic, for each kind of device.
pub struct Mapping {
    cameras: Plan,
    hotspots: Plan,
    only: Option<DeviceKind>,
    /// The keys of all fields, each once, in order.
    keys: Vec<Box<str>>,
}

struct Plan {
    fields: Vec<Slot>,
    /// Pointers and counts need the tree.
    needs_tree: bool,
}

struct Slot {
    key: Box<str>,
    target: Target,
    scale: Scale,
    words: Box<[(Box<str>, f64)]>,
    range: Range,
    /// Texts may be times.
    is_time: bool,
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
    /// `time` is the key of the time by the device's clock, if it sends one. Fails with the metric that does not exist.
    pub fn compile(fields: &[Field], time: Option<&str>) -> Result<Mapping, String> {
        let (mut cameras, mut hotspots) = (Vec::new(), Vec::new());
        if let Some(key) = time {
            for slots in [&mut cameras, &mut hotspots] {
                slots.push(Slot::time(key));
            }
        }
        for field in fields {
            let family = format!("ioc_{}", field.metric);
            let slot = |target, range| Slot {
                key: field.key.as_str().into(),
                target,
                scale: field.scale,
                words: field.words.iter().map(|(word, number)| (word.as_str().into(), *number)).collect(),
                range,
                is_time: family.ends_with("_timestamp_seconds"),
            };
            let own = match field.metric.as_str() {
                "device_up" => Some(Target::Up),
                "device_usable" => Some(Target::Usable),
                _ => None,
            };
            if let Some(target) = own {
                cameras.push(slot(target, Range::Flag));
                hotspots.push(slot(target, Range::Flag));
            } else if let Some(column) = Column::find(camera::TABLE, &family) {
                cameras.push(slot(Target::Cell(column), Range::of(&family)));
            } else if let Some(column) = Column::find(hotspot::TABLE, &family) {
                hotspots.push(slot(Target::Cell(column), Range::of(&family)));
            } else {
                return Err(field.metric.clone());
            }
        }
        let has_cells = |slots: &[Slot]| slots.iter().any(|slot| matches!(slot.target, Target::Cell(_)));
        let only = match (has_cells(&cameras), has_cells(&hotspots)) {
            (true, false) => Some(DeviceKind::Camera),
            (false, true) => Some(DeviceKind::Hotspot),
            _ => None,
        };
        let mut keys: Vec<Box<str>> = fields.iter().map(|field| field.key.as_str().into()).collect();
        keys.sort_unstable();
        keys.dedup();
        Ok(Mapping { cameras: Plan::new(cameras), hotspots: Plan::new(hotspots), only, keys })
    }

    /// The number of a key that some field wants.
    pub fn key(&self, name: &str) -> Option<u32> {
        self.keys.binary_search_by(|key| (**key).cmp(name)).ok().and_then(|place| u32::try_from(place).ok())
    }

    /// The kind whose metrics alone are fed.
    pub fn only_kind(&self) -> Option<DeviceKind> {
        self.only
    }

    /// Reads a JSON object of a device of `kind` into `readings`, which are emptied first.
    pub fn read(&self, kind: DeviceKind, payload: &[u8], readings: &mut Readings) -> Result<(), Malformed> {
        readings.clear();
        self.plan(kind).read(payload, readings)
    }

    /// Reads what a larger payload says of one device of `kind`.
    pub fn read_part(
        &self,
        kind: DeviceKind,
        part: &serde_json::Value,
        readings: &mut Readings,
    ) -> Result<(), Malformed> {
        readings.clear();
        self.plan(kind).read_tree(part, readings)
    }

    /// Reads bare values, see [`value`].
    pub fn read_values(&self, kind: DeviceKind, payload: &[u8], readings: &mut Readings) -> Result<(), Malformed> {
        readings.clear();
        value::read(&self.plan(kind).fields, payload, readings)
    }

    /// Reads metrics of a Sparkplug payload sent at `time` (seconds since 1970): each with the number of its key and the
    /// datatype that its birth told.
    pub fn read_metrics<'m>(
        &self,
        kind: DeviceKind,
        metrics: impl Iterator<Item = (u32, &'m Metric<'m>, Option<u64>)>,
        time: Option<f64>,
        readings: &mut Readings,
    ) {
        readings.clear();
        readings.time = time;
        let plan = self.plan(kind);
        for (key, metric, datatype) in metrics {
            let Some(key) = self.keys.get(key as usize) else { continue };
            if let Some(first) = plan.fields.iter().position(|slot| slot.key == *key) {
                plan.take(first, metric.raw(datatype), readings);
            }
        }
    }

    fn plan(&self, kind: DeviceKind) -> &Plan {
        match kind {
            DeviceKind::Camera => &self.cameras,
            DeviceKind::Hotspot => &self.hotspots,
        }
    }
}

impl Plan {
    fn new(fields: Vec<Slot>) -> Plan {
        let needs_tree = fields.iter().any(|slot| slot.key.starts_with('/') || slot.scale == Scale::Count);
        Plan { fields, needs_tree }
    }
}

impl Slot {
    fn time(key: &str) -> Slot {
        Slot {
            key: key.into(),
            target: Target::Time,
            scale: Scale::default(),
            words: Box::default(),
            range: Range::NotNegative,
            is_time: true,
        }
    }

    fn take(&self, raw: Raw<'_>, readings: &mut Readings) {
        match self.read(raw) {
            Some(Reading::Value(seconds)) if self.target == Target::Time => readings.time = Some(to_seconds(seconds)),
            Some(Reading::Absent) if self.target == Target::Time => {}
            Some(reading) => readings.list.push((self.target, reading)),
            None => readings.n_bad += 1,
        }
    }

    fn read(&self, raw: Raw<'_>) -> Option<Reading> {
        let value = match raw {
            Raw::Null => return Some(Reading::Absent),
            // A word says what it stands for, in the metric's own unit.
            Raw::Text(text) => match self.words.iter().find(|(word, _)| **word == *text) {
                Some((_, number)) => *number,
                None if self.is_time => time_in(text).or_else(|| self.scaled(number_in(text)?))?,
                None => self.scaled(number_in(text)?)?,
            },
            Raw::Number(number) => self.scaled(number)?,
            Raw::Time(seconds) if self.is_time => seconds,
            Raw::Elements(count) if self.scale == Scale::Count => count as f64,
            Raw::Elements(_) | Raw::Time(_) | Raw::Other => return None,
        };
        self.range.contains(value).then_some(Reading::Value(value))
    }

    fn scaled(&self, number: f64) -> Option<f64> {
        match self.scale {
            Scale::Linear { multiply, add } => Some(number * multiply + add),
            Scale::Above(limit) => number.is_finite().then(|| f64::from(u8::from(number > limit))),
            Scale::Count => None,
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

/// A value as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Raw<'a> {
    Null,
    Number(f64),
    Text(&'a str),
    /// Seconds since 1970.
    Time(f64),
    /// An array or object with so many elements.
    Elements(usize),
    Other,
}

/// `"23.5"`, but neither `"nan"`, `"0x10"`, `" 5"` nor `"1e999"`, which no float holds.
fn number_in(text: &str) -> Option<f64> {
    let is_plain =
        text.len() <= 32 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'e' | b'E'));
    text.parse::<f64>().ok().filter(|number| is_plain && number.is_finite())
}

/// Seconds since 1970 of a time as RFC 3339 writes it, with its offset.
fn time_in(text: &str) -> Option<f64> {
    let is_plausible = text.len() <= 40 && text.as_bytes().first().is_some_and(u8::is_ascii_digit);
    let time: Timestamp = text.parse().ok().filter(|_| is_plausible)?;
    Some(time.as_microsecond() as f64 / 1e6)
}

/// Some count milliseconds since 1970 instead of seconds; no device lives in the year 5138.
fn to_seconds(number: f64) -> f64 {
    if number >= 1e11 { number / 1e3 } else { number }
}

/// What a payload speaks of, by the names it gives; `None` if it is not what `each` says.
pub fn each<'t>(each: &Each, tree: &'t serde_json::Value) -> Option<Vec<(Option<&'t str>, &'t serde_json::Value)>> {
    let id = |element: &'t serde_json::Value| element.pointer(each.id.as_deref()?)?.as_str();
    match (tree.pointer(&each.at)?, &each.id) {
        (serde_json::Value::Object(devices), None) => {
            Some(devices.iter().map(|(name, part)| (Some(name.as_str()), part)).collect())
        }
        (serde_json::Value::Object(devices), Some(_)) => Some(devices.values().map(|part| (id(part), part)).collect()),
        (serde_json::Value::Array(devices), Some(_)) => Some(devices.iter().map(|part| (id(part), part)).collect()),
        _ => None,
    }
}

/// What a status topic's payload says of being there; `None`: nothing.
pub fn read_status(status: &Status, payload: &[u8]) -> Result<Option<bool>, Malformed> {
    let payload = payload.trim_ascii();
    let held;
    let word = match &status.pointer {
        Some(pointer) if payload.first() == Some(&b'{') => {
            let tree: serde_json::Value = serde_json::from_slice(payload).map_err(|_| Malformed)?;
            held = match tree.pointer(pointer) {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => other.to_string(),
                _ => return Err(Malformed),
            };
            held.as_bytes()
        }
        _ => payload,
    };
    let is_one_of = |words: &[String]| words.iter().any(|known| known.as_bytes() == word);
    match () {
        () if is_one_of(&status.online) => Ok(Some(true)),
        () if is_one_of(&status.offline) => Ok(Some(false)),
        () if is_one_of(&status.ignored) => Ok(None),
        () => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(key: &str, metric: &str, multiply: f64) -> Field {
        Field::new(key, metric, multiply)
    }

    fn mapping() -> Mapping {
        Mapping::compile(
            &[
                field("fps", "camera_frames_per_second", 1.0),
                field("bitrate_kbps", "camera_bitrate_bits_per_second", 1000.0),
                field("online", "device_up", 1.0),
                field("recording", "camera_recording", 1.0),
                field("temp", "camera_temperature_celsius", 1.0),
                field("free", "camera_storage_free_ratio", 0.01),
                field("clients", "hotspot_clients", 1.0),
            ],
            None,
        )
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
    fn the_time_by_the_devices_clock_is_read_in_all_its_forms() {
        let mapping = Mapping::compile(&[field("fps", "camera_frames_per_second", 1.0)], Some("ts"));
        let mapping = mapping.unwrap_or_else(|metric| panic!("{metric}"));
        let mut readings = Readings::default();
        for (time, seconds, n_bad) in [
            ("1764061200", Some(1_764_061_200.0), 0),
            ("1764061200500", Some(1_764_061_200.5), 0),
            (r#""2025-11-25T16:00:00+07:00""#, Some(1_764_061_200.0), 0),
            (r#""1764061200.25""#, Some(1_764_061_200.25), 0),
            ("null", None, 0),
            (r#""yesterday""#, None, 1),
            ("-5", None, 1),
        ] {
            let payload = format!(r#"{{"fps":5,"ts":{time}}}"#);
            assert!(mapping.read(DeviceKind::Camera, payload.as_bytes(), &mut readings).is_ok());
            assert_eq!((readings.time, readings.n_bad, readings.list.len()), (seconds, n_bad, 1), "{time}");
        }
    }

    #[test]
    fn pointers_reach_into_the_tree() {
        let mapping = Mapping::compile(&[field("/video/fps", "camera_frames_per_second", 1.0)], None);
        let mapping = mapping.unwrap_or_else(|metric| panic!("{metric}"));
        let mut readings = Readings::default();
        assert!(mapping.read(DeviceKind::Camera, br#"{"video":{"fps":12}}"#, &mut readings).is_ok());
        assert_eq!(readings.list, [(Target::Cell(camera::FRAMES), Reading::Value(12.0))]);
        let deep = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
        assert_eq!(mapping.read(DeviceKind::Camera, deep.as_bytes(), &mut readings), Err(Malformed));
        assert_eq!(Mapping::compile(&[field("x", "camera_fps", 1.0)], None).err(), Some("camera_fps".into()));
    }
}
