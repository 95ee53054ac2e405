//! The references under `docs/` that are made from the program itself. Each test renders one and compares it with the
//! file; with `IOC_WATCH_UPDATE_DOCS=1` it writes the file instead.

use crate::config::site::Language;
use crate::format;
use crate::labels::Labels;
use crate::metrics::Metrics;
use crate::rules::{self, AlertingRule, Rule, template};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// The first line of every generated file.
const NOTE: &str = "<!-- Generated: IOC_WATCH_UPDATE_DOCS=1 cargo test --lib generated -->\n";

/// Compares a reference with its file, or writes it.
fn keep(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("IOC_WATCH_UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("writing {file}: {error}"));
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{file} is out of date: IOC_WATCH_UPDATE_DOCS=1 cargo test --lib generated");
}

/// Text in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}

fn labels<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "–".into() } else { names.join(", ") }
}

#[test]
fn docs_metrics_lists_every_metric() {
    let metrics = Metrics::new();
    let mut text = format!(
        "{NOTE}# Metrics / Chỉ số\n\nEverything `GET /metrics` shows. Names and labels are kept stable for rules and \
         dashboards outside this program.\n\nMọi chỉ số mà `GET /metrics` đưa ra. Tên và nhãn được giữ ổn định cho các \
         luật và bảng điều khiển bên ngoài.\n\n## What is watched / Đối tượng theo dõi\n"
    );
    for table in metrics.tables() {
        let names = labels(table.labels().iter().copied());
        let _ = write!(text, "\nLabels / nhãn: {names}\n\n| metric | type | meaning |\n|---|---|---|\n");
        for family in table.families() {
            let _ = writeln!(text, "| `{}` | {} | {} |", family.name, family.kind.as_str(), cell(family.help));
        }
    }
    text.push_str(
        "\n## The daemon itself / Bản thân chương trình\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    let own: BTreeMap<String, String> = metrics
        .own
        .described()
        .into_iter()
        .map(|family| {
            let names = labels(family.labels.iter().map(String::as_str));
            let line = format!("| `{}` | {} | {names} | {} |", family.name, family.kind, cell(&family.help));
            (family.name, line)
        })
        .collect();
    for line in own.values() {
        let _ = writeln!(text, "{line}");
    }
    keep("docs/metrics.md", &text);
}

#[test]
fn docs_rules_lists_every_shipped_alert() {
    let mut text = format!(
        "{NOTE}# Alerts / Cảnh báo\n\nThe rules built into the program, the same as in `alerts/*.yml`. ‹…› stands for a \
         label, N for a value.\n\nCác luật có sẵn trong chương trình, giống các tệp `alerts/*.yml`. ‹…› là nhãn, N là giá \
         trị. Cột \"sau\" là thời gian điều kiện phải kéo dài trước khi báo.\n\n\
         | alert / cảnh báo | severity / mức độ | area / lĩnh vực | for / sau | summary / nội dung |\n|---|---|---|---|---|\n"
    );
    for group in rules::builtin(Duration::from_secs(15)).groups {
        for rule in &group.rules {
            let Rule::Alerting(rule) = rule else { continue };
            let _ = writeln!(text, "{}", alert_line(rule));
        }
    }
    keep("docs/rules.md", &text);
}

fn alert_line(rule: &AlertingRule) -> String {
    let find = |list: &[(String, template::Template)], name: &str| {
        list.iter().find(|(known, _)| known == name).map(|(_, template)| example(template)).unwrap_or_default()
    };
    let runbook = find(&rule.annotations, "runbook");
    let name = match runbook.strip_prefix("/runbooks/") {
        Some(page) => format!("[{}](runbooks/{page}.md)", rule.name),
        None => rule.name.clone(),
    };
    let hold = if rule.hold.is_zero() { "–".into() } else { format::duration(rule.hold, Language::Vi) };
    let (severity, area) = (find(&rule.labels, "severity"), find(&rule.labels, "area"));
    format!("| {name} | {severity} | {area} | {hold} | {} |", cell(&find(&rule.annotations, "summary")))
}

/// A template with every label shown as its name and every value as N.
fn example(template: &template::Template) -> String {
    let used = regex::Regex::new(r"\$labels\.(\w+)").expect("a constant expression");
    let names: BTreeSet<&str> =
        used.captures_iter(template.text()).filter_map(|found| found.get(1)).map(|name| name.as_str()).collect();
    let labels = Labels::new(names.into_iter().map(|name| (name, format!("‹{name}›"))));
    let context = template::Context {
        labels: &labels,
        value: f64::NAN,
        now: jiff::Timestamp::UNIX_EPOCH,
        external_labels: &Labels::default(),
        external_url: "",
        query: &|_| Ok(Vec::new()),
    };
    template.expand(&context).unwrap_or_else(|error| panic!("{}: {error}", template.text())).replace("NaN", "N")
}
