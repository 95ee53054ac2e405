//! Aggregations over the elements of an instant vector.

use super::QueryError;
use super::element::{Element, Name};
use super::eval::{Data, Evaluation};
use super::keys::{Grouper, Key};
use super::node::{Aggregate, Aggregation};
use super::number::{self, Mean, Sum, Variance};
use std::cmp::Ordering;

pub fn evaluate<'s>(
    evaluation: &Evaluation<'s>,
    aggregate: &Aggregate,
    at_ms: i64,
) -> Result<Vec<Element<'s>>, QueryError> {
    let parameter = aggregate.parameter.as_ref().map(|node| evaluation.data(node, at_ms)).transpose()?;
    let elements = || evaluation.elements(&aggregate.inner, at_ms);
    let source: Source<'_, 's> = &|each| evaluation.each_element(&aggregate.inner, at_ms, each);
    let key = if aggregate.without { Key::Except(&aggregate.labels) } else { Key::Only(&aggregate.labels) };
    match (aggregate.operation, parameter) {
        (Aggregation::TopK, Some(Data::Scalar(k))) => select(key, elements()?, k, true),
        (Aggregation::BottomK, Some(Data::Scalar(k))) => select(key, elements()?, k, false),
        (Aggregation::Quantile, Some(Data::Scalar(q))) => {
            evaluation.notes.quantile(q, aggregate.places.argument(0));
            let values = groups(key, source, Values::default, |group, value| group.0.push((value, 1)))?;
            Ok(values.finish(|mut values| number::quantile(q, &mut values.0)))
        }
        (Aggregation::CountValues, Some(Data::String(label))) => {
            let relabeled = |mut element: Element<'s>| {
                element.labels = element.visible_labels().with(&label, &number::format(element.value)).into();
                if label == crate::labels::NAME || element.name == Name::Gone {
                    element.name = Name::Kept;
                }
                element
            };
            let mut labels = aggregate.labels.clone();
            if !aggregate.without {
                labels.push(label.as_str().into());
            }
            let key = if aggregate.without { Key::Except(&labels) } else { Key::Only(&labels) };
            count(key, &|each| source(&mut |element| each(relabeled(element))))
        }
        (operation, _) => plain(operation, key, source),
    }
}

/// Gives each of the elements, which nobody holds all at once.
type Source<'a, 's> = &'a dyn Fn(&mut dyn FnMut(Element<'s>)) -> Result<(), QueryError>;

#[derive(Default)]
struct Values(Vec<(f64, u64)>);

fn count<'s, L: AsRef<str>>(key: Key<'_, L>, source: Source<'_, 's>) -> Result<Vec<Element<'s>>, QueryError> {
    Ok(groups(key, source, || 0.0, |count, _| *count += 1.0)?.finish(|count| count))
}

fn plain<'s, L: AsRef<str>>(
    operation: Aggregation,
    key: Key<'_, L>,
    source: Source<'_, 's>,
) -> Result<Vec<Element<'s>>, QueryError> {
    let nan = || f64::NAN;
    let variances = |key| groups(key, source, Variance::default, |variance, value| variance.add(value, 1.0));
    Ok(match operation {
        Aggregation::Sum => groups(key, source, Sum::default, Sum::add)?.finish(Sum::value),
        Aggregation::Avg => groups(key, source, Mean::default, |mean, value| mean.add(value, 1.0))?.finish(Mean::value),
        Aggregation::Min => groups(key, source, nan, |least, value| {
            if least.is_nan() || value < *least {
                *least = value;
            }
        })?
        .finish(|least| least),
        Aggregation::Max => groups(key, source, nan, |most, value| {
            if most.is_nan() || value > *most {
                *most = value;
            }
        })?
        .finish(|most| most),
        Aggregation::Group => groups(key, source, || (), |(), _| {})?.finish(|()| 1.0),
        Aggregation::Stddev => variances(key)?.finish(|variance| variance.value().sqrt()),
        Aggregation::Stdvar => variances(key)?.finish(Variance::value),
        // The others take a parameter, which the parser has checked.
        Aggregation::Count
        | Aggregation::TopK
        | Aggregation::BottomK
        | Aggregation::Quantile
        | Aggregation::CountValues => count(key, source)?,
    })
}

/// The groups in the order in which they were met: their element and their state.
struct Groups<'s, S>(Vec<(Element<'s>, S)>);

impl<'s, S> Groups<'s, S> {
    fn finish(self, value: impl Fn(S) -> f64) -> Vec<Element<'s>> {
        self.0.into_iter().map(|(element, state)| Element { value: value(state), ..element }).collect()
    }
}

fn groups<'s, L: AsRef<str>, S>(
    key: Key<'_, L>,
    source: Source<'_, 's>,
    start: impl Fn() -> S,
    add: impl Fn(&mut S, f64),
) -> Result<Groups<'s, S>, QueryError> {
    let mut grouper = Grouper::new(key);
    let mut groups: Vec<(Element<'s>, S)> = Vec::new();
    source(&mut |element| {
        let group = grouper.group(&element) as usize;
        if group == groups.len() {
            let mut state = start();
            add(&mut state, element.value);
            return groups.push((element, state));
        }
        let (representative, state) = &mut groups[group];
        representative.name = representative.name.max(element.name);
        add(state, element.value);
    })?;
    for (element, _) in &mut groups {
        element.labels = grouper.labels(element).into();
    }
    Ok(Groups(groups))
}

/// `topk` and `bottomk`: the elements themselves, best first, NaN last.
fn select<'s, L: AsRef<str>>(
    key: Key<'_, L>,
    elements: Vec<Element<'s>>,
    k: f64,
    largest: bool,
) -> Result<Vec<Element<'s>>, QueryError> {
    if k.is_nan() {
        return Err(QueryError::Execution("Parameter value is NaN".into()));
    }
    if k >= i64::MAX as f64 || k <= i64::MIN as f64 {
        return Err(QueryError::Execution(format!("Scalar value {k} overflows int64")));
    }
    let limit = if k < 1.0 { 0 } else { k as usize };
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut grouper = Grouper::new(key);
    let mut members: Vec<Vec<&Element<'s>>> = Vec::new();
    for element in &elements {
        let group = grouper.group(element) as usize;
        if group == members.len() {
            members.push(Vec::new());
        }
        members[group].push(element);
    }
    let better = |a: &&Element<'_>, b: &&Element| match (a.value.is_nan(), b.value.is_nan()) {
        (false, false) if largest => b.value.partial_cmp(&a.value).unwrap_or(Ordering::Equal),
        (false, false) => a.value.partial_cmp(&b.value).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    };
    let mut result = Vec::new();
    for mut group in members {
        if limit < group.len() {
            group.select_nth_unstable_by(limit - 1, better);
            group.truncate(limit);
        }
        group.sort_by(better);
        result.extend(group.into_iter().cloned());
    }
    Ok(result)
}
