//! Alerts that come together, later, twice, silenced, inhibited.

use super::{LADDER, Town, alert, at, town};
use ioc_watch::alert::Alert;
use ioc_watch::incident::silence::Silence;
use ioc_watch::matcher::Matcher;
use ioc_watch::store::Store;
use jiff::SignedDuration;

const WAITING: &str = "
incidents: {group_wait: 1m, group_interval: 5m}
escalation: [{steps: [{after: 0m, notify: [duty]}]}]
";

async fn silence(town: &Town, matcher: &str, hours: i64) -> String {
    let wanted = Silence {
        id: String::new(),
        matchers: vec![Matcher::parse(matcher).unwrap()],
        starts_at: town.now,
        ends_at: town.now + SignedDuration::from_hours(hours),
        updated_at: town.now,
        created_by: "it-ioc".into(),
        comment: "upgrade".into(),
    };
    town.stage.set_silence(wanted, |_| true, town.now).await.unwrap()
}

pub async fn alerts_that_come_together(store: &Store) {
    let mut town = town(store, WAITING, "mon 09:00").await;
    let alerts: Vec<Alert> = ["a", "b", "c"].map(|one| alert("xa", "warning", one, town.now)).into();
    town.fire(&alerts[..2]).await;
    town.now += SignedDuration::from_secs(30);
    town.fire(&alerts[2..]).await;
    assert_eq!(town.until("mon 09:03").await, ["mon 09:01:30 binh is told"]);
    let mail = town.last_mail("binh").await;
    assert!(["a is down", "b is down", "c is down"].iter().all(|one| mail.contains(one)), "{mail}");
}

pub async fn what_comes_later(store: &Store) {
    let mut town = town(store, WAITING, "mon 09:00").await;
    let (first, second) = (alert("xa", "warning", "a", town.now), alert("xa", "warning", "b", town.now));
    town.fire(std::slice::from_ref(&first)).await;
    assert_eq!(town.until("mon 09:02").await, ["mon 09:01 binh is told"]);
    town.fire(std::slice::from_ref(&second)).await;
    assert_eq!(town.until("mon 09:10").await, ["mon 09:06 binh hears more"]);
    // What comes and goes between two mails is not told at all.
    let brief = alert("xa", "warning", "c", town.now);
    town.fire(std::slice::from_ref(&brief)).await;
    town.until("mon 09:10:30").await;
    town.end(&brief).await;
    assert_eq!(town.until("mon 09:20").await, [""; 0]);
    // One of two ends: an update; the other: over.
    town.end(&first).await;
    assert_eq!(town.until("mon 09:25").await, ["mon 09:21 binh hears more"]);
    town.end(&second).await;
    assert_eq!(town.until("mon 09:40").await, ["mon 09:26 binh over"]);
}

pub async fn two_prometheus_send_the_same(store: &Store) {
    let mut town = town(store, WAITING, "mon 09:00").await;
    let one = alert("xa", "warning", "portal", town.now);
    // Each of a pair posts every minute, with its own start and an announced end, in another order of labels.
    let mut mails = Vec::new();
    for minute in 0..60 {
        for replica in 0..2_i64 {
            let ends_at = Some(town.now + SignedDuration::from_mins(4));
            let starts_at = one.starts_at + SignedDuration::from_secs(replica * 7);
            town.fire(&[Alert { starts_at, ends_at, ..one.clone() }]).await;
        }
        mails.extend(town.until(&format!("mon 09:{minute:02}:59")).await);
    }
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(town.stage.open()[0].members.len(), 1);
    // One of the pair says that it is over, then both are silent: told once.
    town.end(&one).await;
    let over = town.until("mon 10:20").await;
    assert_eq!(over.len(), 1, "{over:?}");
    assert!(over[0].ends_with("binh over"), "{over:?}");
    assert!(town.stage.open().is_empty());
}

