//! The file format, decoded.

use super::memory::Memory;
use super::{AlertTest, LabelMap, QueryTest, Test, series};
use crate::config::Problems;
use crate::config::glob;
use crate::config::node::{Node, quote};
use crate::promql::Query;
use crate::rules::parse_duration;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a file says.
pub(super) struct File {
    pub rule_files: Vec<PathBuf>,
    /// Patterns of `rule_files` that match nothing.
    pub unmatched: Vec<String>,
    pub interval: Duration,
    pub group_order: Vec<String>,
    pub fuzzy: bool,
    pub tests: Vec<Test>,
}

/// What is wrong goes to `problems`; `find` gives the files that a pattern names.
pub(super) fn read(file: &Path, node: &Node, find: &dyn Fn(&Path) -> Vec<PathBuf>, problems: &mut Problems) -> File {
    let mut reader = Reader { file, problems };
    let interval = reader.duration(node, "evaluation_interval").filter(|interval| !interval.is_zero());
    let interval = interval.unwrap_or(Duration::from_secs(60));
    reader.keys(node, &["rule_files", "evaluation_interval", "group_eval_order", "fuzzy_compare", "tests"]);
    let mut group_order: Vec<String> = Vec::new();
    for node in reader.list(node, "group_eval_order") {
        let name = node.as_text().unwrap_or_default().to_owned();
        if group_order.contains(&name) {
            reader.at(node, format!("group name repeated in evaluation order: {name}"));
        }
        group_order.push(name);
    }
    let (mut rule_files, mut unmatched) = (Vec::new(), Vec::new());
    for node in reader.list(node, "rule_files") {
        let pattern = file.parent().unwrap_or(Path::new("")).join(node.as_text().unwrap_or_default());
        let found = find(&pattern);
        if found.is_empty() {
            unmatched.push(pattern.display().to_string());
        }
        rule_files.extend(found);
    }
    let fuzzy = node.get("fuzzy_compare").and_then(Node::as_text) == Some("true");
    let tests = reader.list(node, "tests");
    let tests = tests.iter().enumerate().filter_map(|(index, node)| reader.test(node, index, interval)).collect();
    File { rule_files, unmatched, interval, group_order, fuzzy, tests }
}

/// The files that a path, with `*` and `?` in its last part, names.
pub(super) fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !name.contains(['*', '?']) {
        return if pattern.exists() { vec![pattern.to_path_buf()] } else { Vec::new() };
    }
    let directory = pattern.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> =
        entries.filter(|entry| glob::matches(&name, &entry.file_name().to_string_lossy())).map(|e| e.path()).collect();
    files.sort();
    files
}

/// Decodes the file.
struct Reader<'a> {
    file: &'a Path,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn test(&mut self, node: &Node, index: usize, default_interval: Duration) -> Option<Test> {
        let keys = [
            "name",
            "interval",
            "input_series",
            "alert_rule_test",
            "promql_expr_test",
            "external_labels",
            "external_url",
            "start_timestamp",
        ];
        self.keys(node, &keys);
        let interval = self.duration(node, "interval").unwrap_or(default_interval);
        let start_ms = self.start(node);
        let memory = Memory::default();
        for series in self.list(node, "input_series") {
            self.series(series, &memory, (start_ms, millis(interval)));
        }
        let alerts = self.list(node, "alert_rule_test").iter().filter_map(|node| self.alert(node)).collect();
        let queries = self.list(node, "promql_expr_test").iter().filter_map(|node| self.query(node)).collect();
        let name = node.get("name").and_then(Node::as_text).unwrap_or_default().to_owned();
        let index = format!("unnamed#{index}");
        let external_labels = map(node.get("external_labels"));
        let external_url = node.get("external_url").and_then(Node::as_text).unwrap_or_default().to_owned();
        Some(Test { name, index, start_ms, memory, external_labels, external_url, alerts, queries })
    }

    /// `start_timestamp`, in milliseconds: seconds since 1970 or RFC 3339.
    fn start(&mut self, node: &Node) -> i64 {
        let Some(value) = node.get("start_timestamp") else { return 0 };
        let text = value.as_text().unwrap_or_default();
        let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.abs() < 1e11).map(|s| (s * 1e3).round() as i64);
        let time = seconds.or_else(|| text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond));
        time.unwrap_or_else(|| {
            self.at(value, format!("start_timestamp is seconds since 1970 or RFC 3339, found {}", value.found()));
            0
        })
    }

    fn series(&mut self, node: &Node, memory: &Memory, clock: (i64, i64)) {
        self.keys(node, &["series", "values"]);
        let text = |key: &str| node.get(key).and_then(Node::as_text).unwrap_or_default();
        let read = series::labels(text("series")).and_then(|labels| Ok((labels, series::values(text("values"))?)));
        match read {
            Ok((labels, values)) => memory.add(labels, &values, clock),
            Err(message) => self.at(node, message),
        }
    }

    fn alert(&mut self, node: &Node) -> Option<AlertTest> {
        self.keys(node, &["eval_time", "alertname", "exp_alerts"]);
        let at_ms = millis(self.duration(node, "eval_time").unwrap_or_default());
        let Some(alertname) = node.get("alertname").and_then(Node::as_text).map(str::to_owned) else {
            let at = Duration::from_millis(at_ms.unsigned_abs());
            let at = super::print::duration(at);
            self.at(
                node,
                format!("an item under alert_rule_test misses required attribute alertname at eval_time {at}"),
            );
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
        let text = node.get("expr").and_then(Node::as_text).unwrap_or_default().to_owned();
        let query = Query::parse(&text).map_err(|error| error.to_string());
        let mut expected = Vec::new();
        for node in self.list(node, "exp_samples") {
            self.keys(node, &["labels", "value", "histogram"]);
            if let Some(histogram) = node.get("histogram") {
                self.at(histogram, "native histograms are not supported");
            }
            let text = |key: &str| node.get(key).and_then(Node::as_text).unwrap_or_default();
            let value = if text("value").is_empty() { Ok(0.0) } else { number(text("value")) };
            match (series::labels(text("labels")), value) {
                (Ok(labels), Ok(value)) => expected.push((labels, value)),
                (Err(message), _) => self.at(node, message),
                (_, Err(_)) => self.at(node, format!("value is a number, found {}", quote(text("value")))),
            }
        }
        Some(QueryTest { at_ms, text, query, expected })
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

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

/// As YAML writes numbers, `.inf` and `.nan` too.
fn number(text: &str) -> Result<f64, std::num::ParseFloatError> {
    text.replace(".inf", "inf").replace(".nan", "nan").replace(".Inf", "inf").replace(".NaN", "nan").parse()
}

/// A mapping of texts, without empty values, which a label set does not have.
fn map(node: Option<&Node>) -> LabelMap {
    let entries = node.and_then(Node::as_mapping).unwrap_or_default();
    let texts = entries.iter().map(|entry| (entry.key.clone(), entry.value.as_text().unwrap_or_default().to_owned()));
    texts.filter(|(_, text)| !text.is_empty()).collect()
}
