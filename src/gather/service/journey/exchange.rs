//! One step on the wire: a connection of its own for each request, redirects followed as browsers do.

use super::super::detail::{Detail, Failure};
use super::super::dial::{dial, secure, server_name};
use super::super::http::{broken, location};
use super::super::outcome::{CheckResult, Phase};
use super::super::tls::{Alpn, Dress};
use super::super::trace::Trace;
use super::super::watch::Watched;
use super::request::{Filled, own};
use super::{JourneyCheck, Run};
use crate::config::probes::address::Family;
use crate::config::probes::journey::Step;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper_util::rt::TokioIo;
use std::time::SystemTime;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

/// What came back.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// As far as it was read.
    pub body: Vec<u8>,
    /// Redirects to there.
    location: Option<Url>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl JourneyCheck {
    /// Sends a step, judges its answer, takes its captures.
    pub(super) async fn step(&self, step: &Step, run: &mut Run, trace: &mut Trace) -> Result<(), Failure> {
        let mut filled = self.fill(step, run)?;
        loop {
            let answer = self.request(step, &filled, run, trace).await?;
            run.at = Some(filled.hop.url.clone());
            let Some(location) = answer.location.clone() else {
                trace.enter(Phase::Total);
                return super::answer::judge(step, &answer, run);
            };
            if trace.redirects == step.max_redirects {
                let detail = Detail::TooManyRedirects { limit: step.max_redirects };
                return Err(Failure::new(CheckResult::Status, detail));
            }
            trace.redirects += 1;
            self.redirect(&mut filled, location, &answer)?;
        }
    }

    /// What the journey carries goes to the origins that it names, and to no other.
    fn redirect(&self, filled: &mut Filled, location: Url, answer: &Answer) -> Result<(), Failure> {
        let method = filled.hop.method.clone();
        let is_known = self.is_known(&location);
        filled.hop.redirect(location, Some(answer.status));
        if filled.hop.method != method {
            filled.body = Bytes::new();
            filled.hop.headers.remove(header::CONTENT_TYPE);
            filled.hop.headers.remove(header::CONTENT_LENGTH);
        }
        if !is_known {
            if !filled.body.is_empty() {
                return Err(Failure::new(CheckResult::Status, Detail::ForeignAddress));
            }
            filled.hop.headers = filled.plain.clone();
        }
        Ok(())
    }

    async fn request(&self, step: &Step, filled: &Filled, run: &mut Run, trace: &mut Trace) -> Result<Answer, Failure> {
        let url = &filled.hop.url;
        let mut request = filled.hop.request(Full::new(filled.body.clone()))?;
        if let Some(cookies) = run.jar.header(url, SystemTime::now()) {
            let mut cookies = HeaderValue::from_str(&cookies).map_err(|_| own("a cookie cannot be sent".into()))?;
            cookies.set_sensitive(true);
            request.headers_mut().insert(header::COOKIE, cookies);
        }
        let stream = self.open(url, trace).await?;
        trace.enter(Phase::Processing);
        let answer = exchange(stream, request, step, url, trace).await?;
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            if let Ok(cookie) = std::str::from_utf8(cookie.as_bytes()) {
                run.jar.set(url, cookie, SystemTime::now());
            }
        }
        Ok(answer)
    }

    async fn open(&self, url: &Url, trace: &mut Trace) -> Result<Box<dyn Stream>, Failure> {
        let host = url.host().ok_or_else(|| own("the address has no host".into()))?;
        let port = url.port_or_known_default().ok_or_else(|| own("the address has no port".into()))?;
        let stream = dial(&host, port, Family::Any, trace).await?;
        if url.scheme() != "https" {
            return Ok(Box::new(Watched::new(stream, trace.app.clone())));
        }
        let dress = Dress { alpn: Alpn::Http1, identity: None };
        let stream = secure(stream, server_name(&host)?, &self.anchor, &dress, trace).await?;
        Ok(Box::new(Watched::new(stream, trace.app.clone())))
    }
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: hyper::Request<Full<Bytes>>,
    step: &Step,
    url: &Url,
    trace: &mut Trace,
) -> Result<Answer, Failure> {
    let failed = |phase: Phase| move |error: hyper::Error| broken(&error, phase);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed(Phase::Processing))?;
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
    let mut response = beside!(sender.send_request(request)).map_err(failed(Phase::Processing))?;
    trace.answered();
    let status = response.status().as_u16();
    trace.status = Some(status);
    let mut answer = Answer { status, headers: response.headers().clone(), body: Vec::new(), location: None };
    let redirects = matches!(status, 301 | 302 | 303 | 307 | 308);
    if redirects && step.max_redirects > 0 && !step.status.contains(&status) {
        let bad = || Failure::new(CheckResult::Status, Detail::BadRedirect { code: status });
        answer.location = Some(location(url, &response).ok_or_else(bad)?);
        return Ok(answer);
    }
    let most = usize::try_from(step.max_body).unwrap_or(usize::MAX);
    while answer.body.len() < most {
        let Some(frame) = beside!(response.body_mut().frame()) else { break };
        let frame = frame.map_err(failed(Phase::Transfer))?;
        if let Some(data) = frame.data_ref() {
            let room = most - answer.body.len();
            answer.body.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(answer)
}
