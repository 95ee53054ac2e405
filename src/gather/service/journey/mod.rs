//! Several HTTP steps, as a citizen would go: `request.rs` fills in a step, `exchange.rs` sends it, `answer.rs` judges what
//! came back and takes what later steps need, `jar.rs` keeps the cookies of one run.
//!
//! A run stops at the step that fails. The steps of `finally` are made after the others, however those ended, in a time of
//! their own; they clean up, so what goes wrong in them is noted and never turns the verdict. No secret and no captured
//! value leaves a run: every text is masked before it becomes an outcome.

mod answer;
mod exchange;
mod html;
mod jar;
mod request;
#[cfg(test)]
mod tests;

use super::detail::{Detail, Failure};
use super::tls::Anchor;
use super::trace::Trace;
use super::{CheckResult, CompileError, Outcome, Phase, Phases, Trust};
use crate::config::mask::Mask;
use crate::config::probes::journey::{Journey, Step};
use crate::config::site::Language;
use jar::Jar;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Url;

/// Shorter captured values are too common in messages to be hidden there.
const SHORTEST_HIDDEN: usize = 6;

/// A [`Journey`] made ready.
#[derive(Debug)]
pub struct JourneyCheck {
    journey: Journey,
    anchor: Arc<Anchor>,
}

/// What one run carries from step to step.
#[derive(Default)]
struct Run {
    jar: Jar,
    captures: BTreeMap<String, String>,
    /// Where the last answer came from.
    at: Option<Url>,
    mask: Mask,
}

/// What the steps made so far found.
struct Tally {
    outcome: Outcome,
    /// Without thinking.
    took: Duration,
    slow: Option<(Duration, Duration)>,
}

impl JourneyCheck {
    /// Reads what the probe needs.
    pub async fn new(probe: &Journey, trust: &Trust) -> Result<JourneyCheck, CompileError> {
        let anchor = trust.anchor(probe.ca_file.as_deref()).await?;
        Ok(JourneyCheck { journey: probe.clone(), anchor })
    }

    /// Makes the check. Its steps end after `timeout` at the latest, those of `finally` after a time of their own; never
    /// fails: a failure is an outcome.
    pub async fn run(&self, timeout: Duration) -> Outcome {
        let mut run = Run { mask: (*self.journey.mask).clone(), ..Run::default() };
        let mut tally =
            Tally { outcome: Outcome::new(CheckResult::Ok, Detail::Fine), took: Duration::ZERO, slow: None };
        let deadline = Instant::now() + timeout;
        for step in &self.journey.steps {
            tokio::time::sleep(step.think.min(left(deadline))).await;
            if !self.make(step, &mut run, deadline, &mut tally).await {
                break;
            }
        }
        if tally.outcome.result == CheckResult::Ok {
            let slow = self.journey.slow_after.filter(|limit| tally.took > *limit).map(|limit| (tally.took, limit));
            if let Some((took, limit)) = slow.or(tally.slow) {
                tally.outcome.result = CheckResult::Slow;
                tally.outcome.detail = Detail::Slow { took, limit };
            }
        }
        tally.outcome.phases.add(Phase::Total, tally.took);
        self.clean_up(&mut run, &mut tally.outcome).await;
        tally.outcome
    }

    /// Makes one step and counts it; whether the journey goes on.
    async fn make(&self, step: &Step, run: &mut Run, deadline: Instant, tally: &mut Tally) -> bool {
        let whole = left(deadline);
        let limit = step.timeout.map_or(whole, |own| own.min(whole));
        let mut trace = Trace::new();
        let failure = self.walk(step, run, limit, &mut trace).await.err();
        let took = trace.started.elapsed();
        let outcome = &mut tally.outcome;
        tally.took += took;
        outcome.steps.push(super::Step { name: step.name.clone(), took, ok: failure.is_none(), cleans_up: false });
        merge(&mut outcome.phases, &trace.phases);
        outcome.status = trace.status.or(outcome.status);
        outcome.address = trace.address.or(outcome.address);
        outcome.redirects = outcome.redirects.saturating_add(trace.redirects);
        if let Some(expiry) = trace.expiry {
            outcome.expiry = Some(outcome.expiry.map_or(expiry, |other| expiry.earliest(other)));
        }
        if let Some(limit) = step.slow_after.filter(|limit| took > *limit) {
            tally.slow = tally.slow.or(Some((took, limit)));
        }
        let Some(failure) = failure else { return true };
        outcome.result = failure.result;
        outcome.detail = masked(step, &failure.detail, &run.mask);
        false
    }

    async fn walk(&self, step: &Step, run: &mut Run, limit: Duration, trace: &mut Trace) -> Result<(), Failure> {
        match tokio::time::timeout(limit, self.step(step, run, trace)).await {
            Ok(done) => done,
            Err(_) => {
                let (result, detail) = trace.at_deadline(limit);
                Err(Failure::new(result, detail))
            }
        }
    }

    /// The steps of `finally`, as far as what they need was captured.
    async fn clean_up(&self, run: &mut Run, outcome: &mut Outcome) {
        let deadline = Instant::now() + self.journey.finally_timeout;
        for step in &self.journey.finally {
            if step.needs().any(|name| !run.captures.contains_key(name)) {
                continue;
            }
            tokio::time::sleep(step.think.min(left(deadline))).await;
            let mut trace = Trace::new();
            let whole = left(deadline);
            let limit = step.timeout.map_or(whole, |own| own.min(whole));
            let failure = self.walk(step, run, limit, &mut trace).await.err();
            let took = trace.started.elapsed();
            // What cannot be undone while the portal is down is no news of its own.
            let ok = failure.is_none() || !outcome.result.is_up();
            outcome.steps.push(super::Step { name: step.name.clone(), took, ok, cleans_up: true });
            if let Some(failure) = failure {
                let reason = masked(step, &failure.detail, &run.mask).text(Language::En);
                tracing::warn!(step = step.name, reason, "a journey could not undo what it did");
            }
        }
    }
}

impl Run {
    fn capture(&mut self, name: &str, value: String) {
        if value.len() >= SHORTEST_HIDDEN {
            self.mask.add(&value);
        }
        self.captures.insert(name.to_owned(), value);
    }
}

/// The step's name and the reason, without secrets.
fn masked(step: &Step, detail: &Detail, mask: &Mask) -> Detail {
    let text = |language| mask.hide(&detail.text(language));
    Detail::Step { step: step.name.clone(), vi: text(Language::Vi), en: text(Language::En) }
}

fn merge(phases: &mut Phases, other: &Phases) {
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Total) {
        if let Some(length) = other.get(phase) {
            phases.add(phase, length);
        }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
