//! Section `email.dkim`: the key that signs mails for the sender's domain. What is signed is `mail`'s.

use super::decode::{self, Context, Section};
use super::node::Node;
use ring::signature::{Ed25519KeyPair, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;

/// Whose signature mails carry, and the key. The public half stands in DNS at `SELECTOR._domainkey.DOMAIN`.
#[derive(Debug, Clone)]
pub struct Dkim {
    pub domain: String,
    pub selector: String,
    pub key: Key,
}

/// A private key; not printed.
#[derive(Clone)]
pub enum Key {
    Rsa(Arc<RsaKeyPair>),
    Ed25519(Arc<Ed25519KeyPair>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Dkim {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Dkim> {
        let section = Section::open(cx, node, "dkim", &["domain", "selector", "key_file"], &[])?;
        let domain = section.required(cx, "domain", name);
        let selector = section.required(cx, "selector", name);
        let key = section.required(cx, "key_file", key);
        Some(Dkim { domain: domain?, selector: selector?, key: key? })
    }

    /// Whether the signature speaks for a sender at `host`: receivers count no other.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        host == self.domain || host.strip_suffix(&self.domain).is_some_and(|rest| rest.ends_with('.'))
    }
}

/// Labels of DNS; in lower case.
fn name(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let is_label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let text = node.as_text().filter(|text| text.len() <= 253 && text.split('.').all(is_label));
    if text.is_none() {
        cx.expected(node, "a name of DNS such as vn.example");
    }
    text.map(str::to_ascii_lowercase)
}

fn key(cx: &mut Context<'_>, node: &Node) -> Option<Key> {
    let path = decode::readable_file(cx, node)?;
    // A key has some kilobytes; whatever else it is, it is read no further.
    let is_short = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= 64 * 1024);
    let bytes = std::fs::read(&path).ok().filter(|_| is_short).unwrap_or_default();
    let key = PrivateKeyDer::from_pem_slice(&bytes).ok().and_then(|der| match der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().map(Arc::new).map(Key::Rsa),
        PrivateKeyDer::Pkcs8(der) => {
            let der = der.secret_pkcs8_der();
            let rsa = RsaKeyPair::from_pkcs8(der).ok().map(Arc::new).map(Key::Rsa);
            // `openssl genpkey` leaves the public half out.
            let other = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Arc::new).map(Key::Ed25519);
            rsa.or_else(other)
        }
        _ => None,
    });
    if key.is_none() {
        cx.wrong(node, "the file must hold a private key in PEM, RSA of 2048 bits or more, or Ed25519");
    }
    key
}
