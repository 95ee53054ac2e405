//! One HTTP(S) check: its own connection, a full handshake, one request (and its redirects), the answer judged.

mod exchange;
mod hop;
mod judge;
mod proxy;

pub(super) use {
    exchange::broken,
    hop::{Hop, location},
};

use super::detail::{Detail, Failure};
use super::dial::{borrowed, dial, secure, server_name};
use super::outcome::{CheckResult, Outcome, Phase};
use super::search::Needle;
use super::tls::{Alpn, Anchor, Dress};
use super::trace::Trace;
use super::watch::Watched;
use super::{CompileError, Trust, tls};
use crate::config::probes::address::Family;
use crate::config::probes::http::{HttpProbe, Proxy, Version};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

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
    json_path: Vec<(String, String)>,
    body: Bytes,
    version: Version,
    ip: Family,
    proxy: Option<Proxy>,
    dress: Dress,
    anchor: Arc<Anchor>,
}

impl HttpCheck {
    /// Reads the certificates that it needs.
    pub async fn compile(probe: &HttpProbe, trust: &Trust) -> Result<HttpCheck, CompileError> {
        let anchor = trust.anchor(probe.ca_file.as_deref()).await?;
        let mut check = HttpCheck::new(probe, anchor)?;
        if let Some((cert_file, key_file)) = &probe.identity {
            check.dress.identity = Some(tls::identity(cert_file, key_file).await?);
        }
        Ok(check)
    }

    pub fn new(probe: &HttpProbe, anchor: Arc<Anchor>) -> Result<HttpCheck, HttpCheckError> {
        let method =
            Method::from_bytes(probe.method.as_bytes()).map_err(|_| HttpCheckError::Method(probe.method.clone()))?;
        let mut headers = HeaderMap::new();
        let agent = concat!("ioc-watch/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some((_, content_type)) = &probe.body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        for (name, value) in &probe.headers {
            let bad = || HttpCheckError::Header(name.clone());
            let value = HeaderValue::from_str(value).map_err(|_| bad())?;
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
        }
        // The search reads the body as it is sent.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let alpn = match probe.version {
            Version::Http1 => Alpn::Http1,
            Version::Http2 => Alpn::Http2,
            Version::Either => Alpn::Either,
        };
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
            json_path: probe.json_path.clone(),
            body: probe.body.as_ref().map(|(body, _)| Bytes::from(body.clone())).unwrap_or_default(),
            version: probe.version,
            ip: probe.ip,
            proxy: probe.proxy.clone(),
            dress: Dress { alpn, identity: None },
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
        let stream = match &self.proxy {
            None => dial(&host, port, self.ip, trace).await?,
            Some(proxy) => {
                let stream = dial(&borrowed(&proxy.address.host), proxy.address.port, self.ip, trace).await?;
                proxy::tunnel(stream, proxy, &host, port).await?
            }
        };
        if hop.url.scheme() != "https" {
            let is_http2 = self.version == Version::Http2;
            return self.exchange(hop, Watched::new(stream, trace.app.clone()), is_http2, trace).await;
        }
        let stream = secure(stream, server_name(&host)?, &self.anchor, &self.dress, trace).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if self.version == Version::Http2 && !is_http2 {
            return Err(Failure::new(CheckResult::Error, Detail::NoHttp2));
        }
        self.exchange(hop, Watched::new(stream, trace.app.clone()), is_http2, trace).await
    }
}
