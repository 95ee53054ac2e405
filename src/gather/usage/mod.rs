//! Application-usage and dossier counts from feeds: what agencies bought and use, and how dossiers reach them.
//!
//! A row is a count over a period; its key (application, agency, what, period) makes it idempotent. Totals are counters
//! and so never go down: a row corrected upwards adds the difference, one corrected downwards changes what the row says
//! but not the total, and adds again only beyond the most that was ever counted.

mod rows;
mod series;
mod tables;
#[cfg(test)]
mod tests;

pub use rows::{Channel, DossierRow, Outcome, Step, UsageRow};
pub use tables::{ActiveUsers, DossierCount, active_users, dossier_counts};

use crate::config::Id;
use crate::config::feeds::{UsageRows, UsageSource};
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

    async fn write(&self, tx: &mut Tx, rows: Vec<DossierRow>, _now: Timestamp) -> Result<(), StoreError> {
        tables::write_dossiers(tx, &self.app, &rows).await
    }
}

/// All usage feeds.
pub struct Usage {
    feeds: Vec<Box<dyn Feed>>,
    gatherers: Vec<Arc<AppGatherer>>,
    apps: Vec<Id>,
    place: Place,
}

impl Usage {
    pub fn new(config: &[UsageSource], place: Place) -> Usage {
        let mut gatherers = Vec::new();
        let feeds = config.iter().map(|source| {
            let (app, place) = (source.app.clone(), place.clone());
            match &source.rows {
                UsageRows::Usage(feed) => {
                    let gatherer = Arc::new(AppGatherer { app, place, events: Mutex::default() });
                    gatherers.push(Arc::clone(&gatherer));
                    feed::bind(feed, gatherer)
                }
                UsageRows::Dossiers(feed) => feed::bind(feed, Arc::new(DossierGatherer { app, place })),
            }
        });
        let feeds = feeds.collect();
        Usage { feeds, gatherers, apps: config.iter().map(|source| source.app.clone()).collect(), place }
    }

    /// Takes up the totals of earlier runs and sets every series.
    pub async fn start(&self) -> Result<(), UsageError> {
        for feed in &self.feeds {
            feed.start(&self.place);
        }
        for gatherer in &self.gatherers {
            let events = tables::events(&self.place.store, &gatherer.app).await?;
            *gatherer.events.lock().unwrap_or_else(PoisonError::into_inner) = events;
        }
        Ok(series::refresh(&self.place, &self.apps).await?)
    }

    /// Reads what is new and sets the series. A feed's failure is given beside its id and does not stop the others.
    pub async fn poll(&mut self, now: Timestamp) -> Result<Vec<(String, Result<Polled, FeedError>)>, UsageError> {
        let mut results = Vec::with_capacity(self.feeds.len());
        let mut is_changed = false;
        for feed in &mut self.feeds {
            let polled = feed.poll(&self.place, now).await;
            // A failed poll may have committed batches.
            is_changed |= polled.as_ref().map_or(true, |polled| polled.accepted > 0);
            results.push((feed.id().to_string(), polled));
        }
        if is_changed {
            series::refresh(&self.place, &self.apps).await?;
        }
        Ok(results)
    }
}

/// Reads until `shutdown`. A feed's failure is its own; `Err` only for the state database.
pub async fn run(
    config: Vec<UsageSource>,
    place: Place,
    every: Duration,
    shutdown: CancellationToken,
) -> Result<(), UsageError> {
    let usage = Usage::new(&config, place);
    usage.start().await?;
    let Usage { feeds, apps, place, .. } = usage;
    let changed = Notify::new();
    let reading = feed::run(feeds, &place, every, &changed, &shutdown);
    let counting = async {
        loop {
            changed.notified().await;
            series::refresh(&place, &apps).await?;
        }
    };
    tokio::select! {
        () = reading => Ok(()),
        failed = counting => failed,
    }
}
