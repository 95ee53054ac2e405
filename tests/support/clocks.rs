//! The incident stage under a wall clock that jumps: the same people are told the same number of times as under one that
//! does not, and nothing waits for the clock to come back.

use crate::incidents::{alert, config};
use ioc_watch::alert::Alert;
use ioc_watch::incident::Incidents;
use ioc_watch::mail::Outbox;
use ioc_watch::metrics::Metrics;
use ioc_watch::org::Org;
use ioc_watch::store::Store;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

const HOUR: i64 = 3_600;
/// Of the time that really passes, in seconds.
const STEP: i64 = 5;
/// The alert fires at 10 s and ends here: after the step that comes an hour after the first.
const END: i64 = 2 * HOUR;

/// What the clock on the wall shows beyond the time that really passed.
type Clock = fn(i64) -> i64;

const CLOCKS: [(&str, Clock); 6] = [
    ("an hour forward before the first mail", |t| if t >= 20 { HOUR } else { 0 }),
    ("an hour back before the first mail", |t| if t >= 20 { -HOUR } else { 0 }),
    ("an hour forward", |t| if t >= 300 { HOUR } else { 0 }),
    ("an hour back", |t| if t >= 300 { -HOUR } else { 0 }),
    ("an hour forward and back", |t| if (300..900).contains(&t) { HOUR } else { 0 }),
    ("back and forth again and again", |t| if t % 600 < 300 { 0 } else { -HOUR }),
];

/// The last `n_clocks` of them, each on a database that `store` makes.
pub async fn suite(store: impl AsyncFn(&str) -> Store, dir: &Path, n_clocks: usize) {
    let steady = play(&store("steady").await, dir, |_| 0).await;
    let counts = counts(&steady);
    assert_eq!(counts.len(), 3, "duty, leader and the leader above: {counts:?}");
    assert!(counts.values().all(|count| *count == 2), "that it began, and that it ended: {counts:?}");
    for (index, (name, clock)) in CLOCKS.into_iter().enumerate().skip(CLOCKS.len().saturating_sub(n_clocks)) {
        let mails = play(&store(&format!("clock{index}")).await, dir, clock).await;
        assert_eq!(self::counts(&mails), counts, "{name}: {mails:?}");
        let ids: BTreeSet<&String> = mails.iter().map(|mail| &mail.id).collect();
        assert_eq!(ids.len(), mails.len(), "{name}");
        let first = mails.iter().map(|mail| mail.at).min();
        // A clock that is set back makes group_wait begin again, no more.
        assert!(first.is_some_and(|at| at <= 10 + 2 * 30), "{name}: the first mail after {first:?} s");
        let last = mails.iter().map(|mail| mail.at).max();
        assert!(last.is_some_and(|at| at <= END + 310), "{name}: the last mail after {last:?} s");
    }
}

#[derive(Debug)]
struct Sent {
    /// Of the time that really passed.
    at: i64,
    person: String,
    id: String,
}

fn counts(mails: &[Sent]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for mail in mails {
        *counts.entry(mail.person.as_str()).or_default() += 1;
    }
    counts
}

/// One alert from its beginning to well after its end.
async fn play(store: &Store, dir: &Path, clock: impl Fn(i64) -> i64) -> Vec<Sent> {
    let config = config(dir, ([127, 0, 0, 1], 9).into(), "30s", "5m", "agency, area, service");
    let metrics: Arc<Metrics> = Arc::default();
    let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
    let org = Arc::new(Org::new(&config));
    let wall = |t: i64| Timestamp::from_second(1_795_000_000 + t + clock(t)).unwrap();
    let stage = Incidents::resume(store.clone(), outbox.clone(), org, &config, metrics, wall(0)).await.unwrap();
    let mut sent = Vec::new();
    let mut last = wall(0);
    for t in (0..END + HOUR).step_by(STEP as usize) {
        let now = wall(t);
        let fires = (10..END).contains(&t);
        let begins = alert("tam-ky", "critical", "dvc", wall(10));
        let changed = match t {
            10 => Some(begins),
            END => Some(Alert { ends_at: Some(now), ..begins }),
            // As the ruler does, which reports what fires at each evaluation.
            _ => fires.then_some(begins),
        };
        if let Some(alert) = changed {
            stage.receive(&[alert], now).await.unwrap();
        }
        stage.tick(now).await.unwrap();
        // As the sender does.
        if now < last {
            outbox.retry_all(now).await.unwrap();
        }
        last = now;
        for waiting in outbox.due(now, 100).await.unwrap() {
            outbox.sent(&[waiting.id], now).await.unwrap();
            sent.push(Sent { at: t, person: waiting.mail.person, id: waiting.mail.message_id });
        }
    }
    sent
}
