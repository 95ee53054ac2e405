//! How the rules and their alerts stand, for those who show them.

use super::alerting::State;
use super::ruler::{Ruler, Status};
use super::{AlertingRule, Group, Rule, RuleSet};
use crate::alert::LabelSet;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where others find the ruler that runs, if one does. Cheap to clone.
#[derive(Clone, Default)]
pub struct RulesBoard(Arc<Mutex<Option<Arc<Mutex<Ruler>>>>>);

impl RulesBoard {
    /// The ruler that runs from now on; none if rules are evaluated elsewhere.
    pub fn show(&self, ruler: Option<Arc<Mutex<Ruler>>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ruler;
    }

    /// The ruler that runs no more, for the one that follows it: it goes on with its alerts. None if there is none, or if
    /// it broke off in the middle; what it has then is not to be trusted.
    pub async fn take(&self) -> Option<Ruler> {
        let ruler = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        // An evaluation may still be going on whose task was given up.
        let taken = tokio::task::spawn_blocking(move || {
            let mut ruler = ruler.lock().ok()?;
            Some(std::mem::replace(&mut *ruler, Ruler::new(RuleSet::default(), "", BTreeMap::new(), Timestamp::now())))
        });
        taken.await.ok().flatten()
    }

    /// All groups as they stand. Waits while one is evaluated.
    pub fn groups(&self) -> Vec<GroupView> {
        let ruler = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A ruler that panicked is shown until the next takes its place.
        ruler.map_or(Vec::new(), |ruler| ruler.lock().unwrap_or_else(PoisonError::into_inner).view())
    }
}

#[derive(Debug, Clone)]
pub struct GroupView {
    pub name: String,
    pub file: PathBuf,
    pub interval: Duration,
    /// 0 is none.
    pub limit: usize,
    pub rules: Vec<RuleView>,
    /// Of the last evaluation.
    pub duration: Duration,
    pub evaluated: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub struct RuleView {
    pub name: String,
    pub query: String,
    /// As the rule has them: templates are not expanded.
    pub labels: Vec<(String, String)>,
    pub health: Health,
    pub last_error: Option<String>,
    pub duration: Duration,
    pub evaluated: Option<Timestamp>,
    pub kind: RuleKind,
}

#[derive(Debug, Clone)]
pub enum RuleKind {
    Recording,
    Alerting { hold: Duration, keep_firing_for: Duration, annotations: Vec<(String, String)>, alerts: Vec<AlertView> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not evaluated yet.
    Unknown,
    Ok,
    Failing,
}

/// An alert that waits or fires.
#[derive(Debug, Clone)]
pub struct AlertView {
    pub labels: LabelSet,
    pub annotations: LabelSet,
    pub is_firing: bool,
    /// Since when the expression holds.
    pub active_at: Timestamp,
    pub keep_firing_since: Option<Timestamp>,
    pub value: f64,
}

impl AlertView {
    pub fn state(&self) -> &'static str {
        if self.is_firing { State::Firing.as_str() } else { State::Pending.as_str() }
    }
}

impl RuleView {
    /// None of a recording rule.
    pub fn alerts(&self) -> &[AlertView] {
        match &self.kind {
            RuleKind::Recording => &[],
            RuleKind::Alerting { alerts, .. } => alerts,
        }
    }

    /// The most serious state of its alerts.
    pub fn state(&self) -> &'static str {
        let alerts = self.alerts();
        alerts.iter().find(|alert| alert.is_firing).or(alerts.first()).map_or("inactive", AlertView::state)
    }
}

impl Ruler {
    fn view(&self) -> Vec<GroupView> {
        self.groups()
            .iter()
            .enumerate()
            .map(|(index, group)| self.group_view(group, self.group_status(index)))
            .collect()
    }

    fn group_view(&self, group: &Group, status: &Status) -> GroupView {
        let limit = group.rules.first().map_or(0, |rule| match rule {
            Rule::Recording(rule) => rule.limit,
            Rule::Alerting(rule) => rule.limit,
        });
        GroupView {
            name: group.name.clone(),
            file: group.file.clone(),
            interval: group.interval,
            limit,
            rules: group.rules.iter().map(|rule| self.rule_view(rule)).collect(),
            duration: status.duration,
            evaluated: status.at,
        }
    }

    fn rule_view(&self, rule: &Rule) -> RuleView {
        let (id, name, query, labels, kind) = match rule {
            Rule::Recording(rule) => {
                let labels = rule.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                (&rule.id, &rule.name, &rule.query, labels, RuleKind::Recording)
            }
            Rule::Alerting(rule) => {
                let texts = |list: &[(String, super::template::Template)]| -> Vec<(String, String)> {
                    list.iter().map(|(name, template)| (name.clone(), template.text().to_owned())).collect()
                };
                let kind = RuleKind::Alerting {
                    hold: rule.hold,
                    keep_firing_for: rule.keep_firing_for,
                    annotations: texts(&rule.annotations),
                    alerts: self.alert_views(rule),
                };
                (&rule.id, &rule.name, &rule.query, texts(&rule.labels), kind)
            }
        };
        let status = self.rule_status(id);
        let health = match (status.at, &status.error) {
            (None, _) => Health::Unknown,
            (Some(_), None) => Health::Ok,
            (Some(_), Some(_)) => Health::Failing,
        };
        RuleView {
            name: name.clone(),
            query: query.text().to_owned(),
            labels,
            health,
            last_error: status.error,
            duration: status.duration,
            evaluated: status.at,
            kind,
        }
    }

    /// Those that wait or fire, by labels.
    fn alert_views(&self, rule: &AlertingRule) -> Vec<AlertView> {
        let alerts = self.states.get(&rule.id).into_iter().flatten();
        let mut alerts: Vec<_> = alerts.filter(|(_, alert)| alert.state != State::Resolved).collect();
        alerts.sort_by(|(a, _), (b, _)| a.iter().cmp(b.iter()));
        alerts
            .into_iter()
            .map(|(labels, alert)| AlertView {
                labels: labels.clone(),
                annotations: self.annotations(rule, alert),
                is_firing: alert.state == State::Firing,
                active_at: alert.active_at,
                keep_firing_since: alert.keep_firing_since,
                value: alert.value,
            })
            .collect()
    }
}
