//! Probe `dns`: a question to a resolver and what the answer must hold.

use crate::config::decode::{self, Context, Section};
use crate::config::node::Node;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A question to a resolver and what the answer must hold.
#[derive(Debug, Clone)]
pub struct DnsProbe {
    /// Fully qualified; of PTR the reverse name.
    pub name: Name,
    /// One of [`KINDS`]. Default: A.
    pub kind: RecordType,
    /// Default: the first of the system's resolvers that answers.
    pub resolver: Option<SocketAddr>,
    /// The code of the answer. Default: NOERROR; another one is for names that must not be known.
    pub rcode: ResponseCode,
    /// Without it any record of the type will do.
    pub expect: Option<Expect>,
    /// Slower than this is `slow` (and still up).
    pub slow_after: Option<Duration>,
}

/// What the records must be, each as [`canonical`] writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// These and no others, in any order.
    Exactly(Vec<String>),
    /// These, and perhaps others.
    Contains(Vec<String>),
}

/// The types of records that can be asked for.
pub const KINDS: [(&str, RecordType); 10] = [
    ("A", RecordType::A),
    ("AAAA", RecordType::AAAA),
    ("CNAME", RecordType::CNAME),
    ("MX", RecordType::MX),
    ("NS", RecordType::NS),
    ("TXT", RecordType::TXT),
    ("SOA", RecordType::SOA),
    ("PTR", RecordType::PTR),
    ("SRV", RecordType::SRV),
    ("CAA", RecordType::CAA),
];

const RCODES: [(&str, ResponseCode); 4] = [
    ("NOERROR", ResponseCode::NoError),
    ("NXDOMAIN", ResponseCode::NXDomain),
    ("SERVFAIL", ResponseCode::ServFail),
    ("REFUSED", ResponseCode::Refused),
];

const PORT: u16 = 53;

impl DnsProbe {
    /// A question to the system's resolver, any answer will do.
    pub fn of(name: Name, kind: RecordType) -> DnsProbe {
        DnsProbe { name, kind, resolver: None, rcode: ResponseCode::NoError, expect: None, slow_after: None }
    }

    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node, timeout: Duration) -> Option<DnsProbe> {
        if node.as_text().is_some() {
            return name(RecordType::A)(cx, node).map(|name| DnsProbe::of(name, RecordType::A));
        }
        const KEYS: &[&str] = &["name", "type", "resolver", "expect", "expect_contains", "rcode", "slow_after"];
        let section = Section::open(cx, node, "dns", KEYS, &[])?;
        let kind = section.optional(cx, "type", decode::choice(&KINDS)).unwrap_or(RecordType::A);
        let name = section.required(cx, "name", name(kind));
        let resolver = section.optional(cx, "resolver", resolver);
        let mut values = |key| section.optional(cx, key, decode::list(|cx, node| value(cx, node, kind)));
        let (exactly, contains) = (values("expect"), values("expect_contains"));
        if let (Some(_), Some(node)) = (&exactly, section.get("expect_contains")) {
            cx.error(node.place, "dns: only one of expect and expect_contains can be given");
        }
        for (key, values) in [("expect", &exactly), ("expect_contains", &contains)] {
            if let (Some(node), Some([])) = (section.get(key), values.as_deref())
                && node.as_sequence().is_none_or(<[Node]>::is_empty)
            {
                cx.error(node.place, format!("{key}: found {}, expected at least one value", node.found()));
            }
        }
        let rcode = section.optional(cx, "rcode", decode::choice(&RCODES)).unwrap_or(ResponseCode::NoError);
        if let (Some(node), true) = (section.get("rcode"), exactly.is_some() || contains.is_some())
            && rcode != ResponseCode::NoError
        {
            cx.error(node.place, "rcode: an answer with this code has no records to expect");
        }
        let slow_after = section.optional(cx, "slow_after", super::slow_after(timeout));
        let expect = exactly.map(Expect::Exactly).or(contains.map(Expect::Contains));
        Some(DnsProbe { name: name?, kind, resolver, rcode, expect, slow_after })
    }
}

