//! Section `escalation`: who is told of an incident, in which order and after how long.

use super::Id;
use super::decode::{self, Context, DAY, HOUR, MINUTE, Section};
use super::node::{Node, quote};
use crate::matcher::Matcher;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an acknowledgement holds if nothing else is said.
const ACK_EXPIRES: Duration = Duration::from_secs(8 * 3600);
/// Levels a `parent.parent.…` may climb.
const LEVELS: usize = 8;

/// For the incidents it matches: the first policy that does is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// All must match. Of an incident, the labels `agency`, `area`, `severity` and those it is grouped by.
    pub matchers: Vec<Matcher>,
    /// Nobody is told outside working hours: what is due waits for the next working hour.
    pub working_hours: bool,
    /// At least one; `after` ascends.
    pub steps: Vec<Step>,
    /// Everybody who was told is told again after so long while nobody acknowledges. `None`: never.
    pub repeat: Option<Duration>,
    /// An acknowledgement holds for so long.
    pub ack_expires: Duration,
    /// What lasts so long since its first mail, and nobody's answer holds, becomes critical. `None`: never.
    pub critical_after: Option<Duration>,
}

/// People who are told together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// From the first step, whose time this is zero.
    pub after: Duration,
    pub notify: Vec<Target>,
    /// How many of them must acknowledge before the escalation stops; at least 1. Default 1 (`any`).
    pub acknowledge: Acknowledge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// So many different people of those who were told.
    AtLeast(usize),
    /// Everybody whom this step told.
    All,
}

/// An office, to be resolved to a person as of the time; or a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Agencies up from the incident's (0: its own), and the office there.
    Office {
        up: u8,
        office: Office,
    },
    Person(Id),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Office {
    Duty,
    Leader,
    Deputy,
}

impl Policy {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Policy> {
        const KEYS: &[&str] = &["match", "working_hours", "steps", "repeat", "ack_expires", "critical_after"];
        let section = Section::open(cx, node, "escalation policy", KEYS, &[])?;
        let matchers = section.optional(cx, "match", decode::list(super::incidents::matcher)).unwrap_or_default();
        let working_hours = section.optional(cx, "working_hours", decode::boolean).unwrap_or(false);
        let steps = section.required(cx, "steps", steps);
        let repeat = section.optional(cx, "repeat", decode::duration(5 * MINUTE..=30 * DAY));
        let ack_expires = section.optional(cx, "ack_expires", decode::duration(5 * MINUTE..=30 * DAY));
        let ack_expires = ack_expires.unwrap_or(ACK_EXPIRES);
        let critical_after = section.optional(cx, "critical_after", decode::duration(5 * MINUTE..=30 * DAY));
        Some(Policy { matchers, working_hours, steps: steps?, repeat, ack_expires, critical_after })
    }

    /// The first that matches.
    pub fn for_incident<'p>(policies: &'p [Policy], labels: &BTreeMap<String, String>) -> &'p Policy {
        policies.iter().find(|policy| crate::matcher::all(&policy.matchers, labels)).unwrap_or(&policies[0])
    }
}

/// Refuses matchers of labels that incidents do not have, and policies that no incident reaches.
pub(super) fn check(cx: &mut Context<'_>, policies: Option<&Node>, group_by: &[String]) {
    let mut all_matched = false;
    for policy in policies.and_then(Node::as_sequence).unwrap_or_default() {
        if all_matched {
            cx.error(policy.place, "escalation: no incident reaches this policy: the one before it matches all");
        }
        let matchers = policy.get("match").and_then(Node::as_sequence).unwrap_or_default();
        all_matched |= matchers.is_empty();
    }
    check_matchers(cx, policies, group_by);
}

/// Refuses matchers, under the key `match` of each of a list, of labels that incidents do not have.
pub(super) fn check_matchers(cx: &mut Context<'_>, list: Option<&Node>, group_by: &[String]) {
    for one in list.and_then(Node::as_sequence).unwrap_or_default() {
        for node in one.get("match").and_then(Node::as_sequence).unwrap_or_default() {
            let Some(matcher) = node.as_text().and_then(|text| Matcher::parse(text).ok()) else { continue };
            let known = ["agency", "area", "severity"].into_iter().chain(group_by.iter().map(String::as_str));
            let known: std::collections::BTreeSet<&str> = known.collect();
            if !known.contains(matcher.name()) {
                let known: Vec<&str> = known.into_iter().collect();
                let (name, known) = (matcher.name(), known.join(", "));
                cx.wrong(node, format!("an incident has no label {}; it has {known}", quote(name)));
            }
        }
    }
}

