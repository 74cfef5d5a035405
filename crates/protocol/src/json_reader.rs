//! Reading JSON as Python reads it, and with what serde_json would refuse or lose: `NaN`, `Infinity`, whole numbers of any
//! length, half a surrogate pair, floats that overflow.
//!
//! Not serde_json's own reader of a `Value`: that also takes an object with the key [`special::RAW_VALUE`] for a mark, and
//! reads the text that it holds in its place. A sender's data would become other data, and one text any number of values,
//! which no limit has counted.
//!
//! What is read as a type is read straight into [`Fields`]: no map and no copied text for a worker's every message.
//! Counterpart: CPython's `json.decoder` and `json.scanner`, strict.

use std::borrow::Cow;

use serde_json::Value;

use crate::{
    Map,
    fields::Fields,
    json_text::{self, Read, Text},
    key_order::Layout,
    node::{Body, Node},
    special::{self, Special},
};

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

/// Reads all of `text` in one of the reader's ways, such as [`Reader::value`]. Lists and objects are `levels` deep at most.
pub(crate) fn read<'a, T>(
    text: &'a str,
    levels: usize,
    way: impl FnOnce(&mut Reader<'a>) -> Read<T>,
) -> Result<T, ReadError> {
    let mut reader = Reader {
        bytes: text.as_bytes(),
        text,
        at: 0,
        levels,
    };
    let read = way(&mut reader).and_then(|read| {
        reader.blanks();
        match reader.peek() {
            None => Ok(read),
            Some(_) => Err("trailing characters"),
        }
    });
    read.map_err(|reason| reader.error(reason))
}

/// How a list and an object end, and the error when they do not.
const LIST: (u8, &str) = (b']', "expected `,` or `]`");
const OBJECT: (u8, &str) = (b'}', "expected `,` or `}`");

