//! Application-usage and dossier counts: what agencies bought and use, and how dossiers reach them.
//!
//! Rows come from feeds, users also from access logs (`access_log/`). `tables.rs` and `dossiers.rs` keep them, `series.rs` shows
//! them; what follows from counts, the calendar and the time (`standing.rs`, `pace.rs`, `unused.rs`, `rates.rs`) is pure.
//!
//! A row is a count over a period; its key (application, agency, what, period) makes it idempotent. Totals are counters
//! and so never go down: a row corrected upwards adds the difference, one corrected downwards changes what the row says
//! but not the total, and adds again only beyond the most that was ever counted.

pub mod access_log;
pub mod dossiers;
pub mod pace;
pub mod rates;
mod rows;
#[cfg(test)]
mod rules_tests;
mod series;
pub mod standing;
mod tables;
#[cfg(test)]
mod tests;
pub mod unused;

pub use rows::{Channel, DossierRow, Outcome, Step, UsageRow};
pub use tables::{ActiveUsers, DossierCount, active_users, dossier_counts};

use crate::config::Id;
use crate::config::usage::{Grain, UsageRows, UsageSource};
use crate::feed::{Cells, Directory, Failures, FeedError, Gatherer, Need, Place, Polled, Rejection};
use crate::store::{StoreError, Tx};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error("counting usage")]
    Store(#[from] StoreError),
}

struct AppGatherer {
    app: Id,
    place: Place,
    /// Events of the application so far: their names become label values, so a feed cannot make them at will.
    events: Mutex<HashSet<String>>,
}

impl Gatherer for AppGatherer {
    type Row = UsageRow;

    fn columns(&self) -> &'static [(&'static str, Need)] {
        rows::USAGE_COLUMNS
    }

    fn parse(&self, cells: &Cells<'_>, _now: Timestamp) -> Result<UsageRow, Rejection> {
        // A panic while holding it leaves at worst one name too many.
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        UsageRow::parse(&self.app, cells, &self.place.org, &mut events)
    }

    async fn write(&self, tx: &mut Tx, rows: Vec<UsageRow>, _now: Timestamp) -> Result<(), StoreError> {
        tables::write_usage(tx, &self.app, &rows).await
    }
}

struct DossierGatherer {
    app: Id,
    place: Place,
}

impl Gatherer for DossierGatherer {
    type Row = DossierRow;

    fn columns(&self) -> &'static [(&'static str, Need)] {
        rows::DOSSIER_COLUMNS
    }

    fn parse(&self, cells: &Cells<'_>, _now: Timestamp) -> Result<DossierRow, Rejection> {
        DossierRow::parse(cells, &self.place.org)
    }

    async fn write(&self, tx: &mut Tx, rows: Vec<DossierRow>, _now: Timestamp) -> Result<(), StoreError> {
        tables::write_dossiers(tx, &self.app, &rows).await
    }
}

struct SingleGatherer {
    app: Id,
    place: Place,
}

impl Gatherer for SingleGatherer {
    type Row = dossiers::Dossier;

    fn columns(&self) -> &'static [(&'static str, Need)] {
        dossiers::COLUMNS
    }

    fn parse(&self, cells: &Cells<'_>, _now: Timestamp) -> Result<dossiers::Dossier, Rejection> {
        dossiers::Dossier::parse(cells, &self.place.org)
    }

    async fn write(&self, tx: &mut Tx, rows: Vec<dossiers::Dossier>, _now: Timestamp) -> Result<(), StoreError> {
        dossiers::write(tx, &self.app, &rows, &self.place.org).await
    }
}

enum Reader {
    App(Directory, Arc<AppGatherer>),
    Dossiers(Directory, Arc<DossierGatherer>),
    Singles(Directory, Arc<SingleGatherer>),
    Log(Box<access_log::Log>),
}

