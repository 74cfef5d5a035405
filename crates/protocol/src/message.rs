//! A task message: what is inside the envelope, typed.
//!
//! Duties:
//! 1. read protocol 2 (headers name the task, the body is `[args, kwargs, embed]`) and protocol 1 (the body is an object
//!    with everything), which old producers still send;
//! 2. refuse what is in no accepted serializer in kombu's words;
//! 3. write protocol 2, in the serializer and compression that the message is given.
//!
//! Guarantee M4: a protocol 2 message read and written again is the same bytes, apart from where it is sent.
//! Counterpart: `celery/worker/strategy.py @ 5.7.0` (`proto1_to_proto2`), `kombu/serialization.py @ 5.7.0`.

use serde_json::Value;

pub use crate::headers::{Headers, TimeLimit};
use crate::{
    Compression, DecodeError, DeliveryInfo, Embed, EncodeError, Envelope, Limits, Map, Properties,
    Serializer,
    canvas::EMBED,
    envelope::{Opened, decode_body},
    fields::Fields,
    headers::HEADERS,
    json,
    key_order::{KeyOrder, Layout},
    node::{Body, FromNode, Node, kind, wrong_kind},
    repr,
    serializer::{deserialize, serialize},
};

/// A call of a task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskMessage {
    /// What to run and how.
    pub headers: Headers,
    /// Reply queue, priority and the like; `delivery_info` and `delivery_tag` are those of the last sending.
    pub properties: Properties,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map,
    /// What follows the task.
    pub embed: Embed,
    /// How the body was serialized, and will be when it is sent again.
    pub serializer: Serializer,
    /// How the body was compressed, and will be.
    pub compression: Option<Compression>,
}

/// Where a message is sent. For a queue of Celery's: an empty exchange, and the queue's name as routing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// The exchange; empty for a queue directly.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
}

impl Routing {
    /// Directly to a queue.
    pub fn queue(name: impl Into<String>) -> Self {
        Self {
            exchange: String::new(),
            routing_key: name.into(),
        }
    }
}

impl TaskMessage {
    /// Reads whatever lies in a queue: it is a task message, or there is a reason why not.
    ///
    /// # Errors
    /// As [`Envelope::parse_within`] and [`TaskMessage::from_envelope`]. Every one of them is permanent.
    pub fn decode(limits: &Limits, bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::from_opened(limits, Opened::read(limits, bytes)?)
    }

    /// Reads the task message in an envelope.
    ///
    /// # Errors
    /// The body is not JSON (by its type or its bytes), or no task message of protocol 1 or 2, or a limit is passed.
    pub fn from_envelope(limits: &Limits, envelope: Envelope) -> Result<Self, DecodeError> {
        Self::from_opened(limits, envelope.into())
    }

    fn from_opened(limits: &Limits, opened: Opened<'_>) -> Result<Self, DecodeError> {
        let Opened {
            body,
            content_type,
            mut headers,
            properties,
            ..
        } = opened;
        let serializer = content_serializer(limits, content_type.as_deref())?;
        let said = headers.extra("compression");
        let compression = Compression::of(said)?;
        let encoding = properties.body_encoding.as_deref();
        let bytes = decode_body(limits, body, encoding, said)?;
        let body = match serializer {
            Serializer::Json => json::body_within(limits, &EMBED, &bytes)?,
            other => Body::of(&EMBED, deserialize(limits, "body", other, &bytes)?),
        };
        if headers.extra("compression").is_some() {
            // It says how this body came, and is written anew.
            let mut map = headers.into_map();
            map.shift_remove("compression");
            headers = Fields::new(&HEADERS, map);
        }
        Self::from_body(body, *headers, properties, (serializer, compression))
    }

