//! Messages that nobody can run: they are kept with their reason, those behind them run, and a person can look at them,
//! send them again, or drop them.

use std::process::{Command, Output, Stdio};

use celeriac::protocol::timestamp;
use celeriac::{SendOptions, clock};
use celeriac_tests::eventually::eventually;
use celeriac_tests::fleet::{Fleet, times};
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::{program, python};
use redis::AsyncCommands;
use serde_json::{Map, Value, json};

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

/// A call of `proj.echo` as Celery writes it, changed: `null` in `headers` and the like is a value, `GONE` takes a key away.
struct Sent<'a> {
    body: &'a [u8],
    headers: Value,
    properties: Value,
    envelope: Value,
}

const GONE: &str = "(gone)";

const BODY: &[u8] =
    b"[[\"bad\"], {}, {\"callbacks\": null, \"errbacks\": null, \"chain\": null, \"chord\": null}]";

impl Default for Sent<'_> {
    fn default() -> Self {
        Self {
            body: BODY,
            headers: json!({}),
            properties: json!({}),
            envelope: json!({}),
        }
    }
}

impl Sent<'_> {
    fn bytes(&self) -> Vec<u8> {
        let id = uuid::Uuid::new_v4().to_string();
        let mut headers = json!({"lang": "py", "task": "proj.echo", "id": id, "retries": 0, "timelimit": [null, null],
            "eta": null, "expires": null});
        let mut properties = json!({"correlation_id": id, "reply_to": id, "delivery_mode": 2, "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "celery"}, "body_encoding": "base64", "delivery_tag": id});
        change(&mut headers, &self.headers);
        change(&mut properties, &self.properties);
        let mut envelope = celeriac::protocol::Envelope::default();
        envelope.encode_body(self.body);
        let mut envelope = json!({"body": envelope.body, "content-encoding": "utf-8",
            "content-type": "application/json", "headers": headers, "properties": properties});
        change(&mut envelope, &self.envelope);
        envelope.to_string().into_bytes()
    }
}

fn change(object: &mut Value, changes: &Value) {
    let object = object.as_object_mut().expect("an object");
    for (key, value) in changes.as_object().expect("an object") {
        match value.as_str() {
            Some(GONE) => drop(object.shift_remove(key)),
            _ => drop(object.insert(key.clone(), value.clone())),
        }
    }
}

fn with_headers(headers: Value) -> Vec<u8> {
    Sent {
        headers,
        ..Sent::default()
    }
    .bytes()
}

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

fn with_body(body: impl AsRef<[u8]>) -> Vec<u8> {
    Sent {
        body: body.as_ref(),
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
        (b"{\"body\": NaN}", Dead("not JSON")),
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
        (
            with_body(format!("[[{big}],{{}},{{}}]")),
            Dead("number out of range"),
        ),
        (with_body("[[NaN],{},{}]"), Dead("not JSON")),
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
    let forged = "evil\n[2030-01-01 00:00:00,000: CRITICAL/MainProcess] FORGED-LINE\u{1b}[2J";
    let mut all = vec![
        (with_headers(json!({"task": "proj.add"})), Runs),
        (with_headers(json!({"task": "no.such.task"})), Held),
        (with_headers(json!({"task": forged})), Held),
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
    ];
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
    for (time, eta, expires) in times {
        all.push((with_headers(json!({"eta": time})), eta));
        all.push((with_headers(json!({"expires": time})), expires));
    }
    all
}

async fn push(fleet: &Fleet, message: &[u8]) {
    let mut connection = fleet.redis.connect().await;
    connection
        .lpush::<_, _, ()>("celery", message)
        .await
        .expect("redis runs");
}

/// The records, oldest first: what their first line says, and the message behind it.
async fn records(fleet: &Fleet) -> Vec<(Value, Vec<u8>)> {
    let records: Vec<Vec<u8>> = fleet.run(&["LRANGE", "celery.dead", "0", "-1"]).await;
    let parts = records.iter().rev().map(|record| {
        let end = record
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a line");
        let line = serde_json::from_slice(&record[..end]).expect("JSON");
        (line, record[end + 1..].to_vec())
    });
    parts.collect()
}

#[tokio::test]
async fn all_kinds_of_garbage_are_kept_and_what_is_behind_them_runs() {
    let fleet = Fleet::new("").await;
    let worker = fleet.worker("worker").await;
    let garbage = [odd_entries(), odd_envelopes(), odd_bodies(), odd_headers()].concat_all();
    let mut kept = Vec::new();
    for (bytes, fate) in garbage {
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
        assert!(
            record["worker"]
                .as_str()
                .expect("a node")
                .starts_with("celery@")
        );
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

/// Several tables in a row.
trait ConcatAll {
    fn concat_all(self) -> Vec<(Vec<u8>, Fate)>;
}

impl<const N: usize> ConcatAll for [Vec<(Vec<u8>, Fate)>; N] {
    fn concat_all(self) -> Vec<(Vec<u8>, Fate)> {
        self.into_iter().flatten().collect()
    }
}

/// MiB of memory that a process has had at most, and starts the count anew.
fn peak_mib(worker: &Process) -> u64 {
    let folder = format!("/proc/{}", worker.id());
    let status = std::fs::read_to_string(format!("{folder}/status")).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("Linux tells");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number");
    std::fs::write(format!("{folder}/clear_refs"), "5").expect("Linux lets us");
    kib / 1024
}

/// What this Python expression gives, in bytes.
fn python_bytes(expression: &str) -> Vec<u8> {
    let code = format!("import bz2, sys, zlib\nsys.stdout.buffer.write({expression})");
    let output = python().args(["-c", &code]).output().expect("Python runs");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[tokio::test]
async fn a_bomb_and_a_huge_message_cost_little_memory() {
    let fleet = Fleet::new("").await;
    // The time to write much to the disk is not what this is about.
    fleet
        .run::<()>(&["CONFIG", "SET", "appendonly", "no"])
        .await;
    let worker = fleet.worker("worker").await;
    let base = peak_mib(&worker);
    let zlib = python_bytes(
        "(lambda z: b''.join(z.compress(b' ' * 2**20) for _ in range(1024)) + z.flush())(zlib.compressobj(1))",
    );
    let bzip2 = python_bytes("bz2.compress(b' ' * 2**24) * 64");
    let compressed = |body: &[u8], name: &str| {
        let headers = json!({"compression": name});
        Sent {
            body,
            headers,
            ..Sent::default()
        }
        .bytes()
    };
    let large = |mib: usize| {
        with_body(format!(
            r#"[["{}"],{{}},{{}}]"#,
            "x".repeat(mib * 1024 * 1024)
        ))
    };
    for (name, bytes, reason, most) in [
        (
            "1 GiB in zlib",
            compressed(&zlib, "application/x-gzip"),
            Some("inflates from"),
            200,
        ),
        (
            "1 GiB in bzip2",
            compressed(&bzip2, "application/x-bz2"),
            Some("inflates from"),
            200,
        ),
        (
            "64 MiB",
            large(64),
            Some("more than 67108864 (message_max_bytes)"),
            50,
        ),
        ("20 MiB that are read", large(20), None, 250),
    ] {
        let before = records(&fleet).await.len();
        push(&fleet, &bytes).await;
        let good = fleet
            .send("proj.echo", vec![json!("good")], SendOptions::default())
            .await;
        fleet.ends(&good).await;
        let peak = peak_mib(&worker);
        println!("{name}: {peak} MiB at most, {base} MiB before all");
        assert!(
            peak < base + most,
            "{name}: {peak} MiB, {base} MiB before all"
        );
        let records = records(&fleet).await;
        let reasons = records.get(before..).unwrap_or_default();
        let reasons: Vec<_> = reasons
            .iter()
            .filter_map(|(record, _)| record["reason"].as_str())
            .collect();
        assert_eq!(
            reasons.len(),
            usize::from(reason.is_some()),
            "{name}: {reasons:?}"
        );
        assert!(
            reason.is_none_or(|reason| reasons.iter().all(|kept| kept.contains(reason))),
            "{reasons:?}"
        );
        fleet.run::<()>(&["DEL", "celery.dead"]).await;
    }
}

#[tokio::test]
async fn what_python_compresses_is_read() {
    let fleet = Fleet::new("").await;
    let _worker = fleet.worker("worker").await;
    for (name, expression) in [
        ("application/x-gzip", "zlib.compress"),
        ("application/x-bz2", "bz2.compress"),
    ] {
        let id = uuid::Uuid::new_v4().to_string();
        let body = python_bytes(&format!("{expression}(b'[[\"squeezed\"], {{}}, {{}}]' )"));
        let headers = json!({"compression": name, "id": id});
        push(
            &fleet,
            &Sent {
                body: &body,
                headers,
                ..Sent::default()
            }
            .bytes(),
        )
        .await;
        let mut results = fleet.redis.connect_to(1).await;
        let meta: String = eventually("it has run", PATIENCE, async || {
            results
                .get(format!("celery-task-meta-{id}"))
                .await
                .expect("redis runs")
        })
        .await;
        assert!(
            meta.contains(r#""args": ["squeezed"]"#) && !meta.contains("compression"),
            "{meta}"
        );
    }
}

/// Runs `dead-letter` with these arguments, and this on stdin.
fn dead_letter(fleet: &Fleet, line: &str, typed: &str) -> Output {
    let mut command = Command::new(program("test-worker"));
    command
        .args(["-A", "proj", "-b", &fleet.redis.url(0), "dead-letter"])
        .args(line.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    // It may have ended without reading.
    drop(std::io::Write::write_all(&mut stdin, typed.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

/// Its stdout, when it has ended well.
fn shown(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_person_looks_at_dead_letters_and_sends_or_drops_them() {
    let fleet = Fleet::new("").await;
    let mut worker = fleet.worker("worker").await;
    assert_eq!(shown(&dead_letter(&fleet, "list --json", "")), "[]\n");
    let squeezed = with_headers(json!({"id": "an-id", "timelimit": "x"}));
    let bad: [&[u8]; 3] = [b"rubbish\x1b[2J", &squeezed, b"{\"a\": \xff}"];
    for (kept, bytes) in bad.iter().enumerate() {
        push(&fleet, bytes).await;
        eventually("it is kept", PATIENCE, async || {
            (records(&fleet).await.len() > kept).then_some(())
        })
        .await;
    }
    worker.kill();

    let listed = shown(&dead_letter(&fleet, "list", ""));
    assert!(
        listed.starts_with("celery: 3 dead letters\n   0  ") && listed.lines().count() == 4,
        "{listed}"
    );
    let listed: Vec<Map<String, Value>> =
        serde_json::from_str(&shown(&dead_letter(&fleet, "list --json", ""))).expect("JSON");
    assert_eq!(
        (&listed[1]["task"], &listed[1]["task_id"]),
        (&json!("proj.echo"), &json!("an-id"))
    );
    let whole = shown(&dead_letter(&fleet, "show 0", ""));
    assert!(
        whole.contains("reason: the message is not a JSON object")
            && whole.contains("rubbish\\u{1b}[2J"),
        "{whole}"
    );
    let whole: Value =
        serde_json::from_str(&shown(&dead_letter(&fleet, "show 2 --json", ""))).expect("JSON");
    assert_eq!(
        (&whole["encoding"], &whole["message"]),
        (&json!("latin-1"), &json!("{\"a\": \u{ff}}"))
    );

    // What nobody can read goes back only if told to; and nothing goes twice.
    let refused = dead_letter(&fleet, "replay --all", "");
    assert_eq!(
        (
            refused.status.code(),
            fleet.waiting().await,
            records(&fleet).await.len()
        ),
        (Some(1), 0, 3)
    );
    assert_eq!(
        times(
            &String::from_utf8_lossy(&refused.stderr),
            "-f sends it all the same"
        ),
        3
    );
    let id = listed[1]["id"].as_str().expect("an id");
    assert_eq!(
        shown(&dead_letter(&fleet, &format!("replay {id} -f"), "")),
        "1 dead letter sent again.\n"
    );
    let waiting: Vec<Vec<u8>> = fleet.run(&["LRANGE", "celery", "0", "-1"]).await;
    assert_eq!(waiting, [squeezed]);
    let again = dead_letter(&fleet, &format!("replay {id} -f"), "");
    assert_eq!(
        (
            again.status.code(),
            fleet.waiting().await,
            records(&fleet).await.len()
        ),
        (Some(1), 1, 2)
    );

    let doubted = dead_letter(&fleet, "drop --all", "n\n");
    assert_eq!(
        (doubted.status.code(), records(&fleet).await.len()),
        (Some(1), 2)
    );
    assert!(
        String::from_utf8_lossy(&doubted.stderr)
            .contains("This will destroy 2 dead letters of queue: celery.")
    );
    assert_eq!(
        shown(&dead_letter(&fleet, "drop 1", "y\n")),
        "1 dead letter dropped.\n"
    );
    assert_eq!(
        shown(&dead_letter(&fleet, "drop --all -f", "")),
        "1 dead letter dropped.\n"
    );
    assert_eq!((records(&fleet).await.len(), fleet.waiting().await), (0, 1));
}

#[tokio::test]
async fn what_can_be_read_by_now_is_sent_again_and_runs() {
    let fleet = Fleet::new("[broker_transport_options]\nmessage_max_bytes = 2000\n").await;
    let mut narrow = fleet.worker("narrow").await;
    let sent = 40;
    let mut results = Vec::new();
    for number in 0..sent {
        let args = vec![json!(number.to_string()), json!("x".repeat(5000))];
        results.push(fleet.send("proj.add", args, SendOptions::default()).await);
    }
    push(&fleet, b"rubbish").await;
    eventually("all are kept", PATIENCE, async || {
        (records(&fleet).await.len() == sent + 1).then_some(())
    })
    .await;
    narrow.kill();
    let replayed = dead_letter(&fleet, "replay --all", "");
    assert_eq!(
        String::from_utf8_lossy(&replayed.stdout),
        format!("{sent} dead letters sent again.\n")
    );
    assert_eq!(
        (
            replayed.status.code(),
            records(&fleet).await.len(),
            fleet.waiting().await
        ),
        (Some(1), 1, sent)
    );
    // One of Python's has no such limit.
    let _python = fleet.python("python", 60).await;
    for result in &results {
        fleet.ends(result).await;
    }
}
