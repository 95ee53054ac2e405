//! The payment ledger and its reconciliation: finds dossiers whose fee was paid and not recorded, recorded and not
//! paid, or paid in another amount.
//!
//! Incremental: a batch of rows touches its own transactions; those whose time has not come yet stand in a queue by
//! due time. Whether one transaction is in order is [`classify()`]'s to say, and nobody else's.

mod arrivals;
mod classify;
mod dossier;
pub mod fees;
pub mod files;
mod forget;
pub mod guess;
mod judging;
mod ledger;
mod life;
mod mismatch;
mod owner;
#[cfg(test)]
mod push_tests;
mod register;
mod row;
#[cfg(test)]
mod samples_tests;
mod seen;
mod series;
#[cfg(test)]
mod tests;
mod written;

pub use arrivals::n_waiting;
pub use classify::{Fact, Kind, Status};
pub use life::{Life, Stage, TransactionInfo, find};
pub use mismatch::{
    Cursor, Evidence, Filter, MismatchInfo, Tally, evidence, list, mismatches_between, open_at, open_mismatches,
    tallies,
};
pub use row::{Channel, PaymentRow, Record, Side, reference_of};

use crate::config::feeds::Payments;
use crate::feed::{self, Cells, Feed, FeedError, Gatherer, Names, Place, Polled, Rejection};
use crate::store::{Doing, StoreError, Tx, from_micros, micros};
use arrivals::{Arrivals, Ready};
use classify::{Limits, settlement_due};
use fees::Fees;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use judging::Judge;
use register::RegisterGatherer;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    #[error("reconciling payments")]
    Store(#[from] StoreError),
}

/// Feeds are read side by side, a batch at a time. While batches follow each other this closely, the other side of a
/// payment may be in one of the next, and judging waits.
const QUIET: Duration = Duration::from_secs(1);
/// Taking in waits for less: rows that come later are taken in later, only their order among the others is lost.
const PAUSE: Duration = Duration::from_millis(200);
/// But not longer than this: a feed may have much to read, or bring something all the time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often old payments are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// Raised when what is judged by the same rows and settings comes out differently.
const JUDGEMENT: u32 = 1;

/// Reads one side's rows.
struct SideGatherer {
    side: Side,
    rules: Arc<Rules>,
}

/// How long either side may lag, what was due, and who owns what nobody owns.
struct Rules {
    place: Place,
    grace: Duration,
    settlement_lag: Duration,
    match_window: Duration,
    /// How long payments are kept.
    keep: Duration,
    fees: Arc<Fees>,
    has_register: bool,
    zone: TimeZone,
    arrivals: Arrivals,
    /// Transactions read or written since the start: what the work costs, whatever the clock says.
    touched: AtomicU64,
    /// When rows were last written.
    written: Mutex<Option<Instant>>,
}

impl Rules {
    fn settlement_due(&self, at_us: i64) -> i64 {
        settlement_due(at_us, self.settlement_lag, &self.zone, &|date| self.place.org.is_working_day(date))
    }

    /// Takes what arrived into the ledger.
    async fn take_in(&self) -> Result<(), StoreError> {
        let due = |at_us| self.settlement_due(at_us);
        let limits = self.limits(&due);
        // A fee can be wrong although both sides agree.
        let limits = Some(&limits).filter(|_| self.fees.is_empty());
        let place = &self.place;
        let n_touched = self.arrivals.take_in(&place.store, place.org.site(), limits).await?;
        self.count(n_touched);
        Ok(())
    }

