//! Programs that send alerts here: a pair of Prometheus that evaluate the same rules, vmalert, and amtool with all that it
//! can do to alerts and silences.

use crate::site::{Site, leader};
use crate::support::daemon::Daemon;
use crate::support::prometheus::Prometheus;
use crate::support::{Process, free_port, get, send, wait_for};
use jiff::Timestamp;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// An alert that fires as long as somebody evaluates it.
fn rule(dir: &Path, name: &str, agency: &str, expression: &str) -> PathBuf {
    let file = dir.join(format!("{name}.yml"));
    let text = format!(
        "groups: [{{name: {name}, interval: 1s, rules: [{{alert: {name}, expr: {expression}, \
         labels: {{agency: {agency}, area: service, severity: critical}}, annotations: {{summary: Cảnh báo thử}}}}]}}]\n"
    );
    std::fs::write(&file, text).expect("a writable directory");
    file
}

fn site() -> (Site, Daemon) {
    let site = Site::new();
    let rest = "rules: {evaluate: external}\nhost: false\n\
        incidents: {group_wait: 1s, group_interval: 2s, resolve_timeout: 10s}\n";
    site.configure(&["tam-ky", "hoi-an"], rest);
    let daemon = Daemon::start(site.dir(), &site.file(), site.port);
    (site, daemon)
}

/// The one alert of this name, if it fires.
fn listed(port: u16, name: &str) -> Option<Value> {
    let (status, body) = send(port, "GET", &format!("/api/v2/alerts?filter=alertname%3D{name}"), None).ok()?;
    assert_eq!(status, 200, "{body}");
    let listed: Vec<Value> = serde_json::from_str(&body).expect("JSON");
    assert!(listed.len() < 2, "one alert, whoever sends it: {body}");
    listed.into_iter().next()
}

fn time(alert: &Value, key: &str) -> Timestamp {
    alert[key].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{key} of {alert}"))
}

/// Waits until somebody posted the alert again this long after now.
fn outlives(port: u16, name: &str, seconds: i64) -> Value {
    let moment = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    wait_for("the alert to be posted again and again", Duration::from_secs(30), || {
        let alert = listed(port, name).unwrap_or_else(|| panic!("{name} still fires"));
        (time(&alert, "updatedAt") > moment).then_some(alert)
    })
}

#[test]
fn a_pair_of_prometheus_is_one_sender_and_the_death_of_one_is_no_end() {
    let (site, mut daemon) = site();
    let rules = [rule(site.dir(), "Pair", "tam-ky", "vector(1)")];
    let first = Prometheus::start_replica(site.dir(), "a", &rules, site.port);
    let alert = wait_for("the alert of the first", Duration::from_secs(30), || listed(site.port, "Pair"));
    let began = time(&alert, "startsAt");
    assert!(alert["labels"].get("replica").is_none(), "{alert}");
    let second = Prometheus::start_replica(site.dir(), "b", &rules, site.port);
    site.mail.wait(&leader("tam-ky"), 1, Duration::from_secs(20));

    // One dies and comes back, knowing nothing of what it had seen: the other said for 4 s at most that it fires.
    drop(second);
    let alert = outlives(site.port, "Pair", 5);
    assert_eq!(time(&alert, "startsAt"), began);
    let second = Prometheus::start_replica(site.dir(), "b", &rules, site.port);
    wait_for("the second to have sent", Duration::from_secs(20), || {
        let (_, metrics) = get(second.port, "/metrics").ok()?;
        let mut sent = metrics.lines().filter(|line| line.starts_with("prometheus_notifications_sent_total{"));
        sent.any(|line| !line.ends_with(" 0")).then_some(())
    });
    drop(first);
    let alert = outlives(site.port, "Pair", 5);
    assert_eq!(time(&alert, "startsAt"), began, "it began when the first of them saw it");
    assert!(time(&alert, "endsAt") > Timestamp::now(), "{alert}");
    assert_eq!(site.mail.to(&leader("tam-ky")).len(), 1, "one incident, told once");

    // Nobody says any more that it fires.
    drop(second);
    wait_for("the alert to end", Duration::from_secs(15), || listed(site.port, "Pair").is_none().then_some(()));
    let mails = site.mail.wait(&leader("tam-ky"), 2, Duration::from_secs(20));
    assert!(mails.len() == 2 && mails[1].answers(&mails[0]), "{mails:#?}");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}

#[test]
fn vmalert_delivers_here() {
    let (site, mut daemon) = site();
    let prometheus = Prometheus::start(site.dir(), site.port, &[], None);
    wait_for("the first scrape", Duration::from_secs(20), || {
        (!prometheus.query("ioc_watch_build_info").is_empty()).then_some(())
    });
    let source = format!("http://127.0.0.1:{}", prometheus.port);
    let file = rule(site.dir(), "FromVmalert", "hoi-an", "ioc_watch_build_info == 1");
    let us = format!("http://127.0.0.1:{}", site.port);
    let vmalert = {
        let child = Command::new("vmalert")
            .arg(format!("-rule={}", file.display()))
            .args([format!("-datasource.url={source}"), format!("-notifier.url={us}")])
            .args(["-evaluationInterval=1s", "-rule.resendDelay=1s", "-datasource.queryStep=1s"])
            .arg(format!("-httpListenAddr=127.0.0.1:{}", free_port()))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(site.dir().join("vmalert.log")).expect("a writable directory"))
            .spawn();
        Process(child.expect("victoria-metrics is installed"))
    };
    let said = || std::fs::read_to_string(site.dir().join("vmalert.log")).unwrap_or_default();
    site.mail.wait(&leader("hoi-an"), 1, Duration::from_secs(30));
    let alert = listed(site.port, "FromVmalert").unwrap_or_else(|| panic!("it fires; vmalert says {}", said()));
    assert_eq!(alert["annotations"]["summary"], "Cảnh báo thử");
    outlives(site.port, "FromVmalert", 3);
    drop(vmalert);
    let mails = site.mail.wait(&leader("hoi-an"), 2, Duration::from_secs(60));
    assert!(mails.len() == 2 && mails[1].answers(&mails[0]), "{mails:#?}");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}

