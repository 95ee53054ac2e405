//! Tests of what outlives a restart, on SQLite and on PostgreSQL.

use super::*;
use crate::config::site;
use crate::history::Need;
use crate::metrics::columns::service;
use crate::promql::{self, Query, SampleSeries};
use crate::store::testing::Database;

const MINUTE: i64 = 60;
const WEEK: &str = "avg_over_time(ioc_service_up[7d])";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A daemon's life as far as its history goes.
struct Life {
    history: Arc<History>,
    metrics: Arc<Metrics>,
    keeper: Keeper,
}

impl Life {
    async fn begin(store: &Store, reads: &str, now: Timestamp) -> Life {
        let config = site::History::default();
        let (history, metrics) = (Arc::new(History::new(&config)), Arc::new(Metrics::new()));
        history.set_retention(&config, &Need::of(&Query::parse(reads).unwrap(), "test"));
        let keeper = Keeper::resume(history.clone(), store.clone(), metrics.clone(), now).await.unwrap();
        Life { history, metrics, keeper }
    }

    fn up(&self, id: &str, value: Option<f64>) {
        let table = self.metrics.table(service::TABLE);
        let row = table.row(&["tam-ky", id, "portal"]);
        match value {
            Some(value) => table.set(row, service::UP, value),
            None => table.remove(row),
        }
    }

    /// Samples every 15 s in `[from, to)`.
    fn sample(&self, from: i64, to: i64) {
        for second in (from..to).step_by(15) {
            self.history.sample(&self.metrics, at(second));
        }
    }

    fn value(&self, text: &str, now: i64) -> Option<f64> {
        let query = Query::parse(text).unwrap();
        match promql::instant(&self.history.read(), &query, at(now).as_millisecond()).unwrap() {
            promql::Value::Vector(samples) => samples.first().map(|sample| sample.value),
            other => panic!("{other:?}"),
        }
    }

    fn range(&self, text: &str, from: i64, to: i64, step: i64) -> Vec<SampleSeries> {
        let query = Query::parse(text).unwrap();
        let (from, to) = (at(from).as_millisecond(), at(to).as_millisecond());
        promql::range(&self.history.read(), &query, from, to, step * 1_000).unwrap()
    }
}

async fn rows(store: &Store, table: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query_scalar(sql).fetch_one(store.reader()).await.unwrap()
}

#[tokio::test]
async fn a_restart_keeps_the_past_and_the_gap() {
    for Database { store, .. } in &Database::both().await {
        let first = Life::begin(store, WEEK, at(0)).await;
        // Three hours: up, an hour down, up again; another ends half-way.
        first.up("dvc", Some(1.0));
        first.up("gone", Some(0.25));
        first.sample(0, 60 * MINUTE);
        first.keeper.write().await.unwrap();
        first.up("dvc", Some(0.0));
        first.up("gone", None);
        first.sample(60 * MINUTE, 120 * MINUTE);
        first.keeper.write().await.unwrap();
        first.up("dvc", Some(1.0));
        first.sample(120 * MINUTE, 180 * MINUTE);
        first.keeper.write().await.unwrap();
        assert_eq!(first.metrics.own.history_kept_series.get(), 2);

        // Two hours later.
        let second = Life::begin(store, WEEK, at(300 * MINUTE)).await;
        second.up("dvc", Some(1.0));
        second.sample(300 * MINUTE + 5, 360 * MINUTE);
        let dvc = "avg_over_time(ioc_service_up{service=\"dvc\"}[7d])";
        let average = second.value(dvc, 360 * MINUTE - 1).unwrap();
        assert!((average - 0.75).abs() < 1e-9, "{average}");
        let counted = second.value("count_over_time(ioc_service_up{service=\"dvc\"}[7d])", 360 * MINUTE - 1).unwrap();
        assert_eq!(counted, 4.0 * 60.0 * 4.0);
        // The gap has no samples beyond the lookback, and nothing of it counts.
        let up = second.range("ioc_service_up{service=\"dvc\"}", 170 * MINUTE, 310 * MINUTE, MINUTE);
        let times: Vec<i64> =
            up[0].samples.iter().map(|(time, _)| time / 1_000 - at(0).as_second()).map(|s| s / MINUTE).collect();
        assert!(times.contains(&184) && times.contains(&301), "{times:?}");
        assert!(!times.iter().any(|minute| (185..300).contains(minute)), "{times:?}");
        assert_eq!(second.value("ioc_service_up{service=\"dvc\"}", 240 * MINUTE), None);
        assert_eq!(second.value("changes(ioc_service_up{service=\"dvc\"}[7d])", 360 * MINUTE - 1), Some(2.0));
        // What ended keeps its past only.
        let gone = "count_over_time(ioc_service_up{service=\"gone\"}[7d])";
        assert_eq!(second.value(gone, 360 * MINUTE - 1), Some(240.0));
        assert_eq!(second.value("ioc_service_up{service=\"gone\"}", 301 * MINUTE), None);
    }
}

