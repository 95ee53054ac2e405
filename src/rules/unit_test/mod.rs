//! promtool's unit tests of rules (`promtool test rules`), run on this ruler: input series, the alerts expected at a
//! time, the results of queries. Groups are evaluated at every `evaluation_interval` from 0 on, whatever interval they
//! name, as promtool does.
//!
//! Not supported, and refused: `group_eval_order`, patterns in `rule_files`, native histograms.

pub(super) mod memory;
mod series;

use super::{Engine, RuleSet, Ruler, load, parse_duration};
use crate::config::Problems;
use crate::config::node::{Node, quote};
use crate::promql::{Labels, Query, Value};
use jiff::Timestamp;
use memory::Memory;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

type LabelMap = BTreeMap<String, String>;
/// Labels and annotations of an alert.
type Shown = (LabelMap, LabelMap);

/// More evaluations than this in one test are refused.
const MAX_EVALUATIONS: i64 = 1_000_000;

/// What a file of unit tests gave.
#[derive(Debug, Default)]
pub struct Report {
    /// Expectations that were compared.
    pub n_checked: usize,
    /// Those that did not hold, and rules that could not be evaluated.
    pub failures: Vec<String>,
}

/// Runs a file of unit tests. What is wrong with the file or with its rule files goes to `problems`.
pub fn run(file: &Path, problems: &mut Problems) -> Report {
    let mut report = Report::default();
    let Some(node) = Node::read_file(file, problems) else { return report };
    let mut reader = Reader { file, problems };
    let interval = reader.duration(&node, "evaluation_interval").unwrap_or(Duration::from_secs(60));
    if let Some(order) = node.get("group_eval_order") {
        reader.at(order, "group_eval_order is not supported");
    }
    reader.keys(&node, &["rule_files", "evaluation_interval", "group_eval_order", "tests"]);
    let files: Vec<PathBuf> = reader
        .list(&node, "rule_files")
        .iter()
        .filter_map(|node| Some(file.parent().unwrap_or(Path::new("")).join(node.as_text()?)))
        .collect();
    let n_before = reader.problems.len();
    let rules = load(&files, interval, reader.problems);
    let tests: Vec<Test> = reader.list(&node, "tests").iter().filter_map(|node| reader.test(node, interval)).collect();
    if problems.len() > n_before {
        return report;
    }
    for test in tests {
        run_test(&test, &rules, interval, &mut report);
    }
    report
}

struct Test {
    name: String,
    memory: Memory,
    external_labels: LabelMap,
    external_url: String,
    alerts: Vec<AlertTest>,
    queries: Vec<QueryTest>,
}

struct AlertTest {
    at_ms: i64,
    alertname: String,
    expected: Vec<Shown>,
}

struct QueryTest {
    at_ms: i64,
    query: Query,
    expected: Vec<(Labels, f64)>,
}

fn run_test(test: &Test, rules: &RuleSet, interval: Duration, report: &mut Report) {
    let interval_ms = millis(interval).max(1);
    let start = Timestamp::UNIX_EPOCH;
    let mut ruler = Ruler::new(rules.clone(), &test.external_url, test.external_labels.clone(), start);
    let times = test.alerts.iter().map(|alert| alert.at_ms).chain(test.queries.iter().map(|query| query.at_ms));
    let last = times.max().unwrap_or(0).min(interval_ms.saturating_mul(MAX_EVALUATIONS));
    for at_ms in (0..=last).step_by(usize::try_from(interval_ms).unwrap_or(usize::MAX)) {
        let Ok(now) = Timestamp::from_millisecond(at_ms) else { break };
        for group in 0..ruler.groups().len() {
            for failure in ruler.evaluate(group, &test.memory, now).failures {
                report.failures.push(format!("{}: {}: {}", test.name, failure.rule, failure.message));
            }
        }
        for expected in test.alerts.iter().filter(|test| at_ms <= test.at_ms && test.at_ms < at_ms + interval_ms) {
            compare_alerts(&test.name, expected, &ruler, report);
        }
    }
    for expected in &test.queries {
        compare_samples(&test.name, expected, &test.memory, report);
    }
}

fn compare_alerts(test: &str, expected: &AlertTest, ruler: &Ruler, report: &mut Report) {
    report.n_checked += 1;
    let mut found = ruler.firing(&expected.alertname);
    let mut wanted = expected.expected.clone();
    found.sort();
    wanted.sort();
    if found != wanted {
        report.failures.push(format!(
            "{test}: alert {} at {} s\n  expected {wanted:#?}\n  found {found:#?}",
            expected.alertname,
            expected.at_ms / 1000
        ));
    }
}

