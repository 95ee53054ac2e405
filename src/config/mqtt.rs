//! Section `mqtt`: brokers, topics and how their payloads are decoded.

use super::decode::{self, Context, Section};
use super::node::{Node, quote};
use super::{Id, Secret};
use crate::metrics::{Metrics, columns};
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
}

impl Topic {
    /// The MQTT filter: captures become `+`.
    pub fn filter(&self) -> String {
        let segments: Vec<&str> = self
            .pattern
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text,
                Segment::Agency | Segment::Kind | Segment::Device | Segment::Any => "+",
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

#[derive(Debug, Clone)]
pub enum Decode {
    /// A JSON object; each field feeds a metric of the catalogue.
    Json { fields: Vec<Field> },
    /// The payload is one of two words.
    Status { online: String, offline: String },
}

/// A JSON field and the metric it feeds.
#[derive(Debug, Clone)]
pub struct Field {
    /// A key, or a JSON pointer when it starts with `/`.
    pub key: String,
    /// Without the `ioc_` prefix: `camera_frames_per_second`, or `device_up`.
    pub metric: String,
    /// Default 1.
    pub multiply: f64,
}

impl Broker {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Broker> {
        const KEYS: &[&str] = &["id", "url", "version", "client_id", "username", "password_file", "ca_file", "topics"];
        let section = Section::open(cx, node, "mqtt", KEYS, &[])?;
        let id = section.required(cx, "id", decode::id);
        let url = section.required(cx, "url", broker_url);
        let versions = [("5", Version::V5), ("3.1.1", Version::V3)];
        let version = section.optional(cx, "version", decode::choice(&versions)).unwrap_or_default();
        let client_id = section.optional(cx, "client_id", decode::name);
        let username = section.optional(cx, "username", decode::name);
        let password = section.optional(cx, "password_file", decode::secret_file);
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let topics = section.required(cx, "topics", decode::list(Topic::decode));
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
        let (id, url) = (id?, url?);
        let client_id = client_id.unwrap_or_else(|| format!("ioc-watch-{id}"));
        let BrokerUrl { host, port, tls } = url;
        Some(Broker { id, host, port, tls, ca_file, version, client_id, username, password, topics: topics? })
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

impl Topic {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Topic> {
        const KEYS: &[&str] = &["filter", "qos", "decode", "fields", "online", "offline", "retained"];
        let section = Section::open(cx, node, "topic", KEYS, &["preset", "agency", "kind"])?;
        if section.get("preset").is_some() {
            return None;
        }
        let pattern = section.required(cx, "filter", pattern);
        let qos = section.optional(cx, "qos", decode::integer(0..=2)).unwrap_or(1);
        let is_json = section.required(cx, "decode", decode::choice(&[("json", true), ("status", false)]))?;
        let retained_status = section.optional(cx, "retained", decode::choice(&[("status", true), ("ignore", false)]));
        let foreign: &[&str] = if is_json { &["online", "offline", "retained"] } else { &["fields"] };
        for key in foreign {
            if let Some(node) = section.get(key) {
                let word = if is_json { "json" } else { "status" };
                cx.error(node.place, format!("topic: \"{key}\" does not go with decode: {word}"));
            }
        }
        let decode = if is_json {
            Decode::Json { fields: section.required(cx, "fields", fields)? }
        } else {
            let online = section.optional(cx, "online", decode::text).unwrap_or_else(|| "online".to_owned());
            let offline = section.optional(cx, "offline", decode::text).unwrap_or_else(|| "offline".to_owned());
            if online == offline {
                cx.error(section.place, format!("topic: online and offline are both {}", quote(&online)));
            }
            Decode::Status { online, offline }
        };
        Some(Topic {
            pattern: pattern?,
            qos: u8::try_from(qos).unwrap_or(1),
            decode,
            retained_status: retained_status.unwrap_or(false),
        })
    }
}

fn pattern(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Segment>> {
    const LONGEST: usize = 512;
    let text = decode::text(cx, node)?;
    if text.len() > LONGEST {
        cx.wrong(node, format!("longer than {LONGEST} bytes"));
        return None;
    }
    let mut segments = Vec::new();
    let mut sound = true;
    for level in text.split('/') {
        let segment = match level {
            "{agency}" => Segment::Agency,
            "{kind}" => Segment::Kind,
            "{device}" => Segment::Device,
            "+" => Segment::Any,
            "#" => Segment::Rest,
            other if other.contains(['{', '}', '+', '#']) || other.contains(char::is_control) => {
                let near = decode::nearest(other, &["{agency}", "{kind}", "{device}"]);
                let allowed = "plain text, {agency}, {kind}, {device}, + or (last) # as a whole level";
                cx.wrong(node, format!("found the level {}, expected {allowed}{near}", quote(other)));
                sound = false;
                continue;
            }
            other => Segment::Literal(other.to_owned()),
        };
        segments.push(segment);
    }
    let captures = [(Segment::Agency, "{agency}"), (Segment::Kind, "{kind}"), (Segment::Device, "{device}")];
    for (capture, word) in captures {
        if segments.iter().filter(|segment| **segment == capture).count() > 1 {
            cx.wrong(node, format!("{word} occurs more than once"));
            sound = false;
        }
    }
    if sound && !segments.contains(&Segment::Device) {
        cx.wrong(node, format!("found {}, expected a level {{device}}: it says which device speaks", node.found()));
        sound = false;
    }
    if segments.iter().rev().skip(1).any(|segment| *segment == Segment::Rest) {
        cx.wrong(node, "# stands for the rest of the topic, so it must come last");
        sound = false;
    }
    sound.then_some(segments)
}

fn fields(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Field>> {
    let Some(entries) = node.as_mapping().filter(|entries| !entries.is_empty()) else {
        cx.expected(node, "a mapping of JSON keys to metrics, such as {fps: camera_frames_per_second}");
        return None;
    };
    let allowed = device_metrics();
    let mut fields = Vec::new();
    for entry in entries {
        let field = if entry.value.as_mapping().is_some() {
            let Some(section) = Section::open(cx, &entry.value, "field", &["metric", "multiply"], &[]) else {
                continue;
            };
            let metric = section.required(cx, "metric", |cx, node| metric(cx, node, &allowed));
            let multiply = section.optional(cx, "multiply", decode::number(f64::MIN..=f64::MAX)).unwrap_or(1.0);
            metric.map(|metric| (metric, multiply))
        } else {
            metric(cx, &entry.value, &allowed).map(|metric| (metric, 1.0))
        };
        if let Some((metric, multiply)) = field {
            fields.push(Field { key: entry.key.clone(), metric, multiply });
        }
    }
    Some(fields)
}

fn metric(cx: &mut Context<'_>, node: &Node, allowed: &[&str]) -> Option<String> {
    let text = decode::text(cx, node)?;
    let name = text.strip_prefix("ioc_").unwrap_or(&text);
    if allowed.contains(&name) {
        return Some(name.to_owned());
    }
    let near = decode::nearest(name, allowed);
    cx.wrong(node, format!("no device metric is called {}{near} (allowed: {})", quote(&text), allowed.join(", ")));
    None
}

/// What a device's message may feed: the catalogue's names without the `ioc_` prefix.
fn device_metrics() -> Vec<&'static str> {
    let metrics = Metrics::new();
    let tables = [columns::camera::TABLE, columns::hotspot::TABLE];
    let families = tables.into_iter().flat_map(|table| metrics.table(table).families());
    let mut names: Vec<&str> = families.map(|family| family.name.strip_prefix("ioc_").unwrap_or(family.name)).collect();
    names.extend(["device_up", "device_usable"]);
    names.sort_unstable();
    names
}
