//! Names and values in one text, each after its length.

use std::hash::Hasher;

const SIX_BITS: u8 = 0x3f;
const MORE: u8 = 0x40;

/// Adds a length and the text itself. The length is written as ASCII characters with six bits each, the lowest first; all but
/// the last have the bit [`MORE`].
pub fn pack(out: &mut String, text: &str) {
    let mut length = text.len();
    while length > usize::from(SIX_BITS) {
        out.push(char::from((length & usize::from(SIX_BITS)) as u8 | MORE));
        length >>= 6;
    }
    out.push(char::from(length as u8));
    out.push_str(text);
}

/// Names and values that were [`pack`]ed one after the other.
#[derive(Clone)]
pub struct Pairs<'s> {
    rest: &'s [u8],
}

impl<'s> Pairs<'s> {
    /// `packed`: the bytes of the text.
    pub fn of(packed: &'s [u8]) -> Pairs<'s> {
        Pairs { rest: packed }
    }

    /// The value of a name, from here on.
    pub fn find(mut self, name: &str) -> Option<&'s str> {
        loop {
            let is_it = self.bytes()? == name.as_bytes();
            let value = self.bytes()?;
            if is_it {
                return Some(text(value));
            }
        }
    }

    fn bytes(&mut self) -> Option<&'s [u8]> {
        let (mut length, mut at) = (0, 0);
        loop {
            let byte = *self.rest.get(at)?;
            length |= usize::from(byte & SIX_BITS) << (6 * at);
            at += 1;
            if byte & MORE == 0 {
                break;
            }
        }
        let (bytes, rest) = self.rest[at..].split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }
}

/// Part of a text that was packed.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

impl<'s> Iterator for Pairs<'s> {
    type Item = (&'s str, &'s str);

    fn next(&mut self) -> Option<(&'s str, &'s str)> {
        Some((text(self.bytes()?), text(self.bytes()?)))
    }
}

/// A quick hash; collisions cost time only.
#[derive(Default)]
pub struct Mixer(u64);

impl Mixer {
    /// The hash of label pairs.
    pub fn of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
        let mut hasher = Mixer::default();
        for (name, value) in pairs {
            hasher.text(name);
            hasher.text(value);
        }
        hasher.0
    }

    /// The hash of one text.
    pub fn of_text(text: &str) -> u64 {
        let mut hasher = Mixer::default();
        hasher.text(text);
        hasher.0
    }

    pub fn text(&mut self, text: &str) {
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