    fn limits<'a>(&self, settlement_due: &'a (dyn Fn(i64) -> i64 + Sync)) -> Limits<'a> {
        Limits { grace: self.grace, settlement_due, match_window: self.match_window }
    }

    /// Judges one batch of what is due at `now`; gives how many transactions were read, 0 when nothing is due.
    async fn judge(&self, now: Timestamp) -> Result<u64, StoreError> {
        let due = |at_us| self.settlement_due(at_us);
        let limits = self.limits(&due);
        let judge = Judge {
            now_us: micros(now),
            limits,
            fees: &self.fees,
            has_register: self.has_register,
            site: self.place.org.site(),
            zone: &self.zone,
        };
        let n_touched = judging::take_due(&self.place.store, &judge).await?;
        self.count(n_touched);
        Ok(n_touched)
    }

    /// Takes in what arrived, judges what is due and sets the series.
    async fn judge_all(&self, now: Timestamp) -> Result<(), StoreError> {
        self.take_in().await?;
        while self.judge(now).await? > 0 {}
        series::refresh(&self.place).await
    }

    /// Forgets what is older than it is kept.
    async fn forget(&self, now: Timestamp) -> Result<(), StoreError> {
        let n_forgotten = forget::forget(&self.place.store, now, self.keep).await?;
        if n_forgotten > 0 {
            tracing::info!(n_forgotten, "forgot payments that are older than they are kept");
        }
        Ok(())
    }

    /// Waits until nothing has been written for so long, but not longer than [`PATIENCE`].
    async fn quiet(&self, pause: Duration) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let written = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(written) = written else { return };
            let quiet_at = (written + pause).min(give_up);
            if quiet_at <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(quiet_at.into()).await;
        }
    }

    fn count(&self, n_touched: u64) {
        self.touched.fetch_add(n_touched, Ordering::Relaxed);
    }

    /// Everything beside rows and time that a judgement depends on.
    fn digest(&self, calendar: &crate::config::organisation::Calendar) -> String {
        let Rules { grace, settlement_lag, match_window, fees, has_register, zone, .. } = self;
        let fees = fees.describe();
        let text = format!(
            "{JUDGEMENT} {grace:?} {settlement_lag:?} {match_window:?} {fees} {has_register} {zone:?} {calendar:?} {}",
            self.place.org.site()
        );
        feed::hex(&Sha256::digest(text))
    }
}

impl Gatherer for SideGatherer {
    type Row = PaymentRow;
    type Ready = Ready;

    fn columns(&self) -> Names {
        row::COLUMNS
    }

    fn parse(&self, cells: &Cells<'_>, now: Timestamp) -> Result<PaymentRow, Rejection> {
        let row = PaymentRow::parse(self.side, cells, &self.rules.place.org, now)?;
        let at = from_micros(row.record.at_us);
        forget::too_old(at, now, self.rules.keep).map_or(Ok(row), Err)
    }

    fn agency<'r>(&self, row: &'r PaymentRow) -> &'r str {
        &row.record.agency
    }

    async fn foreign(
        &self,
        tx: &mut Tx,
        rows: &[&PaymentRow],
        may: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<usize>, StoreError> {
        // Whose they are is known in the ledger only.
        let n_touched = self.rules.arrivals.take_in_few(tx, self.rules.place.org.site()).await?;
        self.rules.count(n_touched);
        owner::foreign(tx, self.side, rows, may).await
    }

    fn ready(&self, rows: Vec<PaymentRow>) -> Ready {
        self.rules.arrivals.ready(rows)
    }

    async fn write(&self, tx: &mut Tx, rows: Ready, _now: Timestamp) -> Result<(), StoreError> {
        let n_touched = self.rules.arrivals.write(tx, rows, self.rules.place.org.site()).await?;
        self.rules.count(n_touched);
        *self.rules.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }
}

/// Both sides' feeds, the register's, and the ledger between them.
pub struct Reconciler {
    feeds: Vec<Box<dyn Feed>>,
    rules: Arc<Rules>,
}

