//! Section `sites`: where devices stand, and what those places need.

use super::Id;
use super::decode::{self, Context, Section};
use super::node::Node;

/// A place with devices. Optional: a device may name a site that stands nowhere else.
#[derive(Debug, Clone)]
pub struct DeviceSite {
    pub id: Id,
    pub agency: Id,
    pub village: Option<String>,
    /// Dependencies that excuse its devices while they are down.
    pub depends_on: Vec<Id>,
}

impl DeviceSite {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<DeviceSite> {
        let section = Section::open(cx, node, "site", &["id", "agency", "village", "depends_on"], &[])?;
        let id = section.required(cx, "id", decode::id);
        let agency = section.required(cx, "agency", decode::agency);
        let village = section.optional(cx, "village", decode::name);
        let depends_on = section.optional(cx, "depends_on", decode::list(decode::dependency)).unwrap_or_default();
        Some(DeviceSite { id: id?, agency: agency?, village, depends_on })
    }
}
