//! The bytes of a stored result, of a chord's part or of a group: serialized, and compressed where `result_compression`
//! says so.
//!
//! What is compressed says itself that it is, and how; so whoever reads needs no setting for it.
//!
//! Counterpart: `celery/backends/base.py @ 5.7.0` (`compress_payload`, `decompress_payload`).

use std::borrow::Cow;

use serde_json::Value;

use crate::{
    Compression, DecodeError, EncodeError, Limits, Serializer, TaskMeta, deserialize, serialize,
};

/// What compressed bytes begin with; behind it the compression's content type, a zero, and the compressed bytes.
const MAGIC: &[u8] = b"\0celery-compressed\0";

/// The bytes to store and to publish.
///
/// # Errors
/// The serializer cannot write something that is in it.
pub fn write(
    meta: &TaskMeta,
    serializer: Serializer,
    compression: Option<Compression>,
) -> Result<Vec<u8>, EncodeError> {
    Ok(packed(meta.to_bytes(serializer)?, compression))
}

/// As [`write()`], of what is no result: a chord's part, or a group.
///
/// # Errors
/// The serializer cannot write something that is in it.
pub fn write_value(
    value: &Value,
    serializer: Serializer,
    compression: Option<Compression>,
) -> Result<Vec<u8>, EncodeError> {
    Ok(packed(serialize(serializer, value)?, compression))
}

/// What is stored. JSON and MessagePack are read whatever the setting says, since they can be told apart.
///
/// # Errors
/// It is no result, or beyond the limits.
pub fn read(
    bytes: &[u8],
    serializer: Serializer,
    limits: &Limits,
) -> Result<TaskMeta, DecodeError> {
    let plain = unpacked(bytes, limits)?;
    TaskMeta::parse_within(limits, told(&plain, serializer), &plain)
}

/// As [`read`], of what is no result; `what` names it in errors.
///
/// # Errors
/// The bytes are not of this serializer, or beyond the limits.
pub fn read_value(
    what: &'static str,
    bytes: &[u8],
    serializer: Serializer,
    limits: &Limits,
) -> Result<Value, DecodeError> {
    let plain = unpacked(bytes, limits)?;
    deserialize(limits, what, told(&plain, serializer), &plain)
}

fn packed(plain: Vec<u8>, compression: Option<Compression>) -> Vec<u8> {
    let Some(compression) = compression else {
        return plain;
    };
    let content_type = compression.content_type().as_bytes();
    let body = compression.apply(&plain);
    [MAGIC, content_type, b"\0", &body].concat()
}

fn unpacked<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Cow<'a, [u8]>, DecodeError> {
    let Some(packed) = bytes.strip_prefix(MAGIC) else {
        return Ok(Cow::Borrowed(bytes));
    };
    let end = packed.iter().position(|byte| *byte == 0);
    let (content_type, body) = packed.split_at(end.unwrap_or(packed.len()));
    let codec = String::from_utf8_lossy(content_type);
    let Some(compression) = Compression::named(&codec) else {
        return Err(DecodeError::UnknownCompression {
            codec: codec.into_owned(),
        });
    };
    let plain = compression.undo(body.get(1..).unwrap_or_default(), limits)?;
    Ok(Cow::Owned(plain))
}

/// The serializer as the first byte tells it: the bracket of an object or a list, or a map or a list of MessagePack, with
/// which no text of ours or Python's begins.
fn told(bytes: &[u8], setting: Serializer) -> Serializer {
    match (bytes.first(), setting) {
        (Some(0x80..=0x9f | 0xdc..=0xdf), _) => Serializer::Msgpack,
        (Some(b'{' | b'['), Serializer::Msgpack) => Serializer::Json,
        _ => setting,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::State;

    fn meta() -> TaskMeta {
        TaskMeta::new("an-id", State::Success, json!([1, "x".repeat(500)]))
    }

    #[test]
    fn what_is_written_is_read_whatever_is_set_for_reading() {
        let limits = Limits::new(10_000, 10_000);
        let ways = [None].into_iter().chain(Compression::ALL.map(Some));
        for compression in ways {
            for written in [Serializer::Json, Serializer::Msgpack] {
                let bytes = write(&meta(), written, compression).unwrap();
                assert_eq!(compression.is_some(), bytes.len() < 500);
                for read_as in [Serializer::Json, Serializer::Msgpack] {
                    assert_eq!(read(&bytes, read_as, &limits), Ok(meta()));
                }
            }
            let bytes = write(&meta(), Serializer::Yaml, compression).unwrap();
            assert_eq!(read(&bytes, Serializer::Yaml, &limits), Ok(meta()));
        }
    }

    #[test]
    fn a_part_of_a_chord_is_read_as_a_result_is() {
        let limits = Limits::new(10_000, 10_000);
        let part = json!([1, "an-id", "SUCCESS", {"ü": "x".repeat(500)}]);
        let ways = [None].into_iter().chain(Compression::ALL.map(Some));
        for compression in ways {
            for (written, read_as) in [
                (Serializer::Json, Serializer::Json),
                (Serializer::Json, Serializer::Msgpack),
                (Serializer::Msgpack, Serializer::Msgpack),
                (Serializer::Msgpack, Serializer::Json),
                (Serializer::Yaml, Serializer::Yaml),
            ] {
                let bytes = write_value(&part, written, compression).unwrap();
                assert_eq!(compression.is_some(), bytes.len() < 500);
                let read = read_value("part", &bytes, read_as, &limits);
                assert_eq!(read.as_ref(), Ok(&part), "{written:?} {read_as:?}");
            }
        }
        let narrow = Limits::new(100, 100);
        assert!(read_value("part", b"[1, 2, 3, 4]", Serializer::Json, &narrow).is_err());
    }

    #[test]
    fn a_result_is_read_within_the_limits_that_are_given() {
        let many = vec![Value::from(0); 1000];
        let meta = TaskMeta::new("an-id", State::Success, Value::from(many));
        let narrow = Limits::new(16_000, 16_000);
        let wide = Limits::new(64_000, 64_000);
        for compression in [None, Some(Compression::Zlib)] {
            for serializer in Serializer::ALL {
                let bytes = write(&meta, serializer, compression).unwrap();
                assert_eq!(
                    read(&bytes, serializer, &narrow),
                    Err(DecodeError::TooManyValues {
                        what: "result",
                        limit: 500
                    })
                );
                assert_eq!(read(&bytes, serializer, &wide).as_ref(), Ok(&meta));
            }
        }
    }

    #[test]
    fn what_is_broken_is_an_error() {
        let limits = Limits::new(100, 100);
        let bomb = write(&meta(), Serializer::Json, Some(Compression::Zlib)).unwrap();
        for bytes in [
            b"\0celery-compressed\0".as_slice(),
            b"\0celery-compressed\0application/x-gzip",
            b"\0celery-compressed\0application/x-gzip\0rubbish",
            b"\0celery-compressed\0lzma\0rubbish",
            &bomb,
            b"",
        ] {
            assert!(read(bytes, Serializer::Json, &limits).is_err(), "{bytes:?}");
        }
    }
}
