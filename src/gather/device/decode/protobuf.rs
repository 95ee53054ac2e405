//! As much of Protocol Buffers' wire format as Sparkplug needs: the fields of a message, one after the other.
//!
//! Ours because one flat schema is read, from strangers: nothing is allocated, nothing recurses, and every length is
//! checked. A generated reader would bring a build step and three crates for that.

use super::Malformed;

/// The value of a field as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of one message: their numbers and values. Ends after the first error.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Fields<'a> {
        Fields(message)
    }

    fn field(&mut self) -> Result<(u64, Wire<'a>), Malformed> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Wire::Bytes(self.bytes(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups (3 and 4) are of an older time; Sparkplug has none.
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let part = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && part > 1 {
                return Err(Malformed);
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Writes what [`Fields`] reads.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn varint(&mut self, field: u64, value: u64) -> &mut Writer {
        self.raw(field << 3);
        self.raw(value);
        self
    }

    pub fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Writer {
        self.raw(field << 3 | 2);
        self.raw(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    #[cfg(test)]
    pub fn fixed32(&mut self, field: u64, value: u32) -> &mut Writer {
        self.raw(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    #[cfg(test)]
    pub fn fixed64(&mut self, field: u64, value: u64) -> &mut Writer {
        self.raw(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_were_written() {
        let message = Writer::default()
            .varint(1, u64::MAX)
            .bytes(2, b"abc")
            .fixed32(12, 1.5_f32.to_bits())
            .fixed64(13, 2.5_f64.to_bits())
            .varint(1_000, 0)
            .finish();
        let fields: Result<Vec<_>, Malformed> = Fields::of(&message).collect();
        let expected = vec![
            (1, Wire::Varint(u64::MAX)),
            (2, Wire::Bytes(b"abc")),
            (12, Wire::Fixed32(1.5_f32.to_bits())),
            (13, Wire::Fixed64(2.5_f64.to_bits())),
            (1_000, Wire::Varint(0)),
        ];
        assert_eq!(fields, Ok(expected));
    }

    #[test]
    fn what_is_cut_off_or_cannot_be_is_malformed() {
        let rows: [&[u8]; 8] = [
            b"\x08",
            b"\x80",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x12\x05abc",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0d\x00\x00",
            b"\x0b",
            b"\x0f",
        ];
        for row in rows {
            let fields: Result<Vec<_>, Malformed> = Fields::of(row).collect();
            assert_eq!(fields, Err(Malformed), "{row:x?}");
        }
    }
}
