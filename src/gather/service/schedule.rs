//! When each service and dependency is checked. One task keeps a heap of what is due; each check is a task of its own,
//! bounded in number.
//!
//! A target has a fixed grid of times: its interval, shifted by an offset made from its id. A check that begins late
//! keeps the grid. What was missed by a whole interval or more is skipped and counted, never made up for in a bunch.
//!
//! When something fails, what it needs is checked at once and before everything else (at most once in
//! [`RECHECK_EVERY`]), so that the cause is known before anybody is told.

use super::target::{Doubts, Target, Targets};
use super::tls::Trust;
use super::{Check, Outcome, dependency, record};
use crate::attribution::{Ledger, State};
use crate::config::probes::Probe;
use crate::config::services::Service;
use crate::config::site::Language;
use crate::metrics::Metrics;
use futures_util::FutureExt;
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Checks at the same time. 2,000 services that all hang for 10 s still get their turn every 40 s, and 512 sockets fit
/// a process with the usual 1,024 descriptors.
const IN_FLIGHT_MAX: usize = 512;
/// The first check comes this soon after a start, however long the interval.
const FIRST_WITHIN: Duration = Duration::from_secs(15);

/// Between two checks of a dependency that is in doubt.
const RECHECK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The scheduler's own task lost a check without a result: a mistake in the program.
    #[error("a check ended without a result")]
    Lost(#[source] tokio::task::JoinError),
}

/// Checks `services`, which need nothing, until `shutdown`. The reasons in the ledger are in `language`.
pub async fn run(
    services: Vec<Service>,
    language: Language,
    metrics: Arc<Metrics>,
    ledger: Ledger,
    shutdown: CancellationToken,
) -> Result<(), ServiceError> {
    let targets = Targets { services, language, ..Targets::default() };
    run_all(targets, metrics, ledger, Doubts::default(), shutdown).await
}

/// Checks `targets` until `shutdown`. Dependencies that `doubts` name are checked at once.
pub async fn run_all(
    targets: Targets,
    metrics: Arc<Metrics>,
    ledger: Ledger,
    doubts: Doubts,
    shutdown: CancellationToken,
) -> Result<(), ServiceError> {
    record::retain(&metrics, &ledger, &targets.services, Timestamp::now());
    dependency::retain(&metrics, &ledger, &targets, Timestamp::now());
    let trust = Arc::new(Trust::default());
    let mut agenda = Agenda::new(targets, &metrics, Instant::now());
    let mut in_flight: JoinSet<(usize, Ended)> = JoinSet::new();
    loop {
        while let Some(index) = agenda.pop(in_flight.len()) {
            let watched = &mut agenda.watched[index];
            let skipped = watched.begin(Instant::now());
            if skipped > 0 {
                metrics.own.probes_skipped.with_label_values(&[Skipped::Busy.as_str()]).inc_by(skipped);
            }
            let target = &watched.target;
            let task = check(target.probe.clone(), target.timeout, watched.check.clone(), trust.clone());
            in_flight.spawn(async move { (index, task.await) });
        }
        let next = agenda.due.peek().map(|Reverse((time, _))| *time);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(joined) = in_flight.join_next() => {
                let (index, ended) = joined.map_err(ServiceError::Lost)?;
                agenda.end(index, ended, &ledger, &metrics);
            }
            () = doubts.raised() => {
                let in_doubt = doubts.take();
                let known = (0..agenda.n_dependencies).filter(|&n| in_doubt.contains(agenda.watched[n].target.id.as_str()));
                let known: Vec<usize> = known.collect();
                agenda.doubt(&known, Instant::now());
            }
            () = sleep_until(next) => agenda.pass(Instant::now()),
        }
    }
}

/// All targets and when they are due.
struct Agenda {
    /// Dependencies first.
    watched: Vec<Watched>,
    n_dependencies: usize,
    /// An entry counts only if its time is the target's [`Watched::scheduled`].
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    ready: VecDeque<usize>,
    language: Language,
}

impl Agenda {
    fn new(targets: Targets, metrics: &Arc<Metrics>, start: Instant) -> Agenda {
        let (n_dependencies, language) = (targets.dependencies.len(), targets.language);
        let watched: Vec<Watched> =
            Target::all(targets, metrics).into_iter().map(|target| Watched::new(target, start)).collect();
        let due = watched.iter().enumerate().filter_map(|(index, w)| Some(Reverse((w.scheduled?, index)))).collect();
        Agenda { watched, n_dependencies, due, ready: VecDeque::new(), language }
    }

    /// The next that is ready, while no more than [`IN_FLIGHT_MAX`] run. Dependencies are few and never wait for others.
    fn pop(&mut self, n_in_flight: usize) -> Option<usize> {
        let first = *self.ready.front()?;
        if n_in_flight >= IN_FLIGHT_MAX && !self.watched[first].target.is_dependency() {
            return None;
        }
        self.ready.pop_front()
    }

    fn schedule(&mut self, index: usize, time: Instant) {
        self.watched[index].scheduled = Some(time);
        self.due.push(Reverse((time, index)));
    }

