//! From the parser's events to a value, within the limits.
//!
//! An alias is a copy of what it names, and counts as that: a few lines of aliases of aliases would be gigabytes.
//! Counterpart: PyYAML's `composer.py` and `constructor.py` (`SafeConstructor`).

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use granit_parser::{Event, Parser, ScalarStyle, Tag, options};
use serde_json::Value;

use super::plain;
use crate::{DecodeError, Limits, Map, json, special, tagged::PythonObject};

/// A text as a key: PyYAML's own limit is the standard's, 1024 characters.
const KEY_CHARACTERS: usize = 1024;

/// Reads the only document in `bytes`; none at all is null.
pub(crate) fn read(
    limits: &Limits,
    what: &'static str,
    bytes: &[u8],
) -> Result<Value, DecodeError> {
    let wrong = |reason| serialized(what, reason);
    let text = std::str::from_utf8(bytes).map_err(|err| wrong(format!("not UTF-8: {err}")))?;
    let options = options! {
        flow_nesting_limit: limits.nesting,
        block_nesting_limit: limits.nesting,
        simple_key_max_lookahead: KEY_CHARACTERS,
        block_scalar_eof_without_line_feed: true,
    };
    let mut reader = Reader {
        limits,
        what,
        open: Vec::new(),
        anchors: HashMap::new(),
        values: 0,
        documents: 0,
        root: None,
    };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, _) = next.map_err(|err| wrong(err.to_string()))?;
        reader.event(event)?;
    }
    Ok(reader.root.unwrap_or_default())
}

fn serialized(what: &'static str, reason: String) -> DecodeError {
    DecodeError::Serialized {
        what,
        serializer: "yaml",
        reason,
    }
}

/// A value with what it counts as.
#[derive(Clone)]
struct Node {
    value: Value,
    /// The values in it, itself among them.
    count: usize,
    /// Lists and maps inside each other.
    height: usize,
}

/// A list or map that is being read.
struct Open {
    kind: Kind,
    anchor: usize,
    count: usize,
    height: usize,
}

enum Kind {
    List(Vec<Value>),
    Map { map: Map, key: Option<String> },
}

struct Reader<'a> {
    limits: &'a Limits,
    what: &'static str,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    values: usize,
    documents: usize,
    root: Option<Value>,
}

impl Reader<'_> {
    fn wrong(&self, reason: impl Into<String>) -> DecodeError {
        serialized(self.what, reason.into())
    }

    fn event(&mut self, event: Event<'_>) -> Result<(), DecodeError> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.wrong("there is a second document"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_key = self.wants_key();
                let is_plain = style == ScalarStyle::Plain;
                if is_key && is_plain && tag.is_none() && text == "<<" {
                    return Err(self.wrong("the merge key << is not read"));
                }
                let value = scalar(&text, is_plain, tag.as_deref());
                let value = value.map_err(|reason| self.wrong(reason))?;
                self.count(1)?;
                let (count, height) = (1, 0);
                self.node(
                    Node {
                        value,
                        count,
                        height,
                    },
                    anchor,
                )
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq")?;
                self.start(Kind::List(Vec::new()), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "map")?;
                let (map, key) = (Map::new(), None);
                self.start(Kind::Map { map, key }, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id) else {
                    return Err(self.wrong("an alias of what it is inside of"));
                };
                let (count, height) = (node.count, node.height);
                self.count(count)?;
                self.check_depth(height)?;
                match self.anchors.get(&id).cloned() {
                    Some(node) => self.node(node, 0),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        let top = self.open.last().map(|open| &open.kind);
        matches!(top, Some(Kind::Map { key: None, .. }))
    }

    fn count(&mut self, more: usize) -> Result<(), DecodeError> {
        self.values = self.values.saturating_add(more);
        let (what, limit) = (self.what, self.limits.values);
        if self.values > limit {
            return Err(DecodeError::TooManyValues { what, limit });
        }
        Ok(())
    }

    /// Whether something of this height has room where we are.
    fn check_depth(&self, height: usize) -> Result<(), DecodeError> {
        let (what, limit) = (self.what, self.limits.nesting);
        if self.open.len() + height > limit {
            return Err(DecodeError::TooDeep { what, limit });
        }
        Ok(())
    }

    fn check_tag(&self, tag: Option<&Tag>, expected: &str) -> Result<(), DecodeError> {
        match tag {
            Some(tag) if name(tag) != "!" && suffix(tag) != Some(expected) => {
                Err(self.wrong(unknown(tag)))
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, kind: Kind, anchor: usize) -> Result<(), DecodeError> {
        if self.wants_key() {
            return Err(self.wrong("a key is a list or a map"));
        }
        self.count(1)?;
        self.check_depth(1)?;
        let (count, height) = (1, 1);
        self.open.push(Open {
            kind,
            anchor,
            count,
            height,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), DecodeError> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.kind {
            Kind::List(items) => Value::Array(items),
            Kind::Map { map, .. } => Value::Object(map),
        };
        let (count, height) = (open.count, open.height);
        self.node(
            Node {
                value,
                count,
                height,
            },
            open.anchor,
        )
    }

    /// Puts a finished value where it belongs.
    fn node(&mut self, node: Node, anchor: usize) -> Result<(), DecodeError> {
        if anchor != 0 {
            // Kept for its aliases, a second time.
            self.count(node.count)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node.value);
            return Ok(());
        };
        open.count += node.count;
        open.height = open.height.max(node.height + 1);
        match &mut open.kind {
            Kind::List(items) => items.push(node.value),
            Kind::Map { map, key } => match key.take() {
                Some(key) => drop(map.insert(key, node.value)),
                None => match key_text(node.value) {
                    Ok(text) => *key = Some(text),
                    Err(reason) => return Err(serialized(self.what, reason.to_owned())),
                },
            },
        }
        Ok(())
    }
}

/// As Python's JSON writes a key that is no string.
fn key_text(value: Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(special::kept_key(text).into_owned()),
        Value::Array(_) => Err("a key is a list or a map"),
        Value::Object(_) if special::token(&value).is_none() => Err("a key is no text"),
        other => Ok(json::to_python_string(&other)),
    }
}

fn name(tag: &Tag) -> String {
    format!("{}{}", tag.handle(), tag.suffix())
}

/// `int` of `!!int`.
fn suffix(tag: &Tag) -> Option<&str> {
    match (tag.handle(), tag.suffix()) {
        ("tag:yaml.org,2002:", suffix) => Some(suffix),
        ("", whole) => whole.strip_prefix("tag:yaml.org,2002:"),
        _ => None,
    }
}

fn unknown(tag: &Tag) -> String {
    format!("the tag {} is not known", name(tag))
}

fn scalar(text: &str, is_plain: bool, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(tag) = tag else {
        return if is_plain {
            plain::resolve(text)
        } else {
            Ok(Value::from(text))
        };
    };
    if name(tag) == "!" {
        return Ok(Value::from(text));
    }
    match suffix(tag) {
        Some("str") => Ok(Value::from(text)),
        Some("int") => plain::integer(text),
        Some("float") => plain::float(text),
        Some("bool") => plain::boolean(text).ok_or_else(|| format!("{text} is no boolean")),
        Some("null") => Ok(Value::Null),
        Some("timestamp") => plain::time(text),
        Some("binary") => {
            let digits: String = text.split_whitespace().collect();
            let bytes = BASE64.decode(digits).map_err(|err| err.to_string())?;
            Ok(PythonObject::Bytes(bytes.into()).to_value())
        }
        _ => Err(unknown(tag)),
    }
}
