//! JSON objects as JOSE wants them: no duplicate names at any depth (RFC 7515 §4, RFC 7519 §4).

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Nesting beyond this is refused; our own tokens have depth 2.
const MAX_DEPTH: u8 = 8;

/// Parses one JSON object without duplicate names; `None` for anything else, and for one with more
/// than `most` values in it at all depths together, at the first beyond them.
pub(super) fn parse_object(bytes: &[u8], most: usize) -> Option<Map<String, Value>> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let unique = Unique {
        depth: 0,
        room: &Cell::new(most),
    };
    let value = unique.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    match value {
        Value::Object(members) => Some(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    }
}

#[derive(Clone, Copy)]
struct Unique<'a> {
    depth: u8,
    /// How many more values there may be inside.
    room: &'a Cell<usize>,
}

impl Unique<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self {
            depth: self.depth + 1,
            room: self.room,
        })
    }

    fn take_room<E: Error>(self) -> Result<(), E> {
        let left = self.room.get().checked_sub(1);
        self.room
            .set(left.ok_or_else(|| E::custom("too many values"))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate names")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            inner.take_room()?;
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            inner.take_room()?;
            let value = access.next_value_seed(inner)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate name"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_plain_objects() {
        let members = parse_object(br#"{"a":1,"b":{"c":[true,null,"x",-2,1.5]}}"#, 8).unwrap();
        assert_eq!(members["a"], 1);
        assert_eq!(
            members["b"]["c"],
            serde_json::json!([true, null, "x", -2, 1.5])
        );
    }

    #[test]
    fn counts_values_at_every_depth() {
        for (values, text) in [
            (0, "{}"),
            (2, r#"{"a":1,"b":2}"#),
            (3, r#"{"a":[1,2]}"#),
            (4, r#"{"a":{"b":{"c":[]}},"d":null}"#),
        ] {
            assert!(parse_object(text.as_bytes(), values).is_some(), "{text}");
            let fewer = values.checked_sub(1);
            assert!(
                fewer.is_none_or(|most| parse_object(text.as_bytes(), most).is_none()),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_not_one_strict_object() {
        for bad in [
            &br#"{"a":1,"a":1}"#[..],
            br#"{"a":1,"\u0061":1}"#,
            br#"{"o":{"a":1,"a":2}}"#,
            br#"[{"a":1,"a":2}]"#,
            br#"{"a":1} x"#,
            br#"{"a":1}{"#,
            br#""text""#,
            b"[]",
            b"null",
            b"",
            b"{\"a\":\"\xff\"}",
            br#"{"a":[[[[[[[[[1]]]]]]]]]}"#,
        ] {
            assert!(
                parse_object(bad, 100).is_none(),
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
    }
}
