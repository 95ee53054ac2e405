//! `label_replace` and `label_join`.

use super::super::QueryError;
use super::super::element::{Element, Name};
use super::super::eval::Evaluation;
use super::distinct;
use crate::labels::NAME;

/// `strings`: destination, replacement, source, regular expression.
pub fn replace<'s>(
    evaluation: &Evaluation<'_>,
    mut elements: Vec<Element<'s>>,
    strings: &[String],
) -> Result<Vec<Element<'s>>, QueryError> {
    let [destination, replacement, source, pattern] = strings else { return Err(super::missing_argument()) };
    let regex = evaluation.regex(pattern).map_err(|error| match error {
        QueryError::Syntax(_) => {
            QueryError::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
        }
        error => QueryError::Execution(error.to_string()),
    })?;
    check_label("label_replace", destination)?;
    for element in &mut elements {
        let Some(captures) = regex.captures(element.get(source)) else { continue };
        let mut value = String::new();
        captures.expand(replacement, &mut value);
        set(element, destination, &value);
    }
    distinct(elements)
}

/// `strings`: destination, separator, sources.
pub fn join<'s>(mut elements: Vec<Element<'s>>, strings: &[String]) -> Result<Vec<Element<'s>>, QueryError> {
    let [destination, separator, sources @ ..] = strings else { return Err(super::missing_argument()) };
    check_label("label_join", destination)?;
    for element in &mut elements {
        let values: Vec<&str> = sources.iter().map(|source| element.get(source)).collect();
        let value = values.join(separator);
        set(element, destination, &value);
    }
    distinct(elements)
}

fn set(element: &mut Element<'_>, label: &str, value: &str) {
    element.labels = element.visible_labels().with(label, value).into();
    if label == NAME || element.name == Name::Gone {
        element.name = Name::Kept;
    }
}

fn check_label(function: &str, label: &str) -> Result<(), QueryError> {
    if label.is_empty() {
        return Err(QueryError::Execution(format!("invalid destination label name in {function}(): {label}")));
    }
    Ok(())
}
