//! Mails that are told in one with others: a person's digest, and what goes beyond a person's limit. On a virtual clock,
//! with restarts in between: nothing is lost, nothing is told twice.

use crate::incidents::{alert, config, header};
use base64::Engine;
use ioc_watch::alert::Alert;
use ioc_watch::config::Config;
use ioc_watch::config::site::State;
use ioc_watch::incident::Incidents;
use ioc_watch::mail::Outbox;
use ioc_watch::mail::summary::Desk;
use ioc_watch::metrics::Metrics;
use ioc_watch::org::Org;
use ioc_watch::store::Store;
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;

/// Seconds since Wednesday 18 November 2026, 18:06:40 in Vietnam.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

/// Thursday, 7 o'clock.
const MORNING: i64 = 46_400;

struct House {
    config: Config,
    store: Store,
    metrics: Arc<Metrics>,
    desk: Desk,
}

impl House {
    async fn new(state: &State, dir: &Path) -> House {
        drop(config(dir, ([127, 0, 0, 1], 9).into(), "0s", "1m", "agency, area, service"));
        let file = dir.join("ioc-watch.yml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("email: cntt@tamky.vn.example}", "email: cntt@tamky.vn.example, digest: '07:00'}");
        let text = text.replace("give_up: 1h}}", "give_up: 1h}, limit: {mails: 4, per: 1h}}");
        let policies =
            "escalation:\n  - match: ['severity=\"critical\"']\n    steps: [{after: 0m, notify: [leader]}]\n";
        std::fs::write(&file, text + policies).unwrap();
        let config = ioc_watch::config::load(&file).unwrap();
        let store = Store::open(state, dir).await.unwrap();
        let desk = Desk::new(&config).unwrap();
        House { config, store, metrics: Arc::default(), desk }
    }

    /// The daemon begins, or begins again.
    async fn resume(&self, now: i64) -> (Incidents, Outbox) {
        let outbox = Outbox::open(self.store.clone(), self.metrics.clone()).await.unwrap();
        outbox.set_limit(self.config.email.as_ref().unwrap().limit);
        let org = Arc::new(Org::new(&self.config));
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        let stage = Incidents::resume(store, outbox.clone(), org, &self.config, metrics, at(now)).await.unwrap();
        (stage, outbox)
    }

    async fn receive(&self, stage: &Incidents, alerts: &[Alert], now: i64) {
        stage.receive(alerts, at(now)).await.unwrap();
        stage.tick(at(now)).await.unwrap();
    }
}

/// What the server takes: to whom, the subject, the texts.
async fn send(outbox: &Outbox, now: i64) -> Vec<(String, String, String)> {
    let mut sent = Vec::new();
    while let Some(waiting) = outbox.due(at(now), 1).await.unwrap().pop() {
        outbox.sent(&[waiting.id], at(now)).await.unwrap();
        let mail = &waiting.mail.message;
        sent.push((waiting.mail.person.clone(), unfolded(&header(mail, "Subject")), decoded(mail)));
    }
    sent
}

/// Encoded words as their reader sees them; those here are base64.
fn unfolded(subject: &str) -> String {
    let words = subject.split(' ').map(|word| {
        let inner = word.strip_prefix("=?utf-8?b?").and_then(|rest| rest.strip_suffix("?="));
        inner.map_or_else(|| word.to_owned(), base64_text)
    });
    words.collect::<Vec<_>>().join(" ").replace("\u{20}\u{20}", " ")
}

