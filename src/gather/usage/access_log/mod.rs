//! Use of an application from its web server's log.
//!
//! `tail.rs` follows the file, `line.rs` reads a line, `tally.rs` says what lines come to, `visitors.rs` and `sketch.rs` how
//! many people there were, `tables.rs` keeps it all. One read is one transaction: its counts and the place after it are
//! committed together, so a crash at any moment counts every line once.

mod line;
mod sketch;
mod tables;
mod tail;
mod tally;
#[cfg(test)]
mod tests;
mod visitors;

pub use tally::LineResult;

use crate::config::Id;
use crate::config::usage::AccessLog;
use crate::feed::{Feed, FeedError, Keeper, Place, Polled, Reason, RejectedRow};
use crate::metrics::columns::{access_log_file, feed as feed_columns, feed_rejected};
use crate::org::Org;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use regex::Regex;
use std::path::PathBuf;
use std::sync::Arc;
use tables::Kept;
use tail::{Mark, Step, Tail};
use tally::{Counter, Tally};
use visitors::Visitors;

/// Reads in one look: other sources wait for their turn.
const STEPS: usize = 32;
/// Unreadable lines kept of a day, in bytes of their file. More say nothing more.
const MAX_REJECTED: u64 = 16 * 1024 * 1024;

/// One log.
pub struct Log {
    app: Id,
    config: Arc<AccessLog>,
    robots: Regex,
    /// Taken up from the state database when it is not there.
    state: Option<Box<State>>,
}

/// What is known of a log between two reads.
struct State {
    tail: Tail,
    visitors: Visitors,
    kept: Kept,
}

/// What one read gave.
struct Read {
    after: Mark,
    tally: Tally,
    rejected: Vec<RejectedRow>,
    /// A rotated file could not be found.
    lost: bool,
}

impl Feed for Log {
    fn id(&self) -> &str {
        &self.config.id
    }

    fn start(&self, place: &Place) {
        let agency = place.org.site().as_str();
        let table = place.metrics.table(feed_columns::TABLE);
        table.add(table.row(&[agency, self.id()]), feed_columns::ROWS, 0.0);
        let table = place.metrics.table(feed_rejected::TABLE);
        for reason in [Reason::Fields, Reason::Missing, Reason::Status, Reason::Time] {
            table.add(table.row(&[agency, self.id(), reason.as_str()]), feed_rejected::REJECTED, 0.0);
        }
    }

    fn poll<'a>(&'a mut self, place: &'a Place, now: Timestamp) -> BoxFuture<'a, Result<Polled, FeedError>> {
        Box::pin(self.look(place, now))
    }
}

impl Log {
    pub fn new(app: Id, config: AccessLog) -> Log {
        let robots = Regex::new(AccessLog::ROBOTS).expect("a constant expression");
        Log { app, config: Arc::new(config), robots, state: None }
    }

    /// Reads what is new. After an error the next look goes on where the last commit left it.
    async fn look(&mut self, place: &Place, now: Timestamp) -> Result<Polled, FeedError> {
        let mut polled = Polled::default();
        for _ in 0..STEPS {
            let state = match self.state.take() {
                Some(state) => state,
                None => Box::new(self.resume(place).await?),
            };
            // Not put back after an error: memory may be ahead of what was committed.
            let (state, read) = self.read(state, place.org.clone(), now).await?;
            let Some(read) = read else {
                self.state = Some(self.settle(place, state, now).await?);
                break;
            };
            self.state = Some(self.commit(place, state, read, now, &mut polled).await?);
        }
        let table = place.metrics.table(feed_columns::TABLE);
        let row = table.row(&[place.org.site().as_str(), self.id()]);
        table.set(row, feed_columns::LAST_SUCCESS, now.as_millisecond() as f64 / 1000.0);
        Ok(polled)
    }

    async fn resume(&self, place: &Place) -> Result<State, FeedError> {
        let (kept, mark) = tables::load(&place.store, &self.app).await?;
        let days = tables::days(&place.store, &self.app).await?;
        let visitors = Visitors::new(days, kept.closed);
        Ok(State { tail: Tail::new(self.config.file.clone(), mark), visitors, kept })
    }

    /// One step on a thread that may block; `None` if there is nothing new.
    async fn read(
        &self,
        mut state: Box<State>,
        org: Arc<Org>,
        now: Timestamp,
    ) -> Result<(Box<State>, Option<Read>), FeedError> {
        let (config, robots, path) = (self.config.clone(), self.robots.clone(), self.config.file.clone());
        let work = move || {
            let read = step(&config, &robots, &mut state, &org, now);
            read.map(|read| (state, read)).map_err(|error| FeedError::Read(config.file.clone(), error))
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| FeedError::Task(path, error))?
    }

