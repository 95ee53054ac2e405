//! How far each file content has been read: the table `feed_files`.

use super::csv::Place;
use super::watch::Seen;
use crate::store::{Doing, Store, StoreError, Tx, micros};
use jiff::Timestamp;
use sqlx::Row;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    Reading,
    Done,
    /// The whole file could not be used.
    Refused,
}

impl FileState {
    fn as_str(self) -> &'static str {
        match self {
            FileState::Reading => "reading",
            FileState::Done => "done",
            FileState::Refused => "refused",
        }
    }
}

/// What is known of one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub hash: String,
    pub mapping: String,
    pub state: FileState,
    pub place: Place,
    pub accepted: u64,
    pub rejected: u64,
    pub rejected_bytes: u64,
}

impl Position {
    pub fn start(hash: String, mapping: String) -> Position {
        let (accepted, rejected, rejected_bytes) = (0, 0, 0);
        Position { hash, mapping, state: FileState::Reading, place: Place::START, accepted, rejected, rejected_bytes }
    }

    /// Whether reading the content again under `mapping` could change anything.
    pub fn is_final(&self, mapping: &str) -> bool {
        match self.state {
            FileState::Reading => false,
            FileState::Done => self.rejected == 0 || self.mapping == mapping,
            FileState::Refused => self.mapping == mapping,
        }
    }
}

const READ: &str =
    "SELECT hash, mapping, state, offset_bytes, line, accepted, rejected, rejected_bytes FROM feed_files";
const DOING: &str = "reading a feed's position";

/// By content.
pub async fn by_hash(store: &Store, feed: &str, hash: &str) -> Result<Option<Position>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("{READ} WHERE feed = $1 AND hash = $2"));
    let row = sqlx::query(sql).bind(feed).bind(hash).fetch_optional(store.reader()).await.doing(DOING)?;
    row.map(|row| decode(&row)).transpose().doing(DOING)
}

/// By name, size and time of change: a content that needs no hashing.
pub async fn by_seen(store: &Store, feed: &str, seen: &Seen) -> Result<Option<Position>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("{READ} WHERE feed = $1 AND file = $2 AND size = $3 AND modified_us = $4"));
    let query = sqlx::query(sql).bind(feed).bind(seen.name.to_string_lossy().into_owned());
    let query = query.bind(seen.size as i64).bind(seen.modified_us);
    let row = query.fetch_optional(store.reader()).await.doing(DOING)?;
    row.map(|row| decode(&row)).transpose().doing(DOING)
}

pub async fn save(tx: &mut Tx, feed: &str, seen: &Seen, position: &Position, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO feed_files (feed, hash, file, size, modified_us, mapping, state, offset_bytes, line, accepted, \
         rejected, rejected_bytes, seen_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (feed, hash) DO UPDATE SET file = excluded.file, size = excluded.size, \
         modified_us = excluded.modified_us, mapping = excluded.mapping, state = excluded.state, \
         offset_bytes = excluded.offset_bytes, line = excluded.line, accepted = excluded.accepted, \
         rejected = excluded.rejected, rejected_bytes = excluded.rejected_bytes, seen_us = excluded.seen_us",
    )
    .bind(feed)
    .bind(&position.hash)
    .bind(seen.name.to_string_lossy().into_owned())
    .bind(seen.size as i64)
    .bind(seen.modified_us)
    .bind(&position.mapping)
    .bind(position.state.as_str())
    .bind(position.place.offset as i64)
    .bind(position.place.line as i64)
    .bind(position.accepted as i64)
    .bind(position.rejected as i64)
    .bind(position.rejected_bytes as i64)
    .bind(micros(now))
    .execute(&mut **tx)
    .await
    .doing("writing a feed's position")?;
    Ok(())
}

fn decode(row: &sqlx::any::AnyRow) -> Result<Position, sqlx::Error> {
    // Counts and offsets were written from unsigned numbers.
    let unsigned = |name: &str| row.try_get::<i64, _>(name).map(|n| n.max(0) as u64);
    let state: String = row.try_get("state")?;
    Ok(Position {
        hash: row.try_get("hash")?,
        mapping: row.try_get("mapping")?,
        state: match state.as_str() {
            "done" => FileState::Done,
            "refused" => FileState::Refused,
            _ => FileState::Reading,
        },
        place: Place { offset: unsigned("offset_bytes")?, line: unsigned("line")?.max(1) },
        accepted: unsigned("accepted")?,
        rejected: unsigned("rejected")?,
        rejected_bytes: unsigned("rejected_bytes")?,
    })
}
