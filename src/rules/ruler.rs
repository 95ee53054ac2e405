//! Evaluates the groups and keeps the state of every alert.
//!
//! The caller owns the clock and the transaction: it evaluates a group at its time, stores the changed states with
//! [`Ruler::changes`] in the transaction that hands the alerts on, and says [`Ruler::committed`] after the commit. What
//! was not committed is saved and reported again next time.

use super::alerting::{self, Active, Alerts, LabelMap, Setting, State};
use super::expand::{self, Expander, Remembered, Surroundings};
use super::state::Log;
use super::{AlertingRule, Engine, Group, RecordingRule, Rule, RuleSet};
use crate::alert::{Alert, LabelSet};
use crate::labels::{Labels, Name};
use crate::promql::{Query, Value};
use jiff::Timestamp;
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// All groups and the states of their alerts.
pub struct Ruler {
    groups: Vec<Arc<Group>>,
    /// By the rule's identity.
    pub(super) states: HashMap<String, Alerts>,
    /// Alerts that are no more, but may still be in the state database: the rule's identity and their labels.
    pub(super) gone: Vec<(String, LabelSet)>,
    /// The last outcome was not committed.
    pub(super) is_uncommitted: bool,
    /// Of the state database.
    pub(super) log: Log,
    /// By the rule's identity.
    expanded: HashMap<String, Remembered>,
    /// Firing alerts whose rule is gone: reported as resolved until that is committed.
    pub(super) orphans: Vec<Orphan>,
    /// Owners of recorded series whose rule is gone.
    retired: Vec<String>,
    external_url: String,
    external_labels: Labels,
    started: Timestamp,
    /// Of the last evaluations, by the rule's identity.
    rule_statuses: HashMap<String, Status>,
    /// By the group's position.
    group_statuses: Vec<Status>,
}

/// How an evaluation went.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    /// `None` before the first.
    pub at: Option<Timestamp>,
    pub duration: Duration,
    pub error: Option<String>,
    /// There was a result; a template may have failed all the same.
    pub is_evaluated: bool,
}

/// An alert whose rule is gone.
pub(super) struct Orphan {
    pub rule: String,
    pub labels: LabelSet,
    pub alert: Active,
    /// Whether an outcome carried it.
    pub reported: bool,
}

/// What one evaluation of a group gave.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Those that began to fire or ended, and those that fire and were not handed on for [`alerting::RESEND`], or
    /// [`alerting::RESEND_SAME`].
    pub alerts: Vec<Alert>,
    /// Samples that were recorded, `ALERTS` and `ALERTS_FOR_STATE` included.
    pub n_recorded: usize,
    pub failures: Vec<Failure>,
}

/// A rule that could not be evaluated, or a template of it that could not be expanded. Alerts stay as they were.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub group: String,
    pub rule: String,
    pub message: String,
    /// The alert goes out all the same, with the failure for a text.
    pub is_template: bool,
}

impl Ruler {
    /// `external_labels` are what templates see as `$externalLabels`: `agency`, the site agency, for the shipped rules.
    /// `started` is when the history began to fill.
    pub fn new(rules: RuleSet, external_url: &str, external_labels: LabelMap, started: Timestamp) -> Ruler {
        let n_groups = rules.groups.len();
        Ruler {
            groups: rules.groups.into_iter().map(Arc::new).collect(),
            states: HashMap::new(),
            gone: Vec::new(),
            is_uncommitted: false,
            log: Log::default(),
            expanded: HashMap::new(),
            orphans: Vec::new(),
            retired: Vec::new(),
            external_url: external_url.trim_end_matches('/').to_owned(),
            external_labels: Labels::new(external_labels),
            started,
            rule_statuses: HashMap::new(),
            group_statuses: vec![Status::default(); n_groups],
        }
    }

    pub(super) fn group_status(&self, group: usize) -> &Status {
        &self.group_statuses[group]
    }

    pub(super) fn rule_status(&self, id: &str) -> Status {
        self.rule_statuses.get(id).cloned().unwrap_or_default()
    }

