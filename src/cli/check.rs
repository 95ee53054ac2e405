//! `ioc-watch check`: every problem of the configuration and of the files it names, one a line, then a count.

use crate::config::{self, Config, Problem, Problems};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Check {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Checks one kind of file or expression that a room of its own understands.
pub type Checker = fn(&Config, &mut Problems);

/// What is checked beyond the configuration itself, also when that has problems (the faulty parts are left out then). A
/// room that reads a file named in the configuration (rules, inventory) or a text in it (PromQL) adds its function here.
pub const CHECKERS: &[Checker] = &[];

impl Check {
    pub fn run(&self) -> ExitCode {
        match check(&self.config) {
            Ok(config) => {
                println!("{}", summary(&config));
                ExitCode::SUCCESS
            }
            Err(problems) => {
                print!("{}", report(&problems));
                ExitCode::FAILURE
            }
        }
    }
}

/// Reads a configuration and everything it names. The daemon starts and reloads through this, so that `check` and `run`
/// never disagree.
pub fn check(file: &Path) -> Result<Config, Vec<Problem>> {
    let (config, mut problems) = config::load_partly(file, &|name| std::env::var(name).ok());
    if let Some(config) = &config {
        for checker in CHECKERS {
            checker(config, &mut problems);
        }
    }
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems.into_sorted()),
    }
}

/// One problem a line, then their number.
pub fn report(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{problem}");
    }
    let _ = writeln!(text, "{} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" });
    text
}

/// What a sound configuration holds, in one line.
pub fn summary(config: &Config) -> String {
    let parts = [
        (config.agencies.len(), "agency", "agencies"),
        (config.people.len(), "person", "people"),
        (config.services.len(), "service", "services"),
        (config.mqtt.len(), "MQTT broker", "MQTT brokers"),
        (
            config.payments.as_ref().map_or(0, |payments| payments.portal.len() + payments.gateway.len()),
            "payment feed",
            "payment feeds",
        ),
        (config.usage.len(), "usage feed", "usage feeds"),
        (config.calendar.holidays.len(), "holiday", "holidays"),
    ];
    let counts: Vec<String> =
        parts.iter().map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many })).collect();
    format!("{}: no problems ({})", config.file.display(), counts.join(", "))
}