#[tokio::test]
async fn what_is_not_sampled_after_the_restart_ends_at_it() {
    let database = Database::sqlite().await;
    let first = Life::begin(&database.store, WEEK, at(0)).await;
    first.up("dvc", Some(1.0));
    first.sample(0, MINUTE);
    first.keeper.write().await.unwrap();
    let second = Life::begin(&database.store, WEEK, at(MINUTE + 5)).await;
    assert_eq!(second.value("ioc_service_up", MINUTE + 4), Some(1.0));
    assert_eq!(second.value("ioc_service_up", MINUTE + 6), None);
    second.up("other", Some(1.0));
    second.sample(MINUTE + 10, 2 * MINUTE);
    assert_eq!(second.value("count(ioc_service_up)", 2 * MINUTE), Some(1.0));
}

#[tokio::test]
async fn only_what_changed_is_written_and_only_what_is_kept_for_long() {
    for Database { store, .. } in &Database::both().await {
        let life = Life::begin(store, "max_over_time(ioc_service_up{service!=\"short\"}[2h])", at(0)).await;
        for service in ["still", "busy", "short"] {
            life.up(service, Some(1.0));
        }
        for minute in 0..(10 * 60) {
            life.up("busy", Some(f64::from(minute as i32 % 2)));
            life.sample(minute * MINUTE, (minute + 1) * MINUTE);
            if minute % 5 == 4 {
                life.keeper.write().await.unwrap();
            }
        }
        assert_eq!(rows(store, "history_series").await, 2);
        // One row of the value that never changed; of the other the hours that are kept, and a few that wait for more.
        let n_rows = rows(store, "history_runs").await;
        assert!((4..=9).contains(&n_rows), "{n_rows}");
        let n_rows = rows(store, "history_clocks").await;
        assert!((3..=8).contains(&n_rows), "{n_rows}");
        let second = Life::begin(store, "max_over_time(ioc_service_up[2h])", at(600 * MINUTE)).await;
        let text = "count_over_time(ioc_service_up{service=\"still\"}[2h])";
        assert_eq!(second.value(text, 600 * MINUTE), Some(479.0), "the tick at the window's beginning is not in it");
        let text = "changes(ioc_service_up{service=\"busy\"}[2h])";
        assert_eq!(second.value(text, 600 * MINUTE), Some(119.0));
        // Nobody needs it any more.
        let third = Life::begin(store, "vector(1)", at(601 * MINUTE)).await;
        third.keeper.write().await.unwrap();
        for table in ["history_series", "history_runs", "history_clocks"] {
            assert_eq!(rows(store, table).await, 0, "{table}");
        }
    }
}

