//! JSON as Python's `json.dumps` writes it with its defaults, and reading that loses no digit.
//!
//! Duties: `", "` and `": "` as separators; everything outside ASCII (and DEL) as `\uXXXX`, beyond the BMP as a
//! surrogate pair; floats as Python's `repr`. What has no place in a `Value` (`NaN`, whole numbers beyond 64 bits, half a
//! surrogate pair) is read and written as [`Special`](crate::Special).
//! Counterpart: `kombu/utils/json.py @ 5.7.0` over CPython's `json`.
//!
//! Difference: kombu's `{"__type__": …, "__value__": …}` stays the object it is; [`crate::tagged`] knows what it means.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Number, Value};

use crate::{
    DecodeError, Limits, Map,
    fields::Fields,
    json_reader::{self, Reader},
    json_text::Read,
    key_order::Layout,
    node::{Body, Node},
    special::{self, Key},
    value,
};

/// A value that can always be written as JSON: its keys are strings by type.
pub trait JsonText: sealed::Sealed {}

mod sealed {
    pub trait Sealed {
        fn write(&self, out: &mut String);
    }
}

macro_rules! json_text {
    ($($type:ty = $write:expr),* $(,)?) => { $(
        impl sealed::Sealed for $type {
            fn write(&self, out: &mut String) {
                $write(out, self);
            }
        }
        impl JsonText for $type {}
    )* };
}

json_text!(
    Value = write_value,
    Map = write_map,
    Vec<Value> = |out: &mut String, items: &Self| write_list(out, items, write_value),
    [Value] = |out: &mut String, items: &Self| write_list(out, items, write_value),
    Vec<String> = |out: &mut String, items: &Self| write_list(out, items, |out, item| write_string(out, item)),
    String = |out: &mut String, text: &Self| write_string(out, text),
    str = write_string,
);

/// The text that `json.dumps(value)` gives: `{"a": [1, 1e-05, "\u00e9"]}`.
pub fn to_python_string(value: &(impl JsonText + ?Sized)) -> String {
    let mut out = String::with_capacity(128);
    value.write(&mut out);
    out
}

/// As [`to_python_string`], in bytes (all of them ASCII).
pub fn to_python_vec(value: &(impl JsonText + ?Sized)) -> Vec<u8> {
    to_python_string(value).into_bytes()
}

/// As [`to_python_string`], for any serializable type; see [`value::to_value`].
///
/// # Errors
/// When `value` refuses to be serialized, or has a map with keys that are not strings.
pub fn try_to_python_string(
    value: &(impl Serialize + ?Sized),
) -> Result<String, serde_json::Error> {
    value::to_value(value).map(|value| to_python_string(&value))
}

pub(crate) fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => write_list(out, items, write_value),
        Value::Object(map) => write_map(out, map),
    }
}

fn write_number(out: &mut String, number: &Number) {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => out.push_str(&python_float(float)),
        None => write!(out, "{number}").expect("a String takes everything"),
    }
}

fn write_list<T>(out: &mut String, items: &[T], write: impl Fn(&mut String, &T)) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write(out, item);
    }
    out.push(']');
}

pub(crate) fn write_map(out: &mut String, map: &Map) {
    if let Some(token) = special::token_of_map(map) {
        out.push_str(token);
        return;
    }
    out.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_key(out, key);
        write_value(out, value);
    }
    out.push('}');
}

fn write_key(out: &mut String, key: &str) {
    match special::key_said(key) {
        Key::Text(key) => write_string(out, key),
        Key::Literal(inside) => out.extend(["\"", inside, "\""]),
    }
    out.push_str(": ");
}

/// The text of an object that is written key by key.
pub(crate) struct ObjectText {
    text: String,
}

impl ObjectText {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes);
        text.push('{');
        Self { text }
    }

    pub(crate) fn value(&mut self, key: &str, value: &Value) {
        self.key(key);
        write_value(&mut self.text, value);
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        write_string(&mut self.text, text);
    }

    fn key(&mut self, key: &str) {
        if self.text.len() > 1 {
            self.text.push_str(", ");
        }
        write_key(&mut self.text, key);
    }

    pub(crate) fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// The body of a task message: `[args, kwargs, embed]`.
