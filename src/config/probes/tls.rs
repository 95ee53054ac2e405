//! Probe `tls`: a TLS handshake and the certificates shown.

use super::address::{self, Address, Family};
use crate::config::decode::{self, Context, Section};
use crate::config::node::Node;
use rustls::pki_types::ServerName;
use std::path::PathBuf;
use std::time::Duration;

/// A TLS handshake and the certificates shown.
#[derive(Debug, Clone)]
pub struct TlsProbe {
    pub address: Address,
    /// Default: any.
    pub ip: Family,
    /// The name asked for, and that the certificate must be for. Default: the host of `address`.
    pub server_name: Option<ServerName<'static>>,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The oldest version of the protocol that will do. Default: TLS 1.2, older ones never do.
    pub min_version: Least,
    /// Slower than this is `slow` (and still up).
    pub slow_after: Option<Duration>,
}

/// The oldest version of TLS that a server may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Least {
    #[default]
    Tls12,
    Tls13,
}

impl Least {
    pub fn as_str(self) -> &'static str {
        match self {
            Least::Tls12 => "TLS 1.2",
            Least::Tls13 => "TLS 1.3",
        }
    }
}

impl TlsProbe {
    /// A handshake, with the defaults of everything else.
    pub fn to(address: Address) -> TlsProbe {
        TlsProbe {
            address,
            ip: Family::Any,
            server_name: None,
            ca_file: None,
            min_version: Least::Tls12,
            slow_after: None,
        }
    }

    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node, timeout: Duration) -> Option<TlsProbe> {
        if node.as_text().is_some() {
            return address::address(cx, node).map(TlsProbe::to);
        }
        const KEYS: &[&str] = &["address", "ip", "server_name", "ca_file", "min_version", "slow_after"];
        let section = Section::open(cx, node, "tls", KEYS, &[])?;
        let address = section.required(cx, "address", address::address);
        let host = address.as_ref().map(|address| &address.host);
        let ip = section.optional(cx, "ip", address::family(host)).unwrap_or_default();
        let server_name = section.optional(cx, "server_name", server_name);
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        let versions = [("1.2", Least::Tls12), ("1.3", Least::Tls13)];
        let min_version = section.optional(cx, "min_version", decode::choice(&versions)).unwrap_or_default();
        let slow_after = section.optional(cx, "slow_after", super::slow_after(timeout));
        Some(TlsProbe { address: address?, ip, server_name, ca_file, min_version, slow_after })
    }
}

fn server_name(cx: &mut Context<'_>, node: &Node) -> Option<ServerName<'static>> {
    let name = node.as_text().and_then(|text| ServerName::try_from(text.to_owned()).ok());
    if name.is_none() {
        cx.expected(node, "the name of a server, such as portal.example");
    }
    name
}
