//! Every panel of the shipped dashboards has data in a real Prometheus that scrapes a district: the demo's portals,
//! devices, payments, usage and past week. Grafana itself is not run here.

use crate::site::query;
use crate::support::prometheus::Prometheus;
use crate::support::{Process, encode, free_port, get, wait_for};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The demo's story breaks something of every kind within this time.
const STORY: Duration = Duration::from_secs(100);

#[test]
fn dashboard_queries_return_data() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let demo = Command::new(env!("CARGO_BIN_EXE_ioc-watch"))
        .args(["demo", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
        .arg(dir.path().join("demo"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the built program");
    let mut demo = Process(demo);
    wait_for("the demo to be ready", Duration::from_secs(60), || {
        get(port, "/-/ready").ok().filter(|(status, _)| *status == 200)
    });
    let prometheus = Prometheus::start(dir.path(), port, &[], None);

    let mut waiting = expressions();
    assert!(waiting.len() >= 20, "{waiting:#?}");
    let n_expressions = waiting.len();
    let deadline = Instant::now() + STORY;
    loop {
        // The daemon's own query API is the other data source that Grafana may use.
        waiting.retain(|(_, expression)| prometheus.query(expression).is_empty() || query(port, expression).is_empty());
        if waiting.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "without data: {waiting:#?}");
        std::thread::sleep(Duration::from_secs(1));
    }
    println!("{n_expressions} expressions have data");
    // Whatever the demo's broker does not know, the daemon stays connected to it.
    wait_for("the broker to be connected", Duration::from_secs(30), || {
        let (_, page) = get(port, "/metrics").ok()?;
        page.contains("ioc_mqtt_connected{agency=\"ioc\",broker=\"demo\"} 1\n").then_some(())
    });
    // The variable's values.
    let (status, body) =
        get(prometheus.port, &format!("/api/v1/series?match[]={}", encode("ioc_agency_info"))).unwrap();
    assert!(status == 200 && body.contains("tam-ky"), "{body}");

    demo.signal("TERM");
    let status = wait_for("the demo to stop", Duration::from_secs(15), || demo.0.try_wait().ok().flatten());
    assert!(status.success(), "{status}");
}

/// Panel and expression of every target of every dashboard, with the variables at "all".
fn expressions() -> Vec<(String, String)> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let dashboard: Value = serde_json::from_str(&text).expect("JSON");
            panels(&dashboard["panels"], &mut found);
        }
    }
    found
}

fn panels(list: &Value, found: &mut Vec<(String, String)>) {
    for panel in list.as_array().into_iter().flatten() {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("a target has an expression");
            let expression = expression.replace("$agency", ".*").replace("$__rate_interval", "1m");
            assert!(!expression.contains('$'), "{title}: an unknown variable in {expression}");
            found.push((title.to_string(), expression));
        }
        // Of a collapsed row.
        panels(&panel["panels"], found);
    }
}
