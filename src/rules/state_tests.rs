use super::*;
use crate::config::Problems;
use crate::promql::{Labels, QueryError};
use crate::rules::unit_test::memory::Memory;
use crate::rules::{Outcome, RuleSet, RulesBoard, load};
use crate::store::testing::Database;
use jiff::Timestamp;
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
    let changes = ruler.changes();
    changes.save(&mut tx).await.expect("saved");
    tx.commit().await.expect("committed");
    ruler.committed(&changes);
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
        let changes = ruler.changes();
        ruler.committed(&changes);
    }
    let expected = [(30, "dvc 0", false), (90, "dvc -0", false), (105, "dvc -0", true)];
    assert_eq!(told, expected.map(|(second, summary, is_resolved)| (second, summary.to_owned(), is_resolved)));
}

#[tokio::test]
async fn the_log_is_written_anew_when_most_of_it_counts_no_more() {
    const TICKS: i64 = 10;
    let memory = Memory::default();
    for number in 0..400 {
        let values: Vec<Option<f64>> = (0..TICKS).map(|tick| Some((tick % 2) as f64)).collect();
        memory.add(Labels::new([("__name__", "up"), ("service", &format!("s{number:03}"))]), &values, (0, 15_000));
    }
    memory.add(Labels::new([("__name__", "up"), ("service", "dvc")]), &[Some(0.0); TICKS as usize], (0, 15_000));
    let text = RULES.replace("for: 30s", "for: 0s");
    for Database { store, .. } in &Database::both().await {
        let mut ruler = fresh(&text, 0);
        let mut longest = 0;
        for tick in 0..TICKS {
            ruler.evaluate(0, &memory, at(tick * 15));
            save(&mut ruler, store).await;
            let rows: Vec<String> = sqlx::query_scalar("SELECT changes FROM rule_alert_changes")
                .fetch_all(store.reader())
                .await
                .expect("rows");
            let n_changes = rows.iter().map(|row| changes_of(row).len()).sum::<usize>();
            assert_eq!(n_changes, ruler.log.n_changes);
            longest = longest.max(n_changes);
        }
        assert!((SPARE..CHANGES_AN_ALERT * 401 + SPARE).contains(&longest), "{longest}");
        assert!(ruler.log.n_changes < longest, "{}", ruler.log.n_changes);
        // All but one ended at the last tick.
        let mut again = fresh(&text, 200);
        assert_eq!(again.restore(store).await.expect("restored"), 1);
        assert_eq!((again.log.seq, again.log.n_changes), (ruler.log.seq, ruler.log.n_changes));
    }
}

#[tokio::test]
async fn alerts_of_an_earlier_version_are_taken_over() {
    const BEFORE: &str = include_str!("../store/migrations/0010_rules.sql");
    const MIGRATION: &str = include_str!("../store/migrations/0012_rule_alert_changes.sql");
    for Database { store, .. } in &Database::both().await {
        let id = fresh(RULES, 0).groups()[0].rules.iter().find_map(|rule| match rule {
            crate::rules::Rule::Alerting(rule) => Some(rule.id.clone()),
            crate::rules::Rule::Recording(_) => None,
        });
        let id = id.expect("an alerting rule");
        let mut tx = store.begin().await.expect("a transaction");
        for sql in ["DROP TABLE rule_alert_changes", BEFORE] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *tx).await.expect("as it was");
        }
        let labels = r#"{"alertname":"Down","service":"d\"v\\c"}"#;
        for (rule, state, fired) in [(&*id, "firing", Some(30_000_000_i64)), ("a\"b\\", "resolved", None)] {
            sqlx::query(
                "INSERT INTO rule_alerts (rule, fingerprint, state, labels, annotations, value, active_us, fired_us) \
                 VALUES ($1, 'f', $2, $3, $4, 'NaN', 1, $5)",
            )
            .bind(rule)
            .bind(state)
            .bind(labels)
            .bind(r#"{"summary":"é"}"#)
            .bind(fired)
            .execute(&mut *tx)
            .await
            .expect("a row");
        }
        sqlx::raw_sql(sqlx::AssertSqlSafe(MIGRATION)).execute(&mut *tx).await.expect("migrated");
        tx.commit().await.expect("committed");
        let mut ruler = fresh(RULES, 1000);
        assert_eq!(ruler.restore(store).await.expect("restored"), 1);
        let outcome = ruler.evaluate(0, &engine(&[]), at(1015));
        assert_eq!((outcome.alerts[0].label("service"), outcome.alerts[0].starts_at), ("d\"v\\c", at(30)));
        assert_eq!(&outcome.alerts[0].annotations["summary"], "é");
    }
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
