//! The labels and annotations of alerts, from the templates of their rule. Labels are remembered, and annotations made
//! anew, for as long as nothing that they are made of changes: most alerts are the same at every evaluation. Annotations
//! that show the value are made anew only when somebody reads them.

use super::alerting::{self, Active, Alerts, Annotations, Hit, State};
use super::ruler::vector;
use super::template::{Context, Sample, Template};
use super::{AlertingRule, Engine};
use crate::alert::LabelSet;
use crate::promql::{Labels, Query};
use jiff::Timestamp;
use std::collections::HashMap;

/// What the labels of one rule's alerts were at its last evaluation, by the labels of the result.
#[derive(Default)]
pub(super) struct Remembered(HashMap<Labels, Known>);

struct Known {
    labels: LabelSet,
    /// Of the result that they were made for.
    value: f64,
    /// Whether this evaluation has the result too.
    is_used: bool,
}

/// Whether the annotations of an alert may become others while it lasts: they show the value, or ask the engine or the clock.
pub(super) fn renews(rule: &AlertingRule) -> bool {
    rule.annotations.iter().any(|(_, template)| template.reads_value() || template.is_volatile())
}

/// What all templates see besides the result.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub external_labels: &'a Labels,
    pub external_url: &'a str,
}

/// What the templates of a rule read.
struct Reads {
    /// Labels or annotations ask the engine or the clock: their texts may be others at every evaluation.
    volatile_labels: bool,
    volatile_annotations: bool,
    labels_value: bool,
}

/// What could not be expanded.
#[derive(Default)]
pub(super) struct Errors {
    /// Each once.
    pub messages: Vec<String>,
    n_failed: usize,
}

impl Errors {
    /// As Prometheus: an error becomes the text, so that the alert goes out all the same.
    fn expand(&mut self, name: &str, template: &Template, context: &Context<'_>) -> String {
        template.expand(context).unwrap_or_else(|error| {
            self.n_failed += 1;
            let message = format!("template of {name}: {error}");
            if !self.messages.contains(&message) {
                self.messages.push(message);
            }
            format!("<error expanding template: {error}>")
        })
    }

    fn annotations(&mut self, rule: &AlertingRule, context: &Context<'_>) -> Annotations {
        let n_failed = self.n_failed;
        let texts = rule.annotations.iter().map(|(name, template)| (name, self.expand(name, template, context)));
        let texts = texts.filter(|(_, text)| !text.is_empty()).collect();
        Annotations { texts, failed: self.n_failed > n_failed }
    }
}

/// Expands the templates of a rule for its results.
pub(super) struct Expander<'a> {
    engine: &'a dyn Engine,
    now: Timestamp,
    surroundings: Surroundings<'a>,
    pub errors: Errors,
}

impl<'a> Expander<'a> {
    pub fn new(engine: &'a dyn Engine, now: Timestamp, surroundings: Surroundings<'a>) -> Expander<'a> {
        Expander { engine, now, surroundings, errors: Errors::default() }
    }

    /// Notes the results of a rule in its alerts, for [`alerting::step`]. False if two have the same labels.
    pub fn note(
        &mut self,
        rule: &AlertingRule,
        samples: Vec<(Labels, f64)>,
        remembered: &mut Remembered,
        active: &mut Alerts,
    ) -> bool {
        let any = |list: &[(String, Template)], reads: fn(&Template) -> bool| list.iter().any(|(_, t)| reads(t));
        let reads = Reads {
            volatile_labels: any(&rule.labels, Template::is_volatile),
            volatile_annotations: any(&rule.annotations, Template::is_volatile),
            labels_value: any(&rule.labels, Template::reads_value),
        };
        for (series, value) in samples {
            let labels = self.labels(rule, &reads, &series, value, remembered);
            let alert = alerting::place(active, labels, self.now);
            if alert.hit.is_some() {
                return false;
            }
            let will_do = !reads.volatile_annotations
                && alert.annotated.is_some()
                && alert.state != State::Resolved
                && alert.series.as_ref() == Some(&series);
            let annotations = (!will_do).then(|| self.annotations(rule, &series, value));
            alert.hit = Some(Hit { series, value, annotations });
        }
        remembered.0.retain(|_, known| std::mem::take(&mut known.is_used));
        true
    }

    /// The labels of the alert.
    fn labels(
        &mut self,
        rule: &AlertingRule,
        reads: &Reads,
        series: &Labels,
        value: f64,
        remembered: &mut Remembered,
    ) -> LabelSet {
        if let Some(known) = remembered.0.get_mut(series)
            && (!reads.labels_value || known.value.to_bits() == value.to_bits())
        {
            known.is_used = true;
            return known.labels.clone();
        }
        let n_failed = self.errors.n_failed;
        let (engine, now) = (self.engine, self.now);
        let query = |text: &str| ask(text, engine, now);
        let context = self.surroundings.context(series, value, now, &query);
        let own = rule.labels.iter().map(|(name, template)| (name, self.errors.expand(name, template, &context)));
        let own: Vec<(&String, String)> = own.collect();
        let own = own.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        // The last of a name counts, and an empty value removes it.
        let all = series.others().chain(own).chain([("alertname", rule.name.as_str())]);
        let mut labels: LabelSet = all.collect();
        if labels.iter().any(|(_, value)| value.is_empty()) {
            labels = labels.iter().filter(|(_, value)| !value.is_empty()).collect();
        }
        // What another query answered may be different next time, and a failure is to be reported again.
        if !reads.volatile_labels && self.errors.n_failed == n_failed {
            remembered.0.insert(series.clone(), Known { labels: labels.clone(), value, is_used: true });
        }
        labels
    }

    fn annotations(&mut self, rule: &AlertingRule, series: &Labels, value: f64) -> Annotations {
        let (engine, now) = (self.engine, self.now);
        let query = |text: &str| ask(text, engine, now);
        self.errors.annotations(rule, &self.surroundings.context(series, value, now, &query))
    }
}

/// Answers a template's `query`.
fn ask(text: &str, engine: &dyn Engine, now: Timestamp) -> Result<Vec<Sample>, String> {
    let query = Query::parse(text).map_err(|error| error.to_string())?;
    let samples = vector(&query, engine, now)?;
    Ok(samples.into_iter().map(|(labels, value)| Sample { labels, value }).collect())
}

impl<'a> Surroundings<'a> {
    fn context<'c>(
        self,
        labels: &'c Labels,
        value: f64,
        now: Timestamp,
        query: &'c dyn Fn(&str) -> Result<Vec<Sample>, String>,
    ) -> Context<'c>
    where
        'a: 'c,
    {
        Context { labels, value, now, external_labels: self.external_labels, external_url: self.external_url, query }
    }

    /// The annotations of an alert as it stands, if those that it has show an earlier value.
    pub fn renewed(self, rule: &AlertingRule, alert: &Active) -> Option<Annotations> {
        let (annotated, series) = (alert.annotated?, alert.series.as_ref()?);
        let shows_value = || rule.annotations.iter().any(|(_, template)| template.reads_value());
        if annotated.to_bits() == alert.value.to_bits() || !shows_value() {
            return None;
        }
        // Annotations that ask the engine or the clock are made at every evaluation.
        let query = |_: &str| Err("no query can be answered now".to_owned());
        let now = Timestamp::UNIX_EPOCH;
        Some(Errors::default().annotations(rule, &self.context(series, alert.value, now, &query)))
    }
}
