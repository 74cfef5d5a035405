//! Messages that Celery sent: parsed, written again, compared byte for byte.

use celeriac_protocol::{
    Accept, Compression, DecodeError, Envelope, Limits, Map, Routing, Serializer, TaskMessage,
    binding::{PRIORITY_STEPS, priority_queue, priority_step},
    json,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{check_all, fixture};

#[derive(Deserialize)]
pub(crate) struct Recorded {
    pub(crate) name: String,
    pub(crate) queue: Option<String>,
    pub(crate) call: Option<Value>,
    pub(crate) message: String,
}

impl Recorded {
    pub(crate) fn envelope(&self) -> Envelope {
        Envelope::parse(self.message.as_bytes())
            .unwrap_or_else(|err| panic!("{}: {err}", self.name))
    }

    pub(crate) fn task(&self) -> TaskMessage {
        TaskMessage::from_envelope(&everything(), self.envelope())
            .unwrap_or_else(|err| panic!("{}: {err}", self.name))
    }
}

/// Every serializer is accepted.
fn everything() -> Limits {
    Limits::default().accepting(Accept::only(&Serializer::ALL))
}

/// All messages of one scenario, in the order in which they were sent.
pub(crate) fn scenario(name: &str) -> Vec<Recorded> {
    let found: Vec<_> = fixture::<Recorded>("messages")
        .into_iter()
        .filter(|line| line.name == name)
        .collect();
    assert!(!found.is_empty(), "no recorded message of {name}");
    found
}

fn routing_of(envelope: &Envelope) -> Routing {
    let info = envelope.properties.delivery_info.clone();
    Routing {
        exchange: info.exchange.unwrap(),
        routing_key: info.routing_key.unwrap(),
    }
}

#[test]
fn every_envelope_is_written_again_byte_for_byte() {
    let recorded = fixture::<Recorded>("messages")
        .into_iter()
        .chain(fixture::<Recorded>("broadcasts"));
    check_all(
        "envelopes",
        recorded.map(|line| (line.name.clone(), line.envelope().to_json(), line.message)),
    );
}

#[test]
fn every_protocol_2_message_is_written_again_byte_for_byte() {
    let lines = fixture::<Recorded>("messages").into_iter().filter(|line| {
        // Protocol 1 is read, never written; a plain body and a mark of redelivery are of the delivery, not the message.
        // YAML and compressed bodies are the same only once they are read.
        !["protocol_1", "plain_body", "serializer_pickle"].contains(&line.name.as_str())
            && !line.message.contains("\"redelivered\"")
            && !line.message.contains("application/x-yaml")
            && !line.message.contains("\"compression\"")
    });
    check_all(
        "task messages",
        lines.map(|line| {
            let envelope = line.envelope();
            let tag = envelope.properties.delivery_tag.clone().unwrap();
            let written = line
                .task()
                .to_envelope(&routing_of(&envelope), &tag)
                .to_json();
            (line.name.clone(), written, line.message)
        }),
    );
}

#[test]
fn plain_and_base64_bodies_hold_the_same() {
    let [plain] = &scenario("plain_body")[..] else {
        panic!("one message expected")
    };
    assert_eq!(plain.envelope().properties.body_encoding, None);
    assert_eq!(plain.task().body_json(), plain.envelope().body);
}

#[test]
fn a_message_given_back_is_marked_as_kombu_marks_it() {
    let [sent, restored] = &scenario("given_back")[..] else {
        panic!("two messages expected")
    };
    let mut envelope = sent.envelope();
    envelope.set_redelivered();
    assert_eq!(envelope.to_json(), restored.message);
}

#[test]
fn a_message_lies_in_the_list_of_its_priority() {
    for line in fixture::<Recorded>("messages") {
        let properties = line.envelope().properties;
        let step = priority_step(properties.priority.unwrap(), &PRIORITY_STEPS);
        let queue = properties.delivery_info.routing_key.unwrap();
        assert_eq!(
            priority_queue(&queue, step),
            line.queue.unwrap(),
            "{}",
            line.name
        );
    }
}

#[test]
fn protocol_1_reads_as_protocol_2() {
    let [plain, full, local, serialized] = &scenario("protocol_1")[..] else {
        panic!("four messages expected")
    };
    let task = plain.task();
    assert_eq!(
        (task.headers.task.as_str(), task.headers.retries),
        ("worker.tasks.add", 0)
    );
    assert_eq!(task.headers.argsrepr.as_deref(), Some("[2, 2]"));

    let task = full.task();
    assert_eq!(task.args, ["a", "b"]);
    assert_eq!(task.kwargs["k"], 1);
    assert_eq!(task.headers.retries, 2);
    assert_eq!(
        task.headers.eta_time().unwrap().unwrap().to_rfc3339(),
        "2030-01-02T03:04:05+00:00"
    );
    assert_eq!(task.headers.timelimit.hard_duration().unwrap().as_secs(), 7);
    assert_eq!(task.embed.callbacks.unwrap()[0].args, [1]);
    assert_eq!(task.embed.errbacks.unwrap()[0].task, "worker.tasks.echo");
    assert_eq!((task.embed.chain, task.embed.chord), (None, None));

    let headers = local.task().headers;
    assert_eq!(headers.group.as_deref(), Some("a-group"));
    for time in [headers.eta_time(), headers.expires_time()] {
        let time = time.unwrap().unwrap();
        assert_eq!(time.to_rfc3339(), "2030-01-02T03:04:05+00:00");
    }
    // What is of protocol 1 alone does not travel on.
    assert_eq!(headers.extra, Map::new());

    let task = serialized.task();
    assert_eq!(
        (task.serializer, task.compression),
        (Serializer::Msgpack, Some(Compression::Zlib))
    );
    assert_eq!(task.args, [1, 2]);
    assert!(task.headers.eta_time().unwrap().is_some());
}

/// Reads what was recorded, writes it, reads that: the same message, written in the same way.
#[test]
fn every_serializer_and_compression_is_read_and_written() {
    let mut seen = Vec::new();
    for line in fixture::<Recorded>("messages") {
        if line.name == "protocol_1" || line.name == "serializer_pickle" {
            continue;
        }
        let (recorded, task) = (line.envelope(), line.task());
        let written = task.to_envelope(&routing_of(&recorded), "tag");
        assert_eq!(written.content_type, recorded.content_type, "{}", line.name);
        assert_eq!(
            written.content_encoding, recorded.content_encoding,
            "{}",
            line.name
        );
        assert_eq!(
            written.headers.get("compression"),
            recorded.headers.get("compression"),
            "{}",
            line.name
        );
        let again = TaskMessage::from_envelope(&everything(), written).unwrap();
        assert_eq!(
            (&again.args, &again.kwargs, &again.embed),
            (&task.args, &task.kwargs, &task.embed),
            "{}",
            line.name
        );
        seen.push((task.serializer, task.compression));
    }
    for compression in Compression::ALL {
        assert!(
            seen.contains(&(Serializer::Json, Some(compression))),
            "{compression:?}"
        );
    }
    for serializer in Serializer::ALL {
        assert!(seen.contains(&(serializer, None)), "{serializer:?}");
    }
}

#[test]
fn what_was_sent_in_msgpack_and_yaml_is_what_json_says() {
    let shown = |name: &str| scenario(name)[0].task().body_json();
    let same = concat!(
        r#"[[1, -2.5, "gr\u00f6\u00dfe \ud83d\ude00", null, true, [1, [2]], NaN, 18446744073709551615, "#,
        r#"{"__type__": "base64", "__value__": "/w=="}, "yes"], {"k": {"a": [{}]}}, "#,
        r#"{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#
    );
    assert_eq!(shown("serializer_msgpack"), same);
    let yaml = shown("serializer_yaml");
    let (args, _) = yaml.split_once("], {\"k\"").unwrap();
    assert_eq!(args, same.split_once("], {\"k\"").unwrap().0);
    let types = shown("serializer_yaml_types");
    let expected = concat!(
        r#"[[{"__type__": "datetime", "__value__": "2030-01-02T03:04:05.678901+00:00"}, "#,
        r#"{"__type__": "datetime", "__value__": "2026-01-02T03:04:05"}, {"__type__": "date", "__value__": "2026-01-02"}, "#,
        r#"1000000000000000000000000000000, 1e-05, [1, 2], [1, 2]], {}, "#
    );
    assert!(types.starts_with(expected), "{types}");
}

#[test]
fn what_json_has_no_word_for_comes_out_as_it_came() {
    let [echo, add] = &scenario("no_json_elsewhere")[..] else {
        panic!("two messages expected")
    };
    let task = echo.task();
    let body = String::from_utf8(echo.envelope().decode_body(&Limits::default()).unwrap()).unwrap();
    assert_eq!(task.body_json(), body);
    assert!(
        body.contains("NaN") && body.contains("18446744073709551616") && body.contains("\\udc00")
    );
    let written = json::to_python_string(&add.task().headers.to_map());
    assert!(
        written.ends_with(r#""ratio": NaN, "big": 36893488147419103232}"#),
        "{written}"
    );
}

#[test]
fn the_last_of_the_chain_is_next() {
    let [first, ..] = &scenario("chain")[..] else {
        panic!("a message expected")
    };
    let embed = first.task().embed;
    let (next, rest) = embed.next_in_chain().unwrap();
    assert_eq!(
        (next.task.as_str(), next.args.as_slice()),
        ("worker.tasks.add", [Value::from(4)].as_slice())
    );
    assert_eq!(rest.len(), 1);
    assert_eq!(next.merged_args(&[3.into()]), [3, 4]);
}

#[test]
fn pickle_is_refused_in_kombus_words() {
    let pickled = &scenario("serializer_pickle")[0];
    let refused = TaskMessage::from_envelope(&everything(), pickled.envelope()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Refusing to deserialize untrusted content of type pickle (application/x-python-serialize)"
    );
    let mut envelope = scenario("delay")[0].envelope();
    for (content_type, name) in [
        ("application/x-python-serialize", "pickle"),
        ("application/x-yaml", "yaml"),
        ("application/x-msgpack", "msgpack"),
        ("text/weird", "text/weird"),
    ] {
        envelope.content_type = Some(content_type.to_owned());
        let err = TaskMessage::from_envelope(&Limits::default(), envelope.clone()).unwrap_err();
        assert!(matches!(err, DecodeError::ContentDisallowed { .. }));
        let expected =
            format!("Refusing to deserialize untrusted content of type {name} ({content_type})");
        assert_eq!(err.to_string(), expected);
    }
}
