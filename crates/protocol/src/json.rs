//! JSON as Python's `json.dumps` writes it with its defaults, and reading that loses no digit.
//!
//! Duties: `", "` and `": "` as separators; everything outside ASCII (and DEL) as `\uXXXX`, beyond the BMP as a
//! surrogate pair; floats as Python's `repr`. Counterpart: `kombu/utils/json.py @ 5.7.0` over CPython's `json`.
//!
//! Differences: what has no JSON form in Rust (`NaN`, `Infinity`, half a surrogate pair, whole numbers beyond 64 bits)
//! is an error when read, where Python has them. kombu's `{"__type__": …, "__value__": …}` stays the object it is.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Value, ser::Formatter};

use crate::{DecodeError, Limits, Map};

/// A value that can always be written as JSON: its keys are strings and its numbers finite by type.
pub trait JsonText: Serialize + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! json_text {
    ($($type:ty),*) => { $(impl sealed::Sealed for $type {} impl JsonText for $type {})* };
}

json_text!(Value, Map, Vec<Value>, [Value], Vec<String>, String, str);

/// The text that `json.dumps(value)` gives: `{"a": [1, 1e-05, "\u00e9"]}`.
pub fn to_python_string(value: &(impl JsonText + ?Sized)) -> String {
    try_to_python_string(value).expect("JSON values have string keys and finite numbers")
}

/// As [`to_python_string`], in bytes (all of them ASCII).
pub fn to_python_vec(value: &(impl JsonText + ?Sized)) -> Vec<u8> {
    to_python_string(value).into_bytes()
}

/// As [`to_python_string`], for any serializable type. What is not finite becomes `null`.
///
/// # Errors
/// When `value` refuses to be serialized, or has a map with keys that are not strings.
pub fn try_to_python_string(
    value: &(impl Serialize + ?Sized),
) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::with_capacity(128);
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut bytes,
        PythonFormatter,
    ))?;
    Ok(String::from_utf8(bytes).expect("the formatter writes ASCII only"))
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
/// [`DecodeError::Json`], [`DecodeError::IntegerTooLarge`], [`DecodeError::TooDeep`], [`DecodeError::TooManyValues`].
pub fn parse_within(
    limits: &Limits,
    what: &'static str,
    bytes: &[u8],
) -> Result<Value, DecodeError> {
    limits.check_json(what, bytes)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // Its own limit is lower than that of Python's senders; ours holds.
    reader.disable_recursion_limit();
    let value = Value::deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|err| DecodeError::Json {
            what,
            reason: err.to_string(),
        })?;
    match lossy_integer(bytes) {
        Some(digits) => Err(DecodeError::IntegerTooLarge { what, digits }),
        None => Ok(value),
    }
}

/// The digits of the first whole number in valid JSON that neither `i64` nor `u64` holds.
fn lossy_integer(mut json: &[u8]) -> Option<usize> {
    while let Some((&first, rest)) = json.split_first() {
        json = match first {
            b'"' => after_string(rest),
            b'-' | b'0'..=b'9' => {
                let is_number =
                    |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                let (number, rest) =
                    json.split_at_checked(json.iter().take_while(is_number).count())?;
                if is_lossy(number) {
                    return Some(number.iter().filter(|byte| byte.is_ascii_digit()).count());
                }
                rest
            }
            _ => rest,
        };
    }
    None
}

fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => break,
            b'\\' => rest = after.get(1..).unwrap_or_default(),
            _ => {}
        }
    }
    rest
}

fn is_lossy(number: &[u8]) -> bool {
    /// Whole numbers of fewer digits always fit; this is the quick way out for nearly all.
    const SUSPICIOUS_DIGITS: usize = 19;
    if number.len() < SUSPICIOUS_DIGITS {
        return false;
    }
    let text = String::from_utf8_lossy(number);
    !text.contains(['.', 'e', 'E']) && text.parse::<i64>().is_err() && text.parse::<u64>().is_err()
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

struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, f64::from(value))
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(python_float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let needs_escape = |c: char| !matches!(c, ' '..='~');
        if !fragment.contains(needs_escape) {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            if needs_escape(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                writer.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_would_lose_digits_is_refused() {
        for (text, digits) in [
            ("18446744073709551616", 20),
            ("-9223372036854775809", 19),
            (
                r#"{"a": [1, "2", {"b": 123456789012345678901234567890}]}"#,
                30,
            ),
            (r#"["\"", 99999999999999999999]"#, 20),
        ] {
            let err = parse("body", text.as_bytes()).unwrap_err();
            assert_eq!(
                err,
                DecodeError::IntegerTooLarge {
                    what: "body",
                    digits
                },
                "{text}"
            );
        }
        for text in [
            "18446744073709551615",
            "-9223372036854775808",
            "123456789012345678901234567890.0",
            "1e30",
            r#"{"123456789012345678901234567890": "123456789012345678901234567890"}"#,
            r#"["\\", "\"123456789012345678901234567890"]"#,
        ] {
            assert!(parse("body", text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_only_python_calls_json_is_refused_with_its_place() {
        for text in ["NaN", "[Infinity]", r#""\ud83d""#, "", "[1,]", "[] x"] {
            let err = parse("body", text.as_bytes()).unwrap_err().to_string();
            assert!(
                err.starts_with("the body is not JSON that can be read: "),
                "{err}"
            );
            assert!(err.contains("line 1 column"), "{err}");
        }
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
    fn a_map_that_has_no_json_form_is_an_error() {
        let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(try_to_python_string(&keys).is_err());
        assert_eq!(
            try_to_python_string(&(1.5_f32, f64::NAN)).unwrap(),
            "[1.5, null]"
        );
    }
}
