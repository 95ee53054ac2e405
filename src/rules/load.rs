//! Rule files: read, checked, every problem with its place. Reading is `config::node`'s; what the keys mean is here.

use super::template::{Template, nearest};
use super::{AlertingRule, Group, RecordingRule, Rule, RuleSet, parse_duration};
use super::{asked, shape};
use crate::config::Problems;
use crate::config::node::{Entry, Node, Value, quote};
use crate::config::organisation::Area;
use crate::promql::Query;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the label `severity` may be.
pub(super) const SEVERITIES: [&str; 3] = ["critical", "warning", "info"];
const ANNOTATIONS: [&str; 5] = ["summary", "summary_en", "description", "description_en", "runbook"];

/// The rule files that are shipped, by name.
pub const SHIPPED: [(&str, &str); 8] = [
    ("alerts/dependency.yml", include_str!("../../alerts/dependency.yml")),
    ("alerts/service.yml", include_str!("../../alerts/service.yml")),
    ("alerts/payment.yml", include_str!("../../alerts/payment.yml")),
    ("alerts/camera.yml", include_str!("../../alerts/camera.yml")),
    ("alerts/hotspot.yml", include_str!("../../alerts/hotspot.yml")),
    ("alerts/usage.yml", include_str!("../../alerts/usage.yml")),
    ("alerts/host.yml", include_str!("../../alerts/host.yml")),
    ("alerts/self.yml", include_str!("../../alerts/self.yml")),
];

/// Reads rule files. What is wrong goes to `problems`; the rest is returned all the same. `interval` is that of groups
/// that name none.
pub fn load(files: &[PathBuf], interval: Duration, problems: &mut Problems) -> RuleSet {
    load_files(files, interval, true, problems)
}

/// [`load`], without asking whether an incident could be made of each alert.
pub(super) fn load_plain(files: &[PathBuf], interval: Duration, problems: &mut Problems) -> RuleSet {
    load_files(files, interval, false, problems)
}

fn load_files(files: &[PathBuf], interval: Duration, for_incidents: bool, problems: &mut Problems) -> RuleSet {
    let mut groups = Vec::new();
    for file in files {
        if let Some(node) = Node::read_file(file, problems) {
            Loader { file, interval, for_incidents, problems }.file(&node, &mut groups);
        }
    }
    number(&mut groups);
    RuleSet { groups }
}

/// One rule file of which the content is given, read as [`load`] reads it; `file` only names the problems.
pub fn load_text(file: &Path, text: &str, interval: Duration, problems: &mut Problems) -> RuleSet {
    let mut groups = Vec::new();
    if let Some(node) = Node::read(file, text, problems) {
        Loader { file, interval, for_incidents: true, problems }.file(&node, &mut groups);
    }
    number(&mut groups);
    RuleSet { groups }
}

/// The shipped rules, which a test proves to be valid.
pub fn builtin(interval: Duration) -> RuleSet {
    let mut problems = Problems::default();
    let mut rules = RuleSet::default();
    for (name, text) in SHIPPED {
        rules.extend(load_text(Path::new(name), text, interval, &mut problems));
    }
    rules
}

/// Makes the identities unique: of rules that share name and labels the second is `…#2`.
pub(super) fn number(groups: &mut [Group]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for rule in groups.iter_mut().flat_map(|group| &mut group.rules) {
        let id = match rule {
            Rule::Recording(rule) => &mut rule.id,
            Rule::Alerting(rule) => &mut rule.id,
        };
        let base = id.split_once("}#").map_or(id.clone(), |(base, _)| format!("{base}}}"));
        let count = seen.entry(base.clone()).or_default();
        *count += 1;
        *id = if *count == 1 { base } else { format!("{base}#{count}") };
    }
}

struct Loader<'a> {
    file: &'a Path,
    interval: Duration,
    /// Whether alerts need what [`Loader::vouch`] asks for.
    for_incidents: bool,
    problems: &'a mut Problems,
}

