//! Presets: what known senders publish, as topics. Where a convention comes from stands beside each.

use super::super::decode::{self, Context, Section};
use super::super::devices::DeviceKind;
use super::super::node::{Node, quote};
use super::field;
use super::topic::{self, Common};
use super::{Decode, Each, Field, Scale, Segment, Status, Topic};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preset {
    Frigate,
    Openwrt,
    Zigbee2mqtt,
    Axis,
    SparkplugB,
}

const PRESETS: &[(&str, Preset)] = &[
    ("frigate", Preset::Frigate),
    ("openwrt", Preset::Openwrt),
    ("zigbee2mqtt", Preset::Zigbee2mqtt),
    ("axis", Preset::Axis),
    ("sparkplug_b", Preset::SparkplugB),
];

/// The topics of a preset, as source `number` of its broker.
pub(super) fn topics(cx: &mut Context<'_>, section: &Section<'_>, number: u16) -> Option<Vec<Topic>> {
    let foreign =
        ["filter", "decode", "each", "each_id", "metric", "online", "offline", "ignored", "field", "retained", "time"];
    topic::refuse(cx, section, &foreign, "\"preset\"");
    let common = topic::common(cx, section);
    let prefix = section.optional(cx, "prefix", prefix);
    let radio = section.optional(cx, "radio", level);
    let ping = section.optional(cx, "ping", level);
    let preset = section.required(cx, "preset", decode::choice(PRESETS))?;
    if preset == Preset::SparkplugB {
        topic::refuse(cx, section, &["prefix", "radio", "ping"], "this preset");
        return sparkplug_b(cx, section, common, number).map(|topic| vec![topic]);
    }
    topic::refuse(cx, section, &["fields", "group", "node", "rebirth"], "this preset");
    if preset != Preset::Openwrt {
        topic::refuse(cx, section, &["radio", "ping"], "this preset");
    }
    let (default_prefix, kind) = match preset {
        Preset::Frigate => ("frigate", DeviceKind::Camera),
        Preset::Openwrt => ("collectd", DeviceKind::Hotspot),
        Preset::Zigbee2mqtt => ("zigbee2mqtt", DeviceKind::Hotspot),
        Preset::Axis => ("axis", DeviceKind::Camera),
        Preset::SparkplugB => return None,
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
        Preset::SparkplugB => return None,
    })
}

fn is_plain(level: &str) -> bool {
    !level.is_empty() && !level.contains(['+', '#', '{', '}', '/'])
}

/// Eclipse Sparkplug 3.0: `spBv1.0/GROUP/TYPE/NODE[/DEVICE]`. What a metric's name means is the site's own.
fn sparkplug_b(cx: &mut Context<'_>, section: &Section<'_>, common: Common, number: u16) -> Option<Topic> {
    let mut one_level = |key: &str| section.optional(cx, key, level).map_or(Segment::Any, Segment::Literal);
    let group = match section.get("group").and_then(Node::as_text) {
        Some("{agency}") => Segment::Agency,
        _ => one_level("group"),
    };
    let node = one_level("node");
    let fields = section.required(cx, "fields", field::named);
    let rebirth = section.optional(cx, "rebirth", decode::boolean).unwrap_or(false);
    if common.agency.is_some() && group == Segment::Agency {
        cx.error(section.place, "topic: \"agency\" and the level {agency} of \"group\" say the same thing twice");
    }
    Some(Topic {
        pattern: vec![Segment::Literal("spBv1.0".into()), group, Segment::Any, node, Segment::Rest],
        qos: common.qos,
        decode: Decode::Sparkplug { fields: fields?, rebirth },
        retained_status: false,
        agency: common.agency,
        kind: common.kind,
        device_prefix: common.device_prefix,
        source: Some(number),
        time: None,
    })
}

/// A part of a topic's level.
pub(super) fn level(cx: &mut Context<'_>, node: &Node) -> Option<String> {
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
            time: None,
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
        let fps = |metric: &str, scale| Field { scale, ..feeds("camera_fps", metric) };
        let stats = vec![fps("device_up", Scale::Above(0.0)), fps("camera_frames_per_second", Scale::default())];
        let each = Some(Each { at: "/cameras".into(), id: None });
        let recording = Field {
            words: vec![("online".into(), 1.0), ("offline".into(), 0.0), ("disabled".into(), 0.0)],
            ..feeds("1", "camera_recording")
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
        let one = |metric: &str| value(vec![feeds("1", metric)]);
        let latency = Field {
            scale: Scale::Linear { multiply: 0.001, add: 0.0 },
            ..feeds("1", "hotspot_uplink_latency_seconds")
        };
        // The bridge receives what clients send.
        let octets = vec![feeds("1", "hotspot_receive_bytes_total"), feeds("2", "hotspot_transmit_bytes_total")];
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
                Decode::Json { fields: vec![feeds("temperature", &temperature)], each: None },
                false,
            ),
        ]
    }

    /// Axis's documentation of its MQTT client and event bridge: the client's birth and last will under
    /// `event/connection`, events with their data as texts. The device is its serial number.
    fn axis(&self) -> Vec<Topic> {
        let disruption = Field {
            words: vec![("0".into(), 1.0), ("1".into(), 0.0)],
            ..feeds("/message/data/disruption", "camera_recording")
        };
        let fields = vec![disruption];
        vec![
            self.topic("{device}/event/connection", Decode::Status(status("true", "false", Some("/connected"))), true),
            self.topic("{device}/event/#", Decode::Json { fields, each: None }, false),
        ]
    }
}

fn feeds(key: &str, metric: &str) -> Field {
    Field { key: key.to_owned(), metric: metric.to_owned(), ..Field::default() }
}

fn status(online: &str, offline: &str, pointer: Option<&str>) -> Status {
    Status { pointer: pointer.map(str::to_owned), ..Status::words(online, offline) }
}
