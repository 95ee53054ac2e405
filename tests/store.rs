//! One suite over everything that is kept in the state database, run on SQLite and on a private PostgreSQL: the
//! store's transactions, the attribution ledger, the outbox, what follows when a mail fails, the incidents.

#[path = "support/attribution.rs"]
mod attribution;
#[path = "support/clocks.rs"]
mod clocks;
#[path = "support/failures.rs"]
mod failures;
#[path = "support/fairness.rs"]
mod fairness;
#[path = "support/incidents.rs"]
mod incidents;
#[path = "support/mails.rs"]
mod mails;
#[path = "support/outages.rs"]
mod outages;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/quiet.rs"]
mod quiet;
#[path = "support/stories/mod.rs"]
mod stories;
#[path = "support/summaries.rs"]
mod summaries;

use incidents::{alert, config};
use ioc_watch::attribution::{Ledger, State as Up, Subject, SubjectKind};
use ioc_watch::config::Secret;
use ioc_watch::config::site::State;
use ioc_watch::config::users::{Role, User, Users};
use ioc_watch::incident::Incidents;
use ioc_watch::mail::{About, Outbox, Outgoing};
use ioc_watch::metrics::{Metrics, columns};
use ioc_watch::org::Org;
use ioc_watch::store::{Store, StoreError};
use ioc_watch::web::session::Sessions;
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["transactions", "ledger", "fairness", "outbox", "quiet", "incidents"] {
        let dir = dir.path().join(part);
        std::fs::create_dir(&dir).unwrap();
        Box::pin(suite(part, &State::Sqlite, &dir)).await;
    }
    sessions(&State::Sqlite, &dir.path().join("sessions")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    let cluster = postgres::Postgres::start();
    for part in ["transactions", "ledger", "fairness", "outbox", "quiet", "incidents"] {
        let dir = tempfile::tempdir().unwrap();
        Box::pin(suite(part, &cluster.database(part), dir.path())).await;
    }
    let dir = tempfile::tempdir().unwrap();
    sessions(&cluster.database("sessions"), dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_cannot_arrive_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    failures::story(&State::Sqlite, dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_cannot_arrive_on_postgres() {
    let cluster = postgres::Postgres::start();
    let dir = tempfile::tempdir().unwrap();
    failures::story(&cluster.database("failures"), dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_loses_no_mail_and_doubles_none() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = async |name: &str| Store::open(&State::Sqlite, &dir.path().join(name)).await.unwrap();
    clocks::suite(sqlite, dir.path(), usize::MAX).await;
    let cluster = postgres::Postgres::start();
    let postgres = async |name: &str| Store::open(&cluster.database(name), dir.path()).await.unwrap();
    clocks::suite(postgres, dir.path(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_told_in_one_on_sqlite() {
    let (digest, limit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    summaries::digest(&State::Sqlite, digest.path()).await;
    summaries::limit(&State::Sqlite, limit.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_told_in_one_on_postgres() {
    let cluster = postgres::Postgres::start();
    let (digest, limit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    summaries::digest(&cluster.database("digest"), digest.path()).await;
    summaries::limit(&cluster.database("limit"), limit.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stories_on_sqlite() {
    tell_all(|_| State::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stories_on_postgres() {
    let cluster = postgres::Postgres::start();
    tell_all(|name| cluster.database(name)).await;
}

/// Every story to its end, whatever became of those before it.
async fn tell_all(state: impl Fn(&str) -> State) {
    let mut failed = Vec::new();
    for name in stories::NAMES {
        let (dir, state) = (tempfile::tempdir().unwrap(), state(name));
        let story = tokio::spawn(async move { Box::pin(stories::play(name, &state, dir.path())).await });
        if story.await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// The outages of one schedule.
const N_OUTAGES: usize = 200;

/// 200 outages with known truth (overlaps, flapping, dependency first, dependency second, nested dependencies, maintenance in
/// the file and announced before, during and afterwards, the daemon away in the middle), seen through checks.
///
/// Asserted for every service and dependency: the intervals follow each other without gap or overlap; everywhere but
/// within `every + timeout + tick` after an edge of the truth the ledger says exactly the truth (so each edge is that close,
/// nothing is invented and nothing is missed); every minute of downtime has a cause. The mean error of an edge is measured
/// twice. From the fact it is about half of `every`, since a check cannot know what happens between two checks: that
/// figure is printed and must be below the mean `every`. From the first check that could have known it, early and late
/// alike, it must be below one tick.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_outages_are_laid_at_the_right_door() {
    for seed in 1..=4 {
        let dir = tempfile::tempdir().unwrap();
        simulate(seed, &State::Sqlite, dir.path()).await;
    }
    let cluster = postgres::Postgres::start();
    for seed in [5, 6] {
        let dir = tempfile::tempdir().unwrap();
        simulate(seed, &cluster.database(&format!("outages{seed}")), dir.path()).await;
    }
}

async fn simulate(seed: u64, state: &State, dir: &Path) {
    let schedule = outages::Schedule::new(seed, N_OUTAGES);
    let store = Store::open(state, dir).await.unwrap();
    let begun = std::time::Instant::now();
    let checks = schedule.checks();
    let mut mails = mails::Mails::new(&schedule);
    let all = attribution::play(&schedule, &checks, &store, dir, Some(&mut mails)).await;
    mails.judge(&schedule).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let mut errors = attribution::Errors::default();
    for (target, intervals) in all.iter().enumerate() {
        attribution::compare(&schedule, &checks, target, intervals, &mut errors)
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let causes = intervals.iter().filter(|interval| interval.state == Up::Down).map(|interval| &interval.cause);
        assert!(causes.into_iter().all(|cause| cause != "unknown"), "seed {seed}");
    }
    let mean = |errors: &[f64]| errors.iter().map(|error| error.abs()).sum::<f64>() / errors.len() as f64;
    let (fact, knowable) = (mean(&errors.from_fact), mean(&errors.from_knowable));
    println!(
        "seed {seed}: {} outages, {} edges, mean error {fact:.2} s from the fact, {knowable:.2} s from the first check; {:?} in {:?}",
        schedule.n_outages(),
        errors.from_fact.len(),
        attribution::totals(&all),
        begun.elapsed(),
    );
    assert!(errors.from_fact.len() > N_OUTAGES, "seed {seed}");
    let every = schedule.targets.iter().map(|target| target.every).sum::<i64>() / schedule.targets.len() as i64;
    assert!(fact < (every / outages::SECOND) as f64, "seed {seed}: {fact}");
    assert!(knowable < (attribution::TICK / outages::SECOND) as f64, "seed {seed}: {knowable}");
    store.close().await;
}

async fn suite(part: &str, state: &State, dir: &Path) {
    match part {
        "transactions" => transactions(state, dir).await,
        "ledger" => ledger(state, dir).await,
        "fairness" => fairness::suite(&Store::open(state, dir).await.unwrap(), dir).await,
        "quiet" => Box::pin(quiet::suite(&Store::open(state, dir).await.unwrap(), dir)).await,
        "outbox" => outbox(state, dir).await,
        _ => incident_stage(state, dir).await,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn mail(thread: &str, number: u32) -> Outgoing {
    Outgoing {
        thread: thread.into(),
        person: "it-ioc".into(),
        sender: "ioc@vn.example".into(),
        recipient: "truc@ioc.vn.example".into(),
        message_id: format!("<{thread}.{number}@vn.example>"),
        message: format!("Subject: {number}\r\n\r\nx\r\n"),
        about: About::default(),
        brief: None,
    }
}

/// Migrations run once; what is not committed changes nothing; writers take turns.
async fn transactions(state: &State, dir: &Path) {
    let store = Store::open(state, dir).await.unwrap();
    let outbox = Outbox::open(store.clone(), Arc::default()).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    outbox.enqueue(&mut tx, &[mail("t", 1)], at(0)).await.unwrap();
    drop(tx);
    assert_eq!(outbox.due(at(9), 10).await.unwrap(), []);
    let writers = (0..20_u32).map(|number| {
        let (store, outbox) = (store.clone(), outbox.clone());
        tokio::spawn(async move {
            let mut tx = store.begin().await?;
            outbox.enqueue(&mut tx, &[mail("w", number)], at(0)).await?;
            tx.commit().await
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    store.close().await;
    let store = Store::open(state, dir).await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM outbox").fetch_one(store.reader()).await.unwrap();
    assert_eq!(count, 20);
    store.close().await;
}

/// Sessions outlive the daemon and end with their user, their password and the twenty after them.
async fn sessions(state: &State, dir: &Path) {
    let store = Store::open(state, dir).await.unwrap();
    let user = |name: &str, hash: &str| User {
        name: name.into(),
        hash: Secret::new(hash),
        person: None,
        roles: [Role::Viewer].into(),
        agency: None,
        language: None,
    };
    let everybody = Users { file: "users.yml".into(), list: vec![user("a", "one"), user("b", "two")] };
    let opened = Sessions::new(store.clone());
    let (first, second) =
        (opened.open(&everybody.list[0], at(0)).await.unwrap(), opened.open(&everybody.list[1], at(0)).await.unwrap());
    store.close().await;
    let store = Store::open(state, dir).await.unwrap();
    let sessions = Sessions::new(store.clone());
    let name = async |token: &str, second| {
        sessions.find(token, &everybody, at(second)).await.unwrap().map(|user| user.name.clone())
    };
    assert_eq!(name(&first, 3_600).await.as_deref(), Some("a"));
    assert_eq!(name(&first, 3_600 + 11 * 3_600).await.as_deref(), Some("a"), "used in between");
    assert_eq!(name(&second, 12 * 3_600).await, None, "idle");
    let changed = Users { file: "users.yml".into(), list: vec![user("a", "other"), user("b", "two")] };
    sessions.purge(Some(&changed)).await.unwrap();
    assert_eq!(name(&first, 3_600).await, None, "another password");
    assert_eq!(name(&second, 0).await.as_deref(), Some("b"));
    for index in 1..=20 {
        sessions.open(&everybody.list[1], at(index)).await.unwrap();
    }
    assert_eq!(name(&second, 20).await, None, "the oldest of many");
    sessions.purge(None).await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions").fetch_one(store.reader()).await.unwrap();
    assert_eq!(left, 0);
    store.close().await;
}

/// Intervals follow each other; what happened while nobody watched is unknown.
async fn ledger(state: &State, dir: &Path) {
    let store = Store::open(state, dir).await.unwrap();
    let ledger = Ledger::resume(store.clone()).await.unwrap();
    let portal = Subject { kind: SubjectKind::Service, id: "dvc".into() };
    ledger.observe(&portal, "tam-ky", Up::Up, at(0), "");
    ledger.observe(&portal, "tam-ky", Up::Up, at(10), "");
    ledger.observe(&portal, "tam-ky", Up::Down, at(20), "hang");
    ledger.heartbeat(at(50)).await.unwrap();
    let ledger = Ledger::resume(store.clone()).await.unwrap();
    ledger.observe(&portal, "tam-ky", Up::Up, at(100), "");
    let intervals = ledger.intervals(SubjectKind::Service, at(0), at(200)).await.unwrap();
    let seen: Vec<(Timestamp, Option<Timestamp>, Up)> =
        intervals.iter().map(|interval| (interval.from, interval.until, interval.state)).collect();
    let expected = [
        (at(0), Some(at(20)), Up::Up),
        (at(20), Some(at(50)), Up::Down),
        (at(50), Some(at(100)), Up::Unknown),
        (at(100), None, Up::Up),
    ];
    assert_eq!(seen, expected);
    assert_eq!(ledger.intervals(SubjectKind::Service, at(25), at(30)).await.unwrap().len(), 1);
    ledger.retain(at(150), |_| false);
    let last = ledger.intervals(SubjectKind::Service, at(0), at(200)).await.unwrap().pop().unwrap();
    assert_eq!(last.until, Some(at(150)));
    store.close().await;
}

/// Threads keep their order, whatever happens to one mail; what ended is kept for a while.
async fn outbox(state: &State, dir: &Path) {
    let store = Store::open(state, dir).await.unwrap();
    let metrics: Arc<Metrics> = Arc::default();
    let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
    let ids = async |now| -> Result<Vec<String>, StoreError> {
        Ok(outbox.due(now, 10).await?.into_iter().map(|waiting| waiting.mail.message_id).collect())
    };
    let mut tx = store.begin().await.unwrap();
    outbox.enqueue(&mut tx, &[mail("a", 1), mail("a", 2), mail("b", 1)], at(0)).await.unwrap();
    tx.commit().await.unwrap();
    outbox.measure().await.unwrap();
    assert_eq!(metrics.own.outbox_depth.get(), 3);
    assert_eq!(ids(at(0)).await.unwrap(), ["<a.1@vn.example>", "<b.1@vn.example>"]);
    let first = outbox.due(at(0), 1).await.unwrap().remove(0);
    outbox.retry(first.id, at(60), "450 busy").await.unwrap();
    assert_eq!(ids(at(1)).await.unwrap(), ["<b.1@vn.example>"], "a.2 waits for a.1");
    assert_eq!(outbox.due(at(60), 1).await.unwrap()[0].attempts, 1);
    outbox.retry_all(at(2)).await.unwrap();
    assert_eq!(ids(at(2)).await.unwrap(), ["<a.1@vn.example>", "<b.1@vn.example>"]);
    outbox.give_up(first.id, at(3), "550 no such user").await.unwrap();
    assert_eq!(ids(at(3)).await.unwrap(), ["<a.2@vn.example>", "<b.1@vn.example>"]);
    for waiting in outbox.due(at(3), 10).await.unwrap() {
        outbox.sent(&[waiting.id], at(4)).await.unwrap();
    }
    assert_eq!(outbox.next_due().await.unwrap(), None);
    // A new handle goes on counting: ids are never used twice.
    let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    outbox.enqueue(&mut tx, &[mail("c", 1)], at(5)).await.unwrap();
    tx.commit().await.unwrap();
    outbox.prune(at(3) + SignedDuration::from_hours(31 * 24)).await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM outbox").fetch_one(store.reader()).await.unwrap();
    assert_eq!(left, 1, "only the mail that waits");
    store.close().await;
}

/// From alert to mail, through a restart, to the end.
async fn incident_stage(state: &State, dir: &Path) {
    let config = config(dir, ([127, 0, 0, 1], 9).into(), "30s", "5m", "agency, area");
    let store = Store::open(state, dir).await.unwrap();
    let metrics: Arc<Metrics> = Arc::default();
    let org = Arc::new(Org::new(&config));
    let resume = async |now| {
        let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
        let resumed = Incidents::resume(store.clone(), outbox.clone(), org.clone(), &config, metrics.clone(), now);
        (resumed.await.unwrap(), outbox)
    };
    let subjects = async |outbox: &Outbox, now| -> Vec<(String, bool)> {
        let mut seen = Vec::new();
        while let Some(waiting) = outbox.due(now, 1).await.unwrap().pop() {
            outbox.sent(&[waiting.id], now).await.unwrap();
            let is_reply = !incidents::header(&waiting.mail.message, "In-Reply-To").is_empty();
            seen.push((waiting.mail.person, is_reply));
        }
        seen
    };
    let (stage, outbox) = resume(at(0)).await;
    let warning = alert("tam-ky", "warning", "dvc", at(0));
    let lost = alert("hue", "critical", "x", at(0));
    let orphan = alert("nobody", "warning", "y", at(0));
    let info = alert("tam-ky", "info", "z", at(0));
    let alerts = [warning.clone(), lost.clone(), orphan, info];
    stage.receive(&alerts, at(0)).await.unwrap();
    stage.tick(at(29)).await.unwrap();
    assert_eq!(outbox.due(at(29), 10).await.unwrap(), []);
    assert_eq!(metrics.own.alerts_misaddressed.with_label_values(&["unknown_agency"]).get(), 1);
    let table = metrics.table(columns::incidents::TABLE);
    assert_eq!(table.get(table.row(&["ioc", "self", "warning"]), columns::incidents::OPEN), Some(1.0));
    assert_eq!(stage.firing().len(), 4);

    // Killed before the mail; the next run writes it.
    drop(stage);
    let (stage, outbox) = resume(at(40)).await;
    assert_eq!(stage.open().len(), 3);
    stage.tick(at(40)).await.unwrap();
    stage.tick(at(41)).await.unwrap();
    let told = |person: &str| (person.to_string(), false);
    let mut seen = subjects(&outbox, at(41)).await;
    seen.sort();
    assert_eq!(seen, [told("it-ioc"), told("it-tam-ky"), told("lead-tinh")]);

    // It gets worse: the leader is told for the first time, the duty officer in the thread.
    let critical = alert("tam-ky", "critical", "dvc-2", at(50));
    stage.receive(&[critical.clone(), warning.clone()], at(50)).await.unwrap();
    stage.tick(at(60)).await.unwrap();
    assert_eq!(subjects(&outbox, at(60)).await, []);
    stage.tick(at(340)).await.unwrap();
    assert_eq!(subjects(&outbox, at(340)).await, [("it-tam-ky".to_string(), true), told("lead-tam-ky")]);

    // It is over: both are told, in their threads, after another restart.
    let ended: Vec<_> =
        [warning, critical].map(|alert| ioc_watch::alert::Alert { ends_at: Some(at(700)), ..alert }).into();
    drop(stage);
    let (stage, outbox) = resume(at(690)).await;
    stage.receive(&ended, at(700)).await.unwrap();
    stage.tick(at(701)).await.unwrap();
    let replies = [("it-tam-ky".to_string(), true), ("lead-tam-ky".to_string(), true)];
    assert_eq!(subjects(&outbox, at(701)).await, replies);
    let id = stage.open().iter().find(|incident| incident.agency == "tam-ky").unwrap().id;
    stage.tick(at(1_100)).await.unwrap();
    assert_eq!(stage.open().len(), 2, "closed after group_interval");
    let events: Vec<String> = stage.timeline(id).await.unwrap().into_iter().map(|entry| entry.event).collect();
    assert!(events.first().is_some_and(|event| event == "opened"), "{events:?}");
    assert!(events.last().is_some_and(|event| event == "closed"), "{events:?}");
    store.close().await;
}
