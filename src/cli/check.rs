//! `ioc-watch check`: every problem of the configuration and of the files it names, one a line, then a count.

use crate::config::users::Users;
use crate::config::{Config, Problem};
use crate::daemon::prepare::{self, Prepared, prepare};
use crate::format;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Check {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

impl Check {
    pub fn run(&self) -> ExitCode {
        match prepare(&self.config) {
            Ok(prepared) => {
                println!("{}", summary(&prepared.config));
                print!("{}", memory(&prepared));
                for place in prepared.unforeseen() {
                    eprintln!(
                        "warning: {place} asks the history with a query that is put together there: what it reads is \
                         kept for history.window, or as long as history.keep says"
                    );
                }
                if let Some(warning) = prepared.config.server.users.as_ref().and_then(Users::exposure) {
                    eprintln!("warning: {warning}");
                }
                ExitCode::SUCCESS
            }
            Err(problems) => {
                print!("{}", report(&problems));
                ExitCode::FAILURE
            }
        }
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

/// What the history may take if every value changes as often as it can, and what takes most of it.
fn memory(prepared: &Prepared) -> String {
    let (total, max) = (prepared.estimate.total(), prepared.config.history.max_memory);
    let mut text = format!("history: at most {} of {} (max_memory)\n", format::bytes(total), format::bytes(max));
    for metric in prepare::notable(&prepared.estimate) {
        let _ = writeln!(text, "  {}", prepare::said(metric));
    }
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