    /// The groups; their positions are what [`Ruler::evaluate`] takes.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// At a reload: takes over the alerts of the rules that still exist. Alerts of those that do not are reported as
    /// resolved by the next evaluation.
    pub fn adopt(&mut self, old: Ruler) {
        let known: BTreeSet<String> = self.ids().map(str::to_owned).collect();
        self.started = old.started;
        self.retired = old.ids().filter(|id| !known.contains(*id)).map(str::to_owned).collect();
        self.retired.extend(old.retired);
        self.gone.extend(old.gone);
        self.is_uncommitted |= old.is_uncommitted;
        self.log = old.log;
        self.orphans.extend(old.orphans);
        for (rule, mut alerts) in old.states {
            // Their templates may be others now, and so may what becomes of them.
            alerts.values_mut().for_each(|alert| (alert.annotated, alert.told) = (None, None));
            self.take_in(&known, rule, alerts);
        }
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(|group| group.rules.iter()).map(|rule| match rule {
            Rule::Recording(rule) => rule.id.as_str(),
            Rule::Alerting(rule) => rule.id.as_str(),
        })
    }

    /// The identities of all rules.
    pub fn known_ids(&self) -> BTreeSet<String> {
        self.ids().map(str::to_owned).collect()
    }

    /// Keeps the alerts of a known rule; makes those of another orphans.
    pub(super) fn take_in(&mut self, known: &BTreeSet<String>, rule: String, alerts: Alerts) {
        if known.contains(&rule) {
            self.states.insert(rule, alerts);
            return;
        }
        for (labels, alert) in alerts {
            // A firing one stays in the database until its resolution was reported.
            if alert.state == State::Firing {
                self.orphans.push(Orphan { rule: rule.clone(), labels, alert: *alert, reported: false });
            } else {
                self.gone.push((rule.clone(), labels));
            }
        }
    }

    /// Evaluates a group at `now`: its rules in order, each seeing what those before it recorded.
    pub fn evaluate(&mut self, group: usize, engine: &dyn Engine, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        self.report_orphans(engine, now, &mut outcome);
        let position = group;
        let Some(group) = self.groups.get(position).cloned() else { return outcome };
        let group_began = Instant::now();
        for rule in &group.rules {
            let began = Instant::now();
            let n_failures = outcome.failures.len();
            let (id, name, result) = match rule {
                Rule::Recording(rule) => (&rule.id, &rule.name, record(rule, engine, now)),
                Rule::Alerting(rule) => (&rule.id, &rule.name, self.alert(rule, &group, engine, now, &mut outcome)),
            };
            let is_evaluated = result.is_ok();
            match result {
                Ok(mut samples) => {
                    outcome.n_recorded += samples.len();
                    engine.record(id, &mut samples, now);
                    if let (Rule::Alerting(_), Some(active)) = (rule, self.states.get_mut(id)) {
                        alerting::keep_recorded(active, samples);
                    }
                }
                Err(message) => {
                    outcome.failures.push(Failure {
                        group: group.name.clone(),
                        rule: name.clone(),
                        message,
                        is_template: false,
                    });
                }
            }
            let error = outcome.failures[n_failures..].first().map(|failure| failure.message.clone());
            let status = Status { at: Some(now), duration: began.elapsed(), error, is_evaluated };
            self.rule_statuses.insert(id.clone(), status);
        }
        self.report(&group, now, &mut outcome);
        self.group_statuses[position] =
            Status { at: Some(now), duration: group_began.elapsed(), error: None, is_evaluated: true };
        self.is_uncommitted = true;
        outcome
    }

