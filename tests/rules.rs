//! The shipped rules and their unit tests: our ruler and Prometheus's promtool agree on every expectation.

use ioc_watch::config::Problems;
use ioc_watch::rules::unit_test;
use std::path::{Path, PathBuf};
use std::process::Command;

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = std::fs::read_dir(&directory).expect("the rules' directory");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", directory.display());
    files
}

#[test]
fn our_ruler_meets_every_expectation() {
    let mut n_checked = 0;
    let mut failures = Vec::new();
    for file in files("alerts/tests") {
        let mut problems = Problems::default();
        let report = unit_test::run(&file, None, &mut problems);
        let problems: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
        assert_eq!(problems, Vec::<String>::new());
        n_checked += report.n_checked;
        failures.extend(report.failures.into_iter().map(|failure| format!("{}: {failure}", file.display())));
    }
    assert!(failures.is_empty(), "{} of {n_checked} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(n_checked > 90, "{n_checked}");
}

#[test]
fn every_alert_has_a_test_in_which_it_fires_and_a_runbook() {
    let tests: String = files("alerts/tests").iter().map(|f| std::fs::read_to_string(f).expect("a test")).collect();
    let quiet = |name: &str| {
        let mark = format!("alertname: {name}\n        exp_alerts:");
        !tests.contains(&mark)
    };
    let mut missing = Vec::new();
    for file in files("alerts") {
        let text = std::fs::read_to_string(&file).expect("a rule file");
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("- alert: ").filter(|name| quiet(name)) {
                missing.push(format!("{name} fires in no test"));
            }
            if let Some(page) = line.strip_prefix("runbook: /runbooks/") {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/runbooks/{page}.md"));
                if !path.exists() {
                    missing.push(format!("{} is missing", path.display()));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn promtool_accepts_the_rules_and_meets_the_same_expectations() {
    if std::env::var_os("IOC_WATCH_SKIP_PROMTOOL").is_some() {
        eprintln!("skipped: IOC_WATCH_SKIP_PROMTOOL is set");
        return;
    }
    for (command, directory) in [("check", "alerts"), ("test", "alerts/tests")] {
        let output = Command::new("promtool").arg(command).arg("rules").args(files(directory)).output();
        let output = output.expect("promtool: install the package prometheus, or set IOC_WATCH_SKIP_PROMTOOL");
        assert!(
            output.status.success(),
            "promtool {command} rules:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Rules that need nothing of ours.
const PLAIN: &str = r#"
groups:
  - name: first
    rules:
      - record: job:up:avg
        expr: avg by (job) (up)
      - record: job:up:max
        expr: max_over_time(job:up:avg[5m:])
  - name: second
    interval: 10s
    limit: 3
    rules:
      - alert: Down
        expr: up == 0
        for: 2m
        keep_firing_for: 3m
        labels: {severity: page, team: '{{ $labels.job }}-{{ $externalLabels.region }}'}
        annotations: {summary: 'down {{ $value | humanize }} "quoted"'}
      - alert: Few
        expr: job:up:avg < 0.6
        annotations: {few: '{{ $labels.job }} and others'}
"#;

/// Name, content, and whether promtool's words of a failure are ours too.
const UNIT_TESTS: [(&str, &str, bool); 12] = [
    (
        "good",
        r#"
rule_files: [plain.yml]
evaluation_interval: 1m
group_eval_order: [first, second]
tests:
  - name: story
    interval: 1m
    input_series:
      - {series: 'up{job="a", instance="0"}', values: '1x2 0x5 1x10'}
      - {series: 'up{job="a", instance="1"}', values: '1+0x20'}
      - {series: 'up{job="b"}', values: '_x3 1 stale 1x3'}
    external_labels: {region: north}
    external_url: http://prometheus.example
    alert_rule_test:
      - {eval_time: 4m, alertname: Down}
      - eval_time: 5m
        alertname: Down
        exp_alerts:
          - exp_labels: {severity: page, job: a, instance: "0", team: a-north}
            exp_annotations: {summary: 'down 0 "quoted"'}
      - {eval_time: 20m, alertname: Down}
    promql_expr_test:
      - {expr: 'job:up:avg{job="a"}', eval_time: 4m, exp_samples: [{labels: 'job:up:avg{job="a"}', value: 0.5}]}
      - {expr: 'job:up:max', eval_time: 5m, exp_samples: [{labels: 'job:up:max{job="a"}', value: 1}, {labels: 'job:up:max{job="b"}', value: 1}]}
      - {expr: 'count(up)', eval_time: 90s, exp_samples: [{labels: '{}', value: 2}]}
      - {expr: '1 + 1', eval_time: 1m, exp_samples: [{value: 2}]}
      - {expr: 'count(up offset -4m)', eval_time: 15m, exp_samples: [{value: 2}]}
"#,
        true,
    ),
    (
        "wrong_alerts",
        r#"
rule_files: [plain.yml]
tests:
  - name: named
    input_series: [{series: 'up{job="a"}', values: '0x9'}, {series: 'up{job="b"}', values: '0x9'}]
    alert_rule_test:
      - {eval_time: 1h30m, alertname: Down, exp_alerts: [{exp_labels: {severity: page}}]}
      - {eval_time: 5m, alertname: Down, exp_alerts: [{exp_labels: {severity: "a\"b"}, exp_annotations: {x: "y\nz"}}]}
      - {eval_time: 5m, alertname: Other, exp_alerts: [{}]}
      - {eval_time: 90s, alertname: Few}
  - input_series: [{series: 'up{job="a"}', values: '0x9'}]
    alert_rule_test:
      - {eval_time: 5m, alertname: Down}
"#,
        true,
    ),
    (
        "wrong_samples",
        r#"
rule_files: [plain.yml]
tests:
  - interval: 30s
    input_series: [{series: 'up{job="a"}', values: '1 2 3.5 NaN'}]
    promql_expr_test:
      - {expr: up, eval_time: 1m, exp_samples: [{labels: 'up{job="a"}', value: 3}]}
      - {expr: up, eval_time: 1m, exp_samples: [{labels: 'up{job="b"}', value: 3.5}]}
      - {expr: up, eval_time: 1m}
      - {expr: up * 0.001, eval_time: 1m30s, exp_samples: [{labels: '{job="a"}', value: .nan}]}
      - {expr: nothing, eval_time: 1d, exp_samples: [{labels: '{a="b"}', value: 1e-9}]}
"#,
        true,
    ),
    (
        "failing_rule",
        r#"
rule_files: [plain.yml]
tests:
  - input_series:
      - {series: 'up{job="a"}', values: '0x9'}
      - {series: 'up{job="b"}', values: '0x9'}
      - {series: 'up{job="c"}', values: '0x9'}
      - {series: 'up{job="d"}', values: '0x9'}
    alert_rule_test: [{eval_time: 5m, alertname: Down}]
"#,
        false,
    ),
    (
        "failing_query",
        r#"
tests:
  - input_series: [{series: 'a{x="1"}', values: '1'}, {series: 'a{x="2"}', values: '1'}]
    promql_expr_test: [{expr: 'a * on() a', eval_time: 0, exp_samples: []}]
"#,
        false,
    ),
    ("unreadable_query", "tests: [{promql_expr_test: [{expr: 'sum(', eval_time: 1m}]}]\n", false),
    (
        "missing_rules",
        "rule_files: [nothing.yml]\ntests: [{promql_expr_test: [{expr: vector(1), exp_samples: [{value: 1}]}]}]\n",
        true,
    ),
    (
        "broken_rules",
        "rule_files: [broken.yml]\ntests: [{promql_expr_test: [{expr: vector(1), eval_time: 1m, exp_samples: [{value: 1}]}]}]\n",
        false,
    ),
    ("no_tests", "rule_files: [plain.yml]\n", true),
    ("unknown_key", "rule_files: [plain.yml]\ntest: []\n", false),
    ("no_alertname", "tests: [{alert_rule_test: [{eval_time: 1m}]}]\n", false),
    ("bad_series", "tests: [{input_series: [{series: 'a{', values: '1'}]}]\n", false),
];

#[test]
fn the_command_gives_promtools_verdicts_in_promtools_words() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("plain.yml"), PLAIN).expect("a writable directory");
    let broken = "groups: [{name: a, rules: [{alert: A, expr: 'up ==', labels: {0x: y}}]}]\n";
    std::fs::write(directory.path().join("broken.yml"), broken).expect("a writable directory");
    let run = |program: &str, words: &[&str], files: &[&str]| {
        let output = Command::new(program).args(words).args(files).current_dir(directory.path()).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let both = |files: &[&str]| {
        let ours = run(env!("CARGO_BIN_EXE_ioc-watch"), &["test-rules"], files);
        (ours, run("promtool", &["test", "rules"], files))
    };
    for (name, content, same_words) in UNIT_TESTS {
        let file = format!("{name}.yml");
        std::fs::write(directory.path().join(&file), content).expect("a writable directory");
        let (ours, theirs) = both(&[&file]);
        assert_eq!(ours.0, theirs.0, "{name}:\n{}\n{}", ours.2, theirs.2);
        assert_eq!(ours.2.is_empty(), theirs.2.is_empty(), "{name}:\n{}\n{}", ours.2, theirs.2);
        if same_words {
            assert_eq!((&ours.1, &ours.2), (&theirs.1, &theirs.2), "{name}");
        }
    }
    // Several files: one that fails fails all.
    let (ours, theirs) = both(&["good.yml", "wrong_samples.yml", "no_tests.yml"]);
    assert_eq!(ours, theirs);
    let chosen = ["--run", "unnamed#1", "wrong_alerts.yml"];
    let ours = run(env!("CARGO_BIN_EXE_ioc-watch"), &["test-rules"], &chosen);
    assert!(ours.0 == Some(1) && !ours.2.contains("named,"), "{}", ours.2);
    assert_eq!(run(env!("CARGO_BIN_EXE_ioc-watch"), &["test-rules"], &[]).0, Some(2));
}
