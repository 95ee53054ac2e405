//! The elements of instant vectors.

use super::QueryError;
use crate::labels::{Labels, LabelsRef, NAME};

/// What became of an element's `__name__`, which its labels may still hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Kept,
    /// Goes at the end of the evaluation; until then label functions and `by` see it.
    Dropped,
    /// Not there any more.
    Gone,
}

/// The labels of an element. Most elements are filtered away before anybody needs more than a look at the labels of
/// their series, so those are not counted as shared until then.
#[derive(Debug, Clone)]
pub enum Tags<'s> {
    /// Of a series in the storage.
    Stored(LabelsRef<'s>),
    /// Made by the evaluation. Boxed, since of the others there are a hundred thousand.
    Made(Box<Labels>),
}

impl Tags<'_> {
    pub fn view(&self) -> LabelsRef<'_> {
        match self {
            Tags::Stored(labels) => *labels,
            Tags::Made(labels) => labels.view(),
        }
    }
}

impl From<Labels> for Tags<'_> {
    fn from(labels: Labels) -> Self {
        Tags::Made(Box::new(labels))
    }
}

impl Tags<'_> {
    pub fn into_labels(self) -> Labels {
        match self {
            Tags::Stored(labels) => labels.to_labels(),
            Tags::Made(labels) => *labels,
        }
    }
}

/// An element of an instant vector.
#[derive(Debug, Clone)]
pub struct Element<'s> {
    pub labels: Tags<'s>,
    pub name: Name,
    pub value: f64,
}

impl Element<'_> {
    pub fn get(&self, label: &str) -> &str {
        if self.name == Name::Gone && label == NAME { "" } else { self.labels.view().get(label) }
    }

    /// The labels it shows at this point of the evaluation.
    pub fn visible_labels(&self) -> Labels {
        let labels = self.labels.view();
        if self.name == Name::Gone { labels.without_name() } else { labels.to_labels() }
    }

    /// The labels it has at the end of the evaluation.
    pub fn final_labels(self) -> Labels {
        if self.name == Name::Kept { self.labels.into_labels() } else { self.labels.view().without_name() }
    }
}

pub fn same_labelset() -> QueryError {
    QueryError::Execution("vector cannot contain metrics with the same labelset".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_small() {
        // A vector has a hundred thousand.
        assert_eq!(size_of::<Element>(), 32);
    }
}
