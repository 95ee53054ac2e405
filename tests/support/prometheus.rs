//! A real Prometheus that scrapes the daemon every second and evaluates the same rule files.

use super::{Process, encode, free_port, get, wait_for, wait_for_port};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub struct Prometheus {
    pub port: u16,
    _process: Process,
}

impl Prometheus {
    /// `rules` may be empty; `alertmanager` is a port to deliver alerts to.
    pub fn start(dir: &Path, target: u16, rules: &[PathBuf], alertmanager: Option<u16>) -> Prometheus {
        let alerting = alertmanager.map_or(String::new(), |port| {
            format!("alerting: {{alertmanagers: [{{static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]}}]}}\n")
        });
        Prometheus::start_as(&dir.join("prometheus"), target, rules, &alerting, "{agency: ioc}", &[])
    }

    /// One of a pair that evaluate the same rules: what tells them apart is dropped before an alert is delivered. It
    /// delivers again every second what fires, and so says each time that it fires for 4 s more.
    pub fn start_replica(dir: &Path, name: &str, rules: &[PathBuf], alertmanager: u16) -> Prometheus {
        let alerting = format!(
            "alerting: {{alert_relabel_configs: [{{regex: replica, action: labeldrop}}], \
             alertmanagers: [{{static_configs: [{{targets: [\"127.0.0.1:{alertmanager}\"]}}]}}]}}\n"
        );
        let labels = format!("{{replica: {name}}}");
        let flags = ["--rules.alert.resend-delay=1s"];
        Prometheus::start_as(&dir.join(format!("prometheus-{name}")), alertmanager, rules, &alerting, &labels, &flags)
    }

    fn start_as(
        dir: &Path,
        target: u16,
        rules: &[PathBuf],
        alerting: &str,
        external_labels: &str,
        flags: &[&str],
    ) -> Prometheus {
        let port = free_port();
        std::fs::create_dir_all(dir).expect("a writable directory");
        let rules: Vec<String> = rules.iter().map(|file| format!("\"{}\"", file.display())).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {external_labels}}}\nrule_files: [{}]\n{alerting}\
             scrape_configs: [{{job_name: ioc-watch, honor_labels: true, \
             static_configs: [{{targets: [\"127.0.0.1:{target}\"]}}]}}]\n",
            rules.join(", ")
        );
        std::fs::write(dir.join("prometheus.yml"), config).expect("a writable directory");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).expect("a writable directory"))
            .spawn()
            .expect("prometheus is installed");
        let prometheus = Prometheus { port, _process: Process(child) };
        wait_for_port("prometheus", port);
        // It listens before it answers queries.
        wait_for("prometheus to be ready", Duration::from_secs(30), || {
            get(port, "/-/ready").ok().filter(|(status, _)| *status == 200)
        });
        prometheus
    }

    /// The result of an instant query.
    pub fn query(&self, expression: &str) -> Vec<serde_json::Value> {
        let path = format!("/api/v1/query?query={}", encode(expression));
        let (status, body) = get(self.port, &path).expect("prometheus answers");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        assert_eq!(status, 200, "{expression}: {body}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}
