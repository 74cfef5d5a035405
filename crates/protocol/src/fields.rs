//! Typed fields beside a JSON object's order and its unknown keys.
//!
//! A struct per wire object is pleasant to work with and loses two things that others rely on: keys that it does not
//! know, and the order (and presence) of those that it does. [`Fields`] takes an object apart into typed fields and
//! says what it could not type; [`KeyOrder`] puts it together again.
//!
//! A field of a harmless kind whose value has an unexpected type stays among the unknown keys and is written back as it
//! came; it is an error only where misreading it would change what the task does.

use serde_json::{Number, Value};

use crate::{DecodeError, Map};

/// The order and presence of an object's keys as received; the default is the order in which Celery writes them.
///
/// Opaque: comes from parsing, travels with the object, and is used when it is written again. Fields that were set since
/// are written after those that were there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyOrder(Option<Vec<String>>);

/// How Celery writes an object: the known keys before and after any further ones.
pub(crate) struct Layout {
    pub(crate) head: &'static [&'static str],
    pub(crate) tail: &'static [&'static str],
}

impl Layout {
    fn knows(&self, key: &str) -> bool {
        self.head.contains(&key) || self.tail.contains(&key)
    }

    /// Whether `map` has all known keys, and in this order.
    fn fits(&self, map: &Map) -> bool {
        let known = self.head.len() + self.tail.len();
        map.len() >= known
            && map.keys().take(self.head.len()).eq(self.head.iter())
            && map
                .keys()
                .skip(map.len() - self.tail.len())
                .eq(self.tail.iter())
    }
}

impl KeyOrder {
    /// Puts an object together: `known` holds every typed field, `extra` the rest.
    pub(crate) fn arrange(&self, layout: &Layout, mut known: Map, extra: &Map) -> Map {
        // A misfit kept in `extra` speaks for its typed field as long as that is empty.
        for (key, value) in &extra.clone() {
            if known.get(key).is_some_and(is_blank) {
                known.insert(key.clone(), value.clone());
            }
        }
        let mut map = Map::new();
        match &self.0 {
            Some(keys) => {
                for key in keys {
                    if let Some(value) = known
                        .get_mut(key)
                        .map(Value::take)
                        .or_else(|| extra.get(key).cloned())
                    {
                        map.insert(key.clone(), value);
                    }
                }
                let set_since = known
                    .into_iter()
                    .filter(|(key, value)| !map.contains_key(key) && !is_blank(value));
                for (key, value) in set_since.collect::<Vec<_>>() {
                    map.insert(key, value);
                }
                add_missing(&mut map, extra);
            }
            None => {
                for key in layout.head {
                    move_key(key, &mut known, &mut map);
                }
                for (key, value) in extra.iter().filter(|(key, _)| !layout.knows(key)) {
                    map.insert(key.clone(), value.clone());
                }
                for key in layout.tail {
                    move_key(key, &mut known, &mut map);
                }
            }
        }
        map
    }
}

fn move_key(key: &str, from: &mut Map, to: &mut Map) {
    if let Some(value) = from.get_mut(key).map(Value::take) {
        to.insert(key.to_owned(), value);
    }
}

fn add_missing(map: &mut Map, extra: &Map) {
    for (key, value) in extra {
        if !map.contains_key(key) {
            map.insert(key.clone(), value.clone());
        }
    }
}

/// What a typed field writes when nothing was said: such a field is not added to an object that came without it.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(Value::is_null),
        Value::Object(map) => map.is_empty(),
    }
}

/// Takes an object apart; every key not taken stays unknown.
pub(crate) struct Fields {
    object: &'static str,
    map: Map,
    taken: Vec<&'static str>,
}

impl Fields {
    /// `object` names the object in errors.
    pub(crate) fn new(object: &'static str, map: Map) -> Self {
        Self {
            object,
            map,
            taken: Vec::with_capacity(20),
        }
    }

