//! kombu's envelope: the JSON object that lies in a Redis list.
//!
//! ```json
//! {"body": "W1tdLCB7fSwge31d", "content-encoding": "utf-8", "content-type": "application/json", "headers": {},
//!  "properties": {"correlation_id": "…", "reply_to": "…", "delivery_mode": 2,
//!                 "delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": 0,
//!                 "body_encoding": "base64", "delivery_tag": "…"}}
//! ```
//! Guarantee M4: parsed and written again, it is the same bytes, with fields that are not known here.
//! Counterpart: `kombu/transport/virtual/base.py @ 5.7.0` (`prepare_message`, `_inplace_augment_message`).

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::{
    DecodeError, Limits, Map,
    compression::Compression,
    fields::Fields,
    headers::HEADERS,
    json,
    key_order::{KeyOrder, Layout},
};

/// One message as it lies in a queue; its body is still encoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Envelope {
    /// The body as text, usually base64.
    pub body: String,
    /// `content-encoding`: the character set of the serialized body, `utf-8`.
    pub content_encoding: Option<String>,
    /// `content-type`: the serializer, `application/json`.
    pub content_type: Option<String>,
    /// The message's headers, as sent.
    pub headers: Map,
    /// Routing and delivery.
    pub properties: Properties,
    /// Further top-level keys.
    pub extra: Map,
    /// The order of the keys, as received.
    pub key_order: KeyOrder,
}

/// The properties of a message; `None` is written as null unless the key was missing when it was received.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    /// The task's id.
    pub correlation_id: Option<String>,
    /// The caller's reply queue (its thread's oid); empty when it wants no reply.
    pub reply_to: Option<String>,
    /// 2 is persistent (Celery's default), 1 transient.
    pub delivery_mode: Option<i64>,
    /// Milliseconds from sending until `expires`, as text; left out without that. Redis makes nothing of it.
    pub expiration: Option<String>,
    /// Where this delivery was sent.
    pub delivery_info: DeliveryInfo,
    /// 0 to 9, on Redis 0 is served first.
    pub priority: Option<i64>,
    /// `base64`, or null for a body that is the text itself.
    pub body_encoding: Option<String>,
    /// The sender's tag of this message; not necessarily unique.
    pub delivery_tag: Option<String>,
    /// Further properties, written after `reply_to` as kombu does.
    pub extra: Map,
    /// The order of the keys, as received.
    pub key_order: KeyOrder,
}

/// Where a message was sent, and whether it was delivered before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeliveryInfo {
    /// Empty for Celery's direct queues.
    pub exchange: Option<String>,
    /// The queue's name, when the exchange is empty.
    pub routing_key: Option<String>,
    /// Written by some senders only.
    pub priority: Option<i64>,
    /// Written when a message was given back.
    pub redelivered: Option<bool>,
    /// Further keys.
    pub extra: Map,
    /// The order of the keys, as received.
    pub key_order: KeyOrder,
}

const ENVELOPE: Layout = Layout {
    keys: &[
        "body",
        "content-encoding",
        "content-type",
        "headers",
        "properties",
    ],
    inside: &[("headers", &HEADERS), ("properties", &PROPERTIES)],
    ..Layout::named("envelope")
};

const PROPERTIES: Layout = Layout {
    object: "properties",
    keys: &[
        "correlation_id",
        "reply_to",
        "delivery_mode",
        "expiration",
        "delivery_info",
        "priority",
        "body_encoding",
        "delivery_tag",
    ],
    tail: 6,
    optional: &["expiration"],
    inside: &[("delivery_info", &DELIVERY_INFO)],
};

const DELIVERY_INFO: Layout = Layout {
    keys: &["exchange", "routing_key", "priority", "redelivered"],
    optional: &["priority", "redelivered"],
    ..Layout::named("delivery_info")
};

/// An envelope that has been opened but not copied: its texts may lie in the bytes, its headers are fields.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) body: Cow<'a, str>,
    pub(crate) content_encoding: Option<Cow<'a, str>>,
    pub(crate) content_type: Option<Cow<'a, str>>,
    pub(crate) headers: Box<Fields<'a>>,
    pub(crate) properties: Properties,
    extra: Map,
    key_order: KeyOrder,
}

impl<'a> Opened<'a> {
    pub(crate) fn read(limits: &Limits, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        limits.check_message(bytes.len())?;
        let mut fields = json::fields_within(limits, &ENVELOPE, bytes)?;
        let body = fields.required("body")?;
        let content_encoding = fields.optional("content-encoding")?;
        let content_type = fields.optional("content-type")?;
        let headers = fields.inside("headers", &HEADERS)?;
        let properties = Properties::from_fields(*fields.inside("properties", &PROPERTIES)?)?;
        let (extra, key_order) = fields.finish();
        Ok(Self {
            body,
            content_encoding,
            content_type,
            headers,
            properties,
            extra,
            key_order,
        })
    }
}

