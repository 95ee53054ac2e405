//! Proves who asks: passwords (of the login page and of HTTP Basic), bearer tokens, session cookies.
//!
//! Argon2 is dear by design. It runs beside the server's threads, few at a time, and never because a stranger asks often:
//! the throttle comes first, and a Basic password that was right is remembered by a keyed hash for some minutes.

use super::access::Identity;
use super::session::{self, Sessions};
use super::throttle::{Attempt, Throttle};
use crate::config::site::Token;
use crate::config::users::{self, User, Users};
use crate::config::{Config, Secret};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use base64::Engine;
use jiff::Timestamp;
use ring::hmac;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

/// Passwords that are hashed at once: each takes 19 MiB or what the users file says.
const AT_ONCE: usize = 2;
/// How long a login waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// How long a Basic password that was right is not hashed again.
const PROVEN_FOR: Duration = Duration::from_secs(300);
/// Basic passwords that are remembered.
const MAX_PROVEN: usize = 1_024;
/// Longer ones are nobody's, in bytes.
const MAX_PASSWORD: usize = 1_024;
/// Hashed when there is no such user, so that the answer takes as long. Of a password that nobody has.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ib2Q$Zm9yIG5vIHVzZXIgYXQgYWxsLCBvbmx5IGZvciB0aW1lIQ";

/// What lives as long as the daemon: sessions, failures, proven passwords.
pub struct Door {
    pub sessions: Sessions,
    throttle: Mutex<Throttle>,
    proven: Mutex<HashMap<[u8; 32], Instant>>,
    /// Of `proven`; new at every start. Without a random source nothing is remembered.
    key: Option<hmac::Key>,
    turns: Arc<Semaphore>,
    /// Who proves a Basic password that is not remembered.
    line: tokio::sync::Mutex<()>,
    metrics: Arc<Metrics>,
}

/// Why somebody is not who they say.
#[derive(Debug)]
pub enum Failure {
    /// No such user, or another password: which of them is not told.
    Wrong,
    /// Too many failures: try again after so long.
    Throttled(Duration),
    /// Too many logins at once.
    Busy,
    Store(StoreError),
}

impl Failure {
    /// The label value of `ioc_logins_total`.
    fn as_str(&self) -> &'static str {
        match self {
            Failure::Wrong => "wrong",
            Failure::Throttled(_) => "throttled",
            Failure::Busy => "busy",
            Failure::Store(_) => "error",
        }
    }
}

/// What a request brings.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// The whole `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The session cookie's value.
    pub cookie: Option<&'a str>,
    /// Where the request comes from, as far as it is known.
    pub client: Option<IpAddr>,
}

