//! Stories of silences and inhibition, from alert to mail, on a virtual clock and over a real database.

use crate::incidents::{alert, config, header};
use ioc_watch::alert::Alert;
use ioc_watch::config::{self, Config};
use ioc_watch::incident::silence::Silence;
use ioc_watch::incident::{Deed, Done, Incidents};
use ioc_watch::mail::Outbox;
use ioc_watch::matcher::Matcher;
use ioc_watch::metrics::Metrics;
use ioc_watch::org::Org;
use ioc_watch::store::Store;
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use std::sync::Arc;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

struct House {
    stage: Incidents,
    outbox: Outbox,
    store: Store,
    config: Config,
    now: i64,
}

impl House {
    async fn new(store: Store, config: Config, now: i64) -> House {
        let metrics: Arc<Metrics> = Arc::default();
        let org = Arc::new(Org::new(&config));
        let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
        let stage = Incidents::resume(store.clone(), outbox.clone(), org, &config, metrics, at(now)).await.unwrap();
        House { stage, outbox, store, config, now }
    }

    async fn restart(self) -> House {
        House::new(self.store, self.config, self.now).await
    }

    /// Time passes, second by second; the mails written meanwhile: the second, the person, `+` or `-` for over.
    async fn until(&mut self, second: i64) -> Vec<String> {
        let mut mails = Vec::new();
        for now in self.now..=second {
            self.stage.tick(at(now)).await.unwrap();
            while let Some(waiting) = self.outbox.due(at(now), 1).await.unwrap().pop() {
                self.outbox.sent(&[waiting.id], at(now)).await.unwrap();
                let subject = header(&waiting.mail.message, "Subject");
                let is_over = subject.contains("[Resolved]");
                mails.push(format!("{now} {} {}", waiting.mail.person, if is_over { '-' } else { '+' }));
            }
        }
        self.now = second;
        mails
    }

    async fn receive(&self, alerts: &[Alert]) {
        self.stage.receive(alerts, at(self.now)).await.unwrap();
    }

    async fn silence(&self, matcher: &str, from: i64, to: i64) -> String {
        let wanted = Silence {
            id: String::new(),
            matchers: vec![Matcher::parse(matcher).unwrap()],
            starts_at: at(from),
            ends_at: at(to),
            updated_at: at(from),
            created_by: "it-ioc".into(),
            comment: "nâng cấp".into(),
        };
        self.stage.set_silence(wanted, |_| true, at(self.now)).await.unwrap()
    }

    async fn events(&self, incident: i64) -> Vec<String> {
        self.stage.timeline(incident).await.unwrap().into_iter().map(|entry| entry.event).collect()
    }
}

fn ended(alert: &Alert, second: i64) -> Alert {
    Alert { ends_at: Some(at(second)), ..alert.clone() }
}

pub async fn suite(store: &Store, dir: &Path) {
    config(dir, ([127, 0, 0, 1], 9).into(), "30s", "5m", "agency, area");
    let file = dir.join("ioc-watch.yml");
    let text = std::fs::read_to_string(&file).unwrap().replace("language: vi", "language: en");
    std::fs::write(&file, &text).unwrap();
    let plain = config::load(&file).unwrap();
    Box::pin(silenced_after_it_was_told_and_over(House::new(store.clone(), plain.clone(), 0).await)).await;
    silenced_before_it_was_told(House::new(store.clone(), plain.clone(), 10_000).await).await;
    silenced_from_its_page(House::new(store.clone(), plain, 20_000).await).await;
    let rule = "inhibit: [{source: ['service=broker'], target: ['severity=warning'], equal: [agency]}], group_by:";
    std::fs::write(&file, text.replace("group_by:", rule).replace("[agency, area]", "[agency, area, service]"))
        .unwrap();
    Box::pin(inhibited(House::new(store.clone(), config::load(&file).unwrap(), 30_000).await)).await;
}

/// Alertmanager sends no mail that it is over; the people would believe to this day that it is not.
async fn silenced_after_it_was_told_and_over(mut house: House) {
    let one = alert("tam-ky", "warning", "dvc", at(0));
    house.receive(std::slice::from_ref(&one)).await;
    assert_eq!(house.until(100).await, ["30 it-tam-ky +"]);
    house.silence("service=dvc", 100, 5_000).await;
    // Nothing new, nor does it escalate after its 4 hours; a restart forgets nothing.
    assert_eq!(house.until(200).await, [""; 0]);
    let mut house = house.restart().await;
    assert_eq!(house.until(400).await, [""; 0]);
    let incident = house.stage.open()[0].id;
    assert_eq!(house.events(incident).await, ["opened", "fired", "escalated", "mailed", "excused"]);
    assert_eq!(house.stage.listed(at(400))[0].silenced_by.len(), 1);
    assert_eq!(house.until(401).await, [""; 0]);
    house.receive(&[ended(&one, 401)]).await;
    assert_eq!(house.until(410).await, ["401 it-tam-ky -"]);
    assert_eq!(house.until(1_000).await, [""; 0]);
    assert!(house.stage.open().is_empty());
}

