//! Binary operators: arithmetic, comparison and set operators, between scalars and vectors.

use super::QueryError;
use super::element::{Element, Name};
use super::eval::{Data, Evaluation};
use super::keys::{Index, Key};
use super::node::{Arithmetic, Binary, Cardinality, Comparison, Kind, Matching, Node, Operator};
use crate::labels::NAME;

/// Between two scalars or two vectors; for a vector and a scalar see [`each_with_scalar`].
pub fn evaluate<'s>(evaluation: &Evaluation<'s>, binary: &Binary, at_ms: i64) -> Result<Data<'s>, QueryError> {
    let left = evaluation.data(&binary.left, at_ms)?;
    let left = match (left, binary.operator) {
        (Data::Vector(left), Operator::And | Operator::Unless) if binary.right.kind() == Kind::Vector => {
            return Ok(Data::Vector(in_right(evaluation, binary, left, at_ms)?));
        }
        (left, _) => left,
    };
    let right = evaluation.data(&binary.right, at_ms)?;
    Ok(match (left, right) {
        (Data::Scalar(left), Data::Scalar(right)) => Data::Scalar(match binary.operator {
            Operator::Arithmetic(operator) => operator.apply(left, right),
            Operator::Comparison(operator) => f64::from(u8::from(operator.holds(left, right))),
            Operator::And | Operator::Or | Operator::Unless => return Err(mistyped()),
        }),
        (Data::Vector(left), Data::Vector(right)) => Data::Vector(match binary.operator {
            Operator::Or => or(&binary.matching, left, right),
            Operator::Arithmetic(_) | Operator::Comparison(_) => vectors(binary, left, right)?,
            Operator::And | Operator::Unless => return Err(mistyped()),
        }),
        _ => return Err(mistyped()),
    })
}

fn mistyped() -> QueryError {
    QueryError::Execution("binary expression must contain only scalar and instant vector types".into())
}

impl Arithmetic {
    fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Arithmetic::Add => left + right,
            Arithmetic::Subtract => left - right,
            Arithmetic::Multiply => left * right,
            Arithmetic::Divide => left / right,
            Arithmetic::Modulo => left % right,
            Arithmetic::Power => left.powf(right),
            Arithmetic::Atan2 => left.atan2(right),
        }
    }
}

impl Comparison {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
        }
    }
}

/// The result's value, and whether it stays. `kept` is what a filtering comparison keeps.
fn apply(binary: &Binary, left: f64, right: f64, kept: f64) -> Result<Option<f64>, QueryError> {
    Ok(match binary.operator {
        Operator::Arithmetic(operator) => Some(operator.apply(left, right)),
        Operator::Comparison(operator) if binary.return_bool => Some(f64::from(u8::from(operator.holds(left, right)))),
        Operator::Comparison(operator) => operator.holds(left, right).then_some(kept),
        Operator::And | Operator::Or | Operator::Unless => return Err(mistyped()),
    })
}

impl Binary {
    /// One side is a scalar, the other a vector.
    pub fn is_with_scalar(&self) -> bool {
        matches!((self.left.kind(), self.right.kind()), (Kind::Scalar, Kind::Vector) | (Kind::Vector, Kind::Scalar))
    }

    fn drops_name(&self) -> bool {
        self.return_bool || matches!(self.operator, Operator::Arithmetic(_))
    }
}

/// Gives each element of a vector with a scalar.
pub fn each_with_scalar<'s>(
    evaluation: &Evaluation<'s>,
    binary: &Binary,
    at_ms: i64,
    each: &mut dyn FnMut(Element<'s>),
) -> Result<(), QueryError> {
    if matches!(binary.operator, Operator::And | Operator::Or | Operator::Unless) {
        return Err(mistyped());
    }
    let scalar_is_left = binary.left.kind() == Kind::Scalar;
    let (vector, scalar): (&Node, &Node) =
        if scalar_is_left { (&binary.right, &binary.left) } else { (&binary.left, &binary.right) };
    let scalar = evaluation.scalar(scalar, at_ms)?;
    let drops_name = binary.drops_name();
    evaluation.each_element(vector, at_ms, &mut |element| {
        let (left, right) = if scalar_is_left { (scalar, element.value) } else { (element.value, scalar) };
        // The operator was checked above.
        let Ok(Some(value)) = apply(binary, left, right, element.value) else { return };
        let name = if drops_name { element.name.max(Name::Dropped) } else { element.name };
        each(Element { name, value, ..element });
    })
}

