//! Probe `icmp`: an echo request.

use crate::config::decode::Context;
use crate::config::node::Node;

#[derive(Debug, Clone)]
pub struct IcmpProbe {}

impl IcmpProbe {
    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<IcmpProbe> {
        cx.error(node.place, "icmp: not supported yet");
        None
    }
}
