//! Probe `tcp`: a TCP connection, and what the other side must say.

use super::address::{self, Address, Family};
use crate::config::Secret;
use crate::config::decode::{self, Context, Section};
use crate::config::node::Node;
use std::path::PathBuf;
use std::time::Duration;

/// A TCP connection, perhaps with TLS, and what the other side must say.
#[derive(Debug, Clone)]
pub struct TcpProbe {
    pub address: Address,
    /// Default: any.
    pub ip: Family,
    /// What is said and heard, in order. Empty: the connection is enough.
    pub dialogue: Vec<Turn>,
    /// What is read at most while looking for one expected text. Default 4 KiB.
    pub max_bytes: u64,
    /// Slower than this is `slow` (and still up).
    pub slow_after: Option<Duration>,
    /// PEM file of the CAs to trust instead of the system's; with TLS only.
    pub ca_file: Option<PathBuf>,
}

/// One turn of a dialogue.
#[derive(Debug, Clone)]
pub enum Turn {
    /// It may hold a password.
    Send(Secret),
    Expect(Expect),
    /// A TLS handshake: at the beginning, or where the protocol changes over to it (STARTTLS).
    Tls,
}

/// What the other side must say.
#[derive(Debug, Clone)]
pub enum Expect {
    /// Contains this text.
    Text(String),
    /// Has a match; bytes, since banners are of any encoding.
    Pattern(regex::bytes::Regex),
}

impl Expect {
    /// Where it ends in what was said, if it is there.
    pub fn find(&self, said: &[u8]) -> Option<usize> {
        match self {
            Expect::Text(text) => memchr::memmem::find(said, text.as_bytes()).map(|at| at + text.len()),
            Expect::Pattern(pattern) => pattern.find(said).map(|found| found.end()),
        }
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        match self {
            Expect::Text(text) => text,
            Expect::Pattern(pattern) => pattern.as_str(),
        }
    }
}

/// In bytes. A banner is a line or two.
const DEFAULT_MAX_BYTES: u64 = 4 << 10;
/// What was read is searched again after each read.
const MAX_BYTES: u64 = 1 << 20;
/// Of a compiled pattern, in bytes.
const MAX_PATTERN: usize = 1 << 20;

impl TcpProbe {
    /// A connection, with the defaults of everything else.
    pub fn to(address: Address) -> TcpProbe {
        TcpProbe {
            address,
            ip: Family::Any,
            dialogue: Vec::new(),
            max_bytes: DEFAULT_MAX_BYTES,
            slow_after: None,
            ca_file: None,
        }
    }

    pub(in crate::config) fn decode(cx: &mut Context<'_>, node: &Node, timeout: Duration) -> Option<TcpProbe> {
        if node.as_text().is_some() {
            return address::address(cx, node).map(TcpProbe::to);
        }
        const KEYS: &[&str] =
            &["address", "ip", "send", "expect", "dialogue", "max_bytes", "slow_after", "tls", "ca_file"];
        let section = Section::open(cx, node, "tcp", KEYS, &[])?;
        let address = section.required(cx, "address", address::address);
        let host = address.as_ref().map(|address| &address.host);
        let ip = section.optional(cx, "ip", address::family(host)).unwrap_or_default();
        let mut dialogue = Vec::new();
        if section.optional(cx, "tls", decode::boolean) == Some(true) {
            dialogue.push(Turn::Tls);
        }
        dialogue.extend(section.optional(cx, "send", send).map(Turn::Send));
        dialogue.extend(section.optional(cx, "expect", expect).map(Turn::Expect));
        if let Some(node) = section.get("dialogue")
            && (section.get("send").is_some() || section.get("expect").is_some())
        {
            cx.error(node.place, "dialogue: send and expect stand inside it, not beside it");
        }
        dialogue.extend(section.optional(cx, "dialogue", decode::list(turn)).unwrap_or_default());
        if dialogue.iter().filter(|turn| matches!(turn, Turn::Tls)).count() > 1 {
            cx.error(section.place, "tcp: more than one TLS handshake");
        }
        let max_bytes = section.optional(cx, "max_bytes", decode::size(1..=MAX_BYTES)).unwrap_or(DEFAULT_MAX_BYTES);
        let slow_after = section.optional(cx, "slow_after", super::slow_after(timeout));
        let ca_file = section.optional(cx, "ca_file", decode::ca_file);
        if let (Some(node), false) = (section.get("ca_file"), dialogue.iter().any(|turn| matches!(turn, Turn::Tls))) {
            cx.error(node.place, "ca_file: only with TLS (tls: true)");
        }
        let listens = section.get("expect").is_some() || section.get("dialogue").is_some();
        if let (Some(node), false) = (section.get("max_bytes"), listens) {
            cx.error(node.place, "max_bytes: only with expect: nothing is read otherwise");
        }
        Some(TcpProbe { address: address?, ip, dialogue, max_bytes, slow_after, ca_file })
    }
}

/// One turn: `{send: …}`, `{expect: …}` or `{tls: true}`.
fn turn(cx: &mut Context<'_>, node: &Node) -> Option<Turn> {
    let section = Section::open(cx, node, "dialogue", &["send", "expect", "tls"], &[])?;
    let given = ["send", "expect", "tls"].into_iter().filter(|key| section.get(key).is_some()).count();
    if given != 1 {
        cx.error(section.place, "dialogue: each step is exactly one of send, expect, tls");
        return None;
    }
    let turn = section.optional(cx, "send", send).map(Turn::Send);
    let turn = turn.or_else(|| section.optional(cx, "expect", expect).map(Turn::Expect));
    turn.or_else(|| section.optional(cx, "tls", decode::choice(&[("true", ())])).map(|()| Turn::Tls))
}

/// Text of any kind, also a line end alone.
fn send(cx: &mut Context<'_>, node: &Node) -> Option<Secret> {
    match node.as_text() {
        Some(text) if !text.is_empty() => Some(Secret::new(text)),
        _ => {
            cx.expected(node, "text (line ends as \"\\r\\n\" in double quotes)");
            None
        }
    }
}

fn expect(cx: &mut Context<'_>, node: &Node) -> Option<Expect> {
    if node.as_mapping().is_none() {
        return decode::text(cx, node).map(Expect::Text);
    }
    let section = Section::open(cx, node, "expect", &["regex"], &[])?;
    section.required(cx, "regex", |cx, node| {
        let text = decode::text(cx, node)?;
        match regex::bytes::RegexBuilder::new(&text).size_limit(MAX_PATTERN).build() {
            Ok(pattern) => Some(Expect::Pattern(pattern)),
            Err(error) => {
                // The last line says what is wrong; those before draw the pattern.
                let said = error.to_string();
                let said = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
                cx.wrong(node, format!("found {}, not a regular expression: {said}", node.found()));
                None
            }
        }
    })
}
