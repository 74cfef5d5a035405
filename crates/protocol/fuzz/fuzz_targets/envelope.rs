//! Whatever lies in a queue is a task message or has a reason why not; what is read is written again, and read the same.
#![no_main]

use celeriac_protocol::{Envelope, Limits, Routing, TaskMessage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::new(1 << 20, 1 << 20);
    if let Ok(envelope) = Envelope::parse_within(&limits, bytes) {
        let written = envelope.to_json();
        let again = Envelope::parse_within(&limits, written.as_bytes());
        assert_eq!(again.map(|again| again.to_json()), Ok(written));
    }
    if let Ok(task) = TaskMessage::decode(&limits, bytes) {
        let sent = task.to_envelope(&Routing::queue("celery"), "a-tag");
        let again = TaskMessage::from_envelope(&limits, sent.clone()).expect("what was read is sent so that it is read");
        assert_eq!(again.to_envelope(&Routing::queue("celery"), "a-tag").to_json(), sent.to_json());
        let _ = (task.headers.eta_time(), task.headers.expires_time(), task.headers.timelimit.hard_duration());
    }
});
