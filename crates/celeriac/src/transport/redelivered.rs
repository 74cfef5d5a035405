//! What becomes of a message that goes back to its queue.
//!
//! Counterpart: `Channel._do_restore_message` in `kombu/transport/redis.py` @ 5.7.0.

use celeriac_protocol::{Envelope, Limits};
use serde_json::Value;

/// A message on its way back to its queue.
#[derive(Debug, Default)]
pub(super) struct Redelivered {
    pub(super) priority: i64,
    /// The id in its headers; empty where there is none.
    pub(super) id: String,
    /// The envelope, marked as redelivered.
    pub(super) message: Vec<u8>,
}

/// An envelope that cannot be read goes back as it is.
pub(super) fn redelivered(raw: &[u8]) -> Redelivered {
    // What was taken once is read again, whatever its size.
    let limits = Limits::new(usize::MAX, usize::MAX);
    let Ok(mut envelope) = Envelope::parse_within(&limits, raw) else {
        return Redelivered {
            message: raw.to_vec(),
            ..Redelivered::default()
        };
    };
    envelope.set_redelivered();
    let id = envelope.headers.get("id").and_then(Value::as_str);
    Redelivered {
        priority: envelope.properties.priority.unwrap_or(0),
        id: id.unwrap_or_default().to_owned(),
        message: envelope.to_json().into_bytes(),
    }
}
