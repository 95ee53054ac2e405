//! Where a check is and what it has seen, kept outside the check's future so that the deadline finds it. Shared by the
//! protocols; what a protocol does stands in its own file.

use super::detail::{Detail, Failure};
use super::outcome::{CheckResult, Expiry, Outcome, Phase, Phases};
use super::watch::Arrivals;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::error::Elapsed;

/// Where a check is and what it has seen; outlives the check's future, so that the deadline finds it.
pub(super) struct Trace {
    pub started: Instant,
    pub phase: Phase,
    pub entered: Instant,
    pub phases: Phases,
    /// When the connection stood, since `started`.
    pub connected: Duration,
    /// Bytes from the network on the present connection.
    pub raw: Arc<Arrivals>,
    /// Bytes of HTTP on the present connection.
    pub app: Arc<Arrivals>,
    pub status: Option<u16>,
    pub expiry: Option<Expiry>,
    pub address: Option<SocketAddr>,
    pub redirects: u8,
}

impl Trace {
    pub fn new() -> Trace {
        let started = Instant::now();
        Trace {
            started,
            phase: Phase::Total,
            entered: started,
            phases: Phases::default(),
            connected: Duration::ZERO,
            raw: Arrivals::new(started),
            app: Arrivals::new(started),
            status: None,
            expiry: None,
            address: None,
            redirects: 0,
        }
    }

    /// Ends the present phase and begins `next`; `Total` stands for none.
    pub fn enter(&mut self, next: Phase) {
        self.enter_at(next, Instant::now());
    }

    pub fn enter_at(&mut self, next: Phase, now: Instant) {
        // An answer that redirects is not read to its end, as blackbox_exporter does not count it either.
        let redirected = self.phase == Phase::Transfer && next == Phase::Resolve;
        if self.phase != Phase::Total && !redirected {
            self.phases.add(self.phase, now.saturating_duration_since(self.entered));
        }
        self.phase = next;
        self.entered = now;
    }

    pub fn connected(&mut self) {
        self.connected = self.started.elapsed();
        self.raw = Arrivals::new(self.started);
        self.app = Arrivals::new(self.started);
    }

    /// The head of the answer is read: its first byte had ended the processing.
    pub fn answered(&mut self) {
        let first = self.app.first().map_or_else(Instant::now, |first| self.started + first);
        self.enter_at(Phase::Transfer, first);
    }

    /// What the check found, once it has ended or its deadline of `limit` has come.
    pub fn outcome(
        mut self,
        ended: Result<Result<(), Failure>, Elapsed>,
        limit: Duration,
        slow_after: Option<Duration>,
    ) -> Outcome {
        let took = self.started.elapsed();
        self.phases.add(Phase::Total, took);
        let (result, detail) = match ended {
            Ok(Ok(())) => match slow_after {
                Some(limit) if took > limit => (CheckResult::Slow, Detail::Slow { took, limit }),
                _ => (CheckResult::Ok, Detail::Fine),
            },
            Ok(Err(failure)) => (failure.result, failure.detail),
            Err(_) => self.at_deadline(limit),
        };
        Outcome {
            phases: self.phases,
            status: self.status,
            expiry: self.expiry,
            address: self.address,
            redirects: self.redirects,
            ..Outcome::new(result, detail)
        }
    }

    /// Hang or timeout: see [`CheckResult`].
    pub fn at_deadline(&self, limit: Duration) -> (CheckResult, Detail) {
        let unfinished = Detail::Unfinished { phase: self.phase, limit };
        let phase = match self.phase {
            Phase::Resolve => return (CheckResult::Dns, unfinished),
            Phase::Connect => return (CheckResult::Timeout, unfinished),
            // Bytes of an answer whose head is not complete yet.
            Phase::Processing if self.app.first().is_some() => Phase::Transfer,
            phase => phase,
        };
        let answer = if phase == Phase::Tls { self.raw.first() } else { self.app.first() };
        let last = self.raw.last().unwrap_or(self.connected);
        let silent = answer.is_none() || self.started.elapsed().saturating_sub(last) >= limit / 2;
        if silent {
            (CheckResult::Hang, Detail::Silent { phase, limit })
        } else {
            (CheckResult::Timeout, Detail::Unfinished { phase, limit })
        }
    }
}
