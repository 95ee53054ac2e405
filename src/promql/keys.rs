//! Grouping of elements by some of their labels, without making a label set for each.

use super::element::{Element, Name};
use crate::labels::{Labels, Mixer, NAME, pack};
use hashbrown::HashTable;
use std::hash::Hasher;

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
                hasher.finish()
            }
            Key::Except([]) => element.labels.view().hash_without_name(),
            Key::Except(_) => Mixer::of(element.labels.view().iter().filter(|(name, _)| self.has(name))),
        }
    }

    pub fn same(&self, a: &Element<'_>, b: &Element<'_>) -> bool {
        match self {
            Key::Only(names) => names.iter().all(|name| a.get(name.as_ref()) == b.get(name.as_ref())),
            Key::Except([]) => a.labels.view().same_without_name(b.labels.view()),
            Key::Except(_) => {
                let a = a.labels.view().iter().filter(|(name, _)| self.has(name));
                a.eq(b.labels.view().iter().filter(|(name, _)| self.has(name)))
            }
        }
    }

    /// Adds what tells the element apart.
    fn pack(&self, element: &Element<'_>, out: &mut String) {
        match self {
            Key::Only(names) => names.iter().for_each(|name| pack(out, element.get(name.as_ref()))),
            Key::Except(_) => {
                for (name, value) in element.labels.view().iter().filter(|(name, _)| self.has(name)) {
                    pack(out, name);
                    pack(out, value);
                }
            }
        }
    }

    /// The labels of the key alone.
    pub fn labels(&self, element: &Element<'_>) -> Labels {
        element.labels.view().filter(|name| self.has(name) && (name != NAME || element.name != Name::Gone))
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Key::Only(names) => names.iter().any(|candidate| candidate.as_ref() == name),
            Key::Except(names) => name != NAME && !names.iter().any(|candidate| candidate.as_ref() == name),
        }
    }
}

/// Finds, for an element, the one put in earlier with the same key. A hundred thousand elements are indexed at once, so of
/// a hash half is kept.
pub struct Index {
    /// Half a hash, and the entry.
    entries: HashTable<(u32, u32)>,
}

impl Index {
    pub fn with_capacity(capacity: usize) -> Index {
        Index { entries: HashTable::with_capacity(capacity) }
    }

    /// An entry with this hash that `is_same` accepts.
    pub fn find(&self, hash: u64, is_same: impl Fn(u32) -> bool) -> Option<u32> {
        let half = half(hash);
        self.entries.find(whole(half), |(known, entry)| *known == half && is_same(*entry)).map(|(_, entry)| *entry)
    }

    /// Adds an entry; entries count from 0.
    pub fn insert(&mut self, hash: u64) -> u32 {
        let (half, entry) = (half(hash), self.entries.len() as u32);
        self.entries.insert_unique(whole(half), (half, entry), |(half, _)| whole(*half));
        entry
    }
}

fn half(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

/// Both ends of it differ where halves do, as the table wants it.
fn whole(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Gives every element the number of its group; groups are numbered in the order in which they are met.
pub struct Grouper<'k, L> {
    key: Key<'k, L>,
    index: Index,
    /// What tells the groups apart, packed, one after the other, and where each ends.
    keys: String,
    ends: Vec<usize>,
    /// The key of an element.
    packed: String,
}

impl<'k, L: AsRef<str>> Grouper<'k, L> {
    pub fn new(key: Key<'k, L>) -> Grouper<'k, L> {
        let (keys, packed) = (String::new(), String::new());
        Grouper { key, index: Index::with_capacity(64), keys, ends: Vec::new(), packed }
    }

    /// The group of the element. A number not given before is a new group.
    pub fn group(&mut self, element: &Element<'_>) -> u32 {
        let Grouper { key, index, keys, ends, packed } = self;
        packed.clear();
        key.pack(element, packed);
        let hash = Mixer::of_text(packed);
        let found = index.find(hash, |group| {
            let group = group as usize;
            let begin = group.checked_sub(1).map_or(0, |before| ends[before]);
            keys[begin..ends[group]] == **packed
        });
        found.unwrap_or_else(|| {
            keys.push_str(packed);
            ends.push(keys.len());
            index.insert(hash)
        })
    }

    /// The labels of the element's group.
    pub fn labels(&self, element: &Element<'_>) -> Labels {
        self.key.labels(element)
    }
}
