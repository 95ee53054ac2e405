//! Probe `tls`: a TLS handshake and the certificates shown.

use crate::config::decode::Context;
use crate::config::node::Node;

#[derive(Debug, Clone)]
pub struct TlsProbe {}

impl TlsProbe {
    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<TlsProbe> {
        cx.error(node.place, "tls: not supported yet");
        None
    }
}
