//! Simulated portals over real TLS: each answers, hangs or refuses as the story tells it.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How a portal behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Answers,
    /// Accepts, shakes hands, reads the request, and says nothing more.
    Hangs,
}

/// A certificate authority of the demo's own, and a server certificate for loopback.
pub struct Authority {
    /// PEM, for `ca_file`.
    pub ca_pem: String,
    server: Arc<rustls::ServerConfig>,
}

impl Authority {
    pub fn new() -> anyhow::Result<Authority> {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(DnType::CommonName, "ioc-watch demo CA");
        let ca_key = KeyPair::generate()?;
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
        params.distinguished_name.push(DnType::CommonName, "ioc-watch demo portal");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        Ok(Authority { ca_pem: ca_certificate.pem(), server: Arc::new(server) })
    }
}

/// A running portal; it stops when the token given to [`Portal::start`] is cancelled.
pub struct Portal {
    pub port: u16,
    behaviour: watch::Sender<Behaviour>,
}

impl Portal {
    /// Listens on a free loopback port. `title` appears in the page.
    pub async fn start(authority: &Authority, title: &str, shutdown: CancellationToken) -> anyhow::Result<Portal> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (behaviour, watched) = watch::channel(Behaviour::Answers);
        let acceptor = TlsAcceptor::from(authority.server.clone());
        let page: Arc<str> = page(title).into();
        tokio::spawn(async move {
            loop {
                let connection = tokio::select! {
                    () = shutdown.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                match connection {
                    Ok((stream, _)) => {
                        let serving = serve(stream, acceptor.clone(), watched.clone(), page.clone());
                        let shutdown = shutdown.clone();
                        tokio::spawn(async move {
                            tokio::select! {
                                () = shutdown.cancelled() => {}
                                // A client that goes away is part of the demo.
                                _ = serving => {}
                            }
                        });
                    }
                    // Out of descriptors: the next accept may do better.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(Portal { port, behaviour })
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.port)
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    behaviour: watch::Receiver<Behaviour>,
    page: Arc<str>,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") && request.len() < 16 * 1024 {
        let n_read = stream.read(&mut buffer).await?;
        if n_read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..n_read]);
    }
    let now = *behaviour.borrow();
    match now {
        Behaviour::Answers => {
            stream.write_all(page.as_bytes()).await?;
            stream.shutdown().await
        }
        Behaviour::Hangs => {
            // Until the client gives up.
            while stream.read(&mut buffer).await? > 0 {}
            Ok(())
        }
    }
}

fn page(title: &str) -> String {
    let body = format!(
        "<!doctype html><html lang=\"vi\"><meta charset=\"utf-8\"><title>{title}</title>\
         <h1>{title}</h1><p>Dịch vụ công trực tuyến</p></html>\n"
    );
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
