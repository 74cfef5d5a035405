//! Celery's wire format: types to bytes and back.
//!
//! What is kept here:
//! - what Python wrote comes out again byte for byte, with the fields that this crate does not know, in their order;
//! - what is composed here equals what Celery 5.7 and kombu 5.7 write, apart from ids, origin and `lang`;
//! - no input makes anything panic.
//!
//! What is deliberately absent: I/O, async, the clock, logging. Times come in as arguments.
//!
//! # Layout
//! - the envelope of kombu: [`envelope`]; the task message inside it: [`message`], [`headers`], [`compose`], [`canvas`],
//!   `compression`
//! - remote control: [`control`]
//! - results: [`result`], [`payload`], [`state`], [`exception`]
//! - names of keys in Redis: [`binding`]
//! - how Python writes: [`json`] (`json_reader`, `json_text`, `special`), [`repr`], [`timestamp`]; the other serializers: [`serializer`],
//!   `msgpack`, `yaml`; objects that JSON has no word for: [`tagged`]; Rust types from all that and back: [`value`]
//! - what can be wrong with a message: [`error`], how much of it is read: [`limits`]; unknown fields: `fields` (`node`); the order of keys:
//!   `key_order`
#![warn(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]

pub mod binding;
pub mod canvas;
pub mod compose;
mod compression;
pub mod control;
pub mod envelope;
pub mod error;
pub mod event;
pub mod exception;
mod fields;
pub mod headers;
pub mod json;
mod json_reader;
mod json_text;
mod key_order;
pub mod limits;
pub mod message;
mod msgpack;
mod node;
pub mod payload;
pub mod repr;
pub mod result;
pub mod serializer;
mod special;
pub mod state;
pub mod tagged;
pub mod timestamp;
pub mod value;
mod yaml;

pub use canvas::{Canvas, Embed, Signature};
pub use compose::TaskCall;
pub use compression::Compression;
pub use control::{ControlError, ControlReply, ControlRequest, ReplyTo};
pub use envelope::{DeliveryInfo, Envelope, Properties};
pub use error::DecodeError;
pub use exception::TaskException;
pub use headers::{Headers, TimeLimit};
pub use key_order::KeyOrder;
pub use limits::Limits;
pub use message::{Routing, TaskMessage};
pub use result::TaskMeta;
pub use serializer::{Accept, EncodeError, Serializer, deserialize, serialize};
pub use special::Special;
pub use state::State;
pub use tagged::Tagged;
pub use value::{WholeNumber, from_value, to_value};

/// A JSON object that keeps the order of its keys, as a Python dict does.
pub type Map = serde_json::Map<String, serde_json::Value>;
