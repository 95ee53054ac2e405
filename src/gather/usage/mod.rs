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
#[cfg(test)]
mod order_tests;
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
use crate::feed::{self, Cells, Feed, FeedError, Gatherer, Names, Place, Polled, Rejection};
use crate::store::{StoreError, Tx};
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
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
    type Ready = Vec<UsageRow>;

    fn columns(&self) -> Names {
        rows::USAGE_COLUMNS
    }

    fn parse(&self, cells: &Cells<'_>, _now: Timestamp) -> Result<UsageRow, Rejection> {
        // A panic while holding it leaves at worst one name too many.
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        UsageRow::parse(&self.app, cells, &self.place.org, &mut events)
    }

    fn agency<'r>(&self, row: &'r UsageRow) -> &'r str {
        &row.agency
    }

    /// A count's key holds its agency: no row can reach another's.
    async fn foreign(
        &self,
        _tx: &mut Tx,
        _rows: &[&UsageRow],
        _may: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<usize>, StoreError> {
        Ok(Vec::new())
    }

    fn ready(&self, rows: Self::Ready) -> Self::Ready {
        rows
    }

    async fn write(&self, tx: &mut Tx, rows: Self::Ready, _now: Timestamp) -> Result<(), StoreError> {
        tables::write_usage(tx, &self.app, &rows).await
    }
}

struct DossierGatherer {
    app: Id,
    place: Place,
}

impl Gatherer for DossierGatherer {
    type Row = DossierRow;
    type Ready = Vec<DossierRow>;

    fn columns(&self) -> Names {
        rows::DOSSIER_COLUMNS
    }

    fn parse(&self, cells: &Cells<'_>, _now: Timestamp) -> Result<DossierRow, Rejection> {
        DossierRow::parse(cells, &self.place.org)
    }

    fn agency<'r>(&self, row: &'r DossierRow) -> &'r str {
        &row.agency
    }

    /// A count's key holds its agency: no row can reach another's.
    async fn foreign(
        &self,
        _tx: &mut Tx,
        _rows: &[&DossierRow],
        _may: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<usize>, StoreError> {
        Ok(Vec::new())
    }

    fn ready(&self, rows: Self::Ready) -> Self::Ready {
        rows
    }

    async fn write(&self, tx: &mut Tx, rows: Self::Ready, _now: Timestamp) -> Result<(), StoreError> {
        tables::write_dossiers(tx, &self.app, &rows).await
    }
}

struct SingleGatherer {
    app: Id,
    place: Place,
}

impl Gatherer for SingleGatherer {
    type Row = dossiers::Dossier;
    type Ready = Vec<dossiers::Dossier>;

    fn columns(&self) -> Names {
        dossiers::COLUMNS
    }

    fn parse(&self, cells: &Cells<'_>, _now: Timestamp) -> Result<dossiers::Dossier, Rejection> {
        dossiers::Dossier::parse(cells, &self.place.org)
    }

    fn agency<'r>(&self, row: &'r dossiers::Dossier) -> &'r str {
        &row.agency
    }

    /// A dossier's code is its key: a row may not take another agency's dossier away from it.
    async fn foreign(
        &self,
        tx: &mut Tx,
        rows: &[&dossiers::Dossier],
        may: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<usize>, StoreError> {
        dossiers::foreign(tx, &self.app, rows, may).await
    }

    fn ready(&self, rows: Self::Ready) -> Self::Ready {
        rows
    }

    async fn write(&self, tx: &mut Tx, rows: Self::Ready, _now: Timestamp) -> Result<(), StoreError> {
        dossiers::write(tx, &self.app, &rows, &self.place.org).await
    }
}

/// How often the series are set although no row came: time alone makes dossiers late and applications unused.
const REFRESH: Duration = Duration::from_secs(60);

/// All sources of usage.
pub struct Usage {
    sources: Vec<UsageSource>,
    feeds: Vec<Box<dyn Feed>>,
    gatherers: Vec<Arc<AppGatherer>>,
    place: Place,
}

impl Usage {
    pub fn new(config: &[UsageSource], place: Place) -> Usage {
        let mut gatherers = Vec::new();
        let feeds = config.iter().map(|source| -> Box<dyn Feed> {
            let (app, place) = (source.app.clone(), place.clone());
            match &source.rows {
                UsageRows::Usage { feed, .. } => {
                    let gatherer = Arc::new(AppGatherer { app, place, events: Mutex::default() });
                    gatherers.push(Arc::clone(&gatherer));
                    feed::bind(feed, gatherer)
                }
                UsageRows::AccessLog { log, .. } => Box::new(access_log::Log::new(app, (**log).clone())),
                UsageRows::Dossiers(dossiers) => match dossiers.grain {
                    Grain::Counts => feed::bind(&dossiers.feed, Arc::new(DossierGatherer { app, place })),
                    Grain::Single => feed::bind(&dossiers.feed, Arc::new(SingleGatherer { app, place })),
                },
            }
        });
        let feeds = feeds.collect();
        Usage { sources: config.to_vec(), feeds, gatherers, place }
    }

    /// Takes up the totals of earlier runs and sets every series.
    pub async fn start(&self, now: Timestamp) -> Result<(), UsageError> {
        for feed in &self.feeds {
            feed.start(&self.place);
        }
        for gatherer in &self.gatherers {
            let events = tables::events(&self.place.store, &gatherer.app).await?;
            *gatherer.events.lock().unwrap_or_else(PoisonError::into_inner) = events;
        }
        Ok(series::refresh(&self.place, &self.sources, now).await?)
    }

    /// Reads what is new and sets the series. A source's failure is given beside its id and does not stop the others.
    pub async fn poll(&mut self, now: Timestamp) -> Result<Vec<(String, Result<Polled, FeedError>)>, UsageError> {
        let mut results = Vec::with_capacity(self.feeds.len());
        for feed in &mut self.feeds {
            let polled = feed.poll(&self.place, now).await;
            results.push((feed.id().to_string(), polled));
        }
        series::refresh(&self.place, &self.sources, now).await?;
        Ok(results)
    }
}

/// Reads until `shutdown`. A source's failure is its own; `Err` only for the state database.
pub async fn run(
    config: Vec<UsageSource>,
    place: Place,
    every: Duration,
    shutdown: CancellationToken,
) -> Result<(), UsageError> {
    let usage = Usage::new(&config, place);
    usage.start(Timestamp::now()).await?;
    let Usage { sources, feeds, place, .. } = usage;
    let changed = Notify::new();
    let reading = feed::run(feeds, &place, every, &changed, &shutdown);
    let counting = async {
        loop {
            // Which of the two it was makes no difference.
            let _ = tokio::time::timeout(REFRESH, changed.notified()).await;
            series::refresh(&place, &sources, Timestamp::now()).await?;
        }
    };
    tokio::select! {
        () = reading => Ok(()),
        failed = counting => failed,
    }
}
