//! The runs of one series, packed.
//!
//! Most values are short decimals (23.4, 512, a time in microseconds) that change by little. So a value is kept as a whole
//! number of units of 10⁻ⁿ, the next as its difference, and what changes at every tick takes two to four bytes instead of
//! sixteen. A value that is no such decimal takes nine. Nothing is rounded: a value comes back to the bit.
//!
//! The last run stands apart, for whoever asks for the newest value; a series with one run has nothing else.

use super::codec::{LARGEST_WHOLE, fold, read_number, unfold};
use crate::lean::block;
use crate::promql::{Run, STALE_NAN_BITS};

/// The runs of a series, ascending; none until the first push. Knows no times: runs begin at ticks.
pub struct Runs {
    last_value: f64,
    /// [`NOTHING`] if there is no run.
    last_from: u32,
    /// How many digits after the decimal point the last value is kept with; [`NO_SCALE`] if it is not kept so.
    scale: u8,
    /// What its owner likes to remember; it takes no room of its own.
    pub mark: u16,
    /// Nothing if there are less than two runs. Else a [`Head`], and the runs after the first; the rest is room.
    bytes: Box<[u8]>,
}

const NOTHING: u32 = u32::MAX;
const NO_SCALE: u8 = u8::MAX;
/// Powers of ten that [`f64`] has exactly, as far as they are of use.
const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// A change takes at most so much: gap and kind, nine bytes of a number.
const LONGEST: usize = 6 + 10;

/// What stands before the changes: the bytes in use, and the first run.
struct Head {
    used: u32,
    from: u32,
    scale: u8,
    value: f64,
}

impl Head {
    const SIZE: usize = 4 + 4 + 1 + 8;

    fn read(bytes: &[u8]) -> Option<Head> {
        let (used, rest) = bytes.split_first_chunk::<4>()?;
        let (from, rest) = rest.split_first_chunk::<4>()?;
        let (&scale, rest) = rest.split_first()?;
        let value = rest.first_chunk::<8>()?;
        let value = f64::from_le_bytes(*value);
        Some(Head { used: u32::from_le_bytes(*used), from: u32::from_le_bytes(*from), scale, value })
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.used.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.from.to_le_bytes());
        bytes[8] = self.scale;
        bytes[9..Head::SIZE].copy_from_slice(&self.value.to_le_bytes());
    }
}

/// How a change is written if it is not the usual one (the very next tick, in the same units).
mod kind {
    /// There is no sample.
    pub const STALE: u64 = 0;
    /// Eight bytes.
    pub const REAL: u64 = 1;
    /// The scale in a byte, and the number of units.
    pub const SCALED: u64 = 2;
    /// The difference, after more than one tick.
    pub const LATER: u64 = 3;
}

impl Runs {
    pub fn new() -> Runs {
        Runs::marked(0)
    }

    pub fn marked(mark: u16) -> Runs {
        Runs { last_value: f64::NAN, last_from: NOTHING, scale: NO_SCALE, mark, bytes: Box::default() }
    }

    /// Whether there never was a value.
    pub fn is_empty(&self) -> bool {
        self.last_from == NOTHING
    }

    /// Whether its last run has this value, to the bit.
    pub fn holds(&self, value: f64) -> bool {
        self.last_value.to_bits() == value.to_bits() && !self.is_empty()
    }

    /// The tick on which it became stale, if it is.
    pub fn ended(&self) -> Option<u32> {
        self.last().filter(|last| last.value.to_bits() == STALE_NAN_BITS).map(|last| last.from)
    }

    /// Other runs in their place, under the same mark.
    fn replace(&mut self, runs: impl IntoIterator<Item = Run>) {
        let mut packed = Runs::marked(self.mark);
        runs.into_iter().for_each(|run| packed.push(run));
        *self = packed;
    }

    pub fn last(&self) -> Option<Run> {
        (self.last_from != NOTHING).then_some(Run { from: self.last_from, value: self.last_value })
    }

    /// The tick of the first run; [`u32::MAX`] if there is none.
    pub fn begins(&self) -> u32 {
        Head::read(&self.bytes).map_or(self.last_from, |head| head.from)
    }

    /// Whether it has more than one run.
    pub fn is_single(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All runs, oldest first.
    pub fn iter(&self) -> Unpacked<'_> {
        match Head::read(&self.bytes) {
            Some(head) => {
                let bytes = &self.bytes[Head::SIZE..head.used as usize];
                let first = Some(Run { from: head.from, value: head.value });
                Unpacked { next: first, scale: head.scale, units: units_of(head.value, head.scale), bytes }
            }
            None => Unpacked { next: self.last(), scale: NO_SCALE, units: 0, bytes: &[] },
        }
    }

