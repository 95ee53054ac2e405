//! Who is logged in at the pages: a random token in a cookie, its SHA-256 in the state database, so that sessions
//! survive a restart and a stolen database opens nothing.
//!
//! A session ends by logging out, by idling, by age, and as soon as its user is removed or has another password.

use crate::config::Secret;
use crate::config::users::{User, Users};
use crate::store::{Doing, Store, StoreError, micros};
use jiff::{SignedDuration, Timestamp};
use ring::rand::SecureRandom;
use sqlx::Row;
use std::fmt::Write;

/// Without a request for so long a session ends. A page that renews itself counts as a request.
const IDLE: SignedDuration = SignedDuration::from_hours(12);
/// The oldest a session becomes.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How often the last use is written: not at every request.
const SEEN_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// Of one user; another login ends the oldest.
const MAX_SESSIONS: i64 = 20;

/// Reads and writes the sessions.
#[derive(Clone)]
pub struct Sessions(Store);

impl Sessions {
    pub fn new(store: Store) -> Sessions {
        Sessions(store)
    }

    /// Begins a session of someone who proved who they are, and gives the cookie's token.
    pub async fn open(&self, user: &User, now: Timestamp) -> Result<String, StoreError> {
        const DOING: &str = "beginning a session";
        let token = random_token().ok_or_else(|| StoreError::Sql(DOING, sqlx::Error::WorkerCrashed))?;
        let mut tx = self.0.begin().await?;
        sqlx::query("DELETE FROM sessions WHERE created_us <= $1 OR seen_us <= $2")
            .bind(micros(now - LONGEST))
            .bind(micros(now - IDLE))
            .execute(&mut *tx)
            .await
            .doing(DOING)?;
        sqlx::query(
            "DELETE FROM sessions WHERE user_name = $1 AND token NOT IN \
             (SELECT token FROM sessions WHERE user_name = $2 ORDER BY created_us DESC LIMIT $3)",
        )
        .bind(&user.name)
        .bind(&user.name)
        .bind(MAX_SESSIONS - 1)
        .execute(&mut *tx)
        .await
        .doing(DOING)?;
        sqlx::query("INSERT INTO sessions (token, user_name, stamp, created_us, seen_us) VALUES ($1, $2, $3, $4, $5)")
            .bind(digest(&token))
            .bind(&user.name)
            .bind(stamp(&user.hash))
            .bind(micros(now))
            .bind(micros(now))
            .execute(&mut *tx)
            .await
            .doing(DOING)?;
        tx.commit().await?;
        Ok(token)
    }

    /// The user whose session the token is, while it lasts.
    pub async fn find<'u>(
        &self,
        token: &str,
        users: &'u Users,
        now: Timestamp,
    ) -> Result<Option<&'u User>, StoreError> {
        const DOING: &str = "looking for a session";
        if token.len() != 2 * TOKEN || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let digest = digest(token);
        let row = sqlx::query("SELECT user_name, stamp, created_us, seen_us FROM sessions WHERE token = $1")
            .bind(&digest)
            .fetch_optional(self.0.reader())
            .await
            .doing(DOING)?;
        let Some(row) = row else { return Ok(None) };
        let name: String = row.try_get("user_name").doing(DOING)?;
        let session_stamp: String = row.try_get("stamp").doing(DOING)?;
        let (created, seen): (i64, i64) =
            (row.try_get("created_us").doing(DOING)?, row.try_get("seen_us").doing(DOING)?);
        let lasts = created > micros(now - LONGEST) && seen > micros(now - IDLE);
        let user = users.find(&name).filter(|user| lasts && stamp(&user.hash) == session_stamp);
        if user.is_some() && seen <= micros(now - SEEN_EVERY) {
            let mut tx = self.0.begin().await?;
            sqlx::query("UPDATE sessions SET seen_us = $1 WHERE token = $2")
                .bind(micros(now))
                .bind(&digest)
                .execute(&mut *tx)
                .await
                .doing(DOING)?;
            tx.commit().await?;
        }
        Ok(user)
    }

    /// Ends a session; the token is worth nothing afterwards.
    pub async fn close(&self, token: &str) -> Result<(), StoreError> {
        const DOING: &str = "ending a session";
        let mut tx = self.0.begin().await?;
        sqlx::query("DELETE FROM sessions WHERE token = $1")
            .bind(digest(token))
            .execute(&mut *tx)
            .await
            .doing(DOING)?;
        tx.commit().await
    }

    /// Ends the sessions of users that are gone or have another password: at the start and after a reload.
    pub async fn purge(&self, users: Option<&Users>) -> Result<(), StoreError> {
        const DOING: &str = "ending the sessions of users that changed";
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query("SELECT DISTINCT user_name, stamp FROM sessions").fetch_all(&mut *tx).await;
        for row in rows.doing(DOING)? {
            let name: String = row.try_get("user_name").doing(DOING)?;
            let session_stamp: String = row.try_get("stamp").doing(DOING)?;
            let user = users.and_then(|users| users.find(&name));
            if user.is_some_and(|user| stamp(&user.hash) == session_stamp) {
                continue;
            }
            sqlx::query("DELETE FROM sessions WHERE user_name = $1 AND stamp = $2")
                .bind(&name)
                .bind(&session_stamp)
                .execute(&mut *tx)
                .await
                .doing(DOING)?;
        }
        tx.commit().await
    }
}

