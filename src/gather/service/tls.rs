//! Whom a check trusts, and what it learns from the certificates it is shown, also from those it refuses.
//!
//! Handshakes are always full: a check that resumed an earlier session would not see a new certificate.

use super::detail::Detail;
use super::outcome::Expiry;
use crate::http::{self, Certificate, Verifier};
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, PeerIncompatible, SignatureScheme,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// More certificates of one chain are not looked at.
const CHAIN_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error(transparent)]
    Authorities(#[from] http::TrustError),
    #[error("the file {0} holds no usable certificate")]
    Empty(PathBuf),
    #[error("reading the client certificate or its key {0}: {1}")]
    Identity(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("preparing TLS: {0}")]
    Setup(String),
}

/// The trust of all checks: read once per CA file (or once for the system's store) and shared.
#[derive(Default)]
pub struct Trust {
    anchors: Mutex<HashMap<Option<PathBuf>, Arc<Anchor>>>,
}

impl Trust {
    /// The anchor of a CA file, or of the system. An error is not remembered: the next call reads again.
    pub async fn anchor(&self, ca_file: Option<&Path>) -> Result<Arc<Anchor>, TrustError> {
        let key = ca_file.map(Path::to_path_buf);
        if let Some(anchor) = self.lock().get(&key) {
            return Ok(anchor.clone());
        }
        let file = key.clone();
        let loaded = tokio::task::spawn_blocking(move || Anchor::load(file.as_deref())).await;
        let anchor = Arc::new(loaded.map_err(|error| TrustError::Setup(error.to_string()))??);
        self.lock().insert(key, anchor.clone());
        Ok(anchor)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Option<PathBuf>, Arc<Anchor>>> {
        self.anchors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One set of trusted CAs and the TLS settings made from it.
#[derive(Debug)]
pub struct Anchor {
    verifier: Arc<Verifier>,
    config: ClientConfig,
}

impl Anchor {
    fn load(ca_file: Option<&Path>) -> Result<Anchor, TrustError> {
        let verifier = Arc::new(Verifier::load(ca_file)?);
        let mut config = verifier.clone().client_config()?;
        config.resumption = Resumption::disabled();
        Ok(Anchor { verifier, config })
    }

    /// The settings of one connection, and where it leaves what it saw.
    pub(super) fn connection(self: &Arc<Anchor>) -> (Arc<ClientConfig>, Arc<Recorder>) {
        let recorder = Arc::new(Recorder { anchor: self.clone(), seen: Mutex::new(None) });
        let mut config = self.config.clone();
        config.dangerous().set_certificate_verifier(recorder.clone());
        (Arc::new(config), recorder)
    }

    /// As [`Anchor::connection`], dressed for what is spoken inside.
    pub(super) fn connection_as(self: &Arc<Anchor>, dress: &Dress) -> (Arc<ClientConfig>, Arc<Recorder>) {
        let (mut config, recorder) = self.connection();
        if dress.alpn != Alpn::Http1 || dress.identity.is_some() {
            // Nobody else holds it yet: nothing is copied.
            let config = Arc::make_mut(&mut config);
            match dress.alpn {
                Alpn::Http1 => {}
                Alpn::Http2 => config.alpn_protocols = vec![b"h2".to_vec()],
                Alpn::Either => config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()],
                Alpn::None => config.alpn_protocols.clear(),
            }
            if let Some(identity) = &dress.identity {
                config.client_auth_cert_resolver = identity.clone();
            }
        }
        (config, recorder)
    }
}

/// What is offered to be spoken inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alpn {
    None,
    Http1,
    Http2,
    Either,
}

/// How we present ourselves in a handshake.
#[derive(Debug, Clone)]
pub(super) struct Dress {
    pub alpn: Alpn,
    /// The client certificate, for servers that ask for one.
    pub identity: Option<Arc<dyn ResolvesClientCert>>,
}

/// Reads a client certificate (with its chain) and its key, both PEM.
pub(super) async fn identity(cert_file: &Path, key_file: &Path) -> Result<Arc<dyn ResolvesClientCert>, TrustError> {
    let (cert_file, key_file) = (cert_file.to_path_buf(), key_file.to_path_buf());
    let read = move || {
        let unreadable = |file: &Path| {
            let file = file.to_path_buf();
            move |error| TrustError::Identity(file, error)
        };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(&cert_file).and_then(Iterator::collect).map_err(unreadable(&cert_file))?;
        if chain.is_empty() {
            return Err(TrustError::Empty(cert_file));
        }
        let key = PrivateKeyDer::from_pem_file(&key_file).map_err(unreadable(&key_file))?;
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider);
        let key = key.map_err(|error| TrustError::Setup(format!("the client certificate: {error}")))?;
        Ok(Arc::new(SingleCertAndKey::from(key)) as Arc<dyn ResolvesClientCert>)
    };
    tokio::task::spawn_blocking(read).await.map_err(|error| TrustError::Setup(error.to_string()))?
}

/// Notes the validity of the certificates of one connection, then lets webpki decide.
#[derive(Debug)]
pub(super) struct Recorder {
    anchor: Arc<Anchor>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    expiry: Expiry,
    leaf_from: Timestamp,
    /// The leaf names itself as its issuer.
    self_signed: bool,
}

impl Recorder {
    pub fn expiry(&self) -> Option<Expiry> {
        self.seen().map(|seen| seen.expiry)
    }

    fn seen(&self) -> Option<Seen> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a failed handshake means, in words.
    pub fn explain(&self, error: &rustls::Error) -> Detail {
        let problem = match error {
            rustls::Error::InvalidCertificate(problem) => problem,
            rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            )
            | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
                return Detail::OldProtocol { least: "TLS 1.2" };
            }
            error => return Detail::Handshake { cause: error.to_string() },
        };
        match problem {
            // A wrong signature: a CA of the trusted one's name with another key, as after an intranet CA was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Detail::Untrusted,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => match self.seen() {
                // The leaf may be valid while a certificate above it is not.
                Some(seen) => Detail::Expired { at: seen.expiry.chain },
                None => Detail::Certificate { cause: problem.to_string() },
            },
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => match self.seen() {
                Some(seen) => Detail::NotYetValid { from: seen.leaf_from },
                None => Detail::Certificate { cause: problem.to_string() },
            },
            CertificateError::NotValidForNameContext { expected, presented } => Detail::WrongName {
                expected: expected.to_str().into_owned(),
                presented: presented.iter().take(5).map(|name| readable_name(name)).collect(),
            },
            // webpki stumbles over the CA flag that most self-signed certificates have; what matters is who signed.
            CertificateError::Other(_) if self.seen().is_some_and(|seen| seen.self_signed) => Detail::Untrusted,
            other => Detail::Certificate { cause: other.to_string() },
        }
    }
}

/// rustls describes names as `DnsName("x")`.
fn readable_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"').chars().take(100).collect()
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(Certificate { from: leaf_from, until: leaf, self_signed }) = Certificate::read(end_entity) {
            let others = intermediates.iter().take(CHAIN_MAX).filter_map(Certificate::read).map(|read| read.until);
            let expiry = Expiry { leaf, chain: others.fold(leaf, Timestamp::min) };
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { expiry, leaf_from, self_signed });
        }
        self.anchor.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.anchor.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.anchor.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.anchor.verifier.supported_verify_schemes()
    }
}
