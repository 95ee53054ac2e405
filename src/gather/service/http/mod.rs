//! One HTTP(S) check: its own connection, a full handshake, one request (and its redirects), the answer judged.

mod exchange;
mod hop;
mod judge;

pub(super) use {
    exchange::broken,
    hop::{Hop, location},
};

use super::connect::{connect, resolve};
use super::detail::{Detail, Failure};
use super::outcome::{CheckResult, Outcome, Phase};
use super::search::Needle;
use super::tls::Anchor;
use super::trace::Trace;
use super::watch::Watched;
use crate::config::probes::http::HttpProbe;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsConnector;
use url::Url;

/// How long an address may take before the next one is tried beside it.
pub(super) const STAGGER: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
pub enum HttpCheckError {
    #[error("the method {0:?} is not an HTTP method")]
    Method(String),
    #[error("the header {0:?} has a name or value that HTTP does not allow")]
    Header(String),
}

/// An [`HttpProbe`] made ready: nothing is parsed or read again at check time.
#[derive(Debug)]
pub struct HttpCheck {
    url: Url,
    method: Method,
    headers: HeaderMap,
    status: Vec<u16>,
    contains: Option<(String, Needle)>,
    not_contains: Option<(String, Needle)>,
    max_redirects: u8,
    slow_after: Option<Duration>,
    max_body: u64,
    anchor: Arc<Anchor>,
}

impl HttpCheck {
    pub fn new(probe: &HttpProbe, anchor: Arc<Anchor>) -> Result<HttpCheck, HttpCheckError> {
        let method =
            Method::from_bytes(probe.method.as_bytes()).map_err(|_| HttpCheckError::Method(probe.method.clone()))?;
        let mut headers = HeaderMap::new();
        let agent = concat!("ioc-watch/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        for (name, value) in &probe.headers {
            let bad = || HttpCheckError::Header(name.clone());
            let value = HeaderValue::from_str(value).map_err(|_| bad())?;
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
        }
        // The search reads the body as it is sent.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let needle = |text: &Option<String>| text.as_ref().map(|text| (text.clone(), Needle::new(text)));
        Ok(HttpCheck {
            url: probe.url.clone(),
            method,
            headers,
            status: probe.status.clone(),
            contains: needle(&probe.body_contains),
            not_contains: needle(&probe.body_not_contains),
            max_redirects: probe.max_redirects,
            slow_after: probe.slow_after,
            max_body: probe.max_body,
            anchor,
        })
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, timeout: Duration) -> Outcome {
        let mut trace = Trace::new();
        let checked = tokio::time::timeout(timeout, self.follow(&mut trace)).await;
        let took = trace.started.elapsed();
        trace.phases.add(Phase::Total, took);
        let (result, detail) = match checked {
            Ok(Ok(())) => match self.slow_after {
                Some(limit) if took > limit => (CheckResult::Slow, Detail::Slow { took, limit }),
                _ => (CheckResult::Ok, Detail::Fine),
            },
            Ok(Err(failure)) => (failure.result, failure.detail),
            Err(_) => trace.at_deadline(timeout),
        };
        Outcome {
            phases: trace.phases,
            status: trace.status,
            expiry: trace.expiry,
            address: trace.address,
            redirects: trace.redirects,
            ..Outcome::new(result, detail)
        }
    }

    async fn follow(&self, trace: &mut Trace) -> Result<(), Failure> {
        let mut hop = Hop { url: self.url.clone(), method: self.method.clone(), headers: self.headers.clone() };
        while let Some(location) = self.visit(&hop, trace).await? {
            if trace.redirects == self.max_redirects {
                let detail = Detail::TooManyRedirects { limit: self.max_redirects };
                return Err(Failure::new(CheckResult::Status, detail));
            }
            trace.redirects += 1;
            hop.redirect(location, trace.status);
        }
        Ok(())
    }

    /// One request and its answer. `Some`: the answer redirects there.
    async fn visit(&self, hop: &Hop, trace: &mut Trace) -> Result<Option<Url>, Failure> {
        let own = |cause: &str| Failure::new(CheckResult::Error, Detail::Own { cause: cause.into() });
        let host = hop.url.host().ok_or_else(|| own("the address has no host"))?;
        let port = hop.url.port_or_known_default().ok_or_else(|| own("the address has no port"))?;
        trace.enter(Phase::Resolve);
        let addresses = resolve(&host, port).await?;
        trace.enter(Phase::Connect);
        let (stream, address) = connect(&addresses, STAGGER).await?;
        trace.address = Some(address);
        let _ = stream.set_nodelay(true);
        trace.connected();
        let stream = Watched::new(stream, trace.raw.clone());
        if hop.url.scheme() != "https" {
            return self.exchange(hop, Watched::new(stream, trace.app.clone()), trace).await;
        }
        trace.enter(Phase::Tls);
        let name = match host {
            url::Host::Domain(name) => ServerName::try_from(name.to_string()).map_err(|_| own("not a TLS name"))?,
            url::Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(address)),
            url::Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(address)),
        };
        let (config, recorder) = self.anchor.connection();
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        if let Some(expiry) = recorder.expiry() {
            trace.expiry = Some(trace.expiry.map_or(expiry, |other| expiry.earliest(other)));
        }
        let stream = shaken.map_err(|error| {
            let detail = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(inner) => recorder.explain(inner),
                None => Detail::Handshake { cause: error.to_string() },
            };
            Failure::new(CheckResult::Tls, detail)
        })?;
        self.exchange(hop, Watched::new(stream, trace.app.clone()), trace).await
    }
}
