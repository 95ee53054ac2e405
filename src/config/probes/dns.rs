//! Probe `dns`: a question to a resolver and what the answer must hold.

use crate::config::decode::Context;
use crate::config::node::Node;

#[derive(Debug, Clone)]
pub struct DnsProbe {}

impl DnsProbe {
    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<DnsProbe> {
        cx.error(node.place, "dns: not supported yet");
        None
    }
}
