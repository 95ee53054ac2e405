//! An alert as it travels: from the ruler or from another program's POST to the incidents. It does not say where it
//! came from.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
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
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Identifies the alert: equal labels, equal fingerprint. See [`LabelSet::fingerprint`].
    pub fn fingerprint(&self) -> String {
        self.labels.fingerprint()
    }
}

/// Names and their values: the labels or the annotations of an alert. Clones share one map, and the hash
/// is kept, so that tens of thousands of them are compared and found quickly.
#[derive(Clone)]
pub struct LabelSet {
    map: Arc<BTreeMap<String, String>>,
    /// FNV-1a over names and values.
    hash: u64,
}

impl LabelSet {
    /// 16 hexadecimal digits, the same for equal sets; kept in the state database.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", self.hash)
    }

    /// Adds, replaces or removes something; clones stay as they are.
    pub fn alter(&mut self, change: impl FnOnce(&mut BTreeMap<String, String>)) {
        change(Arc::make_mut(&mut self.map));
        self.hash = hash(&self.map);
    }
}

fn hash(map: &BTreeMap<String, String>) -> u64 {
    const SEPARATOR: u8 = 0xff;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in map.iter().flat_map(|(name, value)| [name, value]).flat_map(|text| text.bytes().chain([SEPARATOR])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

impl Default for LabelSet {
    fn default() -> LabelSet {
        BTreeMap::new().into()
    }
}

impl PartialEq for LabelSet {
    fn eq(&self, other: &LabelSet) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.map, &other.map) || self.map == other.map)
    }
}

impl Eq for LabelSet {}

impl Hash for LabelSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl std::fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.map.fmt(f)
    }
}

impl Deref for LabelSet {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &BTreeMap<String, String> {
        &self.map
    }
}

impl From<BTreeMap<String, String>> for LabelSet {
    fn from(map: BTreeMap<String, String>) -> LabelSet {
        LabelSet { hash: hash(&map), map: Arc::new(map) }
    }
}

impl<const N: usize> From<[(String, String); N]> for LabelSet {
    fn from(pairs: [(String, String); N]) -> LabelSet {
        BTreeMap::from(pairs).into()
    }
}

impl FromIterator<(String, String)> for LabelSet {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> LabelSet {
        pairs.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl<'a> IntoIterator for &'a LabelSet {
    type Item = (&'a String, &'a String);
    type IntoIter = std::collections::btree_map::Iter<'a, String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.map.iter()
    }
}

impl Serialize for LabelSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.map.as_ref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LabelSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LabelSet, D::Error> {
        BTreeMap::deserialize(deserializer).map(LabelSet::from)
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
}
