//! Label sets.

use std::fmt;
use std::sync::Arc;

/// A label set, sorted by name, without empty values; `__name__` is a label like any other. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// Sorts; drops empty values; of two labels with one name the last wins.
    pub fn new(pairs: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Labels {
        let sorted: std::collections::BTreeMap<Arc<str>, Arc<str>> = pairs.into_iter().collect();
        Labels(sorted.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The label's value; "" if it is not there, which PromQL does not tell apart.
    pub fn get(&self, name: &str) -> &str {
        // Label sets are short; a linear scan beats a binary search.
        self.0.iter().find(|(candidate, _)| &**candidate == name).map_or("", |(_, value)| value)
    }

    pub fn name(&self) -> &str {
        self.get("__name__")
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Arc<str>, Arc<str>)> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Labels {
    /// As Prometheus writes it: `name{a="b", c="d"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let mut pairs = self.0.iter().filter(|(name, _)| &**name != "__name__").peekable();
        if pairs.peek().is_none() && !self.name().is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (index, (name, value)) in pairs.enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
