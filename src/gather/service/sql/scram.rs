//! SCRAM-SHA-256 (RFC 5802, 7677), the client's side, without channel binding: how PostgreSQL asks for a password.

use super::super::detail::{Detail, Failure};
use super::super::outcome::CheckResult;
use super::session::fail;
use super::trouble::Trouble;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use unicode_normalization::UnicodeNormalization;

pub(super) const NAME: &str = "SCRAM-SHA-256";

/// Servers ask for 4,096; a hostile one must not keep a core busy.
const ITERATIONS_MAX: u32 = 200_000;

const GS2: &str = "n,,";

/// The salted password of the last login, so that thousands of checks do not each compute it again.
#[derive(Default)]
pub(super) struct Cache(Mutex<Option<Salted>>);

#[derive(Clone)]
struct Salted {
    salt: Arc<[u8]>,
    iterations: NonZeroU32,
    key: [u8; 32],
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Cache {
    async fn salted(&self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Result<[u8; 32], Failure> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept.filter(|kept| *kept.salt == *salt && kept.iterations == iterations) {
            return Ok(kept.key);
        }
        let password: String = if password.is_ascii() { password.into() } else { password.nfkc().collect() };
        let salt: Arc<[u8]> = salt.into();
        let for_key = salt.clone();
        let derive = move || {
            let mut key = [0; 32];
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &for_key, password.as_bytes(), &mut key);
            key
        };
        let key = tokio::task::spawn_blocking(derive).await.map_err(|error| own(error.to_string()))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Salted { salt, iterations, key });
        Ok(key)
    }
}

fn own(cause: String) -> Failure {
    Failure::new(CheckResult::Error, Detail::Own { cause })
}

fn impostor() -> Failure {
    fail(CheckResult::Error, Trouble::Impostor)
}

/// One login.
pub(super) struct Scram {
    nonce: String,
    bare: String,
    /// What the server must answer at the end; there after [`Scram::prove`].
    expected: Option<hmac::Tag>,
}

impl Scram {
    pub fn new() -> Result<Scram, Failure> {
        let mut nonce = [0; 18];
        SystemRandom::new().fill(&mut nonce).map_err(|_| own("no random numbers".into()))?;
        Ok(Scram::with_nonce(STANDARD.encode(nonce)))
    }

    fn with_nonce(nonce: String) -> Scram {
        // The user's name was said at the start.
        let bare = format!("n=,r={nonce}");
        Scram { nonce, bare, expected: None }
    }

    pub fn first(&self) -> String {
        format!("{GS2}{}", self.bare)
    }

    /// The answer to the server's challenge.
    pub async fn prove(&mut self, challenge: &[u8], password: &str, cache: &Cache) -> Result<String, Failure> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| impostor())?;
        let mut parts = challenge.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or_else(impostor);
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        let salt = STANDARD.decode(salt).map_err(|_| impostor())?;
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| impostor())?;
        let again = self.expected.is_some();
        if again || !nonce.starts_with(&self.nonce) || iterations.get() > ITERATIONS_MAX {
            return Err(impostor());
        }
        let salted = hmac::Key::new(hmac::HMAC_SHA256, &cache.salted(password, &salt, iterations).await?);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(GS2));
        let message = format!("{},{challenge},{without_proof}", self.bare);
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored_key.as_ref()), message.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let server_key = hmac::Key::new(hmac::HMAC_SHA256, server_key.as_ref());
        self.expected = Some(hmac::sign(&server_key, message.as_bytes()));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server knows the password too.
    pub fn verify(&self, last: &[u8]) -> Result<(), Failure> {
        let expected = self.expected.as_ref().ok_or_else(impostor)?;
        let signature = std::str::from_utf8(last).ok().and_then(|last| last.strip_prefix("v="));
        let signature = signature.and_then(|signature| STANDARD.decode(signature.split(',').next()?).ok());
        // Both are public now; nothing leaks by comparing byte after byte.
        if signature.is_some_and(|signature| signature == expected.as_ref()) { Ok(()) } else { Err(impostor()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, its user's name left out as PostgreSQL wants it, so the proof differs from the text; the
    /// server's side is computed here from the same definitions.
    #[tokio::test]
    async fn both_sides_prove_that_they_know_the_password() {
        let mut scram = Scram::with_nonce("rOprNGfwEbeRWgbNEkqO".into());
        assert_eq!(scram.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let cache = Cache::default();
        let answer = scram.prove(challenge.as_bytes(), "pencil", &cache).await.unwrap();
        assert!(answer.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="), "{answer}");
        // Known from the RFC: the salted password gives this stored key, whatever the message.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let key = cache.salted("pencil", &salt, NonZeroU32::new(4096).unwrap()).await.unwrap();
        let client = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), b"Client Key");
        let stored = digest::digest(&digest::SHA256, client.as_ref());
        assert_eq!(STANDARD.encode(stored.as_ref()), "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=");
        let right = format!("v={}", STANDARD.encode(scram.expected.as_ref().unwrap().as_ref()));
        assert!(scram.verify(right.as_bytes()).is_ok());
        assert!(scram.prove(challenge.as_bytes(), "pencil", &cache).await.is_err(), "one challenge a login");
        for wrong in ["v=", "v=AAAA", "e=other-error", "", &right[..right.len() - 4]] {
            assert!(scram.verify(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_hostile_challenge_is_refused() {
        for challenge in [
            "",
            "r=other,s=AAAA,i=4096",
            "r=abc1,s=AAAA,i=2000000000",
            "r=abc1,s=AAAA,i=0",
            "r=abc1,s=?,i=1",
            "m=x,r=abc1,s=AAAA,i=1",
        ] {
            let mut scram = Scram::with_nonce("abc".into());
            let refused = scram.prove(challenge.as_bytes(), "x", &Cache::default()).await;
            assert!(refused.is_err(), "{challenge}");
        }
    }
}
