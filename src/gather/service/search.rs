//! Looks for a text in a stream of chunks, in time linear in the stream, without keeping it.

/// One text that is looked for (Knuth, Morris, Pratt). Found once, it stays found.
#[derive(Debug, Clone)]
pub(super) struct Needle {
    text: Vec<u8>,
    /// For each prefix, the length of its longest proper border.
    borders: Vec<usize>,
}

impl Needle {
    pub fn new(text: &str) -> Needle {
        let text = text.as_bytes().to_vec();
        let mut borders = vec![0; text.len()];
        let mut matched = 0;
        for index in 1..text.len() {
            while matched > 0 && text[index] != text[matched] {
                matched = borders[matched - 1];
            }
            if text[index] == text[matched] {
                matched += 1;
            }
            borders[index] = matched;
        }
        Needle { text, borders }
    }

    /// Reads on after `matched` bytes (0 at first); returns the new value. [`Needle::found`] tells whether it is all.
    pub fn advance(&self, mut matched: usize, chunk: &[u8]) -> usize {
        for &byte in chunk {
            if self.found(matched) {
                break;
            }
            while matched > 0 && byte != self.text[matched] {
                matched = self.borders[matched - 1];
            }
            if byte == self.text[matched] {
                matched += 1;
            }
        }
        matched
    }

    pub fn found(&self, matched: usize) -> bool {
        matched == self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Needle;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_search_of_the_whole_finds(text in "[ab]{0,6}", body in "[ab]{0,60}", cut in 1usize..7) {
            let needle = Needle::new(&text);
            let matched = body.as_bytes().chunks(cut).fold(0, |matched, chunk| needle.advance(matched, chunk));
            prop_assert_eq!(needle.found(matched), body.contains(&text));
        }
    }
}
