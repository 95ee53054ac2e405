//! The tick of the history and the evaluation of the rules on it.
//!
//! The ruler's states and what follows from its alerts are committed in one transaction; when that fails, both stay
//! as they were and the next evaluation reports again.

use crate::history::History;
use crate::incident::Incidents;
use crate::metrics::Metrics;
use crate::rules::{Changes, Outcome, RuleSet, Ruler, RulesBoard};
use crate::store::{Store, StoreError};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum RulingError {
    #[error("restoring the states of alerts")]
    Restore(#[source] StoreError),
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
    /// When the history began to fill.
    pub history_since: Timestamp,
    pub store: Store,
    pub incidents: Arc<Incidents>,
    pub metrics: Arc<Metrics>,
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
    let n_restored = ruler.restore(&parts.store).await.map_err(RulingError::Restore)?;
    if n_restored > 0 {
        tracing::info!(alerts.restored = n_restored, "took up {n_restored} alerts where the last run left them");
    }
    for group in ruler.groups() {
        parts.metrics.own.rule_failures.with_label_values(&[&group.name]).inc_by(0);
    }
    let groups = ruler.groups().to_vec();
    let ruler: Shared = Arc::new(Mutex::new(ruler));
    parts.board.show(Some(ruler.clone()));
    let mut due = vec![Instant::now(); groups.len()];
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
        for (group, due) in due.iter_mut().enumerate() {
            if *due > now {
                continue;
            }
            // A little early is in time: ticks jitter.
            *due = now + groups[group].interval.saturating_sub(Duration::from_millis(100));
            evaluate(&parts, &ruler, (group, &groups[group].name), &mut told).await?;
        }
    }
}

/// Evaluates one group and hands its alerts on.
async fn evaluate(
    parts: &Parts,
    ruler: &Shared,
    (group, name): (usize, &str),
    told: &mut Told,
) -> Result<(), RulingError> {
    let (history, shared) = (parts.history.clone(), ruler.clone());
    let begin = Instant::now();
    let now = Timestamp::now();
    let (outcome, changes) = tokio::task::spawn_blocking(move || {
        let mut ruler = lock(&shared);
        (ruler.evaluate(group, &*history, now), ruler.changes())
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
            lock(ruler).committed();
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
    let mut tx = parts.store.begin().await?;
    changes.save(&mut tx).await?;
    parts.incidents.receive(tx, &outcome.alerts, now).await
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
