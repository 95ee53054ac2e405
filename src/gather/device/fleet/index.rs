//! Which unit has which id: without a second copy of the ids, four bytes a device.

use super::unit::Unit;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Positions in the fleet's units by id. Ids come from outside, so the hash is keyed.
#[derive(Default)]
pub struct Index {
    positions: HashTable<u32>,
    hasher: RandomState,
}

impl Index {
    pub fn find(&self, units: &[Unit], id: &str) -> Option<u32> {
        let is_it = |position: &u32| *units[*position as usize].listing.id == *id;
        self.positions.find(self.hasher.hash_one(id), is_it).copied()
    }

    /// Adds the unit at `position`.
    pub fn add(&mut self, units: &[Unit], position: u32) {
        let hash = |position: &u32| self.hasher.hash_one(&*units[*position as usize].listing.id);
        self.positions.insert_unique(hash(&position), position, hash);
    }

    /// Forgets what it held, and has room for `count`.
    pub fn reset(&mut self, count: usize) {
        self.positions = HashTable::with_capacity(count);
    }
}
