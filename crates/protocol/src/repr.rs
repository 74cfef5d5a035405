//! Python's way to show values: `repr`, `str`, and Celery's bounded `saferepr`.
//!
//! Counterpart: CPython's `repr`; `celery/utils/saferepr.py @ 5.7.0`. Celery's form of a string differs from
//! Python's: always single quotes, and nothing but those is escaped.

use serde_json::{Number, Value};

use crate::{
    Map,
    json::python_float,
    json_text::{self, Piece},
    special::{self, Key, Special},
    tagged::PythonObject,
};

/// Celery's bound for the arguments and results that it shows, in characters.
pub const MAX_LENGTH: usize = 1024;

/// Celery's bound on nesting (`task_repr_maxlevels`); what is deeper shows as `[...]`.
pub const MAX_LEVELS: usize = 3;

/// Positional arguments as in the header `argsrepr`: `('data/split_1.csv',)`.
pub fn repr_args(args: &[Value]) -> String {
    let mut writer = SafeRepr::new(Some(MAX_LENGTH), MAX_LEVELS);
    let end = if args.len() == 1 { ",)" } else { ")" };
    writer.container("(", end, |writer| writer.items(args));
    writer.out
}

/// Keyword arguments as in the header `kwargsrepr`: `{'a': 1}`.
pub fn repr_kwargs(kwargs: &Map) -> String {
    let mut writer = SafeRepr::new(Some(MAX_LENGTH), MAX_LEVELS);
    writer.object(kwargs);
    writer.out
}

/// Celery's `saferepr(value)` with its usual bounds, as in the log line of a task that succeeded.
pub fn saferepr(value: &Value) -> String {
    let mut writer = SafeRepr::new(Some(MAX_LENGTH), MAX_LEVELS);
    writer.value(value);
    writer.out
}

/// Python's plain `repr(value)`, without bounds.
pub fn repr_value(value: &Value) -> String {
    let mut out = String::new();
    write_repr(&mut out, value);
    out
}

/// Python's plain `repr` of a tuple.
pub fn repr_tuple(items: &[Value]) -> String {
    let mut out = String::from("(");
    write_items(&mut out, items);
    out.push_str(if items.len() == 1 { ",)" } else { ")" });
    out
}

/// Python's `str(value)`: a string is itself, all else its `repr`.
pub fn str_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr_value(other),
    }
}

fn write_repr(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            write_items(out, items);
            out.push(']');
        }
        Value::Object(map) => {
            if let Some(shown) = object_text(value) {
                out.push_str(&shown);
                return;
            }
            out.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                match special::key_said(key) {
                    Key::Text(key) => write_string(out, key),
                    Key::Literal(inside) => out.push_str(&text_literal(&format!("\"{inside}\""))),
                }
                out.push_str(": ");
                write_repr(out, value);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar_text(scalar)),
    }
}

fn write_items(out: &mut String, items: &[Value]) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(out, item);
    }
}

/// What stands for a value that JSON has no word for, as Python shows it; `None` for a plain object.
fn object_text(value: &Value) -> Option<String> {
    if let Some(special) = Special::of(value) {
        return Some(match special {
            Special::Nan => "nan".to_owned(),
            Special::Infinity => "inf".to_owned(),
            Special::NegativeInfinity => "-inf".to_owned(),
            Special::Integer(digits) => digits,
            Special::Text(literal) => text_literal(&literal),
        });
    }
    PythonObject::of(value).map(|object| object.repr())
}

/// Python's `repr` of a text with half a surrogate pair, from its JSON literal.
fn text_literal(literal: &str) -> String {
    let inside = inside(literal);
    let mut plain = String::new();
    each_piece(inside, |piece| match piece {
        Piece::Char(c) => plain.push(c),
        Piece::Half(_) => {}
    });
    let quote = quote_for(&plain);
    let mut out = String::from(quote);
    each_piece(inside, |piece| match piece {
        Piece::Char(c) => write_char(&mut out, c, quote),
        Piece::Half(unit) => out.push_str(&format!("\\u{unit:04x}")),
    });
    out.push(quote);
    out
}

/// As Celery shows it: only what Rust cannot hold is escaped.
fn text_shown(inside: &str) -> String {
    let mut out = String::new();
    each_piece(inside, |piece| match piece {
        Piece::Char(c) => out.push(c),
        Piece::Half(unit) => out.push_str(&format!("\\u{unit:04x}")),
    });
    out
}

fn inside(literal: &str) -> &str {
    let inside = literal
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inside.unwrap_or_default()
}

/// What is kept as a literal is one: it was looked at.
fn each_piece(inside: &str, each: impl FnMut(Piece)) {
    json_text::pieces(inside, each).unwrap_or_default();
}

/// Null, booleans and numbers; the rest is not asked for.
fn scalar_text(value: &Value) -> String {
    match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number_text(number),
        _ => "None".to_owned(),
    }
}

fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => python_float(float),
        _ => number.to_string(),
    }
}

/// A string with the quotes that Python chooses: single ones, unless only those occur inside.
fn write_string(out: &mut String, text: &str) {
    let quote = quote_for(text);
    out.push(quote);
    text.chars().for_each(|c| write_char(out, c, quote));
    out.push(quote);
}

fn quote_for(text: &str) -> char {
    if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    }
}

fn write_char(out: &mut String, c: char, quote: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c == quote => out.extend(['\\', c]),
        c if is_printable(c) => out.push(c),
        c => match u32::from(c) {
            code @ 0..=0xff => out.push_str(&format!("\\x{code:02x}")),
            code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        },
    }
}

