//! Label sets, as metrics, history and queries share them: every name and value of a set stands in one text.
//!
//! A fleet has hundreds of thousands of series, and most of what a series takes is its labels. So the set without the
//! metric's name is one allocation, which all families of a subject share.

mod packed;

pub use packed::{Mixer, Pairs, pack, pack_pair};

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};
use triomphe::ThinArc;

/// The label that holds the metric's name.
pub const NAME: &str = "__name__";

/// The name of a metric. Cheap to clone; one word, because every series has one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<Box<str>>);

impl From<&str> for Name {
    fn from(name: &str) -> Name {
        Name(Arc::new(name.into()))
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self
    }
}

/// A label set, sorted by name, without empty values; `__name__` is a label like any other. Cheap to clone.
#[derive(Clone)]
pub struct Labels {
    name: Option<Name>,
    rest: Rest,
}

/// A label set somebody else holds, looked at under the name of a metric: the families of a subject share their labels, and
/// each has a name of its own. As cheap to copy as a reference.
#[derive(Clone, Copy)]
pub struct LabelsRef<'l> {
    /// [`NO_NAME`] if there is none: so a place in which something else may stand instead needs no more room.
    name: &'l Name,
    rest: &'l Rest,
}

static NO_NAME: LazyLock<Name> = LazyLock::new(|| Name::from(""));

/// All labels but the name, packed, after their hash, which vector matching asks for most.
type Rest = ThinArc<u64, u8>;

static NO_REST: LazyLock<Rest> = LazyLock::new(|| rest(""));

fn rest(packed: &str) -> Rest {
    ThinArc::from_header_and_slice(Mixer::of_text(packed), packed.as_bytes())
}

impl Default for Labels {
    fn default() -> Labels {
        Labels { name: None, rest: NO_REST.clone() }
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Labels) -> bool {
        self.view() == other.view()
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view().hash(state);
    }
}

impl Hash for LabelsRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash_without_name());
        self.name().hash(state);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        self.view().cmp(&other.view())
    }
}

impl Labels {
    /// Sorts; drops empty values; of two labels with one name the last wins.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let pairs: Vec<(N, V)> = pairs.into_iter().collect();
        let sorted: BTreeMap<&str, &str> = pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        let name = sorted.get(NAME).filter(|name| !name.is_empty()).map(|name| Name::from(*name));
        Labels::of_sorted(name, sorted.into_iter().filter(|(name, _)| *name != NAME))
    }

    /// `pairs` come in the order of their names, each once, without `__name__`; those without a value are dropped.
    pub fn of_sorted<'t>(name: Option<Name>, pairs: impl Iterator<Item = (&'t str, &'t str)>) -> Labels {
        let mut text = String::new();
        for (name, value) in pairs.filter(|(_, value)| !value.is_empty()) {
            pack_pair(&mut text, name, value);
        }
        let rest = if text.is_empty() { NO_REST.clone() } else { rest(&text) };
        Labels { name, rest }
    }

    /// As a set somebody holds.
    pub fn view(&self) -> LabelsRef<'_> {
        LabelsRef { name: self.name.as_ref().unwrap_or_else(|| &NO_NAME), rest: &self.rest }
    }

    /// Under the name of a metric.
    pub fn named(&self, name: &Name) -> Labels {
        Labels { name: Some(name.clone()), rest: self.rest.clone() }
    }

    /// Without the metric's name.
    pub fn without_name(&self) -> Labels {
        self.view().without_name()
    }

    /// A hash of all labels but the name.
    pub fn hash_without_name(&self) -> u64 {
        self.view().hash_without_name()
    }

    /// The label's value; "" if it is not there, which PromQL does not tell apart.
    pub fn get(&self, name: &str) -> &str {
        self.view().get(name)
    }

    pub fn name(&self) -> &str {
        self.view().name()
    }

    fn packed(&self) -> &[u8] {
        &self.rest.slice
    }

    /// All labels but the name, in order.
    pub fn others(&self) -> Pairs<'_> {
        self.view().others()
    }

    /// All labels, in order.
    pub fn iter(&self) -> Iter<'_> {
        self.view().iter()
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.packed().is_empty()
    }

    /// See [`LabelsRef::filter`].
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Labels {
        self.view().filter(keep)
    }

    /// With `name` set to `value`; an empty value removes it.
    pub fn with(&self, name: &str, value: &str) -> Labels {
        self.view().with(name, value)
    }

    /// [`Labels::with`] of several at once.
    pub fn with_all<'t>(&'t self, changes: impl Iterator<Item = (&'t str, &'t str)>) -> Labels {
        self.view().with_all(changes)
    }

    /// Whether all labels but the name are the same.
    pub fn same_without_name(&self, other: &Labels) -> bool {
        self.view().same_without_name(other.view())
    }

    /// Whether it is equal and shares its text with the other: quickly told.
    pub fn is_very(&self, other: &Labels) -> bool {
        std::ptr::eq(self.packed(), other.packed()) && self.name == other.name
    }

    /// Bytes of the set without its name, which others may share.
    pub fn bytes(&self) -> usize {
        /// The count, the hash and the length, and what an allocator adds.
        const AROUND: usize = 3 * size_of::<usize>() + 8;
        AROUND + self.packed().len()
    }
}