    /// Bytes beside the value itself.
    pub fn heap(&self) -> usize {
        self.bytes.len()
    }

    /// Whether adding a run may need more memory.
    pub fn is_full(&self) -> bool {
        Head::read(&self.bytes).is_none_or(|head| head.used as usize + LONGEST > self.bytes.len())
    }

    /// Adds a run after the others; one at the very tick of the last takes its place.
    pub fn push(&mut self, run: Run) {
        let Some(last) = self.last() else {
            (self.last_value, self.last_from) = (run.value, run.from);
            return;
        };
        if last.from == run.from {
            return self.replace_last(run);
        }
        let mut change = [0; LONGEST];
        let (length, scale) = encode(last, self.scale, run, &mut change);
        let mut head = Head::read(&self.bytes).unwrap_or({
            // The first change says how it is kept.
            Head { used: Head::SIZE as u32, from: last.from, scale: NO_SCALE, value: last.value }
        });
        let used = head.used as usize;
        if used + length > self.bytes.len() {
            let mut bytes = Vec::new();
            // Doubling would leave as much again unused, for ever in a fleet that is complete.
            bytes.reserve_exact(block(used + length + used / 8));
            bytes.extend_from_slice(&self.bytes[..used.min(self.bytes.len())]);
            bytes.resize(bytes.capacity(), 0);
            self.bytes = bytes.into_boxed_slice();
        }
        self.bytes[used..used + length].copy_from_slice(&change[..length]);
        head.used += length as u32;
        head.write(&mut self.bytes);
        (self.last_value, self.last_from, self.scale) = (run.value, run.from, scale);
    }

    fn replace_last(&mut self, run: Run) {
        let mut runs: Vec<Run> = self.iter().collect();
        runs.pop();
        runs.push(run);
        self.replace(runs);
    }

    /// How many of the first runs nobody needs if the tick `first` is the oldest that counts.
    pub fn n_outlived(&self, first: u32) -> usize {
        if self.is_single() || self.begins() >= first {
            return 0;
        }
        self.iter().take_while(|run| run.from <= first).count().saturating_sub(1)
    }

    /// Forgets the first runs; one stays at least. The room stays too, unless it is far too much.
    pub fn forget(&mut self, n_runs: usize) {
        let Some(head) = Head::read(&self.bytes) else { return };
        if n_runs == 0 {
            return;
        }
        let mut walk = Walk::of(&head, &self.bytes);
        for _ in 0..n_runs {
            if !walk.bytes.is_empty() {
                walk.step();
            }
        }
        let (first, scale, length) = (walk.run, walk.scale, walk.bytes.len());
        if length == 0 {
            return self.keep_last();
        }
        let begin = head.used as usize - length;
        self.bytes.copy_within(begin..begin + length, Head::SIZE);
        let used = Head::SIZE + length;
        Head { used: used as u32, from: first.from, scale, value: first.value }.write(&mut self.bytes);
        if self.bytes.len() > block(used * 2) {
            self.bytes = self.bytes[..block(used)].into();
        }
    }

    fn keep_last(&mut self) {
        self.bytes = Box::default();
        self.scale = NO_SCALE;
    }

    /// Keeps the runs that begin before the tick.
    pub fn truncate(&mut self, tick: u32) {
        if self.last_from != NOTHING && self.last_from >= tick {
            let kept: Vec<Run> = self.iter().take_while(|run| run.from < tick).collect();
            self.replace(kept);
        }
    }

    /// Every tick has another number now, smaller by `ticks`; what was before the first is at the first.
    pub fn shift(&mut self, ticks: u32) {
        if self.last_from == NOTHING {
            return;
        }
        match Head::read(&self.bytes) {
            // Only the first run can begin before what is kept.
            Some(mut head) if head.from >= ticks => {
                head.from -= ticks;
                head.write(&mut self.bytes);
                self.last_from -= ticks;
            }
            Some(_) => {
                let shifted = |run: Run| Run { from: run.from.saturating_sub(ticks), ..run };
                let runs: Vec<Run> = self.iter().map(shifted).collect();
                self.replace(runs);
            }
            None => self.last_from = self.last_from.saturating_sub(ticks),
        }
    }
}

impl Default for Runs {
    fn default() -> Runs {
        Runs::new()
    }
}

impl FromIterator<Run> for Runs {
    fn from_iter<I: IntoIterator<Item = Run>>(runs: I) -> Runs {
        let mut packed = Runs::new();
        packed.replace(runs);
        packed
    }
}

