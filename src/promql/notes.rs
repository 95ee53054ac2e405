//! What is to be told about a query beside its result, in the words of Prometheus 3 (its package `annotations`): `warnings`
//! that the result may not be what was meant, `infos` that the query may not be.

use super::node::Place;
use super::number;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Notes on one evaluation, each once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notes {
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

/// As Prometheus's API: so many of either kind, then how many more.
const MOST: usize = 10;
/// Held during the evaluation: a query over many metrics has a note on each.
const HELD: usize = 1_000;

/// Gathers notes during an evaluation; costs nothing unless somebody will read them.
#[derive(Default)]
pub struct Notebook(Option<RefCell<Pages>>);

#[derive(Default)]
struct Pages {
    warnings: BTreeSet<String>,
    infos: BTreeSet<String>,
    /// The metric that was looked at last, and where it was read.
    looked_at: Option<(String, Place)>,
}

impl Notebook {
    pub fn open() -> Notebook {
        Notebook(Some(RefCell::default()))
    }

    /// `rate` and `increase` of a metric of that name.
    pub fn counter(&self, metric: &str, place: Place) {
        let Some(pages) = &self.0 else { return };
        let mut pages = pages.borrow_mut();
        if pages.looked_at.as_ref().is_some_and(|(known, at)| known == metric && *at == place) {
            return;
        }
        pages.looked_at = Some((metric.to_owned(), place));
        let is_counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|ending| metric.ends_with(ending));
        if !metric.is_empty() && !is_counter {
            pages.info(format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric:?}{place}"
            ));
        }
    }

    /// The first argument of `quantile` and its relatives.
    pub fn quantile(&self, q: f64, place: Place) {
        if let Some(pages) = &self.0
            && !(0.0..=1.0).contains(&q)
        {
            let q = number::format(q);
            pages.borrow_mut().warning(format!("quantile value should be between 0 and 1, got {q}{place}"));
        }
    }

    /// A series for `histogram_quantile` or `histogram_fraction` whose `le` is no number.
    pub fn bucket(&self, metric: &str, le: &str, place: Place) {
        if let Some(pages) = &self.0 {
            let of = of_metric(metric);
            let text = format!("bucket label \"le\" is missing or has a malformed value of {le:?}{of}{place}");
            pages.borrow_mut().warning(text);
        }
    }

    /// Counts of a histogram's buckets that shrank.
    pub fn monotonicity(&self, metric: &str, place: Place) {
        if let Some(pages) = &self.0 {
            let of = of_metric(metric);
            pages.borrow_mut().info(format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see \
                 https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){of}{place}"
            ));
        }
    }

    /// `sort` and `sort_desc` at several steps.
    pub fn sorting(&self, place: Place) {
        if let Some(pages) = &self.0 {
            pages.borrow_mut().warning(format!(
                "sort is ineffective for range queries since results are always ordered by labels{place}"
            ));
        }
    }

    pub fn close(self) -> Notes {
        let Some(pages) = self.0 else { return Notes::default() };
        let pages = pages.into_inner();
        Notes { warnings: first(pages.warnings, "warning"), infos: first(pages.infos, "info") }
    }
}

impl Pages {
    fn warning(&mut self, text: String) {
        if self.warnings.len() < HELD {
            self.warnings.insert(format!("PromQL warning: {text}"));
        }
    }

    fn info(&mut self, text: String) {
        if self.infos.len() < HELD {
            self.infos.insert(format!("PromQL info: {text}"));
        }
    }
}

fn of_metric(metric: &str) -> String {
    if metric.is_empty() { String::new() } else { format!(" for metric name {metric:?}") }
}

fn first(notes: BTreeSet<String>, kind: &str) -> Vec<String> {
    let n_more = notes.len().saturating_sub(MOST);
    let mut first: Vec<String> = notes.into_iter().take(MOST).collect();
    if n_more > 0 {
        first.push(format!("{n_more} more {kind} annotations omitted"));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_told_once_and_ten_of_a_kind() {
        let notebook = Notebook::open();
        let place = Place { line: 1, column: 6 };
        for n in 0..12 {
            notebook.counter(&format!("m{}", n % 11), place);
        }
        for metric in ["x_total", "x_sum", "x_count", "x_bucket", ""] {
            notebook.counter(metric, place);
        }
        notebook.quantile(f64::NAN, Place::default());
        notebook.quantile(1.0, place);
        let notes = notebook.close();
        assert_eq!(notes.warnings, ["PromQL warning: quantile value should be between 0 and 1, got NaN"]);
        assert_eq!(notes.infos.len(), 11);
        let of_m0 =
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"m0\" (1:6)";
        assert_eq!((&*notes.infos[0], &*notes.infos[10]), (of_m0, "1 more info annotations omitted"));
        let silent = Notebook::default();
        silent.counter("m", place);
        assert_eq!(silent.close(), Notes::default());
    }
}
