//! The certificate in use. Renewed files are taken up within seconds, without a restart; unusable ones change nothing and
//! are told once, and by a metric.

use super::AppState;
use crate::config::site::Tls;
use crate::config::tls::{self, TlsError};
use crate::metrics::Metrics;
use axum_server::tls_rustls::RustlsConfig;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at. They are read whole: a renewal may keep times, or swap a link.
const EVERY: Duration = Duration::from_secs(5);

/// Cheap to clone; all clones serve the same certificate.
#[derive(Clone)]
pub struct Certificates {
    acceptor: RustlsConfig,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    /// Of the files in use.
    digest: [u8; 32],
    /// What was wrong with the files last, told already.
    problem: Option<String>,
}

impl Certificates {
    pub fn open(tls: &Tls, metrics: &Metrics) -> Result<Certificates, TlsError> {
        let loaded = tls::load(tls)?;
        note(metrics, true, Some(loaded.expires));
        let seen = Seen { digest: loaded.digest, problem: None };
        Ok(Certificates { acceptor: RustlsConfig::from_config(loaded.config), seen: Arc::new(Mutex::new(seen)) })
    }

    /// Takes up the files if they changed and are usable. Reads files: not for a thread that serves others.
    pub fn refresh(&self, tls: &Tls, metrics: &Metrics) {
        let loaded = tls::load(tls);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Ok(loaded) => {
                if loaded.digest != seen.digest {
                    seen.digest = loaded.digest;
                    self.acceptor.reload_from_config(loaded.config);
                    tracing::info!(file = %tls.cert_file.display(), "the renewed certificate is in use");
                }
                seen.problem = None;
                note(metrics, true, Some(loaded.expires));
            }
            Err(error) => {
                let problem = error.to_string();
                if seen.problem.as_ref() != Some(&problem) {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the certificate's files cannot be used; the one before goes on: {problem}");
                }
                seen.problem = Some(problem);
                note(metrics, false, None);
            }
        }
    }

    pub(super) fn acceptor(&self) -> RustlsConfig {
        self.acceptor.clone()
    }
}

fn note(metrics: &Metrics, successful: bool, expires: Option<i64>) {
    let own = &metrics.own;
    own.tls_last_reload_successful.with_label_values(&["leaf"]).set(if successful { 1.0 } else { 0.0 });
    if let Some(expires) = expires {
        own.tls_expiry.with_label_values(&["leaf"]).set(expires as f64);
    }
}

/// Looks after the files that the configuration in force names, until `stop`.
pub async fn watch(certificates: Certificates, state: AppState, stop: CancellationToken) -> Result<(), Infallible> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let Some(tls) = state.config().server.tls.clone() else { continue };
        let (certificates, metrics) = (certificates.clone(), state.metrics().clone());
        let done = tokio::task::spawn_blocking(move || certificates.refresh(&tls, &metrics)).await;
        if let Err(error) = done {
            tracing::error!(error = &error as &dyn std::error::Error, "looking after the certificate failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_string()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn renewed_files_are_taken_up_and_broken_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls { cert_file: dir.path().join("c.pem"), key_file: dir.path().join("k.pem") };
        let (old, new) = (pair(), pair());
        let write = |cert: &str, key: &str| {
            std::fs::write(&tls.cert_file, cert).unwrap();
            std::fs::write(&tls.key_file, key).unwrap();
        };
        write(&old.0, &old.1);
        let metrics = Metrics::new();
        let certificates = Certificates::open(&tls, &metrics).unwrap();
        let successful = || metrics.own.tls_last_reload_successful.with_label_values(&["leaf"]).get();
        let before = certificates.acceptor.get_inner();
        let rows = [
            ("half renewed", &new.0, &old.1, 0.0),
            ("no certificate", &old.1, &old.1, 0.0),
            ("no key", &old.0, &old.0, 0.0),
            ("unchanged", &old.0, &old.1, 1.0),
        ];
        for (name, cert, key, expected) in rows {
            write(cert, key);
            certificates.refresh(&tls, &metrics);
            assert_eq!(successful(), expected, "{name}");
            assert!(Arc::ptr_eq(&before, &certificates.acceptor.get_inner()), "{name}");
        }
        std::fs::remove_file(&tls.key_file).unwrap();
        certificates.refresh(&tls, &metrics);
        assert_eq!(successful(), 0.0);
        write(&new.0, &new.1);
        certificates.refresh(&tls, &metrics);
        assert_eq!(successful(), 1.0);
        assert!(!Arc::ptr_eq(&before, &certificates.acceptor.get_inner()));
    }
}
