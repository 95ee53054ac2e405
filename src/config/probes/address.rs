//! Where a probe connects to: hosts, ports, and which IP family is asked for.

use crate::config::decode::{self, Context};
use crate::config::node::Node;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use url::Host;

/// A host and a port, as in `portal.example:443`, `192.0.2.1:443` or `[2001:db8::1]:443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: Host<String>,
    /// Never 0.
    pub port: u16,
}

impl Address {
    pub const EXPECTED: &str = "a host and a port, such as portal.example:443, 192.0.2.1:443 or \"[2001:db8::1]:443\"";

    pub fn parse(text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        let bracketed = host.starts_with('[');
        if host.is_empty() || (host.contains(':') && !bracketed) {
            return None;
        }
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
        (port != 0).then_some(Address { host: Host::parse(host).ok()?, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// Both, in the resolver's order.
    #[default]
    Any,
    V4,
    V6,
}

impl Family {
    pub fn admits(self, address: &IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

/// A host with a port.
pub(super) fn address(cx: &mut Context<'_>, node: &Node) -> Option<Address> {
    let address = node.as_text().and_then(Address::parse);
    if address.is_none() {
        cx.expected(node, Address::EXPECTED);
    }
    address
}

/// A host without a port; IPv6 with or without brackets.
pub(super) fn host(cx: &mut Context<'_>, node: &Node) -> Option<Host<String>> {
    let host = node.as_text().and_then(parse_host);
    if host.is_none() {
        cx.expected(node, "a host without a port, such as portal.example, 192.0.2.1 or \"2001:db8::1\"");
    }
    host
}

/// Reads a host; IPv6 with or without brackets.
pub fn parse_host(text: &str) -> Option<Host<String>> {
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Some(Host::Ipv6(address)),
        Err(_) => Host::parse(text).ok(),
    }
}

/// `ip` of a probe of `host`: a literal address of the other family could never be reached.
pub(super) fn family<'h>(host: Option<&'h Host<String>>) -> impl Fn(&mut Context<'_>, &Node) -> Option<Family> + 'h {
    move |cx, node| {
        let words = [("any", Family::Any), ("4", Family::V4), ("6", Family::V6)];
        let family = decode::choice(&words)(cx, node)?;
        let literal = match host {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(*address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        };
        if let Some(address) = literal.filter(|address| !family.admits(address)) {
            cx.wrong(node, format!("{address} is not an address of that family"));
        }
        Some(family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for (text, shown) in [
            ("portal.example:443", "portal.example:443"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
            ("cổng.example:443", "xn--cng-qmz.example:443"),
        ] {
            let address = Address::parse(text).map(|address| address.to_string());
            assert_eq!(address.as_deref(), Some(shown), "{text}");
        }
        for bad in ["", "portal.example", ":443", "x:0", "x:65536", "x:+1", "::1:443", "a b:1", "x:"] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn hosts_may_be_literal_addresses() {
        for (text, shown) in [("::1", "[::1]"), ("[::1]", "[::1]"), ("127.0.0.1", "127.0.0.1"), ("db", "db")] {
            assert_eq!(parse_host(text).map(|host| host.to_string()).as_deref(), Some(shown));
        }
        assert_eq!(parse_host("db:5432"), None);
    }
}
