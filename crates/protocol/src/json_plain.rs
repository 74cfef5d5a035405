//! Reading JSON that has no more than serde_json knows: the fast way of [`crate::json`].
//!
//! Not serde_json's own reader of a `Value`: that takes an object with the key [`special::RAW_VALUE`] for a mark, and
//! reads the text that it holds in its place. A sender's data would become other data, and one text any number of values,
//! which no limit has counted.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Error, Value};

use crate::{Map, special};

/// Reads all of `bytes`. Their nesting has been looked at before: this goes as deep as they do.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // Its own limit is lower than that of Python's senders; ours holds.
    reader.disable_recursion_limit();
    let Plain(value) = Plain::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// A value as the text says it.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

macro_rules! scalars {
    ($($method:ident $type:ty => $make:expr;)*) => { $(
        fn $method<E>(self, value: $type) -> Result<Value, E> {
            Ok($make(value))
        }
    )* };
}

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    scalars! {
        visit_bool bool => Value::Bool;
        visit_i64 i64 => Value::from;
        visit_u64 u64 => Value::from;
        visit_f64 f64 => special::float;
        visit_str &str => Value::from;
        visit_string String => Value::String;
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Plain(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Plain(value))) = object.next_entry()? {
            map.insert(special::kept_key(key), value);
        }
        Ok(Value::Object(map))
    }
}
