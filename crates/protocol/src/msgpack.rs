//! MessagePack as kombu writes it (`packb(use_bin_type=True)`) and reads it (`unpackb(raw=False)`).
//!
//! `bin` is Python's `bytes`, in a value kombu's tag of it; the timestamp of MessagePack is the tag of an aware datetime.
//! Both are written as they came. What Python's msgpack cannot pack (whole numbers beyond 64 bits, naive datetimes, dates,
//! `Decimal`, `UUID`, half a surrogate pair) is an error when written.
//!
//! Counterpart: `kombu/serialization.py @ 5.7.0` (`register_msgpack`). Difference: extension types other than the timestamp
//! are refused, where Python makes an `ExtType` of them; keys must be strings, where it also takes bytes.

use chrono::{DateTime, Utc};
use rmp::{Marker, encode};
use serde_json::Value;

use crate::{
    DecodeError, EncodeError, Limits, Map,
    special::{self, Key, Special},
    tagged::{Native as _, PythonObject},
};

/// The extension type of timestamps.
const TIMESTAMP: i8 = -1;

/// Reads one value, and nothing behind it.
pub(crate) fn read(
    limits: &Limits,
    what: &'static str,
    bytes: &[u8],
) -> Result<Value, DecodeError> {
    let mut reader = Reader {
        limits,
        what,
        rest: bytes,
        values: 0,
    };
    let value = reader.value(0)?;
    if !reader.rest.is_empty() {
        return Err(reader.wrong("bytes behind the value"));
    }
    Ok(value)
}

