//! The weekly evaluation: indicators, scorecards, reports.
//!
//! `inputs.rs` measures, `availability.rs` and `score.rs` judge (pure), `report.rs` words and renders, `archive.rs`
//! keeps. This file does it on schedule: once a week, at the configured time, and at the start for what was due while
//! the daemon was down. A report and its mails are written in one transaction, so a week is reported once and never
//! without its mails.

pub mod archive;
mod availability;
mod inputs;
pub mod report;
pub mod score;
mod week;

pub use inputs::{Source, measure};
pub use week::Week;

use crate::attribution::{Ledger, State, SubjectKind};
use crate::config::evaluation::Evaluation;
use crate::config::{Config, Id};
use crate::history::{History, Remote};
use crate::metrics::{Metrics, columns};
use crate::store::{Store, StoreError, Tx};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use report::{RenderError, Report};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Archive(#[from] archive::ArchiveError),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("evaluating the indicators' queries")]
    Queries(#[source] tokio::task::JoinError),
    #[error("preparing the remote engine")]
    Trust(#[source] crate::http::TrustError),
    /// It is asked again when the task is started again.
    #[error("asking the remote engine for the indicators")]
    Remote(#[source] crate::history::RemoteError),
}

/// One report to one person.
#[derive(Debug, Clone)]
pub struct ReportMail {
    /// The same for the same report and person: `evaluation/2026-W47/it-ioc`.
    pub key: String,
    pub person: Id,
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// Takes the reports' mails into the outbox, within the transaction that stores the report.
pub trait Deliver: Send + Sync {
    fn deliver<'a>(&'a self, tx: &'a mut Tx, mail: ReportMail) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// What the scheduled evaluation works with.
#[derive(Clone)]
pub struct Parts {
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    pub history: Arc<History>,
    pub store: Store,
    pub ledger: Ledger,
    pub deliver: Arc<dyn Deliver>,
}

/// How many weeks are made up for after a long absence.
const CATCH_UP: usize = 4;
/// How often the clock is looked at: it may be set, and a sleep of days would not notice.
const LOOK: Duration = Duration::from_secs(30);

/// Evaluates every week on schedule until `shutdown`. Without a section `evaluation` it only waits.
pub async fn run(parts: Parts, shutdown: CancellationToken) -> Result<(), EvaluationError> {
    let Some(evaluation) = parts.config.evaluation.clone() else {
        clear_metrics(&parts.metrics);
        shutdown.cancelled().await;
        return Ok(());
    };
    if let Some(latest) = archive::weeks(&parts.store, 1).await?.first()
        && let Some(kept) = archive::load(&parts.store, *latest).await?
    {
        publish(&parts.metrics, &kept.report);
    }
    // Of a week that is due: so that a week without a report is looked for once, not every LOOK.
    let mut done: Option<Week> = None;
    loop {
        let now = Timestamp::now();
        let due = Week::latest_due(now, evaluation.day, evaluation.time, &parts.config.site.timezone);
        if done != Some(due) {
            catch_up(&parts, &evaluation, due, now).await?;
            done = Some(due);
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Evaluates `due` and the weeks before it that have no report but were observed, oldest first.
/// Who answers the indicators' queries.
async fn source(parts: &Parts) -> Result<Source, EvaluationError> {
    let Some(remote) = parts.config.history.remote.clone() else { return Ok(Source::History(parts.history.clone())) };
    let metrics = parts.metrics.clone();
    let made = tokio::task::spawn_blocking(move || Remote::new(&remote, metrics)).await;
    let remote = made.map_err(EvaluationError::Queries)?.map_err(EvaluationError::Trust)?;
    Ok(Source::Remote(Arc::new(remote)))
}

async fn catch_up(parts: &Parts, evaluation: &Evaluation, due: Week, now: Timestamp) -> Result<(), EvaluationError> {
    let mut weeks: Vec<Week> = std::iter::successors(Some(due), |week| Some(week.previous())).take(CATCH_UP).collect();
    weeks.reverse();
    let have = archive::weeks(&parts.store, 3 * CATCH_UP as u32).await?;
    for week in weeks {
        if have.contains(&week) {
            continue;
        }
        if !was_observed(parts, week).await? {
            tracing::info!(week = %week, "nothing was observed in week {week}: no report");
            continue;
        }
        evaluate(parts, evaluation, week, now).await?;
    }
    Ok(())
}

/// Whether the ledger knows anything of the week: before the first start there is nothing to judge, and a mail that says
/// so to every leader would be noise.
async fn was_observed(parts: &Parts, week: Week) -> Result<bool, StoreError> {
    let (from, to) = week.range(&parts.config.site.timezone);
    for kind in [SubjectKind::Service, SubjectKind::Camera, SubjectKind::Hotspot] {
        let intervals = parts.ledger.intervals(kind, from, to).await?;
        if intervals.iter().any(|interval| interval.state != State::Unknown) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Measures a week, keeps the report and hands its mails over. `None` if the week has a report already.
pub async fn evaluate(
    parts: &Parts,
    evaluation: &Evaluation,
    week: Week,
    now: Timestamp,
) -> Result<Option<Report>, EvaluationError> {
    let config = &parts.config;
    let report = measure(config, evaluation, (&parts.store, &parts.ledger), source(parts).await?, week, now).await?;
    let language = config.site.language;
    let html = report.html(language)?;
    let mails = mails(config, evaluation, &report)?;
    let n_mails = mails.len();
    let mut tx = parts.store.begin().await?;
    if !archive::keep(&mut tx, &report, language, &html, &config.site.timezone, now).await? {
        return Ok(None);
    }
    for mail in mails {
        parts.deliver.deliver(&mut tx, mail).await?;
    }
    tx.commit().await?;
    publish(&parts.metrics, &report);
    tracing::info!(week = %week, agencies = report.agencies.len(), mails = n_mails, "evaluated week {week}");
    Ok(Some(report))
}

fn mails(config: &Config, evaluation: &Evaluation, report: &Report) -> Result<Vec<ReportMail>, RenderError> {
    let people = evaluation.recipients.iter().filter_map(|id| config.people.iter().find(|person| person.id == *id));
    people
        .map(|person| {
            let language = person.language.unwrap_or(config.site.language);
            Ok(ReportMail {
                key: format!("evaluation/{}/{}", report.week, person.id),
                person: person.id.clone(),
                subject: report.subject(language),
                text: report.text(language),
                html: report.html(language)?,
            })
        })
        .collect()
}

/// Shows the week in the metrics.
fn publish(metrics: &Metrics, report: &Report) {
    clear_metrics(metrics);
    let scores = metrics.table(columns::agency_score::TABLE);
    let indicators = metrics.table(columns::agency_indicator::TABLE);
    for (agency, card) in report.scorecards() {
        if let Some(score) = card.score {
            let row = scores.row(&[&agency.id]);
            scores.update(row, |cells| {
                cells.set(columns::agency_score::SCORE, score);
                cells.set(columns::agency_score::UNDERPERFORMING, f64::from(u8::from(card.underperforming)));
            });
        }
        for (indicator, judged) in report.profile.indicators.iter().zip(&card.indicators) {
            let value = agency.measured.get(&indicator.id).and_then(|measured| measured.value);
            if let (Some(value), Some(_)) = (value, judged.points) {
                let row = indicators.row(&[&agency.id, &indicator.id]);
                indicators.set(row, columns::agency_indicator::VALUE, value);
            }
        }
    }
}

fn clear_metrics(metrics: &Metrics) {
    metrics.table(columns::agency_score::TABLE).retain(|_| false);
    metrics.table(columns::agency_indicator::TABLE).retain(|_| false);
}
