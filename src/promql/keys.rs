//! Grouping of elements by some of their labels, without making a label set for each.

use super::element::{Element, Name};
use crate::labels::{Labels, Mixer, NAME};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

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
            Key::Except([]) => element.labels.hash_without_name(),
            Key::Except(_) => Mixer::of(element.labels.iter().filter(|(name, _)| self.has(name))),
        }
    }

    pub fn same(&self, a: &Element<'_>, b: &Element<'_>) -> bool {
        match self {
            Key::Only(names) => names.iter().all(|name| a.get(name.as_ref()) == b.get(name.as_ref())),
            Key::Except([]) => a.labels.same_without_name(&b.labels),
            Key::Except(_) => {
                let a = a.labels.iter().filter(|(name, _)| self.has(name));
                a.eq(b.labels.iter().filter(|(name, _)| self.has(name)))
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
pub struct Grouper<'k, L> {
    key: Key<'k, L>,
    index: Index,
}

impl<'k, L: AsRef<str>> Grouper<'k, L> {
    pub fn new(key: Key<'k, L>) -> Grouper<'k, L> {
        Grouper { key, index: Index::with_capacity(64) }
    }

    /// The group of the element; `representative` gives any element of a group met before. A number not given before is
    /// a new group.
    pub fn group<'e, 's: 'e>(&mut self, element: &Element<'_>, representative: impl Fn(u32) -> &'e Element<'s>) -> u32 {
        let hash = self.key.hash(element);
        let found = self.index.find(hash, |group| self.key.same(representative(group), element));
        found.unwrap_or_else(|| self.index.insert(hash))
    }

    /// The labels of the element's group.
    pub fn labels(&self, element: &Element<'_>) -> Labels {
        self.key.labels(element)
    }
}
