//! The order of an object's keys: what a struct per wire object would lose.
//!
//! Duties: know how Celery orders an object ([`Layout`]), remember where one came in another order or with keys missing
//! ([`KeyOrder`]), and put typed fields and unknown keys together again. Guarantee M4: an object that was not changed is
//! written as it was received.

use serde_json::Value;

use crate::Map;

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

/// How Celery writes an object: the known keys in their order, some of them after any further ones.
#[derive(Debug)]
pub(crate) struct Layout {
    /// What the object is called in errors.
    pub(crate) object: &'static str,
    pub(crate) keys: &'static [&'static str],
    /// How many of the last of them come after any further ones.
    pub(crate) tail: usize,
    /// Those of the above that are left out where there is nothing to say.
    pub(crate) optional: &'static [&'static str],
    /// Those of the above that are objects with a layout.
    pub(crate) inside: &'static [(&'static str, &'static Self)],
}

impl Layout {
    /// An object with no known keys, to begin with.
    pub(crate) const fn named(object: &'static str) -> Self {
        Self {
            object,
            keys: &[],
            tail: 0,
            optional: &[],
            inside: &[],
        }
    }

    /// How many come before any further ones.
    pub(crate) fn head_len(&self) -> usize {
        self.keys.len().saturating_sub(self.tail)
    }

    /// The known key of this place.
    pub(crate) fn name(&self, place: usize) -> Option<&'static str> {
        self.keys.get(place).copied()
    }

    /// The place of a key, if it is known; most come one after the other, so it is looked for at `likely` first.
    #[inline]
    pub(crate) fn place(&self, key: &str, likely: usize) -> Option<usize> {
        // Most are even the same literal.
        let is_it = |name: &str| std::ptr::eq(name, key) || name == key;
        if self.name(likely).is_some_and(is_it) {
            return Some(likely);
        }
        self.keys.iter().position(|name| *name == key)
    }

    /// The layout of the object at this place, if it is to be one.
    pub(crate) fn inside(&self, place: usize) -> Option<&'static Self> {
        if self.inside.is_empty() {
            return None;
        }
        let name = self.name(place)?;
        let mut inside = self.inside.iter();
        inside.find_map(|(inner, layout)| (*inner == name).then_some(*layout))
    }

    /// Whether a known key is written that has a null, or has not.
    pub(crate) fn writes(&self, key: &str, is_null: bool) -> bool {
        !is_null || !self.optional.contains(&key)
    }

    fn is_in_tail(&self, key: &str) -> bool {
        let tail = self.keys.get(self.head_len()..).unwrap_or_default();
        tail.contains(&key)
    }

    fn knows(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }
}

impl KeyOrder {
    /// The order of an object that came in another one than Celery's.
    pub(crate) fn received(keys: Vec<String>) -> Self {
        Self {
            keys: Some(keys),
            nulls: Vec::new(),
        }
    }

    /// Remembers that a field was null which is written in another way when empty.
    pub(crate) fn remember_null(&mut self, key: &'static str) {
        self.nulls.push(key);
    }

    /// Whether [`Self::arrange`] gives what Celery writes: the known keys, and between them what is `extra`.
    pub(crate) fn is_celerys(&self, layout: &Layout, extra: &Map) -> bool {
        *self == Self::default() && !extra.keys().any(|key| layout.knows(key))
    }

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
    let (mut tail, mut map): (Map, Map) = known
        .into_iter()
        .filter(|(key, value)| layout.writes(key, value.is_null()))
        .partition(|(key, _)| layout.is_in_tail(key));
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fields::Fields;

    const LAYOUT: Layout = Layout {
        object: "thing",
        keys: &["a", "b", "maybe", "list", "z"],
        tail: 1,
        optional: &["maybe"],
        inside: &[],
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
}
