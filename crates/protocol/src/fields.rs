//! Typed fields of a JSON object, beside the keys that are not known.
//!
//! [`Fields`] takes an object apart into typed fields; what it does not know stays, and [`KeyOrder`] puts all of it
//! together again when the object is written.
//!
//! A field of a harmless kind whose value has an unexpected type stays among the unknown keys and is written back as it
//! came; it is an error only where misreading it would change what the task does.

use serde_json::{Number, Value};

use crate::{
    DecodeError, Map,
    key_order::{KeyOrder, Layout},
    special,
};

/// Takes an object apart; every key not taken stays unknown.
pub(crate) struct Fields {
    object: &'static str,
    map: Map,
    order: KeyOrder,
    taken: Vec<&'static str>,
}

impl Fields {
    pub(crate) fn new(layout: &Layout, map: Map) -> Self {
        let order = KeyOrder::of(layout, &map);
        Self {
            object: layout.object,
            map,
            order,
            taken: Vec::with_capacity(20),
        }
    }

    /// As [`Fields::new`], from any value.
    pub(crate) fn from_value(layout: &Layout, value: Value) -> Result<Self, DecodeError> {
        Map::from_json(value)
            .map(|map| Self::new(layout, map))
            .map_err(|value| DecodeError::NotAnObject {
                what: layout.object,
                found: kind(Some(&value)),
            })
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

    /// The field, or its empty value when it is null or missing.
    pub(crate) fn or_default<T: FromJson + Default>(
        &mut self,
        key: &'static str,
    ) -> Result<T, DecodeError> {
        let field = self.optional(key)?;
        if field.is_none() && self.map.contains_key(key) {
            self.order.remember_null(key);
        }
        Ok(field.unwrap_or_default())
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

    /// As [`Fields::optional`]; what counts as false in Python (0, an empty list) is none, and stays among the unknown keys.
    pub(crate) fn unless_falsy<T: FromJson>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        if self.is_falsy(key) {
            return Ok(None);
        }
        self.optional(key)
    }

    /// Whether the field has a value other than null that counts as false in Python.
    pub(crate) fn is_falsy(&self, key: &str) -> bool {
        match self.map.get(key) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => !flag,
            Some(Value::Number(number)) => number.as_f64() == Some(0.0),
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
        }
    }

    /// The unknown keys, and the order of all.
    pub(crate) fn finish(self) -> (Map, KeyOrder) {
        let Self {
            map, order, taken, ..
        } = self;
        (
            map.into_iter()
                .filter(|(key, _)| !taken.contains(&key.as_str()))
                .collect(),
            order,
        )
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
        Some(Value::Object(map)) => match special::token_of_map(map) {
            None => "an object",
            Some(token) if token.starts_with('"') => "a string with half a surrogate pair",
            Some(_) => "a number",
        },
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LAYOUT: Layout = Layout::unordered("thing");

    #[test]
    fn a_strict_field_of_another_type_is_an_error_that_names_it() {
        let mut fields = Fields::from_value(&LAYOUT, json!({"a": 5})).unwrap();
        let err = fields.optional::<String>("a").unwrap_err();
        assert_eq!(err.to_string(), "thing.a is a number, expected a string");
        let err = fields.required::<i64>("b").unwrap_err();
        assert_eq!(
            err.to_string(),
            "thing.b is missing, expected a whole number"
        );
        let err = Fields::from_value(&LAYOUT, json!([])).err().unwrap();
        assert_eq!(err.to_string(), "the thing is a list, expected an object");
    }
}
