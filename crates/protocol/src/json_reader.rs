//! Reading JSON as Python reads it, where serde_json would refuse it or lose something: `NaN`, `Infinity`, whole numbers
//! of any length, half a surrogate pair, floats that overflow.
//!
//! The slow way: [`crate::json`] comes here only with what needs it.
//! Counterpart: CPython's `json.decoder` and `json.scanner`, strict.

use serde_json::Value;

use crate::{Map, special};

/// Why a text is not JSON, with its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadError {
    reason: &'static str,
    line: usize,
    column: usize,
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            reason,
            line,
            column,
        } = self;
        write!(f, "{reason} at line {line} column {column}")
    }
}

/// Reads all of `text`. Its nesting has been looked at before: this goes as deep as the text does.
pub(crate) fn read(text: &str) -> Result<Value, ReadError> {
    let mut reader = Reader {
        bytes: text.as_bytes(),
        text,
        at: 0,
    };
    let value = reader.value().and_then(|value| {
        reader.blanks();
        match reader.peek() {
            None => Ok(value),
            Some(_) => Err("trailing characters"),
        }
    });
    value.map_err(|reason| reader.error(reason))
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

pub(crate) type Read<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    fn error(&self, reason: &'static str) -> ReadError {
        let before = self.bytes.get(..self.at).unwrap_or(self.bytes);
        let line_start = before.iter().rposition(|byte| *byte == b'\n');
        ReadError {
            reason,
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: before.len() - line_start.map_or(0, |at| at + 1) + 1,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let is_there = rest.starts_with(word.as_bytes());
        if is_there {
            self.at += word.len();
        }
        is_there
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Read<Value> {
        self.blanks();
        match self.peek() {
            None => Err("EOF while parsing a value"),
            Some(b'{') => self.object(),
            Some(b'[') => self.list(),
            Some(b'"') => self.string().map(|text| match text {
                Text::Whole(text) => Value::String(text),
                Text::Broken(inside) => {
                    special::Special::Text(format!("\"{inside}\"")).into_value()
                }
            }),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
        }
    }

    fn word(&mut self) -> Read<Value> {
        for (word, value) in [
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("NaN", special::Special::Nan.into_value()),
            ("Infinity", special::Special::Infinity.into_value()),
        ] {
            if self.skip_word(word) {
                return Ok(value);
            }
        }
        Err("expected value")
    }

    fn list(&mut self) -> Read<Value> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.skip(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.blanks();
            if self.skip(b']') {
                return Ok(Value::Array(items));
            }
            if !self.skip(b',') {
                return Err("expected `,` or `]`");
            }
        }
    }

    fn object(&mut self) -> Read<Value> {
        self.at += 1;
        let mut map = Map::new();
        self.blanks();
        if self.skip(b'}') {
            return Ok(Value::Object(map));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err("key must be a string");
            }
            let key = match self.string()? {
                Text::Whole(key) => special::kept_key(key),
                Text::Broken(inside) => special::broken_key(&inside),
            };
            self.blanks();
            if !self.skip(b':') {
                return Err("expected `:`");
            }
            let value = self.value()?;
            map.insert(key, value);
            self.blanks();
            if self.skip(b'}') {
                return Ok(Value::Object(map));
            }
            if !self.skip(b',') {
                return Err("expected `,` or `}`");
            }
        }
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at > start
    }

    fn number(&mut self) -> Read<Value> {
        let start = self.at;
        if self.skip_word("-Infinity") {
            return Ok(special::Special::NegativeInfinity.into_value());
        }
        self.skip(b'-');
        if !self.skip(b'0') && !self.digits() {
            return Err("invalid number");
        }
        if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err("invalid number");
        }
        let mut is_whole = true;
        if self.skip(b'.') {
            is_whole = false;
            if !self.digits() {
                return Err("invalid number");
            }
        }
        if self.skip(b'e') || self.skip(b'E') {
            is_whole = false;
            let _has_sign = self.skip(b'+') || self.skip(b'-');
            if !self.digits() {
                return Err("invalid number");
            }
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if is_whole {
            return Ok(special::integer(text));
        }
        // As Python's float(): what is too large is infinite.
        text.parse()
            .map(special::float)
            .map_err(|_not| "invalid number")
    }

    fn string(&mut self) -> Read<Text> {
        self.at += 1;
        let start = self.at;
        let inside = loop {
            match self.peek() {
                None => return Err("EOF while parsing a string"),
                Some(b'"') => {
                    let inside = self.text.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    break inside;
                }
                Some(b'\\') => self.at += 2,
                Some(0..=0x1f) => return Err("control character in a string"),
                Some(_) => self.at += 1,
            }
        };
        Text::of(inside)
    }
}

/// A string, or the inside of the literal of one that Rust cannot hold.
#[derive(Debug, PartialEq)]
enum Text {
    Whole(String),
    Broken(String),
}

impl Text {
    fn of(inside: &str) -> Read<Self> {
        let mut whole = String::with_capacity(inside.len());
        let mut is_broken = false;
        pieces(inside, |piece| match piece {
            Piece::Char(c) => whole.push(c),
            Piece::Half(_) => is_broken = true,
        })?;
        if !is_broken {
            return Ok(Self::Whole(whole));
        }
        let mut literal = String::new();
        pieces(inside, |piece| match piece {
            Piece::Char(c) => crate::json::write_escaped(&mut literal, c),
            Piece::Half(unit) => literal.push_str(&format!("\\u{unit:04x}")),
        })?;
        Ok(Self::Broken(literal))
    }
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
