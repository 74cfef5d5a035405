//! What Python's JSON says and `serde_json::Value` cannot hold: `NaN`, `Infinity`, whole numbers beyond 64 bits, half a
//! surrogate pair. They are kept in the place of the value, so that a retry, a callback or a result says them again.
//!
//! A value of this kind is an object with one key, [`KEY`], that begins with NUL; it holds the JSON token. A key with
//! half a surrogate pair begins with [`KEY`] and a colon. A key of the sender's own that looks like one of these gets one
//! more NUL when it is read, and loses it when it is written: nothing that is sent can be taken for a mark. So does the key
//! that is a mark to serde_json, [`RAW_VALUE`]: a task may take such an object as a `Value`, and hand it on.
//!
//! Guarantee M4: what a Python worker would pass on, digit for digit, is not destroyed by passing through here.
//! Counterpart: CPython's `json.decoder` (`parse_constant`, `scanstring`), whose values need no such marks.

use std::borrow::Cow;

use serde_json::{Number, Value};

use crate::Map;

/// The only key of such an object.
pub(crate) const KEY: &str = "\u{0}celeriac";

/// What the keys of the sender's own begin with that could be mistaken, behind their first NULs.
const NAME: &str = "celeriac";

/// serde_json's mark of a `RawValue`: in the place of an object with this key, its `Value` reads the text that it holds.
pub(crate) const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// A value of Python's that has no other place in a [`Value`].
///
/// Only what is read by this crate is guarded: a `Value` that a program has from elsewhere (an HTTP body) and returns or
/// sends as it is may hold [`Special::into_value`]'s object, and is then written as what it stands for: a `NaN`, say.
/// What is written can always be read.
///
/// A parameter `f64` takes [`Special::Nan`] and the infinities, `i128` and `u128` a whole number that fits,
/// [`crate::value::from_value`] sees to it; a `serde_json::Value` has it as an opaque object and hands it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Special {
    /// `NaN`.
    Nan,
    /// `Infinity`.
    Infinity,
    /// `-Infinity`.
    NegativeInfinity,
    /// A whole number, in decimal digits with an optional minus.
    Integer(String),
    /// A string with half a surrogate pair, as its JSON literal with the quotes.
    Text(String),
}

impl Special {
    /// What this value stands for, if it is one of these.
    pub fn of(value: &Value) -> Option<Self> {
        let token = token(value)?;
        Some(match token {
            "NaN" => Self::Nan,
            "Infinity" => Self::Infinity,
            "-Infinity" => Self::NegativeInfinity,
            text if text.starts_with('"') => Self::Text(text.to_owned()),
            digits => Self::Integer(digits.to_owned()),
        })
    }

    /// A float that is not finite; `None` for all others.
    pub fn float(value: f64) -> Option<Self> {
        match value {
            value if value.is_nan() => Some(Self::Nan),
            f64::INFINITY => Some(Self::Infinity),
            f64::NEG_INFINITY => Some(Self::NegativeInfinity),
            _ => None,
        }
    }

    /// The value that is written as this.
    pub fn into_value(self) -> Value {
        let token = match self {
            Self::Nan => "NaN".to_owned(),
            Self::Infinity => "Infinity".to_owned(),
            Self::NegativeInfinity => "-Infinity".to_owned(),
            Self::Integer(token) | Self::Text(token) => token,
        };
        let mut map = Map::new();
        map.insert(KEY.to_owned(), Value::String(token));
        Value::Object(map)
    }

    /// As a float, where it is a number: Python's `float(value)`.
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Nan => Some(f64::NAN),
            Self::Infinity => Some(f64::INFINITY),
            Self::NegativeInfinity => Some(f64::NEG_INFINITY),
            Self::Integer(digits) => digits.parse().ok(),
            Self::Text(_) => None,
        }
    }
}

/// A float as a value, finite or not.
pub(crate) fn float(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None => Special::float(value).map_or(Value::Null, Special::into_value),
    }
}

/// The whole number that these digits say.
pub(crate) fn integer(digits: &str) -> Value {
    if let Ok(number) = digits.parse::<i64>() {
        return Value::from(number);
    }
    match digits.parse::<u64>() {
        Ok(number) => Value::from(number),
        Err(_) => Special::Integer(digits.to_owned()).into_value(),
    }
}

/// The token that such a value is written as. An object that only looks like one is none.
pub(crate) fn token(value: &Value) -> Option<&str> {
    match value {
        Value::Object(map) => token_of_map(map),
        _ => None,
    }
}

