//! Rows that other programs hand in: JSON or one JSON value a line, taken row by row.
//!
//! What is answered is durable: rows, rejected rows and the answer itself are committed before it is sent. A body that
//! is sent again under its key gets the same answer. Who may send to whom is the web room's to say; which rows are
//! another agency's, the gatherer's.

use super::http::{Parsed, Pointers, raw};
use super::rejected::RejectedRow;
use super::standing::{self, Intake, Standing};
use super::{FeedError, Gatherer, Place, Polled, Reason, Rejection};
use crate::config::feeds::Feed;
use crate::store::{Doing, StoreError, Tx, micros};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use sqlx::Row;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Rows of one body.
pub const MAX_ROWS: usize = 10_000;
/// Rejected rows that an answer names; it says how many more there are.
const MAX_NAMED: usize = 1_000;
/// The longest key. Bytes.
const MAX_KEY: usize = 200;
/// How long an answer is known again.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Answers kept of one feed, so that whoever sends new keys without end fills no disk.
const MAX_KEPT: i64 = 20_000;

/// One body that somebody sends.
pub struct Post<'a> {
    /// The token's name.
    pub sender: &'a str,
    /// Whether rows of an agency are theirs to write; `None`: of all.
    pub may: Option<&'a (dyn Fn(&str) -> bool + Sync)>,
    /// Whose rows are that do not say.
    pub owner: Option<&'a str>,
    /// `Idempotency-Key`.
    pub key: Option<&'a str>,
    pub body: Bytes,
    pub now: Timestamp,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 if a row was taken or none was sent, else 422.
    pub status: u16,
    /// JSON.
    pub body: String,
}

#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("there is no push feed {0:?} here")]
    Unknown(String),
    #[error("there are several push feeds here: name one with ?feed={0}")]
    Ambiguous(String),
    #[error("the body is neither a JSON list nor one JSON object a line: {0}")]
    Body(String),
    #[error("{0} rows, {MAX_ROWS} are allowed at once")]
    TooMany(usize),
    #[error("Idempotency-Key must be 1 to {MAX_KEY} visible ASCII characters")]
    Key,
    #[error("this Idempotency-Key was used for another body")]
    KeyReused,
    #[error("taking the rows")]
    Feed(#[from] FeedError),
}

impl From<StoreError> for PushError {
    fn from(error: StoreError) -> PushError {
        PushError::Feed(FeedError::Store(error))
    }
}

/// The push feeds of the configuration in force, by id. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pushes(Arc<RwLock<HashMap<String, Door>>>);

type Door = (Arc<dyn Receiver>, Place);

impl Pushes {
    pub(super) fn open(&self, id: &str, receiver: Arc<dyn Receiver>, place: &Place) {
        // The place holds the doors themselves: a copy without them, or it would hold itself.
        let place = Place { pushes: Pushes::default(), ..place.clone() };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), (receiver, place));
    }

    /// Closes the feeds that are not wanted any more.
    pub(super) fn retain(&self, is_wanted: impl Fn(&str) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| is_wanted(id));
    }

    /// Takes a body for the feed `id`.
    pub async fn take(&self, id: &str, post: Post<'_>) -> Result<Reply, PushError> {
        let door = self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let Some((receiver, place)) = door else { return Err(PushError::Unknown(id.to_owned())) };
        receiver.take(&place, post).await
    }
}

/// Takes bodies for one feed.
pub(super) trait Receiver: Send + Sync {
    fn take<'a>(&'a self, place: &'a Place, post: Post<'a>) -> BoxFuture<'a, Result<Reply, PushError>>;

    /// Rows taken since the last call.
    fn taken(&self) -> u64;
}

/// One push feed.
pub(super) struct Push<G> {
    id: String,
    mapping: String,
    pointers: Arc<Pointers>,
    gatherer: Arc<G>,
    /// One body at a time: two that bring the same key must not both find it unknown.
    turn: tokio::sync::Mutex<()>,
    /// Rows taken that the room was not told of yet.
    n_taken: AtomicU64,
}