fn name(kind: RecordType) -> impl Fn(&mut Context<'_>, &Node) -> Option<Name> {
    move |cx, node| {
        let name = node.as_text().and_then(|text| parse_name(text, kind));
        if name.is_none() {
            cx.expected(node, "a domain name (for PTR an address will do)");
        }
        name
    }
}

/// A fully qualified name; for PTR an address gives its reverse name.
pub fn parse_name(text: &str, kind: RecordType) -> Option<Name> {
    if kind == RecordType::PTR
        && let Ok(address) = text.parse::<IpAddr>()
    {
        return Some(Name::from(address));
    }
    let mut name = Name::from_utf8(text).ok().filter(|_| !text.is_empty())?;
    name.set_fqdn(true);
    Some(name)
}

fn resolver(cx: &mut Context<'_>, node: &Node) -> Option<SocketAddr> {
    let resolver = node.as_text().and_then(parse_resolver);
    if resolver.is_none() {
        cx.expected(node, "the address of a resolver, such as 192.0.2.53, 192.0.2.53:5353 or \"[2001:db8::53]:53\"");
    }
    resolver
}

/// An address, with port 53 if none is given.
pub fn parse_resolver(text: &str) -> Option<SocketAddr> {
    let bare = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT));
    text.parse::<SocketAddr>().ok().or_else(bare).filter(|address| address.port() != 0)
}

fn value(cx: &mut Context<'_>, node: &Node, kind: RecordType) -> Option<String> {
    let text = decode::text(cx, node)?;
    let sound = match kind {
        RecordType::A => text.parse::<std::net::Ipv4Addr>().is_ok(),
        RecordType::AAAA => text.parse::<std::net::Ipv6Addr>().is_ok(),
        RecordType::MX => text.split_whitespace().count() == 2,
        RecordType::SRV => text.split_whitespace().count() == 4,
        RecordType::SOA => text.split_whitespace().count() == 7,
        _ => true,
    };
    if !sound {
        let what = match kind {
            RecordType::A => "an IPv4 address",
            RecordType::AAAA => "an IPv6 address",
            RecordType::MX => "a preference and a name, such as \"10 mail.example\"",
            RecordType::SRV => "priority, weight, port and name, such as \"0 5 443 portal.example\"",
            _ => "the seven fields of an SOA record",
        };
        cx.expected(node, what);
        return None;
    }
    Some(canonical(kind, &text))
}

/// One way to write each value: names in lower case without the last dot, addresses as usual, single spaces.
pub fn canonical(kind: RecordType, text: &str) -> String {
    match kind {
        RecordType::TXT | RecordType::CAA => text.to_owned(),
        RecordType::A | RecordType::AAAA => {
            text.parse::<IpAddr>().map_or_else(|_| text.to_owned(), |address| address.to_string())
        }
        _ => {
            let words = text.split_whitespace().map(|word| word.strip_suffix('.').unwrap_or(word).to_lowercase());
            words.collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_one_way_to_be_written() {
        for (kind, text, canonical_text) in [
            (RecordType::AAAA, "2001:DB8:0::1", "2001:db8::1"),
            (RecordType::MX, "10  Mail.Example.", "10 mail.example"),
            (RecordType::NS, "NS1.example", "ns1.example"),
            (RecordType::TXT, "v=spf1  -ALL", "v=spf1  -ALL"),
        ] {
            assert_eq!(canonical(kind, text), canonical_text);
        }
    }

    #[test]
    fn an_address_has_a_reverse_name() {
        let name = |text, kind| parse_name(text, kind).map(|name| name.to_string());
        assert_eq!(name("192.0.2.1", RecordType::PTR).as_deref(), Some("1.2.0.192.in-addr.arpa."));
        assert_eq!(name("dvc.example", RecordType::A).as_deref(), Some("dvc.example."));
        for bad in ["", "a..b", &"a".repeat(64)] {
            assert_eq!(name(bad, RecordType::A), None, "{bad}");
        }
    }

    #[test]
    fn resolvers_listen_on_port_53_unless_said_otherwise() {
        for (text, shown) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
            ("1.1.1.1:54", "1.1.1.1:54"),
        ] {
            assert_eq!(parse_resolver(text).map(|address| address.to_string()).as_deref(), Some(shown));
        }
        assert_eq!(parse_resolver("dns.example"), None);
    }
}
