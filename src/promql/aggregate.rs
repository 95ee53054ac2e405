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
    let mut elements = evaluation.vector(&aggregate.inner, at_ms)?;
    let key = if aggregate.without { Key::Except(&aggregate.labels) } else { Key::Only(&aggregate.labels) };
    match (aggregate.operation, parameter) {
        (Aggregation::TopK, Some(Data::Scalar(k))) => select(key, elements, k, true),
        (Aggregation::BottomK, Some(Data::Scalar(k))) => select(key, elements, k, false),
        (Aggregation::Quantile, Some(Data::Scalar(q))) => {
            evaluation.notes.quantile(q, aggregate.places.argument(0));
            Ok(groups(key, &elements, Values::default, |group, value| {
                group.0.push((value, 1));
            })
            .finish(|mut values| number::quantile(q, &mut values.0)))
        }
        (Aggregation::CountValues, Some(Data::String(label))) => {
            for element in &mut elements {
                element.labels = element.visible_labels().with(&label, &number::format(element.value)).into();
                if label == crate::labels::NAME || element.name == Name::Gone {
                    element.name = Name::Kept;
                }
            }
            let mut labels = aggregate.labels.clone();
            if !aggregate.without {
                labels.push(label.into());
            }
            let key = if aggregate.without { Key::Except(&labels) } else { Key::Only(&labels) };
            Ok(count(key, &elements))
        }
        (operation, _) => Ok(plain(operation, key, &elements)),
    }
}

#[derive(Default)]
struct Values(Vec<(f64, u64)>);

fn count<'s, L: AsRef<str>>(key: Key<'_, L>, elements: &[Element<'s>]) -> Vec<Element<'s>> {
    groups(key, elements, || 0.0, |count, _| *count += 1.0).finish(|count| count)
}

fn plain<'s, L: AsRef<str>>(operation: Aggregation, key: Key<'_, L>, elements: &[Element<'s>]) -> Vec<Element<'s>> {
    let nan = || f64::NAN;
    match operation {
        Aggregation::Sum => groups(key, elements, Sum::default, Sum::add).finish(Sum::value),
        Aggregation::Avg => {
            groups(key, elements, Mean::default, |mean, value| mean.add(value, 1.0)).finish(Mean::value)
        }
        Aggregation::Min => groups(key, elements, nan, |least, value| {
            if least.is_nan() || value < *least {
                *least = value;
            }
        })
        .finish(|least| least),
        Aggregation::Max => groups(key, elements, nan, |most, value| {
            if most.is_nan() || value > *most {
                *most = value;
            }
        })
        .finish(|most| most),
        Aggregation::Group => groups(key, elements, || (), |(), _| {}).finish(|()| 1.0),
        Aggregation::Stddev => variances(key, elements).finish(|variance| variance.value().sqrt()),
        Aggregation::Stdvar => variances(key, elements).finish(Variance::value),
        // The others take a parameter, which the parser has checked.
        Aggregation::Count
        | Aggregation::TopK
        | Aggregation::BottomK
        | Aggregation::Quantile
        | Aggregation::CountValues => count(key, elements),
    }
}

fn variances<'s, L: AsRef<str>>(key: Key<'_, L>, elements: &[Element<'s>]) -> Groups<'s, Variance> {
    groups(key, elements, Variance::default, |variance, value| variance.add(value, 1.0))
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
    elements: &[Element<'s>],
    start: impl Fn() -> S,
    add: impl Fn(&mut S, f64),
) -> Groups<'s, S> {
    let mut grouper = Grouper::new(key);
    let mut groups: Vec<(Element<'s>, S)> = Vec::new();
    for element in elements {
        let group = grouper.group(element) as usize;
        if group == groups.len() {
            groups.push((element.clone(), start()));
        }
        let (representative, state) = &mut groups[group];
        representative.name = representative.name.max(element.name);
        add(state, element.value);
    }
    for (element, _) in &mut groups {
        element.labels = grouper.labels(element).into();
    }
    Groups(groups)
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
