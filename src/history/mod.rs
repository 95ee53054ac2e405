//! The in-process history of metrics: every series as a step function on a shared tick clock, filled by the sampler.

use crate::config::site;
use crate::metrics::Metrics;
use crate::promql::{Labels, Storage};
use jiff::Timestamp;
use promql_parser::label::Matchers;

/// Holds the series; shared by the sampler, the ruler and the query API.
pub struct History {}

impl History {
    /// `ranges`: how far back the loaded rules and indicators look, see [`crate::promql::Query`].
    pub fn new(config: &site::History) -> History {
        let _ = config;
        todo!()
    }

    /// One tick: reads every metric, and what the ruler recorded since the last tick.
    pub fn sample(&self, metrics: &Metrics, now: Timestamp) {
        let _ = (metrics, now);
        todo!()
    }

    /// Adds series that do not come from the metrics (recording rules, `ALERTS`), effective at the current tick. Of the
    /// series that `owner` recorded before, those not in `samples` end (become stale).
    pub fn record(&self, owner: &str, samples: Vec<(Labels, f64)>, now: Timestamp) {
        let _ = (owner, samples, now);
        todo!()
    }

    /// Holds the history still for one evaluation.
    pub fn read(&self) -> Reader<'_> {
        todo!()
    }
}

/// A consistent view of the history.
pub struct Reader<'a> {
    _history: &'a History,
}

impl Storage for Reader<'_> {
    fn select<'s>(
        &'s self,
        matchers: &Matchers,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(crate::promql::Series<'s>),
    ) {
        let _ = (matchers, from_ms, to_ms, each);
        todo!()
    }
}
