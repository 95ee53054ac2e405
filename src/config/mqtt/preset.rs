//! Presets: what known senders publish, as topics. Where a convention comes from stands beside each.

use super::super::decode::{self, Context, Section};
use super::super::devices::DeviceKind;
use super::super::node::{Node, quote};
use super::topic::{self, Common};
use super::{Decode, Each, Field, Scale, Segment, Status, Topic};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preset {
    Frigate,
    Openwrt,
    Zigbee2mqtt,
    Axis,
}

const PRESETS: &[(&str, Preset)] = &[
    ("frigate", Preset::Frigate),
    ("openwrt", Preset::Openwrt),
    ("zigbee2mqtt", Preset::Zigbee2mqtt),
    ("axis", Preset::Axis),
];

/// The topics of a preset, as source `number` of its broker.
pub(super) fn topics(cx: &mut Context<'_>, section: &Section<'_>, number: u16) -> Option<Vec<Topic>> {
    let foreign = [
        "filter", "decode", "fields", "each", "each_id", "metric", "online", "offline", "ignored", "field", "retained",
    ];
    topic::refuse(cx, section, &foreign, "\"preset\"");
    let common = topic::common(cx, section);
    let prefix = section.optional(cx, "prefix", prefix);
    let radio = section.optional(cx, "radio", level);
    let ping = section.optional(cx, "ping", level);
    let preset = section.required(cx, "preset", decode::choice(PRESETS))?;
    if preset != Preset::Openwrt {
        topic::refuse(cx, section, &["radio", "ping"], "this preset");
    }
    let (default_prefix, kind) = match preset {
        Preset::Frigate => ("frigate", DeviceKind::Camera),
        Preset::Openwrt => ("collectd", DeviceKind::Hotspot),
        Preset::Zigbee2mqtt => ("zigbee2mqtt", DeviceKind::Hotspot),
        Preset::Axis => ("axis", DeviceKind::Camera),
    };
    let fixed = preset != Preset::Zigbee2mqtt;
    if let (Some(node), true) = (section.get("kind"), fixed && common.kind.is_some_and(|given| given != kind)) {
        cx.error(node.place, format!("topic: the devices of this preset are of kind {}", kind.as_str()));
    }
    let kind = if fixed { kind } else { common.kind.unwrap_or(kind) };
    let prefix = prefix.unwrap_or_else(|| vec![Segment::Literal(default_prefix.to_owned())]);
    let maker = Maker { prefix, common, kind, number };
    Some(match preset {
        Preset::Frigate => maker.frigate(),
        Preset::Openwrt => maker.openwrt(radio.as_deref().unwrap_or("wlan0"), ping.as_deref()),
        Preset::Zigbee2mqtt => maker.zigbee2mqtt(),
        Preset::Axis => maker.axis(),
    })
}

fn is_plain(level: &str) -> bool {
    !level.is_empty() && !level.contains(['+', '#', '{', '}', '/'])
}

/// A part of a topic's level.
fn level(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = decode::name(cx, node)?;
    if is_plain(&text) {
        return Some(text);
    }
    cx.expected(node, "plain text without /, + or #");
    None
}

