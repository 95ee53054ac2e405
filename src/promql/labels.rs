//! Label sets.

use super::keys::Mixer;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The label that holds the metric's name.
pub(super) const NAME: &str = "__name__";

/// A label set, sorted by name, without empty values; `__name__` is a label like any other. Cheap to clone.
#[derive(Clone)]
pub struct Labels {
    all: Arc<[(Arc<str>, Arc<str>)]>,
    /// How many of the first pairs do not count: 1 where a set without its name shares the pairs of the one with it.
    skipped: usize,
    /// Of all labels but the name: what vector matching asks for most.
    hash: u64,
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::from_sorted(Arc::from([]))
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Labels) -> bool {
        let same = |a: &Arc<str>, b: &Arc<str>| Arc::ptr_eq(a, b) || a == b;
        self.hash == other.hash
            && ((Arc::ptr_eq(&self.all, &other.all) && self.skipped == other.skipped)
                || (self.len() == other.len()
                    && self.iter().zip(other.iter()).all(|(a, b)| same(&a.0, &b.0) && same(&a.1, &b.1))))
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
        self.name().hash(state);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> std::cmp::Ordering {
        self.pairs().cmp(other.pairs())
    }
}

impl Labels {
    /// Sorts; drops empty values; of two labels with one name the last wins.
    pub fn new(pairs: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Labels {
        let sorted: std::collections::BTreeMap<Arc<str>, Arc<str>> = pairs.into_iter().collect();
        Labels::from_sorted(sorted.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    fn from_sorted(pairs: Arc<[(Arc<str>, Arc<str>)]>) -> Labels {
        let hash = Mixer::of(pairs.iter().filter(|(name, _)| **name != *NAME));
        Labels { all: pairs, skipped: 0, hash }
    }

    /// Without the metric's name.
    pub(super) fn without_name(&self) -> Labels {
        match self.pairs() {
            // What comes before it in the order is rare: a label that begins with an upper-case letter.
            [(name, _), ..] if **name == *NAME => {
                Labels { all: self.all.clone(), skipped: self.skipped + 1, hash: self.hash }
            }
            _ => self.filter(|name| name != NAME),
        }
    }

    /// A hash of all labels but the name.
    pub(super) fn hash_without_name(&self) -> u64 {
        self.hash
    }

    /// The label's value; "" if it is not there, which PromQL does not tell apart.
    pub fn get(&self, name: &str) -> &str {
        // Label sets are short; a linear scan beats a binary search.
        self.pairs().iter().find(|(candidate, _)| &**candidate == name).map_or("", |(_, value)| value)
    }

    pub fn name(&self) -> &str {
        self.get(NAME)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Arc<str>, Arc<str>)> {
        self.pairs().iter()
    }

    pub(super) fn pairs(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.all[self.skipped..]
    }

    pub fn len(&self) -> usize {
        self.pairs().len()
    }

    pub fn is_empty(&self) -> bool {
        self.pairs().is_empty()
    }

    /// The labels that `keep` accepts by name; shares the set if it accepts all.
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Labels {
        if self.pairs().iter().all(|(name, _)| keep(name)) {
            return self.clone();
        }
        // A filter keeps the order.
        Labels::from_sorted(self.pairs().iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    /// With `name` set to `value`; an empty value removes it.
    pub fn with(&self, name: &str, value: &str) -> Labels {
        if self.get(name) == value {
            return self.clone();
        }
        let mut pairs: Vec<(Arc<str>, Arc<str>)> =
            self.pairs().iter().filter(|(candidate, _)| &**candidate != name).cloned().collect();
        if !value.is_empty() {
            let place = pairs.partition_point(|(candidate, _)| &**candidate < name);
            pairs.insert(place, (Arc::from(name), Arc::from(value)));
        }
        Labels::from_sorted(pairs.into())
    }
}

impl fmt::Display for Labels {
    /// As Prometheus writes it: `name{a="b", c="d"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let mut pairs = self.pairs().iter().filter(|(name, _)| &**name != NAME).peekable();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))))
    }

    #[test]
    fn setting_a_label_keeps_the_order_and_empty_removes() {
        let set = labels(&[("a", "1"), ("c", "3")]);
        assert_eq!(set.with("b", "2"), labels(&[("a", "1"), ("b", "2"), ("c", "3")]));
        assert_eq!(set.with("a", ""), labels(&[("c", "3")]));
        assert_eq!(set.filter(|name| name != "c"), labels(&[("a", "1")]));
        assert_eq!(labels(&[("__name__", "up"), ("a", "x\"y")]).to_string(), r#"up{a="x\"y"}"#);
    }
}
