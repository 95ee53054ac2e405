//! Access logs from lines to metrics, on both databases.

use crate::config::site::State as Kind;
use crate::feed::testing::{Bench, at};
use crate::gather::usage::{Usage, active_users};
use crate::metrics::columns::{access_log, access_log_file, app, app_events, feed_rejected};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::Write as _;

const SECTIONS: &str = r#"usage:
  - app: dvc
    access_log:
      file: log/dvc.log
      agency_of: {"10.0.0.0/8": ioc, "10.20.0.0/16": tam-ky}
      exclude: {paths: ["^/health"], networks: [10.20.255.0/24]}
      events: {nop-ho-so: "^/ho-so/nop"}
"#;

const NOW: &str = "2026-11-26T02:00:00Z";
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64)";

fn line(time: Timestamp, address: &str, path: &str, status: u16, agent: &str) -> String {
    let time = time.to_zoned_datetime(jiff::tz::TimeZone::get("Asia/Ho_Chi_Minh").unwrap());
    let time = time.strftime("%d/%b/%Y:%H:%M:%S %z");
    format!("{address} - - [{time}] \"GET {path} HTTP/1.1\" {status} 5 \"-\" \"{agent}\"\n")
}

fn append(bench: &Bench, text: &str) {
    let path = bench.dir.path().join("log/dvc.log");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A run of the program that has read all there is.
async fn run(bench: &Bench, now: Timestamp) -> Usage {
    let mut usage = Usage::new(&bench.config.usage, bench.place.clone());
    usage.start(now).await.unwrap();
    look(&mut usage, now).await;
    usage
}

async fn look(usage: &mut Usage, now: Timestamp) {
    for _ in 0..4 {
        for (feed, result) in usage.poll(now).await.unwrap() {
            result.unwrap_or_else(|error| panic!("{feed}: {error}"));
        }
    }
}

#[tokio::test]
async fn lines_become_users_and_events_of_their_agency_and_nothing_is_counted_twice() {
    for bench in Bench::both(SECTIONS).await {
        let now = at(NOW);
        let mut text = String::new();
        for (address, path, status, agent) in [
            ("10.20.0.1", "/", 200, BROWSER),
            ("10.20.0.1", "/ho-so/nop?ma=1", 200, BROWSER),
            ("10.20.0.1", "/", 200, "Mozilla/5.0 (Windows)"),
            ("10.20.0.2", "/ho-so/nop", 500, BROWSER),
            ("10.9.0.1", "/", 302, BROWSER),
            ("192.0.2.7", "/", 200, BROWSER),
            // Not people.
            ("10.20.0.3", "/", 200, "ioc-watch/0.1.0"),
            ("10.20.0.3", "/", 200, "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
            ("10.20.0.3", "/health", 200, BROWSER),
            ("10.20.255.9", "/", 200, BROWSER),
        ] {
            text.push_str(&line(now, address, path, status, agent));
        }
        text.push_str("no line of a log\n");
        text.push_str(&line(at("2028-01-01T00:00:00Z"), "10.20.0.9", "/", 200, BROWSER));
        append(&bench, &text);
        let mut usage = run(&bench, now).await;
        let users = |agency: &str| bench.metric(app::TABLE, &[agency, "dvc"], app::ACTIVE_USERS);
        let event = |name: &str| bench.metric(app_events::TABLE, &["tam-ky", "dvc", name], app_events::EVENTS);
        let lines = |result: &str| bench.metric(access_log::TABLE, &["ioc", "dvc", result], access_log::LINES);
        let check = |users_tam_ky: f64, text: &str| {
            assert_eq!((users("tam-ky"), users("ioc")), (Some(users_tam_ky), Some(1.0)), "{text}");
            assert_eq!(
                (event("status_2xx"), event("status_5xx"), event("nop-ho-so")),
                (Some(3.0), Some(1.0), Some(1.0))
            );
            let results = ["counted", "excluded", "unattributed", "unreadable"].map(lines);
            assert_eq!(results, [5.0, 4.0, 1.0, 2.0].map(Some), "{text}");
        };
        check(2.0, "at first");
        let rejected =
            |reason: &str| bench.metric(feed_rejected::TABLE, &["ioc", "log-dvc", reason], feed_rejected::REJECTED);
        assert_eq!((rejected("fields"), rejected("time")), (Some(1.0), Some(1.0)));
        let kept = bench.rejected("log-dvc");
        assert!(kept.contains("dvc.log,11,fields") && kept.contains("dvc.log,12,time"), "{kept}");

        look(&mut usage, now).await;
        drop(usage);
        run(&bench, now).await;
        check(2.0, "after a restart");
        append(&bench, &line(now, "10.20.0.1", "/", 404, BROWSER));
        append(&bench, &line(now, "10.20.0.4", "/", 200, BROWSER));
        run(&bench, now).await;
        assert_eq!((users("tam-ky"), event("status_2xx")), (Some(3.0), Some(4.0)));
    }
}

/// Everything the state database holds: SQLite's files as they are, PostgreSQL's rows as text.
async fn stored(bench: &Bench) -> Vec<u8> {
    let mut all = Vec::new();
    if matches!(bench.database.state, Kind::Sqlite) {
        for entry in std::fs::read_dir(bench.database.dir.path()).unwrap() {
            all.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        return all;
    }
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = 'public'",
    )
    .fetch_all(bench.place.store.reader())
    .await
    .unwrap();
    assert!(tables.iter().any(|table| table == "access_log_users"), "{tables:?}");
    for table in tables {
        let sql = sqlx::AssertSqlSafe(format!("SELECT CAST(t AS TEXT) FROM {table} t"));
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(bench.place.store.reader()).await.unwrap();
        all.extend(rows.concat().into_bytes());
    }
    all
}

#[tokio::test]
async fn no_address_name_or_browser_is_in_the_database_and_the_key_goes_with_its_day() {
    for bench in Bench::both(SECTIONS).await {
        let today = at(NOW);
        for n in 0..700 {
            append(&bench, &line(today, &format!("10.20.7.{}", n % 200), "/", 200, &format!("Browser-{n}")));
        }
        append(&bench, &line(today, "10.20.7.7", "/", 200, BROWSER).replace(" - - ", " - nguyen.thi.thu "));
        run(&bench, today).await;
        let all = stored(&bench).await;
        let holds = |text: &str, all: &[u8]| memchr::memmem::find(all, text.as_bytes()).is_some();
        for text in ["10.20.7.", "Browser-", "nguyen.thi.thu", "Mozilla"] {
            assert!(!holds(text, &all), "{text}");
        }
        // The search finds what is there.
        assert!(holds("status_2xx", &all) && holds("2026-11-26", &all));
        let key = || async {
            let sql = "SELECT secret FROM access_log_days WHERE day = '2026-11-26'";
            sqlx::query_scalar::<_, String>(sql).fetch_optional(bench.place.store.reader()).await.unwrap()
        };
        let secret = key().await.expect("the day is open");
        let users =
            active_users(&bench.place.store, at("2026-11-25T00:00:00Z"), at("2026-11-27T00:00:00Z")).await.unwrap();
        // Beyond 512 an estimate: within three standard errors of 701.
        assert!((users[0].users - 701).abs() <= 34, "{users:?}");
        // The day after tomorrow nobody can be found any more, though no line came.
        run(&bench, today + SignedDuration::from_hours(48)).await;
        assert_eq!(key().await, None);
        let n: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM access_log_users")
            .fetch_one(bench.place.store.reader())
            .await
            .unwrap();
        assert_eq!(n, 0);
        if matches!(bench.database.state, Kind::Sqlite) {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(bench.place.store.reader()).await.unwrap();
        }
        assert!(!holds(&secret, &stored(&bench).await), "the key is still somewhere in the file");
        let after =
            active_users(&bench.place.store, at("2026-11-25T00:00:00Z"), at("2026-11-27T00:00:00Z")).await.unwrap();
        assert_eq!(after, users);
        // A late line is an event, and changes no count of users.
        append(&bench, &line(today, "10.20.9.9", "/", 200, BROWSER));
        run(&bench, today + SignedDuration::from_hours(48)).await;
        let late = bench.metric(access_log::TABLE, &["ioc", "dvc", "late"], access_log::LINES);
        assert_eq!(late, Some(1.0));
    }
}

#[tokio::test]
async fn agencies_are_read_from_a_field_of_either_format() {
    let sections = r#"usage:
  - app: dvc
    access_log: {file: log/dvc.log, agency_field: 1, other: ioc}
  - app: motcua
    access_log: {file: log/motcua.log, format: json, agency_field: unit, fields: {agent: ua}}
"#;
    for bench in Bench::both(sections).await {
        let now = at(NOW);
        for (address, unit) in [("192.0.2.1", "UBND TP. TAM KỲ"), ("192.0.2.2", "Hội An"), ("192.0.2.3", "-")] {
            append(&bench, &line(now, address, "/", 200, BROWSER).replace("\"\n", &format!("\" \"{unit}\"\n")));
        }
        let mut text = String::new();
        for (unit, agent) in [("tam-ky", BROWSER), ("tam-ky", "curl/8"), ("khac", BROWSER)] {
            let _ = writeln!(
                text,
                r#"{{"remote_addr":"192.0.2.1","time_iso8601":"{NOW}","request":"GET / HTTP/1.1","status":200,"ua":"{agent}","unit":"{unit}"}}"#
            );
        }
        bench.write("log/motcua.log", text);
        run(&bench, now).await;
        let users = |agency: &str, app: &str| bench.metric(app::TABLE, &[agency, app], app::ACTIVE_USERS);
        assert_eq!((users("tam-ky", "dvc"), users("ioc", "dvc")), (Some(1.0), Some(2.0)));
        assert_eq!(users("tam-ky", "motcua"), Some(1.0));
        let lines = |result: &str| bench.metric(access_log::TABLE, &["ioc", "motcua", result], access_log::LINES);
        assert_eq!(["counted", "excluded", "unattributed"].map(lines), [1.0, 1.0, 1.0].map(Some));
    }
}

#[tokio::test]
async fn a_log_that_is_not_there_is_a_failure_of_its_feed_and_is_read_once_it_is() {
    for bench in Bench::both(SECTIONS).await {
        let mut usage = Usage::new(&bench.config.usage, bench.place.clone());
        usage.start(at(NOW)).await.unwrap();
        let (_, result) = usage.poll(at(NOW)).await.unwrap().remove(0);
        assert!(result.unwrap_err().to_string().contains("dvc.log"));
        append(&bench, &line(at(NOW), "10.20.0.1", "/", 200, BROWSER));
        look(&mut usage, at(NOW)).await;
        assert_eq!(bench.metric(app::TABLE, &["tam-ky", "dvc"], app::ACTIVE_USERS), Some(1.0));
    }
}

/// What happens to a log.
#[derive(Debug, Clone)]
enum Act {
    /// Visits, with minutes since the one before.
    Visits(Vec<(u8, u8)>),
    Look,
    Restart,
    Rename,
    Copytruncate,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let visits = proptest::collection::vec((0..40_u8, 0..200_u8), 1..30).prop_map(Act::Visits);
    let act = prop_oneof![4 => visits, 2 => Just(Act::Look), 1 => Just(Act::Restart), 1 => Just(Act::Rename), 1 => Just(Act::Copytruncate)];
    proptest::collection::vec(act, 1..25)
}

/// However lines are cut into reads, rotated and interrupted, every visit is counted once.
#[test]
fn reads_rotations_and_restarts_never_change_the_counts() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let benches = runtime.block_on(Bench::both(SECTIONS));
    let mut runner = TestRunner::new(Config { cases: 16, failure_persistence: None, ..Config::default() });
    runner
        .run(&acts(), |acts| {
            for bench in &benches {
                let (counted, expected) = runtime.block_on(play(bench, &acts));
                prop_assert_eq!(counted, expected);
            }
            Ok(())
        })
        .unwrap();
}

/// Gives the counts by event and day, and what they must be.
async fn play(bench: &Bench, acts: &[Act]) -> (Counts, Counts) {
    for table in
        ["usage_counts", "usage_totals", "access_logs", "access_log_lines", "access_log_days", "access_log_users"]
    {
        let mut tx = bench.place.store.begin().await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
    let path = bench.dir.path().join("log/dvc.log");
    let _ = std::fs::remove_dir_all(path.parent().unwrap());
    append(bench, "");
    let mut time = at("2026-11-10T00:00:00Z");
    let mut usage = run(bench, time).await;
    let mut n_rotations = 0;
    let (mut visits_by_day, mut visitors) = (Counts::new(), BTreeSet::new());
    for act in acts {
        match act {
            Act::Visits(visits) => {
                for (visitor, minutes) in visits {
                    time += SignedDuration::from_mins(i64::from(*minutes));
                    append(bench, &line(time, &format!("10.20.0.{visitor}"), "/", 200, BROWSER));
                    let day = bench.place.org.date(time).to_string();
                    *visits_by_day.entry(("status_2xx".into(), day.clone())).or_default() += 1;
                    visitors.insert((day, *visitor));
                }
            }
            Act::Look => look(&mut usage, time).await,
            Act::Restart => usage = run(bench, time).await,
            Act::Rename | Act::Copytruncate => {
                n_rotations += 1;
                // Ascending names: the order comes from the times of the files.
                let old = bench.dir.path().join(format!("log/dvc.log-{n_rotations:03}"));
                if matches!(act, Act::Rename) {
                    std::fs::rename(&path, &old).unwrap();
                    append(bench, "");
                } else {
                    std::fs::copy(&path, &old).unwrap();
                    std::fs::File::options().write(true).truncate(true).open(&path).unwrap();
                }
                // Between two rotations there is at least a look, as there is a day.
                look(&mut usage, time).await;
            }
        }
    }
    look(&mut usage, time).await;
    let lost = bench.metric(access_log_file::TABLE, &["ioc", "dvc"], access_log_file::LOST);
    assert_eq!(lost, Some(0.0));
    let mut expected = visits_by_day;
    for (day, _) in visitors {
        *expected.entry((String::new(), day)).or_default() += 1;
    }
    let rows = sqlx::query("SELECT event, from_us, value FROM usage_counts");
    let rows = rows.fetch_all(bench.place.store.reader()).await.unwrap();
    let counted = rows.iter().map(|row| {
        let day = bench.place.org.date(crate::store::from_micros(row.get("from_us"))).to_string();
        ((row.get("event"), day), row.get("value"))
    });
    (counted.collect(), expected)
}

/// By event (none: users) and day.
type Counts = BTreeMap<(String, String), i64>;