    fn from_body(
        body: Body<'_>,
        headers: Fields<'_>,
        properties: Properties,
        (serializer, compression): (Serializer, Option<Compression>),
    ) -> Result<Self, DecodeError> {
        match body {
            Body::Call([args, kwargs, embed]) if headers.has("task") => Ok(Self {
                headers: Headers::from_fields(headers)?,
                properties,
                args: part("args", args)?.unwrap_or_default(),
                kwargs: part("kwargs", kwargs)?.unwrap_or_default(),
                embed: match part::<Box<Fields<'_>>>("embed", embed)? {
                    Some(fields) => Embed::from_fields(*fields)?,
                    None => Embed::from_map(Map::new())?,
                },
                serializer,
                compression,
            }),
            Body::Other(Value::Object(body))
                if !headers.has("task") || body.contains_key("args") =>
            {
                let message = from_protocol_1(body, headers.into_map(), properties)?;
                Ok(Self {
                    serializer,
                    compression,
                    ..message
                })
            }
            Body::Other(Value::Array(_)) if headers.has("task") => {
                Headers::from_fields(headers)?;
                Err(DecodeError::Field {
                    object: "body",
                    field: "list",
                    expected: CALL,
                    found: "a list of another length",
                })
            }
            Body::Other(other) if headers.has("task") => {
                Err(wrong_kind("message", "body", CALL, kind(&other)))
            }
            _ => Err(DecodeError::NotATask),
        }
    }

    /// The envelope that sends it to `routing`, always protocol 2.
    ///
    /// `delivery_info` starts afresh: whether an earlier delivery was a redelivery says nothing about this one.
    ///
    /// # Errors
    /// The body has something that its serializer cannot write; JSON writes everything.
    pub fn try_to_envelope(
        &self,
        routing: &Routing,
        delivery_tag: &str,
    ) -> Result<Envelope, EncodeError> {
        let mut properties = self.properties.clone();
        properties.delivery_info = DeliveryInfo::new(&routing.exchange, &routing.routing_key);
        properties.delivery_tag = Some(delivery_tag.to_owned());
        let mut headers = self.headers.to_map();
        let mut body = self.serialized_body()?;
        if let Some(compression) = self.compression {
            body = compression.apply(&body);
            headers.insert("compression".to_owned(), compression.content_type().into());
        }
        let mut envelope = Envelope {
            content_encoding: Some(self.serializer.content_encoding().to_owned()),
            content_type: Some(self.serializer.content_type().to_owned()),
            headers,
            properties,
            ..Envelope::default()
        };
        envelope.encode_body(&body);
        Ok(envelope)
    }

    /// As [`TaskMessage::try_to_envelope`]; what its serializer cannot write goes in JSON, as the envelope then says.
    pub fn to_envelope(&self, routing: &Routing, delivery_tag: &str) -> Envelope {
        self.try_to_envelope(routing, delivery_tag)
            .or_else(|_cannot| {
                let json = Self {
                    serializer: Serializer::Json,
                    ..self.clone()
                };
                json.try_to_envelope(routing, delivery_tag)
            })
            .expect("JSON writes everything")
    }

    fn serialized_body(&self) -> Result<Vec<u8>, EncodeError> {
        match self.serializer {
            // The most common by far, without a copy of the arguments.
            Serializer::Json => Ok(self.body_json().into_bytes()),
            other => {
                let body = [
                    Value::Array(self.args.clone()),
                    Value::Object(self.kwargs.clone()),
                    Value::Object(self.embed.to_map()),
                ];
                serialize(other, &Value::Array(body.into()))
            }
        }
    }

    /// The body in JSON: `[args, kwargs, embed]`.
    pub fn body_json(&self) -> String {
        json::body(&self.args, &self.kwargs, &self.embed.to_map())
    }
}

/// What a body of protocol 2 is.
const CALL: &str = "[args, kwargs, embed]";

/// The serializer that the envelope names, if it is accepted.
fn content_serializer(
    limits: &Limits,
    content_type: Option<&str>,
) -> Result<Serializer, DecodeError> {
    match content_type.unwrap_or_default() {
        // kombu trusts these, and hands on the text that they are: no task message.
        "" | "application/data" | "application/text" => Err(DecodeError::Field {
            object: "message",
            field: "body",
            expected: CALL,
            found: "plain data, by its content-type",
        }),
        content_type => limits.accept.serializer(content_type),
    }
}

