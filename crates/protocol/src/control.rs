//! Remote control: the requests of `celery inspect` and `celery control`, and the replies to them.
//!
//! ```json
//! {"method": "ping", "arguments": {}, "destination": null, "pattern": null, "matcher": null, "ticket": "…",
//!  "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "…"}}
//! ```
//! A request is broadcast to every worker in an [`Envelope`]; a reply goes into the queue that the client has bound to
//! the reply exchange. Whoever may publish can send a request, so nothing in it is believed: [`ControlRequest::parse`]
//! is total, and a pattern is matched in linear time.
//! Counterpart: `kombu/pidbox.py @ 5.7.0` (`Mailbox._publish`, `Node.handle_message`, `Mailbox._publish_reply`) and
//! `kombu/matcher.py`. Differences: what is not a list of names as `destination` is refused, and a pattern has no
//! look-around and no back-references.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use regex::Regex;
use serde_json::{Value, json};

use crate::{
    Accept, DecodeError, Envelope, Limits, Map, fields::Fields, json, key_order::Layout,
    serializer::JSON_CONTENT_TYPE,
};

/// The exchange that requests are broadcast on (`control_exchange`, with kombu's ending).
pub const CONTROL_EXCHANGE: &str = "celery.pidbox";

/// The exchange that replies are sent to.
pub const REPLY_EXCHANGE: &str = "reply.celery.pidbox";

/// Longest request that is read. A `hello` with 50,000 revoked ids, the largest that Celery sends, has 3 MB.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024 * 1024;

/// The memory that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 256 * 1024;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlRequest {
    /// What to do: `ping`, `revoke`, …
    pub method: String,
    /// The method's keyword arguments.
    pub arguments: Map,
    /// Who is meant; `None`: everybody whom the pattern does not exclude.
    pub destination: Option<Vec<String>>,
    /// Whose node name has to match.
    pub pattern: Option<NodePattern>,
    /// What the client knows its replies by; handed back as it came.
    pub ticket: Value,
    /// Where the reply goes; `None`: nobody waits for one.
    pub reply_to: Option<ReplyTo>,
    /// The sender's logical clock; a client has none worth taking over.
    pub clock: Option<u64>,
    /// Until when somebody waits for the reply, in seconds since 1970. A worker of Celery's answers later, too.
    pub expires: Option<f64>,
}

/// Where a reply goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo {
    /// The exchange; only [`REPLY_EXCHANGE`] is one for replies.
    pub exchange: String,
    /// The client's own id, by which its queue is bound there.
    pub routing_key: String,
}

/// A pattern that node names are matched with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePattern {
    /// The pattern's text.
    pub pattern: String,
    /// `glob` or `pcre`.
    pub matcher: String,
}

/// Why bytes are no request, or a request cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The bytes have another form than kombu's.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("the request has {bytes} bytes, more than the {MAX_REQUEST_BYTES} that are read")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The pattern cannot be matched.
    #[error("the pattern for node names cannot be used: {reason}")]
    Pattern {
        /// What is wrong with it.
        reason: String,
    },
}

const REQUEST: Layout = Layout {
    object: "request",
    keys: &[
        "method",
        "arguments",
        "destination",
        "pattern",
        "matcher",
        "ticket",
        "reply_to",
    ],
    tail: 2,
    optional: &["ticket", "reply_to"],
    inside: &[("reply_to", &REPLY_TO)],
};

const REPLY_TO: Layout = Layout {
    keys: &["exchange", "routing_key"],
    ..Layout::named("reply_to")
};

impl ControlRequest {
    /// Reads what was broadcast.
    ///
    /// # Errors
    /// The bytes are no envelope, or its body is no request in JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlError> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(ControlError::TooLarge { bytes: bytes.len() });
        }
        let envelope = Envelope::parse(bytes)?;
        if let Some(content_type) = &envelope.content_type {
            Accept::JSON.serializer(content_type)?;
        }
        let body = json::parse("body", &envelope.decode_body(&Limits::default())?)?;
        let mut fields = Fields::from_value(&REQUEST, body)?;
        let reply_to = fields
            .optional::<Box<Fields<'_>>>("reply_to")?
            .filter(|to| !to.is_empty());
        Ok(Self {
            method: fields.required("method")?,
            arguments: fields.or_default("arguments")?,
            destination: destination(&mut fields)?,
            pattern: pattern(&mut fields)?,
            ticket: fields
                .lenient::<String>("ticket")
                .map_or(Value::Null, Value::from),
            reply_to: reply_to.map(|to| ReplyTo::from_fields(*to)).transpose()?,
            clock: envelope.headers.get("clock").and_then(Value::as_u64),
            expires: envelope.headers.get("expires").and_then(Value::as_f64),
        })
    }

    /// Whether the node of this name is meant.
    ///
    /// # Errors
    /// [`ControlError::Pattern`].
    pub fn is_for(&self, node: &str) -> Result<bool, ControlError> {
        match (&self.destination, &self.pattern) {
            (Some(names), _) => Ok(names.iter().any(|name| name == node)),
            (None, Some(pattern)) => pattern.matches(node),
            (None, None) => Ok(true),
        }
    }
}

