//! Nobody answers, somebody does, two must.

use super::{LADDER, alert, at, town};
use ioc_watch::incident::Done;
use ioc_watch::store::Store;

pub async fn nobody_answers(store: &Store) {
    let mut town = town(store, LADDER, "mon 09:00").await;
    let portal = alert("xa", "critical", "portal", town.now);
    town.fire(std::slice::from_ref(&portal)).await;
    // One level at a time: the province is never told of one portal.
    assert_eq!(
        town.until("mon 10:30").await,
        ["mon 09:00 binh is told", "mon 09:15 chairman is called", "mon 10:00 district is called"]
    );
    let reminded = ["mon 14:00 binh is reminded", "mon 14:00 chairman is reminded", "mon 14:00 district is reminded"];
    assert_eq!(town.until("mon 17:00").await, reminded);
    town.end(&portal).await;
    assert_eq!(
        town.until("mon 20:00").await,
        ["mon 17:00 binh over", "mon 17:00 chairman over", "mon 17:00 district over"],
        "whoever was told that it broke is told that it ended"
    );
}

pub async fn an_answer_stops_the_climb_and_expires(store: &Store) {
    let mut town = town(store, LADDER, "mon 09:00").await;
    town.fire(&[alert("xa", "critical", "portal", town.now)]).await;
    assert_eq!(town.until("mon 09:10").await, ["mon 09:00 binh is told"]);
    assert_eq!(town.acknowledge("binh").await, Done::Acknowledged(Some(at("mon 17:10"))));
    assert_eq!(town.until("mon 12:00").await, ["mon 09:10 binh sees who answered"]);
    // What somebody answered for outlives the daemon.
    let mut town = town.restart().await;
    assert_eq!(town.until("mon 17:09").await, [""; 0]);
    // It was not mended: they are reminded, and the climb goes on from there.
    assert_eq!(
        town.until("mon 18:30").await,
        ["mon 17:10 binh is reminded", "mon 17:25 chairman is called", "mon 18:10 district is called"]
    );
}

pub async fn it_lasts_and_becomes_critical(store: &Store) {
    let policies = "
incidents: {group_wait: 0s, group_interval: 5m}
escalation:
  - match: ['severity=\"critical\"']
    steps: [{after: 0m, notify: [leader]}, {after: 1h, notify: [parent.leader]}]
  - steps: [{after: 0m, notify: [duty]}]
    critical_after: 4h
    ack_expires: 6h
";
    let mut town = town(store, policies, "mon 09:00").await;
    let portal = alert("xa", "warning", "portal", town.now);
    town.fire(std::slice::from_ref(&portal)).await;
    assert_eq!(town.until("mon 12:59").await, ["mon 09:00 binh is told"]);
    // Whoever was told hears that it counts for more now; the leader is called by the policy for that.
    let mut town = town.restart().await;
    assert_eq!(town.until("mon 13:30").await, ["mon 13:00 binh hears more", "mon 13:00 chairman is told"]);
    assert_eq!(town.until("mon 15:00").await, ["mon 14:00 district is called"]);
    town.end(&portal).await;
    town.until("mon 16:00").await;
    // Who has answered is left alone for as long as that holds.
    let again = alert("xa", "warning", "portal", town.now);
    town.fire(std::slice::from_ref(&again)).await;
    assert_eq!(town.until("mon 16:30").await, ["mon 16:00 binh is told"]);
    town.acknowledge("binh").await;
    assert_eq!(town.until("mon 22:00").await, ["mon 16:30 binh sees who answered"]);
    assert_eq!(
        town.until("mon 23:00").await,
        ["mon 22:30 binh hears more", "mon 22:30 chairman is told"],
        "the answer has expired and it still burns"
    );
}

pub async fn two_must_answer(store: &Store) {
    let steps = LADDER.replace("notify: [duty]}", "notify: [duty, leader, deputy], acknowledge: 2}");
    let mut town = town(store, &steps, "mon 09:00").await;
    town.fire(&[alert("xa", "critical", "portal", town.now)]).await;
    let told = town.until("mon 09:05").await;
    assert_eq!(told, ["mon 09:00 binh is told", "mon 09:00 chairman is told", "mon 09:00 deputy is told"]);
    assert_eq!(town.acknowledge("binh").await, Done::Acknowledged(None));
    assert_eq!(town.acknowledge("binh").await, Done::Acknowledged(None), "the same twice is one");
    assert_eq!(town.acknowledge("deputy").await, Done::Acknowledged(Some(at("mon 17:05"))));
    let seen = town.until("mon 12:00").await;
    assert!(seen.iter().all(|mail| mail.ends_with("sees who answered")), "{seen:?}");
}

