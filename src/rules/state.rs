//! The ruler's states in the state database (table `rule_alerts`). Only changes of state are written, not every new
//! value: what is read back is as of the last change, and the next evaluation refreshes it.

use super::alerting::{Active, Alerts, Restored, State};
use super::ruler::Ruler;
use crate::alert::LabelSet;
use crate::store::{Doing, Store, StoreError, Tx, from_micros, json_rows, micros};
use jiff::Timestamp;
use sqlx::Row as _;
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
        let mut restored: HashMap<String, Alerts> = HashMap::new();
        for row in rows {
            let rule: String = row.try_get("rule").doing(DOING)?;
            match read(&row).doing(DOING)? {
                // Its end was handed on when it was written; earlier versions kept such rows for a quarter of an hour.
                Some((labels, alert)) if alert.state == State::Resolved => self.gone.push((rule, labels)),
                Some((labels, alert)) => drop(restored.entry(rule).or_default().insert(labels, Box::new(alert))),
                None => tracing::warn!(rule, "a stored alert state is damaged and left out"),
            }
        }
        let known = self.known_ids();
        for (rule, alerts) in restored {
            self.take_in(&known, rule, alerts);
        }
        Ok(n_rows)
    }

    /// What changed since the last [`Ruler::committed`].
    pub fn changes(&self) -> Changes {
        let gone = self.gone.iter().map(|(rule, labels)| (rule.clone(), labels.clone(), None));
        let reported = self.orphans.iter().filter(|orphan| orphan.reported);
        let reported = reported.map(|orphan| (orphan.rule.clone(), orphan.labels.clone(), None));
        let all = self.states.iter().flat_map(|(rule, alerts)| alerts.iter().map(move |alert| (rule, alert)));
        let changed = all.filter(|(_, (_, alert))| alert.is_unsaved).map(|(rule, (labels, alert))| {
            let kept = (alert.state != State::Resolved).then(|| alert.clone());
            (rule.clone(), labels.clone(), kept)
        });
        // What is gone may have come back.
        Changes(gone.chain(reported).chain(changed).collect())
    }

    /// The last [`Ruler::changes`] are durable.
    pub fn committed(&mut self) {
        self.is_uncommitted = false;
        self.gone.clear();
        self.orphans.retain(|orphan| !orphan.reported);
        for alerts in self.states.values_mut() {
            alerts.retain(|_, alert| alert.committed());
        }
    }
}

/// States that differ from the state database; apart from the ruler, so that nobody waits for the database with it.
pub struct Changes(Vec<(String, LabelSet, Option<Box<Active>>)>);

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub async fn save(&self, tx: &mut Tx) -> Result<(), StoreError> {
        // One statement may name a row once; what is gone may have come back.
        let mut rows: BTreeMap<(&str, String), (&LabelSet, Option<&Active>)> = BTreeMap::new();
        for (rule, labels, alert) in &self.0 {
            rows.insert((rule, labels.fingerprint()), (labels, alert.as_deref()));
        }
        let gone = rows.iter().filter(|(_, (_, alert))| alert.is_none());
        let gone: Vec<&(&str, String)> = gone.map(|(key, _)| key).collect();
        let sql = format!(
            "DELETE FROM rule_alerts WHERE (rule, fingerprint) IN (SELECT value ->> 0, value ->> 1 FROM {})",
            tx.dialect().rows(1)
        );
        for rows in gone.chunks(ROWS) {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql.clone())).bind(json_rows(rows));
            query.execute(&mut **tx).await.doing("deleting states of alerts")?;
        }
        let kept = rows.iter().filter_map(|(key, (labels, alert))| Some((key, *labels, (*alert)?)));
        write(tx, &kept.collect::<Vec<_>>()).await
    }
}

/// Rows that go over as one parameter, see [`Dialect`](crate::store::Dialect): bounds its length.
const ROWS: usize = 500;