/// Names, or one name; an empty list is nobody in particular, as in Python.
fn destination(fields: &mut Fields<'_>) -> Result<Option<Vec<String>>, DecodeError> {
    if let Some(name) = fields.lenient::<String>("destination") {
        return Ok(Some(vec![name]).filter(|names| !names.concat().is_empty()));
    }
    let names = fields.optional::<Vec<Value>>("destination")?;
    let text = |name: &Value| name.as_str().map(str::to_owned);
    Ok(names
        .map(|names| (names.is_empty(), names.iter().filter_map(text).collect()))
        .and_then(|(is_empty, names)| (!is_empty).then_some(names)))
}

/// A pattern without a matcher, or the other way round, is none, as in Python.
fn pattern(fields: &mut Fields<'_>) -> Result<Option<NodePattern>, DecodeError> {
    let pattern = fields
        .optional::<String>("pattern")?
        .filter(|text| !text.is_empty());
    let matcher = fields
        .optional::<String>("matcher")?
        .filter(|text| !text.is_empty());
    Ok(pattern
        .zip(matcher)
        .map(|(pattern, matcher)| NodePattern { pattern, matcher }))
}

impl ReplyTo {
    fn from_fields(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            exchange: fields.required("exchange")?,
            routing_key: fields.required("routing_key")?,
        })
    }

    /// The queue that kombu's clients bind for their replies.
    pub fn queue(&self) -> String {
        format!("{}.{REPLY_EXCHANGE}", self.routing_key)
    }
}

impl NodePattern {
    /// Whether a node's name matches.
    ///
    /// # Errors
    /// [`ControlError::Pattern`]: there is no such matcher, or the pattern is no regular expression.
    pub fn matches(&self, node: &str) -> Result<bool, ControlError> {
        let expression = match self.matcher.as_str() {
            "glob" => glob(&self.pattern),
            "pcre" => self.pattern.clone(),
            other => {
                let reason = format!("no matcher installed for {other:?}");
                return Err(ControlError::Pattern { reason });
            }
        };
        let regex = regex::RegexBuilder::new(&expression)
            .size_limit(MAX_PATTERN_BYTES)
            .build()
            .map_err(|error| ControlError::Pattern {
                reason: last_line(&error),
            })?;
        Ok(starts_with(&regex, node))
    }
}

/// As `re.match`: the match begins where the text begins. The leftmost match does, if any.
fn starts_with(regex: &Regex, text: &str) -> bool {
    regex.find(text).is_some_and(|found| found.start() == 0)
}

/// The last line of such an error says what is wrong; those before it draw the pattern.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().to_owned()
}

/// Counterpart: `fnmatch.translate`.
fn glob(pattern: &str) -> String {
    let mut out = String::from(r"(?s)\A");
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        match character {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' => match set(rest.as_str()) {
                Some((expression, after)) => {
                    out.push_str(&expression);
                    rest = after.chars();
                }
                None => out.push_str(r"\["),
            },
            other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push_str(r"\z");
    out
}

/// A set of characters, `[abc]` or `[!a-c]`, from behind its bracket; what follows it.
fn set(text: &str) -> Option<(String, &str)> {
    let (negation, inside) = match text.strip_prefix('!') {
        Some(inside) => ("^", inside),
        None => ("", text),
    };
    // A bracket right at the beginning is one of the set.
    let close = inside
        .char_indices()
        .skip(1)
        .find_map(|(at, character)| (character == ']').then_some(at))?;
    let (members, after) = inside.split_at_checked(close)?;
    let mut expression = format!("[{negation}");
    for character in members.chars() {
        if !character.is_alphanumeric() && character != '-' {
            expression.push('\\');
        }
        expression.push(character);
    }
    expression.push(']');
    Some((expression, after.strip_prefix(']')?))
}

/// A request to all workers that nobody waits to be answered, as kombu writes it. `clock` is the sender's.
pub fn broadcast(method: &str, arguments: &Map, clock: u64, delivery_tag: &str) -> String {
    let body = json!({
        "method": method, "arguments": arguments, "destination": null, "pattern": null, "matcher": null,
    });
    json::to_python_string(&json!({
        "body": BASE64.encode(json::to_python_vec(&body)),
        "content-encoding": "utf-8",
        "content-type": JSON_CONTENT_TYPE,
        "headers": {"clock": clock, "expires": 0},
        "properties": {
            "delivery_mode": 1,
            "delivery_info": {"exchange": CONTROL_EXCHANGE, "routing_key": ""},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": delivery_tag,
        },
    }))
}

/// A node's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlReply<'a> {
    /// The answering node.
    pub node: &'a str,
    /// What it answers.
    pub answer: Value,
    /// The request's ticket.
    pub ticket: &'a Value,
    /// The node's logical clock.
    pub clock: u64,
}

impl ControlReply<'_> {
    /// The bytes for the client's queue, as kombu writes them.
    pub fn to_json(&self, to: &ReplyTo, delivery_tag: &str) -> String {
        let mut body = Map::new();
        body.insert(self.node.to_owned(), self.answer.clone());
        json::to_python_string(&json!({
            "body": BASE64.encode(json::to_python_vec(&body)),
            "content-encoding": "utf-8",
            "content-type": JSON_CONTENT_TYPE,
            "headers": {"ticket": self.ticket, "clock": self.clock},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": to.exchange, "routing_key": to.routing_key},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": delivery_tag,
            },
        }))
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
