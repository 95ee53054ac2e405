//! One request and its answer on a connection.

use super::super::detail::{Detail, Failure};
use super::super::outcome::{CheckResult, Phase};
use super::super::trace::Trace;
use super::HttpCheck;
use super::hop::{Hop, location};
use super::judge::Scan;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

impl HttpCheck {
    pub(super) async fn exchange<S>(&self, hop: &Hop, stream: S, trace: &mut Trace) -> Result<Option<Url>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        trace.enter(Phase::Processing);
        let request = hop.request(Empty::<Bytes>::new())?;
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
