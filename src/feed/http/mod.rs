//! Rows from a JSON answer, page by page. Asks when it is time, goes on where it stopped, and waits longer after each
//! failure. What an answer holds is read in `page.rs`.
//!
//! The position is the address of the page that is asked for next. A round ends at the last page, and the next one
//! begins there again, for rows are added to it; an answer that did not change is not read again.

mod page;
#[cfg(test)]
mod tests;

pub use page::{AnswerError, Pointers};

use super::rejected::RejectedRow;
use super::standing::{self, Batch, Intake, Standing};
use super::{FeedError, Gatherer, Place, Polled};
use crate::config::feeds::{Feed, Http, Next, Paging, Resume};
use crate::http::{Answer, Client};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Pages read in one poll; what is left is read in the next.
const MAX_PAGES: usize = 1_000;
/// Rejected rows that are known again, so that one on a page that is read every few minutes is counted once.
const KNOWN: usize = 2_000;
/// The first wait after a failure; it doubles from there.
const BACKOFF_MIN: Duration = Duration::from_secs(5);
/// The longest wait that we choose ourselves.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: i64 = 3_600;
/// The longest row that is kept among the rejected. Bytes.
const MAX_RAW: usize = 64 * 1024;

/// When a feed that is asked is asked next.
#[derive(Debug, Default)]
pub struct Turns {
    due: Option<Timestamp>,
    n_failures: u32,
}

impl Turns {
    pub fn is_due(&self, now: Timestamp) -> bool {
        // A clock set back must not silence a feed: its waits are short.
        self.due.is_none_or(|due| now >= due || due.duration_since(now) > SignedDuration::from_hours(25))
    }

    pub fn is_failing(&self) -> bool {
        self.n_failures > 0
    }

    pub fn succeeded(&mut self, now: Timestamp, every: Duration) {
        self.n_failures = 0;
        self.due = now.checked_add(SignedDuration::try_from(every).unwrap_or(SignedDuration::MAX)).ok();
    }

    /// `wait`: what the server asked for.
    pub fn failed(&mut self, now: Timestamp, wait: Option<Duration>) {
        let ours = BACKOFF_MIN.saturating_mul(1 << self.n_failures.min(16)).min(BACKOFF_MAX);
        self.n_failures += 1;
        let wait = SignedDuration::try_from(wait.unwrap_or(ours)).unwrap_or(SignedDuration::MAX);
        self.due = now.checked_add(wait).ok();
    }
}

/// Where the feed stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Position {
    /// The page that comes next; `None`: the first.
    url: Option<String>,
    /// Its number.
    number: u64,
    /// Of the answer that was read last from this very page.
    etag: Option<String>,
    digest: Option<String>,
    /// Where pages are numbered, the one before: only an empty one tells that it was the last.
    before: Option<Resting>,
    /// Rejected rows that may come again, oldest first.
    known: Vec<u64>,
}

/// A page that was read, to be asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Resting {
    url: String,
    number: u64,
    etag: Option<String>,
    digest: String,
}

impl Position {
    /// At a page that was read.
    fn at(resting: Resting, known: Vec<u64>) -> Position {
        let Resting { url, number, etag, digest } = resting;
        Position { url: Some(url), number, etag, digest: Some(digest), before: None, known }
    }

    /// At one that was not.
    fn on(url: &Url, number: u64, before: Option<Resting>, known: Vec<u64>) -> Position {
        Position { url: Some(url.to_string()), number, before, known, ..Position::default() }
    }

    fn begin(known: Vec<u64>) -> Position {
        Position { known, ..Position::default() }
    }
}

/// One JSON feed.
pub struct HttpFeed<G> {
    id: String,
    http: Http,
    mapping: String,
    pointers: Arc<Pointers>,
    gatherer: Arc<G>,
    headers: HeaderMap,
    /// Made at the first poll: it reads files.
    client: Option<Client>,
    turns: Turns,
}

/// What a page gave.
enum Visit {
    /// There is another page.
    More,
    /// It was the last.
    End,
}