/// Nobody hears of what comes and goes meanwhile; what fires at its end is told then.
async fn silenced_before_it_was_told(mut house: House) {
    let id = house.silence("service=~dvc.*", 10_000, 11_000).await;
    let (one, two) = (alert("tam-ky", "warning", "dvc", at(10_000)), alert("tam-ky", "warning", "dvc-2", at(10_000)));
    house.receive(&[one.clone(), two.clone()]).await;
    assert_eq!(house.until(10_500).await, [""; 0]);
    house.receive(&[ended(&one, 10_500)]).await;
    assert_eq!(house.until(11_100).await, ["11030 it-tam-ky +"]);
    assert_eq!(house.stage.silence(&id).unwrap().ends_at, at(11_000));
    house.receive(&[ended(&two, 11_100)]).await;
    assert_eq!(house.until(12_000).await, ["11330 it-tam-ky -"]);
}

async fn silenced_from_its_page(mut house: House) {
    let one = alert("tam-ky", "critical", "dvc", at(20_000));
    house.receive(std::slice::from_ref(&one)).await;
    assert_eq!(house.until(20_040).await, ["20030 it-tam-ky +", "20030 lead-tam-ky +"]);
    let incident = house.stage.open()[0].id;
    let lasts = SignedDuration::from_hours(2);
    let no_reason = Deed::Silence { reason: " ".into(), lasts };
    assert_eq!(house.stage.act(incident, "it-tam-ky", no_reason, at(20_040)).await.unwrap(), Done::NoText);
    let deed = Deed::Silence { reason: "nhà mạng đang sửa".into(), lasts };
    let done = house.stage.act(incident, "it-tam-ky", deed, at(20_040)).await.unwrap();
    assert_eq!(done, Done::Silenced(at(20_040 + 7_200)));
    // Another of the same agency and area comes: it is silenced too. The leader above is not told after an hour.
    house.receive(&[alert("tam-ky", "critical", "dvc-2", at(20_041))]).await;
    assert_eq!(house.until(24_500).await, [""; 0]);
    let silence = house.stage.silences(at(24_500)).remove(0);
    let matchers: Vec<String> = silence.matchers.iter().map(ToString::to_string).collect();
    assert_eq!(
        (matchers.join(" "), silence.comment.as_str()),
        ("agency=\"tam-ky\" area=\"service\"".into(), "nhà mạng đang sửa")
    );
    house.stage.end_silence(&silence.id, |_| true, at(24_500)).await.unwrap();
    let mails = house.until(24_600).await;
    assert!(mails.contains(&"24530 it-tam-ky +".to_string()), "{mails:?}");
    let over = [ended(&one, 24_600), ended(&alert("tam-ky", "critical", "dvc-2", at(20_041)), 24_600)];
    house.receive(&over).await;
    house.until(25_500).await;
    assert!(house.stage.open().is_empty());
}

async fn inhibited(mut house: House) {
    let source = alert("tam-ky", "critical", "broker", at(30_000));
    let target = alert("tam-ky", "warning", "dvc", at(30_000));
    let other = alert("tinh", "warning", "dvc", at(30_000));
    // In one batch: nobody is told of the target, though it stands before its source.
    house.receive(&[target.clone(), source.clone(), other.clone()]).await;
    assert_eq!(house.until(30_100).await, ["30030 it-tam-ky +", "30030 lead-tam-ky +", "30030 lead-tinh +"]);
    let listed = house.stage.listed(at(30_100));
    let inhibited: Vec<_> = listed.iter().filter(|listed| !listed.inhibited_by.is_empty()).collect();
    assert_eq!(inhibited.len(), 1);
    assert_eq!((&inhibited[0].alert, &inhibited[0].inhibited_by), (&target, &vec![source.fingerprint()]));
    // A restart finds it again.
    let mut house = house.restart().await;
    assert_eq!(house.until(30_400).await, [""; 0]);
    // The source is over, the target is not: now it is told.
    house.receive(&[ended(&source, 30_400)]).await;
    let mails = house.until(30_500).await;
    assert_eq!(mails, ["30400 it-tam-ky -", "30400 lead-tam-ky -", "30430 it-tam-ky +"]);
    // And told that it ended, though the source came back meanwhile.
    house.receive(&[alert("tam-ky", "critical", "broker", at(30_500))]).await;
    house.receive(&[ended(&target, 30_500)]).await;
    let mails = house.until(30_800).await;
    assert!(mails.contains(&"30730 it-tam-ky -".to_string()), "{mails:?}");
}
