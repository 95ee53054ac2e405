//! Prometheus rule files, annotation templates, the ruler.
//!
//! | file | what it is |
//! |---|---|
//! | `load` | rule files, read and checked |
//! | `shape` | what an expression tells about its results: which labels, and whether its data are there |
//! | `asked` | what templates ask the history with `query` |
//! | `template` | Go templates of labels and annotations |
//! | `alerting` | the pure step of an alerting rule's state |
//! | `expand` | an alert's labels and annotations from its rule's templates |
//! | `ruler` | evaluates groups; keeps the states |
//! | `state` | the states in the state database |
//! | `view` | how rules and alerts stand, for those who show them |
//! | `unit_test` | promtool's unit tests of rules, run on this ruler |
//!
//! Not here: what becomes of an alert ([`crate::incident`]).

mod alerting;
mod asked;
mod duration;
mod expand;
mod load;
mod ruler;
mod shape;
mod state;
pub mod template;
pub mod unit_test;
mod view;

pub use duration::parse_duration;
use load::load_plain;
pub use load::{SHIPPED, builtin, load, load_text};
pub use ruler::{Failure, Outcome, Ruler};
pub use shape::may_carry_where;
pub use state::Changes;
pub use view::{AlertView, GroupView, Health, RuleKind, RuleView, RulesBoard};

use crate::history::Need;
use crate::promql::{Labels, Query, QueryError, Value};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use template::Template;

/// The groups of all rule files, in the order of the files.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    pub groups: Vec<Group>,
}

/// Rules that are evaluated one after the other at the same moment.
#[derive(Debug, Clone)]
pub struct Group {
    pub name: String,
    pub file: PathBuf,
    /// As the group says, or the default given to [`load`].
    pub interval: Duration,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub enum Rule {
    Recording(RecordingRule),
    Alerting(AlertingRule),
}

#[derive(Debug, Clone)]
pub struct RecordingRule {
    /// Unique in the rule set; names what it records in the history.
    pub id: String,
    pub name: String,
    pub query: Query,
    pub labels: BTreeMap<String, String>,
    /// Most series it may give; 0 is no limit.
    pub limit: usize,
}

#[derive(Debug, Clone)]
pub struct AlertingRule {
    /// Unique in the rule set and stable over changes of expression, durations and order: name and labels, and an
    /// ordinal where several rules share them.
    pub id: String,
    pub name: String,
    pub query: Query,
    /// Gives a sample for every subject whose data are there, whether or not the alert holds; see [`shape::presence`].
    pub presence: Option<Query>,
    /// `for`.
    pub hold: Duration,
    pub keep_firing_for: Duration,
    pub labels: Vec<(String, Template)>,
    pub annotations: Vec<(String, Template)>,
    /// Most alerts it may have; 0 is no limit.
    pub limit: usize,
}

impl RuleSet {
    /// How far back the rules look, each with its rule and file.
    pub fn needs(&self) -> Vec<Need> {
        let rules = self.groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        let needs = rules.flat_map(|(group, rule)| {
            let (name, query, asked) = match rule {
                Rule::Recording(rule) => (&rule.name, &rule.query, Vec::new()),
                Rule::Alerting(rule) => (&rule.name, &rule.query, asked::needs(rule)),
            };
            let reader = format!("rule {name} of {}", group.file.display());
            let asked = asked.into_iter().map(|need| Need { reader: reader.clone(), ..need });
            Need::of(query, &reader).into_iter().chain(asked).collect::<Vec<_>>()
        });
        needs.collect()
    }

    /// Queries in templates of which the text is put together so that what they read cannot be told before: where they
    /// stand. Only `history.keep` keeps the past for them.
    pub fn unforeseen(&self) -> Vec<String> {
        let rules = self.groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        let alerts = rules.filter_map(|(group, rule)| match rule {
            Rule::Alerting(rule) => Some((group, rule)),
            Rule::Recording(_) => None,
        });
        alerts
            .flat_map(|(group, rule)| {
                let file = group.file.display();
                asked::unforeseen(rule).map(move |name| format!("{name} of the alert {} in {file}", rule.name))
            })
            .collect()
    }

    /// The names of the metrics that the rules record, those of alerts among them.
    pub fn recorded(&self) -> Vec<&str> {
        let rules = self.groups.iter().flat_map(|group| &group.rules);
        let recording = rules.filter_map(|rule| match rule {
            Rule::Recording(rule) => Some(rule.name.as_str()),
            Rule::Alerting(_) => None,
        });
        recording.chain(["ALERTS", "ALERTS_FOR_STATE"]).collect()
    }

    /// What subqueries without a step take.
    fn set_default_step(&mut self, step: Duration) {
        for rule in self.groups.iter_mut().flat_map(|group| &mut group.rules) {
            let query = match rule {
                Rule::Recording(rule) => &mut rule.query,
                Rule::Alerting(rule) => &mut rule.query,
            };
            *query = query.clone().with_default_step(step);
        }
    }

    /// Adds the groups of `other`; identities stay unique.
    pub fn extend(&mut self, other: RuleSet) {
        self.groups.extend(other.groups);
        load::number(&mut self.groups);
    }
}

/// What the ruler asks and tells while a group is evaluated: the history, or a remote engine.
pub trait Engine {
    /// Evaluates a query at one moment.
    fn instant(&self, query: &Query, at: Timestamp) -> Result<Value, QueryError>;

    /// Keeps what a rule gave at `at`, for the rules after it. Of the series that `owner` gave before, those not in
    /// `samples` end. Label sets may become equal ones that the engine keeps, for whoever records them again.
    fn record(&self, owner: &str, samples: &mut [(Labels, f64)], at: Timestamp);
}

impl Engine for crate::history::History {
    fn instant(&self, query: &Query, at: Timestamp) -> Result<Value, QueryError> {
        crate::promql::instant(&self.read(), query, at.as_millisecond())
    }

    fn record(&self, owner: &str, samples: &mut [(Labels, f64)], at: Timestamp) {
        crate::history::History::record(self, owner, samples, at);
    }
}