fn base64_text(text: &str) -> String {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn printable(body: &str) -> String {
    let body = body.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = body.as_str();
    while let Some((before, after)) = rest.split_once('=') {
        bytes.extend(before.bytes());
        let code = after.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or(b'='));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn decoded(mail: &str) -> String {
    let parts = mail.split("\r\n--").filter_map(|part| part.split_once("\r\n\r\n"));
    let text = parts.map(|(head, body)| match head {
        _ if head.contains("quoted-printable") => printable(body),
        _ if head.contains("base64") => base64_text(&body.split_whitespace().collect::<String>()),
        _ => body.to_owned(),
    });
    text.collect()
}

fn ended(alert: &Alert, now: i64) -> Alert {
    Alert { ends_at: Some(at(now)), ..alert.clone() }
}

pub async fn digest(state: &State, dir: &Path) {
    let house = House::new(state, dir).await;
    let (stage, outbox) = house.resume(0).await;
    let (first, second) = (alert("tam-ky", "warning", "dvc", at(0)), alert("tam-ky", "warning", "q", at(0)));
    house.receive(&stage, &[first.clone(), second], 0).await;
    house.receive(&stage, &[ended(&first, 600)], 600).await;
    assert_eq!(send(&outbox, 600).await, [], "the evening is quiet");
    assert_eq!(outbox.next_summary().await.unwrap(), Some(at(MORNING)), "the next working day");
    assert_eq!(house.metrics.own.emails.with_label_values(&["held"]).get(), 3);
    drop((stage, outbox));

    let (stage, outbox) = house.resume(700).await;
    assert_eq!(outbox.release(&house.desk, at(MORNING - 1)).await.unwrap(), 0);
    assert_eq!(outbox.release(&house.desk, at(MORNING)).await.unwrap(), 1);
    assert_eq!(outbox.release(&house.desk, at(MORNING)).await.unwrap(), 0, "once");
    let round = outbox.due(at(MORNING), 10).await.unwrap();
    assert_eq!(round.len(), 1);
    let (summary, number) = (&round[0].mail, round[0].id);
    assert_eq!((summary.person.as_str(), summary.about.agency.as_str()), ("it-tam-ky", "tam-ky"));
    let text = decoded(&summary.message);
    assert!(text.contains("Bản tin: 3 thư về 2 sự cố"), "{text}");
    assert!(
        text.contains("[Đã khắc phục]") && text.contains("/incidents/1") && text.contains("/incidents/2"),
        "{text}"
    );

    // The summary is refused: each incident it told of learns that.
    outbox.give_up(number, at(MORNING + 1), "550 no such user").await.unwrap();
    assert_eq!(outbox.failures(10).await.unwrap()[0].incidents, [1, 2]);
    stage.take_failures(at(MORNING + 2)).await.unwrap();
    for incident in [1, 2] {
        let timeline = stage.timeline(incident).await.unwrap();
        assert!(
            timeline.iter().any(|entry| entry.event == "undeliverable" && entry.person == "it-tam-ky"),
            "{incident}"
        );
    }
    assert_eq!(outbox.failures(10).await.unwrap(), []);
    house.store.close().await;
}

pub async fn limit(state: &State, dir: &Path) {
    let house = House::new(state, dir).await;
    let (stage, outbox) = house.resume(0).await;
    let flood: Vec<Alert> = (0..10).map(|n| alert("tam-ky", "critical", &format!("s{n}"), at(0))).collect();
    house.receive(&stage, &flood, 0).await;
    let single = send(&outbox, 0).await;
    assert_eq!(single.len(), 2, "half of the limit at once: {single:?}");
    assert_eq!(outbox.next_summary().await.unwrap(), Some(at(1_800)));
    drop((stage, outbox));

    let (stage, outbox) = house.resume(10).await;
    // What comes later joins what waits.
    house.receive(&stage, &[ended(&flood[9], 900)], 900).await;
    assert_eq!(send(&outbox, 900).await, []);
    assert_eq!(outbox.release(&house.desk, at(1_799)).await.unwrap(), 0);
    assert_eq!(outbox.release(&house.desk, at(1_800)).await.unwrap(), 1);
    let summaries = send(&outbox, 1_800).await;
    let [(person, subject, text)] = &summaries[..] else { panic!("{summaries:?}") };
    assert_eq!(person, "lead-tam-ky");
    assert!(subject.contains("[Nghiêm trọng]"), "{subject}");
    assert!(text.contains("Gộp 9 thư về 8 sự cố"), "{text}");
    let told: String = single.iter().map(|(_, _, text)| text.as_str()).chain([text.as_str()]).collect();
    for incident in 1..=10 {
        assert!(told.contains(&format!("/incidents/{incident}")), "incident {incident} is told");
    }
    assert_eq!(outbox.next_summary().await.unwrap(), None, "nothing is left");

    // All is over: never more than four in an hour.
    let over: Vec<Alert> = flood[..9].iter().map(|alert| ended(alert, 2_000)).collect();
    house.receive(&stage, &over, 2_000).await;
    assert_eq!(send(&outbox, 2_000).await, []);
    let due = outbox.next_summary().await.unwrap().unwrap();
    assert!(at(3_500) <= due && due <= at(3_600), "{due}");
    assert_eq!(outbox.release(&house.desk, due).await.unwrap(), 1);
    let last = send(&outbox, 3_600).await;
    assert!(last.len() == 1 && last[0].2.contains("Gộp 9 thư về 9 sự cố"), "{last:?}");
    house.store.close().await;
}
