//! Compressed bodies: what `task_compression` makes of them, named by the header `compression`.
//!
//! Decompression stops at the limit, so that a small message cannot take much memory.
//!
//! Counterpart: `kombu/compression.py @ 5.7.0`. Its `gzip` is a zlib stream. As in Python, bytes behind the end of a
//! stream are left alone, and bzip2 and zstd may have several streams in a row. Not read here: lzma.

use std::io::{self, BufRead, Read};

use bzip2::bufread::{BzDecoder, BzEncoder};
use flate2::bufread::{ZlibDecoder, ZlibEncoder};
use ruzstd::{
    decoding::{
        StreamingDecoder,
        errors::{FrameDecoderError, ReadFrameHeaderError},
    },
    encoding::{CompressionLevel, compress_to_vec},
};
use serde_json::Value;

use crate::{DecodeError, Limits};

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// kombu's `gzip`, which is a zlib stream.
    Zlib,
    /// bzip2.
    Bzip2,
    /// Zstandard.
    Zstd,
    /// Brotli.
    Brotli,
}

/// Between fast (0) and small (11, the slowest, which kombu takes).
const BROTLI_QUALITY: u32 = 5;

/// 2 to this power bytes are looked back at most; brotli's default, as in kombu.
const BROTLI_WINDOW: u32 = 22;

/// What every decoder of Zstandard has to look back, at least; it is memory beside that of the body.
const ZSTD_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

const BUFFER_BYTES: usize = 4096;

impl Compression {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Zlib, Self::Bzip2, Self::Zstd, Self::Brotli];

    /// By one of kombu's names, or by the content type; `None` for what is not known here.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "application/x-gzip" | "gzip" | "zlib" => Some(Self::Zlib),
            "application/x-bz2" | "bzip2" | "bzip" => Some(Self::Bzip2),
            "application/zstd" | "zstd" | "zstandard" => Some(Self::Zstd),
            "application/x-brotli" | "brotli" => Some(Self::Brotli),
            _ => None,
        }
    }

    /// The value of the header `compression`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Zlib => "application/x-gzip",
            Self::Bzip2 => "application/x-bz2",
            Self::Zstd => "application/zstd",
            Self::Brotli => "application/x-brotli",
        }
    }

    /// What it is called in settings; for the first, kombu's `gzip`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zlib => "gzip",
            other => other.format(),
        }
    }

    /// What the header `compression` says; `None` for a body that is not compressed.
    pub(crate) fn of(header: Option<&Value>) -> Result<Option<Self>, DecodeError> {
        let codec = match header {
            None | Some(Value::Null | Value::Bool(false)) => return Ok(None),
            Some(Value::String(codec)) if codec.is_empty() => return Ok(None),
            Some(Value::String(codec)) => codec.clone(),
            Some(other) => other.to_string(),
        };
        match Self::named(&codec) {
            Some(known) => Ok(Some(known)),
            None => Err(DecodeError::UnknownCompression { codec }),
        }
    }

    /// The body as it is sent.
    pub(crate) fn apply(self, body: &[u8]) -> Vec<u8> {
        let read = |mut reader: Box<dyn Read + '_>| {
            let mut out = Vec::new();
            let read = reader.read_to_end(&mut out);
            read.expect("memory is read without errors");
            out
        };
        match self {
            Self::Zlib => read(Box::new(ZlibEncoder::new(
                body,
                flate2::Compression::default(),
            ))),
            Self::Bzip2 => read(Box::new(BzEncoder::new(body, bzip2::Compression::best()))),
            Self::Zstd => compress_to_vec(body, CompressionLevel::Fastest),
            Self::Brotli => read(Box::new(brotli::CompressorReader::new(
                body,
                BUFFER_BYTES,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
        }
    }

    /// The body as it was before.
    pub(crate) fn undo(self, compressed: &[u8], limits: &Limits) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        let inflated = match self {
            Self::Zlib => read_up_to(ZlibDecoder::new(compressed), limits, &mut out),
            Self::Bzip2 => read_bzip2(compressed, limits, &mut out),
            Self::Zstd => read_zstd(compressed, limits, &mut out),
            Self::Brotli => read_up_to(
                brotli::Decompressor::new(compressed, BUFFER_BYTES),
                limits,
                &mut out,
            ),
        };
        match inflated {
            Ok(true) => Ok(out),
            Ok(false) => Err(DecodeError::InflatesTooMuch {
                bytes: compressed.len(),
                limit: limits.body_bytes,
            }),
            Err(err) => Err(DecodeError::Compression {
                codec: self.format(),
                reason: err.to_string(),
            }),
        }
    }

    fn format(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Bzip2 => "bzip2",
            Self::Zstd => "zstd",
            Self::Brotli => "brotli",
        }
    }
}

