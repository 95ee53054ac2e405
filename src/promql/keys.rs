//! Grouping of elements by some of their labels, without making a label set for each.

use super::element::{Element, Name};
use super::labels::{Labels, NAME};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Which labels tell elements apart.
#[derive(Clone, Copy)]
pub enum Key<'a, L> {
    Only(&'a [L]),
    /// All but these and `__name__`.
    Except(&'a [L]),
}

impl<L: AsRef<str>> Key<'_, L> {
    pub fn hash(&self, element: &Element<'_>) -> u64 {
        match self {
            Key::Only(names) => {
                let mut hasher = Mixer::default();
                names.iter().for_each(|name| hasher.text(element.get(name.as_ref())));
                hasher.0
            }
            Key::Except([]) => element.labels.hash_without_name(),
            Key::Except(_) => Mixer::of(element.labels.iter().filter(|(name, _)| self.has(name))),
        }
    }

    pub fn same(&self, a: &Element<'_>, b: &Element<'_>) -> bool {
        match self {
            Key::Only(names) => names.iter().all(|name| a.get(name.as_ref()) == b.get(name.as_ref())),
            Key::Except(_) => {
                let mut a = a.labels.iter().filter(|(name, _)| self.has(name));
                let mut b = b.labels.iter().filter(|(name, _)| self.has(name));
                // Equal texts of one storage are mostly one text.
                let same = |a: &Arc<str>, b: &Arc<str>| Arc::ptr_eq(a, b) || a == b;
                loop {
                    match (a.next(), b.next()) {
                        (Some(a), Some(b)) if same(&a.0, &b.0) && same(&a.1, &b.1) => {}
                        (None, None) => return true,
                        _ => return false,
                    }
                }
            }
        }
    }

    /// The labels of the key alone.
    pub fn labels(&self, element: &Element<'_>) -> Labels {
        element.labels.filter(|name| self.has(name) && (name != NAME || element.name != Name::Gone))
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Key::Only(names) => names.iter().any(|candidate| candidate.as_ref() == name),
            Key::Except(names) => name != NAME && !names.iter().any(|candidate| candidate.as_ref() == name),
        }
    }
}

/// Finds, for an element, the one put in earlier with the same key.
pub struct Index {
    heads: HashMap<u64, u32, BuildHasherDefault<Mixer>>,
    /// For each entry: the entry before with the same hash.
    next: Vec<Option<u32>>,
}

impl Index {
    pub fn with_capacity(capacity: usize) -> Index {
        Index { heads: HashMap::with_capacity_and_hasher(capacity, BuildHasherDefault::default()), next: Vec::new() }
    }

    /// The first entry with this hash that `is_same` accepts.
    pub fn find(&self, hash: u64, is_same: impl Fn(u32) -> bool) -> Option<u32> {
        let mut candidate = self.heads.get(&hash).copied();
        while let Some(entry) = candidate {
            if is_same(entry) {
                return Some(entry);
            }
            candidate = self.next[entry as usize];
        }
        None
    }

    /// Adds an entry; entries count from 0.
    pub fn insert(&mut self, hash: u64) -> u32 {
        let entry = self.next.len() as u32;
        self.next.push(self.heads.insert(hash, entry));
        entry
    }
}

/// Gives every element the number of its group; groups are numbered in the order in which they are met.
///
/// Equal texts of one storage are mostly one text in memory. So the addresses of an element's label values tell its group
/// once they have been met; what is new is looked up by what it says.
pub struct Grouper<'k, L> {
    key: Key<'k, L>,
    index: Index,
    met: Option<Addresses<'k, L>>,
}

impl<'k, L: AsRef<str>> Grouper<'k, L> {
    pub fn new(key: Key<'k, L>) -> Grouper<'k, L> {
        let met = match key {
            // Whether a name counts depends on more than the labels.
            Key::Only(names) if names.iter().all(|name| name.as_ref() != NAME) => Some(Addresses::new(names)),
            _ => None,
        };
        Grouper { key, index: Index::with_capacity(64), met }
    }

    /// The group of the element; `representative` gives any element of a group met before. A number not given before is
    /// a new group.
    pub fn group<'e, 's: 'e>(&mut self, element: &Element<'_>, representative: impl Fn(u32) -> &'e Element<'s>) -> u32 {
        if let Some(group) = self.met.as_mut().and_then(|met| met.find(&element.labels)) {
            return group;
        }
        let hash = self.key.hash(element);
        let found = self.index.find(hash, |group| self.key.same(representative(group), element));
        let group = found.unwrap_or_else(|| self.index.insert(hash));
        if let Some(met) = &mut self.met {
            met.learn(group);
        }
        group
    }

    /// The labels of the element's group.
    pub fn labels(&self, element: &Element<'_>) -> Labels {
        self.key.labels(element)
    }
}

/// Groups by the addresses of label values. The elements must live as long.
struct Addresses<'k, L> {
    /// The labels' names, where each was found last, and the address of its name there.
    names: Vec<(&'k L, usize, usize)>,
    /// Of the element asked for last; 0 for a label that it has not.
    asked: Vec<usize>,
    asked_hash: u64,
    index: Index,
    /// As many for each entry of the index as there are names.
    known: Vec<usize>,
    /// By entry.
    groups: Vec<u32>,
}

fn address(text: &Arc<str>) -> usize {
    Arc::as_ptr(text).addr()
}

impl<'k, L: AsRef<str>> Addresses<'k, L> {
    fn new(names: &'k [L]) -> Addresses<'k, L> {
        Addresses {
            names: names.iter().map(|name| (name, 0, 0)).collect(),
            asked: vec![0; names.len()],
            asked_hash: 0,
            index: Index::with_capacity(64),
            known: Vec::new(),
            groups: Vec::new(),
        }
    }

    fn find(&mut self, labels: &Labels) -> Option<u32> {
        let pairs = labels.pairs();
        let mut hasher = Mixer::default();
        for ((name, place, name_address), asked) in self.names.iter_mut().zip(&mut self.asked) {
            *asked = match pairs.get(*place) {
                Some((found, value)) if address(found) == *name_address => address(value),
                _ => match pairs.iter().position(|(found, _)| **found == *name.as_ref()) {
                    Some(found) => {
                        *place = found;
                        *name_address = address(&pairs[found].0);
                        address(&pairs[found].1)
                    }
                    None => 0,
                },
            };
            hasher.write_u64(*asked as u64);
        }
        self.asked_hash = hasher.0;
        let n_names = self.names.len();
        let same = |entry: u32| self.known[entry as usize * n_names..][..n_names] == self.asked[..];
        self.index.find(self.asked_hash, same).map(|entry| self.groups[entry as usize])
    }

    /// What was asked last belongs to this group.
    fn learn(&mut self, group: u32) {
        self.index.insert(self.asked_hash);
        self.known.extend_from_slice(&self.asked);
        self.groups.push(group);
    }
}

/// A quick hash; collisions cost time only.
#[derive(Default)]
pub struct Mixer(u64);

impl Mixer {
    /// The hash of label pairs.
    pub fn of<'a>(pairs: impl Iterator<Item = &'a (Arc<str>, Arc<str>)>) -> u64 {
        let mut hasher = Mixer::default();
        for (name, value) in pairs {
            hasher.text(name);
            hasher.text(value);
        }
        hasher.0
    }

    fn text(&mut self, text: &str) {
        self.write(text.as_bytes());
        // So that ("a", "bc") and ("ab", "c") differ.
        self.write_u64(text.len() as u64);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0.rotate_left(5) ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0x2545_f491_4f6c_dd1d_u128;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
