//! `evaluate`: renders a week's report again from its stored values and compares it with the stored bytes. A week
//! without a report is evaluated from the ledger and shown; only the daemon keeps reports.

use crate::attribution::Ledger;
use crate::config::{self, Config};
use crate::evaluation::report::Report;
use crate::evaluation::{Source, Week, archive, measure};
use crate::store::Store;
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// An ISO week, such as 2026-W47.
    #[arg(long, value_parser = |text: &str| Week::parse(text).ok_or("not an ISO week such as 2026-W47"))]
    week: Week,
    /// Also writes the report there, as WEEK.html.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let config = match config::load(&arguments.config) {
        Ok(config) => config,
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            return ExitCode::from(1);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(evaluate(&config, arguments)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// Whether the stored report, if there is one, is what its values give.
async fn evaluate(config: &Config, arguments: &Arguments) -> anyhow::Result<bool> {
    let store = Store::open(&config.state, &config.data_dir).await?;
    let week = arguments.week;
    let outcome = match archive::load(&store, week).await? {
        Some(kept) => {
            let html = kept.report.html(kept.language)?;
            show(&kept.report, &html, arguments, config)?;
            if archive::sha256(&kept.html) != kept.sha256 {
                eprintln!("the stored report of {week} was changed: its hash is not {}", kept.sha256);
                false
            } else if html != kept.html {
                eprintln!("the report of {week} renders differently from the stored one (sha256 {})", kept.sha256);
                false
            } else {
                eprintln!("the report of {week} is identical to the stored one (sha256 {})", kept.sha256);
                true
            }
        }
        None => {
            let Some(evaluation) = &config.evaluation else { bail!("the configuration has no section evaluation") };
            // Only reads: the daemon, which may be running, resumes and writes the ledger.
            let ledger = Ledger::reader(store.clone());
            let report =
                measure(config, evaluation, (&store, &ledger), Source::None, week, jiff::Timestamp::now()).await?;
            let html = report.html(config.site.language)?;
            show(&report, &html, arguments, config)?;
            eprintln!("{week} has no stored report; this one is without what asks the history and was not stored");
            true
        }
    };
    store.close().await;
    Ok(outcome)
}

fn show(report: &Report, html: &str, arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    print!("{}", report.text(config.site.language));
    if let Some(dir) = &arguments.out {
        let file = dir.join(format!("{}.html", report.week));
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        std::fs::write(&file, html).with_context(|| format!("writing {}", file.display()))?;
        eprintln!("written: {}", file.display());
    }
    Ok(())
}