pub(crate) fn body(args: &[Value], kwargs: &Map, embed: &Map) -> String {
    let mut out = String::with_capacity(256);
    out.push('[');
    write_list(&mut out, args, write_value);
    out.push_str(", ");
    write_map(&mut out, kwargs);
    out.push_str(", ");
    write_map(&mut out, embed);
    out.push(']');
    out
}

fn write_string(out: &mut String, text: &str) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    out.push('"');
    if text.bytes().all(is_plain) {
        out.push_str(text);
    } else {
        text.chars().for_each(|c| write_escaped(out, c));
    }
    out.push('"');
}

/// One character of a JSON string, as `ensure_ascii` writes it.
pub(crate) fn write_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        ' '..='~' => out.push(c),
        c => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").expect("a String takes everything");
            }
        }
    }
}

/// Reads JSON without losing anything, within [`Limits::default`]; `what` names the bytes in errors.
///
/// # Errors
/// As [`parse_within`].
pub fn parse(what: &'static str, bytes: &[u8]) -> Result<Value, DecodeError> {
    parse_within(&Limits::default(), what, bytes)
}

/// As [`parse`], within the nesting and the number of values of these limits.
///
/// # Errors
/// [`DecodeError::Json`], [`DecodeError::TooDeep`], [`DecodeError::TooManyValues`].
pub fn parse_within(
    limits: &Limits,
    what: &'static str,
    bytes: &[u8],
) -> Result<Value, DecodeError> {
    read_within(limits, what, bytes, Reader::value)
}

/// As [`parse_within`], of an object with a layout.
pub(crate) fn fields_within<'a>(
    limits: &Limits,
    layout: &'static Layout,
    bytes: &'a [u8],
) -> Result<Box<Fields<'a>>, DecodeError> {
    match read_within(limits, layout.object, bytes, |reader| {
        reader.node(Some(layout))
    })? {
        Node::Fields(fields) => Ok(fields),
        other => Err(DecodeError::NotAnObject {
            what: layout.object,
            found: other.kind(),
        }),
    }
}

/// As [`parse_within`], of a body; `embed` is the layout of its third part.
pub(crate) fn body_within<'a>(
    limits: &Limits,
    embed: &'static Layout,
    bytes: &'a [u8],
) -> Result<Body<'a>, DecodeError> {
    read_within(limits, "body", bytes, |reader| reader.body(embed))
}

fn read_within<'a, T>(
    limits: &Limits,
    what: &'static str,
    bytes: &'a [u8],
    way: impl FnOnce(&mut Reader<'a>) -> Read<T>,
) -> Result<T, DecodeError> {
    // Every value takes a byte or more: fewer bytes than that cannot have too many.
    if bytes.len() > limits.values {
        limits.check_json(what, bytes)?;
    }
    let wrong = |reason| {
        // What is beyond the limits is that first of all, JSON or not.
        limits
            .check_json(what, bytes)
            .err()
            .unwrap_or(DecodeError::Json { what, reason })
    };
    let text = std::str::from_utf8(bytes).map_err(|err| wrong(format!("not UTF-8: {err}")))?;
    json_reader::read(text, limits.nesting, way).map_err(|err| wrong(err.to_string()))
}