/// A state to be written: rule and fingerprint, labels, the state.
type Row<'a> = (&'a (&'a str, String), &'a LabelSet, &'a Active);

async fn write(tx: &mut Tx, rows: &[Row<'_>]) -> Result<(), StoreError> {
    // The condition tells SQLite that ON belongs to no join.
    let sql = format!(
        "INSERT INTO rule_alerts (rule, fingerprint, state, labels, annotations, value, active_us, fired_us, \
         resolved_us, keep_us) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, \
         CAST(value ->> 6 AS BIGINT), CAST(value ->> 7 AS BIGINT), CAST(value ->> 8 AS BIGINT), \
         CAST(value ->> 9 AS BIGINT) FROM {} WHERE TRUE \
         ON CONFLICT (rule, fingerprint) DO UPDATE SET state = excluded.state, annotations = excluded.annotations, \
         value = excluded.value, active_us = excluded.active_us, fired_us = excluded.fired_us, \
         resolved_us = excluded.resolved_us, keep_us = excluded.keep_us",
        tx.dialect().rows(1)
    );
    for chunk in rows.chunks(ROWS) {
        let rows = chunk.iter().map(|((rule, fingerprint), labels, alert)| {
            (
                *rule,
                fingerprint,
                alert.state.as_str(),
                json(labels),
                json(&alert.annotations),
                // A text: JSON has no NaN.
                alert.value.to_string(),
                micros(alert.active_at),
                alert.fired_at.map(micros),
                alert.resolved_at.map(micros),
                alert.keep_firing_since.map(micros),
            )
        });
        let query = sqlx::query(sqlx::AssertSqlSafe(sql.clone())).bind(json_rows(rows));
        query.execute(&mut **tx).await.doing("writing the states of alerts")?;
    }
    Ok(())
}

/// `None` if the row is damaged.
fn read(row: &sqlx::any::AnyRow) -> Result<Option<(LabelSet, Active)>, sqlx::Error> {
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
        fired_at,
        resolved_at,
        keep_firing_since,
        restored: Some(Restored::default()),
        ..Active::new(active_at)
    };
    Ok(Some((labels, alert)))
}

fn json(map: &LabelSet) -> String {
    serde_json::to_string(map).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problems;
    use crate::promql::{Labels, QueryError};
    use crate::rules::unit_test::memory::Memory;
    use crate::rules::{Outcome, RuleSet, RulesBoard, load};
    use crate::store::testing::Database;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    const RULES: &str = "groups:
  - name: a
    rules:
      - record: down
        expr: up == 0
      - alert: Down
        expr: down * 1 == 0
        for: 30s
        labels: {severity: critical, area: service}
        annotations: {summary: '{{ $labels.service }} {{ $value }}', summary_en: b, description: c, description_en: d, runbook: e}
";

    fn rules(text: &str) -> RuleSet {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("r.yml");
        std::fs::write(&file, text).expect("a file");
        let mut problems = Problems::default();
        let rules = load(&[file], Duration::from_secs(15), &mut problems);
        assert_eq!(problems.into_sorted(), []);
        rules
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn fresh(text: &str, started: i64) -> Ruler {
        Ruler::new(rules(text), "http://ioc", BTreeMap::new(), at(started))
    }

    /// Samples every 15 s from 0 on.
    fn engine(values: &[Option<f64>]) -> Memory {
        let memory = Memory::default();
        let pairs = [("__name__", "up"), ("agency", "tam-ky"), ("service", "dvc")];
        memory.add(Labels::new(pairs), values, (0, 15_000));
        memory
    }

    async fn save(ruler: &mut Ruler, store: &Store) {
        let mut tx = store.begin().await.expect("a transaction");
        ruler.changes().save(&mut tx).await.expect("saved");
        tx.commit().await.expect("committed");
        ruler.committed();
    }

    fn shown(outcome: &Outcome) -> Vec<(&str, bool)> {
        assert_eq!(outcome.failures, []);
        outcome.alerts.iter().map(|alert| (alert.label("service"), alert.ends_at.is_some())).collect()
    }

    /// Fires at 30 s and is saved.
    async fn fired(store: &Store) -> Ruler {
        let memory = engine(&[Some(0.0); 4]);
        let mut ruler = fresh(RULES, 0);
        for second in [0, 15] {
            assert_eq!(shown(&ruler.evaluate(0, &memory, at(second))), []);
        }
        let outcome = ruler.evaluate(0, &memory, at(30));
        assert_eq!(shown(&outcome), [("dvc", false)]);
        assert_eq!(outcome.alerts[0].annotations["summary"], *"dvc 0");
        assert_eq!(outcome.alerts[0].starts_at, at(30));
        assert_eq!(*outcome.alerts[0].generator_url, *"http://ioc/api/v1/query?query=down+*+1+%3D%3D+0");
        // `down`, ALERTS and ALERTS_FOR_STATE.
        assert_eq!(outcome.n_recorded, 3);
        save(&mut ruler, store).await;
        ruler
    }

    #[tokio::test]
    async fn a_restart_neither_forgets_a_firing_alert_nor_its_resolution() {
        for Database { store, .. } in &Database::both().await {
            fired(store).await;
            let mut ruler = fresh(RULES, 1000);
            assert_eq!(ruler.restore(store).await.expect("restored"), 1);
            let silent = engine(&[]);
            let outcome = ruler.evaluate(0, &silent, at(1015));
            assert_eq!(shown(&outcome), [("dvc", false)]);
            assert_eq!(outcome.alerts[0].starts_at, at(30));
            assert_eq!(shown(&ruler.evaluate(0, &silent, at(1599))), [("dvc", false)]);
            assert_eq!(shown(&ruler.evaluate(0, &silent, at(1600))), [("dvc", true)]);
            save(&mut ruler, store).await;
            assert_eq!(shown(&ruler.evaluate(0, &silent, at(1600 + 901))), []);
            save(&mut ruler, store).await;
            let mut later = fresh(RULES, 3000);
            assert_eq!(later.restore(store).await.expect("restored"), 0);
        }
    }

    #[tokio::test]
    async fn an_alert_that_waited_fires_at_its_time_after_a_restart() {
        for Database { store, .. } in &Database::both().await {
            let mut first = fresh(RULES, 0);
            first.evaluate(0, &engine(&[Some(0.0)]), at(0));
            save(&mut first, store).await;
            let mut second = fresh(RULES, 15);
            second.restore(store).await.expect("restored");
            assert_eq!(shown(&second.evaluate(0, &engine(&[Some(0.0); 3]), at(30))), [("dvc", false)]);
        }
    }

    #[tokio::test]
    async fn alerts_of_a_rule_that_is_gone_are_resolved_once_it_is_committed() {
        for Database { store, .. } in &Database::both().await {
            fired(store).await;
            let other = RULES.replace("alert: Down", "alert: Other");
            let mut ruler = fresh(&other, 100);
            ruler.restore(store).await.expect("restored");
            let silent = engine(&[]);
            assert_eq!(shown(&ruler.evaluate(0, &silent, at(115))), [("dvc", true)]);
            // Not committed: reported again, with the same end.
            let outcome = ruler.evaluate(0, &silent, at(130));
            assert_eq!(outcome.alerts[0].ends_at, Some(at(115)));
            save(&mut ruler, store).await;
            assert_eq!(shown(&ruler.evaluate(0, &silent, at(145))), []);
            assert_eq!(fresh(RULES, 200).restore(store).await.expect("restored"), 0);
        }
    }

    #[tokio::test]
    async fn a_reload_takes_the_alerts_over() {
        for Database { store, .. } in &Database::both().await {
            let old = fired(store).await;
            let mut new = fresh(&RULES.replace("for: 30s", "for: 1h"), 40);
            new.adopt(old);
            assert_eq!(shown(&new.evaluate(0, &engine(&[Some(0.0); 4]), at(45))), [("dvc", false)]);
            save(&mut new, store).await;
            // One that ends just then does so at once: unlike after a restart, its data were there all the time.
            let board = RulesBoard::default();
            board.show(Some(Arc::new(Mutex::new(new))));
            let mut next = fresh(RULES, 50);
            next.adopt(board.take().await.expect("the ruler that ran"));
            assert!(board.take().await.is_none());
            let well = engine(&[Some(0.0), Some(0.0), Some(0.0), Some(0.0), Some(1.0)]);
            assert_eq!(shown(&next.evaluate(0, &well, at(60))), [("dvc", true)]);
        }
    }

    #[test]
    fn what_fires_is_handed_on_when_it_changes_and_every_minute_with_its_present_value() {
        let values = [Some(0.0), Some(0.0), Some(0.0), Some(-0.0), Some(-0.0), Some(-0.0), Some(-0.0), Some(1.0)];
        let memory = engine(&values);
        let mut ruler = fresh(RULES, 0);
        let mut told = Vec::new();
        for tick in 0..9 {
            let outcome = ruler.evaluate(0, &memory, at(tick * 15));
            let is_resolved = |alert: &crate::alert::Alert| alert.ends_at.is_some();
            let summary = |alert: &crate::alert::Alert| alert.annotations["summary"].to_owned();
            told.extend(outcome.alerts.iter().map(|alert| (tick * 15, summary(alert), is_resolved(alert))));
            if tick == 4 {
                // Whoever looks between sees it as it is.
                assert_eq!(*ruler.firing("Down")[0].1["summary"], *"dvc -0");
            }
            ruler.committed();
        }
        let expected = [(30, "dvc 0", false), (90, "dvc -0", false), (105, "dvc -0", true)];
        assert_eq!(told, expected.map(|(second, summary, is_resolved)| (second, summary.to_owned(), is_resolved)));
    }

    /// An engine that does not answer.
    struct Away;

    impl crate::rules::Engine for Away {
        fn instant(&self, _: &crate::promql::Query, _: Timestamp) -> Result<crate::promql::Value, QueryError> {
            Err(QueryError::Execution("away".to_owned()))
        }

        fn record(&self, owner: &str, _: &mut [(Labels, f64)], _: Timestamp) {
            panic!("{owner} recorded what it does not know");
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_away_ends_no_alert_and_makes_none_wait_again() {
        for Database { store, .. } in &Database::both().await {
            let mut ruler = fired(store).await;
            let memory = engine(&[Some(0.0); 60]);
            let pairs = [("__name__", "up"), ("agency", "tam-ky"), ("service", "late")];
            let values: Vec<Option<f64>> = (0..60).map(|tick| (tick > 2).then_some(0.0)).collect();
            memory.add(Labels::new(pairs), &values, (0, 15_000));
            // "late" begins to wait, and its 30 s pass while nobody answers.
            assert_eq!(shown(&ruler.evaluate(0, &memory, at(45))), []);
            for second in [60, 75, 90] {
                let outcome = ruler.evaluate(0, &Away, at(second));
                assert_eq!(outcome.failures.len(), 2);
                assert!(outcome.alerts.is_empty() && !outcome.failures[0].is_template);
                save(&mut ruler, store).await;
            }
            // Restarted meanwhile.
            let mut ruler = fresh(RULES, 95);
            assert_eq!(ruler.restore(store).await.expect("restored"), 2);
            assert_eq!(ruler.evaluate(0, &Away, at(100)).alerts, []);
            let outcome = ruler.evaluate(0, &memory, at(105));
            let mut alerts = shown(&outcome);
            alerts.sort_unstable();
            assert_eq!(alerts, [("dvc", false), ("late", false)]);
        }
    }

    #[test]
    fn a_rule_above_its_limit_or_with_a_bad_template_fails_and_loses_nothing() {
        let limited = RULES.replace("- name: a", "- name: a\n    limit: 1");
        let memory = engine(&[Some(0.0); 9]);
        let mut ruler = fresh(&limited, 0);
        for second in [0, 15, 30] {
            ruler.evaluate(0, &memory, at(second));
        }
        let pairs = [("__name__", "up"), ("agency", "tam-ky"), ("service", "other")];
        memory.add(Labels::new(pairs), &[Some(0.0); 9], (0, 15_000));
        let outcome = ruler.evaluate(0, &memory, at(45));
        assert_eq!(outcome.failures[0].message, "2 series exceed the limit of 1");
        assert_eq!(ruler.firing("Down").len(), 1);

        let broken = RULES.replace("{{ $value }}", "{{ query \"none\" | first }}");
        let mut ruler = fresh(&broken, 0);
        for second in [0, 15] {
            ruler.evaluate(0, &memory, at(second));
        }
        let outcome = ruler.evaluate(0, &memory, at(30));
        let error = "first: the vector has no elements";
        assert_eq!(outcome.failures[0].message, format!("template of summary: {error}"));
        assert_eq!(outcome.alerts[0].annotations["summary"], format!("<error expanding template: {error}>"));
    }
}
