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
        let report = unit_test::run(&file, &mut problems);
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
