//! The labels and annotations of alerts, from the templates of their rule. They are remembered for as long as nothing
//! that they are made of changes: most alerts are the same at every evaluation.

use super::alerting::{Hit, LabelMap};
use super::ruler::vector;
use super::template::{Context, Sample, Template};
use super::{AlertingRule, Engine, to_map};
use crate::promql::{Labels, Query};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;

/// What the templates of one rule gave at its last evaluation, by the labels of the result.
#[derive(Default)]
pub(super) struct Remembered(HashMap<Labels, Expanded>);

struct Expanded {
    labels: Arc<LabelMap>,
    annotations: Arc<LabelMap>,
    /// Of the result that they were made for.
    value: f64,
    /// Whether this evaluation has the result too.
    is_used: bool,
}

/// Expands the templates of a rule for its results.
pub(super) struct Expander<'a> {
    engine: &'a dyn Engine,
    now: Timestamp,
    external_labels: &'a LabelMap,
    external_url: &'a str,
    /// Each message once.
    pub errors: Vec<String>,
    n_failed: usize,
}

impl<'a> Expander<'a> {
    pub fn new(
        engine: &'a dyn Engine,
        now: Timestamp,
        external_labels: &'a LabelMap,
        external_url: &'a str,
    ) -> Expander<'a> {
        Expander { engine, now, external_labels, external_url, errors: Vec::new(), n_failed: 0 }
    }

    /// The alerts that the results of a rule make.
    pub fn hits(
        &mut self,
        rule: &AlertingRule,
        samples: Vec<(Labels, f64)>,
        remembered: &mut Remembered,
    ) -> Vec<(Arc<LabelMap>, Hit)> {
        let templates = || rule.labels.iter().chain(&rule.annotations).map(|(_, template)| template);
        let queries = templates().any(Template::queries);
        let reads_value = templates().any(Template::reads_value);
        let hits = samples
            .into_iter()
            .map(|(labels, value)| {
                if let Some(known) = remembered.0.get_mut(&labels)
                    && (!reads_value || known.value.to_bits() == value.to_bits())
                {
                    known.is_used = true;
                    return (known.labels.clone(), Hit { annotations: known.annotations.clone(), value });
                }
                let n_failed = self.n_failed;
                let (full, annotations) = self.alert(rule, &labels, value);
                let (full, annotations) = (Arc::new(full), Arc::new(annotations));
                // What another query answered may be different next time, and a failure is to be reported again.
                if !queries && self.n_failed == n_failed {
                    let (labels_of, annotations) = (full.clone(), annotations.clone());
                    remembered.0.insert(labels, Expanded { labels: labels_of, annotations, value, is_used: true });
                }
                (full, Hit { annotations, value })
            })
            .collect();
        remembered.0.retain(|_, expanded| std::mem::take(&mut expanded.is_used));
        hits
    }

    /// Labels and annotations of the alert.
    fn alert(&mut self, rule: &AlertingRule, labels: &Labels, value: f64) -> (LabelMap, LabelMap) {
        let series = to_map(labels);
        let mut result = series.clone();
        result.remove("__name__");
        for (name, template) in &rule.labels {
            result.insert(name.clone(), self.expand(name, template, &series, value));
        }
        result.insert("alertname".to_owned(), rule.name.clone());
        result.retain(|_, value| !value.is_empty());
        let annotations = rule
            .annotations
            .iter()
            .map(|(name, template)| (name.clone(), self.expand(name, template, &series, value)))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        (result, annotations)
    }

    /// As Prometheus: an error becomes the text, so that the alert goes out all the same.
    fn expand(&mut self, name: &str, template: &Template, labels: &LabelMap, value: f64) -> String {
        let query = |text: &str| {
            let query = Query::parse(text).map_err(|error| error.to_string())?;
            let samples = vector(&query, self.engine, self.now)?;
            Ok(samples.into_iter().map(|(labels, value)| Sample { labels: to_map(&labels), value }).collect())
        };
        let context = Context {
            labels,
            value,
            external_labels: self.external_labels,
            external_url: self.external_url,
            query: &query,
        };
        match template.expand(&context) {
            Ok(text) => text,
            Err(error) => {
                self.n_failed += 1;
                let message = format!("template of {name}: {error}");
                if !self.errors.contains(&message) {
                    self.errors.push(message);
                }
                format!("<error expanding template: {error}>")
            }
        }
    }
}
