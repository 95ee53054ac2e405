//! Any file of unit tests is refused with problems that have a place, or its tests run; neither ever panics. It names rule
//! files, of which none is opened: the rules are these.

use ioc_watch::config::Problems;
use ioc_watch::rules::{self, RuleSet, unit_test};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

const RULES: &str = "groups:
  - name: a
    rules:
      - record: down
        expr: up == 0
      - alert: Down
        expr: down * 1 == 0
        for: 2m
        labels: {severity: critical, area: service, agency: '{{ $labels.job }}'}
        annotations: {summary: '{{ $value }}', summary_en: b, description: c, description_en: d, runbook: e}
";

static LOADED: LazyLock<RuleSet> = LazyLock::new(|| {
    let mut problems = Problems::default();
    let rules = rules::load_text(Path::new("rules.yml"), RULES, Duration::from_secs(60), &mut problems);
    assert!(problems.is_empty(), "{:?}", problems.into_sorted());
    rules
});

pub fn run(text: &str) {
    let mut problems = Problems::default();
    let report = unit_test::run_text_on(text, &LOADED, 200, &mut problems);
    for problem in problems.into_sorted() {
        let _ = problem.to_string();
    }
    for failure in report.failures {
        assert!(!failure.is_empty());
    }
}
