//! Not the agency's fault, and not the hour for it: maintenance, working hours, a dead uplink.

use super::{LADDER, alert, at, town};
use ioc_watch::alert::Alert;
use ioc_watch::attribution::{Graph, GraphDevice, NewMaintenance, Scope, State, Subject, SubjectKind};
use ioc_watch::store::Store;
use jiff::SignedDuration;

pub async fn maintenance(store: &Store) {
    let mut town = town(store, LADDER, "mon 09:00").await;
    let scope = Scope { services: vec!["portal".into()], ..Scope::default() };
    let (reason, author) = ("upgrade".to_owned(), "it-ioc".to_owned());
    let window = NewMaintenance { scope, from: at("mon 09:10"), to: at("mon 11:00"), reason, author };
    town.ledger.add_maintenance(window, town.now).await.unwrap();
    town.until("mon 09:20").await;
    let down = |town: &super::Town, is_up| {
        let portal = Subject { kind: SubjectKind::Service, id: "portal".into() };
        town.ledger.observe(&portal, "xa", if is_up { State::Up } else { State::Down }, town.now, "refused");
    };
    // What comes and goes meanwhile is nobody's mail.
    down(&town, false);
    let portal = alert("xa", "critical", "portal", town.now);
    town.fire(std::slice::from_ref(&portal)).await;
    assert_eq!(town.until("mon 09:40").await, [""; 0]);
    down(&town, true);
    town.end(&portal).await;
    assert_eq!(town.until("mon 10:30").await, [""; 0]);
    // What still is down when the work should be over is told then, to the first level.
    down(&town, false);
    town.fire(&[alert("xa", "critical", "portal", town.now)]).await;
    assert_eq!(town.until("mon 10:59").await, [""; 0]);
    assert_eq!(town.until("mon 11:10").await, ["mon 11:01 binh is told"]);
}

const OFFICE: &str = "
incidents: {group_wait: 0s, group_interval: 5m}
escalation:
  - {match: [severity=critical], steps: [{after: 0m, notify: [duty]}]}
  - {working_hours: true, steps: [{after: 0m, notify: [leader]}, {after: 1h, notify: [parent.leader]}]}
";

pub async fn it_waits_for_working_hours(store: &Store) {
    let mut town = town(store, OFFICE, "fri 18:00").await;
    town.step = SignedDuration::from_mins(5);
    let usage = alert("xa", "warning", "office", town.now);
    town.fire(std::slice::from_ref(&usage)).await;
    assert_eq!(town.until("sat 10:00").await, [""; 0]);
    // What cannot wait does not: it is the policy of what is critical.
    let worse = alert("district", "critical", "database", town.now);
    town.fire(std::slice::from_ref(&worse)).await;
    let told = town.until("sat 10:30").await;
    assert_eq!(told, ["sat 10:00 province is told"], "the district has no duty officer");
    // The weekend, and Monday is a holiday; no restart forgets that somebody waits to be told.
    let mut town = town.restart().await;
    let mails = town.until("tue2 12:00").await;
    let mails: Vec<&String> =
        mails.iter().filter(|mail| !mail.contains("duty") && !mail.contains("reminded")).collect();
    assert_eq!(mails, ["tue2 07:30 chairman is told", "tue2 08:30 district is called"]);
}

pub async fn it_is_over_before_working_hours(store: &Store) {
    let mut town = town(store, OFFICE, "fri 18:00").await;
    town.step = SignedDuration::from_mins(5);
    let usage = alert("xa", "warning", "office", town.now);
    town.fire(std::slice::from_ref(&usage)).await;
    town.until("sat 10:00").await;
    town.end(&usage).await;
    let mails = town.until("tue2 12:00").await;
    assert!(mails.iter().all(|mail| mail.contains("duty")), "nobody has to read of it: {mails:?}");
    assert!(town.stage.open().is_empty());
}

/// The cameras of a whole district fall silent with its uplink. One mail, to the uplink's owner, that says how many;
/// when the line is back, those that still are silent are told.
pub async fn ten_thousand_alerts(store: &Store) {
    const N: usize = 10_000;
    let mut town = town(store, LADDER, "mon 09:00").await;
    let subject = |number: usize| Subject { kind: SubjectKind::Camera, id: format!("cam-{number}").into() };
    let devices = (0..N).map(|number| GraphDevice {
        subject: subject(number),
        agency: "xa".into(),
        site: "hall".into(),
        offline_after: None,
    });
    town.ledger.set_graph(Graph::new(&town.config, devices));
    let uplink = Subject { kind: SubjectKind::Dependency, id: "uplink".into() };
    for number in 0..N {
        town.ledger.observe(&subject(number), "xa", State::Up, town.now, "");
    }
    town.ledger.observe(&uplink, "district", State::Up, town.now, "");
    town.until("mon 09:10").await;
    town.ledger.observe(&uplink, "district", State::Down, town.now, "refused");
    for number in 0..N {
        town.ledger.observe(&subject(number), "xa", State::Down, town.now, "silent");
    }
    town.ledger.tick(town.now);
    let camera = |number: usize, now| {
        let mut alert = alert("xa", "warning", "", now);
        alert.labels.alter(|texts| drop(texts.remove("service")));
        let labels = [
            ("area", "camera".to_owned()),
            ("kind", "camera".to_owned()),
            ("site", "hall".to_owned()),
            ("device", format!("cam-{number}")),
        ];
        alert.labels.alter(|texts| texts.extend(labels.map(|(name, value)| (name.to_owned(), value))));
        alert
    };
    let mut line = alert("district", "critical", "", town.now);
    line.labels.alter(|texts| drop(texts.remove("service")));
    line.labels.alter(|texts| {
        texts.extend([("area", "dependency"), ("dependency", "uplink")].map(|(n, v)| (n.to_owned(), v.to_owned())))
    });
    line.annotations.alter(|texts| drop(texts.insert("summary_en".into(), "The uplink is down".into())));
    let mut alerts: Vec<Alert> = (0..N).map(|number| camera(number, town.now)).collect();
    alerts.push(line.clone());
    town.fire(&alerts).await;
    // The district has no duty officer: its head, at once.
    assert_eq!(town.until("mon 09:14").await, ["mon 09:10 district is called"]);
    assert_eq!(town.count_mails().await, 1);
    let mail = town.last_mail("district").await;
    assert!(mail.contains("10,000 cameras"), "{mail}");
    // The line is back, and so are all cameras but one.
    town.ledger.observe(&uplink, "district", State::Up, town.now, "");
    for number in 1..N {
        town.ledger.observe(&subject(number), "xa", State::Up, town.now, "");
    }
    let over = |alert: &Alert| Alert { ends_at: Some(town.now), ..alert.clone() };
    let over: Vec<Alert> = alerts[1..].iter().map(over).collect();
    town.fire(&over).await;
    let mails = town.until("mon 09:40").await;
    assert_eq!(mails[0], "mon 09:15 district over", "{mails:?}");
    assert!(mails[1..].iter().any(|mail| mail.ends_with("binh is told")), "of the one that stayed silent: {mails:?}");
    assert!(town.count_mails().await <= 4, "{mails:?}");
}