/// Frame by frame; what is meant to be skipped is.
fn read_zstd(mut compressed: &[u8], limits: &Limits, out: &mut Vec<u8>) -> io::Result<bool> {
    let window = u64::try_from(limits.body_bytes).unwrap_or(u64::MAX);
    let window = window.max(ZSTD_WINDOW_BYTES);
    let mut is_first = true;
    while is_first || !compressed.is_empty() {
        is_first = false;
        match StreamingDecoder::new_with_max_window_size(&mut compressed, window) {
            Ok(frame) => {
                if !read_up_to(frame, limits, out)? {
                    return Ok(false);
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let rest = compressed.get(length..);
                compressed = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
            }
            Err(err) => return Err(io::Error::other(err)),
        }
    }
    Ok(true)
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
    use super::*;

    fn cut(bytes: &[u8], length: usize) -> &[u8] {
        bytes.get(..length).unwrap()
    }

    fn undo(compression: Compression, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let limits = Limits::new(1000, 1000);
        compression.undo(bytes, &limits)
    }

    #[test]
    fn kombus_names_are_known() {
        let of = |value: Value| Compression::of(Some(&value));
        for (names, compression) in [
            (
                &["application/x-gzip", "gzip", "zlib"][..],
                Compression::Zlib,
            ),
            (&["application/x-bz2", "bzip2", "bzip"], Compression::Bzip2),
            (
                &["application/zstd", "zstd", "zstandard"],
                Compression::Zstd,
            ),
            (&["application/x-brotli", "brotli"], Compression::Brotli),
        ] {
            for name in names {
                assert_eq!(of(Value::from(*name)), Ok(Some(compression)));
            }
            assert_eq!(
                Compression::named(compression.content_type()),
                Some(compression)
            );
            assert_eq!(Compression::named(compression.name()), Some(compression));
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
                format!(
                    "the body is compressed with {shown:?}; zlib, bzip2, zstd and brotli are read here"
                )
            );
        }
    }

    #[test]
    fn what_was_compressed_comes_back() {
        for text in [b"[[], {}, {}]".repeat(80), b"x".to_vec(), Vec::new()] {
            for compression in Compression::ALL {
                let bytes = compression.apply(&text);
                assert_eq!(
                    undo(compression, &bytes),
                    Ok(text.clone()),
                    "{compression:?}"
                );
            }
        }
        let text = b"[[], {}, {}]".repeat(80);
        // As Python's zlib.decompress and bz2.decompress do.
        for compression in [Compression::Zlib, Compression::Bzip2] {
            let bytes = [&*compression.apply(&text), b"behind"].concat();
            assert_eq!(undo(compression, &bytes), Ok(text.clone()));
        }
        for compression in [Compression::Bzip2, Compression::Zstd] {
            let two = [compression.apply(b"a"), compression.apply(b"b")].concat();
            assert_eq!(
                undo(compression, &two),
                Ok(b"ab".to_vec()),
                "{compression:?}"
            );
        }
        let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        let zstd = [&skipped[..], &Compression::Zstd.apply(b"a"), skipped].concat();
        assert_eq!(undo(Compression::Zstd, &zstd), Ok(b"a".to_vec()));
        assert!(undo(Compression::Zstd, cut(skipped, 9)).is_err());
    }

    #[test]
    fn a_broken_stream_is_refused() {
        let text: Vec<u8> = (0..960_u32).flat_map(u32::to_le_bytes).collect();
        let limits = Limits::new(10_000, 10_000);
        for compression in Compression::ALL {
            let whole = compression.apply(&text);
            for broken in [
                cut(&whole, whole.len() / 2),
                cut(&whole, whole.len() - 1),
                b"",
                b"plain text",
            ] {
                let err = compression
                    .undo(broken, &limits)
                    .expect_err(compression.name());
                assert!(matches!(err, DecodeError::Compression { .. }), "{err}");
            }
        }
        let bzip2 = |bytes| Compression::Bzip2.apply(bytes);
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
        for compression in Compression::ALL {
            let bomb = compression.apply(&vec![b' '; 100_000]);
            let err = undo(compression, &bomb).unwrap_err().to_string();
            assert_eq!(
                err,
                format!(
                    "the body inflates from {} to more than 1000 bytes",
                    bomb.len()
                )
            );
            let fits = compression.apply(&[b' '; 1000]);
            assert_eq!(undo(compression, &fits).unwrap().len(), 1000);
        }
        for compression in [Compression::Bzip2, Compression::Zstd] {
            let part = compression.apply(&[b' '; 600]);
            assert!(undo(compression, &[&*part, &part].concat()).is_err());
        }
    }
}