pub async fn it_is_over_and_comes_back(store: &Store) {
    let mut town = town(store, WAITING, "mon 09:00").await;
    let one = alert("xa", "warning", "portal", town.now);
    town.fire(std::slice::from_ref(&one)).await;
    town.until("mon 09:10").await;
    town.end(&one).await;
    assert_eq!(town.until("mon 09:12").await, ["mon 09:10 binh over"]);
    // Soon after: the same incident, the same thread.
    town.fire(&[alert("xa", "warning", "portal", town.now)]).await;
    assert_eq!(town.until("mon 09:20").await, ["mon 09:15 binh hears more"]);
    assert_eq!(town.stage.open().len(), 1);
    let id = town.stage.open()[0].id;
    assert!(town.events(id).await.contains(&"reopened".to_owned()));
}

pub async fn it_comes_back_within_the_window(store: &Store) {
    let window = WAITING.replace("group_interval: 5m", "group_interval: 5m, reopen_within: 2h");
    let mut town = town(store, &window, "mon 09:00").await;
    let one = alert("xa", "warning", "portal", town.now);
    town.fire(std::slice::from_ref(&one)).await;
    town.until("mon 09:10").await;
    town.end(&one).await;
    assert_eq!(town.until("mon 10:50").await, ["mon 09:10 binh over"]);
    let mut town = town.restart().await;
    let again = alert("xa", "warning", "portal", town.now);
    town.fire(std::slice::from_ref(&again)).await;
    assert_eq!(town.until("mon 11:00").await, ["mon 10:51 binh hears more"], "the same thread");
    town.end(&again).await;
    assert_eq!(town.until("mon 13:10").await, ["mon 11:00 binh over"]);
    let first = 1;
    assert_eq!(town.events(first).await.last().map(String::as_str), Some("closed"));
    town.fire(&[alert("xa", "warning", "portal", town.now)]).await;
    assert_eq!(town.until("mon 13:20").await, ["mon 13:11 binh is told"], "too late: another incident");
}

pub async fn what_flaps(store: &Store) {
    let mut town = town(store, WAITING, "mon 09:00").await;
    let mut mails = Vec::new();
    // Two minutes down, two minutes up, for an hour; the daemon is restarted in the middle.
    for round in 0..15 {
        let one = alert("xa", "warning", "portal", town.now);
        town.fire(std::slice::from_ref(&one)).await;
        mails.extend(town.until(&format!("mon 09:{:02}", round * 4 + 2)).await);
        town.end(&one).await;
        let end = if round == 14 { "mon 10:00".to_owned() } else { format!("mon 09:{:02}", round * 4 + 4) };
        mails.extend(town.until(&end).await);
        if round == 7 {
            town = town.restart().await;
        }
    }
    // It is told, told to be over, and back: then it is known to flap, and nobody hears of it until it is quiet.
    assert!(mails.len() <= 5, "{mails:?}");
    assert!(town.last_mail("binh").await.contains("flapping: back "), "{mails:?}");
    assert_eq!(town.until("mon 10:30").await, ["mon 10:13 binh over"]);
}

/// Alertmanager's open problem: it sends no mail that this is over.
pub async fn silenced_told_and_over(store: &Store) {
    let mut town = town(store, WAITING, "mon 09:00").await;
    let one = alert("xa", "warning", "portal", town.now);
    town.fire(std::slice::from_ref(&one)).await;
    assert_eq!(town.until("mon 09:05").await, ["mon 09:01 binh is told"]);
    silence(&town, "service=portal", 8).await;
    let mut town = town.restart().await;
    assert_eq!(town.until("mon 12:00").await, [""; 0]);
    town.end(&one).await;
    assert_eq!(town.until("mon 13:00").await, ["mon 12:00 binh over"]);
}