    /// Time passes: what is due becomes ready.
    fn pass(&mut self, now: Instant) {
        while let Some(Reverse((time, index))) = self.due.peek().copied()
            && time <= now
        {
            self.due.pop();
            if self.watched[index].scheduled == Some(time) {
                self.watched[index].scheduled = None;
                match self.watched[index].target.is_dependency() {
                    true => self.ready.push_front(index),
                    false => self.ready.push_back(index),
                }
            }
        }
    }

    /// Has these dependencies checked as soon as they may; the first of them first.
    fn doubt(&mut self, dependencies: &[usize], now: Instant) {
        for &index in dependencies.iter().rev() {
            let watched = &mut self.watched[index];
            let Some(scheduled) = watched.scheduled else {
                // Ready or running. What runs may have begun before the fault.
                watched.again = watched.began.is_some();
                continue;
            };
            let soonest = watched.last_began.map_or(now, |began| (began + RECHECK_EVERY).max(now));
            if soonest < scheduled {
                self.schedule(index, soonest);
            }
        }
        self.pass(now);
    }

    fn end(&mut self, index: usize, ended: Ended, ledger: &Ledger, metrics: &Metrics) {
        let now = Instant::now();
        let language = self.language;
        let watched = &mut self.watched[index];
        let fails = watched.end(ended, ledger, metrics, language);
        let mut next = watched.next;
        if std::mem::take(&mut watched.again)
            && let Some(began) = watched.last_began
        {
            next = next.min((began + RECHECK_EVERY).max(now));
        }
        let needs = if fails { watched.target.needs.clone() } else { Vec::new() };
        self.schedule(index, next);
        self.doubt(&needs, now);
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Why a check that was due was not made; the label of `ioc_probes_skipped_total`.
#[derive(Debug, Clone, Copy)]
enum Skipped {
    /// Too many checks were running for a whole interval.
    Busy,
    /// The CA file or the probe's settings cannot be used.
    Unusable,
    /// The check panicked.
    Panic,
}

impl Skipped {
    fn as_str(self) -> &'static str {
        match self {
            Skipped::Busy => "busy",
            Skipped::Unusable => "unusable",
            Skipped::Panic => "panic",
        }
    }
}

enum Ended {
    Checked { check: Arc<Check>, outcome: Box<Outcome>, at: Timestamp },
    Not { reason: Skipped, message: String },
}

async fn check(probe: Arc<Probe>, timeout: Duration, check: Option<Arc<Check>>, trust: Arc<Trust>) -> Ended {
    let make = async {
        let check = match check {
            Some(check) => check,
            None => match Check::compile(&probe, &trust).await {
                Ok(check) => Arc::new(check),
                Err(error) => return Ended::Not { reason: Skipped::Unusable, message: error.to_string() },
            },
        };
        let at = Timestamp::now();
        let outcome = Box::new(check.run(timeout).await);
        Ended::Checked { check, outcome, at }
    };
    // Nothing of a check outlives it, so a panic leaves nothing half-done behind.
    let made = AssertUnwindSafe(make).catch_unwind().await;
    made.unwrap_or_else(|_| Ended::Not { reason: Skipped::Panic, message: "the check panicked".into() })
}

/// A target and its place on the grid.
struct Watched {
    target: Target,
    /// `None` until it could be made ready.
    check: Option<Arc<Check>>,
    /// The grid time that the check due next, or running, belongs to; after its end the one after that.
    next: Instant,
    /// When it is due; `None` while it is ready or runs.
    scheduled: Option<Instant>,
    /// Since when it runs.
    began: Option<Instant>,
    last_began: Option<Instant>,
    /// To be checked again as soon as it may: it came into doubt while it ran.
    again: bool,
    /// The last message about not being checked, so that it is logged once.
    complained: Option<String>,
}

impl Watched {
    fn new(target: Target, start: Instant) -> Watched {
        let next = start + offset(&target.id, target.every);
        // The first check is made early, spread like the grid.
        let first = start + offset(&target.id, target.every.min(FIRST_WITHIN));
        Watched {
            target,
            check: None,
            next,
            scheduled: Some(first),
            began: None,
            last_began: None,
            again: false,
            complained: None,
        }
    }

    /// A check begins: moves to the next grid time and returns how many were skipped.
    fn begin(&mut self, now: Instant) -> u64 {
        self.began = Some(now);
        self.last_began = Some(now);
        let (next, skipped) = after(self.next, self.target.every, now);
        self.next = next;
        skipped
    }

