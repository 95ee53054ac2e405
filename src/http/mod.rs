//! Asks other servers for answers: one request a connection, bounded in time and size, never redirected.
//!
//! For programs' data. What measures a service on purpose (phases, certificates) stands in `gather/service`.

mod trust;

pub use trust::{Certificate, TrustError, Verifier};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{0} is no address that can be asked")]
    Address(String),
    #[error("connecting to {0}")]
    Connect(String, #[source] std::io::Error),
    #[error("the TLS handshake with {0}")]
    Tls(String, #[source] std::io::Error),
    #[error("talking HTTP with {0}")]
    Protocol(String, #[source] hyper::Error),
    #[error("{0} did not answer within {1:?}")]
    Timeout(String, Duration),
    #[error("the answer of {0} is longer than {1} bytes")]
    TooLong(String, u64),
}

/// Whom it trusts and how long it waits.
#[derive(Debug, Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
    timeout: Duration,
    max_body: u64,
}

/// What a server said, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    /// Trusts the CAs of `ca_file` (or a server certificate that stands in it), else the system's. Reads files: not for
    /// an asynchronous task. `timeout` is of a whole request, `max_body` in bytes.
    pub fn new(ca_file: Option<&Path>, timeout: Duration, max_body: u64) -> Result<Client, TrustError> {
        let tls = Arc::new(Verifier::load(ca_file)?).client_config()?;
        Ok(Client { tls: Arc::new(tls), timeout, max_body })
    }

    /// Asks once. A redirect is an answer like any other: it is for the caller to refuse.
    pub async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Answer, HttpError> {
        self.send(url, request(url, headers, Method::GET, Bytes::new())?).await
    }

    /// [`Client::get`] by POST with the pairs of a form, written as `application/x-www-form-urlencoded`.
    pub async fn post_form(&self, url: &Url, headers: &HeaderMap, form: String) -> Result<Answer, HttpError> {
        let mut request = request(url, headers, Method::POST, form.into())?;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        self.send(url, request).await
    }

    async fn send(&self, url: &Url, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
        let asked = tokio::time::timeout(self.timeout, self.ask(url, request)).await;
        asked.unwrap_or_else(|_| Err(HttpError::Timeout(shown(url), self.timeout)))
    }

    async fn ask(&self, url: &Url, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
        let address = || HttpError::Address(shown(url));
        let host = url.host().ok_or_else(address)?;
        let port = url.port_or_known_default().ok_or_else(address)?;
        let connected = match &host {
            Host::Domain(name) => TcpStream::connect((*name, port)).await,
            Host::Ipv4(ip) => TcpStream::connect((*ip, port)).await,
            Host::Ipv6(ip) => TcpStream::connect((*ip, port)).await,
        };
        let stream = connected.map_err(|error| HttpError::Connect(shown(url), error))?;
        if url.scheme() != "https" {
            return self.exchange(url, request, stream).await;
        }
        let name = match &host {
            Host::Domain(name) => ServerName::try_from((*name).to_owned()).map_err(|_| address())?,
            Host::Ipv4(ip) => ServerName::from(std::net::IpAddr::from(*ip)),
            Host::Ipv6(ip) => ServerName::from(std::net::IpAddr::from(*ip)),
        };
        let secured = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        self.exchange(url, request, secured.map_err(|error| HttpError::Tls(shown(url), error))?).await
    }

    async fn exchange<S>(&self, url: &Url, request: Request<Full<Bytes>>, stream: S) -> Result<Answer, HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error| HttpError::Protocol(shown(url), error);
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(broken)?;
        let mut connection = std::pin::pin!(connection);
        let conversation = async {
            let mut response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status().as_u16();
            let mut body = BytesMut::new();
            while let Some(frame) = response.body_mut().frame().await {
                let frame = frame.map_err(broken)?;
                let Some(data) = frame.data_ref() else { continue };
                if (body.len() + data.len()) as u64 > self.max_body {
                    return Err(HttpError::TooLong(shown(url), self.max_body));
                }
                body.extend_from_slice(data);
            }
            Ok(Answer { status, headers: std::mem::take(response.headers_mut()), body: body.freeze() })
        };
        let mut conversation = std::pin::pin!(conversation);
        let mut is_open = true;
        // The connection works only while it is polled; when it ends, the conversation knows why.
        loop {
            tokio::select! {
                biased;
                answer = &mut conversation => return answer,
                _ = &mut connection, if is_open => is_open = false,
            }
        }
    }
}

/// An address as messages show it: what follows may be a secret.
fn shown(url: &Url) -> String {
    let mut shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        shown.push_str(&format!(":{port}"));
    }
    shown + url.path()
}

fn request(url: &Url, headers: &HeaderMap, method: Method, body: Bytes) -> Result<Request<Full<Bytes>>, HttpError> {
    let address = || HttpError::Address(shown(url));
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().map_err(|_| address())?;
    *request.headers_mut() = headers.clone();
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|_| address())?);
    }
    let agent = concat!("ioc-watch/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    // What is bounded is what is sent.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(request)
}