impl Door {
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Door {
        let random = ring::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).ok();
        Door {
            sessions: Sessions::new(store),
            throttle: Mutex::default(),
            proven: Mutex::default(),
            key,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            line: tokio::sync::Mutex::default(),
            metrics,
        }
    }

    /// Who the credentials prove; `None` if there are none (a session that ended is none).
    pub async fn identify(&self, config: &Config, given: Credentials<'_>) -> Result<Option<Identity>, Failure> {
        let users = config.server.users.as_ref();
        if let Some(authorization) = given.authorization {
            let (scheme, value) = authorization.split_once(' ').ok_or(Failure::Wrong)?;
            if scheme.eq_ignore_ascii_case("bearer") {
                let token = find(&config.server.tokens, value.trim()).ok_or(Failure::Wrong)?;
                return Ok(Some(Identity::token(token, &config.agencies)));
            }
            let users = users.filter(|_| scheme.eq_ignore_ascii_case("basic")).ok_or(Failure::Wrong)?;
            let (name, password) = basic(value.trim()).ok_or(Failure::Wrong)?;
            let user = self.basic(users, &name, &password, given.client).await?;
            return Ok(Some(Identity::user(user, config, None)));
        }
        let (Some(users), Some(token)) = (users, given.cookie) else { return Ok(None) };
        let user = self.sessions.find(token, users, Timestamp::now()).await.map_err(Failure::Store)?;
        Ok(user.map(|user| Identity::user(user, config, Some(session::csrf(token)))))
    }

    async fn basic<'u>(
        &self,
        users: &'u Users,
        name: &str,
        password: &str,
        client: Option<IpAddr>,
    ) -> Result<&'u User, Failure> {
        let place = users.find(name).and_then(|user| Some((user, self.place(user, password)?)));
        let Some((user, place)) = place else { return self.login(users, name, password, client).await };
        if self.is_proven(&place) {
            return Ok(user);
        }
        // A dashboard asks twenty times at once: one of them proves the password, the others wait for that. Guesses
        // wait in this line, too, but the throttle moves it on.
        let line = tokio::time::timeout(TURN, self.line.lock()).await;
        let Ok(_line) = line else { return Err(Failure::Busy) };
        if self.is_proven(&place) {
            return Ok(user);
        }
        let user = self.login(users, name, password, client).await?;
        let now = Instant::now();
        let mut proven = lock(&self.proven);
        if proven.len() >= MAX_PROVEN {
            proven.retain(|_, at| now.duration_since(*at) < PROVEN_FOR);
        }
        if proven.len() >= MAX_PROVEN {
            proven.clear();
        }
        proven.insert(place, now);
        Ok(user)
    }

    fn is_proven(&self, place: &[u8; 32]) -> bool {
        lock(&self.proven).get(place).is_some_and(|proven| proven.elapsed() < PROVEN_FOR)
    }

    /// Where a user with this very hash and password is remembered.
    fn place(&self, user: &User, password: &str) -> Option<[u8; 32]> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        for part in [&user.name, user.hash.expose(), password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut place = [0; 32];
        place.copy_from_slice(context.sign().as_ref());
        Some(place)
    }

    /// Checks a password, and counts and slows down those that are wrong.
    pub async fn login<'u>(
        &self,
        users: &'u Users,
        name: &str,
        password: &str,
        client: Option<IpAddr>,
    ) -> Result<&'u User, Failure> {
        let outcome = self.try_login(users, name, password, client).await;
        let result = outcome.as_ref().map_or_else(Failure::as_str, |_| "ok");
        self.metrics.own.logins.with_label_values(&[result]).inc();
        let client = client.map_or_else(|| "unknown".to_owned(), |client| client.to_string());
        match &outcome {
            Ok(user) => tracing::info!(user = %user.name, %client, "{} logged in from {client}", user.name),
            // The name as typed may be a password typed into the wrong field.
            Err(Failure::Store(_)) => {}
            // The first ones were told; thousands a minute may follow, and are counted.
            Err(Failure::Throttled(_)) => {
                let user = users.find(name).map_or("unknown", |user| &user.name);
                tracing::debug!(user, %client, result, "a login as {user} from {client} has to wait");
            }
            Err(_) => {
                let user = users.find(name).map_or("unknown", |user| &user.name);
                tracing::warn!(user, %client, result, "a login as {user} from {client} was refused: {result}");
            }
        }
        outcome
    }

    async fn try_login<'u>(
        &self,
        users: &'u Users,
        name: &str,
        password: &str,
        client: Option<IpAddr>,
    ) -> Result<&'u User, Failure> {
        let user = users.find(name);
        // What could be no name at all need not be told apart.
        let account = if users::is_name(name) { name } else { "" };
        let attempt = Attempt { account, known: user.is_some(), peer: client };
        lock(&self.throttle).begin(attempt, Instant::now()).map_err(Failure::Throttled)?;
        if password.len() > MAX_PASSWORD {
            return Err(Failure::Wrong);
        }
        let turn = tokio::time::timeout(TURN, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Failure::Busy) };
        let hash = user.map_or_else(|| Secret::new(NOBODY), |user| user.hash.clone());
        let password: String = password.nfc().collect();
        let right = tokio::task::spawn_blocking(move || {
            let right = users::verify(&password, &hash);
            drop(turn);
            right
        });
        match (right.await, user) {
            (Ok(true), Some(user)) => {
                lock(&self.throttle).succeeded(attempt, Instant::now());
                Ok(user)
            }
            _ => Err(Failure::Wrong),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both are maps that a panic cannot leave half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `user:password` of HTTP Basic.
fn basic(value: &str) -> Option<(String, String)> {
    if value.len() > 4 * MAX_PASSWORD {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(value).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Compares digests, and every token every time: neither the place of the first wrong byte nor which token was nearly
/// right shows in the time it takes.
fn find<'a>(tokens: &'a [Token], secret: &str) -> Option<&'a Token> {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let given = digest(secret);
    let mut found = None;
    for token in tokens {
        let known = digest(token.secret.expose());
        let difference = given.as_ref().iter().zip(known.as_ref()).fold(0, |all, (a, b)| all | (a ^ b));
        if difference == 0 && !secret.is_empty() {
            found = Some(token);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nobody_is_sound_and_as_dear_as_others() {
        assert_eq!(users::check_hash(NOBODY), Ok(()));
        assert!(!users::verify("", &Secret::new(NOBODY)));
    }

    #[test]
    fn basic_credentials_are_read_up_to_the_first_colon() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        assert_eq!(basic(&encode("trực:mật:khẩu")), Some(("trực".into(), "mật:khẩu".into())));
        for bad in ["", "%%%", &encode("no colon"), &encode(&format!("a:{}", "x".repeat(5_000)))] {
            assert_eq!(basic(bad), None, "{bad}");
        }
    }
}
