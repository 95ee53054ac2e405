//! One evaluation: selects series once, walks the tree at every step, and brings the results together.

use super::collected::Collected;
use super::element::{Element, Name, Tags, same_labelset};
use super::keys::Index;
use super::node::{Node, Selector, Subquery};
use super::notes::{Notebook, Notes};
use super::view::{Locator, RangeView, value_at};
use super::{
    Labels, LabelsRef, Limits, Query, QueryError, Sample, SampleSeries, Series, Storage, Value, aggregate, binary,
    functions,
};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::time::Instant;

/// What a node gives at one moment; range vectors are given series by series, see [`Evaluation::each_range`].
pub enum Data<'s> {
    Scalar(f64),
    String(String),
    Vector(Vec<Element<'s>>),
}

/// The window of a range vector and the moment it is evaluated at, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub from_ms: i64,
    pub to_ms: i64,
    pub at_ms: i64,
}

/// Evaluates at one moment.
///
/// # Errors
/// `Execution` if the data do not fit or are too many.
pub fn instant(storage: &dyn Storage, query: &Query, at_ms: i64) -> Result<Value, QueryError> {
    instant_within(storage, query, at_ms, Limits::default())
}

/// [`instant`], with limits of the caller's.
///
/// # Errors
/// As [`instant`]; `Timeout` after the deadline.
pub fn instant_within(storage: &dyn Storage, query: &Query, at_ms: i64, limits: Limits) -> Result<Value, QueryError> {
    at_one_moment(&Evaluation::new(storage, query, (at_ms, at_ms), limits), query, at_ms)
}

/// [`instant_within`], with what is to be told about the query.
///
/// # Errors
/// As [`instant_within`].
pub fn noted_instant(
    storage: &dyn Storage,
    query: &Query,
    at_ms: i64,
    limits: Limits,
) -> Result<(Value, Notes), QueryError> {
    let mut evaluation = Evaluation::new(storage, query, (at_ms, at_ms), limits);
    evaluation.notes = Notebook::open();
    let value = at_one_moment(&evaluation, query, at_ms)?;
    Ok((value, evaluation.notes.close()))
}

fn at_one_moment(evaluation: &Evaluation<'_>, query: &Query, at_ms: i64) -> Result<Value, QueryError> {
    if matches!(&*query.root, Node::Range { .. } | Node::Subquery(_)) {
        let mut matrix = Vec::new();
        let mut over = false;
        evaluation.each_range(&query.root, at_ms, &mut |labels, name, view| {
            let labels = if name == Name::Kept { labels.into_labels() } else { labels.view().without_name() };
            let samples: Vec<(i64, f64)> = if over { Vec::new() } else { view.samples().collect() };
            over = over || evaluation.hold(samples.len() as u64).is_err();
            matrix.push(SampleSeries { labels, samples });
        })?;
        evaluation.hold(0)?;
        matrix.retain(|series: &SampleSeries| !series.samples.is_empty());
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        return Ok(Value::Matrix(matrix));
    }
    Ok(match evaluation.data(&query.root, at_ms)? {
        Data::Scalar(value) => Value::Scalar(value),
        Data::String(text) => Value::String(text),
        Data::Vector(elements) => {
            let renamed = elements.iter().any(|element| element.name != Name::Kept);
            let samples: Vec<Sample> = elements
                .into_iter()
                .map(|element| Sample { value: element.value, labels: element.final_labels() })
                .collect();
            if renamed {
                let mut seen = Index::with_capacity(samples.len());
                for sample in &samples {
                    let hash = sample.labels.hash_without_name();
                    if seen.find(hash, |earlier| samples[earlier as usize].labels == sample.labels).is_some() {
                        return Err(same_labelset());
                    }
                    seen.insert(hash);
                }
            }
            Value::Vector(samples)
        }
    })
}

/// Evaluates at every step of `[from_ms, to_ms]`. The result is sorted by labels.
///
/// # Errors
/// As [`instant`]; `Execution` too if the query is neither scalar nor vector or the step is not positive.
pub fn range(
    storage: &dyn Storage,
    query: &Query,
    from_ms: i64,
    to_ms: i64,
    step_ms: i64,
) -> Result<Vec<SampleSeries>, QueryError> {
    range_within(storage, query, (from_ms, to_ms, step_ms), Limits::default())
}