impl Reader {
    fn new(source: &UsageSource, place: &Place) -> Reader {
        let (app, place) = (source.app.clone(), place.clone());
        match &source.rows {
            UsageRows::Usage { feed, .. } => {
                let gatherer = AppGatherer { app, place, events: Mutex::default() };
                Reader::App(Directory::new(feed), Arc::new(gatherer))
            }
            UsageRows::AccessLog { log, .. } => Reader::Log(Box::new(access_log::Log::new(app, (**log).clone()))),
            UsageRows::Dossiers(dossiers) => {
                let directory = Directory::new(&dossiers.feed);
                match dossiers.grain {
                    Grain::Counts => Reader::Dossiers(directory, Arc::new(DossierGatherer { app, place })),
                    Grain::Single => Reader::Singles(directory, Arc::new(SingleGatherer { app, place })),
                }
            }
        }
    }

    fn id(&self) -> &str {
        match self {
            Reader::App(feed, _) | Reader::Dossiers(feed, _) | Reader::Singles(feed, _) => feed.id(),
            Reader::Log(log) => log.id(),
        }
    }

    async fn start(&self, place: &Place) -> Result<(), UsageError> {
        match self {
            Reader::App(feed, gatherer) => {
                feed.start(place);
                let events = tables::events(&place.store, &gatherer.app).await?;
                *gatherer.events.lock().unwrap_or_else(PoisonError::into_inner) = events;
            }
            Reader::Dossiers(feed, _) | Reader::Singles(feed, _) => feed.start(place),
            Reader::Log(log) => log.start(place),
        }
        Ok(())
    }

    async fn poll(&mut self, place: &Place, now: Timestamp) -> Result<Polled, FeedError> {
        match self {
            Reader::App(feed, gatherer) => feed.poll(place, gatherer, now).await,
            Reader::Dossiers(feed, gatherer) => feed.poll(place, gatherer, now).await,
            Reader::Singles(feed, gatherer) => feed.poll(place, gatherer, now).await,
            Reader::Log(log) => log.poll(place, now).await,
        }
    }
}

/// How often the series are set although no row came: time alone makes dossiers late and applications unused.
const REFRESH: SignedDuration = SignedDuration::from_secs(60);

/// All sources of usage.
pub struct Usage {
    sources: Vec<UsageSource>,
    readers: Vec<Reader>,
    place: Place,
    /// When the series were last set.
    shown: Option<Timestamp>,
}

impl Usage {
    pub fn new(config: &[UsageSource], place: Place) -> Usage {
        let readers = config.iter().map(|source| Reader::new(source, &place)).collect();
        Usage { sources: config.to_vec(), readers, place, shown: None }
    }

    /// Takes up the totals of earlier runs and sets every series.
    pub async fn start(&self, now: Timestamp) -> Result<(), UsageError> {
        for reader in &self.readers {
            reader.start(&self.place).await?;
        }
        Ok(series::refresh(&self.place, &self.sources, now).await?)
    }

    /// Reads what is new and sets the series. A source's failure is given beside its id and does not stop the others.
    pub async fn poll(&mut self, now: Timestamp) -> Result<Vec<(String, Result<Polled, FeedError>)>, UsageError> {
        let mut results = Vec::with_capacity(self.readers.len());
        let mut is_changed = self.shown.is_none_or(|shown| now.duration_since(shown) >= REFRESH || now < shown);
        for reader in &mut self.readers {
            let polled = reader.poll(&self.place, now).await;
            // A failed poll may have committed batches.
            is_changed |= polled.as_ref().map_or(true, |polled| polled.accepted + polled.rejected > 0);
            results.push((reader.id().to_string(), polled));
        }
        if is_changed {
            series::refresh(&self.place, &self.sources, now).await?;
            self.shown = Some(now);
        }
        Ok(results)
    }
}

/// Polls until `shutdown`. Failures of feeds are logged when they begin and when they end; `Err` only for the state
/// database.
pub async fn run(
    config: Vec<UsageSource>,
    place: Place,
    every: Duration,
    shutdown: CancellationToken,
) -> Result<(), UsageError> {
    let mut usage = Usage::new(&config, place);
    usage.start(Timestamp::now()).await?;
    let mut failures = Failures::default();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        // Between two batches everything is committed, so a poll may be dropped at any moment.
        let results = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            results = usage.poll(Timestamp::now()) => results?,
        };
        for (feed, result) in results {
            failures.note(&feed, result.as_ref().err());
        }
    }
}
