//! Section `mqtt`: brokers, topics and how their payloads are decoded.

mod field;
mod preset;
mod topic;

use super::decode::{self, Context, Section};
use super::devices::DeviceKind;
use super::node::Node;
use super::{Id, Secret};
use std::path::PathBuf;

#[derive(Debug, Clone)]
pub struct Broker {
    pub id: Id,
    pub host: String,
    pub port: u16,
    /// `mqtts://`.
    pub tls: bool,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub version: Version,
    /// Stable, so that the broker keeps the session. Default `ioc-watch-` and the broker's id.
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Name of the group whose members share the messages among them (`$share/NAME/…`); version 5 only. Topics whose
    /// retained messages count are not shared: a broker sends no retained messages to a group.
    pub share: Option<String>,
    pub topics: Vec<Topic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    V3,
    #[default]
    V5,
}

#[derive(Debug, Clone)]
pub struct Topic {
    pub pattern: Vec<Segment>,
    /// 0, 1 or 2; default 1.
    pub qos: u8,
    pub decode: Decode,
    /// Whether a retained message counts as state; never as telemetry, never as last seen.
    pub retained_status: bool,
    /// Whose devices speak here, where the topic's name does not say it. A device of another agency is refused.
    pub agency: Option<Id>,
    /// What devices speak here, where the topic's name does not say it.
    pub kind: Option<DeviceKind>,
    /// What stands before the name by which a device speaks to make its id of it; empty: nothing.
    pub device_prefix: String,
    /// Topics of one source (a recorder, a bridge) have one number: what it says of itself holds for all devices that
    /// were heard over them. Numbered within the broker.
    pub source: Option<u16>,
    /// JSON key, or pointer, of the time at which the device says that it speaks.
    pub time: Option<String>,
}

impl Topic {
    /// A topic of QoS 1 that says by itself who speaks.
    pub fn new(pattern: Vec<Segment>, decode: Decode) -> Topic {
        Topic {
            pattern,
            qos: 1,
            decode,
            retained_status: false,
            agency: None,
            kind: None,
            device_prefix: String::new(),
            source: None,
            time: None,
        }
    }

    /// The MQTT filter: captures become `+`.
    pub fn filter(&self) -> String {
        self.filter_of("+")
    }

    /// The MQTT filter of one agency's messages; of all if the pattern does not tell agencies apart.
    pub fn filter_of<'a>(&'a self, agency: &'a str) -> String {
        let segments: Vec<&str> = self
            .pattern
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text,
                Segment::Agency => agency,
                Segment::Kind | Segment::Device | Segment::Any => "+",
                Segment::Rest => "#",
            })
            .collect();
        segments.join("/")
    }
}

/// One level of a topic pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Literal(String),
    /// `{agency}`
    Agency,
    /// `{kind}`
    Kind,
    /// `{device}`
    Device,
    /// `+`
    Any,
    /// `#`, last only
    Rest,
}

/// How a payload is read.
#[derive(Debug, Clone)]
pub enum Decode {
    /// A JSON object; each field feeds a metric of the catalogue.
    Json { fields: Vec<Field>, each: Option<Each> },
    /// A bare value, or several as collectd writes them (`N:21.5`, `1764061200.5:120:340`). A field's key is the place of
    /// its value, from 1.
    Value { fields: Vec<Field> },
    /// One of a few words.
    Status(Status),
    /// Eclipse Sparkplug 3.0: a field's key is a metric's name. `rebirth`: nodes may be asked for their births.
    Sparkplug { fields: Vec<Field>, rebirth: bool },
}

/// A JSON payload that speaks of several devices.
#[derive(Debug, Clone)]
pub struct Each {
    /// JSON pointer of an object whose keys are devices, or of an array.
    pub at: String,
    /// In an array: the JSON pointer within an element to the device's name.
    pub id: Option<String>,
}

/// Words about being there.
#[derive(Debug, Clone)]
pub struct Status {
    pub online: Vec<String>,
    pub offline: Vec<String>,
    /// They say nothing about being there.
    pub ignored: Vec<String>,
    /// JSON pointer of the word in a payload that is a JSON object; another payload is the word itself.
    pub pointer: Option<String>,
}