struct Reader<'a> {
    limits: &'a Limits,
    what: &'static str,
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, reason: impl Into<String>) -> DecodeError {
        DecodeError::Serialized {
            what: self.what,
            serializer: "msgpack",
            reason: reason.into(),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.wrong("it ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        bytes
            .try_into()
            .map_err(|_| self.wrong("it ends too early"))
    }

    fn length<const N: usize>(&mut self) -> Result<usize, DecodeError> {
        let bytes = self.array::<N>()?;
        Ok(bytes
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        self.values += 1;
        if self.values > self.limits.values {
            return Err(DecodeError::TooManyValues {
                what: self.what,
                limit: self.limits.values,
            });
        }
        let [first] = self.array()?;
        let marker = Marker::from_u8(first);
        if let Some(number) = self.number(marker)? {
            return Ok(number);
        }
        Ok(match marker {
            Marker::Null => Value::Null,
            Marker::False => Value::Bool(false),
            Marker::True => Value::Bool(true),
            Marker::FixStr(length) => self.text(usize::from(length))?,
            Marker::Str8 => self.sized::<1>(Self::text)?,
            Marker::Str16 => self.sized::<2>(Self::text)?,
            Marker::Str32 => self.sized::<4>(Self::text)?,
            Marker::Bin8 => self.sized::<1>(Self::bytes)?,
            Marker::Bin16 => self.sized::<2>(Self::bytes)?,
            Marker::Bin32 => self.sized::<4>(Self::bytes)?,
            Marker::FixArray(length) => self.list(usize::from(length), depth)?,
            Marker::Array16 => self.sized::<2>(|reader, length| reader.list(length, depth))?,
            Marker::Array32 => self.sized::<4>(|reader, length| reader.list(length, depth))?,
            Marker::FixMap(length) => self.object(usize::from(length), depth)?,
            Marker::Map16 => self.sized::<2>(|reader, length| reader.object(length, depth))?,
            Marker::Map32 => self.sized::<4>(|reader, length| reader.object(length, depth))?,
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.sized::<1>(Self::extension)?,
            Marker::Ext16 => self.sized::<2>(Self::extension)?,
            Marker::Ext32 => self.sized::<4>(Self::extension)?,
            _ => return Err(self.wrong(format!("no value begins with byte {first:#04x}"))),
        })
    }

    fn number(&mut self, marker: Marker) -> Result<Option<Value>, DecodeError> {
        Ok(Some(match marker {
            Marker::FixPos(number) => Value::from(number),
            Marker::FixNeg(number) => Value::from(number),
            Marker::U8 => Value::from(u8::from_be_bytes(self.array()?)),
            Marker::U16 => Value::from(u16::from_be_bytes(self.array()?)),
            Marker::U32 => Value::from(u32::from_be_bytes(self.array()?)),
            Marker::U64 => Value::from(u64::from_be_bytes(self.array()?)),
            Marker::I8 => Value::from(i8::from_be_bytes(self.array()?)),
            Marker::I16 => Value::from(i16::from_be_bytes(self.array()?)),
            Marker::I32 => Value::from(i32::from_be_bytes(self.array()?)),
            Marker::I64 => Value::from(i64::from_be_bytes(self.array()?)),
            Marker::F32 => special::float(f64::from(f32::from_be_bytes(self.array()?))),
            Marker::F64 => special::float(f64::from_be_bytes(self.array()?)),
            _ => return Ok(None),
        }))
    }

    fn sized<const N: usize>(
        &mut self,
        read: impl FnOnce(&mut Self, usize) -> Result<Value, DecodeError>,
    ) -> Result<Value, DecodeError> {
        let length = self.length::<N>()?;
        read(self, length)
    }

    fn text(&mut self, length: usize) -> Result<Value, DecodeError> {
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::from(text)),
            Err(err) => Err(self.wrong(format!("a string is not UTF-8: {err}"))),
        }
    }

    fn bytes(&mut self, length: usize) -> Result<Value, DecodeError> {
        Ok(PythonObject::Bytes(self.take(length)?.into()).to_value())
    }

    fn deeper(&self, depth: usize) -> Result<usize, DecodeError> {
        let limit = self.limits.nesting;
        if depth >= limit {
            let what = self.what;
            return Err(DecodeError::TooDeep { what, limit });
        }
        Ok(depth + 1)
    }

    /// The length is not believed: memory is taken for what is there.
    fn list(&mut self, length: usize, depth: usize) -> Result<Value, DecodeError> {
        let depth = self.deeper(depth)?;
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(self.value(depth)?);
        }
        Ok(Value::Array(items))
    }

    fn object(&mut self, length: usize, depth: usize) -> Result<Value, DecodeError> {
        let depth = self.deeper(depth)?;
        let mut map = Map::new();
        for _ in 0..length {
            let Value::String(key) = self.value(depth)? else {
                return Err(self.wrong("a key is no string"));
            };
            let value = self.value(depth)?;
            map.insert(special::kept_key(key).into_owned(), value);
        }
        Ok(Value::Object(map))
    }

    fn extension(&mut self, length: usize) -> Result<Value, DecodeError> {
        let kind = i8::from_be_bytes(self.array()?);
        let data = self.take(length)?;
        if kind != TIMESTAMP {
            return Err(self.wrong(format!("extension type {kind} is not known")));
        }
        timestamp(data)
            .map(|time| time.to_python().to_value())
            .ok_or_else(|| self.wrong("a timestamp is out of range"))
    }
}

