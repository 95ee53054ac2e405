//! The links in mails by which a person answers for an incident: who holds one need not log in.
//!
//! A link says which incident, which person and until when, and is signed with a key that this installation made at its
//! first start and keeps in the state database. Nothing is kept per link. It only opens a page; what the page's button
//! does is `acts.rs`'s.

use super::letter::AckUrl;
use crate::config::site::Site;
use crate::store::{Doing, Store, StoreError, micros};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::hmac;
use ring::rand::SecureRandom;
use sqlx::Row;
use std::sync::Arc;

/// How long a link opens its page. An incident that lasts is reminded of, and each mail has a fresh link; a mail that is
/// forwarded, archived or stolen later must not act for its first reader for ever. A week outlasts every holiday
/// weekend between a mail and its reader.
pub const LASTS: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Bytes of a key.
const KEY: usize = 32;
/// Bytes of the incident's number, the expiry and the signature.
const FIXED: usize = 8 + 8 + 32;
/// Characters of a token at most; an id of a person has fewer than a hundred.
const LONGEST: usize = 300;
/// What is signed begins with it: a signature made for something else opens nothing here.
const PURPOSE: &[u8] = b"ioc-watch acknowledge\0";

/// Makes links and reads them. Cheap to clone.
#[derive(Clone)]
pub struct Links(Arc<hmac::Key>);

/// What a link proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub incident: i64,
    /// A person's id.
    pub person: String,
}

/// Why a link proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLink {
    /// Not made here, or changed on the way.
    Forged,
    /// It was good once.
    Expired,
}

impl Links {
    /// With the key of this installation, which is made if there is none. Of several that start at once on one
    /// database, one makes it and all use it.
    pub async fn open(store: &Store, now: Timestamp) -> Result<Links, StoreError> {
        const DOING: &str = "reading the key of the links in mails";
        let mut fresh = [0; KEY];
        let no_random = |_| StoreError::Sql("making the key of the links in mails", sqlx::Error::WorkerCrashed);
        ring::rand::SystemRandom::new().fill(&mut fresh).map_err(no_random)?;
        let mut tx = store.begin().await?;
        sqlx::query("INSERT INTO keys (name, secret, created_us) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING")
            .bind("links")
            .bind(hex(&fresh))
            .bind(micros(now))
            .execute(&mut *tx)
            .await
            .doing(DOING)?;
        // In a statement of its own: what another committed meanwhile is seen.
        let row = sqlx::query("SELECT secret FROM keys WHERE name = $1").bind("links").fetch_one(&mut *tx).await;
        let secret: String = row.and_then(|row| row.try_get("secret")).doing(DOING)?;
        tx.commit().await?;
        Ok(Links(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))))
    }

    /// Makes the link of a person for mails written at `now` about an incident.
    pub(super) fn of(&self, site: &Site, incident: i64, now: Timestamp) -> AckUrl {
        let (links, base) = (self.clone(), site.external_url.trim_end_matches('/').to_owned());
        let expires = now.saturating_add(LASTS).unwrap_or(now);
        Arc::new(move |person| Some(format!("{base}/ack/{}", links.token(incident, person, expires))))
    }

    #[cfg(test)]
    pub fn path(&self, incident: i64, person: &str, written: Timestamp) -> String {
        format!("/ack/{}", self.token(incident, person, written + LASTS))
    }

    fn token(&self, incident: i64, person: &str, expires: Timestamp) -> String {
        let mut bytes = Vec::with_capacity(FIXED + person.len());
        bytes.extend(incident.to_be_bytes());
        bytes.extend(expires.as_second().to_be_bytes());
        bytes.extend(person.as_bytes());
        let signature = hmac::sign(&self.0, &signed(&bytes));
        bytes.extend(signature.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a token proves at `now`.
    pub fn read(&self, token: &str, now: Timestamp) -> Result<Claim, BadLink> {
        let bytes =
            Some(token).filter(|token| token.len() <= LONGEST).and_then(|token| URL_SAFE_NO_PAD.decode(token).ok());
        let bytes = bytes.filter(|bytes| bytes.len() > FIXED).ok_or(BadLink::Forged)?;
        let (claim, signature) = bytes.split_at(bytes.len() - 32);
        // In a time that does not tell where they differ.
        hmac::verify(&self.0, &signed(claim), signature).map_err(|_| BadLink::Forged)?;
        let number = |bytes: &[u8]| bytes.try_into().map(i64::from_be_bytes).map_err(|_| BadLink::Forged);
        let (incident, expires) = (number(&claim[..8])?, number(&claim[8..16])?);
        let person = std::str::from_utf8(&claim[16..]).map_err(|_| BadLink::Forged)?.to_owned();
        if expires <= now.as_second() { Err(BadLink::Expired) } else { Ok(Claim { incident, person }) }
    }
}

fn signed(claim: &[u8]) -> Vec<u8> {
    [PURPOSE, claim].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::site::State;

    fn links(key: &str) -> Links {
        Links(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())))
    }

    #[test]
    fn a_link_proves_what_it_was_made_for_and_nothing_else() {
        let (ours, others) = (links("ours"), links("others"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let token = ours.token(7, "it-tam-ky", now + LASTS);
        let good = Ok(Claim { incident: 7, person: "it-tam-ky".into() });
        assert_eq!(ours.read(&token, now), good);
        assert_eq!(ours.read(&token, now + LASTS - SignedDuration::from_secs(1)), good);
        assert_eq!(ours.read(&token, now + LASTS), Err(BadLink::Expired));
        assert_eq!(others.read(&token, now), Err(BadLink::Forged), "of another installation");
        for bad in ["", "a", "AAAA", &token[1..], &format!("{token}A"), &format!("{token}="), &"A".repeat(2_000)] {
            assert_eq!(ours.read(bad, now), Err(BadLink::Forged), "{bad:?}");
        }
        // No bit of it can be changed.
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ours.read(&URL_SAFE_NO_PAD.encode(&changed), now), Err(BadLink::Forged), "bit {bit}");
        }
        // A signature for another purpose.
        let mut other = bytes[..bytes.len() - 32].to_vec();
        other.extend(hmac::sign(&ours.0, &other.clone()).as_ref());
        assert_eq!(ours.read(&URL_SAFE_NO_PAD.encode(&other), now), Err(BadLink::Forged));
    }

    #[tokio::test]
    async fn those_who_start_at_once_agree_on_the_key_and_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let stores = [
            Store::open(&State::Sqlite, dir.path()).await.unwrap(),
            Store::open(&State::Sqlite, dir.path()).await.unwrap(),
        ];
        let (first, second) = tokio::join!(Links::open(&stores[0], now), Links::open(&stores[1], now));
        let token = first.unwrap().token(1, "a", now + LASTS);
        assert!(second.unwrap().read(&token, now).is_ok());
        let again = Store::open(&State::Sqlite, dir.path()).await.unwrap();
        assert!(Links::open(&again, now).await.unwrap().read(&token, now).is_ok());
    }
}