/// What feeds a metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Field {
    /// A key, or a JSON pointer when it starts with `/`; for values, a place.
    pub key: String,
    /// Without the `ioc_` prefix: `camera_frames_per_second`, `device_up` or `device_usable`.
    pub metric: String,
    pub scale: Scale,
    /// What texts stand for; compared as they are.
    pub words: Vec<(String, f64)>,
}

impl Status {
    /// One word each, as the payload.
    pub fn words(online: &str, offline: &str) -> Status {
        let words = |word: &str| vec![word.to_owned()];
        Status { online: words(online), offline: words(offline), ignored: Vec::new(), pointer: None }
    }
}

impl Field {
    /// A number, times `multiply`.
    pub fn new(key: &str, metric: &str, multiply: f64) -> Field {
        let scale = Scale::Linear { multiply, add: 0.0 };
        Field { key: key.to_owned(), metric: metric.to_owned(), scale, words: Vec::new() }
    }
}

/// From the device's number to the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// `number * multiply + add`.
    Linear { multiply: f64, add: f64 },
    /// 1 if the number is above this, else 0.
    Above(f64),
    /// The number of elements of an array or object.
    Count,
}

impl Default for Scale {
    fn default() -> Scale {
        Scale::Linear { multiply: 1.0, add: 0.0 }
    }
}

impl Broker {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Broker> {
        const KEYS: &[&str] =
            &["id", "url", "version", "client_id", "username", "password_file", "ca_file", "share", "topics"];
        let section = Section::open(cx, node, "mqtt", KEYS, &[])?;
        let id = section.required(cx, "id", decode::id);
        let url = section.required(cx, "url", broker_url);
        let versions = [("5", Version::V5), ("3.1.1", Version::V3)];
        let version = section.optional(cx, "version", decode::choice(&versions)).unwrap_or_default();
        let client_id = section.optional(cx, "client_id", decode::name);
        let username = section.optional(cx, "username", decode::name);
        let password = section.optional(cx, "password_file", decode::secret_file);
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let share = section.optional(cx, "share", preset::level);
        let topics = section.required(cx, "topics", topic::topics);
        if section.get("topics").is_some_and(|node| node.as_sequence().unwrap_or_default().is_empty()) {
            cx.error(section.place, "mqtt: \"topics\" is empty, so nothing would be heard");
        }
        if section.get("password_file").is_some() && section.get("username").is_none() {
            cx.error(section.place, "mqtt: \"password_file\" needs \"username\"");
        }
        if let (Some(url), Some(node)) = (&url, section.get("ca_file"))
            && !url.tls
        {
            cx.error(node.place, "ca_file: only an mqtts:// broker shows a certificate");
        }
        if let Some(node) = section.get("share") {
            let has_sparkplug =
                |topics: &Vec<Topic>| topics.iter().any(|t| matches!(t.decode, Decode::Sparkplug { .. }));
            if version == Version::V3 {
                cx.error(node.place, "share: MQTT 3.1.1 has no shared subscriptions");
            }
            if topics.as_ref().is_some_and(has_sparkplug) {
                cx.error(node.place, "share: does not go with preset sparkplug_b, whose messages count each other");
            }
        }
        let (id, url) = (id?, url?);
        let client_id = client_id.unwrap_or_else(|| format!("ioc-watch-{id}"));
        let BrokerUrl { host, port, tls } = url;
        Some(Broker { id, host, port, tls, ca_file, version, client_id, username, password, share, topics: topics? })
    }
}

struct BrokerUrl {
    host: String,
    port: u16,
    tls: bool,
}

fn broker_url(cx: &mut Context<'_>, node: &Node) -> Option<BrokerUrl> {
    let wanted = "a URL such as mqtts://broker.vn.example:8883 (mqtt:// or mqtts://)";
    let url = node.as_text().and_then(|text| url::Url::parse(text).ok());
    let Some(url) = url.filter(|url| matches!(url.scheme(), "mqtt" | "mqtts")) else {
        cx.expected(node, wanted);
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        cx.wrong(node, "user and password do not stand in the URL: use \"username\" and \"password_file\"");
        return None;
    }
    let (Some(host), true) = (decode::host(&url), matches!(url.path(), "" | "/")) else {
        cx.expected(node, wanted);
        return None;
    };
    let tls = url.scheme() == "mqtts";
    Some(BrokerUrl { host, port: url.port().unwrap_or(if tls { 8883 } else { 1883 }), tls })
}