/// As [`token`], of an object.
pub(crate) fn token_of_map(map: &Map) -> Option<&str> {
    // Nearly every object is told apart by its length or by the first byte of its key.
    let (key, value) = map.iter().next().filter(|_| map.len() == 1)?;
    if !key.starts_with('\u{0}') || key != KEY {
        return None;
    }
    value.as_str().filter(|token| is_token(token))
}

fn is_token(token: &str) -> bool {
    match token {
        "NaN" | "Infinity" | "-Infinity" => true,
        text if text.starts_with('"') => is_literal(text),
        digits => is_integer(digits),
    }
}

/// Whether it is a whole number as JSON writes it: no plus, no noughts before it.
pub(crate) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let starts_well = digits.starts_with(|c: char| matches!(c, '1'..='9')) || digits == "0";
    starts_well && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether it is one JSON string and nothing else, in ASCII.
fn is_literal(text: &str) -> bool {
    let inside = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inside.is_some_and(is_literal_inside)
}

fn is_literal_inside(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_fine = match byte {
            b'"' => false,
            b'\\' => match bytes.next() {
                Some(b'u') => (0..4).all(|_| bytes.next().is_some_and(|b| b.is_ascii_hexdigit())),
                escaped => matches!(
                    escaped,
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')
                ),
            },
            byte => matches!(byte, b' '..=b'~'),
        };
        if !is_fine {
            return false;
        }
    }
    true
}

/// The key under which one of the sender's is kept: one that could be mistaken gets a NUL more.
pub(crate) fn kept_key<'a>(key: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    let key = key.into();
    if could_be_mistaken(&key) {
        return Cow::Owned(format!("\u{0}{key}"));
    }
    key
}

/// The key that stands for one with half a surrogate pair; `inside` is its literal without the quotes.
pub(crate) fn broken_key(inside: &str) -> String {
    format!("{KEY}:{inside}")
}

/// How a key is written.
pub(crate) enum Key<'a> {
    /// As any text.
    Text(&'a str),
    /// The inside of a JSON literal.
    Literal(&'a str),
}

/// What a kept key stands for.
pub(crate) fn key_said(key: &str) -> Key<'_> {
    if !key.starts_with('\u{0}') {
        return Key::Text(key);
    }
    let literal = key
        .strip_prefix(KEY)
        .and_then(|rest| rest.strip_prefix(':'));
    if let Some(literal) = literal.filter(|literal| is_literal_inside(literal)) {
        return Key::Literal(literal);
    }
    match key.strip_prefix('\u{0}') {
        Some(rest) if could_be_mistaken(rest) => Key::Text(rest),
        _ => Key::Text(key),
    }
}

fn could_be_mistaken(key: &str) -> bool {
    // Nearly every key is told apart by its first byte.
    if !key.starts_with(['\u{0}', '$']) {
        return false;
    }
    let name = key.trim_start_matches('\u{0}');
    name == RAW_VALUE || (name.len() < key.len() && name.starts_with(NAME))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_a_token_is_written_as_one() {
        for token in [
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "-12",
            r#""\ud83d""#,
            r#""a\"b""#,
        ] {
            assert!(is_token(token), "{token}");
        }
        for other in [
            "",
            "-",
            "nan",
            "01",
            "1.5",
            "1, 2",
            "1e5",
            "\"",
            r#""a"b""#,
            r#""\""#,
            r#""\ud8""#,
            r#""é""#,
            "null",
            "١",
        ] {
            assert!(!is_token(other), "{other}");
            assert_eq!(Special::of(&json!({ KEY: other })), None, "{other}");
        }
    }

    #[test]
    fn a_key_of_the_senders_own_is_never_a_mark() {
        for key in [
            "\0celeriac",
            "\0\0celeriac",
            "\0celeriac:\\ud83d",
            "\0",
            "plain",
            "\0other",
            RAW_VALUE,
            "\0$serde_json::private::RawValue",
        ] {
            let kept = kept_key(key);
            assert_ne!(kept, KEY);
            assert_ne!(kept, RAW_VALUE);
            assert!(
                matches!(key_said(&kept), Key::Text(said) if said == key),
                "{key:?}"
            );
        }
        assert!(matches!(
            key_said(&broken_key("\\ud83d")),
            Key::Literal("\\ud83d")
        ));
    }
}
