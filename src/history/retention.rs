//! How long a series is kept: the longest of the window, what the queries read and what `keep` says.

use crate::config::site;
use crate::promql::{Labels, Query};
use promql_parser::label::Matchers;
use std::time::Duration;

pub struct Retention {
    window_ms: i64,
    entries: Vec<(Matchers, i64)>,
}

impl Retention {
    /// A `keep` selector that cannot be read is logged and left out; the configuration's check refuses it earlier.
    pub fn new(config: &site::History, ranges: &[(Matchers, Duration)]) -> Retention {
        // A window is open to the left, and a tick may come late.
        let margin = milliseconds(config.tick).saturating_mul(2);
        let mut entries: Vec<(Matchers, i64)> = ranges
            .iter()
            .map(|(matchers, back)| (matchers.clone(), milliseconds(*back).saturating_add(margin)))
            .collect();
        for keep in &config.keep {
            let query = Query::parse(&keep.selector);
            match query.map(|query| query.lookback().into_iter().next()) {
                Ok(Some((matchers, _))) => entries.push((matchers, milliseconds(keep.keep).saturating_add(margin))),
                Ok(None) => tracing::error!(selector = keep.selector, "history.keep: not a selector"),
                Err(error) => tracing::error!(selector = keep.selector, %error, "history.keep: not a selector"),
            }
        }
        let window_ms = milliseconds(config.window).saturating_add(margin);
        // What is not longer than the window changes nothing; the longest first, so that the first match decides.
        entries.retain(|(_, back)| *back > window_ms);
        entries.sort_by_key(|(_, back)| std::cmp::Reverse(*back));
        Retention { window_ms, entries }
    }

    /// In milliseconds.
    pub fn of(&self, labels: &Labels) -> i64 {
        let matches =
            |matchers: &Matchers| matchers.matchers.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name)));
        self.entries.iter().find(|(matchers, _)| matches(matchers)).map_or(self.window_ms, |(_, back)| *back)
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
