//! `ioc-watch probe`: one check of a configured service or of a URL, its phases printed.

use crate::config::Config;
use crate::config::probes::{Probe, http::HttpProbe};
use crate::config::site::Language;
use crate::format;
use crate::gather::service::{Check, CompileError, Outcome, Phase, Trust};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The deadline of a check whose configuration does not say.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Check this http(s) address, with the default settings of a service.
    #[arg(required_unless_present = "service", conflicts_with = "service")]
    url: Option<url::Url>,
    /// The configuration that has the service.
    #[arg(long, value_name = "FILE", required_unless_present = "url")]
    config: Option<PathBuf>,
    /// Check this service of the configuration, as the daemon would.
    #[arg(long, value_name = "ID", requires = "config")]
    service: Option<String>,
    /// How long the check may take, as in 10s [default: the service's, or 10s].
    #[arg(long, value_parser = duration)]
    timeout: Option<Duration>,
    /// Trust the CAs of this PEM file instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What to check, and how to speak of it.
struct Plan {
    /// The service's id, or the URL.
    name: String,
    probe: Probe,
    timeout: Duration,
    language: Language,
}

/// Exit code 0: up; 1: not up, or the check could not be made; 2: wrong usage.
pub fn run(arguments: &Arguments) -> ExitCode {
    let plan = match plan(arguments) {
        Ok(plan) => plan,
        Err((messages, code)) => {
            messages.iter().for_each(|message| eprintln!("{message}"));
            return ExitCode::from(code);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let checked: Result<Outcome, CompileError> = runtime.block_on(async {
        let check = Check::compile(&plan.probe, &Trust::default()).await?;
        Ok(check.run(plan.timeout).await)
    });
    // A resolver that does not answer holds its thread longer than the deadline; nobody waits for it.
    runtime.shutdown_background();
    let outcome = match checked {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match arguments.format {
        Format::Text => print!("{}", text(&plan.name, &outcome, plan.language)),
        Format::Json => println!("{}", json(&plan.name, &outcome, plan.language)),
    }
    if outcome.result.is_up() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn plan(arguments: &Arguments) -> Result<Plan, (Vec<String>, u8)> {
    let usage = |message: String| (vec![format!("error: {message}")], 2);
    let config = match &arguments.config {
        Some(file) => Some(crate::config::load(file).map_err(|problems| {
            let lines = problems.iter().map(ToString::to_string).collect();
            (lines, 1)
        })?),
        None => None,
    };
    let language = config.as_ref().map_or_else(terminal_language, |config| config.site.language);
    let (name, mut probe, timeout) = match (&arguments.url, &arguments.service, &config) {
        (Some(url), ..) => {
            if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
                return Err(usage(format!("{url} is not an http or https address")));
            }
            (url.to_string(), Probe::Http(HttpProbe::get(url.clone())), TIMEOUT)
        }
        (None, Some(id), Some(config)) => configured(config, id).map_err(usage)?,
        // clap asks for one of them.
        _ => return Err(usage("give a URL, or --config FILE --service ID".into())),
    };
    if let (Probe::Http(http), Some(ca_file)) = (&mut probe, &arguments.ca_file) {
        http.ca_file = Some(ca_file.clone());
    }
    Ok(Plan { name, probe, timeout: arguments.timeout.unwrap_or(timeout), language })
}

fn configured(config: &Config, id: &str) -> Result<(String, Probe, Duration), String> {
    match config.services.iter().find(|service| service.id.as_str() == id) {
        Some(service) => Ok((service.id.to_string(), service.probe.clone(), service.timeout)),
        None => {
            let known: Vec<&str> = config.services.iter().map(|service| service.id.as_str()).collect();
            Err(format!("no service {id}; the configuration has {}", known.join(", ")))
        }
    }
}

/// Without a configuration, the terminal's.
fn terminal_language() -> Language {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(|name| std::env::var(name).ok());
    if set.is_some_and(|value| value.starts_with("vi")) { Language::Vi } else { Language::En }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; give one like 500ms, 10s or 1m");
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let length = Duration::try_from(parsed).map_err(|_| wrong())?;
    if length.is_zero() || length > Duration::from_secs(3_600) {
        return Err(format!("{text:?} is not between 1ms and 1h"));
    }
    Ok(length)
}

fn text(name: &str, outcome: &Outcome, language: Language) -> String {
    let vi = language == Language::Vi;
    let say = |vietnamese: &'static str, english: &'static str| if vi { vietnamese } else { english };
    let mut out = format!("{name}\n");
    let mut line = |label: &str, value: &str| {
        // Padded by characters: `{:<12}` counts characters too, and NFC Vietnamese is one a letter.
        let _ = writeln!(out, "  {label:<12} {value}");
    };
    line(say("kết quả", "result"), outcome.result.as_str());
    let detail = outcome.detail.text(language);
    if !detail.is_empty() {
        line(say("chi tiết", "detail"), &detail);
    }
    if let Some(status) = outcome.status {
        line(say("mã", "status"), &status.to_string());
    }
    if let Some(address) = outcome.address {
        line(say("địa chỉ", "address"), &address.to_string());
    }
    if outcome.redirects > 0 {
        line(say("chuyển hướng", "redirects"), &outcome.redirects.to_string());
    }
    if let Some(value) = outcome.value {
        line(say("giá trị", "value"), &value.to_string());
    }
    if let Some(newest) = outcome.newest {
        line(say("mới nhất", "newest"), &format!("{} UTC", format::date_time(newest, &jiff::tz::TimeZone::UTC)));
    }
    for step in &outcome.steps {
        let took = format!("{} ms", format::decimal(step.took.as_secs_f64() * 1_000.0, 1, language));
        let mark = match (step.ok, step.cleans_up) {
            (true, false) => "✓",
            (true, true) => say("✓ (dọn dẹp)", "✓ (cleaning up)"),
            (false, false) => say("✗ dừng ở đây", "✗ stopped here"),
            (false, true) => say("✗ (dọn dẹp)", "✗ (cleaning up)"),
        };
        line(say("bước", "step"), &format!("{took:>10}  {} {mark}", step.name));
    }
    for phase in Phase::ALL {
        let label = match phase {
            Phase::Resolve => say("phân giải", "resolve"),
            Phase::Connect => say("kết nối", "connect"),
            Phase::Tls => "tls",
            Phase::Processing => say("xử lý", "processing"),
            Phase::Transfer => say("truyền", "transfer"),
            Phase::Total => say("tổng", "total"),
        };
        let value = match outcome.phases.get(phase) {
            Some(length) => format!("{} ms", format::decimal(length.as_secs_f64() * 1_000.0, 1, language)),
            None => "-".into(),
        };
        line(label, &value);
    }
    if let Some(expiry) = outcome.expiry {
        let show = |time| format::date_time(time, &jiff::tz::TimeZone::UTC);
        let label = say("hết hạn", "expires");
        line(label, &format!("{} UTC ({})", show(expiry.leaf), say("chứng thư số", "certificate")));
        line(label, &format!("{} UTC ({})", show(expiry.chain), say("sớm nhất của chuỗi", "earliest of the chain")));
    }
    out
}

fn json(name: &str, outcome: &Outcome, language: Language) -> serde_json::Value {
    let phases: serde_json::Map<String, serde_json::Value> = Phase::ALL
        .into_iter()
        .filter_map(|phase| Some((phase.as_str().to_string(), outcome.phases.get(phase)?.as_secs_f64().into())))
        .collect();
    serde_json::json!({
        "target": name,
        "up": outcome.result.is_up(),
        "result": outcome.result.as_str(),
        "detail": outcome.detail.text(language),
        "status": outcome.status,
        "address": outcome.address.map(|address| address.to_string()),
        "redirects": outcome.redirects,
        "value": outcome.value,
        "newest": outcome.newest.map(|newest| newest.to_string()),
        "steps": outcome.steps.iter().map(|step| serde_json::json!({
            "name": step.name, "seconds": step.took.as_secs_f64(), "ok": step.ok, "cleans_up": step.cleans_up,
        })).collect::<Vec<_>>(),
        "phases_seconds": phases,
        "tls_expiry": outcome.expiry.map(|expiry| serde_json::json!({
            "leaf": expiry.leaf.to_string(),
            "chain": expiry.chain.to_string(),
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_on_the_command_line() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        for bad in ["", "10", "0s", "-1s", "2h", "soon"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
