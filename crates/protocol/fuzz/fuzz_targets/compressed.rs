//! A compressed body of any bytes: the first one says how it is compressed. It never has more than the limit.
#![no_main]

use celeriac_protocol::{Compression, Envelope, Limits, Map};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const LIMIT: usize = 64 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, stream)) = bytes.split_first() else { return };
    let codec = Compression::ALL[usize::from(*first) % Compression::ALL.len()].content_type();
    let mut envelope = Envelope {
        headers: Map::from_iter([("compression".to_owned(), Value::from(codec))]),
        ..Envelope::default()
    };
    envelope.encode_body(stream);
    if let Ok(body) = envelope.decode_body(&Limits::new(1 << 20, LIMIT)) {
        assert!(body.len() <= LIMIT);
    }
});