impl Loader<'_> {
    fn file(&mut self, node: &Node, groups: &mut Vec<Group>) {
        let Some(entries) = self.mapping(node, &["groups"], "a rule file") else { return };
        let Some(list) = entries.iter().find(|entry| entry.key == "groups") else {
            if !node.is_null() {
                self.at(node, "groups is missing: a list of rule groups");
            }
            return;
        };
        let mut names = BTreeSet::new();
        for node in self.list(&list.value, "groups") {
            if let Some(group) = self.group(node) {
                if !names.insert(group.name.clone()) {
                    self.at(node, format!("group {} stands twice in this file", quote(&group.name)));
                }
                groups.push(group);
            }
        }
    }

    fn group(&mut self, node: &Node) -> Option<Group> {
        const KEYS: [&str; 6] = ["name", "interval", "limit", "query_offset", "labels", "rules"];
        self.mapping(node, &KEYS, "a rule group")?;
        if let Some(offset) = node.get("query_offset") {
            self.at(offset, "query_offset is not supported");
        }
        let name = match node.get("name").and_then(Node::as_text) {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => {
                self.at(node, "the group needs a name");
                String::new()
            }
        };
        let interval = self.duration(node, "interval").filter(|interval| !interval.is_zero()).unwrap_or(self.interval);
        let limit = match node.get("limit") {
            None => 0,
            Some(value) => value.as_text().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
                self.at(value, format!("limit is a whole number, found {}", value.found()));
                0
            }),
        };
        let labels = self.texts(node, "labels");
        let mut rules = Vec::new();
        match node.get("rules") {
            None => self.at(node, "the group has no rules"),
            Some(list) => {
                for node in self.list(list, "rules") {
                    rules.extend(self.rule(node, &labels, limit));
                }
            }
        }
        Some(Group { name, file: self.file.to_path_buf(), interval, rules })
    }

    fn rule(&mut self, node: &Node, group_labels: &[(String, &Node)], limit: usize) -> Option<Rule> {
        const KEYS: [&str; 7] = ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];
        self.mapping(node, &KEYS, "a rule")?;
        let own_labels = self.texts(node, "labels");
        let is_own = |name: &str| own_labels.iter().any(|(own, _)| own == name);
        let mut labels: Vec<(String, &Node)> = group_labels.iter().filter(|(name, _)| !is_own(name)).cloned().collect();
        labels.extend(own_labels.iter().cloned());
        labels.sort_by(|left, right| left.0.cmp(&right.0));
        for (name, value) in &labels {
            if !is_label(name) || matches!(name.as_str(), "__name__" | "alertname") {
                self.at(value, format!("{} cannot be a label of a rule", quote(name)));
            }
        }
        let query = self.expression(node);
        match (node.get("record"), node.get("alert")) {
            (Some(record), None) => {
                for key in ["for", "keep_firing_for", "annotations"] {
                    if let Some(value) = node.get(key) {
                        self.at(value, format!("a recording rule cannot have {key}"));
                    }
                }
                let name = record.as_text().unwrap_or_default().to_owned();
                if !is_metric(&name) {
                    self.at(record, format!("record is the name of a metric, found {}", record.found()));
                }
                let labels: BTreeMap<String, String> = labels
                    .iter()
                    .filter_map(|(name, value)| Some((name.clone(), value.as_text()?.to_owned())))
                    .collect();
                let id = identity(&name, labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
                Some(Rule::Recording(RecordingRule { id, name, query: query?, labels, limit }))
            }
            (None, Some(alert)) => self.alert(node, alert, query, &labels, limit),
            (Some(_), Some(second)) => {
                self.at(second, "a rule is either record or alert, not both");
                None
            }
            (None, None) => {
                self.at(node, "a rule needs record or alert");
                None
            }
        }
    }

    fn alert(
        &mut self,
        node: &Node,
        alert: &Node,
        query: Option<Query>,
        labels: &[(String, &Node)],
        limit: usize,
    ) -> Option<Rule> {
        let name = match alert.as_text() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => {
                self.at(alert, format!("alert is a name, found {}", alert.found()));
                return None;
            }
        };
        let hold = self.duration(node, "for").unwrap_or_default();
        let keep_firing_for = self.duration(node, "keep_firing_for").unwrap_or_default();
        let annotations = self.texts(node, "annotations");
        let labels = self.templates(labels);
        if self.for_incidents {
            self.vouch(node, &name, query.as_ref(), &labels, &annotations);
        }
        let annotations = self.templates(&annotations);
        let id = identity(&name, labels.iter().map(|(name, template)| (name.as_str(), template.text())));
        let query = query?;
        let presence = shape::presence(query.text());
        Some(Rule::Alerting(AlertingRule {
            id,
            name,
            query,
            presence,
            hold,
            keep_firing_for,
            labels,
            annotations,
            limit,
        }))
    }

    /// What an incident needs to find the responsible person and to tell them what happened.
    fn vouch(
        &mut self,
        node: &Node,
        name: &str,
        query: Option<&Query>,
        labels: &[(String, Template)],
        annotations: &[(String, &Node)],
    ) {
        let label = |wanted: &str| labels.iter().find(|(name, _)| name == wanted).map(|(_, template)| template);
        let areas: Vec<&str> = Area::ALL.iter().map(|area| area.as_str()).collect();
        for (wanted, allowed) in [("severity", &SEVERITIES[..]), ("area", &areas[..])] {
            let from_series = query.is_some_and(|query| shape::may_carry(query.text(), wanted));
            let place = node.get("labels").and_then(|labels| labels.get(wanted)).unwrap_or(node);
            match label(wanted) {
                Some(template) if template.is_static() && !allowed.contains(&template.text()) => {
                    let found = quote(template.text());
                    self.at(place, format!("{wanted} {found} is not known; allowed are {}", allowed.join(", ")));
                }
                Some(_) => {}
                // No metric of ours carries them, but a recording rule may.
                None if from_series && wanted == "area" && query.is_some_and(reads_alerts) => {}
                None => self.at(node, format!("alert {name} needs the label {wanted}: {}", allowed.join(", "))),
            }
        }
        let has_agency = query.is_none_or(|query| shape::may_carry(query.text(), "agency"));
        if label("agency").is_none() && !has_agency {
            let message =
                format!("alert {name} needs the label agency: its expression gives none, so name it in labels");
            self.at(node, message);
        }
        for wanted in ANNOTATIONS {
            if !annotations.iter().any(|(name, _)| name == wanted) {
                self.at(node, format!("alert {name} needs the annotation {wanted}"));
            }
        }
    }

    fn expression(&mut self, node: &Node) -> Option<Query> {
        let Some(value) = node.get("expr") else {
            self.at(node, "the rule needs expr");
            return None;
        };
        let Some(text) = value.as_text() else {
            self.at(value, format!("expr is PromQL, found {}", value.found()));
            return None;
        };
        match Query::parse(text.trim()) {
            Ok(query) if query.is_scalar_or_vector() => Some(query),
            Ok(_) => {
                self.at(value, "expr must give a scalar or an instant vector");
                None
            }
            Err(error) => {
                self.at(value, format!("expr: {error}"));
                None
            }
        }
    }

    /// The entries of a mapping of texts.
    fn texts<'n>(&mut self, node: &'n Node, key: &str) -> Vec<(String, &'n Node)> {
        let Some(node) = node.get(key) else { return Vec::new() };
        match &node.value {
            Value::Mapping(entries) => entries.iter().filter_map(|entry| self.text(entry)).collect(),
            Value::Null | Value::Invalid => Vec::new(),
            _ => {
                self.at(node, format!("{key} is a mapping of names to texts, found {}", node.found()));
                Vec::new()
            }
        }
    }

    fn text<'n>(&mut self, entry: &'n Entry) -> Option<(String, &'n Node)> {
        if entry.value.as_text().is_none() && !entry.value.is_null() {
            self.at(&entry.value, format!("{} is a text, found {}", entry.key, entry.value.found()));
            return None;
        }
        Some((entry.key.clone(), &entry.value))
    }

    fn templates(&mut self, texts: &[(String, &Node)]) -> Vec<(String, Template)> {
        let mut templates = Vec::with_capacity(texts.len());
        for (name, node) in texts {
            match Template::parse(node.as_text().unwrap_or_default()) {
                Ok(template) => {
                    if let Some(message) = asked::refusal(&template) {
                        self.at(node, format!("template of {name}: {message}"));
                    }
                    templates.push((name.clone(), template));
                }
                Err(message) => self.at(node, format!("template of {name}: {message}")),
            }
        }
        templates
    }

    fn duration(&mut self, node: &Node, key: &str) -> Option<Duration> {
        let value = node.get(key)?;
        let length = value.as_text().and_then(parse_duration);
        if length.is_none() {
            self.at(value, format!("{key} is a duration such as 30s, 5m or 1h30m, found {}", value.found()));
        }
        length
    }

    fn mapping<'n>(&mut self, node: &'n Node, keys: &[&str], what: &str) -> Option<&'n [Entry]> {
        let Some(entries) = node.as_mapping() else {
            if node.value != Value::Invalid {
                self.at(node, format!("{what} is a mapping of {}, found {}", keys.join(", "), node.found()));
            }
            return None;
        };
        for entry in entries {
            if !keys.contains(&entry.key.as_str()) {
                let near = nearest(&entry.key, keys.iter().copied());
                let hint = near.map_or_else(|| format!("allowed are {}", keys.join(", ")), |n| format!("nearest: {n}"));
                let message = format!("unknown key {} in {what}; {hint}", quote(&entry.key));
                self.problems.add(self.file, entry.place.line, entry.place.column, message);
            }
        }
        Some(entries)
    }

    fn list<'n>(&mut self, node: &'n Node, key: &str) -> &'n [Node] {
        node.as_sequence().unwrap_or_else(|| {
            if !matches!(node.value, Value::Null | Value::Invalid) {
                self.at(node, format!("{key} is a list, found {}", node.found()));
            }
            &[]
        })
    }

    fn at(&mut self, node: &Node, message: impl Into<String>) {
        node.problem(self.file, self.problems, message);
    }
}

