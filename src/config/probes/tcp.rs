//! Probe `tcp`: a TCP connection, and what the other side must say.

use crate::config::decode::Context;
use crate::config::node::Node;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct TcpProbe {}

impl TcpProbe {
    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node, _timeout: Duration) -> Option<TcpProbe> {
        cx.error(node.place, "tcp: not supported yet");
        None
    }
}