/// Seconds; with nanoseconds in the upper 30 of 64 bits; or both in 96 bits.
fn timestamp(data: &[u8]) -> Option<DateTime<Utc>> {
    let (nanos, secs) = match *data {
        [a, b, c, d] => (0, i64::from(u32::from_be_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => {
            let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            let secs = i64::try_from(both & ((1 << 34) - 1)).ok()?;
            (u32::try_from(both >> 34).ok()?, secs)
        }
        [a, b, c, d, ref secs @ ..] => {
            let secs = i64::from_be_bytes(secs.try_into().ok()?);
            (u32::from_be_bytes([a, b, c, d]), secs)
        }
        _ => return None,
    };
    DateTime::from_timestamp(secs, nanos)
}

/// Writes one value.
pub(crate) fn write(value: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(128);
    write_value(&mut out, value)?;
    Ok(out)
}

fn cannot(what: impl Into<String>) -> EncodeError {
    EncodeError {
        serializer: "msgpack",
        what: what.into(),
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value) -> Result<(), EncodeError> {
    if let Some(special) = Special::of(value) {
        let float = match special {
            Special::Integer(digits) => return Err(cannot(format!("the whole number {digits}"))),
            Special::Text(_) => return Err(cannot("a string with half a surrogate pair")),
            float => float.as_f64().unwrap_or(f64::NAN),
        };
        return written(encode::write_f64(out, float));
    }
    match value {
        Value::Null => written(encode::write_nil(out)),
        Value::Bool(flag) => written(encode::write_bool(out, *flag)),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (_, Some(number), _) => written(encode::write_uint(out, number).map(drop)),
            (Some(number), _, _) => written(encode::write_sint(out, number).map(drop)),
            (_, _, float) => written(encode::write_f64(out, float.unwrap_or(f64::NAN))),
        },
        Value::String(text) => written(encode::write_str(out, text)),
        Value::Array(items) => {
            written(encode::write_array_len(out, length(items.len())?).map(drop))?;
            items.iter().try_for_each(|item| write_value(out, item))
        }
        Value::Object(map) => match PythonObject::of(value) {
            Some(object) => write_object(out, &object),
            None => write_map(out, map),
        },
    }
}

fn write_map(out: &mut Vec<u8>, map: &Map) -> Result<(), EncodeError> {
    written(encode::write_map_len(out, length(map.len())?).map(drop))?;
    for (key, value) in map {
        match special::key_said(key) {
            Key::Text(key) => written(encode::write_str(out, key))?,
            Key::Literal(_) => return Err(cannot("a key with half a surrogate pair")),
        }
        write_value(out, value)?;
    }
    Ok(())
}

fn write_object(out: &mut Vec<u8>, object: &PythonObject<'_>) -> Result<(), EncodeError> {
    match object {
        PythonObject::Bytes(bytes) => written(encode::write_bin(out, bytes)),
        PythonObject::DateTime(text) => {
            let time = DateTime::parse_from_rfc3339(text).map_err(|_| cannot(object.repr()))?;
            let mut data = time.timestamp_subsec_nanos().to_be_bytes().to_vec();
            data.extend(time.timestamp().to_be_bytes());
            written(encode::write_ext_meta(out, length(data.len())?, TIMESTAMP).map(drop))?;
            out.extend(data);
            Ok(())
        }
        other => Err(cannot(other.repr())),
    }
}

fn length(count: usize) -> Result<u32, EncodeError> {
    u32::try_from(count).map_err(|_| cannot(format!("{count} values in one list or map")))
}

fn written<E: std::fmt::Display>(result: Result<(), E>) -> Result<(), EncodeError> {
    // Memory takes everything: only a length can be too large.
    result.map_err(|err| cannot(err.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::json;

    const SMALL: Limits = Limits {
        nesting: 3,
        values: 5,
        ..Limits::NONE
    };

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            "[null, true, false, 0, 127, 128, -1, -32, -33, 255, 256, 65536, 4294967296, 18446744073709551615]",
            "[-128, -129, -32769, -2147483649, -9223372036854775808, 1.5, -0.0, NaN, Infinity, -Infinity]",
            r#"{"a": {"b": [[], {}, "", "\u00e9"]}, "\u0000celeriac": "NaN"}"#,
            r#"[{"__type__": "bytes", "__value__": "a"}, {"__type__": "base64", "__value__": "/w=="}]"#,
            r#"{"__type__": "datetime", "__value__": "2026-11-23T17:43:36.694319+00:00"}"#,
            r#"{"__type__": "datetime", "__value__": "1969-12-31T23:59:59.500000+00:00"}"#,
            r#"{"__type__": "date", "__value__": 5}"#,
        ] {
            let value = json::parse("body", text.as_bytes()).unwrap();
            let packed = write(&value).unwrap();
            let again = read(&Limits::default(), "body", &packed).unwrap();
            assert_eq!(json::to_python_string(&again), text);
        }
        for length in [31, 32, 255, 256, 65_535, 65_536] {
            let value = json!([
                "x".repeat(length),
                vec![1; length],
                PythonObject::Bytes(vec![0xff; length].into()).to_value()
            ]);
            assert_eq!(
                read(&Limits::default(), "body", &write(&value).unwrap()),
                Ok(value)
            );
            let map: Map = (0..length).map(|n| (n.to_string(), json!(n))).collect();
            let value = Value::Object(map);
            assert_eq!(
                read(&Limits::default(), "body", &write(&value).unwrap()),
                Ok(value)
            );
        }
    }

    #[test]
    fn timestamps_of_every_length_are_read() {
        let seconds = [&[0xd6, 0xff][..], &1_000_000_000_u32.to_be_bytes()].concat();
        let nanos = [
            &[0xd7, 0xff][..],
            &((500_000_000_u64 << 34) | 1_000_000_000).to_be_bytes(),
        ]
        .concat();
        for (bytes, text) in [
            (seconds, "2001-09-09T01:46:40+00:00"),
            (nanos, "2001-09-09T01:46:40.500000+00:00"),
        ] {
            let value = read(&Limits::default(), "body", &bytes).unwrap();
            assert_eq!(value, json!({"__type__": "datetime", "__value__": text}));
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_reason() {
        for (bytes, reason) in [
            (
                &b""[..],
                "the body is not msgpack that can be read: it ends too early",
            ),
            (
                b"\xc1",
                "the body is not msgpack that can be read: no value begins with byte 0xc1",
            ),
            (
                b"\x01\x01",
                "the body is not msgpack that can be read: bytes behind the value",
            ),
            (
                b"\xa2a",
                "the body is not msgpack that can be read: it ends too early",
            ),
            (
                b"\xa1\xff",
                "the body is not msgpack that can be read: a string is not UTF-8: invalid utf-8 sequence of 1 bytes from index 0",
            ),
            (
                b"\x81\x01\x01",
                "the body is not msgpack that can be read: a key is no string",
            ),
            (
                b"\xd4\x05a",
                "the body is not msgpack that can be read: extension type 5 is not known",
            ),
            (
                b"\xd4\xffa",
                "the body is not msgpack that can be read: a timestamp is out of range",
            ),
            // Four billion values are announced.
            (
                b"\xdd\xff\xff\xff\xff\x01",
                "the body is not msgpack that can be read: it ends too early",
            ),
            (
                b"\xc6\xff\xff\xff\xff\x01",
                "the body is not msgpack that can be read: it ends too early",
            ),
            (
                b"\x91\x91\x91\x91\x01",
                "the body is nested deeper than 3 levels",
            ),
            (
                b"\x95\x01\x01\x01\x01\x01",
                "the body has more than 5 values",
            ),
        ] {
            assert_eq!(read(&SMALL, "body", bytes).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn what_pythons_msgpack_cannot_pack_is_refused() {
        for (text, reason) in [
            (
                "[18446744073709551616]",
                "msgpack cannot write the whole number 18446744073709551616",
            ),
            (
                r#""\ud83d""#,
                "msgpack cannot write a string with half a surrogate pair",
            ),
            (
                r#"{"\ud83d": 1}"#,
                "msgpack cannot write a key with half a surrogate pair",
            ),
            (
                r#"{"__type__": "decimal", "__value__": "1.5"}"#,
                "msgpack cannot write Decimal('1.5')",
            ),
            (
                r#"{"__type__": "datetime", "__value__": "2026-11-23T00:00:00"}"#,
                "msgpack cannot write datetime.datetime(2026, 11, 23, 0, 0)",
            ),
        ] {
            let value = json::parse("body", text.as_bytes()).unwrap();
            assert_eq!(write(&value).unwrap_err().to_string(), reason);
        }
    }
}
