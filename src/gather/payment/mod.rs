//! The payment ledger and its reconciliation: finds dossiers whose fee was paid and not recorded, recorded and not
//! paid, or paid in another amount.
//!
//! Incremental: a batch of rows touches its own transactions; those whose time has not come yet stand in a queue by
//! due time. Whether one transaction is in order is [`classify()`]'s to say, and nobody else's.

mod classify;
pub mod files;
pub mod guess;
mod ledger;
mod mismatch;
mod owner;
#[cfg(test)]
mod push_tests;
mod row;
#[cfg(test)]
mod samples_tests;
mod series;
#[cfg(test)]
mod tests;

pub use classify::{Fact, Kind, Limits, Status, Verdict, classify, settlement_due};
pub use mismatch::{Evidence, MismatchInfo, evidence, mismatches_between, open_at, open_mismatches};
pub use row::{PaymentRow, Side};

use crate::config::feeds::Payments;
use crate::feed::{self, Cells, Feed, FeedError, Gatherer, Names, Place, Polled, Rejection};
use crate::store::{StoreError, Tx, from_micros, micros};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ledger::Judge;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    #[error("reconciling payments")]
    Store(#[from] StoreError),
}

/// Reads one side's rows.
struct SideGatherer {
    side: Side,
    rules: Arc<Rules>,
}

/// How long either side may lag, and who owns what nobody owns.
struct Rules {
    place: Place,
    grace: Duration,
    settlement_lag: Duration,
    zone: TimeZone,
}

impl Rules {
    /// Runs `work` with a judge as of `now`.
    fn settlement_due(&self, at_us: i64) -> i64 {
        let date_of = |us: i64| from_micros(us).to_zoned_datetime(self.zone.clone()).date();
        settlement_due(at_us, self.settlement_lag, &date_of, &|date| self.place.org.is_working_day(date))
    }
}

impl Gatherer for SideGatherer {
    type Row = PaymentRow;

    fn columns(&self) -> Names {
        row::COLUMNS
    }

    fn parse(&self, cells: &Cells<'_>, now: Timestamp) -> Result<PaymentRow, Rejection> {
        PaymentRow::parse(self.side, cells, &self.rules.place.org, now)
    }

    fn agency<'r>(&self, row: &'r PaymentRow) -> &'r str {
        &row.agency
    }

    async fn foreign(
        &self,
        tx: &mut Tx,
        rows: &[&PaymentRow],
        may: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<usize>, StoreError> {
        owner::foreign(tx, self.side, rows, may).await
    }

    async fn write(&self, tx: &mut Tx, rows: Vec<PaymentRow>, now: Timestamp) -> Result<(), StoreError> {
        let due = |at_us| self.rules.settlement_due(at_us);
        ledger::take(tx, rows, &judge(&self.rules, &due, now)).await
    }
}

fn judge<'a>(rules: &'a Rules, due: &'a (dyn Fn(i64) -> i64 + Sync), now: Timestamp) -> Judge<'a> {
    let limits = Limits { grace: rules.grace, settlement_due: due };
    Judge { now_us: micros(now), limits, site: rules.place.org.site() }
}

/// Both sides' feeds and the ledger between them.
pub struct Reconciler {
    feeds: Vec<Box<dyn Feed>>,
    rules: Arc<Rules>,
}

impl Reconciler {
    /// `zone` is the site's: days of the settlement lag are counted in it.
    pub fn new(config: &Payments, zone: TimeZone, place: Place) -> Reconciler {
        let rules = Arc::new(Rules { place, grace: config.grace, settlement_lag: config.settlement_lag, zone });
        let gatherer = |side| Arc::new(SideGatherer { side, rules: Arc::clone(&rules) });
        let (portal, gateway) = (gatherer(Side::Portal), gatherer(Side::Gateway));
        let feeds = config.portal.iter().map(|feed| feed::bind(feed, Arc::clone(&portal)));
        let feeds = feeds.chain(config.gateway.iter().map(|feed| feed::bind(feed, Arc::clone(&gateway))));
        Reconciler { feeds: feeds.collect(), rules }
    }

    /// Takes up where the last run stopped: every series is set, and everything that waits is judged anew.
    pub async fn start(&self) -> Result<(), PaymentError> {
        for feed in &self.feeds {
            feed.start(&self.rules.place);
        }
        ledger::wake_all(&self.rules.place.store).await?;
        Ok(series::refresh(&self.rules.place).await?)
    }

    /// Reads what is new, judges what is due, sets the series. A feed's failure is given beside its id and does not
    /// stop the others.
    pub async fn poll(&mut self, now: Timestamp) -> Result<Vec<(String, Result<Polled, FeedError>)>, PaymentError> {
        let place = &self.rules.place;
        let mut results = Vec::with_capacity(self.feeds.len());
        for feed in &mut self.feeds {
            let polled = feed.poll(place, now).await;
            results.push((feed.id().to_string(), polled));
        }
        judge_due(&self.rules, now).await?;
        Ok(results)
    }
}

/// Judges what is due and sets the series.
async fn judge_due(rules: &Rules, now: Timestamp) -> Result<(), PaymentError> {
    let due = |at_us| rules.settlement_due(at_us);
    // One transaction a thousand, so that others can write in between.
    while ledger::take_due(&rules.place.store, &judge(rules, &due, now)).await? > 0 {}
    Ok(series::refresh(&rules.place).await?)
}

/// Reads and judges until `shutdown`. A feed's failure is its own; `Err` only for the state database.
pub async fn run(
    config: Payments,
    zone: TimeZone,
    place: Place,
    every: Duration,
    shutdown: CancellationToken,
) -> Result<(), PaymentError> {
    let reconciler = Reconciler::new(&config, zone, place);
    reconciler.start().await?;
    let Reconciler { feeds, rules } = reconciler;
    let changed = Notify::new();
    let reading = feed::run(feeds, &rules.place, every, &changed, &shutdown);
    let judging = async {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = changed.notified() => {}
            }
            judge_due(&rules, Timestamp::now()).await?;
        }
    };
    tokio::select! {
        () = reading => Ok(()),
        failed = judging => failed,
    }
}
