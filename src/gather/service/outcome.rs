//! What a check found: its result, where the time went, what the certificates say.
//!
//! The words for people stand in `detail.rs`; what becomes of an outcome stands in `record.rs`.

use super::detail::Detail;
use crate::attribution::State;
use jiff::Timestamp;
use std::net::SocketAddr;
use std::time::Duration;

/// The result of one check; [`CheckResult::as_str`] is the metric's label.
///
/// *Hang* and *timeout* both mean that the deadline came first. Hang: the connection stood and then the other side was
/// silent: it had sent nothing since our last message (ClientHello, request), or nothing for the last half of the
/// timeout. Timeout: the connection was not made, or bytes were still dripping in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckResult {
    Ok,
    /// As expected, but later than `slow_after`. Still up.
    Slow,
    Hang,
    /// The name has no address, or no answer came from the resolver before the deadline.
    Dns,
    Refused,
    /// Untrusted, expired, wrong name, or the handshake failed.
    Tls,
    /// Another status than configured; a redirect that cannot be followed.
    Status,
    /// The body lacks a text or has a forbidden one.
    Content,
    Timeout,
    /// Anything else: reset, closed early, unreachable, not HTTP.
    Error,
}

impl CheckResult {
    pub const ALL: [CheckResult; 10] = [
        CheckResult::Ok,
        CheckResult::Slow,
        CheckResult::Hang,
        CheckResult::Dns,
        CheckResult::Refused,
        CheckResult::Tls,
        CheckResult::Status,
        CheckResult::Content,
        CheckResult::Timeout,
        CheckResult::Error,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            CheckResult::Ok => "ok",
            CheckResult::Slow => "slow",
            CheckResult::Hang => "hang",
            CheckResult::Dns => "dns",
            CheckResult::Refused => "refused",
            CheckResult::Tls => "tls",
            CheckResult::Status => "status",
            CheckResult::Content => "content",
            CheckResult::Timeout => "timeout",
            CheckResult::Error => "error",
        }
    }

    pub fn is_up(self) -> bool {
        matches!(self, CheckResult::Ok | CheckResult::Slow)
    }
}

/// A part of a check, in order, as blackbox_exporter cuts it. [`Phase::as_str`] is the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Name to addresses.
    Resolve,
    /// To the established TCP connection.
    Connect,
    /// The TLS handshake.
    Tls,
    /// From the usable connection to the first byte of the answer.
    Processing,
    /// From the first byte of the answer to its end.
    Transfer,
    /// The whole check.
    Total,
}

impl Phase {
    pub const ALL: [Phase; 6] =
        [Phase::Resolve, Phase::Connect, Phase::Tls, Phase::Processing, Phase::Transfer, Phase::Total];

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Resolve => "resolve",
            Phase::Connect => "connect",
            Phase::Tls => "tls",
            Phase::Processing => "processing",
            Phase::Transfer => "transfer",
            Phase::Total => "total",
        }
    }
}

/// The duration of each phase that came to its end, summed over redirects. `Total` is always there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases([Option<Duration>; 6]);

impl Phases {
    pub fn get(&self, phase: Phase) -> Option<Duration> {
        self.0[phase as usize]
    }

    pub(super) fn add(&mut self, phase: Phase, length: Duration) {
        let cell = &mut self.0[phase as usize];
        *cell = Some(cell.unwrap_or_default() + length);
    }
}

/// When the certificates that the server showed expire; over redirects, the earliest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    pub leaf: Timestamp,
    /// The earliest of the leaf and the certificates sent with it.
    pub chain: Timestamp,
}

impl Expiry {
    pub(super) fn earliest(self, other: Expiry) -> Expiry {
        Expiry { leaf: self.leaf.min(other.leaf), chain: self.chain.min(other.chain) }
    }
}

/// One step of a journey that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub name: String,
    /// From its request to the end of its answer, captures included.
    pub took: Duration,
    pub ok: bool,
    /// A step of `finally`, made after the others.
    pub cleans_up: bool,
}

/// Everything a check found.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub result: CheckResult,
    pub phases: Phases,
    /// Of the last answer.
    pub status: Option<u16>,
    /// Also there when the certificate was refused.
    pub expiry: Option<Expiry>,
    /// The address last connected to.
    pub address: Option<SocketAddr>,
    /// Redirects followed.
    pub redirects: u8,
    /// The steps of a journey, in order, up to the one that failed.
    pub steps: Vec<Step>,
    /// The number that a database query gave.
    pub value: Option<f64>,
    /// The time of the newest row of a database.
    pub newest: Option<Timestamp>,
    pub detail: Detail,
}

impl Outcome {
    /// A result and its reason; everything else is empty.
    pub(super) fn new(result: CheckResult, detail: Detail) -> Outcome {
        Outcome {
            result,
            phases: Phases::default(),
            status: None,
            expiry: None,
            address: None,
            redirects: 0,
            steps: Vec::new(),
            value: None,
            newest: None,
            detail,
        }
    }

    pub fn state(&self) -> State {
        if self.result.is_up() { State::Up } else { State::Down }
    }
}