impl<G: Gatherer> HttpFeed<G> {
    pub fn new(feed: &Feed, http: &Http, gatherer: Arc<G>) -> HttpFeed<G> {
        let asked = format!("{} {} {:?} {:?}", http.url, http.items, http.paging, http.resume);
        let rows = standing::mapping(feed, gatherer.columns());
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in &http.headers {
            // Both were checked as they were read.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        if let Some(bearer) = &http.bearer
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()))
        {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        HttpFeed {
            id: feed.id.clone(),
            http: http.clone(),
            mapping: super::reader::hex(&Sha256::digest(format!("{rows} {asked}")))[..16].to_string(),
            pointers: Arc::new(Pointers::new(feed, gatherer.columns())),
            gatherer,
            headers,
            client: None,
            turns: Turns::default(),
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub async fn poll(&mut self, place: &Place, now: Timestamp) -> Result<Polled, FeedError> {
        if !self.turns.is_due(now) {
            if !self.turns.is_failing() {
                standing::succeeded(place, &self.id, now);
            }
            return Ok(Polled::IDLE);
        }
        let mut polled = Polled::default();
        match self.round(place, now, &mut polled).await {
            Ok(Visit::End) => {
                self.turns.succeeded(now, self.http.every);
                standing::succeeded(place, &self.id, now);
                Ok(polled)
            }
            // The rest in the next poll.
            Ok(Visit::More) => {
                self.turns.succeeded(now, Duration::ZERO);
                Ok(polled)
            }
            Err(error) => {
                let wait = match &error {
                    FeedError::Status { retry_after, .. } => *retry_after,
                    _ => None,
                };
                self.turns.failed(now, wait);
                Err(error)
            }
        }
    }

    async fn client(&mut self) -> Result<Client, FeedError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let (ca_file, timeout, max_body) = (self.http.ca_file.clone(), self.http.timeout, self.http.max_body);
        let made = tokio::task::spawn_blocking(move || Client::new(ca_file.as_deref(), timeout, max_body)).await;
        let client = made.map_err(|error| FeedError::Task(PathBuf::from(&self.id), error))??;
        Ok(self.client.insert(client).clone())
    }

    async fn round(&mut self, place: &Place, now: Timestamp, polled: &mut Polled) -> Result<Visit, FeedError> {
        let client = self.client().await?;
        let mut standing = Standing::load(&place.store, &self.id, &self.mapping).await?;
        // A position that cannot be read is of a version that is not ours: begin anew, which changes nothing.
        let mut position: Position = serde_json::from_str(&standing.position).unwrap_or_default();
        let mut seen: HashSet<String> = HashSet::new();
        for _ in 0..MAX_PAGES {
            let url = match &position.url {
                Some(url) => Url::parse(url).unwrap_or_else(|_| self.http.url.clone()),
                None => self.first(&mut position),
            };
            if !seen.insert(url.to_string()) {
                return Err(FeedError::Loop);
            }
            let intake = Intake { place, feed: &self.id, gatherer: &self.gatherer, now };
            match self.visit(&client, &url, &mut position, &mut standing, &intake, polled).await? {
                Visit::More => {}
                Visit::End => return Ok(Visit::End),
            }
        }
        Ok(Visit::More)
    }

    fn first(&self, position: &mut Position) -> Url {
        match &self.http.paging {
            Paging::Page { param, start } => {
                position.number = *start;
                page::with_parameter(&self.http.url, param, &start.to_string())
            }
            _ => {
                position.number = 1;
                self.http.url.clone()
            }
        }
    }

    /// Asks for one page, reads it and moves the position, which is stored with its rows.
    async fn visit(
        &self,
        client: &Client,
        url: &Url,
        position: &mut Position,
        standing: &mut Standing,
        intake: &Intake<'_, G>,
        polled: &mut Polled,
    ) -> Result<Visit, FeedError> {
        let is_page = matches!(self.http.paging, Paging::Page { .. });
        let answer = client.get(url, &self.asking(position)).await?;
        match answer.status {
            200 | 304 => {}
            // The numbers end in one way or the other.
            404 if is_page && position.before.is_some() => return self.rest(position, standing, intake).await,
            // The cursor is too old: its rows are gone from there, and what is left is read from the beginning.
            410 => {
                *position = Position::begin(std::mem::take(&mut position.known));
                self.store(position, standing, intake).await?;
                return Err(status(&answer));
            }
            _ => return Err(status(&answer)),
        }
        let is_same = answer.status == 304 || position.digest.as_deref() == Some(digest(&answer).as_str());
        // A new page may be told in a header alone.
        if is_same && !(self.is_link() && page::link(&answer.headers).is_some()) {
            let Paging::Page { param, .. } = &self.http.paging else { return Ok(Visit::End) };
            // The page is as it was, but the one after it may be new.
            let next = page::with_parameter(url, param, &(position.number + 1).to_string());
            let Position { number, etag, digest, .. } = position.clone();
            let before = digest.map(|digest| Resting { url: url.to_string(), number, etag, digest });
            *position = Position::on(&next, number + 1, before, std::mem::take(&mut position.known));
            return Ok(Visit::More);
        }
        let read = self.read(url, position, &answer, intake).await?;
        let resting = self.resting(url, position.number, &answer);
        if is_page && read.n_items == 0 {
            return self.rest(position, standing, intake).await;
        }
        // The server does not know the parameter and gives the same page for ever.
        let is_repeated = position.before.as_ref().is_some_and(|before| before.digest == resting.digest);
        let is_stuck = read.n_items > 0 && read.next.as_ref() == Some(url);
        if is_page && is_repeated || is_stuck {
            return Err(FeedError::Loop);
        }
        let mut known = std::mem::take(&mut position.known);
        known.extend(read.refused);
        known.drain(..known.len().saturating_sub(KNOWN));
        let next = read.next.filter(|next| next != url);
        let is_last = next.is_none() || read.n_items == 0;
        *position = match next {
            _ if is_last && self.http.resume == Resume::First && self.http.paging != Paging::None => {
                Position::begin(known)
            }
            Some(next) => Position::on(&next, position.number + 1, is_page.then_some(resting), known),
            None => Position::at(resting, known),
        };
        standing.position = serde_json::to_string(position).unwrap_or_default();
        intake.commit(read.batch, standing, polled).await?;
        polled.files += 1;
        Ok(if is_last { Visit::End } else { Visit::More })
    }

    /// The pages have ended: goes back to the last one that had rows.
    async fn rest(
        &self,
        position: &mut Position,
        standing: &mut Standing,
        intake: &Intake<'_, G>,
    ) -> Result<Visit, FeedError> {
        let known = std::mem::take(&mut position.known);
        *position = match position.before.take() {
            Some(before) if self.http.resume == Resume::Last => Position::at(before, known),
            _ => Position::begin(known),
        };
        self.store(position, standing, intake).await?;
        Ok(Visit::End)
    }

    fn is_link(&self) -> bool {
        self.http.paging == Paging::Next(Next::Link)
    }

    fn resting(&self, url: &Url, number: u64, answer: &Answer) -> Resting {
        let etag = answer.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        // An answer without a body need not repeat the header that tells of a new page.
        Resting { url: url.to_string(), number, etag: etag.filter(|_| !self.is_link()), digest: digest(answer) }
    }

    fn asking(&self, position: &Position) -> HeaderMap {
        let mut headers = self.headers.clone();
        let etag = position.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok());
        if let Some(etag) = etag {
            headers.insert(header::IF_NONE_MATCH, etag);
        }
        headers
    }

