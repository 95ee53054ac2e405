//! Who needs what: the transitive dependency graph, with the maintenance windows of the configuration file.
//!
//! What belongs here: what follows from the configuration and the inventory alone. What is down just now is the ledger's.
//!
//! A subject needs what its `depends_on` lists (a device: what its site lists), and what that needs in turn. `own_uplink` is
//! no exception: it excuses who lists it, directly or through something else. What is checked inside the house does not
//! go over the uplink, and there may be two of them.

use super::maintenance::{Scope, Window};
use super::{Subject, SubjectKind};
use crate::config::Config;
use crate::config::dependencies::DependencyCause;
use crate::lean::push;
use crate::store::micros;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// For a device whose silence says nothing: how long after a recovery it may need to come back.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the graph has to know of a device.
#[derive(Debug, Clone)]
pub struct GraphDevice {
    pub subject: Subject,
    pub agency: Arc<str>,
    /// Id of the site; may be empty.
    pub site: Arc<str>,
    /// How long its silence may last; `None` for devices whose silence says nothing.
    pub offline_after: Option<Duration>,
}

/// The graph of one configuration. Made at start and at every reload.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    subjects: Vec<Subject>,
    pub(super) dependencies: Vec<Dependency>,
    /// The devices of one site mostly share theirs. Handed on to the ledger's members when the graph is set.
    pub(super) nodes: Vec<(Subject, Arc<Node>)>,
    /// What the sites of the configuration need.
    sites: HashMap<String, Site>,
    pub(super) windows: Vec<Window>,
    /// The longest [`Node::bound_us`].
    pub(super) longest_us: i64,
    /// The longest [`Dependency::bound_us`].
    pub(super) longest_dependency_us: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Dependency {
    pub name: Arc<str>,
    pub cause: DependencyCause,
    /// `every` + `timeout`: an outage that lasts longer is seen.
    pub bound_us: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub agency: Arc<str>,
    /// Of a device; may be empty.
    pub site: Arc<str>,
    /// Positions in [`Graph::dependencies`] of everything it needs, directly or not.
    pub needs: Arc<[usize]>,
    /// How long after its recovery it is seen to be up, at most: `every` + `timeout`, or a device's silence.
    pub bound_us: i64,
}

#[derive(Debug, Clone)]
struct Site {
    agency: Arc<str>,
    needs: Arc<[usize]>,
}

impl Graph {
    pub fn new(config: &Config, devices: impl IntoIterator<Item = GraphDevice>) -> Graph {
        let positions: HashMap<&str, usize> =
            config.dependencies.iter().enumerate().map(|(position, d)| (d.id.as_str(), position)).collect();
        let closure = |ids: &[crate::config::Id]| closure(config, &positions, ids);
        let nowhere: Arc<str> = Arc::default();
        let mut known: HashSet<Arc<Node>> = HashSet::new();
        let mut shared = |node: Node| match known.get(&node) {
            Some(known) => known.clone(),
            None => {
                let node = Arc::new(node);
                known.insert(node.clone());
                node
            }
        };
        let mut nodes = Vec::new();
        let mut dependencies = Vec::new();
        let mut subjects = Vec::new();
        for dependency in &config.dependencies {
            let subject = Subject { kind: SubjectKind::Dependency, id: dependency.id.shared() };
            let bound_us = bound(dependency.every + dependency.timeout);
            let agency = dependency.agency.as_ref().unwrap_or(&config.site.agency).shared();
            let needs = closure(&dependency.depends_on);
            nodes.push((subject.clone(), shared(Node { agency, site: nowhere.clone(), needs, bound_us })));
            dependencies.push(Dependency { name: dependency.name.as_str().into(), cause: dependency.cause, bound_us });
            subjects.push(subject);
        }
        for service in &config.services {
            let subject = Subject { kind: SubjectKind::Service, id: service.id.shared() };
            let bound_us = bound(service.every + service.timeout);
            let (agency, needs) = (service.agency.shared(), closure(&service.depends_on));
            nodes.push((subject, shared(Node { agency, site: nowhere.clone(), needs, bound_us })));
        }
        let sites: HashMap<String, Site> = config
            .sites
            .iter()
            .map(|site| (site.id.to_string(), Site { agency: site.agency.shared(), needs: closure(&site.depends_on) }))
            .collect();
        let nothing: Arc<[usize]> = Arc::new([]);
        for device in devices {
            let GraphDevice { subject, agency, site, offline_after } = device;
            let needs = sites.get(&*site).map_or_else(|| nothing.clone(), |site| site.needs.clone());
            let bound_us = bound(offline_after.unwrap_or(PATIENCE));
            push(&mut nodes, (subject, shared(Node { agency, site, needs, bound_us })));
        }
        Graph {
            longest_us: nodes.iter().map(|(_, node)| node.bound_us).max().unwrap_or(0),
            longest_dependency_us: dependencies.iter().map(|dependency| dependency.bound_us).max().unwrap_or(0),
            subjects,
            dependencies,
            nodes,
            sites,
            windows: config.maintenance.iter().map(window).collect(),
        }
    }