/// amtool: whether it was content, what it printed, and what it complained of.
fn amtool(port: u16, arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new("amtool")
        .arg(format!("--alertmanager.url=http://127.0.0.1:{port}"))
        .args(arguments)
        .output()
        .expect("amtool is installed");
    let [printed, complained] = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    (output.status.success(), printed, complained)
}

#[test]
fn amtool_adds_ends_and_finds_alerts_and_carries_silences_over() {
    let (site, mut daemon) = site();
    let good = |arguments: &[&str]| {
        let (is_good, printed, complained) = amtool(site.port, arguments);
        assert!(is_good, "amtool {arguments:?}: {printed}{complained}");
        printed
    };
    let bad = |arguments: &[&str], expected: &str| {
        let (is_good, printed, complained) = amtool(site.port, arguments);
        let is_said = printed.contains(expected) || complained.contains(expected);
        assert!(!is_good && is_said, "amtool {arguments:?}: {printed}{complained}");
    };
    let labels = ["agency=hoi-an", "area=service", "severity=warning", "note=\"a \\\"b\\\" c\""];
    good(&[&["alert", "add", "alertname=Short", "--annotation=summary=Cảnh báo ngắn"][..], &labels].concat());
    good(&[&["alert", "add", "alertname=Long", "--end=2126-01-01T00:00:00Z"][..], &labels].concat());
    let found = |matchers: &[&str]| {
        let said = good(&[&["alert", "query", "--output=json"][..], matchers].concat());
        let listed: Vec<Value> = serde_json::from_str(&said).expect("JSON");
        let mut names: Vec<String> =
            listed.iter().filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect();
        names.sort();
        names.join(" ")
    };
    let rows: [(&[&str], &str); 6] = [
        (&[], "Long Short"),
        (&["alertname=Short"], "Short"),
        (&["alertname=~S.*|X", "agency!=tam-ky"], "Short"),
        (&["alertname!~S.*"], "Long"),
        (&["note=\"a \\\"b\\\" c\""], "Long Short"),
        (&["agency=tam-ky"], ""),
    ];
    for (matchers, expected) in rows {
        assert_eq!(found(matchers), expected, "{matchers:?}");
    }
    assert!(good(&["config", "routes", "show"]).contains("receiver: responsible"));
    assert!(good(&["config", "show"]).contains("resolve_timeout: 10s"));

    // Without an end it is over after resolve_timeout; the other fires on until its end is said.
    wait_for("the short alert to end", Duration::from_secs(20), || (found(&[]) == "Long").then_some(()));
    good(
        &[
            &["alert", "add", "alertname=Long", "--end=2026-01-02T00:00:00Z", "--start=2026-01-01T00:00:00Z"][..],
            &labels,
        ]
        .concat(),
    );
    assert_eq!(found(&[]), "Long", "an end before its beginning is that of an earlier firing");
    let now = Timestamp::now().to_string();
    good(&[&["alert", "add", "alertname=Long", &format!("--end={now}")][..], &labels].concat());
    assert_eq!(found(&[]), "");

    let id = good(&["silence", "add", "--author=trực", "--comment=nâng cấp", "--duration=1h", "agency=hoi-an"]);
    good(&["silence", "add", "--author=trực", "--comment=khác", "--duration=1h", "alertname=~X.*", "agency!=tam-ky"]);
    let kept = good(&["silence", "query", "--output=json"]);
    let file = site.dir().join("silences.json");
    std::fs::write(&file, &kept).expect("a writable directory");
    let ids = || good(&["silence", "query", "--quiet"]).lines().map(str::to_owned).collect::<Vec<_>>();
    good(&[&["silence", "expire"][..], &ids().iter().map(String::as_str).collect::<Vec<_>>()].concat());
    assert!(ids().is_empty());
    good(&["silence", "import", &file.display().to_string()]);
    let again: Vec<Value> = serde_json::from_str(&good(&["silence", "query", "--output=json"])).expect("JSON");
    let before: Vec<Value> = serde_json::from_str(&kept).expect("JSON");
    let essence = |silences: &[Value]| {
        let mut essence: Vec<String> =
            silences.iter().map(|silence| format!("{} {}", silence["comment"], silence["matchers"])).collect();
        essence.sort();
        essence
    };
    assert_eq!(essence(&again), essence(&before));
    assert!(again.iter().all(|silence| silence["id"] != id.trim()), "what was over is a new silence");

    bad(&["silence", "expire", "6d83a1a1-1b2c-4b2c-8b2c-6d83a1a11b2c"], "404");
    bad(&["silence", "add", "--author=x", "--comment=y", "agency=x", "alertname=~("], "missing closing )");
    bad(&["silence", "add", "--author=x", "--comment=y", "alertname="], "empty string");
    bad(&["silence", "update", "--duration=1h", "6d83a1a1-1b2c-4b2c-8b2c-6d83a1a11b2c"], "404");
    bad(&["alert", "add", "alertname=Bad", "1a=x"], "1a=x");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}
