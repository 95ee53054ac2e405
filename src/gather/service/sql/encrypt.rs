//! TLS as a database's `sslmode` wants it, on a connection that the protocol has prepared for it.

use super::super::detail::{Detail, Failure};
use super::super::outcome::{CheckResult, Phase};
use super::super::tls::{Anchor, Recorder};
use super::super::watch::Watched;
use super::session::{Duplex, Talk};
use crate::config::probes::sql::SslMode;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use url::Host;

/// Makes the handshake. The certificate's dates are noted whatever becomes of it.
pub(super) async fn encrypt(
    stream: Box<dyn Duplex>,
    host: &Host<String>,
    mode: SslMode,
    anchor: &Arc<Anchor>,
    talk: &mut Talk,
) -> Result<Box<dyn Duplex>, Failure> {
    let own = |cause: &str| Failure::new(CheckResult::Error, Detail::Own { cause: cause.into() });
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| own("not a TLS name"))?,
        Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(*address)),
        Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(*address)),
    };
    let (config, recorder) = anchor.connection();
    let mut config = ClientConfig::clone(&config);
    // What HTTP negotiates would be refused here.
    config.alpn_protocols.clear();
    if mode != SslMode::VerifyFull {
        let lenient = Lenient { recorder: recorder.clone(), mode };
        config.dangerous().set_certificate_verifier(Arc::new(lenient));
    }
    talk.note_sent();
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    if let Some(expiry) = recorder.expiry() {
        talk.trace.expiry = Some(expiry);
    }
    let stream = shaken.map_err(|error| {
        let detail = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => recorder.explain(inner),
            None => Detail::Handshake { cause: error.to_string() },
        };
        Failure::new(CheckResult::Tls, detail)
    })?;
    talk.trace.enter(Phase::Processing);
    Ok(Box::new(Watched::new(stream, talk.trace.app.clone())))
}

/// Lets pass what `mode` does not verify.
#[derive(Debug)]
struct Lenient {
    recorder: Arc<Recorder>,
    mode: SslMode,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        // Always asked: it notes the dates.
        match self.recorder.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is verified last: the chain was sound.
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            Err(_) if !self.mode.verifies() => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.lenient(self.recorder.verify_tls12_signature(message, cert, dss))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.lenient(self.recorder.verify_tls13_signature(message, cert, dss))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.recorder.supported_verify_schemes()
    }
}

impl Lenient {
    /// Certificates that webpki cannot read (of X.509 version 1) prove nothing either way, and nothing was to be proved.
    fn lenient(
        &self,
        verified: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.mode.verifies() { verified } else { Ok(HandshakeSignatureValid::assertion()) }
    }
}