/// Python's `str.isprintable`. Rust's own tables have the same rule behind `escape_debug`; a letter goes first because
/// a combining mark alone is escaped there.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    let mut buffer = [0; 8];
    let (letter, rest) = buffer.split_at_mut(1);
    letter.fill(b'a');
    let length = c.encode_utf8(rest).len() + 1;
    let text = buffer
        .get(..length)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .unwrap_or_default();
    text.escape_debug().nth(1) == Some(c)
}

enum Shown {
    /// A string, still without quotes.
    Text(String),
    Bytes(Vec<u8>),
    Other(String),
}

/// As [`object_text`], with what Celery shows in its own way.
fn safe_text(value: &Value) -> Option<Shown> {
    if let Some(Special::Text(literal)) = Special::of(value) {
        return Some(Shown::Text(text_shown(inside(&literal))));
    }
    let Some(PythonObject::Bytes(bytes)) = PythonObject::of(value) else {
        return object_text(value).map(Shown::Other);
    };
    Some(Shown::Bytes(bytes.into_owned()))
}

/// Celery's `saferepr`: stops at a number of characters, then closes what is open.
struct SafeRepr {
    out: String,
    /// Characters left; `None` is without bound. Signed, because the last piece may pass it.
    left: Option<i64>,
    max_levels: usize,
    level: usize,
    /// The limit was reached: only closing brackets follow.
    stopped: bool,
}

impl SafeRepr {
    fn new(max_length: Option<usize>, max_levels: usize) -> Self {
        let left = max_length.map(|max| i64::try_from(max).unwrap_or(i64::MAX));
        Self {
            out: String::new(),
            left,
            max_levels,
            level: 0,
            stopped: false,
        }
    }

    /// Writes one piece, or the mark of an end if there is no room. Says whether to go on.
    fn piece(&mut self, text: &str) -> bool {
        if self.stopped {
            return false;
        }
        if self.left.is_some_and(|left| left <= 0) {
            self.out.push_str(", ...");
            self.stopped = true;
            return false;
        }
        self.out.push_str(text);
        self.left = self.left.map(|left| left.saturating_sub(length(text)));
        true
    }

    /// Closing brackets are always written; the piece counts only while there is room.
    fn close(&mut self, text: &str) {
        self.out.push_str(text);
        if self.left.is_some_and(|left| left > 0) {
            self.left = self.left.map(|left| left.saturating_sub(length(text)));
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => self.container("[", "]", |writer| writer.items(items)),
            Value::Object(map) => match safe_text(value) {
                Some(Shown::Text(text)) => self.string(&text),
                Some(Shown::Bytes(bytes)) => self.bytes(&bytes),
                Some(Shown::Other(text)) => {
                    let text = self.truncate(&text);
                    self.piece(&text);
                }
                None => self.object(map),
            },
            scalar => {
                let text = self.truncate(&scalar_text(scalar));
                self.piece(&text);
            }
        }
    }

    fn string(&mut self, text: &str) {
        let quoted = format!("'{}'", self.truncate(text).replace('\'', "\\'"));
        self.piece(&quoted);
    }

    /// Celery shows bytes as text where they are, else in hexadecimal digits.
    fn bytes(&mut self, bytes: &[u8]) {
        let left = self.left.and_then(|left| usize::try_from(left).ok());
        let head = left
            .filter(|left| *left > 0)
            .and_then(|left| bytes.get(..left));
        let more = if head.is_some_and(|head| head.len() < bytes.len()) {
            "..."
        } else {
            ""
        };
        let head = head.unwrap_or(bytes);
        let inside = match std::str::from_utf8(head) {
            Ok(text) => text.to_owned(),
            Err(_) => head.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        self.piece(&format!("b'{inside}{more}'"));
    }

    fn object(&mut self, map: &Map) {
        self.container("{", "}", |writer| {
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 && !writer.piece(", ") {
                    return;
                }
                match special::key_said(key) {
                    Key::Text(key) => writer.string(key),
                    Key::Literal(inside) => writer.string(&text_shown(inside)),
                }
                if !writer.piece(": ") {
                    return;
                }
                writer.value(value);
            }
        });
    }

    fn items(&mut self, items: &[Value]) {
        for (index, item) in items.iter().enumerate() {
            if index > 0 && !self.piece(", ") {
                return;
            }
            self.value(item);
            if self.stopped {
                return;
            }
        }
    }

    fn container(&mut self, start: &str, end: &str, inside: impl FnOnce(&mut Self)) {
        if self.level >= self.max_levels {
            self.piece(&format!("{start}...{end}"));
            return;
        }
        if !self.piece(start) {
            return;
        }
        self.level += 1;
        inside(self);
        self.level -= 1;
        self.close(end);
    }

    /// Celery's `truncate`: cut to the room that is left, at a blank where there is one.
    fn truncate(&self, text: &str) -> String {
        let Some(left) = self
            .left
            .and_then(|left| usize::try_from(left).ok())
            .filter(|left| *left > 0)
        else {
            return text.to_owned();
        };
        match text.char_indices().nth(left - 1) {
            None => text.to_owned(),
            Some((at, c)) => {
                let head = text.get(..at + c.len_utf8()).unwrap_or(text);
                let head = head.rsplit_once(' ').map_or(head, |(before, _)| before);
                format!("{head}...")
            }
        }
    }
}

fn length(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}
