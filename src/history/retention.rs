//! How long a series is kept: the longest of the window, what the queries read and what `keep` says.

use crate::config::site;
use crate::promql::{LabelsRef, Query};
use promql_parser::label::{MatchOp, Matchers};
use std::time::Duration;

/// That somebody looks back so far on the series that match.
#[derive(Debug, Clone)]
pub struct Need {
    pub matchers: Matchers,
    pub back: Duration,
    /// Who: a rule and its file, an indicator.
    pub reader: String,
}

impl Need {
    /// What a query of `reader` needs.
    pub fn of(query: &Query, reader: &str) -> Vec<Need> {
        let lookback = query.lookback().into_iter();
        lookback.map(|(matchers, back)| Need { matchers, back, reader: reader.to_owned() }).collect()
    }

    /// The metric, if the selector names one.
    pub fn metric(&self) -> Option<&str> {
        let mut matchers = self.matchers.matchers.iter();
        let name = matchers.find(|matcher| matcher.name == "__name__" && matches!(matcher.op, MatchOp::Equal));
        name.map(|matcher| matcher.value.as_str())
    }
}

pub struct Retention {
    window_ms: i64,
    /// The longest first.
    entries: Vec<Entry>,
}

struct Entry {
    matchers: Matchers,
    back_ms: i64,
    reader: String,
}

impl Retention {
    /// A `keep` selector that cannot be read is logged and left out; the configuration's check refuses it earlier.
    pub fn new(config: &site::History, needs: &[Need]) -> Retention {
        // A window is open to the left, and a tick may come late.
        let margin = milliseconds(config.tick).saturating_mul(2);
        let entry = |matchers: &Matchers, back: Duration, reader: &str| {
            let back_ms = milliseconds(back).saturating_add(margin);
            Entry { matchers: matchers.clone(), back_ms, reader: reader.to_owned() }
        };
        let mut entries: Vec<Entry> = needs.iter().map(|need| entry(&need.matchers, need.back, &need.reader)).collect();
        for keep in &config.keep {
            let query = Query::parse(&keep.selector);
            match query.map(|query| query.lookback().into_iter().next()) {
                Ok(Some((matchers, _))) => entries.push(entry(&matchers, keep.keep, "history.keep")),
                Ok(None) => tracing::error!(selector = keep.selector, "history.keep: not a selector"),
                Err(error) => tracing::error!(selector = keep.selector, %error, "history.keep: not a selector"),
            }
        }
        let window_ms = milliseconds(config.window).saturating_add(margin);
        // What is not longer than the window changes nothing; the longest first, so that the first match decides.
        entries.retain(|entry| entry.back_ms > window_ms);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.back_ms));
        Retention { window_ms, entries }
    }

    /// In milliseconds.
    pub fn of(&self, labels: LabelsRef<'_>) -> i64 {
        self.longest(&|name| Some(labels.get(name))).0
    }

    /// In milliseconds, and who needs it: "" for the window. `label` gives a label's value, "" if there is no such
    /// label, none if it is not known: then every matcher of it is taken to match.
    pub fn longest<'l>(&self, label: &dyn Fn(&str) -> Option<&'l str>) -> (i64, &str) {
        let matches = |matchers: &Matchers| {
            matchers.matchers.iter().all(|matcher| label(&matcher.name).is_none_or(|value| matcher.is_match(value)))
        };
        let found = self.entries.iter().find(|entry| matches(&entry.matchers));
        found.map_or((self.window_ms, ""), |entry| (entry.back_ms, &entry.reader))
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