    /// Writes what a read came to and the place after it in one transaction.
    async fn commit(
        &self,
        place: &Place,
        mut state: Box<State>,
        read: Read,
        now: Timestamp,
        polled: &mut Polled,
    ) -> Result<Box<State>, FeedError> {
        state.kept.closed = state.visitors.closed();
        if !read.rejected.is_empty() {
            state = self.keep(place, state, read.rejected, now).await?;
        }
        let mut tx = place.store.begin().await?;
        tables::count(&mut tx, &self.app, &read.tally, &state.visitors, &place.org).await?;
        tables::save(&mut tx, &self.app, &state.kept, &read.after, read.lost).await?;
        tx.commit().await?;
        state.visitors.committed();
        state.tail.accept(read.after);
        if read.lost {
            let file = self.config.file.display();
            tracing::warn!(app = %self.app, %file, "a rotated log was compressed or removed before it was read to its end");
        }
        self.show(place, &read.tally, polled);
        Ok(state)
    }

    async fn keep(
        &self,
        place: &Place,
        mut state: Box<State>,
        rows: Vec<RejectedRow>,
        now: Timestamp,
    ) -> Result<Box<State>, FeedError> {
        let day = place.org.date(now).strftime("%Y%m%d").to_string();
        if state.kept.rejected_day != day {
            (state.kept.rejected_day, state.kept.rejected_bytes) = (day, 0);
        }
        if state.kept.rejected_bytes >= MAX_REJECTED {
            return Ok(state);
        }
        let file = self.config.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let keeper = Keeper::new(&place.data_dir, self.id(), &file, &state.kept.rejected_day);
        let (n_rows, first, length) = (rows.len(), rows[0].rejection.to_string(), state.kept.rejected_bytes);
        let path: PathBuf = self.config.file.clone();
        let work = move || keeper.append(length, &rows);
        let appended = tokio::task::spawn_blocking(work).await.map_err(|error| FeedError::Task(path, error))?;
        state.kept.rejected_bytes = appended?;
        tracing::warn!(feed = self.id(), rejected = n_rows, first, "lines of a log could not be used and are kept");
        Ok(state)
    }

    fn show(&self, place: &Place, tally: &Tally, polled: &mut Polled) {
        let agency = place.org.site().as_str();
        let rejected: i64 = tally.rejected.values().sum();
        let accepted = tally.lines.values().sum::<i64>() - rejected;
        polled.accepted += accepted as u64;
        polled.rejected += rejected as u64;
        let table = place.metrics.table(feed_columns::TABLE);
        table.add(table.row(&[agency, self.id()]), feed_columns::ROWS, accepted as f64);
        let table = place.metrics.table(feed_rejected::TABLE);
        for (reason, count) in &tally.rejected {
            table.add(table.row(&[agency, self.id(), reason]), feed_rejected::REJECTED, *count as f64);
        }
        if let Some(newest) = tally.newest {
            let table = place.metrics.table(access_log_file::TABLE);
            let row = table.row(&[agency, &self.app]);
            table.set(row, access_log_file::LAST_LINE, newest.as_millisecond() as f64 / 1000.0);
        }
    }

    /// Everything is read: the days before yesterday are over, whatever lines may still say.
    async fn settle(&self, place: &Place, mut state: Box<State>, now: Timestamp) -> Result<Box<State>, FeedError> {
        if state.visitors.close_before(place.org.date(now)) {
            state.kept.closed = state.visitors.closed();
            let mut tx = place.store.begin().await?;
            tables::close(&mut tx, &self.app, state.kept.closed).await?;
            tx.commit().await?;
            // Each was written when its last visitor came.
            state.visitors.committed();
        }
        Ok(state)
    }
}

fn step(
    config: &AccessLog,
    robots: &Regex,
    state: &mut State,
    org: &Org,
    now: Timestamp,
) -> std::io::Result<Option<Read>> {
    let step = state.tail.step()?;
    let visitors = &mut state.visitors;
    let mut counter = Counter { log: config, robots, org, now, visitors, tally: Tally::default(), kept: Vec::new() };
    let (after, lost) = match step {
        Step::Idle => return Ok(None),
        Step::Moved { after, lost } => (after, lost),
        Step::TooLong { line, start, after } => {
            if !start.is_empty() {
                counter.too_long(line, &start);
            }
            (after, false)
        }
        Step::Lines { first, bytes, after } => {
            counter.lines(first, &bytes).map_err(std::io::Error::other)?;
            (after, false)
        }
    };
    let Counter { tally, kept, .. } = counter;
    state.tail.stirred();
    Ok(Some(Read { after, tally, rejected: kept, lost }))
}
