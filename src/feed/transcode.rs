//! Turns text in another encoding into UTF-8 as it is read.

use crate::config::feeds::Encoding;
use encoding_rs::{Decoder, UTF_16LE, WINDOWS_1258};
use std::io::Read;

const CHUNK: usize = 64 * 1024;

/// What a file is really in: a byte order mark of UTF-16 tells more than a configuration.
pub fn effective(configured: Encoding, begins: [u8; 2]) -> Encoding {
    if matches!(begins, [0xff, 0xfe] | [0xfe, 0xff]) { Encoding::Utf16 } else { configured }
}

/// Whether the last bytes of a file end a line.
pub fn ends_line(encoding: Encoding, last: [u8; 2]) -> bool {
    match encoding {
        Encoding::Utf16 => matches!(last, [b'\n', 0] | [0, b'\n']),
        Encoding::Utf8 | Encoding::Windows1258 => last[1] == b'\n',
    }
}

/// `input` as UTF-8. What cannot be decoded becomes U+FFFD.
pub fn utf8(input: impl Read + Send + 'static, encoding: Encoding) -> Box<dyn Read + Send> {
    let decoder = match encoding {
        Encoding::Utf8 => return Box::new(input),
        // It follows the byte order mark, if there is one.
        Encoding::Utf16 => UTF_16LE.new_decoder(),
        Encoding::Windows1258 => WINDOWS_1258.new_decoder_without_bom_handling(),
    };
    let (raw, text) = (vec![0; CHUNK], vec![0; CHUNK]);
    Box::new(Transcoded { input, decoder, raw, unread: 0..0, text, ready: 0..0, is_last: false, is_done: false })
}

struct Transcoded<R> {
    input: R,
    decoder: Decoder,
    raw: Vec<u8>,
    /// Of `raw`.
    unread: std::ops::Range<usize>,
    text: Vec<u8>,
    /// Of `text`.
    ready: std::ops::Range<usize>,
    is_last: bool,
    is_done: bool,
}

impl<R: Read> Read for Transcoded<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.ready.is_empty() && !self.is_done {
            if self.unread.is_empty() && !self.is_last {
                let n = self.input.read(&mut self.raw)?;
                self.unread = 0..n;
                self.is_last = n == 0;
            }
            let raw = &self.raw[self.unread.clone()];
            let (result, n_read, n_written, _) = self.decoder.decode_to_utf8(raw, &mut self.text, self.is_last);
            self.unread.start += n_read;
            self.ready = 0..n_written;
            self.is_done = self.is_last && result == encoding_rs::CoderResult::InputEmpty;
        }
        let n = self.ready.len().min(into.len());
        into[..n].copy_from_slice(&self.text[self.ready.start..self.ready.start + n]);
        self.ready.start += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::testing::windows_1258;
    use unicode_normalization::UnicodeNormalization;

    #[test]
    fn vietnamese_in_every_encoding_comes_out_the_same() {
        let text = "Mã hồ sơ;Đã thanh toán\r\nĐ-1;150.000 đ\r\n".repeat(5_000);
        let legacy: Vec<u8> = text.chars().flat_map(windows_1258).collect();
        let utf16 = |order: fn(u16) -> [u8; 2], mark: bool| {
            let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
            units.flat_map(order).collect::<Vec<u8>>()
        };
        for (name, bytes, encoding) in [
            ("windows-1258", legacy, Encoding::Windows1258),
            ("utf-16 little", utf16(u16::to_le_bytes, true), Encoding::Utf16),
            ("utf-16 big", utf16(u16::to_be_bytes, true), Encoding::Utf16),
            ("utf-16 without a mark", utf16(u16::to_le_bytes, false), Encoding::Utf16),
        ] {
            let mut read = String::new();
            utf8(std::io::Cursor::new(bytes), encoding).read_to_string(&mut read).unwrap();
            assert_eq!(read.nfc().collect::<String>(), text.nfc().collect::<String>(), "{name}");
        }
    }
}
