//! The ruler's alerts in the state database (table `rule_alert_changes`), as a log of what changed. Only changes of state are
//! written, not every new value: what is read back is as of the last change, and the next evaluation refreshes it.

use super::alerting::{Active, Alerts, Restored, State};
use super::ruler::Ruler;
use crate::alert::LabelSet;
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Where the log stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Log {
    /// Of the next row.
    seq: i64,
    /// In all rows.
    n_changes: usize,
}

/// Changes in one row: bounds its length.
const CHANGES: usize = 500;
/// So many changes an alert, and [`SPARE`] more, the log may have before it is written anew. Where half of the alerts change
/// at every evaluation, twice as many alerts were written for the sake of that as for themselves.
const CHANGES_AN_ALERT: usize = 4;
const SPARE: usize = 1_000;

/// Rule, fingerprint, and the alert unless it is no more.
type Change<R, F, L, T> = (R, F, Option<Kept<L, T>>);

/// An alert as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept<L, T>(
    T,           // state
    L,           // labels
    L,           // annotations
    String,      // the value, which may be NaN
    i64,         // since when its expression holds
    Option<i64>, // since when it fires
    Option<i64>, // since when it fires by `keep_firing_for` alone
);

impl Ruler {
    /// Reads the states that an earlier run left. An alert that fired keeps firing until its data say otherwise, one
    /// that waited does not wait again; alerts of rules that are gone are reported as resolved. Returns how many there
    /// were.
    pub async fn restore(&mut self, store: &Store) -> Result<usize, StoreError> {
        let mut restored: BTreeMap<String, HashMap<String, (LabelSet, Active)>> = BTreeMap::new();
        let mut after: Option<i64> = None;
        // One row after the other: all of them may be several times what they come to.
        let sql = "SELECT seq, changes FROM rule_alert_changes WHERE seq > $1 ORDER BY seq LIMIT 1";
        loop {
            let query = sqlx::query_as(sql).bind(after.unwrap_or(i64::MIN)).fetch_optional(store.reader());
            let Some((seq, changes)): Option<(i64, String)> = query.await.doing("reading the states of alerts")? else {
                break;
            };
            after = Some(seq);
            for (rule, fingerprint, alert) in changes_of(&changes) {
                self.log.n_changes += 1;
                let alerts = restored.entry(rule).or_default();
                match alert {
                    Some(alert) => drop(alerts.insert(fingerprint, alert)),
                    None => drop(alerts.remove(&fingerprint)),
                }
            }
        }
        self.log.seq = after.map_or(0, |last| last + 1);
        let known = self.known_ids();
        let mut n_restored = 0;
        for (rule, alerts) in restored {
            n_restored += alerts.len();
            let alerts: Alerts = alerts.into_values().map(|(labels, alert)| (labels, Box::new(alert))).collect();
            if !alerts.is_empty() {
                self.take_in(&known, rule, alerts);
            }
        }
        Ok(n_restored)
    }

    /// What changed since the last [`Ruler::committed`].
    pub fn changes(&self) -> Changes {
        let gone = self.gone.iter().map(|(rule, labels)| (rule.clone(), labels.clone(), None));
        let reported = self.orphans.iter().filter(|orphan| orphan.reported);
        let reported = reported.map(|orphan| (orphan.rule.clone(), orphan.labels.clone(), None));
        let changed = self.alerts().filter(|(_, _, alert)| alert.is_unsaved).map(|(rule, labels, alert)| {
            let kept = (alert.state != State::Resolved).then(|| alert.clone());
            (rule.clone(), labels.clone(), kept)
        });
        // What is gone may have come back.
        let rows: Vec<_> = gone.chain(reported).chain(changed).collect();
        let n_alerts = self.states.values().map(HashMap::len).sum::<usize>();
        if self.log.n_changes + rows.len() <= CHANGES_AN_ALERT * n_alerts + SPARE {
            return Changes { rows, log: self.log, is_all: false };
        }
        let waiting = self.orphans.iter().filter(|orphan| !orphan.reported);
        let waiting = waiting.map(|orphan| (&orphan.rule, &orphan.labels, &orphan.alert));
        let kept = self.alerts().filter(|(_, _, alert)| alert.state != State::Resolved).chain(waiting);
        let kept = kept.map(|(rule, labels, alert)| (rule.clone(), labels.clone(), Some(alert.clone())));
        Changes { rows: kept.collect(), log: self.log, is_all: true }
    }

