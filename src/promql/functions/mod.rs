//! Functions by name. What is not here is refused when the query is parsed.

mod date;
mod histogram;
mod label;
mod math;
mod over_time;
mod rate;

use super::QueryError;
use super::element::{Element, Name, Tags, same_labelset};
use super::eval::{Data, Evaluation, Window};
use super::node::{Kind, Node, Places, Selector};
use super::view::RangeView;
use crate::labels::{Labels, LabelsRef, NAME};
use promql_parser::label::MatchOp;
use promql_parser::parser;
use promql_parser::parser::value::ValueType;

#[derive(Clone, Copy)]
pub enum Function {
    /// From each element's value and the scalar arguments; no result takes the element away.
    Elementwise(fn(f64, &[f64]) -> Option<f64>),
    /// From each series' samples and the scalar arguments.
    Range {
        compute: fn(&RangeView<'_>, &Window, &[f64]) -> Option<f64>,
        keeps_name: bool,
        remark: Option<Remark>,
    },
    /// From seconds since 1970; of the evaluation time without an argument.
    Date(fn(f64) -> f64),
    Absent,
    AbsentOverTime,
    HistogramFraction,
    HistogramQuantile,
    LabelJoin,
    LabelReplace,
    Pi,
    Scalar,
    Sort,
    SortDescending,
    Time,
    Timestamp,
    Vector,
}

/// What there may be to note about a function of a range.
#[derive(Clone, Copy)]
pub enum Remark {
    /// It makes sense of counters only.
    Counter,
    /// Its first argument is a quantile.
    Quantile,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Function")
    }
}

impl Function {
    /// # Errors
    /// `Unsupported` with the function's name.
    pub fn find(function: &parser::Function) -> Result<Function, QueryError> {
        let name = function.name;
        if function.experimental {
            return Err(QueryError::Unsupported(format!("the experimental function {name}")));
        }
        let remark = match name {
            "rate" | "increase" => Some(Remark::Counter),
            "quantile_over_time" => Some(Remark::Quantile),
            _ => None,
        };
        let keeps_name = matches!(name, "first_over_time" | "last_over_time");
        let range = |compute| Function::Range { compute, keeps_name, remark };
        let found = math::find(name).map(Function::Elementwise);
        let found = found.or_else(|| date::find(name).map(Function::Date));
        let found = found.or_else(|| over_time::find(name).or_else(|| rate::find(name)).map(range));
        if let Some(function) = found {
            return Ok(function);
        }
        Ok(match name {
            "absent" => Function::Absent,
            "absent_over_time" => Function::AbsentOverTime,
            "histogram_fraction" => Function::HistogramFraction,
            "histogram_quantile" => Function::HistogramQuantile,
            "label_join" => Function::LabelJoin,
            "label_replace" => Function::LabelReplace,
            "pi" => Function::Pi,
            "scalar" => Function::Scalar,
            "sort" => Function::Sort,
            "sort_desc" => Function::SortDescending,
            "time" => Function::Time,
            "timestamp" => Function::Timestamp,
            "vector" => Function::Vector,
            _ if name.starts_with("histogram_") => {
                return Err(QueryError::Unsupported(format!("the native-histogram function {name}")));
            }
            _ => return Err(QueryError::Unsupported(format!("the function {name}"))),
        })
    }

    pub fn kind(self) -> Kind {
        match self {
            Function::Pi | Function::Scalar | Function::Time => Kind::Scalar,
            _ => Kind::Vector,
        }
    }
}

/// Checks the arguments' types; the parser lets some literals pass.
pub fn check(function: &parser::Function, arguments: &[Node]) -> Result<(), QueryError> {
    for (position, argument) in arguments.iter().enumerate() {
        let Some(expected) = function.arg_types.get(position).or(function.arg_types.last()) else { continue };
        let fits = match expected {
            ValueType::Scalar => argument.kind() == Kind::Scalar,
            ValueType::String => argument.kind() == Kind::String,
            ValueType::Vector => argument.kind() == Kind::Vector,
            ValueType::Matrix => argument.kind() == Kind::Matrix,
        };
        if !fits {
            let message = format!("expected type {expected} in call to function '{}'", function.name);
            return Err(QueryError::Syntax(message));
        }
    }
    Ok(())
}

