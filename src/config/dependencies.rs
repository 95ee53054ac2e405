//! Section `dependencies`: what several subjects need, and whose fault it is when it is down.

use super::Id;
use super::decode::{self, Context, DAY, SECOND, Section};
use super::node::{Node, quote};
use super::probes::Probe;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Dependency {
    pub id: Id,
    /// Default: the id.
    pub name: String,
    /// Who owns it; `None` is the site agency.
    pub agency: Option<Id>,
    pub cause: DependencyCause,
    /// Default 30 s.
    pub every: Duration,
    /// Default 10 s; never longer than `every`.
    pub timeout: Duration,
    /// What it needs itself. No cycles.
    pub depends_on: Vec<Id>,
    pub probe: Probe,
}

/// Whose fault an outage of a dependency is. The label value `cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DependencyCause {
    OwnUplink,
    Power,
    Telecom,
    Gateway,
    National,
    Platform,
}

impl DependencyCause {
    /// By precedence: when several are down at once the first is the cause (DESIGN: metrics, `ioc_service_excused`).
    pub const ALL: [DependencyCause; 6] = [
        DependencyCause::OwnUplink,
        DependencyCause::Power,
        DependencyCause::Telecom,
        DependencyCause::Gateway,
        DependencyCause::National,
        DependencyCause::Platform,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            DependencyCause::OwnUplink => "own_uplink",
            DependencyCause::Power => "power",
            DependencyCause::Telecom => "telecom",
            DependencyCause::Gateway => "gateway",
            DependencyCause::National => "national",
            DependencyCause::Platform => "platform",
        }
    }
}

impl Dependency {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Dependency> {
        const KEYS: &[&str] = &["id", "name", "agency", "cause", "every", "timeout", "depends_on", "probe"];
        let section = Section::open(cx, node, "dependency", KEYS, &[])?;
        let id = section.required(cx, "id", decode::id);
        let name = section.optional(cx, "name", decode::name);
        let agency = section.optional(cx, "agency", decode::agency);
        let causes = DependencyCause::ALL.map(|cause| (cause.as_str(), cause));
        let cause = section.required(cx, "cause", decode::choice(&causes));
        let every = section.optional(cx, "every", decode::duration(SECOND..=DAY)).unwrap_or(30 * SECOND);
        let timeout = decode::timeout(cx, &section, every);
        let depends_on = section.optional(cx, "depends_on", decode::list(decode::dependency)).unwrap_or_default();
        let probe = section.required(cx, "probe", |cx, node| {
            let section = Section::open(cx, node, "probe", Probe::KINDS, &[])?;
            Probe::decode(cx, &section, timeout)
        });
        let id = id?;
        let name = name.unwrap_or_else(|| id.to_string());
        Some(Dependency { id, name, agency, cause: cause?, every, timeout, depends_on, probe: probe? })
    }
}

/// Reports the cycles of `depends_on`, each once.
pub(super) fn check_cycles(cx: &mut Context<'_>, list: Option<&Node>) {
    let nodes = list.and_then(Node::as_sequence).unwrap_or_default();
    let texts = |node: &Node| -> Vec<String> {
        let list = node.get("depends_on").and_then(Node::as_sequence).unwrap_or_default();
        list.iter().filter_map(|node| node.as_text().map(str::to_owned)).collect()
    };
    let edges: BTreeMap<String, Vec<String>> =
        nodes.iter().filter_map(|node| Some((node.get("id")?.as_text()?.to_owned(), texts(node)))).collect();
    let mut reported: BTreeSet<String> = BTreeSet::new();
    for node in nodes {
        let Some(start) = node.get("id").and_then(Node::as_text) else { continue };
        if reported.contains(start) {
            continue;
        }
        if let Some(cycle) = cycle_through(start, &edges) {
            let place = node.get("depends_on").map_or(node.place, |node| node.place);
            let path: Vec<String> = cycle.iter().map(|id| quote(id).to_string()).collect();
            cx.error(place, format!("depends_on: the dependencies need each other in a circle: {}", path.join(" -> ")));
            reported.extend(cycle);
        }
    }
}

/// A way from `start` back to it.
fn cycle_through(start: &str, edges: &BTreeMap<String, Vec<String>>) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![start.to_owned()]];
    while let Some(way) = ways.pop() {
        for next in edges.get(way.last()?).into_iter().flatten() {
            let longer = [way.as_slice(), std::slice::from_ref(next)].concat();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}
