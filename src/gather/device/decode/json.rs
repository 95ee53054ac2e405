//! JSON objects: streamed where keys suffice, as a tree where pointers or counts are wanted.

use super::{Malformed, Plan, Raw, Readings};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

impl Plan {
    pub(super) fn read(&self, payload: &[u8], readings: &mut Readings) -> Result<(), Malformed> {
        if self.needs_tree {
            let tree: serde_json::Value = serde_json::from_slice(payload).map_err(|_| Malformed)?;
            return self.read_tree(&tree, readings);
        }
        let mut json = serde_json::Deserializer::from_slice(payload);
        json.deserialize_map(ObjectVisitor { plan: self, readings }).map_err(|_| Malformed)?;
        json.end().map_err(|_| Malformed)
    }

    pub(super) fn read_tree(&self, tree: &serde_json::Value, readings: &mut Readings) -> Result<(), Malformed> {
        let object = tree.as_object().ok_or(Malformed)?;
        for slot in &self.fields {
            let found = if slot.key.starts_with('/') { tree.pointer(&slot.key) } else { object.get(&*slot.key) };
            let Some(found) = found else { continue };
            let raw = match found {
                serde_json::Value::Null => Raw::Null,
                serde_json::Value::Bool(flag) => Raw::Number(f64::from(u8::from(*flag))),
                serde_json::Value::Number(number) => number.as_f64().map_or(Raw::Other, Raw::Number),
                serde_json::Value::String(text) => Raw::Text(text),
                serde_json::Value::Array(elements) => Raw::Elements(elements.len()),
                serde_json::Value::Object(elements) => Raw::Elements(elements.len()),
            };
            slot.take(raw, readings);
        }
        Ok(())
    }

    /// Of a key that the field at `first` wants, and perhaps others.
    pub(super) fn take(&self, first: usize, raw: Raw<'_>, readings: &mut Readings) {
        let key = &self.fields[first].key;
        // One key may feed several metrics.
        for slot in self.fields[first..].iter().filter(|slot| slot.key == *key) {
            slot.take(raw, readings);
        }
    }
}

struct ObjectVisitor<'a> {
    plan: &'a Plan,
    readings: &'a mut Readings,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(first) = map.next_key_seed(KeySeed(self.plan))? {
            let Some(first) = first else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            map.next_value_seed(ValueSeed { plan: self.plan, readings: self.readings, first })?;
        }
        Ok(())
    }
}

/// A key, as the place of the first field that wants it.
struct KeySeed<'a>(&'a Plan);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Option<usize>, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        // A handful of fields: comparing beats hashing.
        Ok(self.0.fields.iter().position(|slot| &*slot.key == key))
    }
}

/// The value of a key that the field at `first` wants.
struct ValueSeed<'a> {
    plan: &'a Plan,
    readings: &'a mut Readings,
    first: usize,
}

impl ValueSeed<'_> {
    fn take<E>(self, raw: Raw<'_>) -> Result<(), E> {
        self.plan.take(self.first, raw, self.readings);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.take(Raw::Number(f64::from(u8::from(flag))))
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.take(Raw::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.take(Raw::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.take(Raw::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.take(Raw::Text(text))
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.take(Raw::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.take(Raw::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.take(Raw::Other)
    }
}
