//! Which dossiers a ledger that was empty may have by now, in little memory: a Bloom filter (Bloom 1970, with the two hashes
//! of Kirsch and Mitzenmacher 2006). A first load asks of nearly every dossier whether it has other payments, and nearly
//! none has.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// 4 MiB: of a million dossiers one in 5,000 seems to be there and is not, of five million one in 20.
const BITS: u64 = 1 << 25;
const HASHES: u64 = 4;

/// Every dossier that the ledger takes is noted as long as the filter is there, whoever brings it.
#[derive(Default)]
pub(super) struct Seen(Mutex<Option<Filter>>);

impl Seen {
    /// To be called in a transaction that sees the ledger empty: nobody else writes meanwhile. Ends with what it gives.
    pub fn begin(&self) -> Ending<'_> {
        *self.filter() = Some(Filter::new());
        Ending(self)
    }

    pub fn note<'a>(&self, dossiers: impl IntoIterator<Item = &'a str>) {
        if let Some(filter) = &mut *self.filter() {
            dossiers.into_iter().for_each(|dossier| filter.note(dossier));
        }
    }

    /// Leaves those that the ledger may have; all of them if there is no filter.
    pub fn retain<T>(&self, all: Vec<T>, dossier: impl Fn(&T) -> &str) -> Vec<T> {
        match &*self.filter() {
            Some(filter) => all.into_iter().filter(|one| filter.may_have(dossier(one))).collect(),
            None => all,
        }
    }

    fn filter(&self) -> MutexGuard<'_, Option<Filter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped, nothing is known any more.
pub(super) struct Ending<'a>(&'a Seen);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        *self.0.filter() = None;
    }
}

struct Filter {
    words: Vec<u64>,
    hasher: RandomState,
}

impl Filter {
    fn new() -> Filter {
        Filter { words: vec![0; (BITS / 64) as usize], hasher: RandomState::new() }
    }

    fn note(&mut self, text: &str) {
        for bit in self.bits(text) {
            self.words[(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }

    /// `false`: surely not noted.
    fn may_have(&self, text: &str) -> bool {
        self.bits(text).all(|bit| self.words[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
    }

    fn bits(&self, text: &str) -> impl Iterator<Item = u64> + use<> {
        let hash = self.hasher.hash_one(text);
        let (first, step) = (hash, (hash >> 32) | 1);
        (0..HASHES).map(move |n| first.wrapping_add(n.wrapping_mul(step)) % BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_found_and_little_else() {
        let mut seen = Filter::new();
        (0..200_000).for_each(|n| seen.note(&format!("D{n}")));
        assert!((0..200_000).all(|n| seen.may_have(&format!("D{n}"))));
        let wrong = (0..100_000).filter(|n| seen.may_have(&format!("E{n}"))).count();
        assert!(wrong < 100, "{wrong}");
    }
}