    async fn store(
        &self,
        position: &Position,
        standing: &mut Standing,
        intake: &Intake<'_, G>,
    ) -> Result<(), FeedError> {
        standing.position = serde_json::to_string(position).unwrap_or_default();
        let mut tx = intake.place.store.begin().await?;
        standing.save(&mut tx, &self.id, false, intake.now).await?;
        Ok(tx.commit().await?)
    }

    /// Reads an answer on a thread that may block.
    async fn read(
        &self,
        url: &Url,
        position: &Position,
        answer: &Answer,
        intake: &Intake<'_, G>,
    ) -> Result<Read<G::Row>, FeedError> {
        let (http, pointers, gatherer) = (self.http.clone(), self.pointers.clone(), self.gatherer.clone());
        let (url, answer, now) = (url.clone(), answer.clone(), intake.now);
        let (number, known) = (position.number, position.known.iter().copied().collect::<HashSet<u64>>());
        let read = tokio::task::spawn_blocking(move || {
            let json: Json = serde_json::from_slice(&answer.body).map_err(|e| AnswerError::Json(e.to_string()))?;
            let items = page::items(&json, &http.items)?;
            let next = page::next(&http.paging, &url, number, &json, &answer.headers)?;
            let label = format!("{}{} {number}", url.host_str().unwrap_or_default(), url.path());
            let mut batch = Batch { label, rows: Vec::with_capacity(items.len()), rejected: Vec::new() };
            let mut refused = Vec::new();
            for (index, item) in items.iter().enumerate() {
                match pointers.parse(item, None, &*gatherer, now) {
                    Parsed::Row(row) => batch.rows.push(row),
                    Parsed::NotOurs => {}
                    Parsed::Rejected(rejection, raw) => {
                        let hash = fingerprint(&raw);
                        if !known.contains(&hash) {
                            refused.push(hash);
                            batch.rejected.push(RejectedRow { line: index as u64 + 1, rejection, raw });
                        }
                    }
                }
            }
            Ok::<_, AnswerError>(Read { batch, n_items: items.len(), next, refused })
        });
        Ok(read.await.map_err(|error| FeedError::Task(PathBuf::from(&self.id), error))??)
    }
}

struct Read<R> {
    batch: Batch<R>,
    n_items: usize,
    next: Option<Url>,
    refused: Vec<u64>,
}

/// What an item is.
pub enum Parsed<R> {
    Row(R),
    /// Not one that the feed takes.
    NotOurs,
    /// And its text.
    Rejected(super::Rejection, Vec<u8>),
}

impl Pointers {
    /// `owner`: whose the row is if it does not say.
    pub fn parse<G: Gatherer>(&self, item: &Json, owner: Option<&str>, gatherer: &G, now: Timestamp) -> Parsed<G::Row> {
        let row = self.row(item);
        if !self.columns.takes_row(&row) {
            return Parsed::NotOurs;
        }
        match gatherer.parse(&self.columns.cells_of(&row).owned_by(owner), now) {
            Ok(row) => Parsed::Row(row),
            Err(rejection) => Parsed::Rejected(rejection, raw(item)),
        }
    }
}

/// The text of an item, cut where it is too long to be kept.
pub fn raw(item: &Json) -> Vec<u8> {
    let mut raw = item.to_string().into_bytes();
    raw.truncate(MAX_RAW);
    raw
}

fn digest(answer: &Answer) -> String {
    super::reader::hex(&Sha256::digest(&answer.body))
}

/// Short, for what is only compared with a few thousand others.
pub fn fingerprint(raw: &[u8]) -> u64 {
    let digest = Sha256::digest(raw);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(bytes)
}

fn status(answer: &Answer) -> FeedError {
    let seconds = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.clamp(1, RETRY_AFTER_MAX).unsigned_abs()));
    FeedError::Status { code: answer.status, retry_after }
}