    /// A check ended. Whether that is a new failure.
    fn end(&mut self, ended: Ended, ledger: &Ledger, metrics: &Metrics, language: Language) -> bool {
        self.began = None;
        match ended {
            Ended::Checked { check, outcome, at } => {
                self.check = Some(check);
                self.complained = None;
                let was_down = self.target.series.current(ledger) == Some(State::Down);
                self.target.series.record(ledger, &outcome, at, language);
                !was_down && outcome.state() == State::Down
            }
            Ended::Not { reason, message } => {
                metrics.own.probes_skipped.with_label_values(&[reason.as_str()]).inc();
                self.target.series.record_unknown(ledger, Timestamp::now(), &message);
                if self.complained.as_ref() != Some(&message) {
                    let (kind, id) = (self.target.kind(), self.target.id.as_str());
                    tracing::error!(service = id, error = message, "{kind} {id} cannot be checked: {message}");
                    self.complained = Some(message);
                }
                false
            }
        }
    }
}

/// The grid time after the check that begins at `now` for the grid time `due`, and how many were missed between.
/// Less than an interval late is only late: the next check follows on the grid, at once if it is already due.
fn after(due: Instant, every: Duration, now: Instant) -> (Instant, u64) {
    if now < due {
        // The early first check does not stand for its grid time.
        return (due, 0);
    }
    let late = now.duration_since(due).as_nanos();
    let skipped = u64::try_from(late / every.as_nanos().max(1)).unwrap_or(u64::MAX);
    let passed = u32::try_from(skipped).unwrap_or(u32::MAX).saturating_add(1);
    (due + every.saturating_mul(passed), skipped)
}

/// A place in `0..every` that depends on the id alone, evenly spread over ids.
fn offset(id: &str, every: Duration) -> Duration {
    // FNV-1a, then the finalizer of MurmurHash3: short ids that differ in their last character only must differ in the
    // high bits too.
    let mut hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^= hash >> 33;
    every.mul_f64(hash as f64 / 2_f64.powi(64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_stable_and_even() {
        let every = Duration::from_secs(30);
        assert_eq!(offset("dvc-tam-ky", every), offset("dvc-tam-ky", every));
        let mut per_second = [0; 30];
        for n in 0..2_000 {
            per_second[usize::try_from(offset(&format!("s-{n}"), every).as_secs()).unwrap()] += 1;
        }
        let (least, most) = (per_second.iter().min().unwrap(), per_second.iter().max().unwrap());
        assert!(*least > 35 && *most < 105, "{per_second:?}");
    }

    #[test]
    fn a_late_check_keeps_the_grid_and_whole_intervals_are_skipped() {
        let due = Instant::now();
        let every = Duration::from_secs(10);
        let at = |seconds: f64| due + Duration::from_secs_f64(seconds);
        // (begins at, next, skipped)
        let rows = [(0.0, 10.0, 0), (9.9, 10.0, 0), (10.0, 20.0, 1), (35.0, 40.0, 3)];
        for (now, next, skipped) in rows {
            assert_eq!(after(due, every, at(now)), (at(next), skipped), "{now}");
        }
        assert_eq!(after(at(5.0), every, at(1.0)), (at(5.0), 0), "the early first check");
    }

    #[test]
    fn what_is_in_doubt_is_checked_at_once_and_before_everything_else_but_not_without_pause() {
        let text = "site: {name: IOC, agency: ioc}\npeople: [{id: t, name: T, email: t@ioc.vn.example}]\n\
                    agencies: [{id: ioc, name: IOC, leader: t}]\ndependencies:\n\
                    \x20 - {id: vien-thong, cause: telecom, every: 1h, depends_on: [uplink], probe: {http: {url: 'http://127.0.0.1:1/'}}}\n\
                    \x20 - {id: uplink, cause: own_uplink, every: 1h, probe: {http: {url: 'http://127.0.0.1:1/'}}}\n\
                    services: [{id: dvc, agency: ioc, every: 1h, depends_on: [vien-thong], http: {url: 'http://127.0.0.1:1/'}}]\n";
        let config = crate::config::load_text(std::path::Path::new("c.yml"), text, &|_| None).unwrap();
        let start = Instant::now();
        let mut agenda = Agenda::new(Targets::of(&config), &Arc::new(Metrics::new()), start);
        let needs = agenda.watched[2].target.needs.clone();
        assert_eq!(needs, [1, 0], "the own uplink first, then by precedence");
        agenda.ready.push_back(2);
        agenda.doubt(&needs, start);
        let order: Vec<usize> = std::iter::from_fn(|| agenda.pop(0)).collect();
        assert_eq!(order, [1, 0, 2]);
        let at = |millis| start + Duration::from_millis(millis);
        agenda.watched[1].begin(start);
        agenda.doubt(&[1], at(100));
        assert!(agenda.watched[1].again, "it may have begun before the fault");
        agenda.watched[0].begin(start);
        agenda.watched[0].began = None;
        agenda.schedule(0, at(3_600_000));
        agenda.doubt(&[0], at(200));
        assert_eq!(agenda.pop(0), None, "a moment ago");
        agenda.pass(at(999));
        assert_eq!(agenda.pop(0), None);
        agenda.pass(at(1_000));
        assert_eq!(agenda.pop(IN_FLIGHT_MAX), Some(0), "dependencies never wait for others");
        agenda.pass(at(3_600_000));
        assert!(!agenda.ready.contains(&0), "the entry of before no longer counts");
    }
}
