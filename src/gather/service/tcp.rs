//! A TCP connection and what the other side says: the steps of a dialogue, one after the other.

use super::detail::{Detail, Failure, excerpt};
use super::dial::{borrowed, dial, secure, server_name};
use super::outcome::{CheckResult, Phase};
use super::tls::{Alpn, Anchor, Dress};
use super::trace::Trace;
use super::watch::Watched;
use super::{CompileError, Outcome, Trust};
use crate::config::probes::tcp::{Expect, TcpProbe, Turn};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A [`TcpProbe`] made ready.
#[derive(Debug)]
pub struct TcpCheck {
    probe: TcpProbe,
    /// There if the dialogue has a TLS handshake.
    anchor: Option<Arc<Anchor>>,
}

/// What was read and not yet expected; outlives the dialogue, so that the deadline finds it.
#[derive(Default)]
struct Heard {
    said: Vec<u8>,
    /// It begins with the rest of the line that held the expectation before.
    within_line: bool,
    /// The expectation that waits, as written.
    wanted: Option<String>,
}

/// A dialogue goes on after a TLS handshake in the middle of it; the stream is then another type.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl TcpCheck {
    /// Reads what the probe needs and parses the rest.
    pub async fn new(probe: &TcpProbe, trust: &Trust) -> Result<TcpCheck, CompileError> {
        let secret = probe.dialogue.iter().any(|turn| matches!(turn, Turn::Tls));
        let anchor = if secret { Some(trust.anchor(probe.ca_file.as_deref()).await?) } else { None };
        Ok(TcpCheck { probe: probe.clone(), anchor })
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, timeout: Duration) -> Outcome {
        let mut trace = Trace::new();
        let mut heard = Heard::default();
        let checked = tokio::time::timeout(timeout, self.talk(&mut trace, &mut heard)).await;
        let checked = match checked {
            // Whole lines came, none of them the expected one: the wrong service, not a silent one.
            Err(_) if heard.has_line() => Ok(Err(heard.unexpected())),
            checked => checked,
        };
        trace.outcome(checked, timeout, self.probe.slow_after)
    }

    async fn talk(&self, trace: &mut Trace, heard: &mut Heard) -> Result<(), Failure> {
        let host = borrowed(&self.probe.address.host);
        let stream = dial(&host, self.probe.address.port, self.probe.ip, trace).await?;
        let mut stream: Box<dyn Stream> = Box::new(Watched::new(stream, trace.app.clone()));
        if !self.probe.dialogue.is_empty() {
            trace.enter(Phase::Processing);
        }
        for turn in &self.probe.dialogue {
            match turn {
                Turn::Send(text) => {
                    let sent = async {
                        stream.write_all(text.expose().as_bytes()).await?;
                        stream.flush().await
                    };
                    sent.await.map_err(|error| broken(&error))?;
                }
                Turn::Expect(expect) => self.listen(&mut stream, expect, heard).await?,
                Turn::Tls => {
                    let own = || Failure::new(CheckResult::Error, Detail::Own { cause: "no CAs".into() });
                    let anchor = self.anchor.as_ref().ok_or_else(own)?;
                    let dress = Dress { alpn: Alpn::None, identity: None };
                    // What came before the handshake is no part of what is said after it.
                    heard.said.clear();
                    heard.within_line = false;
                    let secured = secure(stream, server_name(&host)?, anchor, &dress, trace).await?;
                    trace.app = super::watch::Arrivals::new(trace.started);
                    stream = Box::new(Watched::new(secured, trace.app.clone()));
                    trace.enter(Phase::Processing);
                }
            }
        }
        trace.enter(Phase::Total);
        Ok(())
    }

    async fn listen(&self, stream: &mut Box<dyn Stream>, expect: &Expect, heard: &mut Heard) -> Result<(), Failure> {
        heard.wanted = Some(expect.as_str().to_owned());
        let max = usize::try_from(self.probe.max_bytes).unwrap_or(usize::MAX);
        let mut chunk = [0; 4096];
        loop {
            if let Some(end) = expect.find(&heard.said) {
                // The next expectation looks at what comes after this one.
                heard.within_line = heard.said.get(end.wrapping_sub(1)) != Some(&b'\n');
                heard.said.drain(..end);
                heard.wanted = None;
                return Ok(());
            }
            let room = max.saturating_sub(heard.said.len()).min(chunk.len());
            if room == 0 {
                return Err(heard.unexpected());
            }
            match stream.read(&mut chunk[..room]).await.map_err(|error| broken(&error))? {
                0 if heard.said.is_empty() => {
                    return Err(Failure::new(CheckResult::Error, Detail::ClosedEarly { phase: Phase::Processing }));
                }
                0 => return Err(heard.unexpected()),
                n => heard.said.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

impl Heard {
    /// Whether a whole line was said since the expectation before was met.
    fn has_line(&self) -> bool {
        let ends = self.said.iter().filter(|byte| **byte == b'\n').count();
        ends > usize::from(self.within_line)
    }

    fn unexpected(&self) -> Failure {
        let wanted = self.wanted.clone().unwrap_or_default();
        Failure::new(CheckResult::Content, Detail::Banner { wanted, said: excerpt(&self.said) })
    }
}

fn broken(error: &io::Error) -> Failure {
    let detail = match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Detail::Reset { phase: Phase::Processing },
        _ => Detail::Lost { cause: error.to_string() },
    };
    Failure::new(CheckResult::Error, detail)
}
