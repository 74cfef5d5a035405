//! Tests of what is read in a request, and of who is meant.

use super::*;

fn enveloped(body: &Value, headers: &Value) -> Vec<u8> {
    let envelope = json!({
        "body": BASE64.encode(body.to_string()), "content-encoding": "utf-8", "content-type": JSON_CONTENT_TYPE,
        "headers": headers, "properties": {"body_encoding": "base64"},
    });
    envelope.to_string().into_bytes()
}

fn parse(body: &Value) -> Result<ControlRequest, ControlError> {
    ControlRequest::parse(&enveloped(body, &json!({"clock": 1})))
}

#[test]
fn what_is_no_request_is_refused_with_its_reason() {
    for (bytes, reason) in [
        (&b"nope"[..], "the envelope is not JSON that can be read"),
        (b"[1]", "the envelope is a list, expected an object"),
        (b"{}", "envelope.body is missing"),
        (b"\xff\x00", "not JSON"),
    ] {
        let error = ControlRequest::parse(bytes).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    for (body, reason) in [
        (json!([1, 2]), "the request is a list, expected an object"),
        (json!({}), "request.method is missing"),
        (json!({"method": 1}), "request.method is a number"),
        (
            json!({"method": "ping", "arguments": [1]}),
            "request.arguments is a list, expected an object",
        ),
        (
            json!({"method": "ping", "destination": 7}),
            "request.destination is a number, expected a list",
        ),
        (
            json!({"method": "ping", "pattern": 7}),
            "request.pattern is a number",
        ),
        (
            json!({"method": "ping", "reply_to": "key"}),
            "request.reply_to is a string, expected an object",
        ),
        (
            json!({"method": "ping", "reply_to": {"exchange": ""}}),
            "reply_to.routing_key is missing",
        ),
    ] {
        let error = parse(&body).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let garbage = vec![b'['; MAX_REQUEST_BYTES + 1];
    let error = ControlRequest::parse(&garbage).unwrap_err();
    assert_eq!(
        error,
        ControlError::TooLarge {
            bytes: garbage.len()
        }
    );
}

#[test]
fn a_clock_that_is_no_number_is_none() {
    let body = json!({"method": "ping", "arguments": null});
    let request = ControlRequest::parse(&enveloped(&body, &json!({"clock": "x", "expires": []})));
    let request = request.unwrap();
    assert_eq!((request.clock, request.expires), (None, None));
    assert_eq!(
        (request.method.as_str(), request.arguments.len()),
        ("ping", 0)
    );
}

#[test]
fn who_is_meant_is_as_in_kombu() {
    for (fields, expected) in [
        (json!({}), true),
        (json!({"destination": ["w1@host"]}), true),
        (json!({"destination": "w1@host"}), true),
        (json!({"destination": ["w2@host", 7]}), false),
        (json!({"destination": []}), true),
        (
            json!({"destination": [], "pattern": "w2*", "matcher": "glob"}),
            false,
        ),
        (
            json!({"destination": ["w1@host"], "pattern": "w2*", "matcher": "glob"}),
            true,
        ),
        (json!({"pattern": "w2*"}), true),
        (json!({"pattern": "w?@*", "matcher": "glob"}), true),
        (json!({"pattern": "w[!0-1]@*", "matcher": "glob"}), false),
        (json!({"pattern": "w[0-1]@host", "matcher": "glob"}), true),
        (json!({"pattern": "w1", "matcher": "glob"}), false),
        (json!({"pattern": "w1.host", "matcher": "glob"}), false),
        (json!({"pattern": "w[", "matcher": "glob"}), false),
        (json!({"pattern": "w[]1]@host", "matcher": "glob"}), true),
        (json!({"pattern": "w\\d", "matcher": "pcre"}), true),
        (json!({"pattern": "1@host", "matcher": "pcre"}), false),
    ] {
        let mut body = fields.as_object().cloned().unwrap();
        body.insert("method".to_owned(), json!("ping"));
        assert_eq!(
            parse(&Value::Object(body)).unwrap().is_for("w1@host"),
            Ok(expected),
            "{fields}"
        );
    }
}

#[test]
fn a_pattern_that_cannot_be_used_says_why() {
    for (pattern, matcher, reason) in [
        ("(", "pcre", "unclosed group"),
        ("(?:a{1000}){1000}", "pcre", "size limit"),
        ("w", "soundex", "no matcher installed for \"soundex\""),
    ] {
        let body = json!({"method": "ping", "pattern": pattern, "matcher": matcher});
        let error = parse(&body).unwrap().is_for("w1@host").unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}
