//! A body of any bytes, in an envelope of Celery's.
#![no_main]

use celeriac_protocol::{Envelope, Limits, Map, TaskMessage};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let headers = [("task", "a.task"), ("id", "an-id")];
    let mut envelope = Envelope {
        content_type: Some("application/json".to_owned()),
        headers: headers.map(|(name, value)| (name.to_owned(), Value::from(value))).into_iter().collect::<Map>(),
        ..Envelope::default()
    };
    envelope.encode_body(bytes);
    if let Ok(task) = TaskMessage::from_envelope(&Limits::new(1 << 20, 1 << 20), envelope) {
        let _ = (task.body_json(), celeriac_protocol::repr::repr_args(&task.args));
    }
});
