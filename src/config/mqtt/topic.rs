//! A topic of a broker: which messages it takes and how it reads them.

use super::super::decode::{self, Context, Section};
use super::super::devices::DeviceKind;
use super::super::node::{Node, quote};
use super::{Decode, Each, Segment, Status, Topic, field, preset};

const KEYS: &[&str] = &[
    "filter",
    "qos",
    "decode",
    "fields",
    "each",
    "each_id",
    "metric",
    "online",
    "offline",
    "ignored",
    "field",
    "retained",
    "agency",
    "kind",
    "device_prefix",
    "preset",
    "prefix",
    "radio",
    "ping",
    "group",
    "node",
    "rebirth",
    "time",
];
/// Bytes of a filter; a topic name may have 65,535.
const LONGEST: usize = 512;

/// What a topic of `topics` is read by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Json,
    Value,
    Status,
}

/// The list `topics`; a preset stands for several.
pub(super) fn topics(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Topic>> {
    let mut n_presets = 0;
    let lists = decode::list(|cx: &mut Context<'_>, node: &Node| {
        let section = Section::open(cx, node, "topic", KEYS, &[])?;
        if section.get("preset").is_some() {
            n_presets += 1;
            preset::topics(cx, &section, n_presets)
        } else {
            topic(cx, &section).map(|topic| vec![topic])
        }
    })(cx, node)?;
    Some(lists.into_iter().flatten().collect())
}

/// The keys that topics and presets share.
pub(super) struct Common {
    pub qos: u8,
    pub agency: Option<super::Id>,
    pub kind: Option<DeviceKind>,
    pub device_prefix: String,
}

pub(super) fn common(cx: &mut Context<'_>, section: &Section<'_>) -> Common {
    let kinds = DeviceKind::ALL.map(|kind| (kind.as_str(), kind));
    let qos = section.optional(cx, "qos", decode::integer(0..=2)).unwrap_or(1);
    Common {
        qos: u8::try_from(qos).unwrap_or(1),
        agency: section.optional(cx, "agency", decode::agency),
        kind: section.optional(cx, "kind", decode::choice(&kinds)),
        device_prefix: section.optional(cx, "device_prefix", device_prefix).unwrap_or_default(),
    }
}

/// Refuses the keys of a section that mean nothing in it.
pub(super) fn refuse(cx: &mut Context<'_>, section: &Section<'_>, keys: &[&str], beside: &str) {
    for key in keys {
        if let Some(node) = section.get(key) {
            cx.error(node.place, format!("topic: \"{key}\" does not go with {beside}"));
        }
    }
}

fn topic(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Topic> {
    let pattern = section.required(cx, "filter", pattern);
    let common = common(cx, section);
    let readers = [("json", Reader::Json), ("value", Reader::Value), ("status", Reader::Status)];
    let reader = section.required(cx, "decode", decode::choice(&readers))?;
    let retained = section.optional(cx, "retained", decode::choice(&[("status", true), ("ignore", false)]));
    let (foreign, word): (&[&str], _) = match reader {
        Reader::Json => (&["online", "offline", "ignored", "field", "retained", "metric"], "decode: json"),
        Reader::Value => (
            &["online", "offline", "ignored", "field", "retained", "fields", "each", "each_id", "time"],
            "decode: value",
        ),
        Reader::Status => (&["fields", "each", "each_id", "metric", "time"], "decode: status"),
    };
    refuse(cx, section, foreign, word);
    refuse(cx, section, &["prefix", "radio", "ping", "group", "node", "rebirth"], "\"filter\", only with \"preset\"");
    let decode = match reader {
        Reader::Json => {
            let fields = section.required(cx, "fields", field::fields);
            let each = each(cx, section);
            Decode::Json { fields: fields?, each: each? }
        }
        Reader::Value => Decode::Value { fields: section.required(cx, "metric", field::values)? },
        Reader::Status => Decode::Status(status(cx, section)),
    };
    let time = section.optional(cx, "time", decode::name);
    let pattern = pattern?;
    let names_devices = pattern.contains(&Segment::Device);
    let has_each = matches!(&decode, Decode::Json { each: Some(_), .. });
    if names_devices == has_each {
        let message = if has_each {
            "topic: with \"each\" the payload names the devices, so {device} has no place in \"filter\""
        } else {
            "topic: \"filter\" has no level {device}: it says which device speaks"
        };
        cx.error(section.get("filter").map_or(section.place, |node| node.place), message);
        return None;
    }
    if common.agency.is_some() && pattern.contains(&Segment::Agency) {
        cx.error(section.place, "topic: \"agency\" and the level {agency} of \"filter\" say the same thing twice");
    }
    if common.kind.is_some() && pattern.contains(&Segment::Kind) {
        cx.error(section.place, "topic: \"kind\" and the level {kind} of \"filter\" say the same thing twice");
    }
    Some(Topic {
        pattern,
        qos: common.qos,
        decode,
        retained_status: retained.unwrap_or(false),
        agency: common.agency,
        kind: common.kind,
        device_prefix: common.device_prefix,
        source: None,
        time,
    })
}

/// `None` if something is wrong with it.
fn each(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Option<Each>> {
    let at = section.optional(cx, "each", pointer);
    let id = section.optional(cx, "each_id", pointer);
    match (section.get("each"), section.get("each_id")) {
        (None, None) => Some(None),
        (None, Some(node)) => {
            cx.error(node.place, "topic: \"each_id\" needs \"each\"");
            None
        }
        (Some(_), _) => Some(Some(Each { at: at?, id })),
    }
}

fn status(cx: &mut Context<'_>, section: &Section<'_>) -> Status {
    let words = |cx: &mut Context<'_>, key: &str| section.optional(cx, key, words);
    let online = words(cx, "online").unwrap_or_else(|| vec!["online".to_owned()]);
    let offline = words(cx, "offline").unwrap_or_else(|| vec!["offline".to_owned()]);
    let ignored = words(cx, "ignored").unwrap_or_default();
    let pointer = section.optional(cx, "field", pointer);
    for word in online.iter().filter(|word| offline.contains(word)) {
        cx.error(section.place, format!("topic: online and offline are both {}", quote(word)));
    }
    for word in ignored.iter().filter(|word| online.contains(word) || offline.contains(word)) {
        cx.error(section.place, format!("topic: {} is ignored and means something, too", quote(word)));
    }
    Status { online, offline, ignored, pointer }
}

/// One word, or a list of them.
fn words(cx: &mut Context<'_>, node: &Node) -> Option<Vec<String>> {
    match node.as_sequence() {
        Some(_) => decode::list(decode::text)(cx, node),
        None => decode::text(cx, node).map(|word| vec![word]),
    }
}

/// A JSON pointer (RFC 6901).
pub(super) fn pointer(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = decode::text(cx, node)?;
    if text.starts_with('/') {
        return Some(text);
    }
    cx.expected(node, "a JSON pointer such as /cameras");
    None
}

fn device_prefix(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = decode::text(cx, node)?;
    if super::Id::parse(&text).is_some() {
        return Some(text);
    }
    cx.expected(node, &format!("the beginning of an id ({})", super::Id::ALLOWED));
    None
}

fn pattern(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Segment>> {
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
    if segments.iter().rev().skip(1).any(|segment| *segment == Segment::Rest) {
        cx.wrong(node, "# stands for the rest of the topic, so it must come last");
        sound = false;
    }
    sound.then_some(segments)
}
