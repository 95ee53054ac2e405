//! Section `services`: portals, applications and databases that are probed.

use super::Id;
use super::decode::{self, Context, DAY, SECOND, Section};
use super::node::Node;
use super::probes::Probe;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Service {
    pub id: Id,
    /// Default: the id.
    pub name: String,
    pub agency: Id,
    pub kind: ServiceKind,
    /// Default 30 s.
    pub every: Duration,
    /// Default 10 s; never longer than `every`.
    pub timeout: Duration,
    /// Dependencies that excuse it while they are down.
    pub depends_on: Vec<Id>,
    pub probe: Probe,
}

/// What a service is, for labels and indicators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ServiceKind {
    #[default]
    Portal,
    Application,
    Database,
    Network,
}

impl ServiceKind {
    pub const ALL: [ServiceKind; 4] =
        [ServiceKind::Portal, ServiceKind::Application, ServiceKind::Database, ServiceKind::Network];

    pub fn as_str(self) -> &'static str {
        match self {
            ServiceKind::Portal => "portal",
            ServiceKind::Application => "application",
            ServiceKind::Database => "database",
            ServiceKind::Network => "network",
        }
    }
}

impl Service {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Service> {
        const KEYS: &[&str] = &["id", "name", "agency", "kind", "every", "timeout", "depends_on"];
        let keys = [KEYS, Probe::KINDS].concat();
        let section = Section::open(cx, node, "service", &keys, &[])?;
        let id = section.required(cx, "id", decode::id);
        let name = section.optional(cx, "name", decode::name);
        let agency = section.required(cx, "agency", decode::agency);
        let kinds = ServiceKind::ALL.map(|kind| (kind.as_str(), kind));
        let kind = section.optional(cx, "kind", decode::choice(&kinds)).unwrap_or_default();
        let every = section.optional(cx, "every", decode::duration(SECOND..=DAY)).unwrap_or(30 * SECOND);
        let timeout = decode::timeout(cx, &section, every);
        let depends_on = section.optional(cx, "depends_on", decode::list(decode::dependency)).unwrap_or_default();
        let probe = Probe::decode(cx, &section, timeout);
        let id = id?;
        let name = name.unwrap_or_else(|| id.to_string());
        Some(Service { id, name, agency: agency?, kind, every, timeout, depends_on, probe: probe? })
    }
}
