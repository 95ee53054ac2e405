//! Section `server`: where the daemon listens, and who may ask it what.
//!
//! What is refused here could not be made safe later: a network address without users, and passwords over a network in
//! clear. What a user or token may do with a route stands in [`crate::web::access`].

use super::decode::{self, Context, Section};
use super::node::Node;
use super::tls;
use super::users::{self, Users};
use super::{Id, Secret};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The HTTP server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Default `127.0.0.1:9470`. Anything but loopback needs users, and TLS or trusted proxies.
    pub listen: SocketAddr,
    /// Speaks TLS itself, and nothing else.
    pub tls: Option<Tls>,
    /// Who may log in. `None`: whoever is on this machine.
    pub users: Option<Users>,
    pub tokens: Vec<Token>,
    /// Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Nobody's by default.
    pub trusted_proxies: Vec<Network>,
}

/// The server's certificate, both files PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The leaf first, then the chain.
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// A bearer token and what it may do.
#[derive(Debug, Clone)]
pub struct Token {
    pub name: String,
    pub secret: Secret,
    pub may: BTreeSet<Right>,
    /// Restricts the token to one agency and those below it.
    pub agency: Option<Id>,
}

/// A right a token can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    Alerts,
    Silences,
    Metrics,
    Query,
    Reload,
    Payments,
    Usage,
    /// Reports of mails that did not arrive.
    Bounces,
    /// Say that somebody lives.
    Heartbeats,
}

/// One address, or all that share its first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            listen: SocketAddr::from(([127, 0, 0, 1], 9470)),
            tls: None,
            users: None,
            tokens: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Server {
    /// The base of links when the site gives none.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.listen)
    }

    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Server> {
        const KEYS: &[&str] = &["listen", "tls", "users_file", "tokens", "trusted_proxies"];
        let section = Section::open(cx, node, "server", KEYS, &[])?;
        let listen = section.optional(cx, "listen", listen).unwrap_or(Server::default().listen);
        let tls = section.optional(cx, "tls", Tls::decode);
        let users = section.optional(cx, "users_file", users::decode);
        let tokens = section.optional(cx, "tokens", decode::list(Token::decode)).unwrap_or_default();
        decode::unique(cx, "token name", &decode::declared(section.get("tokens"), "name"));
        let proxies = section.optional(cx, "trusted_proxies", decode::list(network)).unwrap_or_default();
        check_listen(cx, &section, listen, !proxies.is_empty());
        Some(Server { listen, tls, users, tokens, trusted_proxies: proxies })
    }
}

fn listen(cx: &mut Context<'_>, node: &Node) -> Option<SocketAddr> {
    let address = node.as_text().and_then(|text| text.parse().ok());
    if address.is_none() {
        cx.expected(node, "an IP address and a port such as 127.0.0.1:9470");
    }
    address
}

/// What an address that others can reach needs. Keys that are there but wrong were reported already.
fn check_listen(cx: &mut Context<'_>, section: &Section<'_>, listen: SocketAddr, has_proxies: bool) {
    let has_users = section.get("users_file").is_some();
    if let Some(node) = section.get("trusted_proxies").filter(|_| has_proxies && !has_users) {
        cx.error(
            node.place,
            "trusted_proxies: without users_file nothing that is forwarded may write; give users_file",
        );
    }
    let Some(node) = section.get("listen").filter(|_| !listen.ip().is_loopback()) else { return };
    if !has_users {
        let message = format!(
            "listen: found {}, expected a loopback address (127.0.0.1 or [::1]): without users_file anybody on the \
             network could write",
            node.found()
        );
        cx.error(node.place, message);
    } else if section.get("tls").is_none() && section.get("trusted_proxies").is_none() {
        let message = format!(
            "listen: found {}, where passwords would cross the network in clear: give tls {{cert_file, key_file}}, or \
             name the reverse proxy that speaks TLS in trusted_proxies",
            node.found()
        );
        cx.error(node.place, message);
    }
}

impl Tls {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Tls> {
        let section = Section::open(cx, node, "tls", &["cert_file", "key_file"], &[])?;
        let cert_file = section.required(cx, "cert_file", decode::ca_file);
        let key_file = section.required(cx, "key_file", decode::readable_file);
        let tls = Tls { cert_file: cert_file?, key_file: key_file? };
        if let Err(error) = tls::load(&tls) {
            let mut message = format!("tls: {error}");
            if let Some(source) = std::error::Error::source(&error) {
                message.push_str(&format!(": {source}"));
            }
            cx.error(section.place, message);
            return None;
        }
        Some(tls)
    }
}

impl Token {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Token> {
        let section = Section::open(cx, node, "token", &["name", "token_file", "may", "agency"], &[])?;
        let name = section.required(cx, "name", decode::name);
        let secret = section.required(cx, "token_file", decode::secret_file);
        let rights = Right::ALL.map(|right| (right.as_str(), right));
        let may = section.required(cx, "may", decode::list(decode::choice(&rights)));
        let agency = section.optional(cx, "agency", decode::agency);
        if section.get("may").is_some_and(|may| may.as_sequence().is_some_and(<[Node]>::is_empty)) {
            cx.error(section.place, "token: \"may\" is empty, so the token could do nothing");
        }
        Some(Token { name: name?, secret: secret?, may: may?.into_iter().collect(), agency })
    }
}

impl Right {
    pub const ALL: [Right; 9] = [
        Right::Alerts,
        Right::Silences,
        Right::Metrics,
        Right::Query,
        Right::Reload,
        Right::Payments,
        Right::Usage,
        Right::Bounces,
        Right::Heartbeats,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Right::Alerts => "alerts",
            Right::Silences => "silences",
            Right::Metrics => "metrics",
            Right::Query => "query",
            Right::Reload => "reload",
            Right::Payments => "payments",
            Right::Usage => "usage",
            Right::Bounces => "bounces",
            Right::Heartbeats => "heartbeats",
        }
    }
}

impl Network {
    /// Reads `10.0.0.5`, `10.0.0.0/24` or `2001:db8::/64`.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) if prefix.bytes().all(|b| b.is_ascii_digit()) => prefix.parse().ok()?,
            Some(_) => return None,
        };
        (prefix <= bits).then_some(Network { address: address.to_canonical(), prefix })
    }

    /// How many first bits its addresses share: of two networks that hold an address, the longer is the closer one.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether both mean the same addresses, however they are written.
    pub fn holds_same(&self, other: &Network) -> bool {
        self.prefix == other.prefix && self.contains(other.address)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

fn network(cx: &mut Context<'_>, node: &Node) -> Option<Network> {
    let network = node.as_text().and_then(Network::parse);
    match network {
        // Everybody would be a proxy, and could say that they are anybody.
        Some(Network { prefix: 0, .. }) => cx.wrong(node, "a proxy that is trusted is not the whole world"),
        None => cx.expected(node, "an address or network such as 10.0.0.5 or 10.0.0.0/24"),
        Some(network) => return Some(network),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn networks_hold_what_shares_their_first_bits() {
        let rows = [
            ("10.0.0.5", "10.0.0.5", true),
            ("10.0.0.5", "10.0.0.6", false),
            ("10.0.0.0/24", "10.0.0.255", true),
            ("10.0.0.0/24", "::ffff:10.0.0.7", true),
            ("10.0.0.0/24", "10.0.1.0", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("10.0.0.0/8", "2001:db8::1", false),
        ];
        for (network, address, expected) in rows {
            assert_eq!(Network::parse(network).unwrap().contains(address.parse().unwrap()), expected, "{network}");
        }
        for bad in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "proxy.example"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