impl From<Envelope> for Opened<'_> {
    fn from(envelope: Envelope) -> Self {
        Self {
            body: envelope.body.into(),
            content_encoding: envelope.content_encoding.map(Cow::from),
            content_type: envelope.content_type.map(Cow::from),
            headers: Fields::new(&HEADERS, envelope.headers),
            properties: envelope.properties,
            extra: envelope.extra,
            key_order: envelope.key_order,
        }
    }
}

impl Envelope {
    /// Reads what lies in a queue, within [`Limits::default`].
    ///
    /// # Errors
    /// As [`Envelope::parse_within`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::parse_within(&Limits::default(), bytes)
    }

    /// Reads what lies in a queue.
    ///
    /// # Errors
    /// The bytes are no JSON object, one of the five known keys has another type, or a limit is passed.
    pub fn parse_within(limits: &Limits, bytes: &[u8]) -> Result<Self, DecodeError> {
        let opened = Opened::read(limits, bytes)?;
        Ok(Self {
            body: opened.body.into_owned(),
            content_encoding: opened.content_encoding.map(Cow::into_owned),
            content_type: opened.content_type.map(Cow::into_owned),
            headers: opened.headers.into_map(),
            properties: opened.properties,
            extra: opened.extra,
            key_order: opened.key_order,
        })
    }

    /// The bytes for the queue, as kombu writes them.
    pub fn to_json(&self) -> String {
        let mut known = Map::new();
        known.insert("body".to_owned(), json!(self.body));
        known.insert("content-encoding".to_owned(), json!(self.content_encoding));
        known.insert("content-type".to_owned(), json!(self.content_type));
        known.insert("headers".to_owned(), Value::Object(self.headers.clone()));
        known.insert(
            "properties".to_owned(),
            Value::Object(self.properties.to_map()),
        );
        json::to_python_string(&self.key_order.arrange(&ENVELOPE, known, &self.extra))
    }

    /// The serialized body: base64 and compression undone, or the text itself when `body_encoding` is missing or null.
    ///
    /// # Errors
    /// The text is not valid base64, or the encoding is another one; the compression is not known, or broken; the body is
    /// larger than the limit, before or after.
    pub fn decode_body(&self, limits: &Limits) -> Result<Vec<u8>, DecodeError> {
        let encoding = self.properties.body_encoding.as_deref();
        let compression = self.headers.get("compression");
        let body = Cow::Borrowed(&*self.body);
        decode_body(limits, body, encoding, compression).map(Cow::into_owned)
    }

    /// Sets the body from its serialized bytes, in base64 as kombu does on Redis.
    pub fn encode_body(&mut self, bytes: &[u8]) {
        self.body = BASE64.encode(bytes);
        self.properties.body_encoding = Some("base64".to_owned());
    }

    /// Marks the message as one that was delivered before, in the two places where kombu's restore does.
    pub fn set_redelivered(&mut self) {
        self.headers
            .insert("redelivered".to_owned(), Value::Bool(true));
        self.properties.delivery_info.redelivered = Some(true);
    }
}

impl Properties {
    fn from_fields(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let correlation_id = fields.lenient("correlation_id");
        let reply_to = fields.lenient("reply_to");
        let delivery_mode = fields.lenient("delivery_mode");
        let expiration = fields.lenient("expiration");
        let delivery_info =
            DeliveryInfo::from_fields(*fields.inside("delivery_info", &DELIVERY_INFO)?);
        let priority = fields.lenient("priority");
        let body_encoding = fields.optional("body_encoding")?;
        let delivery_tag = fields.lenient("delivery_tag");
        let (extra, key_order) = fields.finish();
        Ok(Self {
            correlation_id,
            reply_to,
            delivery_mode,
            expiration,
            delivery_info,
            priority,
            body_encoding,
            delivery_tag,
            extra,
            key_order,
        })
    }

    /// The properties as they are written into an envelope.
    pub fn to_map(&self) -> Map {
        let mut known = Map::new();
        known.insert("correlation_id".to_owned(), json!(self.correlation_id));
        known.insert("reply_to".to_owned(), json!(self.reply_to));
        known.insert("delivery_mode".to_owned(), json!(self.delivery_mode));
        known.insert("expiration".to_owned(), json!(self.expiration));
        known.insert(
            "delivery_info".to_owned(),
            Value::Object(self.delivery_info.to_map()),
        );
        known.insert("priority".to_owned(), json!(self.priority));
        known.insert("body_encoding".to_owned(), json!(self.body_encoding));
        known.insert("delivery_tag".to_owned(), json!(self.delivery_tag));
        self.key_order.arrange(&PROPERTIES, known, &self.extra)
    }
}

