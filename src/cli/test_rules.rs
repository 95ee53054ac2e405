//! `ioc-watch test-rules`: promtool's unit tests of rules, on the engine that this program evaluates rules with.

use crate::config::Problems;
use crate::rules::unit_test;
use regex::Regex;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct TestRules {
    /// Only the tests whose name this expression matches; may be given several times
    #[arg(long, value_name = "REGEX")]
    run: Vec<String>,
    /// Files of unit tests, as `promtool test rules` takes them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl TestRules {
    /// Prints what promtool prints, on the same streams. 1 if an expectation does not hold or a file is wrong.
    pub fn run(&self) -> ExitCode {
        let wanted = match self.run.as_slice() {
            [] => None,
            patterns => match Regex::new(&patterns.join("|")) {
                Ok(regex) => Some(regex),
                Err(error) => {
                    eprintln!("--run: {error}");
                    return ExitCode::from(2);
                }
            },
        };
        let mut all_hold = true;
        for file in &self.files {
            println!("Unit Testing:  {}", file.display());
            let failures = failures(file, wanted.as_ref());
            if failures.is_empty() {
                println!("  SUCCESS");
            } else {
                eprintln!("  FAILED:");
                for failure in &failures {
                    eprintln!("{failure}");
                    println!();
                }
                all_hold = false;
            }
            println!();
        }
        if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn failures(file: &Path, wanted: Option<&Regex>) -> Vec<String> {
    let mut problems = Problems::default();
    let report = unit_test::run(file, wanted, &mut problems);
    for pattern in &report.unmatched {
        eprintln!("  WARNING: no file match pattern {pattern}");
    }
    let problems = problems.into_sorted();
    if problems.is_empty() { report.failures } else { problems.iter().map(ToString::to_string).collect() }
}
