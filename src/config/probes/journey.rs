//! Probe `journey`: an ordered list of HTTP steps that acts as a citizen would.

use crate::config::decode::Context;
use crate::config::node::Node;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Journey {}

impl Journey {
    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node, _timeout: Duration) -> Option<Journey> {
        cx.error(node.place, "journey: not supported yet");
        None
    }
}
