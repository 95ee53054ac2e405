//! Mails as a mail client sees them (mblaze), and their headers as another implementation reads them (Python's `email`).

use crate::incidents::{alert, config};
use crate::support::mailbox::MailServer;
use ioc_watch::alert::Alert;
use ioc_watch::config::site::State;
use ioc_watch::incident::{Deed, Incidents};
use ioc_watch::mail::Outbox;
use ioc_watch::mail::send::{Pause, Sender};
use ioc_watch::metrics::Metrics;
use ioc_watch::org::Org;
use ioc_watch::store::Store;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use unicode_normalization::is_nfc;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

/// A mail as Python's `email` reads it.
#[derive(Debug, Deserialize)]
struct Read {
    to: String,
    subject: String,
    headers: BTreeMap<String, String>,
    longest: usize,
    defects: usize,
}

const READER: &str = r#"
import email, email.policy, json, os, sys
for name in sorted(os.listdir(sys.argv[1])):
    raw = open(os.path.join(sys.argv[1], name), "rb").read()
    message = email.message_from_bytes(raw, policy=email.policy.default)
    defects = len(message.defects) + sum(len(value.defects) for value in message.values())
    defects += sum(len(part.defects) for part in message.walk())
    head = raw.replace(b"\r\n", b"\n").split(b"\n\n")[0]
    print(json.dumps({"to": message["X-RcptTo"], "subject": str(message["Subject"]), "defects": defects,
        "headers": {name: str(value) for name, value in message.items()}, "longest": max(map(len, head.split(b"\n")))}))
"#;

/// Three incidents of one agency, with names and words that tempt a header: each is told, changes, is acknowledged, is
/// reminded of, and ends.
async fn story(stage: &Incidents) -> usize {
    let long =
        "Cổng dịch vụ công trực tuyến thành phố Tam Kỳ không phản hồi, người dân không nộp được hồ sơ trực tuyến";
    let subjects =
        [("dvc", long), ("q", "Q-office \"quá tải\" =?utf-8?b?eA==?= <b>"), ("m", "Một cửa điện tử bị treo")];
    let fire = |service: &str, summary: &str, second| Alert {
        annotations: [("summary".to_owned(), summary.to_owned()), ("summary_en".to_owned(), summary.to_owned())].into(),
        ..alert("tam-ky", "critical", service, at(second))
    };
    let receive = async |alerts: &[Alert], second| {
        stage.receive(alerts, at(second)).await.unwrap();
        stage.tick(at(second)).await.unwrap();
    };
    for (service, summary) in subjects {
        receive(&[fire(service, summary, 0)], 0).await;
    }
    for (service, summary) in subjects {
        let mut second = fire(service, summary, 600);
        second.labels.alter(|texts| drop(texts.insert("alertname".into(), "ServiceDown".into())));
        receive(&[second], 600).await;
    }
    stage.tick(at(2 * 3_600)).await.unwrap();
    for incident in stage.open() {
        stage.act(incident.id, "it-tam-ky", Deed::Acknowledge, at(2 * 3_600 + 60)).await.unwrap();
    }
    // The acknowledgement expires.
    stage.tick(at(11 * 3_600)).await.unwrap();
    for (service, summary) in subjects {
        let mut first = fire(service, summary, 0);
        first.ends_at = Some(at(12 * 3_600));
        let mut second = first.clone();
        second.labels.alter(|texts| drop(texts.insert("alertname".into(), "ServiceDown".into())));
        receive(&[first, second], 12 * 3_600).await;
    }
    subjects.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_client_shows_one_thread_an_incident_and_headers_are_as_the_standards_say() {
    ioc_watch::install_tls_provider();
    let dir = tempfile::tempdir().unwrap();
    let server = MailServer::start_with(dir.path(), "{}");
    let config = config(dir.path(), ([127, 0, 0, 1], server.port).into(), "0s", "1m", "agency, area, service");
    let store = Store::open(&State::Sqlite, dir.path()).await.unwrap();
    let metrics: Arc<Metrics> = Arc::default();
    let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
    let org = Arc::new(Org::new(&config));
    let stage = Incidents::resume(store.clone(), outbox.clone(), org, &config, metrics, at(0)).await.unwrap();
    let n_incidents = story(&stage).await;
    let late = || at(24 * 3_600);
    let email = config.email.as_ref().unwrap();
    let mut sender = Sender::new(outbox.clone(), email, late, CancellationToken::new()).unwrap();
    while sender.pass().await.unwrap() == Pause::None {}

    let new = server.maildir().join("new");
    let mails = read(&new);
    let mut by_reader: BTreeMap<&str, usize> = BTreeMap::new();
    for mail in &mails {
        *by_reader.entry(&mail.to).or_default() += 1;
        check(mail);
    }
    assert!(by_reader.len() >= 3 && mails.len() >= 8 * n_incidents, "{by_reader:?}");
    assert!(
        mails.iter().any(|mail| mail.subject.contains("Q-office \"quá tải\" =?utf-8?b?eA==?=")),
        "as it was written"
    );
    for (reader, count) in &by_reader {
        let threads = threads_of(&new, reader);
        assert_eq!(threads.iter().sum::<usize>(), *count, "{reader}: every mail is shown");
        assert_eq!(threads.len(), n_incidents, "{reader}: one thread an incident: {threads:?}");
    }
    store.close().await;
}

fn check(mail: &Read) {
    let Read { subject, headers, longest, defects, .. } = mail;
    assert_eq!(*defects, 0, "{mail:?}");
    assert!(is_nfc(subject) && subject.chars().count() <= 60, "{subject:?} has {} characters", subject.chars().count());
    assert!(!subject.chars().any(char::is_control), "{subject:?}");
    assert!(*longest <= 998, "a line of {longest} bytes");
    assert_eq!(headers["Auto-Submitted"], "auto-generated");
    assert_eq!(headers["List-Id"], "<incidents.vn.example>");
    for name in ["From", "To", "Date", "Message-ID", "MIME-Version"] {
        assert!(headers.contains_key(name), "{name} is missing: {mail:?}");
    }
    let is_answer = headers.contains_key("In-Reply-To");
    assert_eq!(subject.starts_with("Re: "), is_answer, "{mail:?}");
    assert_eq!(headers.contains_key("References"), is_answer, "{mail:?}");
}

fn read(dir: &Path) -> Vec<Read> {
    let output = Command::new("/usr/bin/python3").args(["-c", READER]).arg(dir).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The sizes of the threads that mblaze makes of a reader's mails: in its list an answer is indented.
fn threads_of(dir: &Path, reader: &str) -> Vec<usize> {
    let of_reader: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|file| std::fs::read_to_string(file).unwrap().contains(&format!("X-RcptTo: {reader}")))
        .collect();
    let mut mthread =
        Command::new("mthread").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("mblaze is installed");
    std::io::Write::write_all(&mut mthread.stdin.take().unwrap(), (of_reader.join("\n") + "\n").as_bytes()).unwrap();
    let output = mthread.wait_with_output().unwrap();
    assert!(output.status.success());
    let mut sizes: Vec<usize> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match (line.starts_with(' '), sizes.last_mut()) {
            (true, Some(size)) => *size += 1,
            _ => sizes.push(1),
        }
    }
    sizes
}
