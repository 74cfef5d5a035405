//! A body of any bytes, in an envelope of Celery's: the first one says in which serializer.
#![no_main]

use celeriac_protocol::{Accept, Envelope, Limits, Map, Serializer, TaskMessage};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let serializer = Serializer::ALL[usize::from(*first) % Serializer::ALL.len()];
    let headers = [("task", "a.task"), ("id", "an-id")];
    let mut envelope = Envelope {
        content_type: Some(serializer.content_type().to_owned()),
        headers: headers.map(|(name, value)| (name.to_owned(), Value::from(value))).into_iter().collect::<Map>(),
        ..Envelope::default()
    };
    envelope.encode_body(body);
    let limits = Limits::new(1 << 20, 1 << 20).accepting(Accept::only(&Serializer::ALL));
    if let Ok(task) = TaskMessage::from_envelope(&limits, envelope) {
        let _ = (task.body_json(), celeriac_protocol::repr::repr_args(&task.args));
    }
});