/// Writes how `run` follows on `last`; gives the length and the scale that holds from now on.
fn encode(last: Run, scale: u8, run: Run, out: &mut [u8; LONGEST]) -> (usize, u8) {
    let gap = u64::from(run.from - last.from);
    let special = |kind: u64| (gap << 2 | kind) << 1 | 1;
    let mut out = Out { bytes: out, used: 0 };
    if run.value.to_bits() == STALE_NAN_BITS {
        out.number(special(kind::STALE));
        return (out.used, NO_SCALE);
    }
    if scale != NO_SCALE
        && let Some(units) = decimal(run.value, scale)
    {
        let difference = fold(units - units_of(last.value, scale));
        if gap == 1 {
            out.number(difference << 1);
        } else {
            out.number(special(kind::LATER));
            out.number(difference);
        }
        return (out.used, scale);
    }
    let found = (0..POWERS.len() as u8).find_map(|scale| Some((scale, decimal(run.value, scale)?)));
    if let Some((scale, units)) = found {
        out.number(special(kind::SCALED));
        out.byte(scale);
        out.number(fold(units));
        return (out.used, scale);
    }
    out.number(special(kind::REAL));
    run.value.to_le_bytes().into_iter().for_each(|byte| out.byte(byte));
    (out.used, NO_SCALE)
}

/// The value in units of 10^-scale, if it is exactly what these are.
fn decimal(value: f64, scale: u8) -> Option<i64> {
    let power = POWERS[usize::from(scale)];
    let scaled = value * power;
    if scaled.is_nan() || scaled.abs() >= LARGEST_WHOLE {
        return None;
    }
    let units = (scaled + 0.5_f64.copysign(scaled)) as i64;
    ((units as f64 / power).to_bits() == value.to_bits()).then_some(units)
}

/// As [`decimal`], of a value that is known to be.
fn units_of(value: f64, scale: u8) -> i64 {
    if scale == NO_SCALE { 0 } else { decimal(value, scale).unwrap_or(0) }
}

struct Out<'o> {
    bytes: &'o mut [u8; LONGEST],
    used: usize,
}

impl Out<'_> {
    fn byte(&mut self, byte: u8) {
        self.bytes[self.used] = byte;
        self.used += 1;
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }
}

/// The runs of a series, oldest first.
pub struct Unpacked<'r> {
    next: Option<Run>,
    scale: u8,
    units: i64,
    bytes: &'r [u8],
}

impl Iterator for Unpacked<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let run = self.next?;
        let mut walk = Walk { run, scale: self.scale, units: self.units, bytes: self.bytes };
        self.next = (!self.bytes.is_empty()).then(|| {
            walk.step();
            walk.run
        });
        (self.scale, self.units, self.bytes) = (walk.scale, walk.units, walk.bytes);
        Some(run)
    }
}

/// A place among packed runs: the run before it, and the bytes after.
struct Walk<'r> {
    run: Run,
    scale: u8,
    units: i64,
    bytes: &'r [u8],
}

impl<'r> Walk<'r> {
    fn of(head: &Head, bytes: &'r [u8]) -> Walk<'r> {
        let run = Run { from: head.from, value: head.value };
        let bytes = &bytes[Head::SIZE..head.used as usize];
        Walk { run, scale: head.scale, units: units_of(head.value, head.scale), bytes }
    }

    /// To the next run. There must be one.
    fn step(&mut self) {
        let first = self.number();
        if first & 1 == 0 {
            self.run.from += 1;
            self.difference(first >> 1);
            return;
        }
        self.run.from += (first >> 3) as u32;
        match first >> 1 & 3 {
            kind::STALE => {
                self.run.value = f64::from_bits(STALE_NAN_BITS);
                self.scale = NO_SCALE;
            }
            kind::REAL => {
                if let Some((value, rest)) = self.bytes.split_first_chunk::<8>() {
                    self.run.value = f64::from_le_bytes(*value);
                    self.bytes = rest;
                }
                self.scale = NO_SCALE;
            }
            kind::SCALED => {
                if let Some((&scale, rest)) = self.bytes.split_first() {
                    (self.scale, self.bytes) = (scale, rest);
                }
                self.units = 0;
                let units = self.number();
                self.difference(units);
            }
            _ => {
                let difference = self.number();
                self.difference(difference);
            }
        }
    }

    fn difference(&mut self, folded: u64) {
        self.units += unfold(folded);
        self.run.value = self.units as f64 / POWERS[usize::from(self.scale)];
    }

    fn number(&mut self) -> u64 {
        read_number(&mut self.bytes).unwrap_or(0)
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
