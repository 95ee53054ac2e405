//! `ioc-watch who`: who would be told of an incident that began at a time, step by step, and why it is they. Nothing is
//! sent and no database is opened: the answer follows from the configuration alone.

mod because;
mod json;
mod text;

use crate::config::organisation::Area;
use crate::config::{self, Config};
use crate::incident::Severity;
use crate::incident::foresee::{self, Foresight};
use crate::org::Org;
use jiff::Timestamp;
use jiff::civil::DateTime;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct Who {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// The agency whose trouble it is: its id, state code or name
    #[arg(long, value_name = "ID")]
    agency: String,
    /// What the trouble is about: service, payment, camera, hotspot, usage, host, dependency or self
    #[arg(long, value_parser = area)]
    area: Area,
    /// When it begins, in the site's time or with an offset, as in 2026-02-17T09:00 [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// How bad it is: critical, warning or info
    #[arg(long, default_value = "critical", value_parser = severity)]
    severity: Severity,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// The question, understood.
struct Case<'a> {
    config: &'a Config,
    org: Arc<Org>,
    agency: &'a config::organisation::Agency,
    area: Area,
    severity: Severity,
    at: Timestamp,
    /// `None`: nobody is told of what is only recorded.
    foresight: Option<Foresight>,
}

impl Who {
    /// Exit code 0: answered, also if the answer is that nobody is told; 1: the configuration has problems; 2: wrong usage.
    pub fn run(&self) -> ExitCode {
        let config = match config::load(&self.config) {
            Ok(config) => config,
            Err(problems) => {
                eprint!("{}", super::check::report(&problems));
                return ExitCode::FAILURE;
            }
        };
        match self.answer(&config, Timestamp::now()) {
            Ok(answer) => {
                print!("{answer}");
                ExitCode::SUCCESS
            }
            Err(message) => {
                eprintln!("error: {message}");
                ExitCode::from(2)
            }
        }
    }

    fn answer(&self, config: &Config, now: Timestamp) -> Result<String, String> {
        let org = Arc::new(Org::new(config));
        let at = match &self.at {
            Some(text) => time(config, text)?,
            None => now,
        };
        let id = org.resolve(&self.agency, at).or_else(|| org.agency(&self.agency).map(|agency| &agency.id)).cloned();
        let agency = id.and_then(|id| config.agencies.iter().find(|agency| agency.id == id));
        let agency = agency.ok_or_else(|| unknown_agency(config, &self.agency))?;
        let is_told = self.severity != Severity::Info;
        let foresee = || foresee::foresee(config, org.clone(), &agency.id, self.area, self.severity, at);
        let foresight = is_told.then(foresee);
        let case = Case { config, org: org.clone(), agency, area: self.area, severity: self.severity, at, foresight };
        Ok(match self.format {
            Format::Text => text::write(&case),
            Format::Json => json::write(&case),
        })
    }
}

fn area(text: &str) -> Result<Area, String> {
    Area::parse(text)
        .ok_or_else(|| format!("there is no such area; there are {}", Area::ALL.map(Area::as_str).join(", ")))
}

fn severity(text: &str) -> Result<Severity, String> {
    Severity::parse(text).ok_or_else(|| "a severity is critical, warning or info".into())
}

fn time(config: &Config, text: &str) -> Result<Timestamp, String> {
    let civil = || text.parse::<DateTime>().ok().and_then(|civil| config.site.timezone.to_timestamp(civil).ok());
    let wrong = || format!("--at {text:?} is not a time; give one such as 2026-02-17T09:00 or 2026-02-17T09:00+07:00");
    text.parse::<Timestamp>().ok().or_else(civil).ok_or_else(wrong)
}

/// Agencies named in an error, at most.
const SHOWN: usize = 20;

fn unknown_agency(config: &Config, asked: &str) -> String {
    let ids: Vec<&str> = config.agencies.iter().map(|agency| agency.id.as_str()).take(SHOWN).collect();
    let rest = if config.agencies.len() > SHOWN { " …" } else { "" };
    format!("no agency has the id, code or name {asked:?} (or several have it); ids are {}{rest}", ids.join(", "))
}

#[cfg(test)]
mod tests;