/// [`range`] over (from, to, step), with limits of the caller's.
///
/// # Errors
/// As [`range`]; `Timeout` after the deadline.
pub fn range_within(
    storage: &dyn Storage,
    query: &Query,
    (from_ms, to_ms, step_ms): (i64, i64, i64),
    limits: Limits,
) -> Result<Vec<SampleSeries>, QueryError> {
    let mut evaluation = Evaluation::new(storage, query, (from_ms, to_ms), limits);
    evaluation.is_range = true;
    at_every_step(&evaluation, query, (from_ms, to_ms, step_ms))
}

/// [`range_within`], with what is to be told about the query.
///
/// # Errors
/// As [`range_within`].
pub fn noted_range(
    storage: &dyn Storage,
    query: &Query,
    (from_ms, to_ms, step_ms): (i64, i64, i64),
    limits: Limits,
) -> Result<(Vec<SampleSeries>, Notes), QueryError> {
    let mut evaluation = Evaluation::new(storage, query, (from_ms, to_ms), limits);
    (evaluation.is_range, evaluation.notes) = (true, Notebook::open());
    let series = at_every_step(&evaluation, query, (from_ms, to_ms, step_ms))?;
    Ok((series, evaluation.notes.close()))
}

fn at_every_step(
    evaluation: &Evaluation<'_>,
    query: &Query,
    (from_ms, to_ms, step_ms): (i64, i64, i64),
) -> Result<Vec<SampleSeries>, QueryError> {
    if step_ms <= 0 {
        return Err(QueryError::Execution("the step must be positive".into()));
    }
    if !query.is_scalar_or_vector() {
        return Err(QueryError::Execution(
            "invalid expression type for range query, must be Scalar or instant Vector".into(),
        ));
    }
    let collected = evaluation.steps(&query.root, from_ms, to_ms, step_ms)?;
    let mut merged: HashMap<Labels, Vec<(i64, f64)>> = HashMap::new();
    for series in &collected.series {
        let labels = if series.name == Name::Kept { series.labels.clone() } else { series.labels.without_name() };
        let samples = merged.entry(labels).or_default();
        let end = collected.ticks.len() as u32;
        if let Some(view) = RangeView::new(&collected.ticks, &series.runs, (0, end)) {
            let before = samples.len();
            samples.extend(view.samples());
            evaluation.hold((samples.len() - before) as u64)?;
        }
    }
    let mut result = Vec::with_capacity(merged.len());
    for (labels, mut samples) in merged {
        samples.sort_by_key(|(time, _)| *time);
        if samples.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(same_labelset());
        }
        result.push(SampleSeries { labels, samples });
    }
    result.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(result)
}

pub struct Evaluation<'s> {
    storage: &'s dyn Storage,
    lookback_ms: i64,
    step_ms: i64,
    start_ms: i64,
    end_ms: i64,
    /// By selector: the window that the whole evaluation reads, and what it selected.
    windows: Vec<(i64, i64)>,
    selections: Vec<OnceCell<Vec<Series<'s>>>>,
    /// By selector: whether it is read at one moment only, so that keeping what it selects would be of no use.
    once: Vec<bool>,
    limits: Limits,
    read: Cell<u64>,
    held: Cell<u64>,
    /// What was read when the clock was last looked at.
    timed: Cell<u64>,
    /// Compiled once, not at every step.
    regexes: RefCell<HashMap<String, regex::Regex>>,
    /// It is a range query's, even if that has one step only.
    pub is_range: bool,
    pub notes: Notebook,
}

/// The clock is looked at again after so many samples: about a millisecond.
const READ_BETWEEN_LOOKS: u64 = 100_000;

