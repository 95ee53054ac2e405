//! All transactions of two files, and how they are found again by their key.
//!
//! Every transaction is one entry of 64 bytes, a cache line, with its key inside. Rows are looked up a batch at a time:
//! first all slots of the batch are read, then all entries, then the rows are put. A row alone would wait for memory twice;
//! in a batch the processor waits for many of them at once.

use super::FilesError;
use crate::gather::payment::classify::{Fact, Status};
use crate::gather::payment::row::Side;
use hashbrown::DefaultHashBuilder;
use std::hash::BuildHasher;

/// Keys up to this length stand in the entry.
const INLINE: usize = 21;
const NO_STATUS: u8 = u8::MAX;
/// Rows looked up together: their entries fit the first cache.
const BATCH: usize = 64;
/// Slots of the smallest table.
const SMALLEST: usize = 64;

/// One transaction, 64 bytes.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    portal_amount: i64,
    gateway_amount: i64,
    portal_us: i64,
    gateway_us: i64,
    dossier_at: u32,
    dossier_length: u16,
    /// Of the key; above [`INLINE`] the key stands in the arena and `key` begins with its place.
    length: u16,
    key: [u8; INLINE],
    /// As an index in [`Status::ALL`], or [`NO_STATUS`].
    portal_status: u8,
    gateway_status: u8,
}

/// A row that waits for its batch; its texts are ranges of the batch's.
struct Pending {
    tag: u32,
    key: (usize, usize),
    dossier: (usize, usize),
    fact: Fact,
}

/// All transactions of both files.
pub(super) struct Entries {
    list: Vec<Entry>,
    /// A power of two of them, probed one after the other: half of the key's hash above the entry's position plus one; 0
    /// is free.
    slots: Vec<u64>,
    hasher: DefaultHashBuilder,
    /// Dossier codes and long keys.
    arena: Vec<u8>,
    pending: Vec<Pending>,
    text: Vec<u8>,
}

impl Entries {
    /// `expected` transactions; more are no problem.
    pub fn new(expected: usize) -> Entries {
        Entries {
            list: Vec::with_capacity(expected),
            slots: vec![0; slots_for(expected)],
            hasher: DefaultHashBuilder::default(),
            arena: Vec::new(),
            pending: Vec::with_capacity(BATCH),
            text: Vec::new(),
        }
    }

    /// Adds a row of `side`. All rows of one side come before [`Entries::flush`] and those of the other after it.
    pub fn add(&mut self, side: Side, key: &[u8], dossier: &[u8], fact: Fact) -> Result<(), FilesError> {
        // The upper half is as good as the lower, and a half is enough for the slots that memory has room for.
        let tag = (self.hasher.hash_one(key) >> 32) as u32;
        let mut append = |text: &[u8]| {
            let from = self.text.len();
            self.text.extend_from_slice(text);
            (from, self.text.len())
        };
        let (key, dossier) = (append(key), append(dossier));
        self.pending.push(Pending { tag, key, dossier, fact });
        if self.pending.len() == BATCH { self.flush(side) } else { Ok(()) }
    }

    /// Puts what still waits.
    pub fn flush(&mut self, side: Side) -> Result<(), FilesError> {
        if (self.list.len() + self.pending.len()) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let (pending, text) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.text));
        self.warm(&pending);
        for row in &pending {
            let (key, dossier) = (&text[row.key.0..row.key.1], &text[row.dossier.0..row.dossier.1]);
            let at = self.find_or_insert(row.tag, key)?;
            self.list[at].take(side, row.fact);
            if self.list[at].dossier_length == 0 && !dossier.is_empty() {
                self.list[at].dossier_at = append(&mut self.arena, dossier)?;
                self.list[at].dossier_length = dossier.len() as u16;
            }
        }
        (self.pending, self.text) = (pending, text);
        self.pending.clear();
        self.text.clear();
        Ok(())
    }

    /// Reads the memory that the batch will need. The loads do not depend on each other, so they are under way together.
    fn warm(&self, pending: &[Pending]) {
        let mask = self.slots.len() - 1;
        let mut positions = [0_u32; BATCH];
        for (position, row) in positions.iter_mut().zip(pending) {
            *position = self.slots[row.tag as usize & mask] as u32;
        }
        let mut sum = 0_u32;
        for position in positions {
            let entry = self.list.get((position as usize).wrapping_sub(1));
            sum = sum.wrapping_add(entry.map_or(0, |entry| u32::from(entry.length)));
        }
        // What nobody uses would not be read.
        std::hint::black_box(sum);
    }

    fn find_or_insert(&mut self, tag: u32, key: &[u8]) -> Result<usize, FilesError> {
        let mask = self.slots.len() - 1;
        let mut slot = tag as usize & mask;
        loop {
            let value = self.slots[slot];
            if value == 0 {
                break;
            }
            if (value >> 32) as u32 == tag {
                let at = (value as u32 - 1) as usize;
                if self.list[at].key(&self.arena) == key {
                    return Ok(at);
                }
            }
            slot = (slot + 1) & mask;
        }
        let at = self.list.len();
        let position = u32::try_from(at + 1).map_err(|_| FilesError::TooMuch)?;
        self.list.push(Entry::new(&mut self.arena, key)?);
        self.slots[slot] = u64::from(tag) << 32 | u64::from(position);
        Ok(at)
    }

    fn grow(&mut self) {
        let mut slots = vec![0_u64; self.slots.len() * 2];
        let mask = slots.len() - 1;
        for &value in self.slots.iter().filter(|value| **value != 0) {
            let mut slot = (value >> 32) as usize & mask;
            while slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot] = value;
        }
        self.slots = slots;
    }

    /// In the order in which they were first seen.
    pub fn list(&self) -> &[Entry] {
        &self.list
    }

    pub fn key<'a>(&'a self, entry: &'a Entry) -> &'a [u8] {
        entry.key(&self.arena)
    }

    pub fn dossier(&self, entry: &Entry) -> &[u8] {
        let at = entry.dossier_at as usize;
        &self.arena[at..at + usize::from(entry.dossier_length)]
    }
}

