//! Rows of usage in any order, cut into any batches, each delivered twice: the result is that of one quiet delivery.

use super::dossiers::{self, Dossier};
use super::rows::{Channel, DossierRow, Outcome, Step, UsageRow};
use super::tables;
use crate::feed::testing::{Bench, at};
use crate::store::micros;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;

const SECTIONS: &str = "usage:
  - {app: motcua, dossier_list: {csv: {dir: d, columns: {dossier: d, submitted: s}}}}
";

#[derive(Debug, Clone, PartialEq)]
enum Row {
    Usage(UsageRow),
    Count(DossierRow),
    Single(Dossier),
}

const DAY: i64 = 86_400_000_000;

fn day(n: i64) -> i64 {
    micros(at("2026-11-01T17:00:00Z")) + n * DAY
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let agency = |n: u8| if n.is_multiple_of(2) { "ioc" } else { "tam-ky" }.to_owned();
    let usage = (0..4_u8, 0..3_i64, 0..50_i64, 1..5_i64).prop_map(move |(n, from, value, updated_us)| {
        let event = (n > 1).then(|| ("login".to_owned(), value));
        let active_users = (n <= 1).then_some(value);
        Row::Usage(UsageRow {
            agency: agency(n),
            from_us: day(from),
            to_us: day(from + 1),
            active_users,
            event,
            updated_us,
        })
    });
    let count = (0..4_u8, 0..3_i64, 0..50_i64, 1..5_i64).prop_map(move |(n, from, count, updated_us)| {
        let step = if n < 2 { Step::Submitted } else { Step::Paid };
        let (channel, outcome, procedure) = (Channel::Online, Outcome::None, String::new());
        let (from_us, to_us) = (day(from), day(from + 1));
        Row::Count(DossierRow {
            agency: agency(n),
            procedure,
            step,
            channel,
            outcome,
            count,
            from_us,
            to_us,
            updated_us,
        })
    });
    let single =
        (0..4_u8, 0..2_u8, [0..4_i64, 0..4_i64, 0..4_i64], 0..2_u8).prop_map(move |(code, n, steps, channel)| {
            let time = |n: i64| if n == 0 { 0 } else { day(n) + 1 };
            let [processed_us, paid_us, returned_us] = steps.map(time);
            let channel = Channel::ALL[usize::from(channel)];
            Row::Single(Dossier {
                updated_us: processed_us.max(paid_us).max(returned_us),
                code: format!("H49-{code}"),
                agency: agency(n),
                procedure: String::new(),
                submitted_us: day(0),
                submitted_channel: channel,
                receipted_us: 0,
                due_us: day(2),
                processed_us,
                processed_channel: Channel::Online,
                paid_us,
                paid_channel: channel,
                returned_us,
                returned_channel: Channel::Counter,
                apology_us: 0,
            })
        });
    proptest::collection::vec(prop_oneof![usage, count, single], 1..40)
}

/// The rows; the same twice over in another order; how many of those come at once.
fn deliveries() -> impl Strategy<Value = (Vec<Row>, Vec<Row>, Vec<usize>)> {
    rows().prop_flat_map(|rows| {
        let twice = [rows.clone(), rows.clone()].concat();
        (Just(rows), Just(twice).prop_shuffle(), proptest::collection::vec(1..9_usize, 80))
    })
}

#[test]
fn order_batches_and_repetition_of_rows_change_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let benches = runtime.block_on(Bench::both(SECTIONS));
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    runner
        .run(&deliveries(), |(rows, shuffled, sizes)| {
            for bench in &benches {
                let quiet = runtime.block_on(deliver(bench, &rows, &[rows.len()]));
                let torn = runtime.block_on(deliver(bench, &shuffled, &sizes));
                prop_assert_eq!(&torn, &quiet);
                prop_assert_eq!(quiet.users, expected(&rows));
            }
            Ok(())
        })
        .unwrap();
}

#[derive(Debug, PartialEq)]
struct Outcomes {
    users: BTreeMap<String, i64>,
    others: Vec<String>,
}

/// By hand: of each count the latest correction, of two of one moment the greater.
fn expected(rows: &[Row]) -> BTreeMap<String, i64> {
    let mut latest: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for row in rows {
        if let Row::Usage(UsageRow { agency, from_us, active_users: Some(users), updated_us, .. }) = row {
            let held = latest.entry(format!("{agency} {from_us}")).or_default();
            *held = (*held).max((*updated_us, *users));
        }
    }
    latest.into_iter().map(|(key, (_, users))| (key, users)).collect()
}

async fn deliver(bench: &Bench, rows: &[Row], sizes: &[usize]) -> Outcomes {
    let mut tx = bench.place.store.begin().await.unwrap();
    for table in ["usage_counts", "usage_totals", "dossier_counts", "dossier_totals", "usage_dossiers"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    let (mut rest, mut sizes) = (rows, sizes.iter().cycle());
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        rest = after;
        let (mut usage, mut counts, mut singles) = (Vec::new(), Vec::new(), Vec::new());
        for row in batch.iter().cloned() {
            match row {
                Row::Usage(row) => usage.push(row),
                Row::Count(row) => counts.push(row),
                Row::Single(row) => singles.push(row),
            }
        }
        let mut tx = bench.place.store.begin().await.unwrap();
        tables::write_usage(&mut tx, "qoffice", &usage).await.unwrap();
        tables::write_dossiers(&mut tx, "khac", &counts).await.unwrap();
        dossiers::write(&mut tx, "motcua", &singles, &bench.place.org).await.unwrap();
        tx.commit().await.unwrap();
    }
    let texts = async |sql: &'static str| -> Vec<String> {
        sqlx::query_scalar(sql).fetch_all(bench.place.store.reader()).await.unwrap()
    };
    let users = texts(
        "SELECT agency || ' ' || CAST(from_us AS TEXT) || '=' || CAST(value AS TEXT) FROM usage_counts WHERE event = ''",
    );
    let users = users.await.into_iter().map(|text| {
        let (key, value) = text.split_once('=').unwrap();
        (key.to_owned(), value.parse().unwrap())
    });
    let mut others = Vec::new();
    for sql in [
        "SELECT agency || event || CAST(from_us AS TEXT) || ' ' || CAST(value AS TEXT) || ' ' || CAST(counted AS TEXT) \
         FROM usage_counts ORDER BY 1",
        "SELECT agency || event || ' ' || CAST(total AS TEXT) FROM usage_totals ORDER BY 1",
        // Of dossiers that changed their agency the totals know the way, not only its end.
        "SELECT agency || step || ' ' || CAST(counted AS TEXT) || ' ' || CAST(from_us AS TEXT) FROM dossier_counts \
         WHERE source = 'khac' ORDER BY 1",
        "SELECT source || agency || step || channel || outcome || CAST(from_us AS TEXT) || ' ' || CAST(value AS TEXT) \
         FROM dossier_counts WHERE value <> 0 ORDER BY 1",
        "SELECT dossier || agency || CAST(processed_us AS TEXT) || ' ' || CAST(returned_us AS TEXT) || ' ' || \
         CAST(is_open AS TEXT) FROM usage_dossiers ORDER BY 1",
    ] {
        others.extend(texts(sql).await);
    }
    Outcomes { users: users.collect(), others }
}
