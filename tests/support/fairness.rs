//! The ledger as a person meets it: excuses, maintenance and overrides announced, cancelled and withdrawn, figures.

use ioc_watch::attribution::{
    AttributionError, AvailabilityQuery, Cause, Graph, GraphDevice, Ledger, NewMaintenance, NewOverride, Scope, State,
    Subject, SubjectKind,
};
use ioc_watch::config::{self, Config, dependencies::DependencyCause};
use ioc_watch::store::Store;
use jiff::Timestamp;
use std::path::Path;

const NATIONAL: Cause = Cause::Dependency(DependencyCause::National);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn service(id: &str) -> Subject {
    Subject { kind: SubjectKind::Service, id: id.into() }
}

fn dependency(id: &str) -> Subject {
    Subject { kind: SubjectKind::Dependency, id: id.into() }
}

fn camera() -> Subject {
    Subject { kind: SubjectKind::Camera, id: "cam-1".into() }
}

fn config(dir: &Path) -> Config {
    let text = "site: {name: IOC, agency: ioc}\n\
        people: [{id: it, name: Trực IOC, email: truc@ioc.vn.example}]\n\
        agencies: [{id: ioc, name: IOC, leader: it}, {id: tam-ky, name: Tam Kỳ}, {id: xa-1, name: Xã 1, parent: tam-ky}]\n\
        dependencies:\n\
        \x20 - {id: uplink, cause: own_uplink, every: 15s, timeout: 5s, probe: {http: {url: 'http://127.0.0.1:9/'}}}\n\
        \x20 - {id: dvcqg, name: Cổng DVC quốc gia, cause: national, depends_on: [uplink], probe: {http: {url: 'http://127.0.0.1:9/'}}}\n\
        sites: [{id: nvh-1, agency: xa-1, depends_on: [uplink]}]\n\
        services:\n\
        \x20 - {id: dvc, agency: tam-ky, depends_on: [dvcqg], http: {url: 'http://127.0.0.1:9/'}}\n\
        \x20 - {id: noi-bo, agency: tam-ky, http: {url: 'http://127.0.0.1:9/'}}\n";
    let file = dir.join("fairness.yml");
    std::fs::write(&file, text).unwrap();
    config::load(&file).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn graph(config: &Config) -> Graph {
    let offline_after = Some(std::time::Duration::from_secs(180));
    let device = GraphDevice { subject: camera(), agency: "xa-1".into(), site: "nvh-1".into(), offline_after };
    Graph::new(config, [device])
}

/// The downtime of a service: from, until (seconds), cause.
async fn downtime(ledger: &Ledger, id: &str) -> Vec<(i64, Option<i64>, String)> {
    let second = |time: Timestamp| time.duration_since(at(0)).as_secs();
    let intervals = ledger.intervals(SubjectKind::Service, at(-100_000), at(100_000)).await.unwrap();
    intervals
        .into_iter()
        .filter(|interval| *interval.subject.id == *id && interval.state == State::Down)
        .map(|interval| (second(interval.from), interval.until.map(second), interval.cause))
        .collect()
}

fn owned(rows: &[(i64, Option<i64>, &str)]) -> Vec<(i64, Option<i64>, String)> {
    rows.iter().map(|(from, until, cause)| (*from, *until, cause.to_string())).collect()
}

pub async fn suite(store: &Store, dir: &Path) {
    let config = config(dir);
    let ledger = Ledger::resume(store.clone()).await.unwrap();
    ledger.set_graph(graph(&config));
    let ledger = guide_example(store, ledger, &config).await;
    maintenance(&ledger).await;
    overrides(&ledger).await;
    sites_and_devices(&ledger).await;
    ledger.heartbeat(at(10_000)).await.unwrap();
    // All of it survives a restart.
    let before = ledger.intervals(SubjectKind::Service, at(-100_000), at(9_000)).await.unwrap();
    drop(ledger);
    let ledger = Ledger::resume(store.clone()).await.unwrap();
    ledger.set_graph(graph(&config));
    ledger.tick(at(10_500));
    let after = ledger.intervals(SubjectKind::Service, at(-100_000), at(9_000)).await.unwrap();
    assert_eq!(without_end(before), without_end(after));
}

/// What lasts ends with the run.
fn without_end(mut intervals: Vec<ioc_watch::attribution::Interval>) -> Vec<ioc_watch::attribution::Interval> {
    for interval in &mut intervals {
        interval.until = interval.until.filter(|until| *until < at(9_000));
    }
    intervals
}

/// The example of the guide, with a restart in the middle of it.
async fn guide_example(store: &Store, ledger: Ledger, config: &Config) -> Ledger {
    let see = |ledger: &Ledger, subject: &Subject, state, second| {
        let agency = if subject.kind == SubjectKind::Dependency { "ioc" } else { "tam-ky" };
        ledger.observe(subject, agency, state, at(second), "");
        ledger.tick(at(second));
    };
    let (dvc, dvcqg) = (service("dvc"), dependency("dvcqg"));
    see(&ledger, &dvcqg, State::Up, -5);
    see(&ledger, &dvc, State::Up, -20);
    see(&ledger, &dvc, State::Down, 10);
    assert_eq!(ledger.excuse(&dvc, at(24)), None);
    ledger.flush().await.unwrap();
    let version = ledger.excuses_version();
    see(&ledger, &dvcqg, State::Down, 25);
    assert_ne!(ledger.excuses_version(), version);
    let excuse = ledger.excuse(&dvc, at(26)).unwrap();
    assert_eq!((excuse.cause, excuse.by.as_str(), excuse.since), (NATIONAL, "Cổng DVC quốc gia", at(25)));
    assert_eq!(excuse.dependency, "dvcqg");
    assert_eq!(ledger.excuse(&dvcqg, at(26)), None, "a dependency does not excuse itself");
    assert_eq!(ledger.excuse(&service("noi-bo"), at(26)), None);
    assert_eq!(ledger.excuses(at(26)).len(), 1);
    ledger.heartbeat(at(300)).await.unwrap();
    drop(ledger);

    let ledger = Ledger::resume(store.clone()).await.unwrap();
    ledger.set_graph(graph(config));
    ledger.tick(at(310));
    assert!(ledger.excuse(&dvc, at(310)).is_some(), "held until the dependency was looked at");
    see(&ledger, &dvc, State::Down, 312);
    assert!(ledger.excuse(&dvc, at(313)).is_some());
    see(&ledger, &dvcqg, State::Down, 320);
    see(&ledger, &dvcqg, State::Up, 625);
    assert!(ledger.excuse(&dvc, at(639)).is_some(), "not looked at since the recovery");
    let version = ledger.excuses_version();
    see(&ledger, &dvc, State::Down, 640);
    assert_eq!(ledger.excuse(&dvc, at(641)), None);
    assert_ne!(ledger.excuses_version(), version);
    see(&ledger, &dvc, State::Up, 1_510);
    let rows = [(10, Some(300), "national"), (312, Some(625), "national"), (625, Some(1_510), "own")];
    assert_eq!(downtime(&ledger, "dvc").await, owned(&rows));

    let query = AvailabilityQuery {
        from: at(0),
        to: at(2_000),
        now: at(1_600),
        kinds: vec![SubjectKind::Service],
        subject: Some("dvc".into()),
        agencies: None,
        cause: None,
    };
    let answer = ledger.availability(&query).await.unwrap();
    let tam_ky = &answer.by_agency["tam-ky"];
    assert_eq!((tam_ky.total, tam_ky.unknown, tam_ky.down), (1_600.0, 12.0, 1_488.0));
    assert_eq!((tam_ky.down_by_cause["own"], tam_ky.down_by_cause["national"]), (885.0, 603.0));
    assert_eq!(tam_ky.own_ratio.map(|ratio| (ratio.numerator, ratio.denominator)), Some((100.0, 985.0)));
    ledger
}

async fn maintenance(ledger: &Ledger) {
    let announce = async |from, to, now, services: &[&str]| {
        let scope = Scope { services: services.iter().map(ToString::to_string).collect(), ..Scope::default() };
        let (reason, author) = (" Nâng cấp ".to_string(), "it".to_string());
        ledger.add_maintenance(NewMaintenance { scope, from: at(from), to: at(to), reason, author }, at(now)).await
    };
    assert!(matches!(announce(5, 5, 0, &["dvc"]).await, Err(AttributionError::EmptyRange)));
    assert!(matches!(announce(5, 9, 0, &[]).await, Err(AttributionError::NoSubjects)));
    assert!(matches!(announce(5, 9, 0, &["hue"]).await, Err(AttributionError::UnknownSubject(id)) if id == "hue"));
    // Long after the fact.
    ledger.tick(at(8_000));
    announce(700, 1_000, 8_000, &["dvc"]).await.unwrap();
    let rows = [
        (10, Some(300), "national"),
        (312, Some(625), "national"),
        (625, Some(700), "own"),
        (700, Some(1_000), "maintenance"),
        (1_000, Some(1_510), "own"),
    ];
    assert_eq!(downtime(ledger, "dvc").await, owned(&rows));
    // In the middle of an outage, cancelled before its end.
    let down = service("noi-bo");
    ledger.observe(&down, "tam-ky", State::Down, at(8_010), "refused");
    ledger.flush().await.unwrap();
    let id = announce(8_020, 9_000, 8_050, &["noi-bo"]).await.unwrap();
    ledger.observe(&down, "tam-ky", State::Down, at(8_070), "refused");
    ledger.tick(at(8_071));
    let excuse = ledger.excuse(&down, at(8_071)).unwrap();
    assert_eq!((excuse.cause, excuse.by.as_str(), excuse.since), (Cause::Maintenance, "Nâng cấp", at(8_020)));
    assert!(ledger.excuse(&down, at(8_019)).is_none());
    ledger.cancel_maintenance(id, "it", at(8_100)).await.unwrap();
    assert!(matches!(ledger.cancel_maintenance(id, "it", at(8_101)).await, Err(AttributionError::Ended(_))));
    assert!(matches!(ledger.cancel_maintenance(77, "it", at(8_101)).await, Err(AttributionError::NotFound(77))));
    ledger.observe(&down, "tam-ky", State::Down, at(8_110), "refused");
    ledger.tick(at(8_115));
    assert_eq!(ledger.excuse(&down, at(8_115)), None);
    ledger.observe(&down, "tam-ky", State::Up, at(8_140), "");
    let rows = [(8_010, Some(8_020), "own"), (8_020, Some(8_100), "maintenance"), (8_100, Some(8_140), "own")];
    assert_eq!(downtime(ledger, "noi-bo").await, owned(&rows));
    let on_record = ledger.maintenance(at(8_000), at(8_500)).await.unwrap();
    assert_eq!(on_record.len(), 1);
    assert_eq!((on_record[0].cancelled, on_record[0].reason.as_str()), (Some(at(8_100)), "Nâng cấp"));
}

async fn overrides(ledger: &Ledger) {
    let judge = async |from, to, cause, subject: Subject| {
        let (reason, who) = ("tra soát".to_string(), "it".to_string());
        ledger.add_override(NewOverride { subject, from: at(from), to: at(to), cause, reason, who }, at(9_000)).await
    };
    assert!(matches!(judge(1, 2, Cause::Own, service("hue")).await, Err(AttributionError::UnknownSubject(_))));
    let accuse = judge(0, 100, Cause::Own, service("dvc")).await.unwrap();
    judge(50, 200, Cause::Dependency(DependencyCause::Power), service("dvc")).await.unwrap();
    let rows = downtime(ledger, "dvc").await;
    let expected = [(10, Some(50), "own"), (50, Some(200), "power"), (200, Some(300), "national")];
    assert_eq!(rows[..3], owned(&expected));
    let intervals = ledger.intervals(SubjectKind::Service, at(20), at(30)).await.unwrap();
    let judged = intervals.iter().find(|interval| *interval.subject.id == *"dvc").unwrap();
    assert_eq!((judged.cause.as_str(), judged.automatic_cause.as_str()), ("own", "national"));
    ledger.withdraw_override(accuse, "it", at(9_001)).await.unwrap();
    assert!(matches!(ledger.withdraw_override(accuse, "it", at(9_002)).await, Err(AttributionError::Ended(_))));
    assert_eq!(downtime(ledger, "dvc").await[0], (10, Some(50), "national".into()));
    let on_record = ledger.overrides(at(0), at(60), Some(&service("dvc"))).await.unwrap();
    assert_eq!(on_record.iter().map(|found| found.withdrawn).collect::<Vec<_>>(), [Some(at(9_001)), None]);
}

async fn sites_and_devices(ledger: &Ledger) {
    let uplink = dependency("uplink");
    ledger.observe(&camera(), "xa-1", State::Up, at(9_000), "");
    ledger.observe(&uplink, "ioc", State::Up, at(9_000), "");
    ledger.tick(at(9_010));
    assert_eq!(ledger.excuse_for_site("nvh-1", at(9_010)), None);
    ledger.observe(&uplink, "ioc", State::Down, at(9_015), "");
    let excuse = ledger.excuse_for_site("nvh-1", at(9_016)).unwrap();
    assert_eq!(excuse.dependency, "uplink");
    assert_eq!(ledger.excuse_for_site("nvh-2", at(9_016)), None);
    // The portal needs it through the national portal; that one is excused by it too.
    let mut excused: Vec<String> =
        ledger.excuses(at(9_016)).into_iter().map(|(subject, ..)| subject.id.to_string()).collect();
    excused.sort();
    assert_eq!(excused, ["cam-1", "dvc", "dvcqg"]);
    // A camera is found silent long after; that counts from then, and is the uplink's until it had time to come back.
    ledger.observe(&camera(), "xa-1", State::Down, at(9_190), "silent");
    ledger.observe(&uplink, "ioc", State::Up, at(9_200), "");
    ledger.tick(at(9_300));
    assert!(ledger.excuse(&camera(), at(9_300)).is_some());
    ledger.tick(at(9_400));
    ledger.tick(at(9_415));
    assert_eq!(ledger.excuse(&camera(), at(9_415)), None);
    let cameras = ledger.intervals(SubjectKind::Camera, at(9_100), at(9_500)).await.unwrap();
    let causes: Vec<(Timestamp, &str)> = cameras.iter().map(|c| (c.from, c.cause.as_str())).collect();
    assert_eq!(causes[1..], [(at(9_190), "own_uplink"), (at(9_200), "own")]);
    assert_eq!(ledger.agency_of(&camera()).as_deref(), Some("xa-1"));
}
