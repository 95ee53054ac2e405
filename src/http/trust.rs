//! Whom the client trusts: the system's CAs, or those of a file. Intranets trust the one self-signed certificate of
//! their server, so a server may show a certificate that stands in the file itself.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("reading the CA file {0}")]
    File(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("the file {0} holds no usable certificate")]
    Empty(PathBuf),
    #[error("this machine has no usable CA certificates (package ca-certificates)")]
    NoSystem,
    #[error("preparing TLS: {0}")]
    Setup(String),
}

pub(super) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    let mut pinned = Vec::new();
    match ca_file {
        Some(file) => {
            let unreadable = |error| TrustError::File(file.into(), error);
            let certificates = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
            pinned = certificates.collect::<Result<_, _>>().map_err(unreadable)?;
            roots.add_parsable_certificates(pinned.iter().cloned());
            if roots.is_empty() {
                return Err(TrustError::Empty(file.into()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TrustError::NoSystem);
            }
        }
    }
    let setup = |error: &dyn std::error::Error| TrustError::Setup(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = Verifier { pinned, webpki: webpki.build().map_err(|error| setup(&error))? };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?;
    let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// webpki, but for a certificate that was given itself: then only its name and its dates count.
#[derive(Debug)]
struct Verifier {
    pinned: Vec<CertificateDer<'static>>,
    webpki: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    fn verify_pinned(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Option<Result<(), rustls::Error>> {
        self.pinned.iter().find(|pinned| *pinned == certificate)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        Some(if now > until {
            Err(CertificateError::Expired.into())
        } else if now < from {
            Err(CertificateError::NotValidYet.into())
        } else {
            ParsedCertificate::try_from(certificate).and_then(|parsed| verify_server_name(&parsed, name))
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(verified) = self.verify_pinned(end_entity, server_name, now) {
            return verified.map(|()| ServerCertVerified::assertion());
        }
        self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
