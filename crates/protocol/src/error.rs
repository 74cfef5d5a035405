//! What can be wrong with foreign bytes.
//!
//! Every variant is permanent: the same bytes fail again, so the message belongs into the dead letters with this
//! text as its reason, never into a retry.

/// Why bytes are not the message, result or signature that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are no JSON, in Python's sense of it.
    #[error("the {what} is not JSON that can be read: {reason}")]
    Json {
        /// Which part of the message: `envelope`, `body`, …
        what: &'static str,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// The bytes are not what the content type says.
    #[error("the {what} is not {serializer} that can be read: {reason}")]
    Serialized {
        /// Which part of the message.
        what: &'static str,
        /// `msgpack` or `yaml`.
        serializer: &'static str,
        /// What is wrong, with its place where there is one.
        reason: String,
    },
    /// There should be a JSON object.
    #[error("the {what} is {found}, expected an object")]
    NotAnObject {
        /// What it should be: `envelope`, `signature`, …
        what: &'static str,
        /// What kind of JSON value is there.
        found: &'static str,
    },
    /// A part of the message has another shape than the protocol says.
    #[error("{object}.{field} is {found}, expected {expected}")]
    Field {
        /// The object that holds the field: `headers`, `properties`, `body`, `signature`, …
        object: &'static str,
        /// The field's name.
        field: &'static str,
        /// What the protocol wants there.
        expected: &'static str,
        /// What kind of JSON value is there; `missing` when nothing is.
        found: &'static str,
    },
    /// The body's text does not follow its `body_encoding`.
    #[error("the body is not valid {encoding}: {reason}")]
    BodyEncoding {
        /// The value of `properties.body_encoding`.
        encoding: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The content type is not in `accept_content`; kombu's words, which people search their logs for.
    #[error("Refusing to deserialize untrusted content of type {alias}")]
    ContentDisallowed {
        /// kombu's name of the serializer with the content type: `pickle (application/x-python-serialize)`.
        alias: String,
    },
    /// The body is compressed in a way that is not read here.
    #[error("the body is compressed with {codec:?}; zlib, bzip2, zstd and brotli are read here")]
    UnknownCompression {
        /// The `compression` header.
        codec: String,
    },
    /// The compressed body is broken.
    #[error("the body is not valid {codec}: {reason}")]
    Compression {
        /// `zlib`, `bzip2`, `zstd` or `brotli`.
        codec: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A message, or a body, of more bytes than the limit allows.
    #[error("the {what} has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// `message` or `body`.
        what: &'static str,
        /// How many bytes it has.
        bytes: usize,
        /// How many are read.
        limit: usize,
    },
    /// A compressed body that would have more bytes than the limit allows.
    #[error("the body inflates from {bytes} to more than {limit} bytes")]
    InflatesTooMuch {
        /// How many bytes it has while it is compressed.
        bytes: usize,
        /// How many are read.
        limit: usize,
    },
    /// Objects and lists inside each other, deeper than the limit allows.
    #[error("the {what} is nested deeper than {limit} levels")]
    TooDeep {
        /// Which part of the message.
        what: &'static str,
        /// How many levels are read.
        limit: usize,
    },
    /// More values than the limit allows.
    #[error("the {what} has more than {limit} values")]
    TooManyValues {
        /// Which part of the message.
        what: &'static str,
        /// How many are read.
        limit: usize,
    },
    /// Neither a task message of protocol 2 (headers name the task) nor one of protocol 1 (the body does).
    #[error("not a task message: neither the headers nor the body name a task")]
    NotATask,
    /// `eta` or `expires` is no time.
    #[error("invalid {field} value {text:?}: {reason}")]
    Timestamp {
        /// `eta` or `expires`.
        field: &'static str,
        /// The text as sent.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}
