//! How a feed names its columns and writes its values.

use super::Canonical;
use crate::config::decode::{self, Context, Section};
use crate::config::node::{Node, Place, Value, quote};
use std::collections::BTreeMap;

/// Where a canonical column stands.
#[derive(Debug, Clone)]
pub enum Column {
    /// The header's text; in JSON a key, or a pointer if it begins with `/`.
    Header(String),
    Const(String),
}

/// Turns the feed's number into đồng.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AmountScale {
    #[default]
    Dong,
    Multiply(u32),
    /// For minor units (a gateway that writes amount × 100). What does not divide evenly is rejected.
    Divide(u32),
}

/// `complete`: the required columns must be named.
pub(super) fn columns(
    cx: &mut Context<'_>,
    node: &Node,
    canonical: &Canonical,
    complete: bool,
) -> Option<BTreeMap<String, Column>> {
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping such as {txn_ref: \"Mã GD\"}");
        return None;
    };
    let mut columns = BTreeMap::new();
    for entry in entries {
        if !canonical.columns.contains(&entry.key.as_str()) {
            unknown_column(cx, entry.place, &entry.key, canonical);
            continue;
        }
        let column = if entry.value.as_mapping().is_some() {
            Section::open(cx, &entry.value, "column", &["const"], &[])
                .and_then(|section| section.required(cx, "const", decode::text))
                .map(Column::Const)
        } else {
            decode::name(cx, &entry.value).map(Column::Header)
        };
        if let Some(column) = column {
            columns.insert(entry.key.clone(), column);
        }
    }
    let has = |name: &str| node.get(name).is_some();
    if complete && canonical.columns.contains(&"txn_ref") && !has("txn_ref") && !has("dossier") {
        cx.error(node.place, "columns: neither \"txn_ref\" nor \"dossier\" is given, so no payment could be matched");
    }
    for name in canonical.required {
        if complete && node.get(name).is_none() {
            cx.error(node.place, format!("columns: the column \"{name}\" is missing"));
        }
    }
    Some(columns)
}

fn unknown_column(cx: &mut Context<'_>, place: Place, key: &str, canonical: &Canonical) {
    let near = decode::nearest(key, canonical.columns);
    let allowed = canonical.columns.join(", ");
    cx.error(place, format!("columns: unknown column {}{near} (allowed: {allowed})", quote(key)));
}

pub(super) fn status_map(cx: &mut Context<'_>, node: &Node, canonical: &Canonical) -> Option<BTreeMap<String, String>> {
    if canonical.statuses.is_empty() {
        cx.wrong(node, "this feed has no status; only payment feeds have");
        return None;
    }
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping such as {\"Thành công\": paid}");
        return None;
    };
    let words: Vec<(&str, &str)> = canonical.statuses.iter().map(|word| (*word, *word)).collect();
    let read = decode::choice(&words);
    let pairs = entries.iter().filter_map(|entry| Some((entry.key.clone(), read(cx, &entry.value)?.to_owned())));
    Some(pairs.collect())
}

pub(super) fn time_format(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let format = decode::text(cx, node)?;
    let sample = jiff::civil::date(2026, 1, 31).at(13, 45, 59, 0).to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let sound = sample.is_ok_and(|sample| {
        let Ok(text) = jiff::fmt::strtime::format(&format, &sample) else { return false };
        // A format that cannot read back what it wrote would reject every row.
        jiff::fmt::strtime::parse(&format, &text)
            .is_ok_and(|broken| broken.to_date().is_ok() || broken.timestamp().is_some())
    });
    if !sound {
        cx.expected(node, "a strftime format with year, month and day, such as \"%d/%m/%Y %H:%M:%S\"");
        return None;
    }
    Some(format)
}

pub(super) fn timezone(cx: &mut Context<'_>, node: &Node) -> Option<jiff::tz::TimeZone> {
    let zone = node.as_text().and_then(|name| jiff::tz::TimeZone::get(name).ok());
    if zone.is_none() {
        cx.expected(node, "an IANA time zone such as Asia/Ho_Chi_Minh");
    }
    zone
}

pub(super) fn amount(cx: &mut Context<'_>, node: &Node) -> Option<AmountScale> {
    let section = Section::open(cx, node, "amount", &["multiply", "divide"], &[])?;
    let factor = decode::integer(1..=1_000_000);
    let read = |number: u64| u32::try_from(number).unwrap_or(1);
    let multiply = section.optional(cx, "multiply", &factor).map(read);
    let divide = section.optional(cx, "divide", &factor).map(read);
    match (multiply, divide) {
        (Some(_), Some(_)) => {
            cx.error(section.place, "amount: found both \"multiply\" and \"divide\", expected one of them");
            None
        }
        (Some(factor), None) => Some(AmountScale::Multiply(factor)),
        (None, Some(factor)) => Some(AmountScale::Divide(factor)),
        (None, None) => Some(AmountScale::Dong),
    }
}

/// `{Type: [Settled, Refunded]}`: which rows are taken.
pub(super) fn only(cx: &mut Context<'_>, node: &Node) -> Option<Vec<(String, Vec<String>)>> {
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping such as {Type: [Settled, Refunded]}");
        return None;
    };
    let mut only = Vec::new();
    for entry in entries {
        let words = match &entry.value.value {
            Value::Sequence(nodes) => nodes.iter().filter_map(|node| decode::text(cx, node)).collect(),
            _ => Vec::from_iter(decode::text(cx, &entry.value)),
        };
        if words.is_empty() {
            cx.error(entry.place, format!("only: {} names no word, so no row would be taken", quote(&entry.key)));
        }
        only.push((entry.key.clone(), words));
    }
    Some(only)
}
