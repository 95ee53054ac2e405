//! Section `maintenance`: announced work, during which an outage is nobody's fault.

use super::Id;
use super::decode::{self, Context, Section};
use super::node::Node;
use jiff::Timestamp;

/// One window of announced work. At least one list is not empty.
#[derive(Debug, Clone)]
pub struct Maintenance {
    pub services: Vec<Id>,
    pub devices: Vec<Id>,
    pub sites: Vec<Id>,
    pub agencies: Vec<Id>,
    pub dependencies: Vec<Id>,
    pub from: Timestamp,
    /// Exclusive; after `from`.
    pub to: Timestamp,
    pub reason: String,
}

const SUBJECTS: [&str; 5] = ["services", "devices", "sites", "agencies", "dependencies"];

impl Maintenance {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Maintenance> {
        let keys = [&SUBJECTS[..], &["from", "to", "reason"]].concat();
        let section = Section::open(cx, node, "maintenance", &keys, &[])?;
        let services = section.optional(cx, "services", decode::list(decode::service));
        // Devices are listed in the inventory, sites there too: only their form can be checked here.
        let devices = section.optional(cx, "devices", decode::list(decode::id));
        let sites = section.optional(cx, "sites", decode::list(decode::id));
        let agencies = section.optional(cx, "agencies", decode::list(decode::agency));
        let dependencies = section.optional(cx, "dependencies", decode::list(decode::dependency));
        let from = section.required(cx, "from", decode::moment);
        let to = section.required(cx, "to", decode::moment);
        let reason = section.required(cx, "reason", decode::name);
        if SUBJECTS.iter().all(|key| section.get(key).is_none_or(|node| node.as_sequence().is_none_or(<[_]>::is_empty)))
        {
            cx.error(section.place, format!("maintenance: of what? At least one of {} is wanted", SUBJECTS.join(", ")));
        }
        let (from, to) = (from?, to?);
        if to <= from {
            let place = section.get("to").map_or(section.place, |node| node.place);
            cx.error(place, "to: not after from, so the window would never be open");
        }
        Some(Maintenance {
            services: services.unwrap_or_default(),
            devices: devices.unwrap_or_default(),
            sites: sites.unwrap_or_default(),
            agencies: agencies.unwrap_or_default(),
            dependencies: dependencies.unwrap_or_default(),
            from,
            to,
            reason: reason?,
        })
    }
}