impl<'l> LabelsRef<'l> {
    /// The same labels under another name.
    pub fn under(self, name: &'l Name) -> LabelsRef<'l> {
        LabelsRef { name, rest: self.rest }
    }

    /// The set itself, shared with who holds it.
    pub fn to_labels(self) -> Labels {
        Labels { name: self.own_name(), rest: self.rest.clone() }
    }

    fn own_name(self) -> Option<Name> {
        (!self.name.is_empty()).then(|| self.name.clone())
    }

    /// Without the metric's name.
    pub fn without_name(self) -> Labels {
        Labels { name: None, rest: self.rest.clone() }
    }

    /// A hash of all labels but the name.
    pub fn hash_without_name(self) -> u64 {
        self.rest.header.header
    }

    /// The label's value; "" if it is not there, which PromQL does not tell apart.
    pub fn get(self, name: &str) -> &'l str {
        // Label sets are short; a linear scan beats a binary search.
        self.others().find(name).unwrap_or_else(|| if name == NAME { self.name() } else { "" })
    }

    pub fn name(self) -> &'l str {
        self.name
    }

    fn packed(self) -> &'l [u8] {
        &self.rest.slice
    }

    /// All labels but the name, in order.
    pub fn others(self) -> Pairs<'l> {
        Pairs::of(self.packed())
    }

    /// All labels, in order.
    pub fn iter(self) -> Iter<'l> {
        let mut others = self.others();
        Iter { next: others.next(), others, name: Some(self.name()).filter(|name| !name.is_empty()) }
    }

    /// The labels that `keep` accepts by name; shares the set if it accepts all.
    pub fn filter(self, keep: impl Fn(&str) -> bool) -> Labels {
        let name = self.own_name().filter(|_| keep(NAME));
        if self.others().all(|(name, _)| keep(name)) {
            return Labels { name, rest: self.rest.clone() };
        }
        // A filter keeps the order.
        Labels::of_sorted(name, self.others().filter(|(name, _)| keep(name)))
    }

    /// With `name` set to `value`; an empty value removes it.
    pub fn with(self, name: &str, value: &str) -> Labels {
        self.with_all(std::iter::once((name, value)))
    }

    /// [`LabelsRef::with`] of several at once.
    pub fn with_all<'t>(self, changes: impl Iterator<Item = (&'t str, &'t str)>) -> Labels
    where
        'l: 't,
    {
        let mut name = self.own_name();
        let mut pairs: Option<Vec<(&str, &str)>> = None;
        for (label, value) in changes {
            if label == NAME {
                name = Some(value).filter(|value| !value.is_empty()).map(Name::from);
            } else if pairs.is_some() || self.get(label) != value {
                let pairs = pairs.get_or_insert_with(|| self.others().collect());
                pairs.retain(|(candidate, _)| *candidate != label);
                pairs.insert(pairs.partition_point(|(candidate, _)| *candidate < label), (label, value));
            }
        }
        match pairs {
            Some(pairs) => Labels::of_sorted(name, pairs.into_iter()),
            None => Labels { name, rest: self.rest.clone() },
        }
    }

    /// Whether all labels but the name are the same.
    pub fn same_without_name(self, other: LabelsRef<'_>) -> bool {
        let (own, others) = (self.packed(), other.packed());
        std::ptr::eq(own, others) || (self.hash_without_name() == other.hash_without_name() && own == others)
    }
}