impl Reconciler {
    /// `zone` is the site's: days of the settlement lag and of fees are counted in it.
    pub fn new(config: &Payments, fees: Arc<Fees>, zone: TimeZone, place: Place) -> Reconciler {
        let org = Arc::clone(&place.org);
        let rules = Arc::new(Rules {
            place,
            grace: config.grace,
            settlement_lag: config.settlement_lag,
            match_window: config.match_window,
            keep: config.keep,
            fees,
            has_register: !config.dossiers.is_empty(),
            zone,
            arrivals: Arrivals::default(),
            touched: AtomicU64::default(),
            written: Mutex::default(),
        });
        let gatherer = |side| Arc::new(SideGatherer { side, rules: Arc::clone(&rules) });
        let (portal, gateway) = (gatherer(Side::Portal), gatherer(Side::Gateway));
        let register = Arc::new(RegisterGatherer { org });
        let registers = config.dossiers.iter().map(|feed| feed::bind(feed, Arc::clone(&register)));
        let feeds = registers.chain(config.portal.iter().map(|feed| feed::bind(feed, Arc::clone(&portal))));
        let feeds = feeds.chain(config.gateway.iter().map(|feed| feed::bind(feed, Arc::clone(&gateway))));
        Reconciler { feeds: feeds.collect(), rules }
    }

    /// Takes up where the last run stopped: every series is set; if the settings are others than then, everything is
    /// judged again.
    pub async fn start(&self) -> Result<(), PaymentError> {
        let place = &self.rules.place;
        for feed in &self.feeds {
            feed.start(place);
        }
        let digest = self.rules.digest(place.org.calendar());
        let mut tx = place.store.begin().await?;
        const DOING: &str = "comparing the settings of payments";
        let sql = "SELECT digest FROM payment_settings WHERE id = 1";
        let known: Option<String> = sqlx::query_scalar(sql).fetch_optional(&mut *tx).await.doing(DOING)?;
        if known.as_ref() != Some(&digest) {
            let sql = "UPDATE payment_transactions SET due_us = 0";
            sqlx::query(sql).execute(&mut *tx).await.doing(DOING)?;
            let sql = "INSERT INTO payment_settings (id, digest) VALUES (1, $1) \
                       ON CONFLICT (id) DO UPDATE SET digest = excluded.digest";
            sqlx::query(sql).bind(digest).execute(&mut *tx).await.doing(DOING)?;
        }
        tx.commit().await?;
        Ok(series::refresh(place).await?)
    }

    /// Reads what is new, judges what is due, sets the series. A feed's failure is given beside its id and does not
    /// stop the others. Judging comes last, so that a payment whose two sides arrive together is never judged by one.
    pub async fn poll(&mut self, now: Timestamp) -> Result<Vec<(String, Result<Polled, FeedError>)>, PaymentError> {
        let place = &self.rules.place;
        let mut results = Vec::with_capacity(self.feeds.len());
        for feed in &mut self.feeds {
            let polled = feed.poll(place, now).await;
            results.push((feed.id().to_string(), polled));
        }
        self.rules.judge_all(now).await?;
        Ok(results)
    }

    /// Transactions read or written since the start.
    pub fn touched(&self) -> u64 {
        self.rules.touched.load(Ordering::Relaxed)
    }
}

/// Reads and judges until `shutdown`. A feed's failure is its own; `Err` only for the state database.
pub async fn run(
    config: Payments,
    fees: Arc<Fees>,
    zone: TimeZone,
    place: Place,
    every: Duration,
    shutdown: CancellationToken,
) -> Result<(), PaymentError> {
    let reconciler = Reconciler::new(&config, fees, zone, place);
    reconciler.start().await?;
    let Reconciler { feeds, rules } = reconciler;
    let changed = Notify::new();
    let reading = feed::run(feeds, &rules.place, every, &changed, &shutdown);
    let judging = async {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut forgets = tokio::time::interval(FORGET_EVERY);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = changed.notified() => {}
                _ = forgets.tick() => rules.forget(Timestamp::now()).await?,
            }
            rules.quiet(PAUSE).await;
            rules.take_in().await?;
            rules.quiet(QUIET).await;
            rules.judge_all(Timestamp::now()).await?;
        }
    };
    tokio::select! {
        () = reading => Ok(()),
        failed = judging => failed,
    }
}
