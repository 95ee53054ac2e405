//! When each service is checked. One task keeps a heap of what is due; each check is a task of its own, bounded in number.
//!
//! A service has a fixed grid of times: its interval, shifted by an offset made from its id. A check that begins late
//! keeps the grid. What was missed by a whole interval or more is skipped and counted, never made up for in a bunch.

use super::record::{Series, retain};
use super::tls::Trust;
use super::{Check, Outcome};
use crate::attribution::Ledger;
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

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The scheduler's own task lost a check without a result: a mistake in the program.
    #[error("a check ended without a result")]
    Lost(#[source] tokio::task::JoinError),
}

/// Checks `services` until `shutdown`. The reasons in the ledger are in `language`.
pub async fn run(
    services: Vec<Service>,
    language: Language,
    metrics: Arc<Metrics>,
    ledger: Ledger,
    shutdown: CancellationToken,
) -> Result<(), ServiceError> {
    retain(&metrics, &ledger, &services, Timestamp::now());
    let trust = Arc::new(Trust::default());
    let start = Instant::now();
    let mut watched: Vec<Watched> =
        services.into_iter().map(|service| Watched::new(service, &metrics, start)).collect();
    let mut due: BinaryHeap<Reverse<(Instant, usize)>> =
        watched.iter().enumerate().map(|(index, watched)| Reverse((watched.first(start), index))).collect();
    let mut ready: VecDeque<usize> = VecDeque::new();
    let mut in_flight: JoinSet<(usize, Ended)> = JoinSet::new();
    loop {
        while in_flight.len() < IN_FLIGHT_MAX
            && let Some(index) = ready.pop_front()
        {
            let skipped = watched[index].begin(Instant::now());
            if skipped > 0 {
                metrics.own.probes_skipped.with_label_values(&[Skipped::Busy.as_str()]).inc_by(skipped);
            }
            let task = check(watched[index].service.clone(), watched[index].check.clone(), trust.clone());
            in_flight.spawn(async move { (index, task.await) });
        }
        let next = due.peek().map(|Reverse((time, _))| *time);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(joined) = in_flight.join_next() => {
                let (index, ended) = joined.map_err(ServiceError::Lost)?;
                let watched = &mut watched[index];
                watched.end(ended, &ledger, &metrics, language);
                due.push(Reverse((watched.next, index)));
            }
            () = sleep_until(next) => {
                let now = Instant::now();
                while let Some(Reverse((time, index))) = due.peek().copied()
                    && time <= now
                {
                    due.pop();
                    ready.push_back(index);
                }
            }
        }
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

async fn check(service: Arc<Service>, check: Option<Arc<Check>>, trust: Arc<Trust>) -> Ended {
    let make = async {
        let check = match check {
            Some(check) => check,
            None => match Check::compile(&service.probe, &trust).await {
                Ok(check) => Arc::new(check),
                Err(error) => return Ended::Not { reason: Skipped::Unusable, message: error.to_string() },
            },
        };
        let at = Timestamp::now();
        let outcome = Box::new(check.run(service.timeout).await);
        Ended::Checked { check, outcome, at }
    };
    // Nothing of a check outlives it, so a panic leaves nothing half-done behind.
    let made = AssertUnwindSafe(make).catch_unwind().await;
    made.unwrap_or_else(|_| Ended::Not { reason: Skipped::Panic, message: "the check panicked".into() })
}

/// A service and its place on the grid.
struct Watched {
    service: Arc<Service>,
    series: Series,
    /// `None` until it could be made ready.
    check: Option<Arc<Check>>,
    /// The grid time that the check due next, or running, belongs to; after its end the one after that.
    next: Instant,
    /// The last message about not being checked, so that it is logged once.
    complained: Option<String>,
}

impl Watched {
    fn new(service: Service, metrics: &Arc<Metrics>, start: Instant) -> Watched {
        let series = Series::new(metrics, &service);
        let next = start + offset(&service.id, service.every);
        Watched { service: Arc::new(service), series, check: None, next, complained: None }
    }

    /// When the first check is made: early, spread like the grid.
    fn first(&self, start: Instant) -> Instant {
        start + offset(&self.service.id, self.service.every.min(FIRST_WITHIN))
    }

    /// A check begins: moves to the next grid time and returns how many were skipped.
    fn begin(&mut self, now: Instant) -> u64 {
        let (next, skipped) = after(self.next, self.service.every, now);
        self.next = next;
        skipped
    }

    fn end(&mut self, ended: Ended, ledger: &Ledger, metrics: &Metrics, language: Language) {
        match ended {
            Ended::Checked { check, outcome, at } => {
                self.check = Some(check);
                self.complained = None;
                self.series.record(ledger, &outcome, at, language);
            }
            Ended::Not { reason, message } => {
                metrics.own.probes_skipped.with_label_values(&[reason.as_str()]).inc();
                self.series.record_unknown(ledger, Timestamp::now(), &message);
                if self.complained.as_ref() != Some(&message) {
                    let service = self.service.id.as_str();
                    tracing::error!(service, error = message, "service {service} cannot be checked: {message}");
                    self.complained = Some(message);
                }
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
}
