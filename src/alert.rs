//! An alert as it travels: from the ruler or from another program's POST to the incidents. It does not say where it
//! came from.

use crate::labels::{Pairs, pack_pair};
use crate::matcher::Labelled;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One firing or resolved rule instance, identified by its labels, as in Prometheus. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// With `alertname`; without empty values.
    pub labels: LabelSet,
    pub annotations: LabelSet,
    /// When it began to fire.
    pub starts_at: Timestamp,
    /// When it ended; in the future or `None` while it fires.
    pub ends_at: Option<Timestamp>,
    /// Where its expression can be looked at; may be empty.
    pub generator_url: Arc<str>,
    /// Its sender named no end: it ends unless it is sent again in time.
    pub end_is_assumed: bool,
}

impl Alert {
    pub fn is_resolved(&self, now: Timestamp) -> bool {
        self.ends_at.is_some_and(|end| end <= now)
    }

    pub fn label(&self, name: &str) -> &str {
        Labelled::label(&self.labels, name)
    }

    /// Identifies the alert: equal labels, equal fingerprint. See [`LabelSet::fingerprint`].
    pub fn fingerprint(&self) -> String {
        self.labels.fingerprint()
    }
}

/// Names and their values: the labels or the annotations of an alert, by name. Clones share one text, in which each name and
/// value stands after its length: tens of thousands of alerts are kept, and a map with a string for each name and value took
/// most of the memory of one. The hash is kept, so that they are compared and found quickly.
#[derive(Clone)]
pub struct LabelSet {
    text: Arc<str>,
    /// FNV-1a over names and values.
    hash: u64,
}

impl LabelSet {
    /// `pairs` come in the order of their names, each once.
    fn of_sorted<'t>(pairs: impl Iterator<Item = (&'t str, &'t str)>) -> LabelSet {
        let mut text = String::new();
        for (name, value) in pairs {
            pack_pair(&mut text, name, value);
        }
        let mut set = LabelSet { text: text.into(), hash: 0 };
        set.hash = hash(set.iter());
        set
    }

    /// 16 hexadecimal digits, the same for equal sets; kept in the state database.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", self.hash)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        // Label sets are short.
        self.iter().find(name)
    }

    /// By name.
    pub fn iter(&self) -> Pairs<'_> {
        Pairs::of(self.text.as_bytes())
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Adds, replaces or removes something; clones stay as they are.
    pub fn alter(&mut self, change: impl FnOnce(&mut BTreeMap<String, String>)) {
        let mut map = self.to_map();
        change(&mut map);
        *self = map.into();
    }
}

fn hash<'t>(pairs: impl Iterator<Item = (&'t str, &'t str)>) -> u64 {
    const SEPARATOR: u8 = 0xff;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in pairs.flat_map(|(name, value)| [name, value]).flat_map(|text| text.bytes().chain([SEPARATOR])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

impl Default for LabelSet {
    fn default() -> LabelSet {
        LabelSet::of_sorted(std::iter::empty())
    }
}

impl PartialEq for LabelSet {
    fn eq(&self, other: &LabelSet) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.text, &other.text) || self.text == other.text)
    }
}

impl Eq for LabelSet {}

/// The same at every run, and otherwise nothing that people would look for: shorter names and values come first.
impl Ord for LabelSet {
    fn cmp(&self, other: &LabelSet) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl PartialOrd for LabelSet {
    fn partial_cmp(&self, other: &LabelSet) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for LabelSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl std::fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

/// # Panics
/// If there is no such name.
impl std::ops::Index<&str> for LabelSet {
    type Output = str;

    fn index(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

impl Labelled for LabelSet {
    fn label(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }
}

impl From<BTreeMap<String, String>> for LabelSet {
    fn from(map: BTreeMap<String, String>) -> LabelSet {
        LabelSet::of_sorted(map.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

impl<const N: usize> From<[(String, String); N]> for LabelSet {
    fn from(pairs: [(String, String); N]) -> LabelSet {
        BTreeMap::from(pairs).into()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for LabelSet {
    /// Of a name that comes several times the last counts.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> LabelSet {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let is_last =
            |(at, pair): &(usize, &(N, V))| pairs.get(at + 1).is_none_or(|next| next.0.as_ref() != pair.0.as_ref());
        let last = pairs.iter().enumerate().filter(is_last);
        LabelSet::of_sorted(last.map(|(_, (name, value))| (name.as_ref(), value.as_ref())))
    }
}

impl<'a> IntoIterator for &'a LabelSet {
    type Item = (&'a str, &'a str);
    type IntoIter = Pairs<'a>;

    fn into_iter(self) -> Pairs<'a> {
        self.iter()
    }
}

impl Serialize for LabelSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de> Deserialize<'de> for LabelSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LabelSet, D::Error> {
        BTreeMap::deserialize(deserializer).map(|map: BTreeMap<String, String>| map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_of_the_labels_alone_and_stays_what_databases_have() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut labels = LabelSet::from([pair("a", "1"), pair("b", "2")]);
        assert_eq!(labels.fingerprint(), "1cc37fac8a64ae01");
        let other: LabelSet = [pair("b", "2"), pair("a", "1")].into_iter().collect();
        assert_eq!(labels, other);
        labels.alter(|labels| drop(labels.remove("b")));
        assert_eq!(labels, LabelSet::from([pair("a", "1")]));
        assert_ne!(labels, other);
        assert_eq!(other.len(), 2);
    }
    #[test]
    fn names_and_values_of_every_length_come_back() {
        let texts = ["", "a", &"ă".repeat(31), &"b".repeat(63), &"c".repeat(64), &"d".repeat(300_000)];
        let map: BTreeMap<String, String> =
            texts.iter().enumerate().map(|(n, text)| (format!("{n}{text}"), (*text).to_owned())).collect();
        let set = LabelSet::from(map.clone());
        assert_eq!(set.to_map(), map);
        assert_eq!((set.len(), set.get("0"), set.get("none")), (texts.len(), Some(""), None));
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(json, serde_json::to_string(&map).unwrap());
        assert_eq!(serde_json::from_str::<LabelSet>(&json).unwrap(), set);
        assert!(LabelSet::default().is_empty() && !set.is_empty());
    }
}
