//! The query API beside a real Prometheus that holds the same samples: promtool prints the same. And the requests of
//! Grafana's Prometheus data source.

use crate::site::{Site, query, services};
use crate::support::daemon::Daemon;
use crate::support::prometheus::Prometheus;
use crate::support::{encode, get, post, wait_for};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

#[test]
fn promtool_prints_of_the_daemon_what_it_prints_of_prometheus() {
    let site = Site::new();
    // Nothing listens on port 1: the services are down, each of their checks is counted.
    let watched = services("tam-ky", &["dvc", "motcua", "qoffice"], 1);
    site.configure(&["tam-ky", "hoi-an"], &format!("host: false\n{watched}"));
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    let many = "count_over_time(ioc_service_up{service=\"qoffice\"}[1m]) > 7";
    wait_for("some samples", Duration::from_secs(60), || (!query(site.port, many).is_empty()).then_some(()));
    let alert = "ALERTS{alertstate=\"firing\",alertname=\"ServiceDown\"}";
    wait_for("an alert", Duration::from_secs(60), || (!query(site.port, alert).is_empty()).then_some(()));

    let samples = query(site.port, "{__name__=~\"ioc_service_.*|ioc_agency_info|ALERTS.*\"}[10m]");
    let last = samples.iter().flat_map(|series| series["values"].as_array().expect("values")).map(second);
    // On the daemon it goes on; the last second may be half told.
    let end = last.fold(0.0, f64::max) - 1.0;
    let prometheus = Prometheus::on_samples(site.dir(), &open_metrics(&samples));
    let mut n_compared = 0;
    for arguments in commands(end) {
        let [ours, theirs] = [site.port, prometheus.port].map(|port| but_for_last_bits(&promtool(port, &arguments)));
        assert_eq!(ours, theirs, "{arguments:?}");
        n_compared += usize::from(!ours.trim().is_empty());
    }
    assert!(n_compared >= 15, "{n_compared}");
    grafana(site.port, end);
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}

/// The text with its long decimals rounded: Prometheus 2.42 multiplies in another order than 3 does.
fn but_for_last_bits(text: &str) -> String {
    const DIGITS: usize = 15;
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rounded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(|c: char| c.is_ascii_digit()) {
        let length = rest[begin..].find(|c| !is_number(c)).unwrap_or(rest.len() - begin);
        let (before, number) = (&rest[..begin], &rest[begin..begin + length]);
        rounded.push_str(before);
        match number.parse::<f64>() {
            Ok(value) if number.contains('.') && number.len() > DIGITS => {
                let _ = write!(rounded, "{value:.12e}");
            }
            _ => rounded.push_str(number),
        }
        rest = &rest[begin + length..];
    }
    rounded + rest
}

fn second(point: &Value) -> f64 {
    point[0].as_f64().expect("a time")
}

/// What `promtool tsdb create-blocks-from openmetrics` reads.
fn open_metrics(samples: &[Value]) -> String {
    let mut families: BTreeMap<&str, String> = BTreeMap::new();
    for series in samples {
        let labels = series["metric"].as_object().expect("labels");
        let name = labels["__name__"].as_str().expect("a name");
        let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
        let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
        let lines = families.entry(name).or_default();
        for point in series["values"].as_array().expect("values") {
            let value = point[1].as_str().expect("a value");
            let _ = writeln!(lines, "{name}{{{}}} {value} {:.3}", pairs.join(","), second(point));
        }
    }
    families.values().map(String::as_str).collect::<String>() + "# EOF\n"
}