fn key(matching: &Matching) -> Key<'_, String> {
    if matching.on { Key::Only(&matching.labels) } else { Key::Except(&matching.labels) }
}

/// Elements by their match key; the first of each key.
struct Side<'a> {
    key: Key<'a, String>,
    index: Index,
    firsts: Vec<u32>,
}

impl<'a> Side<'a> {
    fn new(matching: &'a Matching, elements: &[Element<'_>]) -> Side<'a> {
        let mut side = Side { key: key(matching), index: Index::with_capacity(elements.len()), firsts: Vec::new() };
        for (position, element) in elements.iter().enumerate() {
            let hash = side.key.hash(element);
            if side.find(elements, element, hash).is_none() {
                side.index.insert(hash);
                side.firsts.push(position as u32);
            }
        }
        side
    }

    fn find(&self, elements: &[Element<'_>], element: &Element<'_>, hash: u64) -> Option<usize> {
        let first = |entry: u32| self.firsts[entry as usize] as usize;
        self.index.find(hash, |entry| self.key.same(&elements[first(entry)], element)).map(first)
    }
}

/// The left elements that have (or have not) a partner on the right, whose elements are held only while they are few.
fn in_right<'s>(
    evaluation: &Evaluation<'s>,
    binary: &Binary,
    mut left: Vec<Element<'s>>,
    at_ms: i64,
) -> Result<Vec<Element<'s>>, QueryError> {
    let (matching, wanted) = (&binary.matching, matches!(binary.operator, Operator::And));
    let mut few: Vec<Element<'s>> = Vec::new();
    // Once they are not few: the left side by its keys, and of each first of a key whether it has a partner.
    let mut found: Option<(Side<'_>, Vec<bool>)> = None;
    let mark = |left: &[Element<'s>], (side, found): &mut (Side<'_>, Vec<bool>), element: &Element<'s>| {
        if let Some(first) = side.find(left, element, side.key.hash(element)) {
            found[first] = true;
        }
    };
    evaluation.each_element(&binary.right, at_ms, &mut |element| {
        if let Some(found) = &mut found {
            return mark(&left, found, &element);
        }
        few.push(element);
        if few.len() > left.len() / 4 {
            let found = found.insert((Side::new(matching, &left), vec![false; left.len()]));
            std::mem::take(&mut few).iter().for_each(|element| mark(&left, found, element));
        }
    })?;
    if let Some((side, found)) = found {
        let has_partner =
            |element: &Element<'s>| side.find(&left, element, side.key.hash(element)).is_some_and(|first| found[first]);
        let stays: Vec<bool> = left.iter().map(|element| has_partner(element) == wanted).collect();
        let mut stays = stays.into_iter();
        left.retain(|_| stays.next().unwrap_or(false));
        return Ok(left);
    }
    let side = Side::new(matching, &few);
    left.retain(|element| side.find(&few, element, side.key.hash(element)).is_some() == wanted);
    Ok(left)
}

fn or<'s>(matching: &Matching, mut left: Vec<Element<'s>>, right: Vec<Element<'s>>) -> Vec<Element<'s>> {
    if left.is_empty() {
        return right;
    }
    let side = Side::new(matching, &left);
    let more: Vec<Element<'s>> =
        right.into_iter().filter(|element| side.find(&left, element, side.key.hash(element)).is_none()).collect();
    left.extend(more);
    left
}