impl<G: Gatherer> Push<G> {
    pub fn new(feed: &Feed, gatherer: Arc<G>) -> Push<G> {
        Push {
            id: feed.id.clone(),
            mapping: standing::mapping(feed, gatherer.columns()),
            pointers: Arc::new(Pointers::new(feed, gatherer.columns())),
            gatherer,
            turn: tokio::sync::Mutex::default(),
            n_taken: AtomicU64::new(0),
        }
    }
}

impl<G: Gatherer> Receiver for Push<G> {
    fn take<'a>(&'a self, place: &'a Place, post: Post<'a>) -> BoxFuture<'a, Result<Reply, PushError>> {
        Box::pin(self.take_in_turn(place, post))
    }

    fn taken(&self) -> u64 {
        self.n_taken.swap(0, Ordering::Relaxed)
    }
}

impl<G: Gatherer> Push<G> {
    async fn take_in_turn(&self, place: &Place, post: Post<'_>) -> Result<Reply, PushError> {
        let key = post.key.map(sound_key).transpose()?;
        let _turn = self.turn.lock().await;
        let digest = super::reader::hex(&Sha256::digest(&post.body));
        if let Some(key) = key
            && let Some((known, reply)) = self.known(place, post.sender, key).await?
        {
            return if known == digest { Ok(reply) } else { Err(PushError::KeyReused) };
        }
        let (mut rows, mut rejected, n_rows) = self.parse(&post).await?;
        let mut standing = Standing::load(&place.store, &self.id, &self.mapping).await?;
        let intake = Intake { place, feed: &self.id, gatherer: &self.gatherer, now: post.now };
        let mut tx = place.store.begin().await?;
        if let Some(may) = post.may {
            self.refuse_foreign(&mut tx, may, &mut rows, &mut rejected).await?;
        }
        rejected.sort_by_key(|row| row.line);
        let reply = self.reply(n_rows, rows.len(), &rejected);
        let reasons: Vec<Reason> = rejected.iter().map(|row| row.rejection.reason).collect();
        intake.keep(&format!("push {}", post.sender), rejected, &mut standing).await?;
        let accepted = rows.len() as u64;
        let rows: Vec<G::Row> = rows.into_iter().map(|(_, row, _)| row).collect();
        if !rows.is_empty() {
            self.gatherer.write(&mut tx, self.gatherer.ready(rows), post.now).await?;
        }
        standing.save(&mut tx, &self.id, accepted > 0, post.now).await?;
        if let Some(key) = key {
            self.remember(&mut tx, &post, key, &digest, &reply).await?;
        }
        tx.commit().await?;
        standing::count(place, &self.id, accepted, &reasons);
        self.n_taken.fetch_add(accepted, Ordering::Relaxed);
        Ok(reply)
    }

    /// Reads the body on a thread that may block.
    async fn parse(&self, post: &Post<'_>) -> Result<Sorted<G::Row>, PushError> {
        let (body, now, owner) = (post.body.clone(), post.now, post.owner.map(str::to_owned));
        let (pointers, gatherer) = (self.pointers.clone(), self.gatherer.clone());
        let parsed = tokio::task::spawn_blocking(move || {
            let items = items(&body)?;
            let n_rows = items.len();
            let (mut rows, mut rejected) = (Vec::with_capacity(n_rows), Vec::new());
            for (line, item) in items {
                let parsed = match &item {
                    Ok(item) => pointers.parse(item, owner.as_deref(), &*gatherer, now),
                    Err((rejection, raw)) => Parsed::Rejected(rejection.clone(), raw.clone()),
                };
                match parsed {
                    Parsed::Row(row) => rows.push((line, row, item.map_or_else(|(_, raw)| raw, |item| raw(&item)))),
                    Parsed::NotOurs => {}
                    Parsed::Rejected(rejection, raw) => rejected.push(RejectedRow { line, rejection, raw }),
                }
            }
            Ok::<_, PushError>((rows, rejected, n_rows))
        });
        parsed.await.map_err(|error| FeedError::Task(PathBuf::from(&self.id), error))?
    }