impl DeliveryInfo {
    /// A first delivery to this exchange and routing key.
    pub fn new(exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        Self {
            exchange: Some(exchange.into()),
            routing_key: Some(routing_key.into()),
            ..Self::default()
        }
    }

    fn from_fields(mut fields: Fields<'_>) -> Self {
        let exchange = fields.lenient("exchange");
        let routing_key = fields.lenient("routing_key");
        let priority = fields.lenient("priority");
        let redelivered = fields.lenient("redelivered");
        let (extra, key_order) = fields.finish();
        Self {
            exchange,
            routing_key,
            priority,
            redelivered,
            extra,
            key_order,
        }
    }

    fn to_map(&self) -> Map {
        let mut known = Map::new();
        known.insert("exchange".to_owned(), json!(self.exchange));
        known.insert("routing_key".to_owned(), json!(self.routing_key));
        known.insert("priority".to_owned(), json!(self.priority));
        known.insert("redelivered".to_owned(), json!(self.redelivered));
        self.key_order.arrange(&DELIVERY_INFO, known, &self.extra)
    }
}

/// See [`Envelope::decode_body`]. Large bodies are not kept in two forms for longer than it takes.
pub(crate) fn decode_body<'a>(
    limits: &Limits,
    body: Cow<'a, str>,
    encoding: Option<&str>,
    compression: Option<&Value>,
) -> Result<Cow<'a, [u8]>, DecodeError> {
    let bytes = plain_body(body, encoding)?;
    limits.check_body(bytes.len())?;
    match Compression::of(compression)? {
        Some(compression) => compression.undo(&bytes, limits).map(Cow::Owned),
        None => Ok(bytes),
    }
}

fn plain_body<'a>(
    body: Cow<'a, str>,
    encoding: Option<&str>,
) -> Result<Cow<'a, [u8]>, DecodeError> {
    let failed = |encoding: &str, reason: String| DecodeError::BodyEncoding {
        encoding: encoding.to_owned(),
        reason,
    };
    match (encoding, body) {
        (None | Some("" | "utf-8"), Cow::Borrowed(body)) => Ok(Cow::Borrowed(body.as_bytes())),
        (None | Some("" | "utf-8"), Cow::Owned(body)) => Ok(Cow::Owned(body.into_bytes())),
        (Some("base64"), body) => BASE64
            .decode(&*body)
            .map(Cow::Owned)
            .map_err(|err| failed("base64", err.to_string())),
        (Some(other), _) => Err(failed(
            other,
            "only base64 and plain text are known".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_envelope_is_refused_with_its_reason() {
        for (text, reason) in [
            ("[]", "the envelope is a list, expected an object"),
            (r#""text""#, "the envelope is a string, expected an object"),
            ("{}", "envelope.body is missing, expected a string"),
            (
                r#"{"body": {}}"#,
                "envelope.body is an object, expected a string",
            ),
            (
                r#"{"body": "", "headers": []}"#,
                "envelope.headers is a list, expected an object",
            ),
            (
                r#"{"body": "", "properties": 1}"#,
                "envelope.properties is a number, expected an object",
            ),
        ] {
            assert_eq!(
                Envelope::parse(text.as_bytes()).unwrap_err().to_string(),
                reason
            );
        }
    }

    #[test]
    fn a_body_that_does_not_follow_its_encoding_is_refused() {
        let mut envelope = Envelope {
            body: "not base64!".to_owned(),
            ..Envelope::default()
        };
        assert_eq!(
            envelope.decode_body(&Limits::default()).unwrap(),
            b"not base64!"
        );
        envelope.properties.body_encoding = Some("base64".to_owned());
        assert!(matches!(
            envelope.decode_body(&Limits::default()),
            Err(DecodeError::BodyEncoding { .. })
        ));
        envelope.properties.body_encoding = Some("rot13".to_owned());
        let err = envelope
            .decode_body(&Limits::default())
            .unwrap_err()
            .to_string();
        assert_eq!(
            err,
            "the body is not valid rot13: only base64 and plain text are known"
        );
    }

    #[test]
    fn unknown_fields_at_every_level_are_passed_on() {
        let text = concat!(
            r#"{"new": [1, 1e-05, 5.0], "body": "e30=", "headers": null, "properties": {"app_id": "x", "priority": "#,
            r#"null, "delivery_info": {"routing_key": "q", "zone": {"b": 1, "a": 2}}, "delivery_tag": 7}}"#
        );
        assert_eq!(Envelope::parse(text.as_bytes()).unwrap().to_json(), text);
    }
}
