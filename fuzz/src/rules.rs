//! Any rule file is refused with problems that have a place, or its groups are evaluated; neither ever panics.

use ioc_watch::config::Problems;
use ioc_watch::promql::{Labels, Query, QueryError, Sample, Value};
use ioc_watch::rules::{self, Engine, Ruler};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Answers every query with the same two samples.
struct Same(Vec<Sample>);

impl Engine for Same {
    fn instant(&self, _: &Query, _: Timestamp) -> Result<Value, QueryError> {
        Ok(Value::Vector(self.0.clone()))
    }

    fn record(&self, _: &str, _: &mut [(Labels, f64)], _: Timestamp) {}
}

pub fn run(text: &str) {
    let mut problems = Problems::default();
    let rules = rules::load_text(Path::new("rules.yml"), text, Duration::from_secs(15), &mut problems);
    for problem in problems.into_sorted() {
        let _ = problem.to_string();
    }
    let sample = |service: &str, value| {
        let pairs = [("__name__", "up"), ("agency", "tam-ky"), ("service", service)];
        Sample { labels: Labels::new(pairs), value }
    };
    let engine = Same(vec![sample("dvc", 0.5), sample("motcua", f64::NAN)]);
    let mut ruler = Ruler::new(rules, "http://ioc", BTreeMap::new(), Timestamp::UNIX_EPOCH);
    for second in [0, 60, 3_600] {
        for group in 0..ruler.groups().len() {
            let now = Timestamp::from_second(second).unwrap_or_default();
            ruler.evaluate(group, &engine, now);
        }
    }
}