    fn alerts(&self) -> impl Iterator<Item = (&String, &LabelSet, &Active)> {
        let all = self.states.iter().flat_map(|(rule, alerts)| alerts.iter().map(move |alert| (rule, alert)));
        all.map(|(rule, (labels, alert))| (rule, labels, &**alert))
    }

    /// The last [`Ruler::changes`], these, are durable.
    pub fn committed(&mut self, changes: &Changes) {
        self.log = changes.after();
        self.is_uncommitted = false;
        self.gone.clear();
        self.orphans.retain(|orphan| !orphan.reported);
        for alerts in self.states.values_mut() {
            alerts.retain(|_, alert| alert.committed());
        }
    }
}

/// States that differ from the state database; apart from the ruler, so that nobody waits for the database with it.
pub struct Changes {
    rows: Vec<(String, LabelSet, Option<Active>)>,
    /// Before them.
    log: Log,
    /// They are all there is: what was before counts no more.
    is_all: bool,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && !self.is_all
    }

    fn after(&self) -> Log {
        let n_before = if self.is_all { 0 } else { self.log.n_changes };
        let n_rows = self.rows.len().div_ceil(CHANGES) as i64;
        Log { seq: self.log.seq + n_rows, n_changes: n_before + self.rows.len() }
    }

    pub async fn save(&self, tx: &mut Tx) -> Result<(), StoreError> {
        if self.is_all {
            sqlx::query("DELETE FROM rule_alert_changes")
                .execute(&mut **tx)
                .await
                .doing("deleting states of alerts")?;
        }
        for (seq, rows) in (self.log.seq..).zip(self.rows.chunks(CHANGES)) {
            let changes: Vec<_> = rows.iter().map(|(rule, labels, alert)| written(rule, labels, alert)).collect();
            sqlx::query("INSERT INTO rule_alert_changes (seq, changes) VALUES ($1, $2)")
                .bind(seq)
                // Plain values and maps with text keys can always be written.
                .bind(serde_json::to_string(&changes).unwrap_or_default())
                .execute(&mut **tx)
                .await
                .doing("writing the states of alerts")?;
        }
        Ok(())
    }
}

fn written<'a>(
    rule: &'a str,
    labels: &'a LabelSet,
    alert: &'a Option<Active>,
) -> Change<&'a str, String, &'a LabelSet, &'a str> {
    let kept = alert.as_ref().map(|alert| {
        Kept(
            alert.state.as_str(),
            labels,
            &alert.annotations,
            alert.value.to_string(),
            micros(alert.active_at),
            alert.fired_at.map(micros),
            alert.keep_firing_since.map(micros),
        )
    });
    (rule, labels.fingerprint(), kept)
}

/// The changes of one row, without those that are damaged.
fn changes_of(text: &str) -> Vec<(String, String, Option<(LabelSet, Active)>)> {
    let rows: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "stored states of alerts are damaged and left out");
        Vec::new()
    });
    let read = |row: serde_json::Value| {
        let (rule, fingerprint, kept): Change<String, String, LabelSet, String> = serde_json::from_value(row).ok()?;
        match kept.map(restored) {
            Some(None) => None,
            kept => Some((rule, fingerprint, kept.flatten())),
        }
    };
    let rows = rows.into_iter().filter_map(|row| {
        let shown = row.get(0).cloned();
        let change = read(row);
        if change.is_none() {
            tracing::warn!(rule = ?shown, "a stored alert state is damaged and left out");
        }
        change
    });
    rows.collect()
}

/// `None` if its state is none.
fn restored(kept: Kept<LabelSet, String>) -> Option<(LabelSet, Active)> {
    let Kept(state, labels, annotations, value, active_us, fired_us, keep_us) = kept;
    let alert = Active {
        state: State::parse(&state)?,
        annotations,
        value: value.parse().unwrap_or(f64::NAN),
        fired_at: fired_us.map(from_micros),
        keep_firing_since: keep_us.map(from_micros),
        restored: Some(Restored::default()),
        ..Active::new(from_micros(active_us))
    };
    Some((labels, alert))
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
