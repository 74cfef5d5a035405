//! What holds for any input: nothing panics, reading undoes writing, writing undoes reading.

mod canvas;

use std::sync::LazyLock;

use celeriac_protocol::{
    Accept, Compression, ControlRequest, DecodeError, Envelope, Headers, Limits, Map, Routing,
    Serializer, Signature, State, TaskCall, TaskException, TaskMessage, TaskMeta,
    binding::Binding,
    deserialize, from_value, json, repr, serialize,
    tagged::{Native as _, PythonObject},
    timestamp, to_value,
};
use chrono::{DateTime, Utc};
use proptest::{collection::vec, prelude::*};
use serde_json::Value;

/// JSON as deep as the arguments of tasks get.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((any::<String>(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn any_map() -> impl Strategy<Value = Map> {
    vec(("[a-z]{1,8}", any_json()), 0..4).prop_map(|pairs| pairs.into_iter().collect())
}

/// What Python has beside that, as it is read.
fn any_python() -> impl Strategy<Value = Value> {
    let token = prop_oneof![
        prop::sample::select(vec![
            "NaN",
            "Infinity",
            "-Infinity",
            r#"{"\u0000celeriac": "NaN"}"#,
            r#"{"\u0000\u0000celeriac": 1}"#,
            r#"{"$serde_json::private::RawValue": "1"}"#,
            r#"{"\u0000$serde_json::private::RawValue": "1"}"#
        ])
        .prop_map(str::to_owned),
        "-?[1-9][0-9]{17,40}",
        r#""[a-z]{0,3}\\ud83[a-f][a-z]{0,3}""#,
        r#"\{"[a-z]{0,3}\\udc0[a-f]": \[\]\}"#,
    ];
    let token = token.prop_map(|text| json::parse("token", text.as_bytes()).expect("a token"));
    let object = prop_oneof![
        any_time().prop_map(|time| time.to_python()),
        any_time().prop_map(|time| time.naive_utc().to_python()),
        any_time().prop_map(|time| time.date_naive().to_python()),
        any_time().prop_map(|time| time.time().to_python()),
        vec(any::<u8>(), 0..6).prop_map(|bytes| bytes.to_python()),
        any::<u128>().prop_map(|id| PythonObject::Uuid(format!("{id:032x}").into())),
    ];
    let leaf = prop_oneof![
        any_json(),
        token,
        object.prop_map(|object| object.to_value())
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-z]{1,3}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// Celery's header names and others, in any order, with values of any type.
fn any_headers() -> impl Strategy<Value = Map> {
    let names = [
        "shadow",
        "eta",
        "retries",
        "timelimit",
        "group_index",
        "stamps",
        "ignore_result",
        "lang",
        "traceparent",
    ];
    let values = prop_oneof![
        any_json(),
        Just(Value::Null),
        Just(serde_json::json!([1, null])),
        (0..5_u8).prop_map(Value::from)
    ];
    let pair = (prop::sample::select(names.to_vec()), values);
    (vec(pair, 0..9), 0..9_usize).prop_map(|(pairs, at)| {
        let mut headers: Vec<(String, Value)> = pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let at = at.min(headers.len());
        headers.insert(at, ("id".to_owned(), Value::from("an-id")));
        headers.insert(at, ("task".to_owned(), Value::from("a.task")));
        headers.into_iter().collect()
    })
}

fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    // The years 1 to 9999, which is what Python's datetime knows.
    (-62_135_596_800_000_000_i64..253_402_300_800_000_000)
        .prop_filter_map("in range", DateTime::from_timestamp_micros)
}