    /// Takes out what is another agency's, by what the row says or by what is kept already.
    async fn refuse_foreign(
        &self,
        tx: &mut Tx,
        may: &(dyn Fn(&str) -> bool + Sync),
        rows: &mut Vec<(u64, G::Row, Vec<u8>)>,
        rejected: &mut Vec<RejectedRow>,
    ) -> Result<(), StoreError> {
        let typed: Vec<&G::Row> = rows.iter().map(|(_, row, _)| row).collect();
        let mut foreign = self.gatherer.foreign(tx, &typed, may).await?;
        foreign.extend(typed.iter().enumerate().filter(|(_, row)| !may(self.gatherer.agency(row))).map(|(n, _)| n));
        foreign.sort_unstable();
        foreign.dedup();
        for index in foreign.into_iter().rev() {
            let (line, _, raw) = rows.remove(index);
            let rejection = Rejection::new(Reason::Agency, "the row is another agency's");
            rejected.push(RejectedRow { line, rejection, raw });
        }
        Ok(())
    }

    fn reply(&self, n_rows: usize, n_accepted: usize, rejected: &[RejectedRow]) -> Reply {
        let named: Vec<Json> = rejected
            .iter()
            .take(MAX_NAMED)
            .map(|row| {
                let Rejection { reason, detail } = &row.rejection;
                json!({"line": row.line, "reason": reason.as_str(), "detail": detail})
            })
            .collect();
        let answer = json!({
            "feed": self.id, "rows": n_rows, "accepted": n_accepted, "rejected": rejected.len(),
            "rejections": named, "notNamed": rejected.len().saturating_sub(MAX_NAMED),
        });
        let status = if n_accepted == 0 && !rejected.is_empty() { 422 } else { 200 };
        Reply { status, body: answer.to_string() }
    }

    async fn known(&self, place: &Place, sender: &str, key: &str) -> Result<Option<(String, Reply)>, StoreError> {
        const DOING: &str = "looking for an earlier push";
        let sql = "SELECT digest, status, answer FROM feed_pushes WHERE feed = $1 AND sender = $2 AND push_key = $3";
        let query = sqlx::query(sql).bind(&self.id).bind(sender).bind(key);
        let Some(row) = query.fetch_optional(place.store.reader()).await.doing(DOING)? else { return Ok(None) };
        let status: i64 = row.try_get("status").doing(DOING)?;
        let reply = Reply { status: u16::try_from(status).unwrap_or(200), body: row.try_get("answer").doing(DOING)? };
        Ok(Some((row.try_get("digest").doing(DOING)?, reply)))
    }

