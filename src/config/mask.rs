//! Hides secrets in texts that may reach a log, a page or a mail: as they are, and in the encodings that a server or a
//! protocol gives them.
//!
//! A text is not searched for a list of spellings but read as a decoder would read it: `%41`, `\u0041`, `&#65;` and any
//! mixture of them. Base64 and hexadecimal spellings, which depend on what stands beside the secret, are searched as such.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::fmt;
use std::ops::Range;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// A secret that was cut short is recognised by this many bytes.
const SHORTEST_PART: usize = 4;

/// Secrets, ready to be hidden. Matches without regard to ASCII case: host names and header names lose it.
#[derive(Clone, Default)]
pub struct Mask {
    /// Lower case.
    plain: Vec<Vec<u8>>,
    /// Base64 and hexadecimal spellings, lower case.
    encoded: Vec<Vec<u8>>,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask of {} secrets", self.plain.len())
    }
}

impl Mask {
    /// Hides one more secret. An empty one hides nothing.
    pub fn add(&mut self, secret: &str) {
        if secret.trim().is_empty() {
            return;
        }
        let mut plain = vec![secret.to_owned(), secret.trim().to_owned(), secret.replace(' ', "+")];
        if !secret.is_ascii()
            && let Ok(url::Host::Domain(host)) = url::Host::parse(secret)
        {
            plain.push(host);
        }
        self.plain.extend(plain.into_iter().map(|text| text.to_ascii_lowercase().into_bytes()));
        self.plain.sort();
        self.plain.dedup();
        let mut encoded: Vec<String> = (0..3).flat_map(|before| base64_within(secret.as_bytes(), before)).collect();
        encoded.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect());
        let long = encoded.into_iter().filter(|text| text.len() >= SHORTEST_PART);
        self.encoded.extend(long.map(|text| text.to_ascii_lowercase().into_bytes()));
        self.encoded.sort();
        self.encoded.dedup();
    }

    pub fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// The text without the secrets.
    pub fn hide(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let mut hidden = self.find(text);
        hidden.sort_by_key(|range| range.start);
        let mut shown = String::with_capacity(text.len());
        let mut end = 0;
        for range in hidden {
            if range.start > end || (range.start == 0 && end == 0) {
                shown.push_str(&text[end..range.start]);
                shown.push_str(HIDDEN);
            }
            end = end.max(range.end);
        }
        shown.push_str(&text[end..]);
        shown
    }

    /// Where secrets stand, on borders of characters.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let lower = text.to_ascii_lowercase().into_bytes();
        let decoded = decode(&lower);
        let letters: Vec<u8> = decoded.iter().map(|(byte, _)| byte.to_ascii_lowercase()).collect();
        let mut found = Vec::new();
        for secret in &self.plain {
            found.extend(memchr::memmem::find_iter(&lower, secret).map(|at| at..at + secret.len()));
            let ends = |at: usize| decoded[at].1.start..decoded[at + secret.len() - 1].1.end;
            found.extend(memchr::memmem::find_iter(&letters, secret).map(ends));
            found.extend(cut_short(&lower, secret));
        }
        for secret in &self.encoded {
            // The characters beside it hold some of its bits.
            found.extend(
                memchr::memmem::find_iter(&lower, secret).map(|at| token_around(&lower, at..at + secret.len())),
            );
        }
        for range in &mut found {
            while !text.is_char_boundary(range.start) {
                range.start -= 1;
            }
            while !text.is_char_boundary(range.end) {
                range.end += 1;
            }
        }
        found
    }
}

/// The base64 of `secret` after `before` other bytes, without the characters that others have a part in.
fn base64_within(secret: &[u8], before: usize) -> [String; 2] {
    let whole = [vec![0; before], secret.to_vec()].concat();
    let from = (before * 8).div_ceil(6);
    let to = whole.len() * 8 / 6;
    let cut = |text: String| text.get(from..to.max(from)).unwrap_or_default().to_owned();
    [cut(STANDARD_NO_PAD.encode(&whole)), cut(URL_SAFE_NO_PAD.encode(&whole))]
}

/// The beginning of a secret at the end of a text, or before the `…` of a text that was shortened.
fn cut_short(text: &[u8], secret: &[u8]) -> Option<Range<usize>> {
    let ends = std::iter::once(text.len()).chain(memchr::memmem::find_iter(text, "…"));
    ends.filter_map(|end| {
        let longest = end.min(secret.len());
        let length = (SHORTEST_PART..=longest).rev().find(|length| text[..end].ends_with(&secret[..*length]))?;
        Some(end - length..end)
    })
    .next()
}

fn token_around(text: &[u8], range: Range<usize>) -> Range<usize> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
    let before = text[..range.start].iter().rev().take_while(|byte| is_token(byte)).count();
    let after = text[range.end..].iter().take_while(|byte| is_token(byte)).count();
    range.start - before..range.end + after
}

/// The bytes that a text means, and where each stands.
fn decode(text: &[u8]) -> Vec<(u8, Range<usize>)> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let (bytes, length) = one(&text[at..]);
        decoded.extend(bytes.into_iter().map(|byte| (byte, at..at + length)));
        at += length;
    }
    decoded
}

