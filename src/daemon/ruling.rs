//! The tick of the history and the evaluation of the rules on it.
//!
//! The ruler's states and what follows from its alerts are committed in one transaction; when that fails, both stay
//! as they were and the next evaluation reports again.

use super::pulse::Vitals;
use crate::config::site;
use crate::history::{History, Remote};
use crate::http::TrustError;
use crate::incident::Incidents;
use crate::metrics::Metrics;
use crate::promql::{Labels, Query, QueryError, Value};
use crate::rules::{Changes, Engine, Outcome, RuleSet, Ruler, RulesBoard};
use crate::store::{Store, StoreError, Tx};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum RulingError {
    #[error("restoring the states of alerts")]
    Restore(#[source] StoreError),
    #[error("preparing the remote engine")]
    Remote(#[source] TrustError),
    /// The evaluation panicked; the states come back from the database.
    #[error("evaluating a rule group")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Samples every `tick` until `shutdown`, and says so on `sampled`.
pub async fn sample(
    history: Arc<History>,
    metrics: Arc<Metrics>,
    tick: Duration,
    sampled: watch::Sender<u64>,
    shutdown: CancellationToken,
) -> Result<(), RulingError> {
    let mut ticks = tokio::time::interval(tick);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let (history, metrics) = (history.clone(), metrics.clone());
        // A large fleet takes milliseconds.
        tokio::task::spawn_blocking(move || history.sample(&metrics, Timestamp::now()))
            .await
            .map_err(RulingError::Panicked)?;
        sampled.send_modify(|count| *count += 1);
    }
}

/// What the ruler works with.
#[derive(Clone)]
pub struct Parts {
    pub rules: RuleSet,
    pub external_url: String,
    pub site_agency: String,
    pub history: Arc<History>,
    /// Answers the rules' queries instead.
    pub remote: Option<site::Remote>,
    /// When the history began to fill.
    pub history_since: Timestamp,
    pub store: Store,
    pub incidents: Arc<Incidents>,
    pub metrics: Arc<Metrics>,
    /// Told of every evaluation whose outcome was kept.
    pub vitals: Vitals,
    pub board: RulesBoard,
}

/// A ruler that others may look at between two evaluations.
type Shared = Arc<Mutex<Ruler>>;

fn lock(ruler: &Shared) -> MutexGuard<'_, Ruler> {
    // After a panic this task ends, and the next one begins with what the database has.
    ruler.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Evaluates each group at its interval, after a sample was taken, until `shutdown`.
pub async fn rule(
    parts: Parts,
    mut sampled: watch::Receiver<u64>,
    shutdown: CancellationToken,
) -> Result<(), RulingError> {
    let labels = BTreeMap::from([("agency".to_string(), parts.site_agency.clone())]);
    let mut ruler = Ruler::new(parts.rules.clone(), &parts.external_url, labels, parts.history_since);
    match parts.board.take().await {
        Some(old) => ruler.adopt(old),
        None => {
            let n_restored = ruler.restore(&parts.store).await.map_err(RulingError::Restore)?;
            if n_restored > 0 {
                tracing::info!(
                    alerts.restored = n_restored,
                    "took up {n_restored} alerts where the last run left them"
                );
            }
        }
    }
    // What rules recorded that are there no more ends.
    parts.history.end_owners_except(&ruler.known_ids(), Timestamp::now());
    for group in ruler.groups() {
        parts.metrics.own.rule_failures.with_label_values(&[&group.name]).inc_by(0);
        parts.metrics.own.rule_iterations_missed.with_label_values(&[&group.name]).inc_by(0);
    }
    let engine = engine(&parts).await?;
    let groups = ruler.groups().to_vec();
    let ruler: Shared = Arc::new(Mutex::new(ruler));
    parts.board.show(Some(ruler.clone()));
    let mut beats = vec![Beat::default(); groups.len()];
    let mut told = Told::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = sampled.changed() => if changed.is_err() {
                // The sampler is being started again with a channel of its own.
                return Ok(());
            },
        }
        let now = Instant::now();
        for (position, beat) in beats.iter_mut().enumerate() {
            let group = &groups[position];
            let Some(missed) = beat.due(now, group.interval) else { continue };
            if missed > 0 {
                parts.metrics.own.rule_iterations_missed.with_label_values(&[&group.name]).inc_by(missed);
            }
            evaluate(&parts, &ruler, &engine, (position, &group.name), &mut told).await?;
        }
    }
}

/// When a group was evaluated last.
#[derive(Debug, Clone, Copy, Default)]
struct Beat {
    last: Option<Instant>,
}