    /// Every dependency, in the order of the file.
    pub fn dependencies(&self) -> &[Subject] {
        &self.subjects
    }

    /// A site as if it were a subject; of one that the configuration does not know, only the name matters.
    pub(super) fn site(&self, id: &str) -> Node {
        let site = self.sites.get(id);
        Node {
            agency: site.map_or_else(|| "".into(), |site| site.agency.clone()),
            site: id.into(),
            needs: site.map_or_else(|| Arc::new([]) as Arc<[usize]>, |site| site.needs.clone()),
            bound_us: self.longest_us,
        }
    }

    /// Whether `window` is about a subject: itself, its site, its agency, or something it needs. `node` is the subject's.
    pub(super) fn covers(&self, window: &Window, subject: &Subject, agency: &str, node: Option<&Node>) -> bool {
        let named = match subject.kind {
            SubjectKind::Service => window.services.contains(&*subject.id),
            SubjectKind::Camera | SubjectKind::Hotspot => window.devices.contains(&*subject.id),
            SubjectKind::Dependency => window.dependencies.contains(&*subject.id),
        };
        named || window.agencies.contains(agency) || node.is_some_and(|node| self.covers_place(window, node))
    }

    /// Whether `window` is about the site of `node` or something that it needs.
    pub(super) fn covers_place(&self, window: &Window, node: &Node) -> bool {
        (!node.site.is_empty() && window.sites.contains(&*node.site))
            || (!window.dependencies.is_empty()
                && node.needs.iter().any(|need| window.dependencies.contains(&*self.subjects[*need].id)))
    }
}

/// The dependencies that `ids` name and all they need, by position.
fn closure(config: &Config, positions: &HashMap<&str, usize>, ids: &[crate::config::Id]) -> Arc<[usize]> {
    let mut found = Vec::new();
    let mut open: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    while let Some(id) = open.pop() {
        // The configuration refuses names that do not exist, and circles; neither may hang us.
        let Some(&position) = positions.get(id) else { continue };
        if !found.contains(&position) {
            found.push(position);
            open.extend(config.dependencies[position].depends_on.iter().map(|id| id.as_str()));
        }
    }
    found.sort_unstable();
    found.into()
}

fn bound(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 16)
}

fn window(maintenance: &crate::config::maintenance::Maintenance) -> Window {
    let texts = |ids: &[crate::config::Id]| ids.iter().map(ToString::to_string).collect();
    let scope = Scope {
        services: texts(&maintenance.services),
        devices: texts(&maintenance.devices),
        sites: texts(&maintenance.sites),
        agencies: texts(&maintenance.agencies),
        dependencies: texts(&maintenance.dependencies),
    };
    Window::new(None, &scope, micros(maintenance.from), micros(maintenance.to), &maintenance.reason)
}
