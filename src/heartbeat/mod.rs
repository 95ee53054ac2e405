//! The dead man's switch, its receiving side: who has to say that they live, when they last did, and who is missing.
//!
//! Silence is measured by the clock that only runs forward, so that a wall clock that jumps makes nobody missing; the time of
//! the last sign is for people, and survives a restart. At a start everybody gets their whole time again, but who was
//! missing stays missing until heard. What follows from a silence is a rule's (`HeartbeatMissing` in
//! `alerts/self.yml`); telling others that *we* live is the daemon's.

mod rows;

use crate::alert::Alert;
use crate::config::heartbeat::{In, Sign};
use crate::config::{Config, Id};
use crate::matcher;
use crate::metrics::{Metrics, Row, columns};
use crate::store::{Store, StoreError};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often silences are measured, and what changed is written.
const TICK: Duration = Duration::from_secs(1);

/// Everybody who has to be heard of. It lives as long as the daemon leads; a reload calls [`Heartbeats::configure`].
pub struct Heartbeats {
    store: Store,
    metrics: Arc<Metrics>,
    pulses: Mutex<BTreeMap<Id, Pulse>>,
}

/// One of them.
#[derive(Debug, Clone)]
struct Pulse {
    config: In,
    agency: Id,
    /// When it was last heard, for people.
    last: Option<Timestamp>,
    /// Since then it is silent: the last sign, or our start.
    silent_since: Instant,
    missing: Option<Timestamp>,
    /// Rows of its feed, as last seen.
    n_rows: f64,
    /// Whether the database knows less.
    is_dirty: bool,
}

/// One of them, for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub id: Id,
    pub agency: Id,
    pub within: Duration,
    pub last: Option<Timestamp>,
    /// Since when it is missing.
    pub missing: Option<Timestamp>,
}

impl Heartbeats {
    /// Takes up what the last run knew. Everybody gets their time from `now` on, but who was missing.
    pub async fn resume(
        store: Store,
        metrics: Arc<Metrics>,
        config: &Config,
        now: Instant,
    ) -> Result<Heartbeats, StoreError> {
        let known = rows::load(&store).await?;
        let heartbeats = Heartbeats { store, metrics, pulses: Mutex::default() };
        heartbeats.configure(config, now);
        for (id, row) in known {
            if let Some(pulse) = heartbeats.lock().get_mut(id.as_str()) {
                (pulse.last, pulse.missing) = (row.last, row.missing);
            }
        }
        heartbeats.show();
        Ok(heartbeats)
    }

