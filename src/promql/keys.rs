//! Grouping of elements by some of their labels, without making a label set for each.

use super::eval::{Element, Name};
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
    pub fn hash(&self, element: &Element) -> u64 {
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

    pub fn same(&self, a: &Element, b: &Element) -> bool {
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
    pub fn labels(&self, element: &Element) -> Labels {
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