    /// Hands on the alerts of the group that was evaluated, and what of others was not committed.
    fn report(&mut self, evaluated: &Group, now: Timestamp, outcome: &mut Outcome) {
        let surroundings = Surroundings { external_labels: &self.external_labels, external_url: &self.external_url };
        for group in &self.groups {
            let is_evaluated = std::ptr::eq(&**group, evaluated);
            if !is_evaluated && !self.is_uncommitted {
                continue;
            }
            for rule in &group.rules {
                let Rule::Alerting(rule) = rule else { continue };
                let Some(active) = self.states.get_mut(&rule.id) else { continue };
                // One that failed says nothing new.
                let is_evaluated = is_evaluated && self.rule_statuses.get(&rule.id).is_some_and(|s| s.is_evaluated);
                let mut url = None;
                let renews = expand::renews(rule);
                let due = active.iter_mut().filter(|(_, alert)| {
                    if is_evaluated {
                        alert.is_due(now, renews)
                    } else {
                        alert.is_unsaved && alert.state != State::Pending
                    }
                });
                for (labels, alert) in due {
                    alert.renew(surroundings.renewed(rule, alert));
                    alert.telling = Some(now);
                    let url = url.get_or_insert_with(|| generator_url(&self.external_url, &rule.query));
                    outcome.alerts.push(handed_on(labels, alert, url));
                }
            }
        }
        // What follows from them, such as the order of a timeline's lines, is the same every time.
        outcome.alerts.sort_by(|a, b| a.labels.cmp(&b.labels));
    }

    fn report_orphans(&mut self, engine: &dyn Engine, now: Timestamp, outcome: &mut Outcome) {
        for owner in self.retired.drain(..) {
            engine.record(&owner, &mut [], now);
        }
        // An alert with the same labels may fire by another rule now: then nothing ended.
        let lives = |labels: &LabelSet, states: &HashMap<String, Alerts>| {
            states.values().any(|alerts| alerts.get(labels).is_some_and(|alert| alert.state == State::Firing))
        };
        for orphan in &mut self.orphans {
            orphan.reported = true;
            orphan.alert.resolved_at.get_or_insert(now);
            if !lives(&orphan.labels, &self.states) {
                outcome.alerts.push(handed_on(&orphan.labels, &orphan.alert, &"".into()));
            }
        }
    }

    /// The step of one alerting rule; returns its `ALERTS` and `ALERTS_FOR_STATE` samples.
    fn alert(
        &mut self,
        rule: &AlertingRule,
        group: &Group,
        engine: &dyn Engine,
        now: Timestamp,
        outcome: &mut Outcome,
    ) -> Result<Vec<(Labels, f64)>, String> {
        let samples = vector(&rule.query, engine, now)?;
        let n_hits = samples.len();
        let surroundings = Surroundings { external_labels: &self.external_labels, external_url: &self.external_url };
        let mut expander = Expander::new(engine, now, surroundings);
        let active = self.states.entry(rule.id.clone()).or_default();
        let remembered = self.expanded.entry(rule.id.clone()).or_default();
        let are_distinct = expander.note(rule, samples, remembered, active);
        for message in expander.errors.messages {
            outcome.failures.push(Failure {
                group: group.name.clone(),
                rule: rule.name.clone(),
                message,
                is_template: true,
            });
        }
        if !are_distinct {
            alerting::forget(active);
            return Err("two results have the same labels after the rule's labels are applied".to_owned());
        }
        if rule.limit > 0 && n_hits > rule.limit {
            alerting::forget(active);
            return Err(format!("{n_hits} alerts exceed the limit of {}", rule.limit));
        }
        let present: OnceCell<Vec<Labels>> = OnceCell::new();
        let is_present = |labels: &LabelSet| {
            let present = present.get_or_init(|| present_subjects(rule, engine, now));
            present.iter().any(|subject| is_same_subject(rule, labels, subject))
        };
        let setting = Setting {
            hold: rule.hold,
            keep_firing_for: rule.keep_firing_for,
            started: self.started,
            is_present: &is_present,
        };
        let gone = alerting::step(active, &setting, now);
        self.gone.extend(gone.into_iter().map(|labels| (rule.id.clone(), labels)));
        Ok(alerting::samples(active))
    }