/// Random bytes of a token.
const TOKEN: usize = 32;

/// 256 random bits, in hexadecimal.
fn random_token() -> Option<String> {
    let mut bytes = [0; TOKEN];
    ring::rand::SystemRandom::new().fill(&mut bytes).ok()?;
    Some(hex(&bytes))
}

/// What the session's forms carry: only who has the cookie can know it, and it does not give the cookie away.
pub fn csrf(token: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, token.as_bytes());
    hex(ring::hmac::sign(&key, b"ioc-watch form").as_ref())
}

/// Changes with the password.
pub fn stamp(hash: &Secret) -> String {
    digest(hash.expose())
}

fn digest(text: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::site::State;

    fn user(name: &str, hash: &str) -> User {
        User {
            name: name.into(),
            hash: Secret::new(hash),
            person: None,
            roles: [crate::config::users::Role::Viewer].into(),
            agency: None,
            language: None,
        }
    }

    fn users(list: &[User]) -> Users {
        Users { file: "users.yml".into(), list: list.to_vec() }
    }

    #[tokio::test]
    async fn a_session_ends_by_each_of_its_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&State::Sqlite, dir.path()).await.unwrap();
        let sessions = Sessions::new(store.clone());
        let now: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        let everybody = users(&[user("a", "one"), user("b", "two")]);
        let (a, b) = (&everybody.list[0], &everybody.list[1]);
        let (first, second) = (sessions.open(a, now).await.unwrap(), sessions.open(b, now).await.unwrap());
        let found = async |token: &str, users: &Users, now| {
            Sessions::new(store.clone()).find(token, users, now).await.unwrap().map(|user| user.name.clone())
        };
        assert_eq!(found(&first, &everybody, now).await.as_deref(), Some("a"), "another process, the same database");
        assert_eq!(found("", &everybody, now).await, None);
        assert_eq!(found(&digest(&first), &everybody, now).await, None, "what the database holds opens nothing");

        let hours = |n| now + SignedDuration::from_hours(n);
        assert_eq!(found(&second, &everybody, hours(12)).await, None, "idle");
        let mut time = now;
        while time < hours(7 * 24) {
            assert_eq!(found(&first, &everybody, time).await.as_deref(), Some("a"), "{time}");
            time += SignedDuration::from_hours(11);
        }
        assert_eq!(found(&first, &everybody, hours(7 * 24)).await, None, "old");

        let third = sessions.open(a, now).await.unwrap();
        assert_eq!(found(&third, &users(&[user("a", "changed")]), now).await, None, "another password");
        assert_eq!(found(&third, &users(&[user("b", "two")]), now).await, None, "removed");
        assert_eq!(found(&third, &everybody, now).await.as_deref(), Some("a"));
        sessions.close(&third).await.unwrap();
        assert_eq!(found(&third, &everybody, now).await, None, "logged out");

        let fourth = sessions.open(a, now).await.unwrap();
        sessions.purge(Some(&users(&[user("a", "changed")]))).await.unwrap();
        assert_eq!(found(&fourth, &everybody, now).await, None, "the password was changed in between");
        let mut tokens = Vec::new();
        for index in 0..=MAX_SESSIONS {
            tokens.push(sessions.open(b, now + SignedDuration::from_secs(index)).await.unwrap());
        }
        assert_eq!(found(&tokens[0], &everybody, now).await, None, "bounded");
        assert!(found(&tokens[1], &everybody, now).await.is_some());
    }
}
