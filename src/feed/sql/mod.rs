//! Rows from a query to PostgreSQL or MySQL/MariaDB, from a watermark on.
//!
//! The query is asked in batches in the order of the watermark. A batch that is full may end in the midst of rows with
//! one watermark: those are left to the next. Rows with the watermark that was read last are asked for again (see
//! `watermark.rs`) and known again by their digest, so a row is neither lost nor counted twice.

mod session;
mod watermark;

use super::columns::{Columns, Manner, Row};
use super::http::{Turns, fingerprint};
use super::rejected::RejectedRow;
use super::standing::{self, Batch, Intake, Standing};
use super::value::fold;
use super::{FeedError, Gatherer, Place, Polled, Reason, Rejection};
use crate::config::feeds::{Feed, Sql, WATERMARK};
use crate::config::probes::sql::Engine;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use session::{Answer, Session};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use watermark::Watermark;

/// Batches read in one poll; what is left is read in the next.
const MAX_BATCHES: usize = 1_000;
/// More rows with one watermark than this are not read.
const MAX_EQUAL: u32 = 200_000;
/// Rows that are known again.
const KNOWN: usize = 5_000;

/// Where the feed stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Position {
    watermark: Option<Watermark>,
    /// Digests of rows that were read and will be seen again, oldest first.
    known: Vec<u64>,
}

/// One query.
pub struct SqlFeed<G> {
    feed: Feed,
    sql: Sql,
    mapping: String,
    gatherer: Arc<G>,
    turns: Turns,
}

impl<G: Gatherer> SqlFeed<G> {
    pub fn new(feed: &Feed, sql: &Sql, gatherer: Arc<G>) -> SqlFeed<G> {
        let asked =
            format!("{:?} {} {:?} {} {} {:?}", sql.engine, sql.host, sql.database, sql.query, sql.watermark, sql.start);
        let rows = standing::mapping(feed, gatherer.columns());
        let mapping = super::reader::hex(&Sha256::digest(format!("{rows} {asked}")))[..16].to_string();
        SqlFeed { feed: feed.clone(), sql: sql.clone(), mapping, gatherer, turns: Turns::default() }
    }

    pub fn id(&self) -> &str {
        &self.feed.id
    }

    pub async fn poll(&mut self, place: &Place, now: Timestamp) -> Result<Polled, FeedError> {
        if !self.turns.is_due(now) {
            if !self.turns.is_failing() {
                standing::succeeded(place, self.id(), now);
            }
            return Ok(Polled::IDLE);
        }
        let mut polled = Polled::default();
        match self.round(place, now, &mut polled).await {
            Ok(is_all) => {
                self.turns.succeeded(now, if is_all { self.sql.every } else { Duration::ZERO });
                standing::succeeded(place, self.id(), now);
                Ok(polled)
            }
            Err(error) => {
                self.turns.failed(now, None);
                Err(error)
            }
        }
    }

    /// `true`: nothing is left.
    async fn round(&self, place: &Place, now: Timestamp, polled: &mut Polled) -> Result<bool, FeedError> {
        let mut standing = Standing::load(&place.store, self.id(), &self.mapping).await?;
        // A position that cannot be read is of a version that is not ours: begin anew, which changes nothing.
        let mut position: Position = serde_json::from_str(&standing.position).unwrap_or_default();
        let intake = Intake { place, feed: self.id(), gatherer: &self.gatherer, now };
        let mut session = Session::open(&self.sql).await?;
        for _ in 0..MAX_BATCHES {
            let is_all = self.batch(&mut session, &mut position, &mut standing, &intake, polled).await?;
            if is_all {
                session.close().await;
                return Ok(true);
            }
        }
        session.close().await;
        Ok(false)
    }

    async fn batch(
        &self,
        session: &mut Session,
        position: &mut Position,
        standing: &mut Standing,
        intake: &Intake<'_, G>,
        polled: &mut Polled,
    ) -> Result<bool, FeedError> {
        let begin = position.watermark.clone().unwrap_or_else(|| Watermark::start(self.sql.start.as_deref()));
        let known: HashSet<u64> = position.known.iter().copied().collect();
        let mut limit = self.sql.batch;
        let (answer, n_taken, is_all) = loop {
            let answer = session.ask(&self.statement(&begin, limit), self.sql.timeout).await?;
            if answer.rows.is_empty() {
                return Ok(true);
            }
            let marks = self.marks(&answer)?;
            if answer.rows.len() < limit as usize {
                let n = answer.rows.len();
                break (answer, n, true);
            }
            // What shares the last watermark may go on behind the limit.
            let last = &answer.rows[answer.rows.len() - 1][marks].text;
            let n = answer.rows.iter().position(|row| row[marks].text == *last).unwrap_or(0);
            if answer.rows[..n].iter().any(|row| !known.contains(&digest(row))) {
                break (answer, n, false);
            }
            if limit >= MAX_EQUAL {
                return Err(FeedError::Equal(limit));
            }
            limit = limit.saturating_mul(2).min(MAX_EQUAL);
        };
        let marks = self.marks(&answer)?;
        let batch = self.read(&answer, n_taken, &known, intake)?;
        self.advance(position, &answer.rows[..n_taken], marks, &begin);
        if batch.rows.is_empty() && batch.rejected.is_empty() {
            return Ok(is_all);
        }
        standing.position = serde_json::to_string(position).unwrap_or_default();
        intake.commit(batch, standing, polled).await?;
        polled.files += 1;
        Ok(is_all)
    }