    /// As [`Fields::new`], from any value.
    pub(crate) fn from_value(
        object: &'static str,
        field: &'static str,
        value: Value,
    ) -> Result<Self, DecodeError> {
        Map::from_json(value)
            .map(|map| Self::new(object, map))
            .map_err(|value| wrong_kind(object, field, Map::EXPECTED, Some(&value)))
    }

    /// The field, or `None` when it is null or missing.
    pub(crate) fn optional<T: FromJson>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        let Some(slot) = self.map.get_mut(key) else {
            return Ok(None);
        };
        if slot.is_null() {
            self.taken.push(key);
            return Ok(None);
        }
        match T::from_json(slot.take()) {
            Ok(field) => {
                self.taken.push(key);
                Ok(Some(field))
            }
            Err(value) => Err(wrong_kind(self.object, key, T::EXPECTED, Some(&value))),
        }
    }

    /// The field, which must be there.
    pub(crate) fn required<T: FromJson>(&mut self, key: &'static str) -> Result<T, DecodeError> {
        self.optional(key)?
            .ok_or_else(|| wrong_kind(self.object, key, T::EXPECTED, self.map.get(key)))
    }

    /// The field if it has the expected type; otherwise it stays among the unknown keys.
    pub(crate) fn lenient<T: FromJson>(&mut self, key: &'static str) -> Option<T> {
        let slot = self.map.get_mut(key)?;
        if slot.is_null() {
            self.taken.push(key);
            return None;
        }
        match T::from_json(slot.take()) {
            Ok(field) => {
                self.taken.push(key);
                Some(field)
            }
            Err(value) => {
                *slot = value;
                None
            }
        }
    }

    /// The unknown keys, and the order of all.
    pub(crate) fn finish(self, layout: &Layout) -> (Map, KeyOrder) {
        let order = KeyOrder((!layout.fits(&self.map)).then(|| self.map.keys().cloned().collect()));
        let taken = self.taken;
        let extra = self
            .map
            .into_iter()
            .filter(|(key, _)| !taken.contains(&key.as_str()))
            .collect();
        (extra, order)
    }
}

/// The error of a field with an unexpected value; `None` when there is none.
pub(crate) fn wrong_kind(
    object: &'static str,
    field: &'static str,
    expected: &'static str,
    found: Option<&Value>,
) -> DecodeError {
    DecodeError::Field {
        object,
        field,
        expected,
        found: kind(found),
    }
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

/// A Rust type that a JSON value can become; the value comes back if it cannot.
pub(crate) trait FromJson: Sized {
    /// What to call it in an error.
    const EXPECTED: &'static str;

    fn from_json(value: Value) -> Result<Self, Value>;
}

macro_rules! from_json {
    ($type:ty, $expected:literal, $pattern:pat => $field:expr) => {
        impl FromJson for $type {
            const EXPECTED: &'static str = $expected;

            fn from_json(value: Value) -> Result<Self, Value> {
                match value {
                    $pattern => Ok($field),
                    other => Err(other),
                }
            }
        }
    };
}

from_json!(String, "a string", Value::String(text) => text);
from_json!(bool, "a boolean", Value::Bool(flag) => flag);
from_json!(Number, "a number", Value::Number(number) => number);
from_json!(Vec<Value>, "a list", Value::Array(items) => items);
from_json!(Map, "an object", Value::Object(map) => map);

impl FromJson for Value {
    const EXPECTED: &'static str = "any value";

    fn from_json(value: Value) -> Result<Self, Value> {
        Ok(value)
    }
}

impl FromJson for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn from_json(value: Value) -> Result<Self, Value> {
        value.as_i64().ok_or(value)
    }
}

impl FromJson for u64 {
    const EXPECTED: &'static str = "a whole number, not negative";

    fn from_json(value: Value) -> Result<Self, Value> {
        value.as_u64().ok_or(value)
    }
}

impl FromJson for Vec<String> {
    const EXPECTED: &'static str = "a list of strings";

    fn from_json(value: Value) -> Result<Self, Value> {
        let Value::Array(items) = &value else {
            return Err(value);
        };
        let texts: Option<Self> = items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect();
        texts.ok_or(value)
    }
}
