//! Typed fields of a JSON object, beside the keys that are not known.
//!
//! [`Fields`] takes an object apart into typed fields; what it does not know stays, and [`KeyOrder`] puts all of it
//! together again when the object is written. An object comes here straight from its JSON (`json_reader`) or from a map,
//! and is the same then.
//!
//! A field of a harmless kind whose value has an unexpected type stays among the unknown keys and is written back as it
//! came; it is an error only where misreading it would change what the task does.

use serde_json::Value;

use crate::{
    DecodeError, Map,
    key_order::{KeyOrder, Layout},
    node::{FromNode, Node, kind, wrong_kind},
};

/// An object's known fields, to be taken, and its unknown ones.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    layout: &'static Layout,
    /// Those that the layout knows, as they came.
    known: Vec<Known<'a>>,
    /// All others, as they came.
    extra: Map,
    order: KeyOrder,
    /// Whether all so far came in the order of the layout.
    is_in_order: bool,
    /// Where in the layout the next one most likely is, as they come and as they are taken.
    next: usize,
}

#[derive(Debug)]
struct Known<'a> {
    /// Where it stands in the layout.
    place: usize,
    /// How many unknown ones came before it.
    extra_before: usize,
    /// `None` when it was taken.
    value: Option<Node<'a>>,
}

impl<'a> Fields<'a> {
    /// An object's fields.
    pub(crate) fn new(layout: &'static Layout, map: Map) -> Box<Self> {
        let mut fields = Self::empty(layout);
        for (key, value) in map {
            match layout.place(&key, fields.next) {
                Some(place) => {
                    let node = match layout.inside(place) {
                        Some(inside) => Node::of(inside, value),
                        None => Node::from(value),
                    };
                    fields.put_known(place, node);
                }
                None => fields.put_extra(key, value),
            }
        }
        fields.complete();
        fields
    }

    /// As [`Fields::new`], from any value.
    pub(crate) fn from_value(
        layout: &'static Layout,
        value: Value,
    ) -> Result<Box<Self>, DecodeError> {
        match value {
            Value::Object(map) => Ok(Self::new(layout, map)),
            other => Err(DecodeError::NotAnObject {
                what: layout.object,
                found: kind(&other),
            }),
        }
    }

    /// To be filled and completed; in a box, since it is passed on often.
    pub(crate) fn empty(layout: &'static Layout) -> Box<Self> {
        Box::new(Self {
            layout,
            known: Vec::with_capacity(layout.keys.len()),
            extra: Map::new(),
            order: KeyOrder::default(),
            is_in_order: true,
            next: 0,
        })
    }

    /// The place in the layout that the next field has most likely.
    pub(crate) fn likely_place(&self) -> usize {
        self.next
    }

    /// Puts the field of this place; as in Python, the last of those with the same key counts.
    pub(crate) fn put_known(&mut self, place: usize, value: Node<'a>) {
        if place < self.next {
            if let Some(known) = self.known.iter_mut().find(|known| known.place == place) {
                known.value = Some(value);
                return;
            }
            self.is_in_order = false;
        }
        let is_in_tail = place >= self.layout.head_len();
        self.is_in_order &= self.extra.is_empty() || is_in_tail;
        self.next = self.next.max(place + 1);
        self.known.push(Known {
            place,
            extra_before: self.extra.len(),
            value: Some(value),
        });
    }

    /// Puts an unknown one.
    pub(crate) fn put_extra(&mut self, key: String, value: Value) {
        let is_new = self.extra.insert(key, value).is_none();
        // They stand before the tail.
        let is_before_tail = self.next <= self.layout.head_len();
        self.is_in_order &= !is_new || is_before_tail;
    }

    /// All were put.
    pub(crate) fn complete(&mut self) {
        if !self.is_as_celery_writes() {
            let known = self.known.iter();
            let name = |place| self.layout.name(place).unwrap_or_default();
            let known = known.map(|known| (known.extra_before, name(known.place).to_owned()));
            let keys = merged(known, self.extra.keys().cloned());
            self.order = KeyOrder::received(keys);
        }
        self.next = 0;
    }

    /// Whether it would be written with the same keys in the same order.
    fn is_as_celery_writes(&self) -> bool {
        let mut missing = self.layout.keys.len() - self.known.len();
        for name in self.layout.optional {
            match self.position(name) {
                None => missing -= 1,
                Some(at) if self.is_null(at) => return false,
                Some(_) => {}
            }
        }
        self.is_in_order && missing == 0
    }

    /// Where a field is.
    #[inline]
    fn position(&self, key: &str) -> Option<usize> {
        let place = self.layout.place(key, self.next)?;
        self.position_of(place)
    }

    #[inline]
    fn position_of(&self, place: usize) -> Option<usize> {
        // Most objects have all fields that they can have.
        match self.known.get(place) {
            Some(known) if known.place == place => Some(place),
            _ => self.known.iter().position(|known| known.place == place),
        }
    }

