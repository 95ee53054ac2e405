//! The ruler's states in the state database (table `rule_alerts`). Only changes of state are written, not every new
//! value: what is read back is as of the last change, and the next evaluation refreshes it.

use super::alerting::{Active, LabelMap, Restored, State};
use super::ruler::Ruler;
use crate::alert::Alert;
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use jiff::Timestamp;
use sqlx::Row;
use std::collections::{BTreeMap, HashMap};

impl Ruler {
    /// Reads the states that an earlier run left. An alert that fired keeps firing until its data say otherwise, one
    /// that waited does not wait again; alerts of rules that are gone are reported as resolved. Returns how many there
    /// were.
    pub async fn restore(&mut self, store: &Store) -> Result<usize, StoreError> {
        const DOING: &str = "reading the states of alerts";
        let rows = sqlx::query(
            "SELECT rule, state, labels, annotations, value, active_us, fired_us, resolved_us, keep_us FROM rule_alerts",
        )
        .fetch_all(store.reader())
        .await
        .doing(DOING)?;
        let n_rows = rows.len();
        let mut restored: HashMap<String, BTreeMap<LabelMap, Active>> = HashMap::new();
        for row in rows {
            let rule: String = row.try_get("rule").doing(DOING)?;
            match read(&row).doing(DOING)? {
                Some((labels, alert)) => {
                    restored.entry(rule).or_default().insert(labels, alert);
                }
                None => tracing::warn!(rule, "a stored alert state is damaged and left out"),
            }
        }
        let known = self.known_ids();
        for (rule, alerts) in restored {
            self.take_in(&known, rule, alerts);
        }
        Ok(n_rows)
    }

    /// Writes what changed since the last [`Ruler::committed`].
    pub async fn save(&self, tx: &mut Tx) -> Result<(), StoreError> {
        for (rule, labels) in &self.dirty {
            match self.states.get(rule).and_then(|alerts| alerts.get(labels)) {
                Some(alert) => write(tx, rule, labels, alert).await?,
                None => {
                    sqlx::query("DELETE FROM rule_alerts WHERE rule = $1 AND fingerprint = $2")
                        .bind(rule)
                        .bind(fingerprint(labels))
                        .execute(&mut **tx)
                        .await
                        .doing("deleting the state of an alert")?;
                }
            }
        }
        Ok(())
    }

    /// Whether [`Ruler::save`] has anything to write.
    pub fn has_changes(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The transaction of the last [`Ruler::save`] is durable.
    pub fn committed(&mut self) {
        self.dirty.clear();
        self.orphans.retain(|orphan| !orphan.reported);
    }
}

async fn write(tx: &mut Tx, rule: &str, labels: &LabelMap, alert: &Active) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rule_alerts (rule, fingerprint, state, labels, annotations, value, active_us, fired_us, \
         resolved_us, keep_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (rule, fingerprint) DO UPDATE SET state = excluded.state, annotations = excluded.annotations, \
         value = excluded.value, active_us = excluded.active_us, fired_us = excluded.fired_us, \
         resolved_us = excluded.resolved_us, keep_us = excluded.keep_us",
    )
    .bind(rule)
    .bind(fingerprint(labels))
    .bind(alert.state.as_str())
    .bind(json(labels))
    .bind(json(&alert.annotations))
    .bind(alert.value.to_string())
    .bind(micros(alert.active_at))
    .bind(alert.fired_at.map(micros))
    .bind(alert.resolved_at.map(micros))
    .bind(alert.keep_firing_since.map(micros))
    .execute(&mut **tx)
    .await
    .doing("writing the state of an alert")?;
    Ok(())
}

/// `None` if the row is damaged.
fn read(row: &sqlx::any::AnyRow) -> Result<Option<(LabelMap, Active)>, sqlx::Error> {
    let state: String = row.try_get("state")?;
    let labels: String = row.try_get("labels")?;
    let annotations: String = row.try_get("annotations")?;
    let value: String = row.try_get("value")?;
    let time = |name: &str| -> Result<Option<Timestamp>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(name)?.map(from_micros))
    };
    let active_at = from_micros(row.try_get("active_us")?);
    let (fired_at, resolved_at, keep_firing_since) = (time("fired_us")?, time("resolved_us")?, time("keep_us")?);
    let (Some(state), Ok(labels), Ok(annotations)) =
        (State::parse(&state), serde_json::from_str(&labels), serde_json::from_str(&annotations))
    else {
        return Ok(None);
    };
    let alert = Active {
        state,
        annotations,
        value: value.parse().unwrap_or(f64::NAN),
        active_at,
        fired_at,
        resolved_at,
        keep_firing_since,
        restored: Some(Restored::default()),
    };
    Ok(Some((labels, alert)))
}

fn json(map: &LabelMap) -> String {
    serde_json::to_string(map).unwrap_or_else(|_| "{}".to_owned())
}

fn fingerprint(labels: &LabelMap) -> String {
    let alert = Alert {
        labels: labels.clone(),
        annotations: BTreeMap::new(),
        starts_at: Timestamp::UNIX_EPOCH,
        ends_at: None,
        generator_url: String::new(),
    };
    alert.fingerprint()
}
