//! What follows when a mail cannot arrive: the timeline says so and the next step is taken at once.

use crate::incidents::{alert, config};
use ioc_watch::config::site::State;
use ioc_watch::incident::Incidents;
use ioc_watch::mail::Outbox;
use ioc_watch::mail::bounce::Report;
use ioc_watch::metrics::Metrics;
use ioc_watch::org::Org;
use ioc_watch::store::Store;
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;

const POLICY: &str = "\
escalation:
  - match: ['severity=\"critical\"']
    steps: [{after: 0m, notify: [duty]}, {after: 15m, notify: [leader]}, {after: 1h, notify: [parent.leader]}]
";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

/// The people in the outbox, in order; each mail is taken by the server.
async fn send(outbox: &Outbox, now: Timestamp) -> Vec<(String, String)> {
    let mut sent = Vec::new();
    while let Some(waiting) = outbox.due(now, 1).await.unwrap().pop() {
        outbox.sent(&[waiting.id], now).await.unwrap();
        sent.push((waiting.mail.person, waiting.mail.message_id));
    }
    sent
}

fn people(sent: &[(String, String)]) -> Vec<&str> {
    sent.iter().map(|(person, _)| person.as_str()).collect()
}

pub async fn story(state: &State, dir: &Path) {
    drop(config(dir, ([127, 0, 0, 1], 9).into(), "0s", "5m", "agency, area"));
    let file = dir.join("ioc-watch.yml");
    let text = std::fs::read_to_string(&file).unwrap() + POLICY;
    std::fs::write(&file, text).unwrap();
    let config = ioc_watch::config::load(&file).unwrap();
    let store = Store::open(state, dir).await.unwrap();
    let metrics: Arc<Metrics> = Arc::default();
    let org = Arc::new(Org::new(&config));
    let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
    let resume = async || {
        Incidents::resume(store.clone(), outbox.clone(), org.clone(), &config, metrics.clone(), at(0)).await.unwrap()
    };
    let events = async |stage: &Incidents, name: &str| -> Vec<(String, String)> {
        let timeline = stage.timeline(1).await.unwrap().into_iter();
        timeline.filter(|entry| entry.event == name).map(|entry| (entry.person, entry.detail)).collect()
    };
    let stage = resume().await;
    stage.receive(&[alert("tam-ky", "critical", "dvc", at(0))], at(0)).await.unwrap();
    stage.tick(at(0)).await.unwrap();

    // The first server refuses the duty officer: the leader is told at once, not after a quarter of an hour.
    let first = outbox.due(at(0), 10).await.unwrap();
    assert_eq!(first.iter().map(|waiting| waiting.mail.person.as_str()).collect::<Vec<_>>(), ["it-tam-ky"]);
    assert_eq!((first[0].mail.about.agency.as_str(), first[0].mail.about.incident), ("tam-ky", Some(1)));
    outbox.give_up(first[0].id, at(1), "550 no such user").await.unwrap();
    // The daemon dies before anybody took note; the next one does.
    let stage = {
        drop(stage);
        resume().await
    };
    stage.take_failures(at(2)).await.unwrap();
    stage.take_failures(at(2)).await.unwrap();
    assert_eq!(events(&stage, "undeliverable").await, [("it-tam-ky".to_owned(), "550 no such user".to_owned())]);
    let second = send(&outbox, at(2)).await;
    assert_eq!(people(&second), ["lead-tam-ky"]);

    // The leader's mail comes back hours... here seconds later: the superior is told.
    let report = |message_id: &str| Report {
        message_id: Some(message_id.to_owned()),
        recipient: None,
        reason: "5.1.1 unknown".to_owned(),
    };
    assert!(outbox.bounced(&report(&second[0].1), at(3)).await.unwrap());
    assert!(!outbox.bounced(&report(&second[0].1), at(3)).await.unwrap(), "once");
    stage.take_failures(at(3)).await.unwrap();
    let third = send(&outbox, at(3)).await;
    assert_eq!(people(&third), ["lead-tinh"]);

    // Nobody is left whom the policy names; those for want of anybody are told, once.
    assert!(outbox.bounced(&report(&third[0].1), at(4)).await.unwrap());
    stage.take_failures(at(4)).await.unwrap();
    let mut round = send(&outbox, at(4)).await;
    let last = people(&round).iter().map(|person| person.to_string()).collect::<Vec<_>>();
    assert!(!last.is_empty(), "somebody is told");
    for turn in 5..8 {
        for (_, message_id) in std::mem::take(&mut round) {
            outbox.bounced(&report(&message_id), at(turn)).await.unwrap();
        }
        stage.take_failures(at(turn)).await.unwrap();
        round = send(&outbox, at(turn)).await;
    }
    assert_eq!(people(&round), [] as [&str; 0], "mails that come back do not call for more of them for ever");

    // It ends; what comes back after its end stands in the timeline all the same.
    let mut over = alert("tam-ky", "critical", "dvc", at(0));
    over.ends_at = Some(at(400));
    stage.receive(&[over], at(400)).await.unwrap();
    stage.tick(at(400)).await.unwrap();
    let ended = send(&outbox, at(400)).await;
    stage.tick(at(2_000)).await.unwrap();
    assert_eq!(stage.open(), []);
    assert!(outbox.bounced(&report(&ended[0].1), at(2_000)).await.unwrap());
    let before = events(&stage, "undeliverable").await.len();
    stage.take_failures(at(2_001)).await.unwrap();
    assert_eq!(events(&stage, "undeliverable").await.len(), before + 1);
    assert_eq!(outbox.failures(10).await.unwrap(), []);
    assert_eq!(outbox.due(at(2_001), 10).await.unwrap(), []);
    store.close().await;
}