    fn is_null(&self, at: usize) -> bool {
        let value = self.known.get(at).and_then(|known| known.value.as_ref());
        value.is_some_and(Node::is_null)
    }

    /// Whether there are no fields.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.extra.is_empty()
    }

    /// Whether there is such a field, of whatever value, taken or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.position(key).is_some() || self.extra.contains_key(key)
    }

    /// An unknown field.
    pub(crate) fn extra(&self, key: &str) -> Option<&Value> {
        self.extra.get(key)
    }

    /// Takes a field's value; null is taken as well and is none.
    #[inline]
    fn take(&mut self, key: &str) -> Option<(&mut Option<Node<'a>>, Node<'a>)> {
        let place = self.layout.place(key, self.next)?;
        self.next = place + 1;
        let at = self.position_of(place)?;
        let slot = &mut self.known.get_mut(at)?.value;
        let node = slot.take().filter(|node| !node.is_null())?;
        Some((slot, node))
    }

    /// The field, or `None` when it is null or missing.
    pub(crate) fn optional<T: FromNode<'a>>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        let object = self.layout.object;
        let Some((_, node)) = self.take(key) else {
            return Ok(None);
        };
        T::from_node(node)
            .map(Some)
            .map_err(|node| wrong_kind(object, key, T::EXPECTED, node.kind()))
    }

    /// The field, which must be there.
    pub(crate) fn required<T: FromNode<'a>>(
        &mut self,
        key: &'static str,
    ) -> Result<T, DecodeError> {
        self.optional(key)?.ok_or_else(|| {
            let found = if self.has(key) { "null" } else { "missing" };
            wrong_kind(self.layout.object, key, T::EXPECTED, found)
        })
    }

    /// The field, or its empty value when it is null or missing.
    pub(crate) fn or_default<T: FromNode<'a> + Default>(
        &mut self,
        key: &'static str,
    ) -> Result<T, DecodeError> {
        self.optional(key).map(|field| {
            field.unwrap_or_else(|| {
                self.remember_null(key);
                T::default()
            })
        })
    }

    /// The fields of an object inside this one; none when it is null or missing.
    pub(crate) fn inside(
        &mut self,
        key: &'static str,
        layout: &'static Layout,
    ) -> Result<Box<Self>, DecodeError> {
        self.optional(key).map(|inside| {
            inside.unwrap_or_else(|| {
                self.remember_null(key);
                Fields::new(layout, Map::new())
            })
        })
    }

    fn remember_null(&mut self, key: &'static str) {
        if self.position(key).is_some() {
            self.order.remember_null(key);
        }
    }

    /// The field if it has the expected type; otherwise it stays among the unknown keys.
    #[inline]
    pub(crate) fn lenient<T: FromNode<'a>>(&mut self, key: &'static str) -> Option<T> {
        let (slot, node) = self.take(key)?;
        match T::from_node(node) {
            Ok(field) => Some(field),
            Err(node) => {
                *slot = Some(node);
                None
            }
        }
    }

    /// As [`Fields::optional`]; what counts as false in Python (0, an empty list) is none, and stays among the unknown keys.
    pub(crate) fn unless_falsy<T: FromNode<'a>>(
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
        let known = self.position(key).and_then(|at| self.known.get(at));
        let value = known.and_then(|known| known.value.as_ref());
        value.is_some_and(|value| !value.is_null() && value.is_falsy())
    }

    /// The unknown keys and what was not taken, and the order of all.
    pub(crate) fn finish(self) -> (Map, KeyOrder) {
        if self.known.iter().all(|known| known.value.is_none()) {
            return (self.extra, self.order);
        }
        let order = self.order.clone();
        (self.into_map(), order)
    }

    /// What was not taken, as a map.
    pub(crate) fn into_map(self) -> Map {
        let name = |place| self.layout.name(place).unwrap_or_default();
        let left = self.known.into_iter().filter_map(|known| {
            let value = known.value?.into_value();
            Some((known.extra_before, (name(known.place).to_owned(), value)))
        });
        merged(left, self.extra).into_iter().collect()
    }
}

/// Known and unknown ones in the order in which they came; the numbers say how many of the unknown came before.
fn merged<T>(
    known: impl Iterator<Item = (usize, T)>,
    extra: impl IntoIterator<Item = T>,
) -> Vec<T> {
    let mut extra = extra.into_iter();
    let mut all = Vec::with_capacity(known.size_hint().1.unwrap_or(0) + extra.size_hint().0);
    let mut passed = 0;
    for (before, item) in known {
        all.extend(extra.by_ref().take(before - passed));
        passed = before;
        all.push(item);
    }
    all.extend(extra);
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LAYOUT: Layout = Layout {
        keys: &["a", "b"],
        ..Layout::named("thing")
    };

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