impl<'s> Evaluation<'s> {
    fn new(storage: &'s dyn Storage, query: &Query, (start_ms, end_ms): (i64, i64), limits: Limits) -> Evaluation<'s> {
        let mut evaluation = Evaluation {
            storage,
            lookback_ms: query.lookback_ms,
            step_ms: query.step_ms,
            start_ms,
            end_ms,
            windows: vec![(0, 0); query.selectors],
            selections: (0..query.selectors).map(|_| OnceCell::new()).collect(),
            once: vec![false; query.selectors],
            limits,
            read: Cell::new(0),
            held: Cell::new(0),
            timed: Cell::new(0),
            regexes: RefCell::default(),
            is_range: false,
            notes: Notebook::default(),
        };
        evaluation.find_windows(&query.root, start_ms, end_ms);
        evaluation
    }

    fn find_windows(&mut self, node: &Node, from_ms: i64, to_ms: i64) {
        let (start_ms, end_ms) = (self.start_ms, self.end_ms);
        let shift = |time: super::node::TimeShift, back: i64| {
            let from = time.apply(from_ms, start_ms, end_ms).saturating_sub(back);
            (from, time.apply(to_ms, start_ms, end_ms))
        };
        match node {
            Node::Select(selector) => {
                self.windows[selector.id] = shift(selector.time, self.lookback_ms);
                self.once[selector.id] = from_ms == to_ms;
            }
            Node::Range { selector, range_ms } => {
                self.windows[selector.id] = shift(selector.time, *range_ms);
                self.once[selector.id] = from_ms == to_ms;
            }
            Node::Subquery(subquery) => {
                let (from, to) = shift(subquery.time, subquery.range_ms);
                self.find_windows(&subquery.inner, from, to);
            }
            _ => node.children().into_iter().for_each(|child| self.find_windows(child, from_ms, to_ms)),
        }
    }

    pub fn data(&self, node: &Node, at_ms: i64) -> Result<Data<'s>, QueryError> {
        Ok(match node {
            Node::Number(value) => Data::Scalar(*value),
            Node::String(text) => Data::String(text.clone()),
            Node::Select(_) => Data::Vector(self.elements(node, at_ms)?),
            Node::Range { .. } | Node::Subquery(_) => {
                return Err(QueryError::Execution("a range vector is not allowed here".into()));
            }
            Node::Negate(inner) => match self.data(inner, at_ms)? {
                Data::Scalar(value) => Data::Scalar(-value),
                Data::Vector(mut elements) => {
                    for element in &mut elements {
                        element.value = -element.value;
                        element.name = element.name.max(Name::Dropped);
                    }
                    Data::Vector(elements)
                }
                other => other,
            },
            Node::Binary(binary) if binary.is_with_scalar() => Data::Vector(self.elements(node, at_ms)?),
            Node::Binary(binary) => binary::evaluate(self, binary, at_ms)?,
            Node::Aggregate(expression) => Data::Vector(aggregate::evaluate(self, expression, at_ms)?),
            Node::Call { function, arguments, places } => {
                functions::evaluate(self, *function, (arguments, places), at_ms)?
            }
        })
    }

