//! How something is checked: one variant a protocol, one file each. Shared by `services` and `dependencies`.

pub mod address;
pub mod dns;
pub mod http;
pub mod icmp;
pub mod journey;
pub mod sql;
pub mod tcp;
pub mod tls;

use super::decode::{self, Context, DAY, SECOND, Section};
use super::node::Node;
use std::time::Duration;

/// How a service or dependency is checked. One variant a protocol.
#[derive(Debug, Clone)]
pub enum Probe {
    Http(http::HttpProbe),
    Journey(journey::Journey),
    Tcp(tcp::TcpProbe),
    Tls(tls::TlsProbe),
    Dns(dns::DnsProbe),
    Icmp(icmp::IcmpProbe),
    Sql(sql::SqlProbe),
}

impl Probe {
    /// The keys of a service that say how it is checked; exactly one of them stands there.
    pub const KINDS: &[&str] = &["http", "journey", "tcp", "tls", "dns", "icmp", "postgres", "mysql"];

    /// Reads the one probe of a service or dependency, whose checks end after `timeout`.
    pub(super) fn decode(cx: &mut Context<'_>, section: &Section<'_>, timeout: Duration) -> Option<Probe> {
        let given: Vec<&str> = Probe::KINDS.iter().copied().filter(|kind| section.get(kind).is_some()).collect();
        let &[kind] = given.as_slice() else {
            let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
            let kinds = Probe::KINDS.join(", ");
            cx.error(section.place, format!("{}: exactly one of {kinds} is wanted, found {found}", section.name()));
            return None;
        };
        match kind {
            "http" => {
                section.required(cx, kind, |cx, node| http::HttpProbe::decode(cx, node, timeout)).map(Probe::Http)
            }
            "journey" => {
                section.required(cx, kind, |cx, node| journey::Journey::decode(cx, node, timeout)).map(Probe::Journey)
            }
            "tcp" => section.required(cx, kind, |cx, node| tcp::TcpProbe::decode(cx, node, timeout)).map(Probe::Tcp),
            "tls" => section.required(cx, kind, |cx, node| tls::TlsProbe::decode(cx, node, timeout)).map(Probe::Tls),
            "dns" => section.required(cx, kind, |cx, node| dns::DnsProbe::decode(cx, node, timeout)).map(Probe::Dns),
            "icmp" => {
                section.required(cx, kind, |cx, node| icmp::IcmpProbe::decode(cx, node, timeout)).map(Probe::Icmp)
            }
            "postgres" => section
                .required(cx, kind, |cx, node| sql::SqlProbe::decode(cx, node, sql::Engine::Postgres, timeout))
                .map(Probe::Sql),
            _ => section
                .required(cx, kind, |cx, node| sql::SqlProbe::decode(cx, node, sql::Engine::Mysql, timeout))
                .map(Probe::Sql),
        }
    }
}

/// `slow_after` of a check that ends after `timeout`.
fn slow_after(timeout: Duration) -> impl Fn(&mut Context<'_>, &Node) -> Option<Duration> {
    move |cx, node| {
        let slow = decode::duration(SECOND / 100..=DAY)(cx, node)?;
        if slow >= timeout {
            let timeout = decode::write_duration(timeout);
            cx.error(
                node.place,
                format!("slow_after: not shorter than the timeout ({timeout}): nothing could be slow"),
            );
        }
        Some(slow)
    }
}