fn steps(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Step>> {
    let steps = decode::list(step)(cx, node)?;
    if steps.is_empty() {
        cx.wrong(node, "a policy needs at least one step");
        return None;
    }
    let nodes = node.as_sequence().unwrap_or_default();
    for (pair, node) in steps.windows(2).zip(nodes.iter().skip(1)) {
        if pair[1].after <= pair[0].after {
            let node = node.get("after").unwrap_or(node);
            cx.error(node.place, "after: must be longer than that of the step before");
        }
    }
    Some(steps)
}

fn step(cx: &mut Context<'_>, node: &Node) -> Option<Step> {
    let section = Section::open(cx, node, "escalation step", &["after", "notify", "acknowledge"], &[])?;
    let after = section.required(cx, "after", decode::duration(Duration::ZERO..=30 * DAY));
    let notify = section.required(cx, "notify", decode::list(target));
    if let Some(node) = section.get("notify").filter(|node| node.as_sequence().is_some_and(<[Node]>::is_empty)) {
        cx.wrong(node, "a step notifies at least one office or person");
    }
    let acknowledge = section.optional(cx, "acknowledge", acknowledge).unwrap_or(Acknowledge::AtLeast(1));
    if let (Acknowledge::AtLeast(needed), Some(notify), Some(node)) = (acknowledge, &notify, section.get("acknowledge"))
        && needed > notify.len()
        && !notify.is_empty()
    {
        cx.wrong(node, format!("{needed} cannot acknowledge: the step notifies {}", notify.len()));
    }
    Some(Step { after: after?, notify: notify?, acknowledge })
}

fn acknowledge(cx: &mut Context<'_>, node: &Node) -> Option<Acknowledge> {
    match node.as_text() {
        Some("any") => Some(Acknowledge::AtLeast(1)),
        Some("all") => Some(Acknowledge::All),
        Some(text) if text.parse::<usize>().is_ok_and(|needed| needed > 0) => {
            text.parse().ok().map(Acknowledge::AtLeast)
        }
        _ => {
            cx.expected(node, "any, all or a number of people");
            None
        }
    }
}

fn target(cx: &mut Context<'_>, node: &Node) -> Option<Target> {
    let Some(text) = node.as_text() else {
        cx.expected(node, "duty, leader, deputy, parent.leader … or a person id");
        return None;
    };
    let mut rest = text;
    let mut up = 0;
    while let Some(above) = rest.strip_prefix("parent.") {
        (rest, up) = (above, up + 1);
    }
    let office = match rest {
        "duty" => Some(Office::Duty),
        "leader" => Some(Office::Leader),
        "deputy" => Some(Office::Deputy),
        _ => None,
    };
    match (office, u8::try_from(up)) {
        (Some(office), Ok(up)) if usize::from(up) <= LEVELS => Some(Target::Office { up, office }),
        (None, Ok(0)) => decode::person(cx, node).map(Target::Person),
        _ => {
            cx.wrong(node, "not an office; allowed are duty, leader and deputy, with up to 8 parent. before them");
            None
        }
    }
}

/// What no policy matches.
pub fn defaults() -> Vec<Policy> {
    let own = |office| Target::Office { up: 0, office };
    let step = |after, notify| Step { after, notify, acknowledge: Acknowledge::AtLeast(1) };
    vec![
        Policy {
            matchers: Matcher::parse("severity=critical").into_iter().collect(),
            working_hours: false,
            steps: vec![
                step(Duration::ZERO, vec![own(Office::Duty), own(Office::Leader)]),
                step(HOUR, vec![Target::Office { up: 1, office: Office::Leader }]),
            ],
            repeat: Some(4 * HOUR),
            ack_expires: ACK_EXPIRES,
            critical_after: None,
        },
        Policy {
            matchers: Vec::new(),
            working_hours: false,
            steps: vec![step(Duration::ZERO, vec![own(Office::Duty)]), step(4 * HOUR, vec![own(Office::Leader)])],
            repeat: None,
            ack_expires: ACK_EXPIRES,
            critical_after: None,
        },
    ]
}