    pub fn vector(&self, node: &Node, at_ms: i64) -> Result<Vec<Element<'s>>, QueryError> {
        match self.data(node, at_ms)? {
            Data::Vector(elements) => Ok(elements),
            _ => Err(QueryError::Execution("expected an instant vector".into())),
        }
    }

    pub fn scalar(&self, node: &Node, at_ms: i64) -> Result<f64, QueryError> {
        match self.data(node, at_ms)? {
            Data::Scalar(value) => Ok(value),
            _ => Err(QueryError::Execution("expected a scalar".into())),
        }
    }

    pub fn string(&self, node: &Node, at_ms: i64) -> Result<String, QueryError> {
        match self.data(node, at_ms)? {
            Data::String(text) => Ok(text),
            _ => Err(QueryError::Execution("expected a string".into())),
        }
    }

    /// The latest sample of each series: labels, its own time, value.
    pub fn each_sample(
        &self,
        selector: &Selector,
        at_ms: i64,
        each: &mut dyn FnMut(LabelsRef<'s>, i64, f64),
    ) -> Result<(), QueryError> {
        let until_ms = selector.time.apply(at_ms, self.start_ms, self.end_ms);
        let after_ms = until_ms.saturating_sub(self.lookback_ms);
        if self.once[selector.id] {
            let mut count = 1;
            self.storage.select_latest(&selector.matchers, after_ms, until_ms, &mut |labels, time, value| {
                count += 1;
                each(labels, time, value);
            });
            return self.touch(count);
        }
        let series = self.series(selector);
        self.touch(series.len() as u64 + 1)?;
        let mut locator = Locator::new(after_ms, until_ms);
        for series in series {
            let (first, end) = locator.locate(series.ticks);
            if first < end
                && let Some(value) = value_at(&series.runs, end - 1)
            {
                each(series.labels, series.ticks[(end - 1) as usize], value);
            }
        }
        Ok(())
    }

    /// The window of a range vector.
    pub fn window(&self, node: &Node, at_ms: i64) -> Result<Window, QueryError> {
        let (time, range_ms) = match node {
            Node::Range { selector, range_ms } => (selector.time, *range_ms),
            Node::Subquery(subquery) => (subquery.time, subquery.range_ms),
            _ => return Err(QueryError::Execution("expected a range vector".into())),
        };
        let to_ms = time.apply(at_ms, self.start_ms, self.end_ms);
        Ok(Window { from_ms: to_ms.saturating_sub(range_ms), to_ms, at_ms })
    }

    /// Gives each series of a range vector that has ticks in the window.
    pub fn each_range(
        &self,
        node: &Node,
        at_ms: i64,
        each: &mut dyn FnMut(Tags<'s>, Name, RangeView<'_>),
    ) -> Result<(), QueryError> {
        let Window { from_ms, to_ms, .. } = self.window(node, at_ms)?;
        match node {
            Node::Range { selector, .. } => {
                let mut locator = Locator::new(from_ms, to_ms);
                let mut visit = |series: &Series<'s>| {
                    if let Some(view) = RangeView::new(series.ticks, &series.runs, locator.locate(series.ticks)) {
                        self.touch(view.cost())?;
                        each(Tags::Stored(series.labels), Name::Kept, view);
                    }
                    Ok(())
                };
                if !self.once[selector.id] {
                    return self.series(selector).iter().try_for_each(visit);
                }
                let mut outcome = Ok(());
                self.storage.select(&selector.matchers, from_ms, to_ms, &mut |series| {
                    if outcome.is_ok() {
                        outcome = visit(&series);
                    }
                });
                outcome?;
            }
            Node::Subquery(subquery) => self.each_of_subquery(subquery, from_ms, to_ms, each)?,
            _ => {}
        }
        Ok(())
    }

    fn each_of_subquery(
        &self,
        subquery: &Subquery,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(Tags<'s>, Name, RangeView<'_>),
    ) -> Result<(), QueryError> {
        // The first multiple of the step after the window's (open) start.
        let step_ms = subquery.step_ms.unwrap_or(self.step_ms);
        let mut first_ms = from_ms / step_ms * step_ms;
        if first_ms <= from_ms {
            first_ms = first_ms.saturating_add(step_ms);
        }
        let before = self.held.get();
        let collected = self.steps(&subquery.inner, first_ms, to_ms, step_ms)?;
        let end = collected.ticks.len() as u32;
        for series in &collected.series {
            if let Some(view) = RangeView::new(&collected.ticks, &series.runs, (0, end)) {
                each(series.labels.clone().into(), series.name, view);
            }
        }
        // What a subquery gave is forgotten before the next step.
        self.held.set(before);
        Ok(())
    }

    /// Evaluates at every step and turns the results round into series.
    fn steps(&self, node: &Node, first_ms: i64, to_ms: i64, step_ms: i64) -> Result<Collected, QueryError> {
        let mut collected = Collected::default();
        let mut at_ms = first_ms;
        while at_ms <= to_ms {
            self.touch(1)?;
            collected.tick(at_ms);
            match self.data(node, at_ms)? {
                Data::Scalar(value) => {
                    collected.add(Element { labels: Labels::default().into(), name: Name::Kept, value })?;
                }
                Data::String(_) => return Err(QueryError::Execution("a string has no series".into())),
                Data::Vector(elements) => {
                    for element in elements {
                        collected.add(element)?;
                    }
                }
            }
            self.hold(collected.growth())?;
            let Some(next) = at_ms.checked_add(step_ms) else { break };
            at_ms = next;
        }
        collected.end();
        Ok(collected)
    }

    /// The regular expression of `label_replace`.
    pub fn regex(&self, pattern: &str) -> Result<regex::Regex, QueryError> {
        if let Some(known) = self.regexes.borrow().get(pattern) {
            return Ok(known.clone());
        }
        let regex = super::text::regex(pattern)?;
        self.regexes.borrow_mut().insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    }

    fn series(&self, selector: &Selector) -> &[Series<'s>] {
        self.selections[selector.id].get_or_init(|| {
            let (from_ms, to_ms) = self.windows[selector.id];
            let mut series = Vec::new();
            self.storage.select(&selector.matchers, from_ms, to_ms, &mut |found| series.push(found));
            series
        })
    }

    /// Counts samples that are read, and looks at the clock now and then.
    fn touch(&self, samples: u64) -> Result<(), QueryError> {
        // A step costs something even if it reads nothing.
        let read = self.read.get() + samples;
        self.read.set(read);
        if read > self.limits.read {
            return Err(too_many("reads", self.limits.read));
        }
        if let Some(deadline) = self.limits.deadline
            && read >= self.timed.get()
        {
            self.timed.set(read + READ_BETWEEN_LOOKS);
            if Instant::now() >= deadline {
                return Err(QueryError::Timeout);
            }
        }
        Ok(())
    }

    /// Counts samples that are kept.
    fn hold(&self, samples: u64) -> Result<(), QueryError> {
        let held = self.held.get() + samples;
        self.held.set(held);
        if held > self.limits.held { Err(too_many("holds", self.limits.held)) } else { Ok(()) }
    }
}

fn too_many(what: &str, limit: u64) -> QueryError {
    QueryError::Execution(format!("the query {what} more than {limit} samples"))
}
