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
pub struct KeyOrder {
    /// All keys, where the order is not Celery's own.
    keys: Option<Vec<String>>,
    /// Keys that were null though their fields have another empty value.
    nulls: Vec<&'static str>,
}

/// How Celery writes an object: the known keys before and after any further ones.
pub(crate) struct Layout {
    /// What the object is called in errors.
    pub(crate) object: &'static str,
    pub(crate) head: &'static [&'static str],
    pub(crate) tail: &'static [&'static str],
    /// Those of the above that are left out where there is nothing to say.
    pub(crate) optional: &'static [&'static str],
}

impl Layout {
    /// An object of which the order does not matter: every key is an unknown one.
    pub(crate) const fn unordered(object: &'static str) -> Self {
        Self {
            object,
            head: &[],
            tail: &[],
            optional: &[],
        }
    }

    fn knows(&self, key: &str) -> bool {
        self.head.contains(&key) || self.tail.contains(&key)
    }

    /// Whether `map` would be written with the same keys in the same order.
    fn fits(&self, map: &Map) -> bool {
        let expected = |keys: &'static [&'static str]| {
            keys.iter().filter(|key| {
                !self.optional.contains(key) || map.get(**key).is_some_and(|value| !value.is_null())
            })
        };
        let tail_start = map.len().saturating_sub(expected(self.tail).count());
        let head_end = expected(self.head).count();
        head_end <= tail_start
            && map.keys().take(head_end).eq(expected(self.head))
            && map.keys().skip(tail_start).eq(expected(self.tail))
            && !map
                .keys()
                .take(tail_start)
                .skip(head_end)
                .any(|key| self.knows(key))
    }
}

impl KeyOrder {
    /// Puts an object together: `known` holds every typed field, `extra` the rest.
    pub(crate) fn arrange(&self, layout: &Layout, mut known: Map, extra: &Map) -> Map {
        // A misfit kept in `extra` speaks for its typed field as long as that is empty.
        for (key, value) in extra {
            if let Some(field) = known.get_mut(key).filter(|field| is_blank(field)) {
                field.clone_from(value);
            }
        }
        for key in &self.nulls {
            if let Some(field) = known.get_mut(*key).filter(|field| is_blank(field)) {
                *field = Value::Null;
            }
        }
        match &self.keys {
            Some(keys) => arrange_as_received(keys, known, extra),
            None => arrange_as_celery(layout, known, extra),
        }
    }
}

fn arrange_as_received(keys: &[String], mut known: Map, extra: &Map) -> Map {
    let mut map = Map::with_capacity(known.len() + extra.len());
    for key in keys {
        let typed = known.get_mut(key).map(Value::take);
        if let Some(value) = typed.or_else(|| extra.get(key).cloned()) {
            map.insert(key.clone(), value);
        }
    }
    let set_since = known.into_iter().filter(|(_, value)| !is_blank(value));
    add_missing(&mut map, set_since);
    add_missing(&mut map, extra.clone());
    map
}

fn arrange_as_celery(layout: &Layout, known: Map, extra: &Map) -> Map {
    let said = |key: &str, value: &Value| !value.is_null() || !layout.optional.contains(&key);
    let (mut tail, mut map): (Map, Map) = known
        .into_iter()
        .filter(|(key, value)| said(key, value))
        .partition(|(key, _)| layout.tail.contains(&key.as_str()));
    add_missing(
        &mut map,
        extra
            .clone()
            .into_iter()
            .filter(|(key, _)| !layout.knows(key)),
    );
    map.append(&mut tail);
    map
}

fn add_missing(map: &mut Map, more: impl IntoIterator<Item = (String, Value)>) {
    for (key, value) in more {
        if !map.contains_key(&key) {
            map.insert(key, value);
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
    order: KeyOrder,
    taken: Vec<&'static str>,
}

impl Fields {
    pub(crate) fn new(layout: &Layout, map: Map) -> Self {
        let keys = (!layout.fits(&map)).then(|| map.keys().cloned().collect());
        let order = KeyOrder {
            keys,
            nulls: Vec::new(),
        };
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
            self.order.nulls.push(key);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LAYOUT: Layout = Layout {
        object: "thing",
        head: &["a", "b", "maybe", "list"],
        tail: &["z"],
        optional: &["maybe"],
    };

    /// Takes `a` strictly and the rest leniently, lets `change` happen, and puts it together again.
    fn written(received: Value, change: impl FnOnce(&mut Map)) -> String {
        let mut fields = Fields::from_value(&LAYOUT, received).unwrap();
        let mut known = Map::new();
        known.insert(
            "a".to_owned(),
            json!(fields.optional::<String>("a").unwrap()),
        );
        known.insert("b".to_owned(), json!(fields.lenient::<i64>("b")));
        known.insert("maybe".to_owned(), json!(fields.lenient::<bool>("maybe")));
        known.insert("z".to_owned(), json!(fields.lenient::<i64>("z")));
        let list = fields.or_default::<Vec<Value>>("list").unwrap();
        known.insert("list".to_owned(), Value::Array(list));
        let (extra, order) = fields.finish();
        change(&mut known);
        Value::Object(order.arrange(&LAYOUT, known, &extra)).to_string()
    }

    #[test]
    fn an_object_is_written_as_it_was_received() {
        for received in [
            json!({"a": "x", "b": 1, "list": [1], "z": 2}),
            json!({"a": "x", "b": 1, "maybe": true, "list": [], "new": [1], "z": 2}),
            json!({"a": "x", "b": 1, "maybe": null, "z": 2}),
            json!({"z": 2, "new": null, "a": "x"}),
            json!({"a": null, "b": null, "z": null, "late": {}}),
            json!({"b": "not a number", "a": "x"}),
            json!({"a": "x", "b": 1.5, "z": 2}),
            json!({"a": "x", "b": 1, "list": null, "z": 2}),
            json!({"a": "x", "b": 1, "maybe": null, "list": null, "z": 2}),
            json!({}),
        ] {
            assert_eq!(written(received.clone(), |_| ()), received.to_string());
        }
    }

    #[test]
    fn a_field_set_since_is_added_and_an_empty_one_is_not() {
        let set = |known: &mut Map| drop(known.insert("b".to_owned(), json!(7)));
        assert_eq!(written(json!({"a": "x"}), set), r#"{"a":"x","b":7}"#);
        assert_eq!(
            written(json!({"a": "x", "b": "misfit"}), set),
            r#"{"a":"x","b":7}"#
        );
        assert_eq!(written(json!({"z": 1}), |_| ()), r#"{"z":1}"#);
    }

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
