//! One HTTP(S) check: its own connection, a full handshake, one request (and its redirects), the answer judged.

use super::connect::{connect, resolve};
use super::detail::{Detail, Failure};
use super::outcome::{CheckResult, Expiry, Outcome, Phase, Phases};
use super::search::Needle;
use super::tls::Anchor;
use super::watch::{Arrivals, Watched};
use crate::config::probes::http::HttpProbe;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use url::Url;

/// How long an address may take before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

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

    async fn exchange<S>(&self, hop: &Hop, stream: S, trace: &mut Trace) -> Result<Option<Url>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        trace.enter(Phase::Processing);
        let request = hop.request()?;
        let broken = |phase: Phase| move |error: hyper::Error| broken(&error, phase);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken(Phase::Processing))?;
        let mut connection = std::pin::pin!(connection);
        let mut alive = true;
        // The connection works only while it is polled; it is polled beside whatever waits for it.
        macro_rules! beside {
            ($future:expr) => {{
                let mut future = std::pin::pin!($future);
                loop {
                    tokio::select! {
                        biased;
                        done = &mut future => break done,
                        _ = &mut connection, if alive => alive = false,
                    }
                }
            }};
        }
        let mut response = beside!(sender.send_request(request)).map_err(broken(Phase::Processing))?;
        trace.answered();
        let code = response.status().as_u16();
        trace.status = Some(code);
        if !self.status.contains(&code) {
            if self.max_redirects > 0 && matches!(code, 301 | 302 | 303 | 307 | 308) {
                let bad = || Failure::new(CheckResult::Status, Detail::BadRedirect { code });
                return location(&hop.url, &response).ok_or_else(bad).map(Some);
            }
            return Err(Failure::new(CheckResult::Status, Detail::Status { code }));
        }
        let mut scan = Scan::default();
        while scan.bytes < self.max_body {
            let Some(frame) = beside!(response.body_mut().frame()) else { break };
            let frame = frame.map_err(broken(Phase::Transfer))?;
            if let Some(data) = frame.data_ref() {
                scan.read(self, data);
            }
        }
        trace.enter(Phase::Total);
        scan.judge(self).map(|()| None)
    }
}

/// One request of a check.
struct Hop {
    url: Url,
    method: Method,
    headers: HeaderMap,
}

impl Hop {
    fn request(&self) -> Result<Request<Empty<Bytes>>, Failure> {
        let own = |cause: String| Failure::new(CheckResult::Error, Detail::Own { cause });
        let target = match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_string(),
        };
        let target = Uri::try_from(target).map_err(|error| own(error.to_string()))?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target;
        *request.headers_mut() = self.headers.clone();
        if !self.headers.contains_key(header::HOST) {
            let host = self.url.host_str().unwrap_or_default();
            let host = match self.url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_string(),
            };
            let host = HeaderValue::try_from(host).map_err(|error| own(error.to_string()))?;
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }

    /// Goes on to `location` as browsers do; what was meant for one origin is not told to another.
    fn redirect(&mut self, location: Url, status: Option<u16>) {
        let see_other = status == Some(303) && self.method != Method::HEAD;
        let was_post = matches!(status, Some(301 | 302)) && self.method == Method::POST;
        if see_other || was_post {
            self.method = Method::GET;
        }
        if location.origin() != self.url.origin() {
            for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::HOST] {
                self.headers.remove(name);
            }
        }
        self.url = location;
    }
}

fn location(base: &Url, response: &Response<Incoming>) -> Option<Url> {
    let text = std::str::from_utf8(response.headers().get(header::LOCATION)?.as_bytes()).ok()?;
    let url = base.join(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// What is known of a body so far.
#[derive(Default)]
struct Scan {
    bytes: u64,
    contains: usize,
    not_contains: usize,
}

impl Scan {
    fn read(&mut self, check: &HttpCheck, data: &[u8]) {
        // The bound holds exactly, whatever the size of the last chunk.
        let room = usize::try_from(check.max_body - self.bytes).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(room)];
        self.bytes += data.len() as u64;
        if let Some((_, needle)) = &check.contains {
            self.contains = needle.advance(self.contains, data);
        }
        if let Some((_, needle)) = &check.not_contains {
            self.not_contains = needle.advance(self.not_contains, data);
        }
    }

    fn judge(&self, check: &HttpCheck) -> Result<(), Failure> {
        if let Some((text, needle)) = &check.not_contains
            && needle.found(self.not_contains)
        {
            return Err(Failure::new(CheckResult::Content, Detail::Forbidden { text: text.clone() }));
        }
        if let Some((text, needle)) = &check.contains
            && !needle.found(self.contains)
        {
            let detail = Detail::Missing { text: text.clone(), searched: self.bytes };
            return Err(Failure::new(CheckResult::Content, detail));
        }
        Ok(())
    }
}

/// What an HTTP error means in `phase`.
fn broken(error: &hyper::Error, phase: Phase) -> Failure {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Failure::new(CheckResult::Tls, Detail::Handshake { cause: tls.to_string() });
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            if let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return Failure::new(CheckResult::Tls, Detail::Handshake { cause: tls.to_string() });
            }
            if matches!(io.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe) {
                return Failure::new(CheckResult::Error, Detail::Reset { phase });
            }
        }
        source = cause.source();
    }
    let detail = if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Detail::ClosedEarly { phase }
    } else {
        Detail::NotHttp { cause: error.to_string() }
    };
    Failure::new(CheckResult::Error, detail)
}

/// Where a check is and what it has seen; outlives the check's future, so that the deadline finds it.
struct Trace {
    started: Instant,
    phase: Phase,
    entered: Instant,
    phases: Phases,
    /// When the connection stood, since `started`.
    connected: Duration,
    /// Bytes from the network on the present connection.
    raw: Arc<Arrivals>,
    /// Bytes of HTTP on the present connection.
    app: Arc<Arrivals>,
    status: Option<u16>,
    expiry: Option<Expiry>,
    address: Option<SocketAddr>,
    redirects: u8,
}

impl Trace {
    fn new() -> Trace {
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
    fn enter(&mut self, next: Phase) {
        self.enter_at(next, Instant::now());
    }

    fn enter_at(&mut self, next: Phase, now: Instant) {
        // An answer that redirects is not read to its end, as blackbox_exporter does not count it either.
        let redirected = self.phase == Phase::Transfer && next == Phase::Resolve;
        if self.phase != Phase::Total && !redirected {
            self.phases.add(self.phase, now.saturating_duration_since(self.entered));
        }
        self.phase = next;
        self.entered = now;
    }

    fn connected(&mut self) {
        self.connected = self.started.elapsed();
        self.raw = Arrivals::new(self.started);
        self.app = Arrivals::new(self.started);
    }

    /// The head of the answer is read: its first byte had ended the processing.
    fn answered(&mut self) {
        let first = self.app.first().map_or_else(Instant::now, |first| self.started + first);
        self.enter_at(Phase::Transfer, first);
    }

    /// Hang or timeout: see [`CheckResult`].
    fn at_deadline(&self, limit: Duration) -> (CheckResult, Detail) {
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