    /// The alerts that fire by rules of this name: what promtool's unit tests compare.
    pub(super) fn firing(&self, alertname: &str) -> Vec<(LabelMap, LabelMap)> {
        let rules = self.groups.iter().flat_map(|group| group.rules.iter());
        let rules = rules.filter_map(|rule| match rule {
            Rule::Alerting(rule) if rule.name == alertname => Some(rule),
            _ => None,
        });
        rules
            .flat_map(|rule| self.states.get(&rule.id).into_iter().flatten().map(move |(l, alert)| (rule, l, alert)))
            .filter(|(_, _, alert)| alert.state == State::Firing)
            .map(|(rule, labels, alert)| (labels.to_map(), self.annotations(rule, alert).to_map()))
            .collect()
    }

    /// The annotations of an alert as it stands.
    pub(super) fn annotations(&self, rule: &AlertingRule, alert: &Active) -> LabelSet {
        let surroundings = Surroundings { external_labels: &self.external_labels, external_url: &self.external_url };
        surroundings.renewed(rule, alert).map_or_else(|| alert.annotations.clone(), |annotations| annotations.texts)
    }
}

fn record(rule: &RecordingRule, engine: &dyn Engine, now: Timestamp) -> Result<Vec<(Labels, f64)>, String> {
    let samples = vector(&rule.query, engine, now)?;
    let mut seen = HashSet::with_capacity(samples.len());
    let mut recorded = Vec::with_capacity(samples.len());
    let name = Name::from(rule.name.as_str());
    for (labels, value) in samples {
        let mut labels = labels.named(&name);
        if !rule.labels.is_empty() {
            labels = labels.with_all(rule.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
        if !seen.insert(labels.clone()) {
            return Err("two results have the same labels after the rule's labels are applied".to_owned());
        }
        recorded.push((labels, value));
    }
    if rule.limit > 0 && recorded.len() > rule.limit {
        return Err(format!("{} series exceed the limit of {}", recorded.len(), rule.limit));
    }
    Ok(recorded)
}

/// A scalar counts as one sample without labels, as in Prometheus.
pub(super) fn vector(query: &Query, engine: &dyn Engine, now: Timestamp) -> Result<Vec<(Labels, f64)>, String> {
    match engine.instant(query, now).map_err(|error| error.to_string())? {
        Value::Vector(samples) => Ok(samples.into_iter().map(|sample| (sample.labels, sample.value)).collect()),
        Value::Scalar(value) => Ok(vec![(Labels::default(), value)]),
        Value::String(_) | Value::Matrix(_) => Err("the result is not a vector or scalar".to_owned()),
    }
}

fn handed_on(labels: &LabelSet, alert: &Active, url: &Arc<str>) -> Alert {
    Alert {
        labels: labels.clone(),
        annotations: alert.annotations.clone(),
        starts_at: alert.fired_at.unwrap_or(alert.active_at),
        ends_at: alert.resolved_at,
        generator_url: url.clone(),
        end_is_assumed: false,
    }
}

fn generator_url(external_url: &str, query: &Query) -> Arc<str> {
    let query: String = url::form_urlencoded::byte_serialize(query.text().as_bytes()).collect();
    format!("{external_url}/api/v1/query?query={query}").into()
}

/// The label sets of which the rule's data are there.
fn present_subjects(rule: &AlertingRule, engine: &dyn Engine, now: Timestamp) -> Vec<Labels> {
    let Some(presence) = &rule.presence else { return Vec::new() };
    // A failure here is one of the rule's own query too, which is reported.
    let samples = vector(presence, engine, now).unwrap_or_default();
    samples.into_iter().map(|(labels, _)| labels).collect()
}

/// Whether the labels that the alert has from its series are those of the subject.
fn is_same_subject(rule: &AlertingRule, alert: &LabelSet, subject: &Labels) -> bool {
    let from_rule = |name: &str| name == "alertname" || rule.labels.iter().any(|(own, _)| own == name);
    let mut own = alert.iter().filter(|(name, _)| !from_rule(name));
    own.all(|(name, value)| subject.get(name) == value)
}