prop_compose! {
    fn any_call()(
        args in vec(any_json(), 0..4),
        kwargs in any_map(),
        headers in vec(("x-[a-z]{1,8}", any_json()), 0..3),
        eta in prop::option::of(any_time()),
        expires in prop::option::of(any_time()),
        texts in prop::array::uniform8(any::<String>()),
        optional in prop::option::of(any::<String>()),
        numbers in (any::<u64>(), any::<i64>(), any::<u64>()),
        link in vec((any::<String>(), vec(any_json(), 0..2), any_map()), 0..3),
    ) -> TaskCall {
        let [task, id, origin, reply_to, shadow, argsrepr, root_id, stamp] = texts;
        let mut call = TaskCall::new(task, id, args);
        call.kwargs = kwargs;
        call.headers = headers.into_iter().collect();
        (call.eta, call.expires) = (eta, expires);
        call.origin = origin;
        call.reply_to = Some(reply_to);
        call.shadow = Some(shadow);
        call.argsrepr = Some(argsrepr);
        call.root_id = Some(root_id);
        call.parent_id = optional;
        (call.retries, call.priority, call.replaced_task_nesting) = numbers;
        call.stamped_headers = Some(vec![stamp]);
        let signatures: Vec<Signature> =
            link.into_iter().map(|(task, args, kwargs)| Signature::new(task, args, kwargs)).collect();
        call.embed.chord = signatures.first().cloned();
        call.embed.callbacks = Some(signatures);
        call
    }
}

/// Recorded messages, to be damaged: random bytes alone never come past the first brace.
static RECORDED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../python_interop/fixtures/"
    );
    let field = |name: &str, field: &str| {
        let text = std::fs::read_to_string(format!("{folder}{name}.jsonl"))
            .expect("the fixtures are recorded");
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
        lines
            .filter_map(|line| line[field].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    [
        field("messages", "message"),
        field("results", "meta"),
        field("control", "message"),
    ]
    .concat()
});

static MESSAGES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let is_message = |text: &&String| text.starts_with(r#"{"body""#);
    RECORDED.iter().filter(is_message).cloned().collect()
});

/// Where the values of a JSON document are, the document itself among them.
fn pointers(value: &Value) -> Vec<String> {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, inner)| (key.replace('~', "~0").replace('/', "~1"), inner))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, inner)| (at.to_string(), inner))
            .collect(),
        _ => Vec::new(),
    };
    let inside = inside.into_iter().flat_map(|(name, inner)| {
        pointers(inner)
            .into_iter()
            .map(move |rest| format!("/{name}{rest}"))
    });
    std::iter::once(String::new()).chain(inside).collect()
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The message's text; each of its objects has these keys at its end, no matter whether it has them before.
fn with_further(message: &Value, names: &[&str], value: &Value) -> String {
    let Value::Object(map) = message else {
        return json::to_python_string(message);
    };
    let entry = |key: &str, text: String| format!("{}: {text}", json::to_python_string(key));
    let known = map
        .iter()
        .map(|(key, inner)| entry(key, with_further(inner, names, value)));
    let further = names
        .iter()
        .map(|name| entry(name, json::to_python_string(value)));
    let entries: Vec<String> = known.chain(further).collect();
    format!("{{{}}}", entries.join(", "))
}

/// What stands where something else is expected.
fn odd_json() -> impl Strategy<Value = Value> {
    let known = [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1e308",
        "18446744073709551615",
        r#""""#,
        r#""x""#,
        "[]",
        "{}",
        "[null, null]",
        "[1]",
        r#"{"task": "t"}"#,
        r#""9999-12-31T23:59:59+14:00""#,
        r#""0001-01-01T00:00:00-14:00""#,
        r#""\n\u0000""#,
    ];
    let known = known
        .map(|text| serde_json::from_str(text).expect("JSON"))
        .to_vec();
    prop_oneof![prop::sample::select(known), any_json()]
}