    fn statement(&self, begin: &Watermark, limit: u32) -> String {
        let query = self.sql.query.replace(WATERMARK, &begin.literal(self.sql.overlap));
        let column = match self.sql.engine {
            Engine::Postgres => self.sql.watermark.clone(),
            Engine::Mysql => format!("`{}`", self.sql.watermark),
        };
        // On a line of its own, should the query end in a comment.
        format!("SELECT * FROM (\n{query}\n) AS ioc_rows ORDER BY {column} LIMIT {limit}")
    }

    /// The index of the watermark's column.
    fn marks(&self, answer: &Answer) -> Result<usize, FeedError> {
        let wanted = fold(&self.sql.watermark);
        let found = answer.names.iter().position(|name| fold(name) == wanted);
        found.ok_or_else(|| FeedError::Columns(format!("the result has no column {:?}", self.sql.watermark)))
    }

    /// The new ones among the rows that are taken.
    fn read(
        &self,
        answer: &Answer,
        n_taken: usize,
        known: &HashSet<u64>,
        intake: &Intake<'_, G>,
    ) -> Result<Batch<G::Row>, FeedError> {
        let header = answer.names.iter().map(|name| Cow::Borrowed(name.as_str()));
        let columns = Columns::bind(header, &self.feed, Manner::of(&self.feed), self.gatherer.columns());
        let columns = columns.map_err(|rejection| FeedError::Columns(rejection.detail))?;
        let mut batch = Batch { label: "sql".to_owned(), rows: Vec::with_capacity(n_taken), rejected: Vec::new() };
        for (index, fields) in answer.rows[..n_taken].iter().enumerate() {
            if known.contains(&digest(fields)) {
                continue;
            }
            let row: Row = fields.iter().map(|field| Ok(field.value())).collect();
            if !columns.takes_row(&row) {
                continue;
            }
            match self.gatherer.parse(&columns.cells_of(&row), intake.now) {
                Ok(row) => batch.rows.push(row),
                Err(rejection) => {
                    let texts: Vec<&str> = fields.iter().map(|field| field.text.as_str()).collect();
                    let raw = texts.join("\t").into_bytes();
                    batch.rejected.push(RejectedRow { line: index as u64 + 1, rejection, raw });
                }
            }
        }
        // A row without a watermark would be read for ever, or never: it is told of.
        let marks = self.marks(answer)?;
        if let Some(index) = answer.rows[..n_taken].iter().position(|row| Watermark::of(&row[marks]).is_none()) {
            let raw = answer.rows[index][marks].text.clone().into_bytes();
            let detail = format!("{} is no watermark", self.sql.watermark);
            let rejection = Rejection::new(Reason::Missing, detail);
            if !known.contains(&digest(&answer.rows[index])) {
                batch.rejected.push(RejectedRow { line: index as u64 + 1, rejection, raw });
            }
        }
        Ok(batch)
    }

    fn advance(&self, position: &mut Position, taken: &[Vec<session::Field>], marks: usize, begin: &Watermark) {
        let Some(last) = taken.iter().rev().find_map(|row| Watermark::of(&row[marks])) else {
            position.known.extend(taken.iter().map(|row| digest(row)));
            position.known.drain(..position.known.len().saturating_sub(KNOWN));
            return;
        };
        let is_seen_again = |row: &&Vec<session::Field>| !self.sql.overlap.is_zero() || row[marks].text == last.text;
        if last != *begin && self.sql.overlap.is_zero() {
            position.known.clear();
        }
        let before: HashSet<u64> = position.known.iter().copied().collect();
        let again = taken.iter().filter(is_seen_again).map(|row| digest(row)).filter(|digest| !before.contains(digest));
        position.known.extend(again);
        position.known.drain(..position.known.len().saturating_sub(KNOWN));
        position.watermark = Some(last);
    }
}

fn digest(row: &[session::Field]) -> u64 {
    let mut text = Vec::new();
    for field in row {
        text.extend_from_slice(&(field.text.len() as u64).to_be_bytes());
        text.extend_from_slice(field.text.as_bytes());
    }
    fingerprint(&text)
}