/// Everything promtool asks, off the samples' times: Prometheus 2.42 takes both ends of a range.
fn commands(end: f64) -> Vec<Vec<String>> {
    let at = end - 0.123;
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let mut commands = Vec::new();
    let instants = [
        "ioc_service_up",
        "sort_desc(sum by (service) (ioc_service_checks_total))",
        "ALERTS",
        "rate(ioc_service_checks_total[20s])",
        "ioc_service_up{service=~\"d.*\"}[4s]",
        "topk(1, ioc_service_checks_total{service=\"dvc\"})",
        "absent(nonexistent{a=\"b\"})",
        "1 / 3",
        "1e21 + vector(1e-7)",
        "\"text\"",
        "ioc_agency_info",
    ];
    let formats = ["promql", "json"];
    for (index, expression) in instants.iter().enumerate() {
        let time = format!("--time={at:.3}");
        commands.push(words(&["query", "instant", "-o", formats[index % 2], &time]));
        commands.last_mut().expect("just pushed").push((*expression).to_owned());
    }
    for (index, expression) in
        ["ioc_service_up", "round(sum(rate(ioc_service_checks_total[10s])), 0.0001)", "time()"].iter().enumerate()
    {
        let (start, end) = (format!("--start={:.3}", at - 8.0), format!("--end={at:.3}"));
        commands.push(words(&["query", "range", "-o", formats[index % 2], &start, &end, "--step=2s"]));
        commands.last_mut().expect("just pushed").push((*expression).to_owned());
    }
    let (start, end) = (format!("--start={:.3}", at - 60.0), format!("--end={at:.3}"));
    for selectors in [&["ioc_service_up"][..], &["ioc_agency_info", "{service=\"dvc\",__name__=~\".*_total\"}"]] {
        let mut command = words(&["query", "series", &start, &end]);
        command.extend(selectors.iter().map(|selector| format!("--match={selector}")));
        commands.push(command);
    }
    for name in ["service", "agency", "nonexistent"] {
        let mut command = words(&["query", "labels", &start, &end]);
        command.push("--match=ioc_service_up".to_owned());
        command.push(name.to_owned());
        commands.push(command);
    }
    for wrong in ["sum(", "ioc_service_up * on(agency) ioc_service_up"] {
        commands.push(words(&["query", "instant", wrong]));
    }
    commands
}

/// Output; of a refusal only that it is one, for its words are each server's own.
fn promtool(port: u16, arguments: &[String]) -> String {
    let server = format!("http://127.0.0.1:{port}");
    // The server stands before what is asked, after the flags.
    let mut arguments = arguments.to_vec();
    let place = if arguments[1] == "series" { arguments.len() } else { arguments.len() - 1 };
    arguments.insert(place, server);
    let output = Command::new("promtool").args(&arguments).output().expect("promtool is installed");
    if output.status.success() { String::from_utf8_lossy(&output.stdout).into_owned() } else { "refused".into() }
}

/// What Grafana's data source sends: a check of the connection, its query editor, a panel, its list of rules.
fn grafana(port: u16, end: f64) {
    const FORM: &str = "application/x-www-form-urlencoded";
    let success = |(status, body): (u16, String)| -> Value {
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        assert_eq!((status, answer["status"].as_str()), (200, Some("success")), "{body}");
        answer["data"].clone()
    };
    let ask = |path: &str| success(get(port, path).expect("an answer"));
    let send = |path: &str, body: &str| success(post(port, path, FORM, body).expect("an answer"));
    assert_eq!(send("/api/v1/query", "query=1%2B1&time=4")["result"][1], "2");
    assert_eq!(ask("/api/v1/status/buildinfo")["version"], "3.0.0");
    let (start, end) = (end - 60.0, end);
    let span = format!("start={start}&end={end}");
    let names = ask(&format!("/api/v1/label/__name__/values?{span}&limit=40000"));
    assert!(names.as_array().is_some_and(|names| names.contains(&"ioc_service_up".into())), "{names}");
    let selector = encode("{__name__=\"ioc_service_up\"}");
    let labels = ask(&format!("/api/v1/labels?{span}&match%5B%5D={selector}&limit=40000"));
    assert_eq!(labels, serde_json::json!(["__name__", "agency", "kind", "service"]));
    let series = ask(&format!("/api/v1/series?{span}&match%5B%5D={selector}"));
    assert_eq!(series.as_array().map(Vec::len), Some(3));
    assert!(ask("/api/v1/metadata?limit=100000")["ioc_service_up"][0]["help"].is_string());
    let panel = format!("query={}&{span}&step=15&timeout=30s", encode("sum by (service) (ioc_service_up)"));
    let matrix = send("/api/v1/query_range", &panel);
    assert_eq!((matrix["resultType"].as_str(), matrix["result"].as_array().map(Vec::len)), (Some("matrix"), Some(3)));
    assert!(send("/api/v1/query_exemplars", &panel).as_array().is_some_and(Vec::is_empty));
    let groups = ask("/api/v1/rules?type=alert");
    let groups = groups["groups"].as_array().expect("groups");
    assert!(groups.iter().any(|group| group["name"] == "service"), "{groups:?}");
    let alerts = ask("/api/v1/alerts");
    assert!(alerts["alerts"].as_array().is_some_and(|alerts| !alerts.is_empty()));
}