pub async fn silenced_from_the_start(store: &Store) {
    let mut town = town(store, WAITING, "mon 09:00").await;
    let id = silence(&town, "service=~port.*", 8).await;
    let (portal, other) = (alert("xa", "warning", "portal", town.now), alert("ioc", "warning", "portal-2", town.now));
    town.fire(&[portal.clone(), alert("hamlet", "warning", "well", town.now), other.clone()]).await;
    assert_eq!(town.until("mon 10:00").await, ["mon 09:01 district is told"], "only what nobody silenced");
    town.end(&other).await;
    // It is ended early: what still fires is told after the usual wait.
    town.stage.end_silence(&id, |_| true, town.now).await.unwrap();
    assert_eq!(town.until("mon 10:30").await, ["mon 10:01 binh is told"]);
}

const INHIBITING: &str = "
incidents:
  group_wait: 1m
  group_interval: 5m
  group_by: [agency, area, service]
  inhibit: [{source: [service=switch], target: ['service=~portal.*'], equal: [agency, rack]}]
escalation: [{steps: [{after: 0m, notify: [duty, leader]}]}]
";

pub async fn inhibited_told_and_over(store: &Store) {
    let mut town = town(store, INHIBITING, "mon 09:00").await;
    let (portal, elsewhere) = (alert("xa", "warning", "portal", town.now), alert("ioc", "warning", "portal", town.now));
    town.fire(&[portal.clone(), elsewhere.clone()]).await;
    assert_eq!(
        town.until("mon 09:10").await,
        ["mon 09:01 it-ioc is told", "mon 09:01 binh is told", "mon 09:01 chairman is told"]
    );
    let switch = alert("xa", "critical", "switch", town.now);
    town.fire(&[switch.clone(), alert("xa", "warning", "portal-2", town.now)]).await;
    assert_eq!(
        town.until("mon 09:30").await,
        ["mon 09:11 binh is told", "mon 09:11 chairman is told"],
        "of the switch"
    );
    // It ends while inhibited: they were told, so they are told.
    town.end(&portal).await;
    assert_eq!(town.until("mon 09:40").await, ["mon 09:30 binh over", "mon 09:30 chairman over"]);
    // The switch is mended and the other portal still down: now it is news.
    town.end(&switch).await;
    let mails = town.until("mon 09:50").await;
    assert_eq!(
        mails,
        ["mon 09:40 binh over", "mon 09:40 chairman over", "mon 09:41 binh is told", "mon 09:41 chairman is told"]
    );
}

/// `equal` names a label that neither has: it is the same in both. An alert that both rules describe does not inhibit
/// itself.
pub async fn what_both_lack_is_equal(store: &Store) {
    let rules = INHIBITING.replace("target: ['service=~portal.*']", "target: ['service=~switch|portal']");
    let mut town = town(store, &rules, "mon 09:00").await;
    let rack = |mut alert: Alert, rack: &str| {
        alert.labels.alter(|texts| drop(texts.insert("rack".into(), rack.into())));
        alert
    };
    let switch = alert("xa", "critical", "switch", town.now);
    town.fire(&[switch.clone(), alert("xa", "warning", "portal", town.now)]).await;
    assert_eq!(town.until("mon 09:10").await, ["mon 09:01 binh is told", "mon 09:01 chairman is told"]);
    // In another rack it is not the same.
    town.fire(&[rack(alert("xa", "warning", "portal", town.now), "2")]).await;
    let told = town.until("mon 09:20").await;
    assert_eq!(told.len(), 2, "{told:?}");
}

pub async fn a_reload_forgets_nothing(store: &Store) {
    let mut town = town(store, LADDER, "mon 09:00").await;
    let one = alert("xa", "critical", "portal", town.now);
    town.fire(std::slice::from_ref(&one)).await;
    assert_eq!(town.until("mon 09:05").await, ["mon 09:00 binh is told"]);
    // The leader is to be told sooner from now on; binh is not told again.
    town.reload(&format!("{}{}", super::PEOPLE, LADDER.replace("15m", "10m")));
    assert_eq!(town.until("mon 09:12").await, ["mon 09:10 chairman is called"]);
    assert_eq!(town.stage.open()[0].first_mail, Some(at("mon 09:00")));
    town.end(&one).await;
    let over = town.until("mon 09:20").await;
    assert_eq!(over.len(), 2, "{over:?}");
}
