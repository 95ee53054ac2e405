//! Section `incidents`: how alerts are grouped.

use super::decode::{self, Context, DAY, HOUR, MINUTE, SECOND, Section};
use super::node::Node;
use crate::matcher::Matcher;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Incidents {
    /// Labels that make one incident. Default `agency`, `area`.
    pub group_by: Vec<String>,
    /// From the first alert to the first mail. Default 30 s.
    pub group_wait: Duration,
    /// Between mails about changes of one incident. Default 5 m.
    pub group_interval: Duration,
    /// How long an incident that ended waits for its alerts to come back, which then join it. Default `group_interval`.
    pub reopen_within: Duration,
    /// Whether the end of what comes and goes is told only once it has been quiet for a while. Default yes.
    pub flapping: bool,
    /// An alert from outside that is not posted again for so long, and carries no end, is resolved. Default 5 m.
    pub resolve_timeout: Duration,
    pub inhibit: Vec<Inhibit>,
}

/// While an alert that matches `source` fires, nobody is told of those that match `target` and have the same values of
/// `equal` (a label that both lack is the same).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inhibit {
    pub source: Vec<Matcher>,
    pub target: Vec<Matcher>,
    pub equal: Vec<String>,
}

impl Default for Incidents {
    fn default() -> Incidents {
        Incidents {
            group_by: vec!["agency".to_owned(), "area".to_owned()],
            group_wait: 30 * SECOND,
            group_interval: 5 * MINUTE,
            reopen_within: 5 * MINUTE,
            flapping: true,
            resolve_timeout: 5 * MINUTE,
            inhibit: Vec::new(),
        }
    }
}

impl Incidents {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Incidents> {
        const KEYS: &[&str] =
            &["group_by", "group_wait", "group_interval", "reopen_within", "flapping", "resolve_timeout", "inhibit"];
        let section = Section::open(cx, node, "incidents", KEYS, &[])?;
        let default = Incidents::default();
        let group_by = section.optional(cx, "group_by", group_by).unwrap_or(default.group_by);
        let zero = Duration::ZERO;
        let group_wait = section.optional(cx, "group_wait", decode::duration(zero..=HOUR));
        let group_interval = section.optional(cx, "group_interval", decode::duration(SECOND..=DAY));
        let reopen_within = section.optional(cx, "reopen_within", decode::duration(SECOND..=7 * DAY));
        let flapping = section.optional(cx, "flapping", decode::boolean).unwrap_or(default.flapping);
        let resolve_timeout = section.optional(cx, "resolve_timeout", decode::duration(10 * SECOND..=DAY));
        let inhibit = section.optional(cx, "inhibit", decode::list(inhibit)).unwrap_or_default();
        Some(Incidents {
            inhibit,
            flapping,
            group_by,
            group_wait: group_wait.unwrap_or(default.group_wait),
            group_interval: group_interval.unwrap_or(default.group_interval),
            reopen_within: reopen_within.or(group_interval).unwrap_or(default.reopen_within),
            resolve_timeout: resolve_timeout.unwrap_or(default.resolve_timeout),
        })
    }
}

fn inhibit(cx: &mut Context<'_>, node: &Node) -> Option<Inhibit> {
    let section = Section::open(cx, node, "inhibit rule", &["source", "target", "equal"], &[])?;
    let source = section.required(cx, "source", matchers);
    let target = section.required(cx, "target", matchers);
    let equal = section.optional(cx, "equal", decode::list(label)).unwrap_or_default();
    Some(Inhibit { source: source?, target: target?, equal })
}

fn matchers(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Matcher>> {
    let matchers = decode::list(matcher)(cx, node)?;
    if matchers.is_empty() && node.as_sequence().is_some_and(<[Node]>::is_empty) {
        cx.wrong(node, "without a matcher every alert would match");
    }
    Some(matchers)
}

/// One matcher, as Alertmanager writes it.
pub(super) fn matcher(cx: &mut Context<'_>, node: &Node) -> Option<Matcher> {
    let read = node.as_text().map(Matcher::parse);
    match read {
        Some(Ok(matcher)) => Some(matcher),
        Some(Err(error)) => {
            cx.wrong(node, error.to_string());
            None
        }
        None => {
            cx.expected(node, "a matcher such as severity=\"critical\"");
            None
        }
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