pub async fn all_must_answer(store: &Store) {
    let steps = LADDER.replace("notify: [duty]}", "notify: [duty, leader], acknowledge: all}");
    let steps = steps.replace("{after: 15m, notify: [leader]}, ", "");
    let mut town = town(store, &steps, "mon 09:00").await;
    town.fire(&[alert("xa", "critical", "portal", town.now)]).await;
    town.until("mon 09:05").await;
    assert_eq!(town.acknowledge("binh").await, Done::Acknowledged(None));
    let mails = town.until("mon 10:01").await;
    assert_eq!(mails.last().map(String::as_str), Some("mon 10:00 district is called"), "the chairman did not");
    // Whom the last step told answers for it now.
    assert!(matches!(town.acknowledge("district").await, Done::Acknowledged(Some(_))));
    town.until("mon 10:02").await;
    assert_eq!(town.until("mon 17:00").await, [""; 0]);
}

pub async fn several_at_once_and_a_person_by_name(store: &Store) {
    let policy = "
incidents: {group_wait: 0s}
escalation:
  - steps:
      - {after: 0m, notify: [duty, it-ioc, binh]}
      - {after: 30m, notify: [deputy, parent.leader, parent.parent.leader]}
";
    let mut town = town(store, policy, "mon 09:00").await;
    town.fire(&[alert("xa", "warning", "portal", town.now)]).await;
    assert_eq!(
        town.until("mon 12:00").await,
        [
            "mon 09:00 binh is told",
            "mon 09:00 it-ioc is told",
            "mon 09:30 deputy is called",
            "mon 09:30 district is called",
            "mon 09:30 province is called"
        ],
        "binh is on duty and named: told once"
    );
    assert!(town.last_mail("deputy").await.contains("Officer Binh"), "who was told before");
}

pub async fn an_empty_step_is_skipped(store: &Store) {
    let mut town = town(store, LADDER, "mon 09:00").await;
    town.fire(&[alert("hamlet", "warning", "well", town.now)]).await;
    // Neither duty officer nor leader: the district at once, and everybody who reads sees why.
    assert_eq!(town.until("mon 12:00").await, ["mon 09:00 district is called"]);
    assert!(town.last_mail("district").await.contains("no one responsible"));
    let incident = town.stage.open()[0].id;
    let events = town.events(incident).await;
    assert_eq!(events[..5], ["opened", "fired", "skipped", "skipped", "escalated"], "{events:?}");
    assert!(events.contains(&"nobody".to_owned()), "{events:?}");
}

pub async fn it_gets_worse(store: &Store) {
    let policies = "
incidents: {group_wait: 0s, group_interval: 5m}
escalation:
  - {match: [severity=critical], steps: [{after: 0m, notify: [duty, leader]}, {after: 15m, notify: [parent.leader]}]}
  - {steps: [{after: 0m, notify: [duty]}, {after: 4h, notify: [leader]}]}
";
    let mut town = town(store, policies, "mon 09:00").await;
    town.fire(&[alert("xa", "warning", "portal", town.now)]).await;
    assert_eq!(town.until("mon 09:01").await, ["mon 09:00 binh is told"]);
    assert!(matches!(town.acknowledge("binh").await, Done::Acknowledged(Some(_))));
    town.until("mon 09:02").await;
    // What binh answered for was a warning. This is another matter, and does not wait for the interval.
    town.fire(&[alert("xa", "critical", "payments", town.now)]).await;
    assert_eq!(
        town.until("mon 09:30").await,
        ["mon 09:02 binh hears more", "mon 09:02 chairman is told", "mon 09:17 district is called"]
    );
}

pub async fn an_acting_head(store: &Store) {
    let policy = "
incidents: {group_wait: 0s}
escalation: [{steps: [{after: 0m, notify: [leader]}, {after: 1h, notify: [parent.leader]}]}]
";
    let mut town = town(store, policy, "mon 09:00").await;
    let terms = "leader: [{person: chairman, from: 2025-01-01}, {person: deputy, from: 2026-06-01T08:00, to: \
                 2026-06-01T10:30, acting: true}]";
    town.reload(&format!("{}{policy}", super::PEOPLE.replace("leader: chairman", terms)));
    let portal = alert("xa", "warning", "portal", town.now);
    town.fire(std::slice::from_ref(&portal)).await;
    assert_eq!(town.until("mon 09:30").await, ["mon 09:00 deputy is told"]);
    town.end(&portal).await;
    town.until("mon 10:30").await;
    town.fire(&[alert("xa", "warning", "portal", town.now)]).await;
    assert_eq!(town.until("mon 10:40").await, ["mon 10:30 chairman is told"], "the term ended at that moment");
}
