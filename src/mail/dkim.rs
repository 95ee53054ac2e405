//! DKIM (RFC 6376): the header that lets a receiver see that a mail is the domain's and was not changed on its way.
//! Headers and body are canonicalized `relaxed`, so that what servers do to white space does no harm. There is no time in
//! it, and nothing random: the same mail signed again is the same bytes.

use crate::config::dkim::{Dkim, Key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::RSA_PKCS1_SHA256;

/// What is signed, if the mail has it; each of them once.
const SIGNED: [&str; 11] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "List-Id",
    "MIME-Version",
    "Content-Type",
];
/// Signed once more than they occur, so that nobody adds another.
const ONCE: [&str; 3] = ["From", "Subject", "To"];
/// Names of headers on a line.
const NAMES: usize = 6;
/// Characters of the signature on a line.
const LINE: usize = 72;

#[derive(Debug, thiserror::Error)]
#[error("the mail could not be signed with the DKIM key")]
pub struct SignError;

/// The header to put before `message`, with its line end.
pub fn sign(dkim: &Dkim, message: &str) -> Result<String, SignError> {
    let (head, body) = message.split_once("\r\n\r\n").unwrap_or((message, ""));
    let headers = headers(head);
    let find = |name: &str| headers.iter().rev().find(|(found, _)| found.eq_ignore_ascii_case(name));
    let present: Vec<&str> = SIGNED.into_iter().filter(|name| find(name).is_some()).collect();
    let names: Vec<&str> = present.iter().copied().chain(ONCE).collect();
    let algorithm = match dkim.key {
        Key::Rsa(_) => "rsa-sha256",
        Key::Ed25519(_) => "ed25519-sha256",
    };
    let unsigned = format!(
        "DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed;\r\n d={}; s={};\r\n h={};\r\n bh={};\r\n b=",
        dkim.domain,
        dkim.selector,
        names.chunks(NAMES).map(|names| names.join(":")).collect::<Vec<_>>().join(":\r\n "),
        STANDARD.encode(sha256(relaxed_body(body).as_bytes())),
    );
    let mut data = String::new();
    for (name, value) in present.iter().filter_map(|name| find(name)) {
        data.push_str(&relaxed_header(name, value));
        data.push_str("\r\n");
    }
    let (name, value) = unsigned.split_once(':').unwrap_or((&unsigned, ""));
    data.push_str(&relaxed_header(name, value));
    let signature = STANDARD.encode(signature(&dkim.key, data.as_bytes())?);
    let lines: Vec<&str> =
        (0..signature.len()).step_by(LINE).map(|start| &signature[start..signature.len().min(start + LINE)]).collect();
    Ok(format!("{unsigned}{}\r\n", lines.join("\r\n ")))
}

fn signature(key: &Key, data: &[u8]) -> Result<Vec<u8>, SignError> {
    match key {
        Key::Rsa(key) => {
            let mut signature = vec![0; key.public().modulus_len()];
            // The random numbers only blind the computation; the signature is always the same.
            key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature).map_err(|_| SignError)?;
            Ok(signature)
        }
        // RFC 8463: of the hash.
        Key::Ed25519(key) => Ok(key.sign(&sha256(data)).as_ref().to_vec()),
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}

/// Names and values, folded as they stand.
fn headers(head: &str) -> Vec<(&str, String)> {
    let mut headers: Vec<(&str, String)> = Vec::new();
    for line in head.split("\r\n") {
        match (line.starts_with([' ', '\t']), headers.last_mut(), line.split_once(':')) {
            (true, Some((_, value)), _) => value.push_str(line),
            (false, _, Some((name, value))) => headers.push((name, value.to_owned())),
            _ => {}
        }
    }
    headers
}

/// RFC 6376, 3.4.2, without a line end.
fn relaxed_header(name: &str, value: &str) -> String {
    format!("{}:{}", name.trim().to_ascii_lowercase(), squeezed(&value.replace("\r\n", "")).trim())
}

/// RFC 6376, 3.4.4.
fn relaxed_body(body: &str) -> String {
    let mut text = String::with_capacity(body.len() + 2);
    let mut n_empty = 0;
    for line in body.split("\r\n") {
        let line = squeezed(line);
        let line = line.trim_end_matches(' ');
        if line.is_empty() {
            n_empty += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut n_empty) {
            text.push_str("\r\n");
        }
        text.push_str(line);
        text.push_str("\r\n");
    }
    text
}

/// Every run of spaces and tabs as one space.
fn squeezed(text: &str) -> String {
    let mut squeezed = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' ' | '\t' if squeezed.ends_with(' ') => {}
            ' ' | '\t' => squeezed.push(' '),
            other => squeezed.push(other),
        }
    }
    squeezed
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
    use std::sync::Arc;

    /// The example of RFC 6376, 3.4.5.
    #[test]
    fn white_space_is_relaxed_as_the_standard_says() {
        let headers = headers("A: X\r\nB : Y\t\r\n\tZ  ");
        let relaxed: Vec<String> = headers.iter().map(|(name, value)| relaxed_header(name, value)).collect();
        assert_eq!(relaxed, ["a:X", "b:Y Z"]);
        assert_eq!(relaxed_body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
        assert_eq!(relaxed_body("a\r\n\r\n\r\nb"), "a\r\n\r\n\r\nb\r\n", "an end of line is added");
        assert_eq!((relaxed_body(""), relaxed_body("\r\n \r\n")), (String::new(), String::new()));
        // The hash of an empty body, as the standard gives it for SHA-256.
        assert_eq!(STANDARD.encode(sha256(b"")), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn the_signature_covers_headers_body_and_itself() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref().to_vec());
        let key = Key::Ed25519(Arc::new(pair));
        let dkim = Dkim { domain: "vn.example".into(), selector: "ioc".into(), key };
        let message = "From: IOC <ioc@vn.example>\r\nSubject: x\r\n y\r\nX-Priority: 1\r\n\r\nbody \r\n\r\n";
        let header = sign(&dkim, message).unwrap();
        assert_eq!(header, sign(&dkim, message).unwrap(), "nothing in it is random");
        assert!(header.lines().all(|line| line.len() <= 78) && header.ends_with("\r\n"), "{header}");
        let one_line = header.replace("\r\n ", "");
        assert!(one_line.contains("d=vn.example; s=ioc;h=From:Subject:From:Subject:To;bh="), "{one_line}");
        let (before, b) = header.rsplit_once("b=").unwrap();
        let b = STANDARD.decode(b.replace("\r\n", "").replace(' ', "")).unwrap();
        let itself = relaxed_header("DKIM-Signature", &format!("{}b=", before.split_once(':').unwrap().1));
        let data = format!("from:IOC <ioc@vn.example>\r\nsubject:x y\r\n{itself}");
        public.verify(&sha256(data.as_bytes()), &b).unwrap();
        assert_ne!(header, sign(&dkim, &message.replace("body", "bodY")).unwrap());
    }
}
