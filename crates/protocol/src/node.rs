//! The value of a field on its way from JSON into a type.
//!
//! Beside what a `Value` can be, it is a text that still lies in the bytes that were read, or an object that was read
//! as [`Fields`] at once: what ends as a type needs no map on its way.

use std::borrow::Cow;

use serde_json::{Number, Value};

use crate::{DecodeError, Map, fields::Fields, key_order::Layout, special};

/// A field's value.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Value>),
    /// An object of which the keys mean nothing here.
    Object(Box<Map>),
    /// An object that the layout around it knows.
    Fields(Box<Fields<'a>>),
}

impl From<Value> for Node<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::Text(Cow::Owned(text)),
            Value::Array(items) => Self::List(items),
            Value::Object(map) => Self::Object(Box::new(map)),
        }
    }
}

impl Node<'_> {
    /// A value that has a layout if it is an object.
    pub(crate) fn of(layout: &'static Layout, value: Value) -> Self {
        match value {
            Value::Object(map) => Self::Fields(Fields::new(layout, map)),
            other => Self::from(other),
        }
    }

    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Number(number) => Value::Number(number),
            Self::Text(text) => Value::String(text.into_owned()),
            Self::List(items) => Value::Array(items),
            Self::Object(map) => Value::Object(*map),
            Self::Fields(fields) => Value::Object(fields.into_map()),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it counts as false in Python.
    pub(crate) fn is_falsy(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(flag) => !flag,
            Self::Number(number) => number.as_f64() == Some(0.0),
            Self::Text(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Object(map) => map.is_empty(),
            Self::Fields(fields) => fields.is_empty(),
        }
    }

    /// What an error calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(map) => kind_of_map(map),
            Self::Fields(_) => "an object",
        }
    }
}

/// A body as it was read.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    /// Of protocol 2: `[args, kwargs, embed]`, the last with a layout.
    Call([Node<'a>; 3]),
    /// Any other.
    Other(Value),
}

impl<'a> Body<'a> {
    /// A list's items, of which the third has its layout.
    pub(crate) fn of_parts(parts: Vec<Node<'a>>) -> Self {
        match <[Node<'a>; 3]>::try_from(parts) {
            Ok(parts) => Self::Call(parts),
            Err(parts) => Self::Other(parts.into_iter().map(Node::into_value).collect()),
        }
    }

    /// A value that was read; `embed` is the layout of the third part.
    pub(crate) fn of(embed: &'static Layout, body: Value) -> Self {
        let Value::Array(items) = body else {
            return Self::Other(body);
        };
        let part = |(index, item)| match index {
            2 => Node::of(embed, item),
            _ => Node::from(item),
        };
        Self::of_parts(items.into_iter().enumerate().map(part).collect())
    }
}

/// As [`Node::kind`], of a plain value.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(map) => kind_of_map(map),
    }
}

fn kind_of_map(map: &Map) -> &'static str {
    match special::token_of_map(map) {
        None => "an object",
        Some(token) if token.starts_with('"') => "a string with half a surrogate pair",
        Some(_) => "a number",
    }
}

/// The error of a field with an unexpected value.
pub(crate) fn wrong_kind(
    object: &'static str,
    field: &'static str,
    expected: &'static str,
    found: &'static str,
) -> DecodeError {
    DecodeError::Field {
        object,
        field,
        expected,
        found,
    }
}

/// A Rust type that a field's value can become; the value comes back if it cannot.
pub(crate) trait FromNode<'a>: Sized {
    /// What to call it in an error.
    const EXPECTED: &'static str;

    fn from_node(node: Node<'a>) -> Result<Self, Node<'a>>;
}

macro_rules! from_node {
    ($type:ty, $expected:literal, $pattern:pat => $field:expr) => {
        impl<'a> FromNode<'a> for $type {
            const EXPECTED: &'static str = $expected;

            fn from_node(node: Node<'a>) -> Result<Self, Node<'a>> {
                match node {
                    $pattern => Ok($field),
                    other => Err(other),
                }
            }
        }
    };
}

from_node!(String, "a string", Node::Text(text) => text.into_owned());
from_node!(Cow<'a, str>, "a string", Node::Text(text) => text);
from_node!(bool, "a boolean", Node::Bool(flag) => flag);
from_node!(Vec<Value>, "a list", Node::List(items) => items);
from_node!(Map, "an object", Node::Object(map) => *map);
from_node!(Box<Fields<'a>>, "an object", Node::Fields(fields) => fields);

impl<'a> FromNode<'a> for Value {
    const EXPECTED: &'static str = "any value";

    fn from_node(node: Node<'a>) -> Result<Self, Node<'a>> {
        Ok(node.into_value())
    }
}

impl<'a> FromNode<'a> for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn from_node(node: Node<'a>) -> Result<Self, Node<'a>> {
        match &node {
            Node::Number(number) => number.as_i64().ok_or(node),
            _ => Err(node),
        }
    }
}

impl<'a> FromNode<'a> for u64 {
    const EXPECTED: &'static str = "a whole number, not negative";

    fn from_node(node: Node<'a>) -> Result<Self, Node<'a>> {
        match &node {
            Node::Number(number) => number.as_u64().ok_or(node),
            _ => Err(node),
        }
    }
}

impl<'a> FromNode<'a> for Vec<String> {
    const EXPECTED: &'static str = "a list of strings";

    fn from_node(node: Node<'a>) -> Result<Self, Node<'a>> {
        let Node::List(items) = &node else {
            return Err(node);
        };
        let texts: Option<Self> = items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect();
        texts.ok_or(node)
    }
}