/// One or more levels.
fn prefix(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Segment>> {
    let text = decode::name(cx, node)?;
    if let Some(level) = text.split('/').find(|level| !is_plain(level)) {
        cx.wrong(node, format!("found the level {}, expected plain text", quote(level)));
        return None;
    }
    Some(text.split('/').map(|level| Segment::Literal(level.to_owned())).collect())
}

struct Maker {
    prefix: Vec<Segment>,
    common: Common,
    kind: DeviceKind,
    number: u16,
}

impl Maker {
    /// A topic below the prefix; `{device}`, `+` and `#` as in `filter`.
    fn topic(&self, below: &str, decode: Decode, retained_status: bool) -> Topic {
        let level = |level: &str| match level {
            "{device}" => Segment::Device,
            "+" => Segment::Any,
            "#" => Segment::Rest,
            text => Segment::Literal(text.to_owned()),
        };
        Topic {
            pattern: self.prefix.iter().cloned().chain(below.split('/').map(level)).collect(),
            qos: self.common.qos,
            decode,
            retained_status,
            agency: self.common.agency.clone(),
            kind: Some(self.kind),
            device_prefix: self.common.device_prefix.clone(),
            source: Some(self.number),
        }
    }

    fn metric(&self, camera: &str, hotspot: &str) -> String {
        match self.kind {
            DeviceKind::Camera => camera,
            DeviceKind::Hotspot => hotspot,
        }
        .to_owned()
    }

    /// Frigate's documentation, "MQTT": `available` of the recorder, `stats` with the cameras' frame rates, and the
    /// health of each camera's roles under `CAMERA/status/ROLE`. A camera without frames is not there, whatever Frigate,
    /// which speaks for it, says otherwise.
    fn frigate(&self) -> Vec<Topic> {
        let fps = |metric: &str, scale| Field { scale, ..field("camera_fps", metric) };
        let stats = vec![fps("device_up", Scale::Above(0.0)), fps("camera_frames_per_second", Scale::default())];
        let each = Some(Each { at: "/cameras".into(), id: None });
        let recording = Field {
            words: vec![("online".into(), 1.0), ("offline".into(), 0.0), ("disabled".into(), 0.0)],
            ..field("1", "camera_recording")
        };
        let detect = Status { ignored: vec!["disabled".into()], ..status("online", "offline", None) };
        vec![
            self.topic("available", Decode::Status(status("online", "offline", None)), true),
            self.topic("stats", Decode::Json { fields: stats, each }, false),
            self.topic("{device}/status/detect", Decode::Status(detect), true),
            self.topic("{device}/status/record", Decode::Value { fields: vec![recording] }, false),
        ]
    }

    /// collectd's plugin `mqtt` as OpenWrt packages it: `HOST/PLUGIN[-INSTANCE]/TYPE[-INSTANCE]`, values as in collectd's
    /// plain-text protocol (`TIME:VALUE[:VALUE]`). Interfaces are those of OpenWrt's defaults: `br-lan` towards clients.
    /// MQTT has no wildcard for a part of a level, so the pinged host and the radio must be known.
    fn openwrt(&self, radio: &str, ping: Option<&str>) -> Vec<Topic> {
        let value = |fields: Vec<Field>| Decode::Value { fields };
        let one = |metric: &str| value(vec![field("1", metric)]);
        let latency = Field {
            scale: Scale::Linear { multiply: 0.001, add: 0.0 },
            ..field("1", "hotspot_uplink_latency_seconds")
        };
        // The bridge receives what clients send.
        let octets = vec![field("1", "hotspot_receive_bytes_total"), field("2", "hotspot_transmit_bytes_total")];
        let mut topics = vec![
            self.topic("{device}/interface-br-lan/if_octets", value(octets), false),
            self.topic("{device}/uptime/uptime", one("hotspot_uptime_seconds"), false),
            self.topic("{device}/thermal-thermal_zone0/temperature", one("hotspot_temperature_celsius"), false),
            self.topic(&format!("{{device}}/iwinfo-{radio}/stations"), one("hotspot_clients"), false),
        ];
        if let Some(host) = ping {
            topics.push(self.topic(&format!("{{device}}/ping/ping-{host}"), value(vec![latency]), false));
            let loss = one("hotspot_uplink_loss_ratio");
            topics.push(self.topic(&format!("{{device}}/ping/ping_droprate-{host}"), loss, false));
        }
        topics
    }

    /// Zigbee2MQTT's documentation, "MQTT Topics and Messages": state under the device's name, `availability` below it as
    /// a word or as `{"state": …}`, and `bridge/state` of the bridge itself.
    fn zigbee2mqtt(&self) -> Vec<Topic> {
        let temperature = self.metric("camera_temperature_celsius", "hotspot_temperature_celsius");
        let words = || Decode::Status(status("online", "offline", Some("/state")));
        vec![
            self.topic("bridge/state", words(), true),
            self.topic("{device}/availability", words(), true),
            self.topic(
                "{device}",
                Decode::Json { fields: vec![field("temperature", &temperature)], each: None },
                false,
            ),
        ]
    }

    /// Axis's documentation of its MQTT client and event bridge: the client's birth and last will under
    /// `event/connection`, events with their data as texts. The device is its serial number.
    fn axis(&self) -> Vec<Topic> {
        let disruption = Field {
            words: vec![("0".into(), 1.0), ("1".into(), 0.0)],
            ..field("/message/data/disruption", "camera_recording")
        };
        let fields = vec![disruption];
        vec![
            self.topic("{device}/event/connection", Decode::Status(status("true", "false", Some("/connected"))), true),
            self.topic("{device}/event/#", Decode::Json { fields, each: None }, false),
        ]
    }
}

fn field(key: &str, metric: &str) -> Field {
    Field { key: key.to_owned(), metric: metric.to_owned(), ..Field::default() }
}

fn status(online: &str, offline: &str, pointer: Option<&str>) -> Status {
    Status { pointer: pointer.map(str::to_owned), ..Status::words(online, offline) }
}