fn reads_alerts(query: &Query) -> bool {
    query.metric_names().iter().any(|name| name == "ALERTS")
}

fn identity<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{name}{{{}}}", labels.join(","))
}

fn is_label(name: &str) -> bool {
    is_metric(name) && !name.contains(':')
}

fn is_metric(name: &str) -> bool {
    let mut characters = name.chars();
    let ok = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':');
    characters.next().is_some_and(ok) && characters.all(|c| ok(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Problems::default();
        let file = Path::new("r.yml");
        if let Some(node) = Node::read(file, text, &mut problems) {
            let interval = Duration::from_secs(15);
            Loader { file, interval, for_incidents: true, problems: &mut problems }.file(&node, &mut Vec::new());
        }
        problems.into_sorted().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let text = r#"groups:
  - name: a
    interval: 1x
    ruls: []
    rules:
      - alert: A
        expr: sum(up) > 1
        for: soon
        labels: {severity: criticl, area: service}
        annotations: {summary: "{{ humanise $value }}", summary_en: b, description: c, description_en: d, runbook: e}
      - record: a b
        expr: up +
        annotations: {x: y}
      - expr: up[5m]
"#;
        let expected = [
            "r.yml:3:15: error: interval is a duration such as 30s, 5m or 1h30m, found \"1x\"",
            "r.yml:4:5: error: unknown key \"ruls\" in a rule group; nearest: rules",
            "r.yml:6:9: error: alert A needs the label agency: its expression gives none, so name it in labels",
            "r.yml:8:14: error: for is a duration such as 30s, 5m or 1h30m, found \"soon\"",
            "r.yml:9:28: error: severity \"criticl\" is not known; allowed are critical, warning, info",
            "r.yml:10:32: error: template of summary: unknown function humanise; nearest: humanize",
            "r.yml:11:17: error: record is the name of a metric, found \"a b\"",
            "r.yml:12:15: error: expr: ",
            "r.yml:13:22: error: a recording rule cannot have annotations",
            "r.yml:14:9: error: a rule needs record or alert",
            "r.yml:14:15: error: expr must give a scalar or an instant vector",
        ];
        let found = problems(text);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} instead of {expected}");
        }
    }

    #[test]
    fn the_shipped_rules_are_valid_and_their_identities_unique() {
        for (name, text) in SHIPPED {
            assert_eq!(problems(text), Vec::<String>::new(), "{name}");
        }
        let rules = builtin(Duration::from_secs(15));
        let ids: Vec<&str> = rules
            .groups
            .iter()
            .flat_map(|group| &group.rules)
            .map(|rule| match rule {
                Rule::Recording(rule) => rule.id.as_str(),
                Rule::Alerting(rule) => {
                    assert!(rule.presence.is_some(), "{}", rule.id);
                    rule.id.as_str()
                }
            })
            .collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        assert!(ids.len() > SHIPPED.len(), "{ids:?}");
    }

    #[test]
    fn rules_that_share_name_and_labels_are_numbered() {
        let mut rules = builtin(Duration::from_secs(15));
        rules.extend(builtin(Duration::from_secs(15)));
        rules.extend(RuleSet::default());
        let n_second = rules.groups.iter().flat_map(|group| &group.rules).filter(|rule| match rule {
            Rule::Recording(rule) => rule.id.ends_with("#2"),
            Rule::Alerting(rule) => rule.id.ends_with("#2"),
        });
        let n_rules: usize = rules.groups.iter().map(|group| group.rules.len()).sum();
        assert_eq!(n_second.count() * 2, n_rules);
    }

    #[test]
    fn durations_are_those_of_prometheus() {
        let rows = [
            ("0", Some(0)),
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("4d", Some(345_600_000)),
            ("10ms", Some(10)),
            ("", None),
            ("5", None),
            ("1m1h", None),
            ("-5s", None),
        ];
        for (text, millis) in rows {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }
}