pub(crate) struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// How many more lists and objects may be inside each other.
    levels: usize,
}

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

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
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
        let is_there = self.rest().starts_with(word.as_bytes());
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

    /// Reads a value.
    pub(crate) fn value(&mut self) -> Read<Value> {
        self.blanks();
        match self.peek() {
            None => Err("EOF while parsing a value"),
            Some(b'{') => self.map().map(Value::Object),
            Some(b'[') => self.list().map(Value::Array),
            Some(b'"') => Ok(match self.string()? {
                Text::Whole(text) => Value::String(text.into_owned()),
                Text::Broken(inside) => broken(&inside),
            }),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
        }
    }

    /// Reads a field's value, which has a layout if it is to be an object of fields.
    pub(crate) fn node(&mut self, layout: Option<&'static Layout>) -> Read<Node<'a>> {
        self.blanks();
        match (self.peek(), layout) {
            (Some(b'{'), Some(layout)) => self.fields(layout).map(Node::Fields),
            (Some(b'{'), None) => self.map().map(Box::new).map(Node::Object),
            (Some(b'['), _) => self.list().map(Node::List),
            (Some(b'"'), _) => Ok(match self.string()? {
                Text::Whole(text) => Node::Text(text),
                Text::Broken(inside) => broken(&inside).into(),
            }),
            (Some(b'n'), _) if self.skip_word("null") => Ok(Node::Null),
            _ => self.value().map(Node::from),
        }
    }

    /// Reads a body; `embed` is the layout of the third part of protocol 2.
    pub(crate) fn body(&mut self, embed: &'static Layout) -> Read<Body<'a>> {
        self.blanks();
        if self.peek() != Some(b'[') {
            return self.value().map(Body::Other);
        }
        let mut parts = Vec::with_capacity(3);
        self.items(LIST, |reader| {
            let layout = (parts.len() == 2).then_some(embed);
            parts.push(reader.node(layout)?);
            Ok(())
        })?;
        Ok(Body::of_parts(parts))
    }

    fn word(&mut self) -> Read<Value> {
        if self.skip_word("null") {
            Ok(Value::Null)
        } else if self.skip_word("true") {
            Ok(Value::Bool(true))
        } else if self.skip_word("false") {
            Ok(Value::Bool(false))
        } else if self.skip_word("NaN") {
            Ok(Special::Nan.into_value())
        } else if self.skip_word("Infinity") {
            Ok(Special::Infinity.into_value())
        } else {
            Err("expected value")
        }
    }

    fn list(&mut self) -> Read<Vec<Value>> {
        let mut items = Vec::new();
        self.items(LIST, |reader| {
            items.push(reader.value()?);
            Ok(())
        })?;
        Ok(items)
    }

    fn map(&mut self) -> Read<Map> {
        let mut map = Map::new();
        self.items(OBJECT, |reader| {
            let key = reader.key()?.into_owned();
            map.insert(key, reader.value()?);
            Ok(())
        })?;
        Ok(map)
    }

    fn fields(&mut self, layout: &'static Layout) -> Read<Box<Fields<'a>>> {
        let mut fields = Fields::empty(layout);
        self.items(OBJECT, |reader| {
            let likely = fields.likely_place();
            if layout
                .name(likely)
                .is_some_and(|name| reader.skip_key(name))
            {
                reader.colon()?;
                fields.put_known(likely, reader.node(layout.inside(likely))?);
                return Ok(());
            }
            let key = reader.key()?;
            match layout.place(&key, likely) {
                Some(place) => fields.put_known(place, reader.node(layout.inside(place))?),
                None => fields.put_extra(key.into_owned(), reader.value()?),
            }
            Ok(())
        })?;
        fields.complete();
        Ok(fields)
    }

    /// Goes through a list or an object, with `item` for each of its items.
    fn items(
        &mut self,
        (end, expected): (u8, &'static str),
        mut item: impl FnMut(&mut Self) -> Read<()>,
    ) -> Read<()> {
        self.at += 1;
        self.levels = self.levels.checked_sub(1).ok_or("nested too deep")?;
        self.blanks();
        if !self.skip(end) {
            loop {
                item(self)?;
                self.blanks();
                if self.skip(end) {
                    break;
                }
                if !self.skip(b',') {
                    return Err(expected);
                }
            }
        }
        self.levels += 1;
        Ok(())
    }

    /// Goes behind this key, if it is next and written without escapes.
    fn skip_key(&mut self, name: &str) -> bool {
        self.blanks();
        let inside = self.rest().strip_prefix(b"\"");
        let behind = inside.and_then(|rest| rest.strip_prefix(name.as_bytes()));
        let is_there = behind.is_some_and(|rest| rest.first() == Some(&b'"'));
        if is_there {
            self.at += name.len() + 2;
        }
        is_there
    }

    /// Reads a key, as it is kept, and its colon.
    fn key(&mut self) -> Read<Cow<'a, str>> {
        self.blanks();
        if self.peek() != Some(b'"') {
            return Err("key must be a string");
        }
        let key = match self.string()? {
            Text::Whole(key) => special::kept_key(key),
            Text::Broken(inside) => special::broken_key(&inside).into(),
        };
        self.colon()?;
        Ok(key)
    }

    fn colon(&mut self) -> Read<()> {
        self.blanks();
        match self.skip(b':') {
            true => Ok(()),
            false => Err("expected `:`"),
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
            return Ok(Special::NegativeInfinity.into_value());
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

    fn string(&mut self) -> Read<Text<'a>> {
        self.at += 1;
        let start = self.at;
        let rest = self.rest();
        let length = json_text::plain_length(rest);
        self.at += length;
        if rest.get(length) == Some(&b'"') {
            let inside = self.text.get(start..self.at).unwrap_or_default();
            self.at += 1;
            return Ok(Text::Whole(Cow::Borrowed(inside)));
        }
        self.string_with_escapes(start)
    }

    #[cold]
    fn string_with_escapes(&mut self, start: usize) -> Read<Text<'a>> {
        loop {
            match self.peek() {
                None => return Err("EOF while parsing a string"),
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(0..=0x1f) => return Err("control character in a string"),
                Some(_) => self.at += json_text::plain_length(self.rest()),
            }
        }
        let inside = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Text::unescaped(inside)
    }
}

/// The value that stands for a string with half a surrogate pair.
fn broken(inside: &str) -> Value {
    Special::Text(format!("\"{inside}\"")).into_value()
}
