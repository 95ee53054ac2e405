//! promtool's unit tests of rules (`promtool test rules`), run on this ruler: input series, the alerts expected at a
//! time, the results of queries. Groups are evaluated at every `evaluation_interval` from 0 on, whatever interval they
//! name, as promtool does. The rules need not be fit for incidents: any rule file can be tested.
//!
//! Not supported, and refused: native histograms.

pub(super) mod memory;
mod print;
mod read;
mod series;

use super::{Engine, RuleSet, Ruler, load_plain};
use crate::config::Problems;
use crate::config::node::Node;
use crate::promql::{Labels, Query, Value};
use jiff::Timestamp;
use memory::Memory;
use regex::Regex;
use std::collections::BTreeMap;
use std::path::Path;
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
    /// Those that did not hold, and rules that could not be evaluated; in promtool's words.
    pub failures: Vec<String>,
    /// Patterns of rule files that match nothing.
    pub unmatched: Vec<String>,
}

/// Runs the tests of a file whose name `wanted` matches; all without it. What is wrong with the file or with its rule
/// files goes to `problems`.
pub fn run(file: &Path, wanted: Option<&Regex>, problems: &mut Problems) -> Report {
    match Node::read_file(file, problems) {
        Some(node) => {
            let read = read::read(file, &node, &read::matching, problems);
            let rules = load_plain(&read.rule_files, read.interval, problems);
            run_all(read, rules, wanted, MAX_EVALUATIONS, problems)
        }
        None => Report::default(),
    }
}

/// [`run`], with the content of the file and the rules given: whatever `rule_files` says, no file is opened. Tests that
/// need more evaluations fail.
pub fn run_text_on(text: &str, rules: &RuleSet, max_evaluations: i64, problems: &mut Problems) -> Report {
    let file = Path::new("tests.yml");
    match Node::read(file, text, problems) {
        Some(node) => {
            let read = read::read(file, &node, &|_| Vec::new(), problems);
            run_all(read, rules.clone(), None, max_evaluations, problems)
        }
        None => Report::default(),
    }
}

fn run_all(
    read: read::File,
    mut rules: RuleSet,
    wanted: Option<&Regex>,
    max_evaluations: i64,
    problems: &Problems,
) -> Report {
    let mut report = Report { unmatched: read.unmatched, ..Report::default() };
    if !problems.is_empty() {
        return report;
    }
    let place = |name: &str| read.group_order.iter().position(|other| other == name).unwrap_or(0);
    rules.groups.sort_by_key(|group| place(&group.name));
    rules.set_default_step(read.interval);
    let tests = read.tests.into_iter();
    let is_wanted = |test: &Test| {
        let name = if test.name.is_empty() { &test.index } else { &test.name };
        wanted.is_none_or(|wanted| wanted.is_match(name))
    };
    for test in tests.filter(is_wanted) {
        let mut run =
            Run { test: &test, interval: read.interval, fuzzy: read.fuzzy, max_evaluations, report: &mut report };
        run.all(&rules);
    }
    report
}

struct Test {
    /// May be empty.
    name: String,
    /// What it is called without a name.
    index: String,
    /// All times of the test count from here, in milliseconds since 1970.
    start_ms: i64,
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
    text: String,
    /// One that cannot be read fails when its turn comes.
    query: Result<Query, String>,
    expected: Vec<(Labels, f64)>,
}

/// One run of one test.
struct Run<'a> {
    test: &'a Test,
    interval: Duration,
    /// Numbers may differ in their last bit.
    fuzzy: bool,
    max_evaluations: i64,
    report: &'a mut Report,
}

