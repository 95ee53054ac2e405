//! A small province for tests of the way from alert to mail.

use ioc_watch::alert::Alert;
use ioc_watch::config::{self, Config};
use jiff::Timestamp;
use std::path::Path;

/// A configuration with a duty officer (it-tam-ky), leaders and a superior; `wait` is group_wait, `interval`
/// group_interval, e.g. `0s`.
pub fn config(dir: &Path, smtp: std::net::SocketAddr, wait: &str, interval: &str, group_by: &str) -> Config {
    let text = format!(
        "site: {{name: IOC Thăng Bình, agency: ioc, language: vi, external_url: 'https://ioc.vn.example'}}\n\
         data_dir: ./data\n\
         people:\n\
         \x20 - {{id: lead-tam-ky, name: Chủ tịch UBND TP. Tam Kỳ, email: chutich@tamky.vn.example}}\n\
         \x20 - {{id: it-tam-ky, name: Cán bộ CNTT TP. Tam Kỳ, email: cntt@tamky.vn.example}}\n\
         \x20 - {{id: lead-tinh, name: Lãnh đạo tỉnh, email: lanhdao@tinh.vn.example, language: en}}\n\
         \x20 - {{id: it-ioc, name: Trực IOC, email: truc@ioc.vn.example}}\n\
         agencies:\n\
         \x20 - {{id: ioc, name: Trung tâm IOC, leader: it-ioc}}\n\
         \x20 - {{id: tinh, name: UBND tỉnh, leader: lead-tinh}}\n\
         \x20 - id: tam-ky\n\
         \x20   name: UBND TP. Tam Kỳ\n\
         \x20   parent: tinh\n\
         \x20   leader: lead-tam-ky\n\
         \x20   duty: {{people: [it-tam-ky], rotate: 7d, from: 2026-01-05T08:00}}\n\
         \x20 - {{id: nobody, name: Xã không người, parent: tinh}}\n\
         services:\n\
         \x20 - {{id: dvc, name: Cổng DVC, agency: tam-ky, kind: portal, http: {{url: 'http://127.0.0.1:9/'}}}}\n\
         incidents: {{group_by: [{group_by}], group_wait: {wait}, group_interval: {interval}}}\n\
         email: {{smtp: 'smtp://{smtp}', from: 'IOC Thăng Bình <ioc@vn.example>', retry: {{first: 1s, max: 10s, \
         give_up: 1h}}}}\n"
    );
    let file = dir.join("ioc-watch.yml");
    std::fs::write(&file, text).unwrap();
    config::load(&file).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// A firing alert.
pub fn alert(agency: &str, severity: &str, service: &str, now: Timestamp) -> Alert {
    let labels = [
        ("alertname", "ServiceHanging"),
        ("agency", agency),
        ("area", "service"),
        ("severity", severity),
        ("service", service),
    ];
    let annotations = [
        ("summary", format!("Cổng dịch vụ công {service} bị treo")),
        ("summary_en", format!("Portal {service} hangs")),
        ("description", "Người dân không nộp được hồ sơ.".to_string()),
        ("runbook", "https://ioc.vn.example/docs/hang".to_string()),
    ];
    Alert {
        labels: labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        annotations: annotations.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        starts_at: now,
        ends_at: None,
        generator_url: "".into(),
        end_is_assumed: false,
    }
}

/// Header lines of a mail as a map of first occurrences, unfolded.
pub fn header(mail: &str, name: &str) -> String {
    let head = mail.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ");
    let prefix = format!("{}:", name.to_lowercase());
    head.lines()
        .find(|line| line.to_lowercase().starts_with(&prefix))
        .map(|line| line[prefix.len()..].trim().to_string())
        .unwrap_or_default()
}
