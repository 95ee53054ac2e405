//! One hostile local server: each of its doors does one thing that servers on the internet do.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What a door does, once connected (and, behind TLS, shaken hands with).
#[derive(Debug, Clone)]
pub enum Act {
    /// Sends this and closes.
    Answer(Vec<u8>),
    /// Sends this, then nothing more.
    Silence(&'static str),
    /// Sends the first text, then the second again and again with this pause.
    Drip(&'static str, &'static str, Duration),
    /// Sends this, then resets the connection.
    Reset(&'static str),
    /// Redirects to itself for ever.
    Loop,
}

/// What stands before a door.
#[derive(Clone)]
pub enum Gate {
    Plain,
    Tls(TlsAcceptor),
    /// Connected, then nothing.
    Mute,
    /// Reset as soon as it is accepted.
    ResetAtOnce,
    /// Reset after the first message of the client's handshake.
    ResetInHandshake,
    /// Speaks TLS 1.0 only: refuses what the client offers with the alert for it (RFC 8446 6.2, `protocol_version`).
    OldTls,
}

/// The port of a door.
pub async fn open(gate: Gate, act: Act) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("a bound listener").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(enter(stream, gate.clone(), act.clone()));
        }
    });
    port
}

async fn enter(mut stream: TcpStream, gate: Gate, act: Act) {
    let mut hello = [0; 1024];
    match gate {
        Gate::Plain => {
            let resets = matches!(act, Act::Reset(_));
            play(&mut stream, act).await;
            if resets {
                reset(stream);
            }
        }
        Gate::Tls(acceptor) => {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                play(&mut stream, act).await;
            }
        }
        Gate::Mute => std::future::pending().await,
        Gate::ResetAtOnce => reset(stream),
        Gate::ResetInHandshake => {
            let _ = stream.read(&mut hello).await;
            reset(stream);
        }
        Gate::OldTls => {
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]).await;
        }
    }
}

/// Closes without the usual farewell.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn play<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, act: Act) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|read| read == 1) {
        request.push(byte[0]);
    }
    match act {
        Act::Answer(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Act::Silence(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            std::future::pending::<()>().await;
        }
        Act::Drip(text, drop, pause) => {
            let _ = stream.write_all(text.as_bytes()).await;
            while stream.write_all(drop.as_bytes()).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        }
        Act::Reset(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            // What was sent must arrive before the reset does.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Act::Loop => {
            let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n").await;
        }
    }
}

/// A CA, and servers of its own making.
pub struct Authority {
    pub ca_file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    pub fn new(dir: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2044, 5, 6);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let ca_file = dir.join(format!("{name}.pem"));
        std::fs::write(&ca_file, certificate.pem()).expect("a writable directory");
        let certificate = certificate.der().clone();
        Authority { ca_file, issuer: Issuer::new(params, key), certificate }
    }

    /// TLS for `name` until the first of January of `until`, with the CA's certificate in the chain.
    pub fn gate(&self, name: &str, until: i32) -> Gate {
        let key = KeyPair::generate().expect("a key");
        let leaf = params(name, until).signed_by(&key, &self.issuer).expect("a certificate");
        gate(vec![leaf.der().clone(), self.certificate.clone()], &key)
    }

    /// A certificate that nobody but itself signed.
    pub fn self_signed(name: &str) -> Gate {
        let key = KeyPair::generate().expect("a key");
        let leaf = params(name, 2050).self_signed(&key).expect("a certificate");
        gate(vec![leaf.der().clone()], &key)
    }
}

fn params(name: &str, until: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a valid name");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    params
}

fn gate(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Gate {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("sound versions").with_no_client_auth().with_single_cert(chain, key);
    Gate::Tls(TlsAcceptor::from(Arc::new(config.expect("a certificate for its key"))))
}
