//! Names and values in one text, each after its length. Names that nearly every set has are one character.

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

/// Names of labels and annotations of which a fleet holds hundreds of thousands: packed they are one character, [`MORE`]
/// and their place here. At most 64; the order means nothing, since nothing packed outlives the program.
const KNOWN: [&str; 34] = [
    "agency",
    "device",
    "kind",
    "site",
    "service",
    "village",
    "name",
    "lat",
    "lon",
    "alertname",
    "severity",
    "area",
    "alertstate",
    "summary",
    "summary_en",
    "description",
    "description_en",
    "runbook",
    "status",
    "result",
    "reason",
    "cause",
    "dependency",
    "app",
    "feed",
    "side",
    "phase",
    "step",
    "broker",
    "job",
    "instance",
    "le",
    "group",
    "rule",
];

/// Adds a name: one character if it is known; else its length, if that is not zero and below 64, and the name; else a zero
/// and the name as [`pack`] writes it.
fn pack_name(out: &mut String, name: &str) {
    match KNOWN.iter().position(|known| *known == name) {
        Some(place) => out.push(char::from(place as u8 | MORE)),
        None => {
            if name.is_empty() || name.len() > usize::from(SIX_BITS) {
                out.push('\0');
            }
            pack(out, name);
        }
    }
}

/// Adds a name and its value, for [`Pairs`].
pub fn pack_pair(out: &mut String, name: &str, value: &str) {
    pack_name(out, name);
    pack(out, value);
}

/// Names and values that were packed with [`pack_pair`] one after the other.
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
            let is_it = self.name()? == name.as_bytes();
            let value = self.bytes()?;
            if is_it {
                return Some(text(value));
            }
        }
    }

    fn name(&mut self) -> Option<&'s [u8]> {
        match self.rest.split_first()? {
            (0, rest) => self.rest = rest,
            (first, rest) if first & MORE != 0 => {
                self.rest = rest;
                return KNOWN.get(usize::from(first & SIX_BITS)).map(|known| known.as_bytes());
            }
            _ => {}
        }
        self.bytes()
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
        Some((text(self.name()?), text(self.bytes()?)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_come_back_whatever_their_length() {
        let long = "n".repeat(64);
        let text = "ờ".repeat(1_500);
        let names = ["agency", "", "x", "agencys", &long[..63], &long, &text, "rule"];
        let mut packed = String::new();
        for name in names {
            pack_pair(&mut packed, name, &format!("of {name}"));
        }
        let pairs: Vec<_> = Pairs::of(packed.as_bytes()).map(|(name, value)| (name, value.to_owned())).collect();
        assert_eq!(pairs, names.map(|name| (name, format!("of {name}"))));
        for name in names {
            assert_eq!(Pairs::of(packed.as_bytes()).find(name), Some(&*format!("of {name}")), "{name}");
        }
        assert_eq!(Pairs::of(packed.as_bytes()).find("device"), None);
        assert!(KNOWN.len() <= usize::from(SIX_BITS) + 1);
    }
}
