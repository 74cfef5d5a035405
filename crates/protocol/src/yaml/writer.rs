//! Writes YAML on one line, all texts in quotes: what PyYAML's loader reads as the same values that its dumper would have
//! written over many lines.
//!
//! Counterpart: PyYAML's `representer.py` (`SafeRepresenter`).

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use super::plain;
use crate::{
    EncodeError,
    json::python_float,
    special::{self, Key, Special},
    tagged::PythonObject,
};

/// Longer keys are no simple keys: a question mark has to stand before them.
const SIMPLE_KEY_BYTES: usize = 100;

/// One document.
pub(crate) fn write(value: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut out = String::with_capacity(128);
    write_value(&mut out, value)?;
    out.push('\n');
    Ok(out.into_bytes())
}

fn cannot(what: impl Into<String>) -> EncodeError {
    EncodeError {
        serializer: "yaml",
        what: what.into(),
    }
}

fn write_value(out: &mut String, value: &Value) -> Result<(), EncodeError> {
    if let Some(special) = Special::of(value) {
        match special {
            Special::Nan => out.push_str(".nan"),
            Special::Infinity => out.push_str(".inf"),
            Special::NegativeInfinity => out.push_str("-.inf"),
            Special::Integer(digits) => out.push_str(&digits),
            Special::Text(_) => return Err(cannot("a string with half a surrogate pair")),
        }
        return Ok(());
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => out.push_str(&yaml_float(float)),
            None => out.push_str(&number.to_string()),
        },
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_value(out, item)?;
            }
            out.push(']');
        }
        Value::Object(map) => match PythonObject::of(value) {
            Some(object) => write_object(out, &object)?,
            None => write_map(out, map)?,
        },
    }
    Ok(())
}

fn write_map(out: &mut String, map: &crate::Map) -> Result<(), EncodeError> {
    out.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        let Key::Text(key) = special::key_said(key) else {
            return Err(cannot("a key with half a surrogate pair"));
        };
        if key.len() > SIMPLE_KEY_BYTES {
            out.push_str("? ");
        }
        write_text(out, key);
        out.push_str(": ");
        write_value(out, value)?;
    }
    out.push('}');
    Ok(())
}

fn write_object(out: &mut String, object: &PythonObject<'_>) -> Result<(), EncodeError> {
    match object {
        PythonObject::Bytes(bytes) => {
            out.extend(["!!binary \"", &BASE64.encode(bytes), "\""]);
            Ok(())
        }
        // What is no time, nobody could read.
        PythonObject::DateTime(text) | PythonObject::Date(text) if plain::time(text).is_ok() => {
            out.extend(["!!timestamp \"", text, "\""]);
            Ok(())
        }
        other => Err(cannot(other.repr())),
    }
}

/// PyYAML takes it for a float only with a point.
fn yaml_float(float: f64) -> String {
    let text = python_float(float);
    if text.contains('.') {
        return text;
    }
    text.replacen('e', ".0e", 1)
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c => match u32::from(c) {
                code @ 0..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push('"');
}
