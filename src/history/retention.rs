//! How long a series is kept: the longest of the window, what the queries read and what `keep` says. Of alerts that wait
//! (`ALERTS` that are pending, `ALERTS_FOR_STATE`) only the present is kept, unless somebody looks at it: where a part of a
//! large fleet comes and goes at every tick, most of them come to nothing, and the past of five minutes was an eighth of all
//! memory.

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
    /// What somebody reads or keeps, however briefly, unless it is another metric than those of alerts that wait.
    looked_at: Vec<Matchers>,
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
        let is_of_alerts = |entry: &&Entry| {
            [ALERTS, FOR_STATE].iter().any(|name| {
                let mut names = entry.matchers.matchers.iter().filter(|matcher| matcher.name == "__name__");
                names.all(|matcher| matcher.is_match(name))
            })
        };
        let looked_at = entries.iter().filter(is_of_alerts).map(|entry| entry.matchers.clone()).collect();
        let window_ms = milliseconds(config.window).saturating_add(margin);
        // What is not longer than the window changes nothing; the longest first, so that the first match decides.
        entries.retain(|entry| entry.back_ms > window_ms);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.back_ms));
        Retention { window_ms, entries, looked_at }
    }

    /// In milliseconds; 0: only the present.
    pub fn of(&self, labels: LabelsRef<'_>) -> i64 {
        self.longest(&|name| Some(labels.get(name))).0
    }

    /// In milliseconds, and who needs it: "" for the window. `label` gives a label's value, "" if there is no such
    /// label, none if it is not known: then every matcher of it is taken to match.
    pub fn longest<'l>(&self, label: &dyn Fn(&str) -> Option<&'l str>) -> (i64, &str) {
        let matches = |matchers: &Matchers| {
            matchers.matchers.iter().all(|matcher| label(&matcher.name).is_none_or(|value| matcher.is_match(value)))
        };
        if let Some(entry) = self.entries.iter().find(|entry| matches(&entry.matchers)) {
            return (entry.back_ms, &entry.reader);
        }
        let waits = match label("__name__") {
            Some(FOR_STATE) => true,
            Some(ALERTS) => label("alertstate") == Some("pending"),
            _ => false,
        };
        let is_brief = waits && !self.looked_at.iter().any(matches);
        (if is_brief { 0 } else { self.window_ms }, "")
    }
}

const ALERTS: &str = "ALERTS";
const FOR_STATE: &str = "ALERTS_FOR_STATE";

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::config;
    use crate::promql::Labels;

    #[test]
    fn of_alerts_that_wait_the_present_is_kept_unless_somebody_looks_at_them() {
        let kept = |reads: &[&str], labels: &[(&str, &str)]| {
            let need = |text: &&str| Need::of(&Query::parse(text).unwrap(), "a rule");
            let needs: Vec<Need> = reads.iter().flat_map(need).collect();
            let labels = Labels::new(labels.iter().map(|(name, value)| (*name, *value)));
            Retention::new(&config(), &needs).of(labels.view()) / 1_000
        };
        let pending = [("__name__", "ALERTS"), ("alertstate", "pending")];
        let firing = [("__name__", "ALERTS"), ("alertstate", "firing")];
        let state = [("__name__", "ALERTS_FOR_STATE")];
        for (reads, expected) in [
            (&[] as &[&str], [0, 330, 0]),
            (&["up", "{__name__=~\"ioc_.+\"}"], [0, 330, 0]),
            (&["ALERTS"], [330, 330, 0]),
            (&["ALERTS{alertstate=\"firing\"}"], [0, 330, 0]),
            (&["changes(ALERTS[10m])", "ALERTS_FOR_STATE"], [630, 630, 330]),
            (&["{__name__=~\"ALERTS.*\"}"], [330, 330, 330]),
        ] {
            let found = [&pending[..], &firing[..], &state[..]].map(|labels| kept(reads, labels));
            assert_eq!(found, expected, "{reads:?}");
        }
    }
}