fn vectors<'s>(
    binary: &Binary,
    left: Vec<Element<'s>>,
    right: Vec<Element<'s>>,
) -> Result<Vec<Element<'s>>, QueryError> {
    if left.is_empty() || right.is_empty() {
        return Ok(Vec::new());
    }
    let matching = &binary.matching;
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    let side = Side::new(matching, &one);
    refuse_duplicates(&side, &one, swapped)?;
    let mut matched = Matched::new(matching.cardinality, one.len());
    let mut result: Vec<Element<'s>> = Vec::with_capacity(many.len());
    for mut element in many {
        let Some(partner) = side.find(&one, &element, side.key.hash(&element)) else { continue };
        let other = one[partner].value;
        let (left, right) = if swapped { (other, element.value) } else { (element.value, other) };
        let value = apply(binary, left, right, left)?;
        result_labels(binary, &mut element, &one[partner]);
        // Whatever a comparison filters away, the matching must hold.
        matched.add(&element, partner)?;
        if let Some(value) = value {
            result.push(Element { value, ..element });
        }
    }
    Ok(result)
}

/// What has found its partner so far.
enum Matched<'s> {
    /// By the partner's position.
    OneToOne(Vec<bool>),
    /// Resulting elements with their partners' positions.
    Grouped { index: Index, elements: Vec<(Element<'s>, usize)> },
}

impl<'s> Matched<'s> {
    fn new(cardinality: Cardinality, n_partners: usize) -> Matched<'s> {
        match cardinality {
            Cardinality::OneToOne => Matched::OneToOne(vec![false; n_partners]),
            _ => Matched::Grouped { index: Index::with_capacity(0), elements: Vec::new() },
        }
    }

    /// Refuses a second element for one partner, or a second of the same labels if the partner may have many.
    fn add(&mut self, element: &Element<'s>, partner: usize) -> Result<(), QueryError> {
        match self {
            Matched::OneToOne(matched) if matched[partner] => Err(QueryError::Execution(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)".into(),
            )),
            Matched::OneToOne(matched) => {
                matched[partner] = true;
                Ok(())
            }
            Matched::Grouped { index, elements } => {
                let all = Key::Except::<String>(&[]);
                let hash = all.hash(element);
                let same = |(earlier, of): &(Element<'s>, usize)| {
                    *of == partner && all.same(earlier, element) && earlier.get(NAME) == element.get(NAME)
                };
                if index.find(hash, |entry| same(&elements[entry as usize])).is_some() {
                    return Err(QueryError::Execution(
                        "multiple matches for labels: grouping labels must ensure unique matches".into(),
                    ));
                }
                index.insert(hash);
                elements.push((element.clone(), partner));
                Ok(())
            }
        }
    }
}

fn refuse_duplicates(side: &Side<'_>, one: &[Element<'_>], swapped: bool) -> Result<(), QueryError> {
    if side.firsts.len() == one.len() {
        return Ok(());
    }
    for (position, element) in one.iter().enumerate() {
        let first = side.find(one, element, side.key.hash(element)).unwrap_or(position);
        if first != position {
            let mut pair = [series_text(element), series_text(&one[first])];
            pair.sort();
            let [earlier, later] = pair;
            return Err(QueryError::Execution(format!(
                "found duplicate series for the match group {} on the {} hand-side of the operation: [{earlier}, {later}];\
                 many-to-many matching not allowed: matching labels must be unique on one side",
                side.key.labels(element),
                if swapped { "left" } else { "right" },
            )));
        }
    }
    Ok(())
}

/// As Prometheus's `Labels.String`: the name is a label like any other.
fn series_text(element: &Element<'_>) -> String {
    let pairs: Vec<String> = element.visible_labels().iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn result_labels(binary: &Binary, element: &mut Element<'_>, one: &Element<'_>) {
    let matching = &binary.matching;
    if matches!(binary.operator, Operator::Arithmetic(_)) {
        element.name = Name::Gone;
    } else if binary.return_bool {
        element.name = element.name.max(Name::Dropped);
    }
    if matching.cardinality == Cardinality::OneToOne {
        let has = |name: &str| matching.labels.iter().any(|label| label == name);
        if matching.on || !matching.labels.is_empty() {
            element.labels = element.labels.view().filter(|name| has(name) == matching.on).into();
        }
    }
    if !matching.include.is_empty() {
        let included = matching.include.iter().map(|label| (label.as_str(), one.get(label)));
        element.labels = element.labels.view().with_all(included).into();
    }
}
