//! Whom the client trusts: the system's CAs, or those of a file. Intranets trust the one self-signed certificate of
//! their server, so a server may show a certificate that stands in the file itself.

use jiff::Timestamp;
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
    #[error("reading the CA file {0}: {1}")]
    File(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("the file {0} holds no usable certificate")]
    Empty(PathBuf),
    #[error("this machine has no usable CA certificates (package ca-certificates): {0}")]
    NoSystem(String),
    #[error("preparing TLS: {0}")]
    Setup(String),
}

/// webpki, but for a certificate that was given itself: then only its name and its dates count.
#[derive(Debug)]
pub struct Verifier {
    pinned: Vec<CertificateDer<'static>>,
    webpki: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    /// Trusts the CAs of a PEM file; without one, those of the system.
    pub fn load(ca_file: Option<&Path>) -> Result<Verifier, TrustError> {
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
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    let causes: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                    return Err(TrustError::NoSystem(causes.join("; ")));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let webpki = webpki.build().map_err(|error| TrustError::Setup(error.to_string()))?;
        Ok(Verifier { pinned, webpki })
    }

    /// A client without a certificate of its own that trusts so and speaks HTTP/1.1.
    pub fn client_config(self: Arc<Verifier>) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| TrustError::Setup(error.to_string()))?;
        let mut config = config.dangerous().with_custom_certificate_verifier(self).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn verify_pinned(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Option<Result<(), rustls::Error>> {
        self.pinned.iter().find(|pinned| *pinned == certificate)?;
        let read = Certificate::read(certificate)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        Some(if now > read.until.as_second() {
            Err(CertificateError::Expired.into())
        } else if now < read.from.as_second() {
            Err(CertificateError::NotValidYet.into())
        } else {
            ParsedCertificate::try_from(certificate).and_then(|parsed| verify_server_name(&parsed, name))
        })
    }
}

/// What is read off a certificate beside its signatures.
#[derive(Debug, Clone, Copy)]
pub struct Certificate {
    pub from: Timestamp,
    pub until: Timestamp,
    /// It names itself as its issuer.
    pub self_signed: bool,
}

impl Certificate {
    /// `None` for what is no X.509 certificate.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Certificate> {
        use x509_parser::nom::Parser;
        // The validity stands before the extensions; those are webpki's business.
        let mut parser = x509_parser::certificate::X509CertificateParser::new().with_deep_parse_extensions(false);
        let (_, parsed) = parser.parse(certificate).ok()?;
        let validity = parsed.validity();
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        Some(Certificate {
            from: time(validity.not_before)?,
            until: time(validity.not_after)?,
            self_signed: parsed.issuer() == parsed.subject(),
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