fn compare_samples(test: &str, expected: &QueryTest, memory: &Memory, report: &mut Report) {
    report.n_checked += 1;
    let at = Timestamp::from_millisecond(expected.at_ms).unwrap_or_default();
    let mut found = match memory.instant(&expected.query, at) {
        Ok(Value::Vector(samples)) => samples.into_iter().map(|sample| (sample.labels, sample.value)).collect(),
        Ok(Value::Scalar(value)) => vec![(Labels::new([]), value)],
        Ok(_) => Vec::new(),
        Err(error) => {
            report.failures.push(format!("{test}: {}: {error}", expected.query.text()));
            return;
        }
    };
    let mut wanted = expected.expected.clone();
    found.sort_by(|left, right| left.0.cmp(&right.0));
    wanted.sort_by(|left, right| left.0.cmp(&right.0));
    let near = |left: f64, right: f64| {
        left == right || left.is_nan() && right.is_nan() || (left - right).abs() <= 1e-9 * left.abs().max(right.abs())
    };
    let same = found.len() == wanted.len()
        && found.iter().zip(&wanted).all(|(left, right)| left.0 == right.0 && near(left.1, right.1));
    if !same {
        let text = expected.query.text();
        report.failures.push(format!("{test}: {text}\n  expected {wanted:?}\n  found {found:?}"));
    }
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

/// Decodes the file.
struct Reader<'a> {
    file: &'a Path,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn test(&mut self, node: &Node, default_interval: Duration) -> Option<Test> {
        let keys = [
            "name",
            "interval",
            "input_series",
            "alert_rule_test",
            "promql_expr_test",
            "external_labels",
            "external_url",
        ];
        self.keys(node, &keys);
        let interval = self.duration(node, "interval").unwrap_or(default_interval);
        let memory = Memory::default();
        for series in self.list(node, "input_series") {
            self.series(series, &memory, millis(interval));
        }
        let alerts = self.list(node, "alert_rule_test").iter().filter_map(|node| self.alert(node)).collect();
        let queries = self.list(node, "promql_expr_test").iter().filter_map(|node| self.query(node)).collect();
        let name = node.get("name").and_then(Node::as_text).map_or_else(
            || format!("the test in line {}", node.place.line),
            |name| format!("{name} (line {})", node.place.line),
        );
        let external_labels = map(node.get("external_labels"));
        let external_url = node.get("external_url").and_then(Node::as_text).unwrap_or_default().to_owned();
        Some(Test { name, memory, external_labels, external_url, alerts, queries })
    }

    fn series(&mut self, node: &Node, memory: &Memory, interval_ms: i64) {
        self.keys(node, &["series", "values"]);
        let text = |key: &str| node.get(key).and_then(Node::as_text).unwrap_or_default();
        let read = series::labels(text("series")).and_then(|labels| Ok((labels, series::values(text("values"))?)));
        match read {
            Ok((labels, values)) => memory.add(labels, &values, interval_ms),
            Err(message) => self.at(node, message),
        }
    }

    fn alert(&mut self, node: &Node) -> Option<AlertTest> {
        self.keys(node, &["eval_time", "alertname", "exp_alerts"]);
        let at_ms = millis(self.duration(node, "eval_time").unwrap_or_default());
        let Some(alertname) = node.get("alertname").and_then(Node::as_text).map(str::to_owned) else {
            self.at(node, "an alert_rule_test needs alertname");
            return None;
        };
        let mut expected = Vec::new();
        for node in self.list(node, "exp_alerts") {
            self.keys(node, &["exp_labels", "exp_annotations"]);
            let mut labels = map(node.get("exp_labels"));
            labels.insert("alertname".to_owned(), alertname.clone());
            expected.push((labels, map(node.get("exp_annotations"))));
        }
        Some(AlertTest { at_ms, alertname, expected })
    }

    fn query(&mut self, node: &Node) -> Option<QueryTest> {
        self.keys(node, &["expr", "eval_time", "exp_samples"]);
        let at_ms = millis(self.duration(node, "eval_time").unwrap_or_default());
        let query = match Query::parse(node.get("expr").and_then(Node::as_text).unwrap_or_default()) {
            Ok(query) => query,
            Err(error) => {
                self.at(node, format!("expr: {error}"));
                return None;
            }
        };
        let mut expected = Vec::new();
        for node in self.list(node, "exp_samples") {
            self.keys(node, &["labels", "value"]);
            let text = |key: &str| node.get(key).and_then(Node::as_text).unwrap_or_default();
            match (series::labels(text("labels")), text("value").parse()) {
                (Ok(labels), Ok(value)) => expected.push((labels, value)),
                (Err(message), _) => self.at(node, message),
                (_, Err(_)) => self.at(node, format!("value is a number, found {}", quote(text("value")))),
            }
        }
        Some(QueryTest { at_ms, query, expected })
    }

    fn keys(&mut self, node: &Node, keys: &[&str]) {
        let Some(entries) = node.as_mapping() else {
            self.at(node, format!("a mapping of {} is needed, found {}", keys.join(", "), node.found()));
            return;
        };
        for entry in entries.iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
            let message = format!("unknown key {}; allowed are {}", quote(&entry.key), keys.join(", "));
            self.problems.add(self.file, entry.place.line, entry.place.column, message);
        }
    }

    fn list<'n>(&mut self, node: &'n Node, key: &str) -> &'n [Node] {
        match node.get(key) {
            Some(value) if !value.is_null() => value.as_sequence().unwrap_or_else(|| {
                self.at(value, format!("{key} is a list, found {}", value.found()));
                &[]
            }),
            _ => &[],
        }
    }

    fn duration(&mut self, node: &Node, key: &str) -> Option<Duration> {
        let value = node.get(key)?;
        let length = value.as_text().and_then(parse_duration);
        if length.is_none() {
            self.at(value, format!("{key} is a duration such as 30s or 5m, found {}", value.found()));
        }
        length
    }

    fn at(&mut self, node: &Node, message: impl Into<String>) {
        node.problem(self.file, self.problems, message);
    }
}

/// A mapping of texts, without empty values, which a label set does not have.
fn map(node: Option<&Node>) -> LabelMap {
    let entries = node.and_then(Node::as_mapping).unwrap_or_default();
    let texts = entries.iter().map(|entry| (entry.key.clone(), entry.value.as_text().unwrap_or_default().to_owned()));
    texts.filter(|(_, text)| !text.is_empty()).collect()
}
