//! Compressed bodies: what `task_compression` makes of them, named by the header `compression`.
//!
//! Decompression stops at the limit, so that a small message cannot take much memory.
//!
//! Counterpart: `kombu/compression.py @ 5.7.0`. Its `gzip` is a zlib stream. As in Python, bytes behind the end of a
//! stream are left alone, and bzip2 may have several streams in a row. Not read here: lzma, zstd, brotli.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::ZlibDecoder;
use serde_json::Value;

use crate::{DecodeError, Limits, Map};

/// How a body was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Zlib,
    Bzip2,
}

impl Compression {
    /// What the headers say; `None` for a body that is not compressed.
    pub(crate) fn of(headers: &Map) -> Result<Option<Self>, DecodeError> {
        let codec = match headers.get("compression") {
            None | Some(Value::Null | Value::Bool(false)) => return Ok(None),
            Some(Value::String(codec)) if codec.is_empty() => return Ok(None),
            Some(Value::String(codec)) => codec.clone(),
            Some(other) => other.to_string(),
        };
        match &*codec {
            "application/x-gzip" | "gzip" | "zlib" => Ok(Some(Self::Zlib)),
            "application/x-bz2" | "bzip2" | "bzip" => Ok(Some(Self::Bzip2)),
            _ => Err(DecodeError::UnknownCompression { codec }),
        }
    }

    /// The body as it was before.
    pub(crate) fn undo(self, compressed: &[u8], limits: &Limits) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        let inflated = match self {
            Self::Zlib => read_up_to(ZlibDecoder::new(compressed), limits, &mut out),
            Self::Bzip2 => read_bzip2(compressed, limits, &mut out),
        };
        match inflated {
            Ok(true) => Ok(out),
            Ok(false) => Err(DecodeError::InflatesTooMuch {
                bytes: compressed.len(),
                limit: limits.body_bytes,
            }),
            Err(err) => Err(DecodeError::Compression {
                codec: self.name(),
                reason: err.to_string(),
            }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Bzip2 => "bzip2",
        }
    }
}

fn read_bzip2(mut compressed: &[u8], limits: &Limits, out: &mut Vec<u8>) -> io::Result<bool> {
    let mut is_first = true;
    while is_first || !compressed.fill_buf()?.is_empty() {
        match read_up_to(BzDecoder::new(&mut compressed), limits, out) {
            Ok(true) => is_first = false,
            // Behind a stream, what is not the next one is left alone.
            Err(err) if !is_first && err.kind() != io::ErrorKind::UnexpectedEof => return Ok(true),
            other => return other,
        }
    }
    Ok(true)
}

/// Reads to the end; `false` when there is more than the limit allows.
fn read_up_to(mut reader: impl Read, limits: &Limits, out: &mut Vec<u8>) -> io::Result<bool> {
    let room = limits.body_bytes.saturating_sub(out.len());
    let one_more = u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.by_ref().take(one_more).read_to_end(out)?;
    Ok(read <= room)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn cut(bytes: &[u8], length: usize) -> &[u8] {
        bytes.get(..length).unwrap()
    }

    fn undo(compression: Compression, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let limits = Limits::new(1000, 1000);
        compression.undo(bytes, &limits)
    }

    #[test]
    fn kombus_names_are_known() {
        let of =
            |value: Value| Compression::of(&Map::from_iter([("compression".to_owned(), value)]));
        for name in ["application/x-gzip", "gzip", "zlib"] {
            assert_eq!(of(Value::from(name)), Ok(Some(Compression::Zlib)));
        }
        for name in ["application/x-bz2", "bzip2", "bzip"] {
            assert_eq!(of(Value::from(name)), Ok(Some(Compression::Bzip2)));
        }
        for none in [Value::Null, Value::from(""), Value::from(false)] {
            assert_eq!(of(none), Ok(None));
        }
        for (unknown, shown) in [
            (Value::from("application/x-nope"), "application/x-nope"),
            (Value::from(7), "7"),
        ] {
            let err = of(unknown).unwrap_err().to_string();
            assert_eq!(
                err,
                format!("the body is compressed with {shown:?}; zlib and bzip2 are read here")
            );
        }
    }

    #[test]
    fn what_was_compressed_comes_back() {
        let text = b"[[], {}, {}]".repeat(80);
        for (compression, bytes) in [
            (Compression::Zlib, zlib(&text)),
            (Compression::Bzip2, bzip2(&text)),
        ] {
            assert_eq!(undo(compression, &bytes), Ok(text.clone()));
            // As Python's zlib.decompress and bz2.decompress do.
            assert_eq!(
                undo(compression, &[&*bytes, b"behind"].concat()),
                Ok(text.clone())
            );
        }
        let two = [bzip2(b"a"), bzip2(b"b")].concat();
        assert_eq!(undo(Compression::Bzip2, &two), Ok(b"ab".to_vec()));
    }

    #[test]
    fn a_broken_stream_is_refused() {
        let text = b"[[], {}, {}]".repeat(80);
        for (compression, whole) in [
            (Compression::Zlib, zlib(&text)),
            (Compression::Bzip2, bzip2(&text)),
        ] {
            for broken in [
                cut(&whole, whole.len() / 2),
                cut(&whole, whole.len() - 1),
                b"",
                b"plain text",
            ] {
                let err = undo(compression, broken).unwrap_err();
                assert!(matches!(err, DecodeError::Compression { .. }), "{err}");
            }
        }
        let second_is_cut = [&*bzip2(b"a"), cut(&bzip2(&text), 20)].concat();
        assert!(undo(Compression::Bzip2, &second_is_cut).is_err());
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let (mut out, limits) = (Vec::new(), Limits::new(1000, 1000));
        let endless = io::repeat(b' ').take(1_000_000);
        assert!(!read_up_to(endless, &limits, &mut out).unwrap());
        assert_eq!(
            out.len(),
            1001,
            "no more is read than shows that it is too much"
        );
        let blanks = vec![b' '; 100_000];
        for (compression, bomb) in [
            (Compression::Zlib, zlib(&blanks)),
            (Compression::Bzip2, bzip2(&blanks)),
        ] {
            let err = undo(compression, &bomb).unwrap_err().to_string();
            assert_eq!(
                err,
                format!(
                    "the body inflates from {} to more than 1000 bytes",
                    bomb.len()
                )
            );
        }
        assert_eq!(
            undo(Compression::Zlib, &zlib(&[b' '; 1000])).unwrap().len(),
            1000
        );
        assert!(
            undo(
                Compression::Bzip2,
                &[bzip2(&[b' '; 600]), bzip2(&[b' '; 600])].concat()
            )
            .is_err()
        );
    }
}
