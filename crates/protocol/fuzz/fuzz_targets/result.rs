//! A stored result, a signature, an exception, a time, a binding: whatever else is read from Redis.
#![no_main]

use celeriac_protocol::{Signature, State, TaskException, TaskMeta, binding::Binding, json, repr, timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(meta) = TaskMeta::parse(bytes) {
        let _ = (meta.to_json(), meta.exception().map(|exception| (exception.repr(), exception.display())));
    }
    if let Ok(value) = json::parse("bytes", bytes) {
        assert_eq!(json::parse("text", json::to_python_string(&value).as_bytes()).as_ref(), Ok(&value));
        let _ = (repr::repr_value(&value), repr::saferepr(&value));
        let _ = Signature::from_value(value.clone()).map(|signature| signature.to_value());
        let _ = TaskException::from_value(value).map(|exception| exception.display());
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = (timestamp::parse(&text), Binding::parse(&text), State::from(&*text));
});