/// Three quarters full at most.
fn slots_for(expected: usize) -> usize {
    (expected / 3 * 4).max(SMALLEST).next_power_of_two()
}

impl Entry {
    fn new(arena: &mut Vec<u8>, text: &[u8]) -> Result<Entry, FilesError> {
        let mut key = [0; INLINE];
        if text.len() <= INLINE {
            key[..text.len()].copy_from_slice(text);
        } else {
            key[..4].copy_from_slice(&append(arena, text)?.to_le_bytes());
        }
        Ok(Entry {
            portal_amount: 0,
            gateway_amount: 0,
            portal_us: 0,
            gateway_us: 0,
            dossier_at: 0,
            dossier_length: 0,
            // A record, and so a key, is at most 64 KiB; longer references are refused far below.
            length: text.len() as u16,
            key,
            portal_status: NO_STATUS,
            gateway_status: NO_STATUS,
        })
    }

    fn key<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        let length = usize::from(self.length);
        if length <= INLINE {
            return &self.key[..length];
        }
        let at = u32::from_le_bytes([self.key[0], self.key[1], self.key[2], self.key[3]]) as usize;
        &arena[at..at + length]
    }

    pub fn has_dossier(&self) -> bool {
        self.dossier_length > 0
    }

    pub fn portal(&self) -> Option<Fact> {
        let status = *Status::ALL.get(usize::from(self.portal_status))?;
        Some(Fact { status, amount: self.portal_amount, at_us: self.portal_us })
    }

    pub fn gateway(&self) -> Option<Fact> {
        let status = *Status::ALL.get(usize::from(self.gateway_status))?;
        Some(Fact { status, amount: self.gateway_amount, at_us: self.gateway_us })
    }

    /// Of several rows of one side the one counts that ranks highest, as in the daemon.
    fn take(&mut self, side: Side, fact: Fact) {
        let (known, known_us) = match side {
            Side::Portal => (self.portal_status != NO_STATUS, self.portal_us),
            Side::Gateway => (self.gateway_status != NO_STATUS, self.gateway_us),
        };
        if known && fact.at_us <= known_us {
            let old = if side == Side::Portal { self.portal() } else { self.gateway() };
            if old.is_some_and(|old| old.rank() >= fact.rank()) {
                return;
            }
        }
        let status = fact.status as u8;
        match side {
            Side::Portal => {
                (self.portal_status, self.portal_amount, self.portal_us) = (status, fact.amount, fact.at_us)
            }
            Side::Gateway => {
                (self.gateway_status, self.gateway_amount, self.gateway_us) = (status, fact.amount, fact.at_us);
            }
        }
    }
}

fn append(arena: &mut Vec<u8>, text: &[u8]) -> Result<u32, FilesError> {
    let at = u32::try_from(arena.len()).map_err(|_| FilesError::TooMuch)?;
    arena.extend_from_slice(text);
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_cache_line() {
        assert_eq!(size_of::<Entry>(), 64);
    }

    #[test]
    fn what_was_put_is_found_again_however_large_it_grows() {
        let mut entries = Entries::new(0);
        let key = |n: usize| {
            if n.is_multiple_of(3) { format!("{n}-A-KEY-THAT-IS-LONGER-THAN-AN-ENTRY") } else { format!("T{n}") }
        };
        let fact = |amount| Fact { status: Status::Paid, amount, at_us: 1 };
        for side in [Side::Portal, Side::Gateway] {
            for n in 0..1_000 {
                let dossier = if side == Side::Gateway { format!("D{n}") } else { String::new() };
                entries.add(side, key(n).as_bytes(), dossier.as_bytes(), fact(n as i64)).unwrap();
                // The same again, in the same batch or another.
                entries.add(side, key(n / 2).as_bytes(), b"", fact(n as i64 / 2)).unwrap();
            }
            entries.flush(side).unwrap();
        }
        assert_eq!(entries.list().len(), 1_000);
        for (n, entry) in entries.list().iter().enumerate() {
            assert_eq!(entries.key(entry), key(n).as_bytes());
            assert_eq!(entries.dossier(entry), format!("D{n}").as_bytes());
            assert_eq!((entry.portal(), entry.gateway()), (Some(fact(n as i64)), Some(fact(n as i64))));
        }
    }
}