impl PartialEq for LabelsRef<'_> {
    fn eq(&self, other: &LabelsRef<'_>) -> bool {
        self.same_without_name(*other) && self.name() == other.name()
    }
}

impl Eq for LabelsRef<'_> {}

impl PartialOrd for LabelsRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LabelsRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl fmt::Display for LabelsRef<'_> {
    /// As Prometheus writes it: `name{a="b", c="d"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if self.packed().is_empty() && !self.name.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (index, (name, value)) in self.others().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for LabelsRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The labels of a set in order, the name in its place.
#[derive(Clone)]
pub struct Iter<'l> {
    /// Of `others`, taken already.
    next: Option<(&'l str, &'l str)>,
    others: Pairs<'l>,
    name: Option<&'l str>,
}

impl<'l> Iterator for Iter<'l> {
    type Item = (&'l str, &'l str);

    fn next(&mut self) -> Option<(&'l str, &'l str)> {
        if let Some(name) = self.name
            // What comes before it is rare: a label that begins with an upper-case letter.
            && self.next.is_none_or(|(next, _)| NAME < next)
        {
            self.name = None;
            return Some((NAME, name));
        }
        std::mem::replace(&mut self.next, self.others.next())
    }
}

impl fmt::Display for Labels {
    /// As Prometheus writes it: `name{a="b", c="d"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.view(), f)
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

    #[test]
    fn setting_a_label_keeps_the_order_and_empty_removes() {
        let set = Labels::new([("a", "1"), ("c", "3")]);
        assert_eq!(set.with("b", "2"), Labels::new([("a", "1"), ("b", "2"), ("c", "3")]));
        assert_eq!(set.with("a", ""), Labels::new([("c", "3")]));
        let changes = [("d", "4"), ("c", ""), (NAME, "up"), ("b", "2"), ("a", "1")];
        assert_eq!(set.with_all(changes.into_iter()), Labels::new([("a", "1"), ("b", "2"), (NAME, "up"), ("d", "4")]));
        assert_eq!(set.filter(|name| name != "c"), Labels::new([("a", "1")]));
        assert_eq!(Labels::new([("__name__", "up"), ("a", "x\"y")]).to_string(), r#"up{a="x\"y"}"#);
        assert_eq!(Labels::default(), Labels::new([("a", "")]));
    }

    #[test]
    fn the_name_stands_in_its_place() {
        let set = Labels::new([("a", "1"), (NAME, "up"), ("Z", "2"), ("b", "")]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [("Z", "2"), (NAME, "up"), ("a", "1")]);
        assert_eq!((set.len(), set.name(), set.get(NAME), set.get("b")), (3, "up", "up", ""));
        let bare = set.without_name();
        assert_eq!(bare, Labels::new([("a", "1"), ("Z", "2")]));
        assert_eq!(bare.named(&Name::from("up")), set);
        assert_eq!(bare.with(NAME, "up"), set);
        assert_eq!(set.filter(|name| name != NAME), bare);
        assert_eq!(bare.hash_without_name(), set.hash_without_name());
        assert!(Labels::new([("a", "1"), (NAME, "a")]) < Labels::new([("a", "1"), (NAME, "b")]));
        assert!(Labels::new([("a", "2"), (NAME, "a")]) < Labels::new([("a", "1"), (NAME, "b")]));
    }
}
