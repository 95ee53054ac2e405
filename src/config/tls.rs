//! The server's certificate and key, read and checked: for `check`, for the start, and for renewed files.

use super::server::Tls;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::Arc;

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What is wrong with the pair of files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("reading {0}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("{0} holds no usable PEM certificate")]
    Certificate(PathBuf),
    #[error("{0} holds no usable PEM private key")]
    Key(PathBuf),
    /// While files are being renewed this is for a moment ordinary.
    #[error("the certificate and the key do not belong together")]
    Pair(#[source] rustls::Error),
}

/// A pair that can serve.
#[derive(Debug)]
pub struct Loaded {
    pub config: Arc<ServerConfig>,
    /// When the leaf expires, in seconds since 1970 UTC.
    pub expires: i64,
    /// Of both files: whether they changed.
    pub digest: [u8; 32],
}

/// Reads both files and proves that they belong together.
pub fn load(tls: &Tls) -> Result<Loaded, TlsError> {
    let (cert, key) = (read(&tls.cert_file)?, read(&tls.key_file)?);
    let certificate = || TlsError::Certificate(tls.cert_file.clone());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&cert).collect::<Result<_, _>>().map_err(|_| certificate())?;
    let leaf = chain.first().ok_or_else(certificate)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| certificate())?;
    let expires = parsed.validity().not_after.timestamp();
    let private = PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::Key(tls.key_file.clone()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(config), expires, digest: digest(&cert, &key) })
}

fn read(file: &PathBuf) -> Result<Vec<u8>, TlsError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|open| open.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|error| TlsError::Read(file.clone(), error))?;
    Ok(bytes)
}

fn digest(cert: &[u8], key: &[u8]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&(cert.len() as u64).to_be_bytes());
    context.update(cert);
    context.update(key);
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