/// Python's `repr(float)`: the shortest digits that read back the same, an exponent below 1e-4 and from 1e16 on.
pub(crate) fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_python_calls_json_is_written_as_it_was_read() {
        for text in [
            "18446744073709551616",
            "-9223372036854775809",
            r#"{"a": [1, "2", {"b": 123456789012345678901234567890}]}"#,
            r#"["\"", 99999999999999999999]"#,
            "NaN",
            "[Infinity, -Infinity, {\"a\": NaN}, 1.5, true, false, null, \"NaN\"]",
            r#""\ud83d""#,
            r#"["a\"\\\n\u00e9\udc00\ud83d\ude00\ud83d\ud83d", {"\ud83d": 1, "\u0000celeriac:\udc00": 2}]"#,
            r#"{"\u0000celeriac": "NaN"}"#,
            r#"{"\u0000\u0000celeriac": {"\u0000celeriac": NaN}}"#,
            r#"{"\u0000celeriac:\\ud83d": 1}"#,
            r#"{"$serde_json::private::RawValue": "1"}"#,
            r#"[{"$serde_json::private::RawValue": "no JSON"}, NaN]"#,
            r#"{"$serde_json::private::RawValue": {"$serde_json::private::RawValue": "[0, 0]"}, "a": 1}"#,
            r#"{"\u0000$serde_json::private::RawValue": "1"}"#,
            "18446744073709551615",
            "-9223372036854775808",
            r#"{"123456789012345678901234567890": "123456789012345678901234567890"}"#,
        ] {
            let value = parse("body", text.as_bytes()).unwrap();
            assert_eq!(to_python_string(&value), text);
        }
        for (text, written) in [
            ("[1e999, -1e999]", "[Infinity, -Infinity]"),
            ("[ 0, -0.0 , 1E5,{ }, NaN ]", "[0, -0.0, 100000.0, {}, NaN]"),
            ("123456789012345678901234567890.0", "1.2345678901234568e+29"),
            (r#"["\uD83D", "\/\u0041"]"#, r#"["\ud83d", "/A"]"#),
        ] {
            let value = parse("body", text.as_bytes()).unwrap();
            assert_eq!(to_python_string(&value), written);
        }
    }

    #[test]
    fn what_is_no_json_in_python_either_is_refused_with_its_place() {
        for text in [
            "",
            "[1,]",
            "[] x",
            "nan",
            "+1",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "[NaN,]",
            "{NaN: 1}",
            "[NaN",
            "{\"a\" NaN}",
            "{\"a\": NaN,}",
            "--Infinity",
            r#""\ud83""#,
            r#""\x41""#,
            "\"\\ud83d\n\"",
            r#""\ud83d"#,
            "'a'",
            "[NaN 1]",
            "12345678901234567890123 4",
        ] {
            let err = parse("body", text.as_bytes()).unwrap_err().to_string();
            assert!(
                err.starts_with("the body is not JSON that can be read: "),
                "{text}: {err}"
            );
            assert!(err.contains("line 1 column"), "{text}: {err}");
        }
        let err = parse("body", b"[NaN,\n 1 2]").unwrap_err().to_string();
        assert!(
            err.ends_with("expected `,` or `]` at line 2 column 4"),
            "{err}"
        );
        assert!(parse("body", b"\"\xff\"").is_err());
    }

    #[test]
    fn nesting_up_to_the_limit_needs_little_stack() {
        let nested = |depth: usize| {
            format!(
                r#"{}1{}"#,
                r#"[{"a":"#.repeat(depth / 2),
                "}]".repeat(depth / 2)
            )
        };
        let limit = Limits::default().nesting;
        let use_it = move || {
            let value = parse("body", nested(limit).as_bytes()).unwrap();
            let copy = value.clone();
            let again = to_python_string(&copy);
            assert_eq!(copy, value);
            assert!(crate::repr::saferepr(&value).starts_with("[{'a': "));
            assert_eq!(parse("body", again.as_bytes()).unwrap(), value);
            for depth in [limit + 2, 100_000, 10_000_000] {
                let refused = parse("body", nested(depth).as_bytes());
                assert_eq!(
                    refused,
                    Err(DecodeError::TooDeep {
                        what: "body",
                        limit
                    })
                );
            }
        };
        // A worker's threads have twice as much, and are not at their beginning.
        let thread = std::thread::Builder::new().stack_size(1024 * 1024);
        thread.spawn(use_it).unwrap().join().unwrap();
    }

    #[test]
    fn what_is_read_is_exactly_what_the_limits_allow() {
        for text in [
            "1",
            "[]",
            "[[[[]]]]",
            "[1,2,3,4,5,6]",
            r#"{"a":[{},{"b":[]},"[,]"],"c":1}"#,
            "[NaN,[1e999],\"\\ud83d\"]",
        ] {
            for (values, nesting) in (0..12).flat_map(|n| (0..6).map(move |depth| (n, depth))) {
                let limits = Limits {
                    values,
                    nesting,
                    ..Limits::default()
                };
                let read = parse_within(&limits, "body", text.as_bytes());
                let checked = limits.check_json("body", text.as_bytes());
                assert_eq!(read.map(drop), checked, "{text} {limits:?}");
            }
        }
    }

    #[test]
    fn a_map_that_has_no_json_form_is_an_error() {
        let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(try_to_python_string(&keys).is_err());
        assert_eq!(
            try_to_python_string(&(1.5_f32, f64::NAN)).unwrap(),
            "[1.5, NaN]"
        );
    }
}