impl Beat {
    /// Whether the group is due `now`; then, how many evaluations were missed since the last.
    fn due(&mut self, now: Instant, interval: Duration) -> Option<u64> {
        // A little early is in time: ticks jitter.
        const EARLY: Duration = Duration::from_millis(100);
        let elapsed = self.last.map(|last| now.saturating_duration_since(last));
        if elapsed.is_some_and(|elapsed| elapsed < interval.saturating_sub(EARLY)) {
            return None;
        }
        self.last = Some(now);
        let intervals = elapsed.map_or(0, |elapsed| (elapsed + EARLY).as_millis() / interval.as_millis().max(1));
        Some(u64::try_from(intervals).unwrap_or(u64::MAX).saturating_sub(1))
    }
}

/// Who answers the rules' queries.
type SharedEngine = Arc<dyn Engine + Send + Sync>;

async fn engine(parts: &Parts) -> Result<SharedEngine, RulingError> {
    let history = parts.history.clone();
    let Some(config) = parts.remote.clone() else { return Ok(history) };
    let metrics = parts.metrics.clone();
    let made = tokio::task::spawn_blocking(move || Remote::new(&config, metrics)).await;
    let remote = made.map_err(RulingError::Panicked)?.map_err(RulingError::Remote)?;
    let recorded = parts.rules.recorded().into_iter().map(str::to_owned).collect();
    Ok(Arc::new(Elsewhere { remote, history, recorded, runtime: tokio::runtime::Handle::current() }))
}

/// A remote engine, which has what this daemon measures; what the rules record is kept here.
struct Elsewhere {
    remote: Remote,
    history: Arc<History>,
    /// Names of the metrics that rules record.
    recorded: BTreeSet<String>,
    /// Evaluations run on blocking threads.
    runtime: tokio::runtime::Handle,
}

impl Engine for Elsewhere {
    fn instant(&self, query: &Query, at: Timestamp) -> Result<Value, QueryError> {
        // What was recorded a moment ago is here at once, there only after the next scrape.
        if query.reads_only(&|name| self.recorded.contains(name)) {
            return self.history.instant(query, at);
        }
        Ok(self.runtime.block_on(self.remote.instant(query, at))?)
    }

    fn record(&self, owner: &str, samples: &mut [(Labels, f64)], at: Timestamp) {
        self.history.record(owner, samples, at);
    }
}

/// Evaluates one group and hands its alerts on.
async fn evaluate(
    parts: &Parts,
    ruler: &Shared,
    engine: &SharedEngine,
    (group, name): (usize, &str),
    told: &mut Told,
) -> Result<(), RulingError> {
    let (engine, shared) = (engine.clone(), ruler.clone());
    let begin = Instant::now();
    let now = Timestamp::now();
    let (outcome, changes) = tokio::task::spawn_blocking(move || {
        let mut ruler = lock(&shared);
        (ruler.evaluate(group, &*engine, now), ruler.changes())
    })
    .await
    .map_err(RulingError::Panicked)?;
    let own = &parts.metrics.own;
    own.rule_group_duration.with_label_values(&[name]).set(begin.elapsed().as_secs_f64());
    for failure in &outcome.failures {
        own.rule_failures.with_label_values(&[name]).inc();
        told.rule(&failure.rule, &failure.message);
    }
    match hand_on(parts, &changes, &outcome, now).await {
        Ok(()) => {
            lock(ruler).committed(&changes);
            parts.vitals.ruled(Instant::now());
            told.database = false;
        }
        Err(error) if !told.database => {
            told.database = true;
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "alerts cannot be kept; they will be tried again"
            );
        }
        Err(_) => {}
    }
    Ok(())
}

async fn hand_on(parts: &Parts, changes: &Changes, outcome: &Outcome, now: Timestamp) -> Result<(), StoreError> {
    if outcome.alerts.is_empty() && changes.is_empty() {
        return Ok(());
    }
    parts.incidents.receive_with(&outcome.alerts, now, async |tx: &mut Tx| changes.save(tx).await).await
}

/// What was logged already, so that a failure that lasts is logged once.
#[derive(Default)]
struct Told {
    database: bool,
    rules: BTreeMap<String, String>,
}

impl Told {
    fn rule(&mut self, rule: &str, message: &str) {
        if self.rules.get(rule).is_none_or(|last| last != message) {
            self.rules.insert(rule.to_string(), message.to_string());
            tracing::error!(rule, error = message, "the rule {rule} cannot be evaluated: {message}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_that_were_due_and_not_made_are_counted() {
        let (mut beat, start) = (Beat::default(), Instant::now());
        let rows =
            [(0, Some(0)), (5_000, None), (14_920, Some(0)), (30_000, Some(0)), (59_950, Some(1)), (150_000, Some(5))];
        for (millis, expected) in rows {
            let found = beat.due(start + Duration::from_millis(millis), Duration::from_secs(15));
            assert_eq!(found, expected, "{millis}");
        }
    }
}