#[tokio::test]
async fn a_kill_between_two_transactions_loses_the_minutes_since_the_last_writing_and_no_more() {
    for Database { store, .. } in &Database::both().await {
        let first = Life::begin(store, WEEK, at(0)).await;
        first.up("dvc", Some(1.0));
        first.sample(0, 10 * MINUTE);
        first.keeper.write().await.unwrap();
        first.up("dvc", Some(0.0));
        first.up("new", Some(0.0));
        first.sample(10 * MINUTE, 20 * MINUTE);
        // The changes are there, their ticks are not.
        let mut book = first.keeper.book.lock().await;
        let unsaved = unsaved(&first.history.read().inner, &mut book);
        let mut tx = store.begin().await.unwrap();
        write_changes(&mut tx, &unsaved.changes).await.unwrap();
        tx.commit().await.unwrap();
        drop(book);
        drop(unsaved);

        let second = Life::begin(store, WEEK, at(30 * MINUTE)).await;
        let all = "sum(count_over_time(ioc_service_up[7d]))";
        assert_eq!(second.value(all, 30 * MINUTE), Some(40.0));
        assert_eq!(second.value("min_over_time(ioc_service_up{service=\"dvc\"}[7d])", 30 * MINUTE), Some(1.0));
        second.up("new", Some(1.0));
        second.sample(31 * MINUTE, 41 * MINUTE);
        second.keeper.write().await.unwrap();
        // Later hours bring ticks after the changes that have none: those stay without effect.
        second.sample(41 * MINUTE, 180 * MINUTE);
        second.keeper.write().await.unwrap();
        let third = Life::begin(store, WEEK, at(190 * MINUTE)).await;
        assert_eq!(third.value("min_over_time(ioc_service_up[7d])", 190 * MINUTE), Some(1.0));
        assert_eq!(third.value(all, 190 * MINUTE), Some(40.0 + 149.0 * 4.0));
    }
}

#[tokio::test]
async fn a_writing_that_failed_is_done_again_and_leaves_nothing_twice() {
    let database = Database::sqlite().await;
    let store = &database.store;
    let life = Life::begin(store, WEEK, at(0)).await;
    life.up("dvc", Some(1.0));
    life.sample(0, 10 * MINUTE);
    {
        let mut book = life.keeper.book.lock().await;
        let unsaved = unsaved(&life.history.read().inner, &mut book);
        let mut tx = store.begin().await.unwrap();
        write_changes(&mut tx, &unsaved.changes).await.unwrap();
        tx.commit().await.unwrap();
    }
    // As if that had been reported as an error: the series is written under another number.
    life.keeper.write().await.unwrap();
    assert_eq!(rows(store, "history_series").await, 2);
    let second = Life::begin(store, WEEK, at(20 * MINUTE)).await;
    assert_eq!(second.value("sum(count_over_time(ioc_service_up[7d]))", 20 * MINUTE), Some(40.0));
    second.keeper.write().await.unwrap();
    assert_eq!(rows(store, "history_series").await, 1);
}

#[tokio::test]
async fn recorded_series_go_on_with_their_rule() {
    for Database { store, .. } in &Database::both().await {
        let reads = "max_over_time(r[1h])";
        let labels = Labels::new([("__name__", "r"), ("x", "a\"ạ")]);
        let first = Life::begin(store, reads, at(0)).await;
        for minute in 0..30 {
            first.history.record("g/r", &mut [(labels.clone(), minute as f64)], at(minute * MINUTE));
        }
        first.keeper.write().await.unwrap();
        let second = Life::begin(store, reads, at(40 * MINUTE)).await;
        assert_eq!(second.value("r", 40 * MINUTE), None);
        second.history.record("g/r", &mut [(labels.clone(), 7.0)], at(41 * MINUTE));
        assert_eq!(second.value("r", 41 * MINUTE), Some(7.0));
        assert_eq!(second.value("max_over_time(r[1h])", 41 * MINUTE), Some(29.0));
        assert_eq!(second.value("count_over_time(r[1h])", 41 * MINUTE), Some(31.0));
        // It ends when the rule gives it no more.
        second.history.record("g/r", &mut [], at(42 * MINUTE));
        assert_eq!(second.value("r", 42 * MINUTE), None);
    }
}

