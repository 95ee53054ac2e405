//! One `POST` to one address, over HTTP/1.1 and TLS, with a connection of its own: messages to webhooks are few.

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

/// Why a message was not taken. The text is for the outbox and the log; it holds no secret and nothing of an answer's
/// body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Try again.
    Later(String),
    /// This message will never be taken.
    Never(String),
}

/// Where to, and whom to trust there.
pub(super) struct Poster {
    url: Url,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    /// Made at the first message; an error is not remembered.
    tls: Option<Arc<ClientConfig>>,
}

impl Poster {
    pub fn new(url: Url, ca_file: Option<PathBuf>, timeout: Duration) -> Poster {
        Poster { url, ca_file, timeout, tls: None }
    }

    /// Sends one message of JSON and reads the status of the answer; nothing else of it matters.
    pub async fn post(&mut self, headers: &[(&'static str, String)], body: &str) -> Result<(), Trouble> {
        if self.url.scheme() == "https" && self.tls.is_none() {
            let file = self.ca_file.clone();
            let read = tokio::task::spawn_blocking(move || tls(file.as_deref())).await;
            self.tls = Some(Arc::new(read.map_err(|error| error.to_string()).flatten().map_err(Trouble::Later)?));
        }
        let answer = tokio::time::timeout(self.timeout, self.exchange(headers, body)).await;
        let within = self.timeout.as_secs();
        let status =
            answer.map_err(|_| Trouble::Later(format!("no answer within {within} s")))?.map_err(Trouble::Later)?;
        match status.as_u16() {
            200..=299 => Ok(()),
            code @ (400 | 410 | 413 | 422) => Err(Trouble::Never(format!("answered {code}"))),
            code @ 300..=399 => Err(Trouble::Later(format!("answered {code}; redirects are not followed"))),
            code => Err(Trouble::Later(format!("answered {code}"))),
        }
    }

    async fn exchange(&self, headers: &[(&'static str, String)], body: &str) -> Result<StatusCode, String> {
        let (Some(host), Some(port)) = (self.url.host(), self.url.port_or_known_default()) else {
            return Err("the address has no host".into());
        };
        let connected = match &host {
            url::Host::Domain(name) => TcpStream::connect((*name, port)).await,
            url::Host::Ipv4(address) => TcpStream::connect((*address, port)).await,
            url::Host::Ipv6(address) => TcpStream::connect((*address, port)).await,
        };
        let stream = connected.map_err(|error| format!("connecting: {error}"))?;
        let request = self.request(headers, body).map_err(|error| format!("making the request: {error}"))?;
        let Some(tls) = &self.tls else { return converse(stream, request).await };
        let name = match host {
            url::Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?,
            url::Host::Ipv4(address) => ServerName::from(std::net::IpAddr::V4(address)),
            url::Host::Ipv6(address) => ServerName::from(std::net::IpAddr::V6(address)),
        };
        let connector = TlsConnector::from(tls.clone());
        let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        converse(stream, request).await
    }

    fn request(
        &self,
        headers: &[(&'static str, String)],
        body: &str,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let target = match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        };
        let host = match self.url.port() {
            Some(port) => format!("{}:{port}", self.url.host_str().unwrap_or_default()),
            None => self.url.host_str().unwrap_or_default().to_owned(),
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(target)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("ioc-watch/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
    }
}

async fn converse<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let broken = |error: hyper::Error| format!("speaking HTTP: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = sender.send_request(request);
    // The connection works only while it is polled. The answer is complete, as far as it matters, with its head.
    tokio::pin!(connection, answer);
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer.map_err(broken)?.status()),
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let shown = file.display();
            let read = CertificateDer::pem_file_iter(file).map_err(|error| format!("reading {shown}: {error}"))?;
            for certificate in read {
                let certificate = certificate.map_err(|error| format!("reading {shown}: {error}"))?;
                roots.add(certificate).map_err(|error| format!("reading {shown}: {error}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("there is no usable CA certificate".into());
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