    async fn remember(
        &self,
        tx: &mut Tx,
        post: &Post<'_>,
        key: &str,
        digest: &str,
        reply: &Reply,
    ) -> Result<(), StoreError> {
        const DOING: &str = "remembering a push";
        let old = post.now.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
        let sql = "DELETE FROM feed_pushes WHERE feed = $1 AND at_us < $2";
        sqlx::query(sql).bind(&self.id).bind(micros(old)).execute(&mut **tx).await.doing(DOING)?;
        let sql = "DELETE FROM feed_pushes WHERE feed = $1 AND at_us < \
                   (SELECT at_us FROM feed_pushes WHERE feed = $2 ORDER BY at_us DESC LIMIT 1 OFFSET $3)";
        let query = sqlx::query(sql).bind(&self.id).bind(&self.id).bind(MAX_KEPT);
        query.execute(&mut **tx).await.doing(DOING)?;
        sqlx::query(
            "INSERT INTO feed_pushes (feed, sender, push_key, digest, status, answer, at_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&self.id)
        .bind(post.sender)
        .bind(key)
        .bind(digest)
        .bind(i64::from(reply.status))
        .bind(&reply.body)
        .bind(micros(post.now))
        .execute(&mut **tx)
        .await
        .doing(DOING)?;
        Ok(())
    }
}

/// Rows with line and text, rejected ones, and how many there were.
type Sorted<R> = (Vec<(u64, R, Vec<u8>)>, Vec<RejectedRow>, usize);

fn sound_key(key: &str) -> Result<&str, PushError> {
    let sound = (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if sound { Ok(key) } else { Err(PushError::Key) }
}

/// An item, or why its line is none and what stands there.
type Item = Result<Json, (Rejection, Vec<u8>)>;

/// The items of a body with their line, or their place in the list, from 1.
fn items(body: &[u8]) -> Result<Vec<(u64, Item)>, PushError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let list: Vec<Json> = serde_json::from_slice(body).map_err(|error| PushError::Body(error.to_string()))?;
        if list.len() > MAX_ROWS {
            return Err(PushError::TooMany(list.len()));
        }
        return Ok((1..).zip(list.into_iter().map(Ok)).collect());
    }
    let mut items = Vec::new();
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let item = serde_json::from_slice(line).map_err(|error: serde_json::Error| {
            let raw = line[..line.len().min(4_096)].to_vec();
            (Rejection::new(Reason::Json, error.to_string()), raw)
        });
        items.push((index as u64 + 1, item));
        if items.len() > MAX_ROWS {
            return Err(PushError::TooMany(items.len()));
        }
    }
    // Not one line is an object: this is no such body at all.
    let is_any = items.iter().any(|(_, item)| item.as_ref().is_ok_and(Json::is_object));
    if !items.is_empty() && !is_any {
        return Err(PushError::Body("no line is a JSON object".into()));
    }
    Ok(items)
}

/// A push feed has nothing to look at: its rows come by themselves.
pub(super) struct Pushed {
    id: String,
    receiver: Arc<dyn Receiver>,
}

impl Pushed {
    pub fn new<G: Gatherer>(feed: &Feed, gatherer: Arc<G>) -> Pushed {
        Pushed { id: feed.id.clone(), receiver: Arc::new(Push::new(feed, gatherer)) }
    }
}

impl super::Feed for Pushed {
    fn id(&self) -> &str {
        &self.id
    }

    fn start(&self, place: &Place) {
        super::start(place, &self.id);
        place.pushes.open(&self.id, self.receiver.clone(), place);
    }

    fn poll<'a>(&'a mut self, place: &'a Place, now: Timestamp) -> BoxFuture<'a, Result<Polled, FeedError>> {
        standing::succeeded(place, &self.id, now);
        // The room brings its series in line when a poll says that rows came.
        let accepted = self.receiver.taken();
        Box::pin(std::future::ready(Ok(Polled { accepted, ..Polled::IDLE })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_lines_are_read_and_a_broken_line_is_one_bad_row() {
        let lines = items(b"{\"a\": 1}\r\n\n{broken\n{\"a\": 2}").unwrap();
        let kinds: Vec<(u64, bool)> = lines.iter().map(|(line, item)| (*line, item.is_ok())).collect();
        assert_eq!(kinds, [(1, true), (3, false), (4, true)]);
        assert_eq!(items(b" [{\"a\": 1}, 2]").unwrap().len(), 2);
        assert!(items(b"").unwrap().is_empty());
        for broken in [&b"[{\"a\": 1}"[..], b"<html>", b"\x00\x01", &b"[".repeat(100_000)] {
            assert!(matches!(items(broken), Err(PushError::Body(_))));
        }
        assert!(matches!(items(&b"{}\n".repeat(MAX_ROWS + 1)), Err(PushError::TooMany(_))));
    }
}
