//! Probe `icmp`: an echo request.

use super::address::{self, Family};
use crate::config::decode::{Context, Section};
use crate::config::node::Node;
use std::time::Duration;
use url::Host;

/// An echo request (ping) to a host.
#[derive(Debug, Clone)]
pub struct IcmpProbe {
    pub host: Host<String>,
    /// Default: any.
    pub ip: Family,
    /// Slower than this is `slow` (and still up).
    pub slow_after: Option<Duration>,
}

impl IcmpProbe {
    /// An echo request, with the defaults of everything else.
    pub fn to(host: Host<String>) -> IcmpProbe {
        IcmpProbe { host, ip: Family::Any, slow_after: None }
    }

    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node, timeout: Duration) -> Option<IcmpProbe> {
        if node.as_text().is_some() {
            return address::host(cx, node).map(IcmpProbe::to);
        }
        let section = Section::open(cx, node, "icmp", &["host", "ip", "slow_after"], &[])?;
        let host = section.required(cx, "host", address::host);
        let ip = section.optional(cx, "ip", address::family(host.as_ref())).unwrap_or_default();
        let slow_after = section.optional(cx, "slow_after", super::slow_after(timeout));
        Some(IcmpProbe { host: host?, ip, slow_after })
    }
}