/// A part of the body; null counts as empty, as in Python.
fn part<'a, T: FromNode<'a>>(
    field: &'static str,
    node: Node<'a>,
) -> Result<Option<T>, DecodeError> {
    if node.is_null() {
        return Ok(None);
    }
    T::from_node(node)
        .map(Some)
        .map_err(|node| wrong_kind("body", field, T::EXPECTED, node.kind()))
}

/// What a body of protocol 1 says beside what later became headers.
const PROTOCOL_1: Layout = Layout {
    keys: &[
        "args",
        "kwargs",
        "callbacks",
        "errbacks",
        "chord",
        "taskset",
        "utc",
    ],
    ..Layout::named("body")
};

/// Protocol 1, and the mixed form in which the headers repeat what the body says (they win, as in Celery). Sent again, it
/// is protocol 2, without what only protocol 1 has. Difference: `taskset`, which is what Celery 3 wrote, is the group here
/// in either form.
fn from_protocol_1(
    body: Map,
    headers: Map,
    properties: Properties,
) -> Result<TaskMessage, DecodeError> {
    if !body.contains_key("task") && !headers.contains_key("task") {
        return Err(DecodeError::NotATask);
    }
    let mut fields = Fields::new(&PROTOCOL_1, body);
    let args: Vec<Value> = fields.optional("args")?.unwrap_or_default();
    let kwargs: Map = fields.optional("kwargs")?.unwrap_or_default();
    let mut embed = Map::new();
    for key in ["callbacks", "errbacks", "chord"] {
        embed.insert(
            key.to_owned(),
            fields.optional::<Value>(key)?.unwrap_or_default(),
        );
    }
    let taskset = fields.optional::<Value>("taskset")?;
    // It says nothing: a time without an offset is UTC to Celery 5.7 in any case.
    fields.optional::<Value>("utc")?;
    let (mut merged, _) = fields.finish();
    if let Some(taskset) = taskset.filter(|taskset| !taskset.is_null()) {
        merged.insert("group".to_owned(), taskset);
    }
    merged.extend(headers);
    let mut headers = Headers::from_map(merged)?;
    headers
        .argsrepr
        .get_or_insert_with(|| repr::saferepr(&Value::Array(args.clone())));
    headers
        .kwargsrepr
        .get_or_insert_with(|| repr::repr_kwargs(&kwargs));
    headers.key_order = KeyOrder::default();
    Ok(TaskMessage {
        headers,
        properties,
        args,
        kwargs,
        embed: Embed::from_map(embed)?,
        ..TaskMessage::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn envelope(headers: &Value, body: &str) -> Envelope {
        let message = json!({"body": body, "content-type": "application/json", "headers": headers, "properties": {}});
        Envelope::parse(message.to_string().as_bytes()).unwrap()
    }

    fn read(envelope: Envelope) -> Result<TaskMessage, DecodeError> {
        TaskMessage::from_envelope(&Limits::default(), envelope)
    }

    fn refusal(headers: &Value, body: &str) -> String {
        read(envelope(headers, body)).unwrap_err().to_string()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn what_is_no_task_message_is_refused_with_its_reason() {
        let v2 = json!({"task": "t", "id": "1"});
        for (headers, body, reason) in [
            (
                json!({}),
                "[[], {}, {}]",
                "not a task message: neither the headers nor the body name a task",
            ),
            (
                json!({}),
                r#"{"args": []}"#,
                "not a task message: neither the headers nor the body name a task",
            ),
            (
                json!({}),
                r#""text""#,
                "not a task message: neither the headers nor the body name a task",
            ),
            (
                json!({}),
                r#"{"task": "t"}"#,
                "headers.id is missing, expected a string",
            ),
            (
                v2.clone(),
                "[[], {}]",
                "body.list is a list of another length, expected [args, kwargs, embed]",
            ),
            (
                v2.clone(),
                "[{}, {}, {}]",
                "body.args is an object, expected a list",
            ),
            (
                v2.clone(),
                "[[], [], {}]",
                "body.kwargs is a list, expected an object",
            ),
            (
                v2.clone(),
                r#""text""#,
                "message.body is a string, expected [args, kwargs, embed]",
            ),
            (
                v2.clone(),
                r#"[[], {}, {"chain": [7]}]"#,
                "the signature is a number, expected an object",
            ),
            (
                v2,
                r#"[[], {}, {"callbacks": [{}]}]"#,
                "signature.task is missing, expected a string",
            ),
            (
                json!({"task": "t", "id": 5}),
                "[[], {}, {}]",
                "headers.id is a number, expected a string",
            ),
            (
                json!({"task": "t", "id": "1", "eta": "soon"}),
                "[[], {}, {}]",
                "invalid eta value \"soon\": expected digits",
            ),
            (
                json!({"task": "t", "id": "1", "timelimit": ["1", null]}),
                "[[], {}, {}]",
                "headers.timelimit is a string, expected [hard, soft] in seconds",
            ),
            (
                json!({"task": "t", "id": "1", "compression": "application/x-lzma"}),
                "[[], {}, {}]",
                "the body is compressed with \"application/x-lzma\"; zlib, bzip2, zstd and brotli are read here",
            ),
            (
                json!({"task": "t", "id": "1", "eta": -1}),
                "[[], {}, {}]",
                "headers.eta is a number, expected a string",
            ),
            (
                json!({"task": "t", "id": "1", "timelimit": "x"}),
                "[[], {}, {}]",
                "headers.timelimit is a string, expected a list",
            ),
            (
                json!({"task": "t", "id": "1"}),
                "{}",
                "message.body is an object, expected [args, kwargs, embed]",
            ),
        ] {
            assert_eq!(refusal(&headers, body), reason);
        }
    }

    #[test]
    fn an_old_message_without_the_newer_headers_is_read() {
        let old = envelope(
            &json!({"task": "t", "id": "1", "lang": "py"}),
            "[[1], {}, null]",
        );
        let task = read(old.clone()).unwrap();
        assert_eq!(
            (task.headers.retries, task.headers.ignore_result),
            (0, None)
        );
        assert_eq!(task.headers.timelimit.hard_duration(), None);
        let written = task.to_envelope(&Routing::queue("celery"), "tag").headers;
        assert_eq!(written, old.headers);
    }

    #[test]
    fn a_header_of_an_unexpected_type_that_decides_nothing_is_passed_on() {
        let headers =
            json!({"task": "t", "id": "1", "shadow": ["odd"], "origin": 7, "stamps": null});
        let task = read(envelope(&headers, "[[], {}, {}]")).unwrap();
        assert_eq!(task.headers.shadow, None);
        assert_eq!(Value::Object(task.headers.to_map()), headers);
    }

    #[test]
    fn what_python_takes_for_no_time_and_no_limit_is_none() {
        for empty in [
            json!(0),
            json!(""),
            json!(false),
            json!([]),
            json!({}),
            json!(0.0),
        ] {
            let headers =
                json!({"task": "t", "id": "1", "eta": empty, "expires": empty, "timelimit": empty});
            let task = read(envelope(&headers, "[[], {}, {}]")).unwrap();
            assert_eq!(task.headers.eta_time(), Ok(None));
            assert_eq!(task.headers.expires_time(), Ok(None));
            assert_eq!(task.headers.timelimit, TimeLimit::default());
        }
    }

    #[test]
    fn the_headers_of_a_mixed_message_win_over_its_body() {
        let body = r#"{"task": "old", "id": "old", "args": [1], "kwargs": {"k": 2}, "retries": 3}"#;
        let task = read(envelope(&json!({"task": "t", "id": "1"}), body)).unwrap();
        assert_eq!(
            (
                task.headers.task.as_str(),
                task.headers.id.as_str(),
                task.headers.retries
            ),
            ("t", "1", 3)
        );
        assert_eq!(
            (task.args, task.kwargs.get("k").cloned()),
            (vec![json!(1)], Some(json!(2)))
        );
    }
}
