//! Payloads of Eclipse Sparkplug 3.0 (`sparkplug_b.proto`): a message is read as a whole, metrics as they stand; what
//! their aliases mean is the business of [`nodes`](super::super::sparkplug).

use super::protobuf::{Fields, Wire, Writer};
use super::{Malformed, Raw};

/// Quality codes of the property `Quality`: anything else says that the value is not to be relied on.
const QUALITY_GOOD: u64 = 192;

/// One message's payload.
#[derive(Debug, Default, PartialEq)]
pub struct Payload<'a> {
    /// When it was sent, in milliseconds since 1970 by the sender's clock.
    pub timestamp: Option<u64>,
    /// 0 to 255; each message of a node has the next.
    pub seq: Option<u8>,
    pub metrics: Vec<Metric<'a>>,
}

/// One value of a payload.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Metric<'a> {
    pub name: Option<&'a str>,
    pub alias: Option<u64>,
    pub datatype: Option<u64>,
    /// It is of the past and does not say what is now.
    pub is_historical: bool,
    pub is_null: bool,
    /// Its property `Quality` says that it is not good.
    pub is_doubtful: bool,
    value: Option<Value<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    Int(u32),
    Long(u64),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    /// Bytes, data sets, templates.
    Other,
}

impl<'a> Payload<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Payload<'a>, Malformed> {
        let mut payload = Payload::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, Wire::Varint(timestamp)) => payload.timestamp = Some(timestamp),
                (2, Wire::Bytes(metric)) => payload.metrics.push(Metric::read(metric)?),
                (3, Wire::Varint(seq)) => payload.seq = Some(u8::try_from(seq).map_err(|_| Malformed)?),
                (1..=3, _) => return Err(Malformed),
                _ => {}
            }
        }
        Ok(payload)
    }

    /// The number that a node's birth and its death share.
    pub fn bd_seq(&self) -> Option<u64> {
        let metric = self.metrics.iter().find(|metric| metric.name == Some("bdSeq"))?;
        match metric.value {
            Some(Value::Long(number)) => Some(number),
            Some(Value::Int(number)) => Some(u64::from(number)),
            _ => None,
        }
    }
}

