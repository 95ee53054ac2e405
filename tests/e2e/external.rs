//! Alerts from elsewhere: a real Prometheus that evaluates the shipped rules and delivers here, and amtool.

use crate::site::{Site, leader, query, services};
use crate::support::daemon::Daemon;
use crate::support::nginx::Nginx;
use crate::support::prometheus::Prometheus;
use crate::support::wait_for;
use std::process::Command;
use std::time::Duration;

#[test]
fn external_alerts_from_real_prometheus_and_amtool() {
    let site = Site::new();
    let mut nginx = Nginx::start(site.dir(), &site.authority.server(site.dir(), "web", false), "Dịch vụ công");
    let rest = "rules: {evaluate: external}\nhost: false\nincidents: {group_wait: 1s, group_interval: 2s}\n";
    site.configure(&["tam-ky", "hoi-an"], &format!("{rest}{}", services("tam-ky", &["dvc"], nginx.port)));
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    let _prometheus = Prometheus::start(site.dir(), site.port, &site.rules, Some(site.port));
    wait_for("the portal to be up", Duration::from_secs(20), || {
        (!query(site.port, "ioc_service_up == 1").is_empty()).then_some(())
    });

    nginx.stop();
    let first = site.mail.wait(&leader("tam-ky"), 1, Duration::from_secs(30));
    // Only Prometheus evaluates rules.
    assert!(query(site.port, "ALERTS").is_empty());
    let listed = amtool(site.port, &["alert", "query", "--output=json", "service=dvc"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[0]["labels"]["alertname"], "ServiceDown", "{listed}");
    nginx.resume();
    let mails = site.mail.wait(&leader("tam-ky"), 2, Duration::from_secs(60));
    assert_eq!((first.len(), mails.len()), (1, 2), "{mails:#?}");
    assert!(mails[1].answers(&mails[0]), "{mails:#?}");

    let labels = ["alertname=Thu", "agency=hoi-an", "area=service", "severity=warning", "service=amtool"];
    let add = [&["alert", "add"][..], &labels, &["--annotation=summary=Cảnh báo thử"]].concat();
    amtool(site.port, &add);
    site.mail.wait(&leader("hoi-an"), 1, Duration::from_secs(15));
    let listed = amtool(site.port, &["alert", "query", "--output=simple"]);
    assert!(listed.contains("Cảnh báo thử"), "{listed}");
    silences(site.port);
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}

/// The life of a silence, as the people who know Alertmanager lead it.
fn silences(port: u16) {
    let shown = |flags: &[&str]| {
        let listed = amtool(port, &[&["alert", "query", "--output=simple"], flags].concat());
        listed.contains("Cảnh báo thử")
    };
    let add = ["silence", "add", "--author=cán bộ trực", "--comment=nâng cấp", "--duration=2h"];
    let id = amtool(port, &[&add[..], &["service=amtool", "agency=~hoi.*"]].concat());
    let id = id.trim();
    let listed = amtool(port, &["silence", "query", "--output=json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((listed[0]["id"].as_str(), listed[0]["comment"].as_str()), (Some(id), Some("nâng cấp")), "{listed}");
    assert!(!shown(&[]) && shown(&["--silenced"]));

    amtool(port, &["silence", "update", "--duration=3h", id]);
    assert_eq!(amtool(port, &["silence", "query", "--quiet"]).trim(), id);
    amtool(port, &["silence", "expire", id]);
    assert_eq!(amtool(port, &["silence", "query", "--quiet"]).trim(), "");
    assert_eq!(amtool(port, &["silence", "query", "--expired", "--within=1h", "--quiet"]).trim(), id);
    assert!(shown(&[]));
}

fn amtool(port: u16, arguments: &[&str]) -> String {
    let output = Command::new("amtool")
        .arg(format!("--alertmanager.url=http://127.0.0.1:{port}"))
        .args(arguments)
        .output()
        .expect("amtool is installed");
    assert!(output.status.success(), "amtool {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
