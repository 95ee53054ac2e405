//! Inhibition: an alert about which nobody is told while another one says it all (Alertmanager's rule, its `inhibit`
//! package).

use crate::alert::Alert;
use crate::config::incidents::Inhibit;
use crate::matcher;
use std::collections::HashMap;

/// The alerts that inhibit others just now.
#[derive(Default)]
pub(super) struct Inhibitor {
    /// By rule, then by the values of its `equal`.
    sources: Vec<HashMap<Vec<String>, Vec<Source>>>,
    version: u64,
}

/// An alert that inhibits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    pub fingerprint: String,
    pub alert: Alert,
    /// It could be inhibited by the same rule: then it inhibits nothing that could inhibit it.
    is_target: bool,
}

impl Inhibitor {
    /// Finds the sources among all that fires.
    pub fn rebuild<'a>(&mut self, rules: &[Inhibit], firing: impl Iterator<Item = (&'a str, &'a Alert)>) {
        let mut sources: Vec<HashMap<Vec<String>, Vec<Source>>> = vec![HashMap::new(); rules.len()];
        if !rules.is_empty() {
            for (fingerprint, alert) in firing {
                for (rule, sources) in rules.iter().zip(&mut sources) {
                    if matcher::all(&rule.source, &alert.labels) {
                        let is_target = matcher::all(&rule.target, &alert.labels);
                        let source = Source { fingerprint: fingerprint.to_owned(), alert: alert.clone(), is_target };
                        sources.entry(key(rule, alert)).or_default().push(source);
                    }
                }
            }
            for found in sources.iter_mut().flat_map(HashMap::values_mut) {
                found.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
            }
        }
        if sources != self.sources {
            self.sources = sources;
            self.version += 1;
        }
    }

    /// Another number whenever other alerts inhibit.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What inhibits `alert`; each once.
    pub fn by<'a>(&'a self, rules: &'a [Inhibit], alert: &'a Alert) -> impl Iterator<Item = &'a Source> {
        rules.iter().zip(&self.sources).filter(|(rule, _)| matcher::all(&rule.target, &alert.labels)).flat_map(
            |(rule, sources)| {
                let is_source = matcher::all(&rule.source, &alert.labels);
                let found = sources.get(&key(rule, alert)).map(Vec::as_slice).unwrap_or_default();
                found.iter().filter(move |source| !(is_source && source.is_target))
            },
        )
    }
}

fn key(rule: &Inhibit, alert: &Alert) -> Vec<String> {
    rule.equal.iter().map(|name| alert.label(name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::Matcher;
    use jiff::Timestamp;

    fn alert(text: &str) -> Alert {
        Alert {
            labels: text.split(' ').filter_map(|p| p.split_once('=')).collect(),
            annotations: Default::default(),
            starts_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            generator_url: "".into(),
            end_is_assumed: false,
        }
    }

    #[test]
    fn an_alert_inhibits_those_with_equal_labels_and_never_itself() {
        let matchers = |text: &str| text.split(' ').map(|m| Matcher::parse(m).unwrap()).collect();
        let rule = |source: &str, target: &str, equal: &[&str]| Inhibit {
            source: matchers(source),
            target: matchers(target),
            equal: equal.iter().map(|name| (*name).to_owned()).collect(),
        };
        let rules = [
            rule("alertname=BrokerDown", "area=~camera|hotspot", &["agency"]),
            rule("severity=~critical|warning", "severity=warning", &["agency", "service"]),
        ];
        let firing = [
            "alertname=BrokerDown agency=a",
            "alertname=Slow agency=b service=s severity=warning",
            "alertname=Slow agency=b service=s2 severity=warning",
            "alertname=Down agency=b service=s severity=critical",
        ];
        let firing: Vec<(String, Alert)> =
            firing.iter().map(|text| alert(text)).map(|a| (a.fingerprint(), a)).collect();
        let mut inhibitor = Inhibitor::default();
        let version = inhibitor.version();
        inhibitor.rebuild(&rules, firing.iter().map(|(fingerprint, alert)| (fingerprint.as_str(), alert)));
        assert_ne!(inhibitor.version(), version);
        let rows = [
            ("area=camera agency=a", "BrokerDown"),
            ("area=camera agency=b", ""),
            ("area=camera", ""),
            ("area=service agency=a", ""),
            ("alertname=Slow agency=b service=s severity=warning", "Down"),
            // Another warning could inhibit it, but is a target itself.
            ("alertname=Slow agency=b service=s2 severity=warning", ""),
            ("alertname=Down agency=b service=s severity=critical", ""),
        ];
        for (text, expected) in rows {
            let alert = alert(text);
            let by: Vec<&str> = inhibitor.by(&rules, &alert).map(|source| source.alert.label("alertname")).collect();
            assert_eq!(by.join(","), expected, "{text}");
        }
        let version = inhibitor.version();
        inhibitor.rebuild(&rules, firing.iter().rev().map(|(fingerprint, alert)| (fingerprint.as_str(), alert)));
        assert_eq!(inhibitor.version(), version, "the same alerts in another order");
        inhibitor.rebuild(&rules, std::iter::empty());
        assert_ne!(inhibitor.version(), version);
        assert_eq!(inhibitor.by(&rules, &alert("area=camera agency=a")).count(), 0);
    }
}
