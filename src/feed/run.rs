//! The loop that feeds of every room share: each feed is polled in its own time, so that one that is slow or hangs holds
//! up no other. What a feed reads stands in its own file, what rows mean in its gatherer.

use super::directory::Directory;
use super::http::HttpFeed;
use super::late::Expected;
use super::push::Pushed;
use super::sql::SqlFeed;
use super::{FeedError, Gatherer, Place, Polled};
use crate::config::feeds::{self, Source};
use crate::metrics::columns::feed_failures as failures;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A feed with whoever takes its rows.
pub trait Feed: Send + Sync {
    /// Its label value.
    fn id(&self) -> &str;

    /// Starts the feed's counters, so that their first increase is seen as one.
    fn start(&self, place: &Place);

    /// Looks once, and reads what is ready. After an error the next poll tries again.
    fn poll<'a>(&'a mut self, place: &'a Place, now: Timestamp) -> BoxFuture<'a, Result<Polled, FeedError>>;
}

/// Makes the feed of a configuration; `gatherer` takes its rows.
pub fn bind<G: Gatherer>(feed: &feeds::Feed, gatherer: Arc<G>) -> Box<dyn Feed> {
    let bound: Box<dyn Feed> = match &feed.source {
        Source::Files(files) => Box::new(Files { directory: Directory::new(feed, files), gatherer }),
        Source::Http(http) => Box::new(HttpFeed::new(feed, http, gatherer)),
        Source::Sql(sql) => Box::new(SqlFeed::new(feed, sql, gatherer)),
        Source::Push => Box::new(Pushed::new(feed, gatherer)),
    };
    match &feed.expect {
        Some(expect) => Box::new(Expected { feed: bound, expect: expect.clone(), zone: feed.timezone.clone() }),
        None => bound,
    }
}

struct Files<G> {
    directory: Directory,
    gatherer: Arc<G>,
}

impl<G: Gatherer> Feed for Files<G> {
    fn id(&self) -> &str {
        self.directory.id()
    }

    fn start(&self, place: &Place) {
        super::start(place, self.id());
    }

    fn poll<'a>(&'a mut self, place: &'a Place, now: Timestamp) -> BoxFuture<'a, Result<Polled, FeedError>> {
        Box::pin(self.directory.poll(place, &self.gatherer, now))
    }
}

impl<G: Gatherer> Feed for HttpFeed<G> {
    fn id(&self) -> &str {
        HttpFeed::id(self)
    }

    fn start(&self, place: &Place) {
        super::start(place, self.id());
    }

    fn poll<'a>(&'a mut self, place: &'a Place, now: Timestamp) -> BoxFuture<'a, Result<Polled, FeedError>> {
        Box::pin(HttpFeed::poll(self, place, now))
    }
}

impl<G: Gatherer> Feed for SqlFeed<G> {
    fn id(&self) -> &str {
        SqlFeed::id(self)
    }

    fn start(&self, place: &Place) {
        super::start(place, self.id());
    }

    fn poll<'a>(&'a mut self, place: &'a Place, now: Timestamp) -> BoxFuture<'a, Result<Polled, FeedError>> {
        Box::pin(SqlFeed::poll(self, place, now))
    }
}

/// Polls every feed each `every` until `shutdown`, side by side. `changed` is told whenever rows may have been written.
/// Failures are logged when they begin and when they end.
pub async fn run(
    feeds: Vec<Box<dyn Feed>>,
    place: &Place,
    every: Duration,
    changed: &Notify,
    shutdown: &CancellationToken,
) {
    let loops = feeds.into_iter().map(|feed| poll_always(feed, place, every, changed, shutdown));
    let mut loops: FuturesUnordered<_> = loops.collect();
    while loops.next().await.is_some() {}
    shutdown.cancelled().await;
}

async fn poll_always(
    mut feed: Box<dyn Feed>,
    place: &Place,
    every: Duration,
    changed: &Notify,
    shutdown: &CancellationToken,
) {
    let mut failure = Failure::default();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // Between two batches everything is committed, so a poll may be dropped at any moment.
        let polled = tokio::select! {
            () = shutdown.cancelled() => return,
            polled = feed.poll(place, Timestamp::now()) => polled,
        };
        // A poll that failed may have committed batches.
        if polled.as_ref().map_or(true, |polled| polled.accepted > 0) {
            changed.notify_one();
        }
        if let Err(error) = &polled {
            count_failure(place, feed.id(), error);
        }
        if polled.as_ref().map_or(true, |polled| !polled.is_idle) {
            failure.note(feed.id(), polled.as_ref().err());
        }
    }
}

fn count_failure(place: &Place, feed: &str, error: &FeedError) {
    let table = place.metrics.table(failures::TABLE);
    table.add(table.row(&[place.org.site().as_str(), feed, error.reason()]), failures::FAILURES, 1.0);
}

/// Logs a feed's failure once, and its end.
#[derive(Debug, Default)]
struct Failure {
    /// The message last logged.
    logged: Option<String>,
}

impl Failure {
    fn note(&mut self, feed: &str, error: Option<&FeedError>) {
        let Some(error) = error else {
            if self.logged.take().is_some() {
                tracing::info!(feed, "the feed can be read again");
            }
            return;
        };
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            message.push_str(": ");
            message.push_str(&source.to_string());
            cause = source.source();
        }
        if self.logged.as_ref() != Some(&message) {
            tracing::warn!(feed, error = %message, "the feed cannot be read; trying again");
            self.logged = Some(message);
        }
    }
}