/// The bytes of the first character, and how long its spelling is. `text` is not empty.
fn one(text: &[u8]) -> (Vec<u8>, usize) {
    let number = |digits: &[u8], radix| u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok();
    let utf8 = |code: u32| char::from_u32(code).map(|c| c.to_string().into_bytes());
    let found = match text {
        [b'%', rest @ ..] => {
            rest.get(..2).and_then(|hex| number(hex, 16)).and_then(|n| Some((vec![u8::try_from(n).ok()?], 3)))
        }
        [b'\\', b'u', rest @ ..] => rest.get(..4).and_then(|hex| unicode(hex, &rest[4..])),
        [b'\\', b'x', rest @ ..] => {
            rest.get(..2).and_then(|hex| number(hex, 16)).and_then(|n| Some((vec![u8::try_from(n).ok()?], 4)))
        }
        [b'\\', escaped @ (b'"' | b'\\' | b'/' | b'\''), ..] => Some((vec![*escaped], 2)),
        [b'&', rest @ ..] => rest.iter().take(8).position(|byte| *byte == b';').and_then(|end| {
            let bytes = match &rest[..end] {
                b"amp" => b"&".to_vec(),
                b"lt" => b"<".to_vec(),
                b"gt" => b">".to_vec(),
                b"quot" => b"\"".to_vec(),
                b"apos" => b"'".to_vec(),
                [b'#', b'x', hex @ ..] => utf8(number(hex, 16)?)?,
                [b'#', digits @ ..] => utf8(number(digits, 10)?)?,
                _ => return None,
            };
            Some((bytes, end + 2))
        }),
        _ => None,
    };
    found.unwrap_or_else(|| (vec![text[0]], 1))
}

/// `\uXXXX`, or two of them for a character beyond the first plane; `rest` follows the first four digits.
fn unicode(hex: &[u8], rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let unit = |hex: &[u8]| u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok();
    let first = unit(hex)?;
    let second = rest.strip_prefix(b"\\u").and_then(|rest| rest.get(..4)).and_then(unit);
    let pair = |units: &[u16]| String::from_utf16(units).ok().map(String::into_bytes);
    match (pair(&[first]), second) {
        (Some(bytes), _) => Some((bytes, 6)),
        (None, Some(second)) => pair(&[first, second]).map(|bytes| (bytes, 12)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(secrets: &[&str]) -> Mask {
        let mut mask = Mask::default();
        secrets.iter().for_each(|secret| mask.add(secret));
        mask
    }

    #[test]
    fn hides_a_secret_however_it_is_spelt() {
        let secret = "Bí mật/1&\"x\"";
        let mask = mask(&[secret, "hunter22"]);
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let json = serde_json::to_string(secret).unwrap();
        // (name, text, what is left)
        let rows = [
            ("plain", format!("a {secret} b"), "a *** b"),
            ("twice", "hunter22hunter22".to_owned(), "***"),
            ("other case", "HUNTER22.example".to_owned(), "***.example"),
            ("form", format!("k={form}&l=2"), "k=***&l=2"),
            ("percent", "k=B%C3%ad%20m%e1%BA%ADt%2f1%26%22x%22;".to_owned(), "k=***;"),
            ("json", format!("{{\"k\":{json}}}"), "{\"k\":\"***\"}"),
            ("json of ASCII", r#"\u0042\u00ed m\u1ead\u0074\/1&\"x\" "#.to_owned(), "*** "),
            ("html", "<b>B&#237; m&#x1EAD;t/1&amp;&quot;x&quot;</b>".to_owned(), "<b>***</b>"),
            ("cut", "the name hunt".to_owned(), "the name ***"),
            ("shortened", "found \"hunter…\"".to_owned(), "found \"***…\""),
            ("hexadecimal", "68756E7465723232".to_owned(), "***"),
            ("nothing", "the hunter".to_owned(), "the ***"),
        ];
        for (name, text, left) in rows {
            assert_eq!(mask.hide(&text), left, "{name}: {text}");
        }
        assert_eq!(mask.hide("giấy hẹn"), "giấy hẹn");
    }

    #[test]
    fn hides_basic_credentials_wherever_the_secret_stands_in_them() {
        let mask = mask(&["hunter22"]);
        for user in ["", "a", "ab", "abc", "citizen"] {
            let basic = STANDARD_NO_PAD.encode(format!("{user}:hunter22"));
            assert_eq!(mask.hide(&format!("Basic {basic}==, then")), "Basic ***, then", "{user}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_leaves_no_secret(secret in "\\PC{1,12}", before in "\\PC{0,12}", after in "\\PC{0,12}") {
            let mask = mask(&[&secret]);
            let hidden = mask.hide(&format!("{before}{secret}{after}"));
            prop_assert!(secret.trim().is_empty() || secret == "*" || !hidden.replace(HIDDEN, "").contains(&secret) || "***".contains(&secret)
                // What is left may meet and spell a short one again.
                || secret.chars().count() < 3);
        }
    }
}
