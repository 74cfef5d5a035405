//! The strings of JSON: where they end, and what their escapes stand for.
//!
//! Counterpart: CPython's `json.decoder` (`scanstring`), strict.

use std::borrow::Cow;

pub(crate) type Read<T> = Result<T, &'static str>;

/// A string, or the inside of the literal of one that Rust cannot hold.
#[derive(Debug, PartialEq)]
pub(crate) enum Text<'a> {
    Whole(Cow<'a, str>),
    Broken(String),
}

impl Text<'_> {
    /// What the inside of a literal stands for.
    pub(crate) fn unescaped(inside: &str) -> Read<Self> {
        let mut whole = String::with_capacity(inside.len());
        let mut is_broken = false;
        pieces(inside, |piece| match piece {
            Piece::Char(c) => whole.push(c),
            Piece::Half(_) => is_broken = true,
        })?;
        if !is_broken {
            return Ok(Self::Whole(Cow::Owned(whole)));
        }
        let mut literal = String::new();
        pieces(inside, |piece| match piece {
            Piece::Char(c) => crate::json::write_escaped(&mut literal, c),
            Piece::Half(unit) => literal.push_str(&format!("\\u{unit:04x}")),
        })?;
        Ok(Self::Broken(literal))
    }
}

/// How many bytes there are before the first that may not stand in a string as it is, or ends it.
pub(crate) fn plain_length(bytes: &[u8]) -> usize {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    let mut at = 0;
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let found = special_bytes(u64::from_le_bytes(*word));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        (at, rest) = (at + word.len(), behind);
    }
    at + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// The highest bit of each of eight bytes that is a quote, a backslash or a control character; bytes above the first
/// such may be marked as well, since what is borrowed in a subtraction comes from them.
fn special_bytes(word: u64) -> u64 {
    const EACH: u64 = u64::MAX / 0xff;
    let below = |word: u64, limit: u8| word.wrapping_sub(EACH * u64::from(limit)) & !word;
    let equal = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & (EACH * 0x80)
}

/// A part of a string.
pub(crate) enum Piece {
    /// A character.
    Char(char),
    /// Half a surrogate pair.
    Half(u16),
}

/// Takes the inside of a literal apart.
pub(crate) fn pieces(inside: &str, mut each: impl FnMut(Piece)) -> Read<()> {
    let mut high: Option<u16> = None;
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        let unit = match c {
            '\\' => match escape(&mut chars)? {
                Ok(c) => Err(c),
                Err(unit) => Ok(unit),
            },
            c => Err(c),
        };
        let unit = match unit {
            Ok(unit @ 0xdc00..=0xdfff) if high.is_some() => {
                let pair = [high.take().unwrap_or_default(), unit];
                char::decode_utf16(pair)
                    .flatten()
                    .for_each(|c| each(Piece::Char(c)));
                continue;
            }
            unit => unit,
        };
        if let Some(alone) = high.take() {
            each(Piece::Half(alone));
        }
        match unit {
            Err(c) => each(Piece::Char(c)),
            Ok(unit @ 0xd800..=0xdbff) => high = Some(unit),
            Ok(unit) => each(Piece::Half(unit)),
        }
    }
    if let Some(alone) = high {
        each(Piece::Half(alone));
    }
    Ok(())
}

/// What stands behind a backslash: a character, or one half of a pair.
fn escape(chars: &mut std::str::Chars<'_>) -> Read<Result<char, u16>> {
    let c = match chars.next() {
        Some(c @ ('"' | '\\' | '/')) => c,
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => {
            let mut unit = 0_u16;
            for _ in 0..4 {
                let digit = chars.next().and_then(|c| c.to_digit(16));
                let digit = digit.and_then(|digit| u16::try_from(digit).ok());
                unit = unit * 16 + digit.ok_or("invalid escape")?;
            }
            return Ok(char::from_u32(u32::from(unit)).ok_or(unit));
        }
        _ => return Err("invalid escape"),
    };
    Ok(Ok(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_plain_up_to_the_first_byte_that_is_not() {
        for length in 0..40 {
            let plain: Vec<u8> = (0x20..=0xff)
                .filter(|byte| !b"\"\\".contains(byte))
                .cycle()
                .skip(length * 7)
                .take(length)
                .collect();
            assert_eq!(plain_length(&plain), length);
            for special in (0..0x20).chain(*b"\"\\") {
                for behind in [&b""[..], b"a\"", b"\x00\x1f and more of it"] {
                    let text = [&plain, &[special][..], behind].concat();
                    assert_eq!(plain_length(&text), length, "{text:?}");
                }
            }
        }
    }
}