#[tokio::test]
async fn a_past_that_lies_in_the_future_is_left_out() {
    let database = Database::sqlite().await;
    let store = &database.store;
    let first = Life::begin(store, WEEK, at(0)).await;
    first.up("dvc", Some(1.0));
    first.sample(0, 10 * MINUTE);
    // The clock stood a day ahead for a while.
    first.sample(24 * 60 * MINUTE, 24 * 60 * MINUTE + 10 * MINUTE);
    first.keeper.write().await.unwrap();
    let second = Life::begin(store, WEEK, at(20 * MINUTE)).await;
    second.up("dvc", Some(1.0));
    second.sample(20 * MINUTE + 5, 30 * MINUTE);
    let all = "count_over_time(ioc_service_up[7d])";
    assert_eq!(second.value(all, 30 * MINUTE), Some(80.0));
    second.keeper.write().await.unwrap();
    let third = Life::begin(store, WEEK, at(31 * MINUTE)).await;
    assert_eq!(third.value(all, 31 * MINUTE), Some(80.0));
}

#[tokio::test]
async fn what_is_sampled_after_the_clock_was_set_back_is_kept() {
    let database = Database::sqlite().await;
    let store = &database.store;
    let first = Life::begin(store, WEEK, at(0)).await;
    first.up("dvc", Some(1.0));
    first.sample(0, 10 * MINUTE);
    first.up("dvc", Some(0.0));
    first.sample(24 * 60 * MINUTE, 24 * 60 * MINUTE + 10 * MINUTE);
    first.keeper.write().await.unwrap();
    // Written while the clock stood ahead; now it is right again.
    first.up("dvc", Some(1.0));
    first.sample(20 * MINUTE, 30 * MINUTE);
    first.keeper.write().await.unwrap();
    first.sample(30 * MINUTE, 40 * MINUTE);
    first.keeper.write().await.unwrap();
    for now in [41 * MINUTE, 24 * 60 * MINUTE + 60 * MINUTE] {
        let second = Life::begin(store, WEEK, at(now)).await;
        assert_eq!(second.value("count_over_time(ioc_service_up[7d])", now), Some(120.0));
        assert_eq!(second.value("min_over_time(ioc_service_up[7d])", now), Some(1.0));
    }
}

#[tokio::test]
async fn damaged_rows_are_left_out() {
    let database = Database::sqlite().await;
    let store = &database.store;
    let first = Life::begin(store, WEEK, at(0)).await;
    for service in ["a", "b", "c"] {
        first.up(service, Some(1.0));
    }
    first.sample(0, 10 * MINUTE);
    first.keeper.write().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    sqlx::query("UPDATE history_runs SET runs = '%' WHERE series = 1").execute(&mut *tx).await.unwrap();
    sqlx::query("UPDATE history_series SET labels = '[' WHERE id = 2").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let second = Life::begin(store, WEEK, at(11 * MINUTE)).await;
    assert_eq!(second.value("count(count_over_time(ioc_service_up[7d]))", 11 * MINUTE), Some(1.0));
    second.keeper.write().await.unwrap();
    let third = Life::begin(store, WEEK, at(12 * MINUTE)).await;
    assert_eq!(third.value("count(count_over_time(ioc_service_up[7d]))", 12 * MINUTE), Some(1.0));
}

#[tokio::test]
async fn a_change_takes_a_few_bytes_and_a_tick_two() {
    // Not a measurement of time: how many bytes a flap takes in the database.
    let database = Database::sqlite().await;
    let life = Life::begin(&database.store, WEEK, at(0)).await;
    let hours = 24;
    for hour in 0..hours {
        for service in 0..100 {
            life.up(&format!("s{service}"), Some(f64::from((hour + service) % 2)));
        }
        life.sample(i64::from(hour) * 60 * MINUTE, i64::from(hour + 1) * 60 * MINUTE);
    }
    life.keeper.write().await.unwrap();
    let sql = "SELECT CAST(SUM(LENGTH(runs)) AS BIGINT) FROM history_runs";
    let bytes: i64 = sqlx::query_scalar(sql).fetch_one(database.store.reader()).await.unwrap();
    assert!(bytes <= 100 * i64::from(hours) * 8, "{bytes}");
    let sql = "SELECT CAST(SUM(LENGTH(ticks)) AS BIGINT) FROM history_clocks";
    let bytes: i64 = sqlx::query_scalar(sql).fetch_one(database.store.reader()).await.unwrap();
    assert!(bytes <= i64::from(hours) * 240 * 3, "{bytes}");
}
