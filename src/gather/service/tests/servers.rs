//! Small real servers on 127.0.0.1, and a CA of their own. They end with the test's runtime.

use crate::config::probes::http::HttpProbe;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A CA whose certificate lies in a file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2045, 6, 7);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        let certificate = certificate.der().clone();
        Authority { issuer: Issuer::new(params, key), certificate, directory }
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// TLS for `name`, valid until the first of January of `until`; shows the CA's certificate too.
    pub fn server(&self, name: &str, until: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let leaf = leaf(name, until).signed_by(&key, &self.issuer).unwrap();
        acceptor(vec![leaf.der().clone(), self.certificate.clone()], &key)
    }

    /// A server that speaks HTTP/2 alone, with those who show a certificate of this CA.
    pub fn http2_for_known_clients(&self, name: &str) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(name, 2045).signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// The files of a client's certificate and key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf("ioc-watch", 2045).signed_by(&key, &self.issuer).unwrap();
        let files = (self.directory.path().join("client.pem"), self.directory.path().join("client.key"));
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    /// A server certificate that nobody signed, and its PEM.
    pub fn self_signed(name: &str) -> (TlsAcceptor, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf(name, 2040);
        // As `openssl req -x509` makes them.
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        (acceptor(vec![certificate.der().clone()], &key), certificate.pem())
    }
}

fn leaf(name: &str, until: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    params
}

fn acceptor(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

/// Hands every connection to `behave`.
pub async fn tcp<F, Fut>(behave: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(stream));
        }
    });
    address
}

/// Reads the head of each request and answers with these bytes, then closes.
pub async fn answer(tls: Option<TlsAcceptor>, bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
    script(tls, vec![Act::Send(bytes)]).await
}

#[derive(Clone)]
pub enum Act {
    Send(Arc<Vec<u8>>),
    Wait(Duration),
    /// Says nothing more and keeps the connection.
    Hang,
    /// Sends these bytes again and again, with this pause before each.
    Drip(&'static [u8], Duration),
}

pub fn send(text: &str) -> Act {
    Act::Send(Arc::new(text.as_bytes().to_vec()))
}

/// Reads the head of each request, acts, and closes.
pub async fn script(tls: Option<TlsAcceptor>, acts: Vec<Act>) -> SocketAddr {
    let acts = Arc::new(acts);
    tcp(move |stream| {
        let (acts, tls) = (acts.clone(), tls.clone());
        async move {
            match tls {
                None => play(stream, &acts).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        play(stream, &acts).await;
                    }
                }
            }
        }
    })
    .await
}

async fn play(mut stream: impl AsyncRead + AsyncWrite + Unpin, acts: &[Act]) {
    request_head(&mut stream).await;
    for act in acts {
        match act {
            Act::Send(bytes) => {
                if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Act::Wait(pause) => tokio::time::sleep(*pause).await,
            Act::Hang => std::future::pending().await,
            Act::Drip(bytes, pause) => loop {
                tokio::time::sleep(*pause).await;
                if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            },
        }
    }
    let _ = stream.shutdown().await;
}

pub async fn request_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A whole answer with a right length.
pub fn page(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

pub fn probe(url: &str) -> HttpProbe {
    HttpProbe::get(url.parse().unwrap())
}
