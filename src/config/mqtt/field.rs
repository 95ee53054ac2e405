//! What of a payload feeds which metric, and in which unit.

use super::super::decode::{self, Context, Section};
use super::super::node::{Node, quote};
use super::{Field, Scale};
use crate::metrics::{Metrics, columns};

/// `fields`: JSON keys or pointers, each with its metric.
pub(super) fn fields(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Field>> {
    by_keys(cx, node, true)
}

/// `fields` of names that are no JSON keys, each with its metric.
pub(super) fn named(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Field>> {
    by_keys(cx, node, false)
}

fn by_keys(cx: &mut Context<'_>, node: &Node, is_json: bool) -> Option<Vec<Field>> {
    let Some(entries) = node.as_mapping().filter(|entries| !entries.is_empty()) else {
        cx.expected(
            node,
            if is_json {
                "a mapping of JSON keys to metrics, such as {fps: camera_frames_per_second}"
            } else {
                "a mapping of names to metrics, such as {\"Camera/FPS\": camera_frames_per_second}"
            },
        );
        return None;
    };
    let allowed = device_metrics();
    let mut fields = Vec::new();
    for entry in entries {
        // One key may feed several metrics.
        let nodes = entry.value.as_sequence().unwrap_or(std::slice::from_ref(&entry.value));
        fields.extend(nodes.iter().filter_map(|node| field(cx, node, &entry.key, &allowed, is_json)));
    }
    Some(fields)
}

/// `metric` of `decode: value`: one metric, or a list of them for the values of a payload in their order.
pub(super) fn values(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Field>> {
    let allowed = device_metrics();
    let nodes = node.as_sequence().unwrap_or(std::slice::from_ref(node));
    if nodes.is_empty() {
        cx.expected(node, "a device metric, or a list of them");
        return None;
    }
    let numbered = nodes.iter().enumerate();
    Some(numbered.filter_map(|(n, node)| field(cx, node, &(n + 1).to_string(), &allowed, false)).collect())
}

fn field(cx: &mut Context<'_>, node: &Node, key: &str, allowed: &[&str], is_json: bool) -> Option<Field> {
    if node.as_mapping().is_none() {
        let metric = metric(cx, node, allowed)?;
        return Some(Field { key: key.to_owned(), metric, ..Field::default() });
    }
    let keys = ["metric", "multiply", "add", "above", "count", "words"];
    let section = Section::open(cx, node, "field", &keys, &[])?;
    let metric = section.required(cx, "metric", |cx, node| metric(cx, node, allowed));
    let any = || decode::number(f64::MIN..=f64::MAX);
    let multiply = section.optional(cx, "multiply", any());
    let add = section.optional(cx, "add", any());
    let above = section.optional(cx, "above", any());
    let count = section.optional(cx, "count", decode::boolean).unwrap_or(false);
    let words = section.optional(cx, "words", words).unwrap_or_default();
    let is_linear = multiply.is_some() || add.is_some();
    let scale = match above {
        _ if usize::from(is_linear) + usize::from(above.is_some()) + usize::from(count) > 1 => {
            cx.error(
                section.place,
                "field: of \"multiply\" (with \"add\"), \"above\" and \"count\" only one can be given",
            );
            return None;
        }
        Some(limit) => Scale::Above(limit),
        None if count && !is_json => {
            cx.error(section.place, "field: \"count\" counts elements of JSON only");
            return None;
        }
        None if count => Scale::Count,
        None => Scale::Linear { multiply: multiply.unwrap_or(1.0), add: add.unwrap_or(0.0) },
    };
    Some(Field { key: key.to_owned(), metric: metric?, scale, words })
}

fn words(cx: &mut Context<'_>, node: &Node) -> Option<Vec<(String, f64)>> {
    let Some(entries) = node.as_mapping().filter(|entries| !entries.is_empty()) else {
        cx.expected(node, "a mapping of texts to numbers, such as {\"ON\": 1, \"OFF\": 0}");
        return None;
    };
    let read = |entry: &super::super::node::Entry, cx: &mut Context<'_>| {
        decode::number(f64::MIN..=f64::MAX)(cx, &entry.value).map(|number| (entry.key.clone(), number))
    };
    Some(entries.iter().filter_map(|entry| read(entry, cx)).collect())
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