pub fn evaluate<'s>(
    evaluation: &Evaluation<'s>,
    function: Function,
    (arguments, places): (&[Node], &Places),
    at_ms: i64,
) -> Result<Data<'s>, QueryError> {
    let vector = |position: usize| match arguments.get(position) {
        Some(node) => evaluation.vector(node, at_ms),
        None => Err(missing_argument()),
    };
    let now = at_ms as f64 / 1000.0;
    Ok(match function {
        Function::Elementwise(compute) => {
            let parameters = scalars(evaluation, arguments, at_ms)?;
            Data::Vector(map(vector(0)?, |value| compute(value, &parameters)))
        }
        Function::Date(compute) if arguments.is_empty() => Data::Vector(vec![plain(compute(now))]),
        Function::Date(compute) => Data::Vector(map(vector(0)?, |value| Some(compute(value)))),
        Function::Range { compute, keeps_name, remark } => {
            let note = |parameters: &[f64], labels: LabelsRef<'_>, name: Name| match (remark, parameters) {
                (Some(Remark::Counter), _) if name != Name::Gone => {
                    evaluation.notes.counter(labels.name(), places.argument(0));
                }
                (Some(Remark::Quantile), [q, ..]) => evaluation.notes.quantile(*q, places.argument(0)),
                _ => {}
            };
            Data::Vector(over_range(evaluation, (compute, keeps_name), &note, arguments, at_ms)?)
        }
        Function::Absent => {
            let absent = vector(0)?.is_empty();
            Data::Vector(if absent { vec![absent_element(&arguments[0])] } else { Vec::new() })
        }
        Function::AbsentOverTime => Data::Vector(absent_over_time(evaluation, arguments, at_ms)?),
        Function::HistogramQuantile => {
            let q = evaluation.scalar(arguments.first().ok_or_else(missing_argument)?, at_ms)?;
            evaluation.notes.quantile(q, places.argument(0));
            Data::Vector(histogram::quantile(q, vector(1)?, &evaluation.notes, places.argument(1)))
        }
        Function::HistogramFraction => {
            let bounds = scalars(evaluation, arguments, at_ms)?;
            let [lower, upper] = bounds[..] else { return Err(missing_argument()) };
            Data::Vector(histogram::fraction(lower, upper, vector(2)?, &evaluation.notes, places.argument(2)))
        }
        Function::LabelJoin => Data::Vector(label::join(vector(0)?, &strings(evaluation, arguments, at_ms)?)?),
        Function::LabelReplace => {
            Data::Vector(label::replace(evaluation, vector(0)?, &strings(evaluation, arguments, at_ms)?)?)
        }
        Function::Pi => Data::Scalar(std::f64::consts::PI),
        Function::Time => Data::Scalar(now),
        Function::Scalar => Data::Scalar(match &vector(0)?[..] {
            [only] => only.value,
            _ => f64::NAN,
        }),
        Function::Vector => {
            Data::Vector(vec![plain(evaluation.scalar(arguments.first().ok_or_else(missing_argument)?, at_ms)?)])
        }
        Function::Sort | Function::SortDescending => {
            if evaluation.is_range {
                evaluation.notes.sorting(places.call);
            }
            Data::Vector(sorted(vector(0)?, matches!(function, Function::SortDescending)))
        }
        Function::Timestamp => Data::Vector(match arguments.first() {
            Some(Node::Select(selector)) => timestamps(evaluation, selector, at_ms)?,
            _ => map(vector(0)?, |_| Some(now)),
        }),
    })
}

fn missing_argument() -> QueryError {
    QueryError::Execution("an argument is missing".into())
}

/// An element without labels.
fn plain<'s>(value: f64) -> Element<'s> {
    Element { labels: Labels::default().into(), name: Name::Kept, value }
}