impl<'a> Metric<'a> {
    fn read(bytes: &'a [u8]) -> Result<Metric<'a>, Malformed> {
        let mut metric = Metric::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, Wire::Bytes(name)) => metric.name = Some(text(name)?),
                (2, Wire::Varint(alias)) => metric.alias = Some(alias),
                (4, Wire::Varint(datatype)) => metric.datatype = Some(datatype),
                (5, Wire::Varint(flag)) => metric.is_historical = flag != 0,
                (7, Wire::Varint(flag)) => metric.is_null = flag != 0,
                (9, Wire::Bytes(properties)) => {
                    metric.is_doubtful = quality(properties)?.is_some_and(|q| q != QUALITY_GOOD)
                }
                // Of several the last counts.
                (10, Wire::Varint(number)) => metric.value = Some(Value::Int(number as u32)),
                (11, Wire::Varint(number)) => metric.value = Some(Value::Long(number)),
                (12, Wire::Fixed32(bits)) => metric.value = Some(Value::Float(f64::from(f32::from_bits(bits)))),
                (13, Wire::Fixed64(bits)) => metric.value = Some(Value::Float(f64::from_bits(bits))),
                (14, Wire::Varint(flag)) => metric.value = Some(Value::Bool(flag != 0)),
                (15, Wire::Bytes(bytes)) => metric.value = Some(Value::Text(text(bytes)?)),
                (16..=19, Wire::Bytes(_)) => metric.value = Some(Value::Other),
                (1 | 2 | 4 | 5 | 7 | 9..=19, _) => return Err(Malformed),
                _ => {}
            }
        }
        Ok(metric)
    }

    /// What it says, as a value of `datatype`, which its birth told if the message does not.
    pub(super) fn raw(&self, datatype: Option<u64>) -> Raw<'a> {
        let value = match self.value {
            _ if self.is_null || self.is_doubtful => return Raw::Null,
            Some(value) => value,
            None => return Raw::Null,
        };
        match (self.datatype.or(datatype), value) {
            // Whole numbers travel without a sign; some senders extend it to 32 bits, others do not.
            (Some(1), Value::Int(number)) => Raw::Number(f64::from(number as u8 as i8)),
            (Some(2), Value::Int(number)) => Raw::Number(f64::from(number as u16 as i16)),
            (Some(3), Value::Int(number)) => Raw::Number(f64::from(number as i32)),
            (Some(4), Value::Long(number)) => Raw::Number(number as i64 as f64),
            // Milliseconds since 1970.
            (Some(13), Value::Long(number)) => Raw::Time(number as f64 / 1e3),
            (_, Value::Int(number)) => Raw::Number(f64::from(number)),
            (_, Value::Long(number)) => Raw::Number(number as f64),
            (_, Value::Float(number)) => Raw::Number(number),
            (_, Value::Bool(flag)) => Raw::Number(f64::from(u8::from(flag))),
            (_, Value::Text(text)) => Raw::Text(text),
            (_, Value::Other) => Raw::Other,
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// The property `Quality` of a metric's properties: keys and values stand in two lists of one order.
fn quality(properties: &[u8]) -> Result<Option<u64>, Malformed> {
    let (mut n_keys, mut place) = (0, None);
    for field in Fields::of(properties) {
        if let (1, Wire::Bytes(key)) = field? {
            if key == b"Quality" {
                place = Some(n_keys);
            }
            n_keys += 1;
        }
    }
    let Some(place) = place else { return Ok(None) };
    // All of it was read above, so no error is left.
    let mut values = Fields::of(properties).flatten().filter_map(|field| match field {
        (2, Wire::Bytes(value)) => Some(value),
        _ => None,
    });
    let Some(value) = values.nth(place) else { return Ok(None) };
    let mut quality = None;
    for field in Fields::of(value) {
        if let (3 | 4, Wire::Varint(number)) = field? {
            quality = Some(number);
        }
    }
    Ok(quality)
}

/// The payload of a command that asks a node to send its births again. `timestamp` in milliseconds since 1970.
pub fn rebirth(timestamp: u64) -> Vec<u8> {
    const BOOLEAN: u64 = 11;
    let metric = Writer::default()
        .bytes(1, b"Node Control/Rebirth")
        .varint(3, timestamp)
        .varint(4, BOOLEAN)
        .varint(14, 1)
        .finish();
    Writer::default().varint(1, timestamp).bytes(2, &metric).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(datatype: u64, value: impl FnOnce(&mut Writer)) -> Raw<'static> {
        let mut writer = Writer::default();
        writer.varint(4, datatype);
        value(&mut writer);
        let bytes = Box::leak(writer.finish().into_boxed_slice());
        Metric::read(bytes).unwrap().raw(None)
    }

    /// Sparkplug specification 3.0, "Data Types" and "Payload Component Definitions".
    #[test]
    fn values_are_read_by_their_datatypes() {
        let minus_one = u64::from(u32::MAX);
        assert_eq!(metric(1, |w| _ = w.varint(10, minus_one)), Raw::Number(-1.0));
        assert_eq!(metric(1, |w| _ = w.varint(10, 0xff)), Raw::Number(-1.0), "without the extended sign");
        assert_eq!(metric(2, |w| _ = w.varint(10, 0xfffe)), Raw::Number(-2.0));
        assert_eq!(metric(3, |w| _ = w.varint(10, minus_one - 4)), Raw::Number(-5.0));
        assert_eq!(metric(4, |w| _ = w.varint(11, (-6_i64) as u64)), Raw::Number(-6.0));
        assert_eq!(metric(5, |w| _ = w.varint(10, 0xff)), Raw::Number(255.0));
        assert_eq!(metric(7, |w| _ = w.varint(10, minus_one)), Raw::Number(4_294_967_295.0));
        assert_eq!(metric(7, |w| _ = w.varint(11, minus_one)), Raw::Number(4_294_967_295.0));
        assert_eq!(metric(8, |w| _ = w.varint(11, 1 << 53)), Raw::Number(9_007_199_254_740_992.0));
        assert_eq!(metric(9, |w| _ = w.fixed32(12, 1.5_f32.to_bits())), Raw::Number(1.5));
        assert_eq!(metric(10, |w| _ = w.fixed64(13, 2.5_f64.to_bits())), Raw::Number(2.5));
        assert_eq!(metric(11, |w| _ = w.varint(14, 1)), Raw::Number(1.0));
        assert_eq!(metric(12, |w| _ = w.bytes(15, "một".as_bytes())), Raw::Text("một"));
        assert_eq!(metric(13, |w| _ = w.varint(11, 1_764_061_200_500)), Raw::Time(1_764_061_200.5));
        assert_eq!(metric(16, |w| _ = w.bytes(17, b"\x08\x01")), Raw::Other);
        assert_eq!(metric(9, |w| _ = w.varint(7, 1)), Raw::Null);
        assert_eq!(metric(9, |w| _ = w), Raw::Null, "a value that is not there");
    }

    #[test]
    fn a_value_of_bad_quality_is_not_known() {
        let value = |code: u64| Writer::default().varint(1, 3).varint(3, code).finish();
        let text = Writer::default().varint(1, 12).bytes(8, b"C").finish();
        let with = |code: u64| {
            let properties = Writer::default()
                .bytes(1, b"engUnit")
                .bytes(1, b"Quality")
                .bytes(2, &text)
                .bytes(2, &value(code))
                .finish();
            Writer::default().varint(4, 3).bytes(9, &properties).varint(10, 7).finish()
        };
        for (code, expected) in [(192, Raw::Number(7.0)), (0, Raw::Null), (500, Raw::Null)] {
            assert_eq!(Metric::read(&with(code)).unwrap().raw(None), expected, "{code}");
        }
    }

    #[test]
    fn payloads_that_cannot_be_are_malformed() {
        let text = Writer::default().bytes(2, &Writer::default().bytes(1, b"\xff").finish()).finish();
        let seq = Writer::default().varint(3, 256).finish();
        let wrong_wire = Writer::default().varint(2, 5).finish();
        let cut_off = Writer::default().bytes(2, b"\x08").finish();
        for payload in [&text, &seq, &wrong_wire, &cut_off, &b"{\"fps\":1}".to_vec()] {
            assert_eq!(Payload::read(payload), Err(Malformed), "{payload:x?}");
        }
        assert_eq!(Payload::read(b""), Ok(Payload::default()));
    }
}
