//! Two daemons of two sites: one gives signs of life to the other, which mails when they stop and when they come again.

use crate::site::{Site, leader, services};
use crate::support::daemon::Daemon;
use crate::support::{free_port, get, post, wait_for};
use std::time::Duration;

#[test]
fn a_peer_that_dies_is_an_incident_until_it_is_heard_again() {
    let (watcher, watched) = (Site::new(), Site::new());
    let own = watcher.rules.iter().find(|file| file.ends_with("self.yml")).expect("the shipped rules");
    let rest = format!(
        "rules: {{files: ['{}']}}\nhost: false\nincidents: {{group_wait: 1s, group_interval: 1s}}\nheartbeat:\n  in:\n    \
         - {{id: ban, agency: tam-ky, within: 20s}}\n    - {{id: prometheus, within: 10m, alert: ['alertname=\"Watchdog\"', \
         'cluster=\"tinh\"']}}\n{}",
        own.display(),
        services("tam-ky", &["dvc"], free_port())
    );
    watcher.configure(&["tam-ky"], &rest);
    let daemon = Daemon::start(watcher.dir(), &watcher.file(), watcher.port);
    let rest = format!(
        "rules: {{files: ['alerts/*.yml']}}\nhost: false\nheartbeat:\n  out:\n    - {{id: trung-tam, every: 10s, http: {{url: \
         'http://127.0.0.1:{}/api/ioc/v1/heartbeats/ban', method: POST}}}}\n    - {{id: hang-ngay, mail: lead-ioc, at: \
         \"00:00\"}}\n{}",
        watcher.port,
        services("ioc", &["dvc"], free_port())
    );
    watched.configure(&[], &rest);
    let mut peer = Daemon::start(watched.dir(), &watched.file(), watched.port);
    wait_for("a sign of life", Duration::from_secs(20), || {
        let (_, list) = get(watcher.port, "/api/ioc/v1/heartbeats").ok()?;
        let list: serde_json::Value = serde_json::from_str(&list).ok()?;
        list["heartbeats"][0]["last"].as_str().map(str::to_owned)
    });
    assert_eq!(peer.metric("ioc_heartbeats_sent_total{heartbeat=\"trung-tam\",result=\"failed\"}"), Some(0.0));
    let daily = watched.mail.wait(&leader("ioc"), 1, Duration::from_secs(20));
    assert!(daily[0].header("Message-ID").is_some_and(|id| id.contains("heartbeat")), "{daily:#?}");

    peer.kill();
    let mails = watcher.mail.wait(&leader("tam-ky"), 1, Duration::from_secs(60));
    assert!(mails[0].body.contains("ban"), "{mails:#?}");
    peer = Daemon::start(watched.dir(), &watched.file(), watched.port);
    let mails = watcher.mail.wait(&leader("tam-ky"), 2, Duration::from_secs(40));
    assert!(mails[1].answers(&mails[0]), "{mails:#?}");
    assert_eq!(watched.mail.to(&leader("ioc")).len(), 1, "once a day, whatever was restarted");

    // The Watchdog of a Prometheus.
    let missing = "ioc_heartbeat_last_timestamp_seconds{agency=\"ioc\",heartbeat=\"prometheus\"}";
    assert_eq!(daemon.metric(missing), None);
    let alert = r#"[{"labels": {"alertname": "Watchdog", "cluster": "tinh", "agency": "ioc", "severity": "info", "area": "self"}}]"#;
    assert_eq!(post(watcher.port, "/api/v2/alerts", "application/json", alert).unwrap().0, 200);
    wait_for("the Watchdog to be heard", Duration::from_secs(10), || daemon.metric(missing));
    assert_eq!(post(watcher.port, "/api/ioc/v1/heartbeats/khong-co", "text/plain", "").unwrap().0, 404);
    assert!(peer.stop(), "a clean end; its log:\n{}", peer.log());
}