    /// Expects these from now on: new ones get their time, known ones keep theirs, others are forgotten.
    pub fn configure(&self, config: &Config, now: Instant) {
        let mut pulses = self.lock();
        let mut old = std::mem::take(&mut *pulses);
        for expected in &config.heartbeat.r#in {
            let agency = expected.agency.clone().unwrap_or_else(|| config.site.agency.clone());
            let fresh = || Pulse {
                config: expected.clone(),
                agency: agency.clone(),
                last: None,
                silent_since: now,
                missing: None,
                n_rows: 0.0,
                is_dirty: false,
            };
            let known = old.remove(&expected.id).map(|known| Pulse {
                config: expected.clone(),
                agency: agency.clone(),
                ..known
            });
            pulses.insert(expected.id.clone(), known.unwrap_or_else(fresh));
        }
        drop(pulses);
        self.show();
    }

    /// A sign of life was posted, by someone who may do so for the agencies that `sees` grants. `false` if nobody has this
    /// id, is theirs, and posts.
    pub fn posted(&self, id: &str, sees: impl Fn(&str) -> bool, at: Timestamp, now: Instant) -> bool {
        let mut pulses = self.lock();
        let pulse = pulses.get_mut(id).filter(|pulse| matches!(pulse.config.sign, Sign::Posted) && sees(&pulse.agency));
        pulse.map(|pulse| pulse.heard(at, now)).is_some()
    }

    /// Alerts were posted and taken: some may be signs of life.
    pub fn alerts(&self, alerts: &[Alert], at: Timestamp, now: Instant) {
        for pulse in self.lock().values_mut() {
            if let Sign::Alert(matchers) = &pulse.config.sign
                && alerts.iter().any(|alert| !alert.is_resolved(at) && matcher::all(matchers, &alert.labels))
            {
                pulse.heard(at, now);
            }
        }
    }

    /// Measures silences, and writes what changed. On an error nothing is lost: the next tick writes it.
    pub async fn tick(&self, at: Timestamp, now: Instant) -> Result<(), StoreError> {
        let changed: Vec<Pulse> = {
            let mut pulses = self.lock();
            for pulse in pulses.values_mut() {
                pulse.look_at_feed(&self.metrics, at, now);
                pulse.measure(at, now);
            }
            pulses.values().filter(|pulse| pulse.is_dirty).cloned().collect()
        };
        self.show();
        if changed.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        for pulse in &changed {
            rows::write(&mut tx, &pulse.config.id, &rows::Beat { last: pulse.last, missing: pulse.missing }).await?;
        }
        tx.commit().await?;
        let mut pulses = self.lock();
        for written in changed {
            if let Some(pulse) = pulses.get_mut(&written.config.id) {
                pulse.is_dirty = (pulse.last, pulse.missing) != (written.last, written.missing);
            }
        }
        Ok(())
    }

    /// Calls [`Heartbeats::tick`] until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            match self.tick(Timestamp::now(), Instant::now()).await {
                Ok(()) => told = false,
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(error = &error as &dyn std::error::Error, "heartbeats cannot be kept; tried again");
                }
                Err(_) => {}
            }
        }
    }

    /// Everybody, by id.
    pub fn all(&self) -> Vec<Shown> {
        let pulses = self.lock();
        let shown = |pulse: &Pulse| Shown {
            id: pulse.config.id.clone(),
            agency: pulse.agency.clone(),
            within: pulse.config.within,
            last: pulse.last,
            missing: pulse.missing,
        };
        pulses.values().map(shown).collect()
    }

    /// Brings the metrics up to date.
    fn show(&self) {
        let pulses = self.lock();
        let table = self.metrics.table(columns::heartbeat::TABLE);
        let is_known = |labels: &[&str]| {
            let [agency, id] = labels else { return false };
            pulses.get(&**id).is_some_and(|pulse| *pulse.agency == **agency)
        };
        table.retain(is_known);
        for (id, pulse) in pulses.iter() {
            let row: Row = table.row(&[&pulse.agency, id]);
            table.set(row, columns::heartbeat::MISSING, f64::from(u8::from(pulse.missing.is_some())));
            table.set(row, columns::heartbeat::WITHIN, pulse.config.within.as_secs_f64());
            if let Some(last) = pulse.last {
                table.set(row, columns::heartbeat::LAST, last.as_millisecond() as f64 / 1000.0);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, Pulse>> {
        // Each change under this lock is one assignment after the other; a panic elsewhere leaves at worst an old time.
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    fn heard(&mut self, at: Timestamp, now: Instant) {
        (self.last, self.silent_since, self.missing, self.is_dirty) = (Some(at), now, None, true);
    }

    fn measure(&mut self, at: Timestamp, now: Instant) {
        if self.missing.is_none() && now.duration_since(self.silent_since) > self.config.within {
            (self.missing, self.is_dirty) = (Some(at), true);
        }
    }

    fn look_at_feed(&mut self, metrics: &Metrics, at: Timestamp, now: Instant) {
        let Sign::Feed(feed) = &self.config.sign else { return };
        let n_rows = n_rows(metrics, feed);
        if n_rows > self.n_rows {
            self.heard(at, now);
        }
        // It begins anew with each run.
        self.n_rows = n_rows;
    }
}

/// Rows that the feed has brought in this run.
fn n_rows(metrics: &Metrics, feed: &str) -> f64 {
    let table = metrics.table(columns::feed::TABLE).snapshot();
    let rows = (0..table.rows()).filter(|row| table.labels(*row).is_some_and(|labels| labels.get("feed") == feed));
    rows.filter_map(|row| table.value(row, columns::feed::ROWS)).sum()
}

#[cfg(test)]
mod tests;