fn map(mut elements: Vec<Element<'_>>, compute: impl Fn(f64) -> Option<f64>) -> Vec<Element<'_>> {
    elements.retain_mut(|element| {
        let Some(value) = compute(element.value) else { return false };
        element.value = value;
        element.name = element.name.max(Name::Dropped);
        true
    });
    elements
}

/// The scalar arguments, in their order.
fn scalars(evaluation: &Evaluation<'_>, arguments: &[Node], at_ms: i64) -> Result<Vec<f64>, QueryError> {
    let scalars = arguments.iter().filter(|node| node.kind() == Kind::Scalar);
    scalars.map(|node| evaluation.scalar(node, at_ms)).collect()
}

fn strings(evaluation: &Evaluation<'_>, arguments: &[Node], at_ms: i64) -> Result<Vec<String>, QueryError> {
    let strings = arguments.iter().filter(|node| node.kind() == Kind::String);
    strings.map(|node| evaluation.string(node, at_ms)).collect()
}

fn matrix(arguments: &[Node]) -> Result<&Node, QueryError> {
    arguments.iter().find(|node| node.kind() == Kind::Matrix).ok_or_else(missing_argument)
}

fn over_range<'s>(
    evaluation: &Evaluation<'s>,
    (compute, keeps_name): (fn(&RangeView<'_>, &Window, &[f64]) -> Option<f64>, bool),
    note: &dyn Fn(&[f64], LabelsRef<'_>, Name),
    arguments: &[Node],
    at_ms: i64,
) -> Result<Vec<Element<'s>>, QueryError> {
    let parameters = scalars(evaluation, arguments, at_ms)?;
    let node = matrix(arguments)?;
    let window = evaluation.window(node, at_ms)?;
    let mut elements = Vec::new();
    evaluation.each_range(node, at_ms, &mut |labels, name, view| {
        if let Some(value) = compute(&view, &window, &parameters) {
            note(&parameters, labels.view(), name);
            let name = if keeps_name { name } else { name.max(Name::Dropped) };
            elements.push(Element { labels, name, value });
        }
    })?;
    Ok(elements)
}

fn timestamps<'s>(
    evaluation: &Evaluation<'s>,
    selector: &Selector,
    at_ms: i64,
) -> Result<Vec<Element<'s>>, QueryError> {
    let mut elements = Vec::new();
    evaluation.each_sample(selector, at_ms, &mut |labels, time, _| {
        elements.push(Element { labels: Tags::Stored(labels), name: Name::Dropped, value: time as f64 / 1000.0 });
    })?;
    Ok(elements)
}

fn sorted(mut elements: Vec<Element<'_>>, descending: bool) -> Vec<Element<'_>> {
    elements.sort_by(|a, b| match (a.value.is_nan(), b.value.is_nan()) {
        (false, false) => {
            let order = a.value.partial_cmp(&b.value).unwrap_or(std::cmp::Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
        // NaN last, either way.
        (a, b) => a.cmp(&b),
    });
    elements
}

fn absent_over_time<'s>(
    evaluation: &Evaluation<'s>,
    arguments: &[Node],
    at_ms: i64,
) -> Result<Vec<Element<'s>>, QueryError> {
    let node = matrix(arguments)?;
    let mut found = false;
    evaluation.each_range(node, at_ms, &mut |_, _, view| found |= view.segments().next().is_some())?;
    Ok(if found { Vec::new() } else { vec![absent_element(node)] })
}

/// 1, with the labels that the selector requires to equal something.
fn absent_element<'s>(node: &Node) -> Element<'s> {
    let (Node::Select(selector) | Node::Range { selector, .. }) = node else { return plain(1.0) };
    let matchers = selector.matchers.matchers.iter().filter(|matcher| matcher.name != NAME);
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers {
        if matches!(matcher.op, MatchOp::Equal) && !seen.contains(&matcher.name.as_str()) {
            pairs.push((&matcher.name, &matcher.value));
            seen.push(&matcher.name);
        } else {
            pairs.retain(|(name, _)| *name != matcher.name);
        }
    }
    Element { labels: Labels::new(pairs).into(), ..plain(1.0) }
}

/// Refuses two elements with the same labels at this point of the evaluation.
fn distinct(elements: Vec<Element<'_>>) -> Result<Vec<Element<'_>>, QueryError> {
    let mut seen = std::collections::HashSet::with_capacity(elements.len());
    if elements.iter().all(|element| seen.insert(element.visible_labels())) {
        Ok(elements)
    } else {
        Err(same_labelset())
    }
}