/// Every way into this crate.
fn read_all(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::parse(bytes) {
        drop(envelope.to_json());
        read_task(envelope.clone());
        // The body as it is, too, so that damage reaches what is inside.
        let mut inner = envelope;
        if let Ok(body) = inner.decode_body(&Limits::default()) {
            inner.body = String::from_utf8_lossy(&body).into_owned();
            inner.properties.body_encoding = None;
            read_task(inner);
        }
    }
    if let Ok(meta) = TaskMeta::parse(bytes) {
        drop((
            meta.to_json(),
            meta.exception()
                .map(|exception| (exception.repr(), exception.display())),
        ));
    }
    if let Ok(value) = json::parse("bytes", bytes) {
        drop((
            repr::repr_value(&value),
            repr::saferepr(&value),
            json::to_python_string(&value),
        ));
        drop(Signature::from_value(value.clone()).map(|signature| signature.to_value()));
        drop(TaskException::from_value(value).map(|exception| exception.display()));
    }
    let text = String::from_utf8_lossy(bytes);
    drop((
        timestamp::parse(&text),
        Binding::parse(&text),
        State::from(&*text),
    ));
}

fn read_task(envelope: Envelope) {
    drop(
        ControlRequest::parse(envelope.to_json().as_bytes())
            .and_then(|request| request.is_for("w1@host")),
    );
    if let Ok(task) = TaskMessage::from_envelope(&Limits::default(), envelope) {
        drop((
            task.to_envelope(&Routing::queue("q"), "tag"),
            task.headers.timelimit.hard_duration(),
        ));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn any_pattern_for_node_names_is_matched_or_refused(pattern in "[\\PC]{0,20}", matcher in "glob|pcre|[a-z]{0,3}") {
        let body = serde_json::json!({"method": "ping", "pattern": pattern, "matcher": matcher});
        let envelope = Envelope { body: body.to_string(), ..Envelope::default() };
        let request = ControlRequest::parse(envelope.to_json().as_bytes());
        drop(request.expect("a request").is_for("w1@host"));
    }

    #[test]
    fn what_is_read_as_a_time_is_one(text in "[0-9TZ:.+ é-]{0,40}") {
        if let Ok(time) = timestamp::parse(&text) {
            prop_assert_eq!(timestamp::parse(&timestamp::isoformat(time)), Ok(time));
        }
    }

    #[test]
    fn damaged_messages_are_read_without_a_panic(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        cut in 0..20_usize,
        put in "[\\PC\\[\\]{}\",:0-9]{0,8}",
    ) {
        let mut bytes = which.get(&RECORDED).clone().into_bytes();
        let at = at.index(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put.into_bytes());
        read_all(&bytes);
    }

    #[test]
    fn any_value_in_any_field_is_a_task_or_has_a_reason(
        which in any::<prop::sample::Index>(),
        field in any::<prop::sample::Index>(),
        value in odd_json(),
    ) {
        let message = which.get(MESSAGES.as_slice());
        let mut message = json::parse("message", message.as_bytes()).unwrap();
        let fields = pointers(&message);
        *message.pointer_mut(field.get(&fields).as_str()).unwrap() = value;
        let bytes = json::to_python_vec(&message);
        let limits = Limits::default().accepting(Accept::only(&Serializer::ALL));
        match TaskMessage::decode(&limits, &bytes) {
            // What is read is sent again such that it is read as the same.
            Ok(task) => {
                let sent = task.to_envelope(&Routing::queue("q"), "tag");
                let again = TaskMessage::from_envelope(&limits, sent.clone()).unwrap();
                prop_assert_eq!(again.to_envelope(&Routing::queue("q"), "tag").to_json(), sent.to_json());
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn a_message_is_the_same_straight_from_its_bytes_and_by_way_of_maps(
        which in any::<prop::sample::Index>(),
        field in any::<prop::sample::Index>(),
        value in odd_json(),
        names in vec(prop::sample::select(vec!["task", "shadow", "priority", "expiration", "x", "y"]), 0..4),
        values in 1..120_usize,
    ) {
        let message = which.get(MESSAGES.as_slice());
        let mut message = json::parse("message", message.as_bytes()).unwrap();
        let fields = pointers(&message);
        *message.pointer_mut(field.get(&fields).as_str()).unwrap() = value.clone();
        let text = with_further(&message, &names, &value);
        let accept = Accept::only(&Serializer::ALL);
        for limits in [Limits::default().accepting(accept), Limits { values, nesting: 4, accept, ..Limits::default() }] {
            let straight = TaskMessage::decode(&limits, text.as_bytes());
            let envelope = Envelope::parse_within(&limits, text.as_bytes());
            let around = envelope.and_then(|envelope| TaskMessage::from_envelope(&limits, envelope));
            prop_assert_eq!(&straight, &around, "{}", text);
            // As it is in a map, an object has every key once: the last value, in the first place.
            let once = json::parse("message", text.as_bytes()).unwrap();
            if limits.values > 1000 {
                prop_assert_eq!(straight, TaskMessage::decode(&limits, &json::to_python_vec(&once)), "{}", text);
            }
        }
    }

    #[test]
    fn what_serde_json_reads_is_read_alike(value in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.unwrap();
        let theirs = serde_json::from_str::<Value>(&text).unwrap();
        prop_assert_eq!(json::parse("text", text.as_bytes()), Ok(theirs));
        prop_assert_eq!(json::parse("text", &json::to_python_vec(&value)), Ok(value));
    }

    #[test]
    fn any_value_in_the_body_is_a_task_or_has_a_reason(
        field in any::<prop::sample::Index>(),
        value in odd_json(),
    ) {
        let mut body = serde_json::json!([[1], {"k": 2}, {"callbacks": [{"task": "t", "args": [], "kwargs": {},
            "options": {"task_id": "x"}, "subtask_type": null, "immutable": false}], "errbacks": null, "chain": null,
            "chord": null}]);
        let fields = pointers(&body);
        *body.pointer_mut(field.get(&fields).as_str()).unwrap() = value;
        let mut envelope = Envelope::parse(MESSAGES[0].as_bytes()).unwrap();
        envelope.encode_body(body.to_string().as_bytes());
        drop(TaskMessage::from_envelope(&Limits::default(), envelope).map(|task| task.body_json()));
    }

    #[test]
    fn nothing_that_is_read_is_beyond_the_limits(
        which in any::<prop::sample::Index>(),
        bytes in 0..4000_usize,
        nesting in 0..8_usize,
        values in 1..60_usize,
    ) {
        let message = which.get(MESSAGES.as_slice());
        let accept = Accept::only(&Serializer::ALL);
        let limits = Limits { message_bytes: bytes, body_bytes: bytes / 4, nesting, values, accept };
        match Envelope::parse_within(&limits, message.as_bytes()) {
            Ok(envelope) => {
                prop_assert!(message.len() <= bytes);
                let parsed = json::parse("message", message.as_bytes());
                prop_assert!(parsed.is_ok_and(|value| depth(&value) <= nesting));
                if let Ok(body) = envelope.decode_body(&limits) {
                    prop_assert!(body.len() <= bytes / 4);
                }
            }
            Err(error) => prop_assert!(matches!(
                error,
                DecodeError::TooLarge { .. } | DecodeError::TooDeep { .. } | DecodeError::TooManyValues { .. }
            ), "{}", error),
        }
    }

    #[test]
    fn any_bytes_are_decompressed_within_the_limit(
        stream in vec(any::<u8>(), 0..300),
        start in prop::sample::select(vec![&b""[..], b"\x78\x9c", b"BZh91AY&SY", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x04\x58"]),
        codec in prop::sample::select(Compression::ALL.map(Compression::name).to_vec()),
    ) {
        let mut envelope = Envelope::default();
        envelope.headers.insert("compression".to_owned(), Value::from(codec));
        envelope.encode_body(&[start, &stream].concat());
        if let Ok(body) = envelope.decode_body(&Limits::new(1 << 20, 1000)) {
            prop_assert!(body.len() <= 1000);
        }
    }

    #[test]
    fn what_is_composed_is_read_as_it_was(call in any_call()) {
        let message = call.into_message();
        let sent = message.to_envelope(&Routing::queue("celery"), "a-tag");
        let received = Envelope::parse(sent.to_json().as_bytes()).unwrap();
        prop_assert_eq!(&received, &sent);
        let read = TaskMessage::from_envelope(&Limits::default(), received).unwrap();
        let mut expected = message;
        expected.properties = sent.properties;
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn headers_in_any_order_are_passed_on(headers in any_headers()) {
        let text = json::to_python_string(&headers);
        if let Ok(read) = Headers::from_map(headers) {
            prop_assert_eq!(json::to_python_string(&read.to_map()), text);
        }
    }

    #[test]
    fn json_is_read_as_it_was_written(value in any_json()) {
        let text = json::to_python_string(&value);
        prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{}", text);
        prop_assert_eq!(json::parse("text", text.as_bytes()).unwrap(), value);
    }

    #[test]
    fn what_python_has_is_read_as_it_was_written(value in any_python()) {
        let handed_on: Value = from_value(value.clone()).unwrap();
        prop_assert_eq!(&to_value(&handed_on).unwrap(), &value);
        for serializer in Serializer::ALL {
            let Ok(bytes) = serialize(serializer, &value) else {
                prop_assert!(serializer != Serializer::Json);
                continue;
            };
            let read = deserialize(&Limits::default(), "value", serializer, &bytes);
            prop_assert_eq!(&read.unwrap(), &value, "{:?} {}", serializer, String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn any_json_of_pythons_is_read_as_itself(text in r#"[\[\]{}", :0-9.eENaInfity\\ud8cC\-]{0,40}"#) {
        if let Ok(value) = json::parse("text", text.as_bytes()) {
            let written = json::to_python_string(&value);
            prop_assert_eq!(json::parse("text", written.as_bytes()).unwrap(), value);
            // What both read, both read alike.
            if let Ok(plain) = serde_json::from_str::<Value>(&text)
                && !written.contains("celeriac")
                && plain.to_string().len() < 18
            {
                prop_assert_eq!(json::to_python_string(&plain), written);
            }
        }
    }

    #[test]
    fn any_bytes_in_any_serializer_are_a_value_or_have_a_reason(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..200),
            "[\\[\\]{}\"', :&*a!?|>0-9.\n\\-]{0,60}".prop_map(String::into_bytes),
        ],
        values in 1..40_usize,
    ) {
        let limits = Limits { values, nesting: 6, ..Limits::default() };
        for serializer in Serializer::ALL {
            match deserialize(&limits, "bytes", serializer, &bytes) {
                Ok(value) => {
                    prop_assert!(count(&value) <= 3 * values && depth(&value) <= 8, "{}", value);
                    let written = serialize(serializer, &value).unwrap();
                    let again = deserialize(&Limits::default(), "bytes", serializer, &written);
                    prop_assert_eq!(again.unwrap(), value);
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn damaged_bodies_are_read_without_a_panic(
        serializer in prop::sample::select(Serializer::ALL.to_vec()),
        value in any_python(),
        at in any::<prop::sample::Index>(),
        put in vec(any::<u8>(), 0..4),
        cut in 0..6_usize,
    ) {
        if let Ok(mut bytes) = serialize(serializer, &value) {
            let at = at.index(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put);
            drop(deserialize(&Limits::default(), "bytes", serializer, &bytes));
        }
    }

    #[test]
    fn a_time_is_read_as_it_was_written(time in any_time()) {
        prop_assert_eq!(timestamp::parse(&timestamp::isoformat(time)), Ok(time));
    }

    #[test]
    fn a_shown_value_is_bounded(value in any_json(), copies in 1..400_usize) {
        let shown = repr::repr_args(&vec![value; copies]);
        // A text may double by escaping quotes, and each of the levels left open is closed.
        prop_assert!(shown.chars().count() <= 2 * repr::MAX_LENGTH + 20, "{} characters", shown.chars().count());
        prop_assert!(shown.starts_with('(') && shown.ends_with(')'), "{}", shown);
    }
}
