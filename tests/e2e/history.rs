//! The history beyond one process: its past outlives a restart in the database, with the gap; and a Prometheus that
//! scrapes the daemon answers its rules in the history's place, until it dies, which ends no alert.

use crate::site::{Site, leader, number, query, services};
use crate::support::daemon::Daemon;
use crate::support::prometheus::Prometheus;
use crate::support::{encode, get, wait_for};
use serde_json::Value;
use std::time::{Duration, SystemTime};

const SAMPLED: &str = "count_over_time(ioc_agency_info{agency=\"tam-ky\"}[1h])";

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970").as_secs_f64()
}

#[test]
fn the_past_outlives_a_restart_and_the_time_between_stays_a_gap() {
    let site = Site::new();
    site.configure(&["tam-ky"], "host: false\n");
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    let before =
        wait_for("some samples", Duration::from_secs(30), || number(site.port, SAMPLED).filter(|count| *count >= 4.0));
    let first = now();
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
    let down = now();
    std::thread::sleep(Duration::from_secs(4));
    let up = now();
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    let after = wait_for("samples of both lives", Duration::from_secs(30), || {
        number(site.port, SAMPLED).filter(|count| *count >= before + 3.0)
    });
    // The gap holds no sample: not one for each second since the first.
    assert!(after < now() - first + before - 2.0, "{after} samples, {before} before the restart");
    let path = format!(
        "/api/v1/query_range?query={}&start={:.3}&end={:.3}&step=0.5",
        encode("count_over_time(ioc_agency_info{agency=\"tam-ky\"}[1s])"),
        first - 3.0,
        now()
    );
    let (status, body) = get(site.port, &path).expect("the daemon answers");
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let values = answer["data"]["result"][0]["values"].as_array().expect("values");
    let times: Vec<f64> = values.iter().map(|point| point[0].as_f64().expect("a time")).collect();
    assert!(times.iter().any(|time| *time < down) && times.iter().any(|time| *time > up), "{times:?}");
    assert!(!times.iter().any(|time| (down + 1.1..up).contains(time)), "{down} to {up}: {times:?}");
    assert!(daemon.metric("ioc_history_kept_series").is_some_and(|kept| kept > 10.0), "{}", daemon.log());
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}

/// The alert reads what the daemon measures together with what the rule before recorded.
const RULES: &str = "groups: [{name: own, interval: 1s, rules: [{record: 'service:own_up:last', expr: ioc_service_up}, \
                     {alert: PortalDown, expr: 'ioc_service_up == 0 and on (agency, service) service:own_up:last == 0', labels: \
                     {severity: warning, area: service}, annotations: {summary: 'Cổng {{ $labels.service }} ngừng', summary_en: \
                     '{{ $labels.service }} is down', description: x, description_en: x, runbook: x}}]}]\n";

#[test]
fn a_prometheus_answers_the_rules_and_its_death_ends_no_alert() {
    let site = Site::new();
    let prometheus = Prometheus::start(site.dir(), site.port, &[], None);
    std::fs::write(site.dir().join("own.yml"), RULES).expect("a writable directory");
    // Nothing listens on port 1: the service is down.
    let watched = services("tam-ky", &["dvc"], 1);
    let rest = format!(
        "host: false\nrules: {{files: [own.yml]}}\nincidents: {{group_wait: 0s, group_interval: 1s}}\n{watched}"
    );
    site.configure(&["tam-ky"], &rest);
    let config = std::fs::read_to_string(site.file()).expect("the configuration");
    let remote = format!("history: {{remote: 'http://127.0.0.1:{}', ", prometheus.port);
    std::fs::write(site.file(), config.replace("history: {", &remote)).expect("a writable directory");
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    site.mail.wait(&leader("tam-ky"), 1, Duration::from_secs(60));
    assert!(daemon.metric("ioc_history_remote_queries_total{result=\"ok\"}").is_some_and(|count| count > 0.0));
    drop(prometheus);
    let failures = "ioc_rule_evaluation_failures_total{rule_group=\"own\"}";
    let begin = daemon.metric(failures).unwrap_or(0.0);
    wait_for("failed evaluations", Duration::from_secs(30), || {
        daemon.metric(failures).filter(|count| *count >= begin + 6.0)
    });
    let (_, alerts) = get(site.port, "/api/v1/alerts").expect("the daemon answers");
    assert!(alerts.contains("\"state\":\"firing\"") && alerts.contains("PortalDown"), "{alerts}");
    assert_eq!(site.mail.wait(&leader("tam-ky"), 1, Duration::from_secs(1)).len(), 1);
    assert!(!query(site.port, "ioc_service_up == 0").is_empty(), "the query API reads the history here");
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}
