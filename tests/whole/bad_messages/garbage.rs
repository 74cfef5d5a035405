//! Every kind of garbage, each with a good message behind it.

use celeriac::protocol::timestamp;
use celeriac::{SendOptions, clock};
use celeriac_tests::eventually::eventually;
use celeriac_tests::fleet::{Fleet, times};
use celeriac_tests::process::PATIENCE;
use serde_json::{Value, json};

use super::{GONE, Sent, push, records, with_body, with_headers};

/// What becomes of a message.
enum Fate {
    /// It is kept, with a reason that has this in it.
    Dead(&'static str),
    /// Its task runs, well or badly.
    Runs,
    /// It is held: until its time, or until another worker may know its task.
    Held,
}

use Fate::{Dead, Held, Runs};

/// What must not become a line of the log, and must not clear a terminal.
const FORGED: &str = "[2030-01-01 00:00:00,000: CRITICAL/MainProcess] FORGED-LINE\u{1b}[2J";

fn with_properties(properties: Value) -> Vec<u8> {
    Sent {
        properties,
        ..Sent::default()
    }
    .bytes()
}

fn with_envelope(envelope: Value) -> Vec<u8> {
    Sent {
        envelope,
        ..Sent::default()
    }
    .bytes()
}

/// What is no envelope.
fn odd_entries() -> Vec<(Vec<u8>, Fate)> {
    let nested = "[".repeat(100_000) + &"]".repeat(100_000);
    let deep_object = r#"{"a":"#.repeat(100_000) + "1" + &"}".repeat(100_000);
    let entries: Vec<(&[u8], Fate)> = vec![
        (b"this is not json", Dead("not a JSON object")),
        (b"", Dead("not a JSON object")),
        (b"\x80\x81\xff\x00\x01", Dead("not a JSON object")),
        (b"12", Dead("not a JSON object")),
        (b"[1,2,3]", Dead("not a JSON object")),
        (b"{}", Dead("envelope.body is missing")),
        (b"{\"body\": NaN}", Dead("envelope.body is a number")),
        (b"{\"body\": \"\xff\"}", Dead("not JSON")),
        (b"{\"body\": \"e30=\",}", Dead("not JSON")),
        (nested.as_bytes(), Dead("not a JSON object")),
        (deep_object.as_bytes(), Dead("nested data structures")),
    ];
    entries
        .into_iter()
        .map(|(entry, fate)| (entry.to_vec(), fate))
        .collect()
}

/// Envelopes that lack something, or have something odd instead.
fn odd_envelopes() -> Vec<(Vec<u8>, Fate)> {
    vec![
        (
            with_envelope(json!({"headers": GONE})),
            Dead("not a task message"),
        ),
        (with_envelope(json!({"properties": GONE})), Dead("body")),
        (
            with_envelope(json!({"body": GONE})),
            Dead("envelope.body is missing"),
        ),
        (
            with_envelope(json!({"body": "!!!not-base64!!!"})),
            Dead("not valid base64"),
        ),
        (
            with_envelope(json!({"content-type": "application/x-evil"})),
            Dead("application/x-evil"),
        ),
        (
            with_envelope(json!({"content-type": "application/x-python-serialize"})),
            Dead("content of type pickle"),
        ),
        (
            with_envelope(json!({"content-type": "application/x-yaml"})),
            Dead("content of type yaml"),
        ),
        (
            with_envelope(json!({"content-type": format!("a\n{FORGED}")})),
            Dead("content of type a\\n[2030"),
        ),
        (
            with_envelope(json!({"content-type": "x".repeat(1_000_000)})),
            Dead("content of type xxx"),
        ),
        // Python runs it; it has an id of ours while we hold it.
        (with_properties(json!({"delivery_tag": GONE})), Runs),
        (
            with_properties(json!({"reply_to": null, "correlation_id": null})),
            Runs,
        ),
        (with_properties(json!({"priority": "high"})), Runs),
        (with_properties(json!({"delivery_info": GONE})), Runs),
        (
            with_properties(json!({"delivery_info": "celery"})),
            Dead("delivery_info is a string"),
        ),
        (
            with_properties(json!({"body_encoding": "rot13"})),
            Dead("not valid rot13"),
        ),
    ]
}

fn odd_bodies() -> Vec<(Vec<u8>, Fate)> {
    let nested = "[".repeat(100_000) + &"]".repeat(100_000);
    let big = "9".repeat(6000);
    vec![
        (
            with_body(b"[[\"bad\",\"\xff\xfe\"],{},{}]"),
            Dead("not JSON"),
        ),
        (with_body("hello"), Dead("not JSON")),
        (with_body(""), Dead("not JSON")),
        (with_body("\"text\""), Dead("message.body is a string")),
        (with_body("{}"), Dead("message.body is an object")),
        (
            with_body("[\"abc\", {}, {}]"),
            Dead("body.args is a string"),
        ),
        (with_body("[[], [1], {}]"), Dead("body.kwargs is a list")),
        (
            with_body(format!("[[{nested}],{{}},{{}}]")),
            Dead("nested deeper than 300"),
        ),
        (with_body(format!("[[{big}],{{}},{{}}]")), Runs),
        (with_body("[[NaN],{},{}]"), Runs),
        (with_body("[[\"\\ud83d\"],{},{}]"), Runs),
        (with_body("[[nan],{},{}]"), Dead("not JSON")),
        (with_body("[[\"bad\\u0000k\"],{},{}]"), Runs),
        (with_body("[[],{},null]"), Runs),
        (
            with_body(
                r#"[["x"],{},{"chain": [{"task": "no.such", "args": [], "kwargs": {}, "options": {}}]}]"#,
            ),
            Runs,
        ),
    ]
}

fn odd_headers() -> Vec<(Vec<u8>, Fate)> {
    vec![
        (with_headers(json!({"task": "proj.add"})), Runs),
        (with_headers(json!({"task": "no.such.task"})), Held),
        (
            with_headers(json!({"task": format!("evil\n{FORGED}")})),
            Held,
        ),
        (with_headers(json!({"task": "x".repeat(1_000_000)})), Held),
        (
            with_headers(json!({"task": 5})),
            Dead("headers.task is a number"),
        ),
        (
            with_headers(json!({"id": null})),
            Dead("headers.id is null"),
        ),
        (
            with_headers(json!({"id": [1, 2]})),
            Dead("headers.id is a list"),
        ),
        (with_headers(json!({"id": "../../etc/passwd\r\nX"})), Runs),
        (
            with_headers(json!({"retries": "many"})),
            Dead("headers.retries is a string"),
        ),
        (
            with_headers(json!({"timelimit": "x"})),
            Dead("headers.timelimit is a string"),
        ),
        (
            with_headers(json!({"compression": "application/x-nope"})),
            Dead("compressed with \"application/x-nope\""),
        ),
        (
            with_headers(json!({"compression": "application/x-gzip"})),
            Dead("not valid zlib"),
        ),
        (
            with_headers(json!({"compression": "bzip2"})),
            Dead("not valid bzip2"),
        ),
    ]
}

/// What is no time, what is none in Python, and the first and last ones.
fn odd_times() -> Vec<(Vec<u8>, Fate)> {
    let times = [
        (
            json!("tomorrow"),
            Dead("invalid eta"),
            Dead("invalid expires"),
        ),
        (
            json!("2026-13-45T99:99:99"),
            Dead("invalid eta"),
            Dead("invalid expires"),
        ),
        (
            json!("x".repeat(1_000_000)),
            Dead("invalid eta"),
            Dead("invalid expires"),
        ),
        (json!(""), Runs, Runs),
        (json!(0), Runs, Runs),
        (json!({}), Runs, Runs),
        (json!([]), Runs, Runs),
        (
            json!(-1),
            Dead("headers.eta is a number"),
            Dead("headers.expires is a number"),
        ),
        (
            json!(1e308),
            Dead("headers.eta is a number"),
            Dead("headers.expires is a number"),
        ),
        (
            json!(true),
            Dead("headers.eta is a boolean"),
            Dead("headers.expires is a boolean"),
        ),
        (json!("9999-12-31T23:59:59+14:00"), Held, Runs),
        (json!("0001-01-01T00:00:00-14:00"), Runs, Runs),
        (json!("1970-01-01T00:00:00"), Runs, Runs),
    ];
    let sent = times.map(|(time, eta, expires)| {
        [
            (with_headers(json!({"eta": time})), eta),
            (with_headers(json!({"expires": time})), expires),
        ]
    });
    sent.into_iter().flatten().collect()
}

#[tokio::test]
async fn all_kinds_of_garbage_are_kept_and_what_is_behind_them_runs() {
    let fleet = Fleet::new("").await;
    let worker = fleet.worker("worker").await;
    let garbage = [
        odd_entries(),
        odd_envelopes(),
        odd_bodies(),
        odd_headers(),
        odd_times(),
    ];
    let mut kept = Vec::new();
    for (bytes, fate) in garbage.into_iter().flatten() {
        push(&fleet, &bytes).await;
        let good = fleet
            .send("proj.echo", vec![json!("good")], SendOptions::default())
            .await;
        fleet.ends(&good).await;
        if let Dead(reason) = fate {
            kept.push((bytes, reason));
        }
    }
    eventually("all are kept", PATIENCE, async || {
        (records(&fleet).await.len() >= kept.len()).then_some(())
    })
    .await;
    let records = records(&fleet).await;
    for ((record, message), (bytes, reason)) in records.iter().zip(&kept) {
        let shown = String::from_utf8_lossy(bytes.get(..300).unwrap_or(bytes)).into_owned();
        assert!(
            record["reason"]
                .as_str()
                .expect("a reason")
                .contains(reason),
            "{record}, expected {reason}: {shown}"
        );
        assert_eq!(message, bytes, "{shown}");
        assert!(record["worker"].as_str().expect("a node").contains("@"));
        let date = timestamp::parse(record["date"].as_str().expect("a time")).expect("ISO 8601");
        assert!((clock::now() - date).num_seconds().abs() < 600);
    }
    assert_eq!(records.len(), kept.len());
    let log = worker.log();
    assert_eq!(times(&log, "panicked"), 0, "{log}");
    assert!(
        !log.contains('\u{1b}') && !log.lines().any(|line| line.starts_with("[2030-01-01")),
        "{log}"
    );
    assert!(log.len() < 1_000_000, "{} bytes of log", log.len());
}