impl Run<'_> {
    fn all(&mut self, rules: &RuleSet) {
        let Test { start_ms, memory, alerts, queries, .. } = self.test;
        let interval_ms = i64::try_from(self.interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let times = alerts.iter().map(|alert| alert.at_ms).chain(queries.iter().map(|query| query.at_ms));
        let last = times.max().unwrap_or(0);
        if last / interval_ms > self.max_evaluations {
            self.fail(format!("    the test needs more than {} evaluations", self.max_evaluations));
            return;
        }
        let start = Timestamp::from_millisecond(*start_ms).unwrap_or_default();
        let labels = self.test.external_labels.clone();
        let mut ruler = Ruler::new(rules.clone(), &self.test.external_url, labels, start);
        for passed_ms in (0..=last).step_by(usize::try_from(interval_ms).unwrap_or(usize::MAX)) {
            let Ok(now) = Timestamp::from_millisecond(start_ms.saturating_add(passed_ms)) else { break };
            memory.show_until(now.as_millisecond());
            if !self.evaluate(&mut ruler, now) {
                return;
            }
            let due = |test: &&AlertTest| passed_ms <= test.at_ms && test.at_ms < passed_ms + interval_ms;
            for expected in alerts.iter().filter(due) {
                self.compare_alerts(expected, &ruler);
            }
        }
        for expected in queries {
            self.compare_samples(expected);
        }
    }

    /// Whether every rule could be evaluated.
    fn evaluate(&mut self, ruler: &mut Ruler, now: Timestamp) -> bool {
        let mut failures = Vec::new();
        for group in 0..ruler.groups().len() {
            failures.extend(ruler.evaluate(group, &self.test.memory, now).failures);
        }
        // A template that fails becomes the text of its failure, which the expectation sees.
        failures.retain(|failure| !failure.is_template);
        for failure in &failures {
            let since = print::go_duration(now.as_millisecond());
            self.fail(format!("    rule: {}, time: {since}, err: {}", failure.rule, failure.message));
        }
        failures.is_empty()
    }

    fn compare_alerts(&mut self, expected: &AlertTest, ruler: &Ruler) {
        self.report.n_checked += 1;
        let mut found = ruler.firing(&expected.alertname);
        let mut wanted = expected.expected.clone();
        found.sort_by(print::alert_order);
        wanted.sort_by(print::alert_order);
        if found != wanted {
            let name =
                if self.test.name.is_empty() { String::new() } else { format!("    name: {},\n", self.test.name) };
            let time = print::duration(Duration::from_millis(expected.at_ms.unsigned_abs()));
            self.fail(format!(
                "{name}    alertname: {}, time: {time}, \n        exp:{}, \n        got:{}",
                expected.alertname,
                print::alerts(&wanted),
                print::alerts(&found)
            ));
        }
    }

    fn compare_samples(&mut self, expected: &QueryTest) {
        self.report.n_checked += 1;
        let time = print::duration(Duration::from_millis(expected.at_ms.unsigned_abs()));
        let mut found = match self.ask(expected) {
            Ok(found) => found,
            Err(error) => return self.fail(format!("    expr: {:?}, time: {time}, err: {error}", expected.text)),
        };
        let mut wanted = expected.expected.clone();
        found.sort_by(|left, right| left.0.cmp(&right.0));
        wanted.sort_by(|left, right| left.0.cmp(&right.0));
        let same = found.len() == wanted.len()
            && found.iter().zip(&wanted).all(|(left, right)| left.0 == right.0 && self.near(left.1, right.1));
        if !same {
            self.fail(format!(
                "    expr: {:?}, time: {time},\n        exp: {}\n        got: {}",
                expected.text,
                print::samples(&wanted),
                print::samples(&found)
            ));
        }
    }

    fn ask(&self, expected: &QueryTest) -> Result<Vec<(Labels, f64)>, String> {
        let query = expected.query.clone()?.with_default_step(self.interval);
        let at = Timestamp::from_millisecond(self.test.start_ms.saturating_add(expected.at_ms)).unwrap_or_default();
        match self.test.memory.instant(&query, at).map_err(|error| error.to_string())? {
            Value::Vector(samples) => Ok(samples.into_iter().map(|sample| (sample.labels, sample.value)).collect()),
            Value::Scalar(value) => Ok(vec![(Labels::default(), value)]),
            Value::String(_) | Value::Matrix(_) => Err("rule result is not a vector or scalar".to_owned()),
        }
    }

    /// As promtool, for which NaN is nothing's equal; but the order in which numbers were added is no failure.
    fn near(&self, left: f64, right: f64) -> bool {
        let tolerance = if self.fuzzy { 1e-9 } else { 1e-12 };
        left == right || (left - right).abs() <= tolerance * left.abs().max(right.abs())
    }

    fn fail(&mut self, message: String) {
        self.report.failures.push(message);
    }
}
