//! Section `incidents`: how alerts are grouped.

use super::decode::{self, Context, DAY, HOUR, MINUTE, SECOND, Section};
use super::node::Node;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Incidents {
    /// Labels that make one incident. Default `agency`, `area`.
    pub group_by: Vec<String>,
    /// From the first alert to the first mail. Default 30 s.
    pub group_wait: Duration,
    /// Between mails about changes of one incident. Default 5 m.
    pub group_interval: Duration,
    /// An alert from outside that is not posted again for so long, and carries no end, is resolved. Default 5 m.
    pub resolve_timeout: Duration,
}

impl Default for Incidents {
    fn default() -> Incidents {
        Incidents {
            group_by: vec!["agency".to_owned(), "area".to_owned()],
            group_wait: 30 * SECOND,
            group_interval: 5 * MINUTE,
            resolve_timeout: 5 * MINUTE,
        }
    }
}

impl Incidents {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Incidents> {
        const KEYS: &[&str] = &["group_by", "group_wait", "group_interval", "resolve_timeout"];
        let section = Section::open(cx, node, "incidents", KEYS, &["inhibit"])?;
        let default = Incidents::default();
        let group_by = section.optional(cx, "group_by", group_by).unwrap_or(default.group_by);
        let zero = Duration::ZERO;
        let group_wait = section.optional(cx, "group_wait", decode::duration(zero..=HOUR));
        let group_interval = section.optional(cx, "group_interval", decode::duration(SECOND..=DAY));
        let resolve_timeout = section.optional(cx, "resolve_timeout", decode::duration(10 * SECOND..=DAY));
        Some(Incidents {
            group_by,
            group_wait: group_wait.unwrap_or(default.group_wait),
            group_interval: group_interval.unwrap_or(default.group_interval),
            resolve_timeout: resolve_timeout.unwrap_or(default.resolve_timeout),
        })
    }
}

fn group_by(cx: &mut Context<'_>, node: &Node) -> Option<Vec<String>> {
    let labels = decode::list(label)(cx, node)?;
    let places: Vec<_> =
        node.as_sequence().unwrap_or_default().iter().filter_map(|n| Some((n.as_text()?, n.place))).collect();
    decode::unique(cx, "label", &places);
    for needed in ["agency", "area"] {
        // The responsible person is found by agency and area: one incident has one of each.
        if !labels.iter().any(|label| label == needed) {
            cx.wrong(node, format!("the label \"{needed}\" is missing: an incident belongs to one agency and area"));
        }
    }
    Some(labels)
}

fn label(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let sound = |text: &&str| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !text.starts_with(|c: char| c.is_ascii_digit())
    };
    let label = node.as_text().filter(|text| !text.is_empty()).filter(sound);
    if label.is_none() {
        cx.expected(node, "a label name (letters, digits and _)");
    }
    label.map(str::to_owned)
}
