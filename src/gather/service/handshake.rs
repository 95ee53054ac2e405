//! A TLS handshake and nothing after it: who shows which certificates, until when, in which version of the protocol.

use super::detail::{Detail, Failure};
use super::dial::{borrowed, dial, secure, server_name};
use super::outcome::{CheckResult, Phase};
use super::tls::{Alpn, Anchor, Dress};
use super::trace::Trace;
use super::{CompileError, Outcome, Trust};
use crate::config::probes::tls::{Least, TlsProbe};
use rustls::ProtocolVersion;
use std::sync::Arc;
use std::time::Duration;

/// A [`TlsProbe`] made ready.
#[derive(Debug)]
pub struct TlsCheck {
    probe: TlsProbe,
    anchor: Arc<Anchor>,
}

impl TlsCheck {
    /// Reads what the probe needs and parses the rest.
    pub async fn new(probe: &TlsProbe, trust: &Trust) -> Result<TlsCheck, CompileError> {
        let anchor = trust.anchor(probe.ca_file.as_deref()).await?;
        Ok(TlsCheck { probe: probe.clone(), anchor })
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, timeout: Duration) -> Outcome {
        let mut trace = Trace::new();
        let checked = tokio::time::timeout(timeout, self.shake(&mut trace)).await;
        trace.outcome(checked, timeout, self.probe.slow_after)
    }

    async fn shake(&self, trace: &mut Trace) -> Result<(), Failure> {
        let host = borrowed(&self.probe.address.host);
        let name = match &self.probe.server_name {
            Some(name) => name.clone(),
            None => server_name(&host)?,
        };
        let stream = dial(&host, self.probe.address.port, self.probe.ip, trace).await?;
        let dress = Dress { alpn: Alpn::None, identity: None };
        let stream = secure(stream, name, &self.anchor, &dress, trace).await?;
        trace.enter(Phase::Total);
        let version = stream.get_ref().1.protocol_version();
        if self.probe.min_version == Least::Tls13 && version != Some(ProtocolVersion::TLSv1_3) {
            return Err(Failure::new(CheckResult::Tls, Detail::OldProtocol { least: Least::Tls13.as_str() }));
        }
        Ok(())
    }
}
