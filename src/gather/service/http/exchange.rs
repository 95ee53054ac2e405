//! One request and its answer on a connection.

use super::super::detail::{Detail, Failure};
use super::super::outcome::{CheckResult, Phase};
use super::super::trace::Trace;
use super::HttpCheck;
use super::hop::{Hop, location};
use super::judge::Scan;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

impl HttpCheck {
    /// `Some`: the answer redirects there.
    pub(super) async fn exchange<S>(
        &self,
        hop: &Hop,
        stream: S,
        is_http2: bool,
        trace: &mut Trace,
    ) -> Result<Option<Url>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        use hyper::client::conn::{http1, http2};
        trace.enter(Phase::Processing);
        let failed = |error: hyper::Error| broken(&error, Phase::Processing);
        if is_http2 {
            let request = hop.request2(self.body_of(hop))?;
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(failed)?;
            return self.converse(hop, sender.send_request(request), connection, trace).await;
        }
        let request = hop.request(self.body_of(hop))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        self.converse(hop, sender.send_request(request), connection, trace).await
    }

    /// A redirect that became a GET sends nothing.
    fn body_of(&self, hop: &Hop) -> Full<Bytes> {
        Full::new(if hop.method == self.method { self.body.clone() } else { Bytes::new() })
    }

    async fn converse(
        &self,
        hop: &Hop,
        sent: impl Future<Output = hyper::Result<Response<Incoming>>>,
        connection: impl Future<Output = hyper::Result<()>>,
        trace: &mut Trace,
    ) -> Result<Option<Url>, Failure> {
        let broken = |phase: Phase| move |error: hyper::Error| broken(&error, phase);
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
        let mut response = beside!(sent).map_err(broken(Phase::Processing))?;
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

/// What an HTTP error means in `phase`.
pub(in crate::gather::service) fn broken(error: &hyper::Error, phase: Phase) -> Failure {
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
            if io.kind() == std::io::ErrorKind::UnexpectedEof {
                return Failure::new(CheckResult::Error, Detail::ClosedEarly { phase });
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
