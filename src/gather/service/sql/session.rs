//! One conversation with a database server: bytes out and in, bounded, and where it stands for when the deadline comes.

use super::super::detail::{Detail, Failure};
use super::super::outcome::{CheckResult, Phase};
use super::super::trace::Trace;
use super::trouble::{Stage, Trouble};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// Bytes of one conversation that are read, and of one message: a row of a monitoring query is small.
const ANSWER_MAX: usize = 1 << 20;
const MESSAGE_MAX: usize = 256 << 10;

/// A connection, encrypted or not.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Where a check is; outlives the check's future, so that the deadline finds it.
pub(super) struct Talk {
    pub trace: Trace,
    pub stage: Stage,
    /// When our last message went out, since the start of the check.
    sent: Duration,
}

impl Talk {
    pub fn new() -> Talk {
        Talk { trace: Trace::new(), stage: Stage::Login, sent: Duration::ZERO }
    }

    /// Our message goes out now: silence counts from here.
    pub fn note_sent(&mut self) {
        self.sent = self.trace.started.elapsed();
    }

    /// Hang or timeout: see [`CheckResult`].
    pub fn at_deadline(&self, limit: Duration) -> (CheckResult, Detail) {
        let phase = self.trace.phase;
        let last = match phase {
            Phase::Resolve | Phase::Connect => return self.trace.at_deadline(limit),
            Phase::Tls => self.trace.raw.last(),
            _ => self.trace.app.last(),
        };
        let heard = last.filter(|last| *last > self.sent);
        if heard.is_some_and(|last| self.trace.started.elapsed().saturating_sub(last) < limit / 2) {
            let phase = if phase == Phase::Tls { phase } else { Phase::Transfer };
            return (CheckResult::Timeout, Detail::Unfinished { phase, limit });
        }
        let detail = match phase {
            Phase::Tls => Detail::Silent { phase, limit },
            _ => Detail::Sql(Trouble::Silent { stage: self.stage, limit }),
        };
        (CheckResult::Hang, detail)
    }
}

/// The conversation over one connection.
pub(super) struct Session<'t> {
    stream: BufReader<Box<dyn Duplex>>,
    received: usize,
    pub talk: &'t mut Talk,
}

impl<'t> Session<'t> {
    pub fn new(stream: Box<dyn Duplex>, talk: &'t mut Talk) -> Session<'t> {
        Session { stream: BufReader::with_capacity(4 << 10, stream), received: 0, talk }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.talk.note_sent();
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| broken(&error, self.talk.trace.phase))
    }

    /// Says good-bye if that can be done without waiting.
    pub fn farewell(&mut self, bytes: &[u8]) {
        use futures_util::FutureExt;
        let _ = self.send(bytes).now_or_never();
    }

    /// Exactly `length` bytes.
    pub async fn read(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        self.received = self.received.saturating_add(length);
        if length > MESSAGE_MAX || self.received > ANSWER_MAX {
            let limit = if length > MESSAGE_MAX { MESSAGE_MAX } else { ANSWER_MAX };
            return Err(fail(CheckResult::Error, Trouble::TooMuch { limit }));
        }
        let mut bytes = vec![0; length];
        let read = self.stream.read_exact(&mut bytes).await;
        read.map_err(|error| broken(&error, self.talk.trace.phase))?;
        Ok(bytes)
    }

    /// The query of `stage` goes out next.
    pub fn begin(&mut self, stage: Stage) {
        self.talk.stage = stage;
        self.talk.trace.enter(Phase::Processing);
    }

    /// The first message of the query's answer is here.
    pub fn answered(&mut self) {
        if self.talk.trace.phase == Phase::Processing {
            self.talk.trace.enter_at(Phase::Transfer, Instant::now());
        }
    }
}

pub(super) fn fail(result: CheckResult, trouble: Trouble) -> Failure {
    Failure::new(result, Detail::Sql(trouble))
}

/// What an error of the connection means in `phase`.
pub(super) fn broken(error: &io::Error, phase: Phase) -> Failure {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return Failure::new(CheckResult::Tls, Detail::Handshake { cause: tls.to_string() });
    }
    let detail = match error.kind() {
        io::ErrorKind::UnexpectedEof => Detail::ClosedEarly { phase },
        _ => Detail::Reset { phase },
    };
    Failure::new(CheckResult::Error, detail)
}

/// Takes bytes from the front of a message; `None` when it is too short.
pub(super) struct Cursor<'b>(pub &'b [u8]);

impl<'b> Cursor<'b> {
    pub fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// Up to the next NUL, which is taken too.
    pub fn text(&mut self) -> Option<&'b [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }
}
