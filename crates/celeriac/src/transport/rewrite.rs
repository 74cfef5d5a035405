//! What is written about a message when it goes back, or to the dead letters.

use base64::Engine;
use celeriac_protocol::envelope::Envelope;
use serde_json::json;

use crate::clock;

/// The envelope marked as redelivered, and its priority. An envelope that cannot be read goes back as
/// it is.
pub(super) fn redelivered(raw: &[u8]) -> (i64, Vec<u8>) {
    match Envelope::parse(raw) {
        Ok(mut envelope) => {
            envelope.set_redelivered();
            let priority = envelope.properties.priority.unwrap_or(0);
            (priority, envelope.to_json().into_bytes())
        }
        Err(_) => (0, raw.to_vec()),
    }
}

/// One entry of `<queue>.dead`: JSON, whatever bytes the message had.
pub(super) fn dead_record(queue: &str, raw: &[u8], reason: &str) -> String {
    let (encoding, message) = match std::str::from_utf8(raw) {
        Ok(text) => ("utf-8", text.to_owned()),
        Err(_) => (
            "base64",
            base64::engine::general_purpose::STANDARD.encode(raw),
        ),
    };
    json!({
        "queue": queue,
        "reason": reason,
        "date": clock::now().to_rfc3339(),
        "encoding": encoding,
        "message": message,
    })
    .to_string()
}
