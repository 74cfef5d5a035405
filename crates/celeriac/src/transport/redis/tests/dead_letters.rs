//! What nobody can run: what gets into `unacked`, what is kept of the rest, and the way back.

use super::super::take::record_tail;
use super::*;
use crate::transport::DeadLetter;

/// Entries that must not get into `unacked`, and the reason that is kept with them.
const FOREIGN: [(&[u8], &str); 22] = [
    (b"rubbish", "the message is not a JSON object"),
    (b"[1, 2]", "the message is not a JSON object"),
    (b"12", "the message is not a JSON object"),
    (b"\xff\xfe", "the message is not a JSON object"),
    ("ünïcode".as_bytes(), "the message is not a JSON object"),
    (b"", "the message is not a JSON object"),
    (
        b"{\"a\": 1,}",
        "the message is not JSON: Expected object key",
    ),
    (b"{}}", "the message is not JSON: Expected the end"),
    (b"{}{}", "the message is not JSON: Expected the end"),
    (b"{\"a\": }", "the message is not JSON: Expected value"),
    (
        b"{\"\xff\": \xff}",
        "the message is not JSON: Expected value",
    ),
    (b"{'a': 1}", "the message is not JSON: Expected object key"),
    (b"{\"a\": 0x10}", "the message is not JSON: Expected value"),
    (b"{\"a\": 01}", "the message is not JSON: Expected value"),
    (
        b"{\"a\": infinity}",
        "the message is not JSON: Expected value",
    ),
    (b"{\"a\": -NaN}", "the message is not JSON: Expected value"),
    (b"{NaN: 1}", "the message is not JSON: Expected object key"),
    (
        b"{\"a\": \"\\x\"}",
        "the message is not JSON: Expected value",
    ),
    (
        b"{\"a\": \"line\nend\"}",
        "a text in it has a control character",
    ),
    (
        b"{\"a\": \"\\\"\x01\"}",
        "a text in it has a control character",
    ),
    (
        b"{\"a\": \"\0\"}",
        "the message is not JSON: Expected value",
    ),
    (
        b"{\"body\": \"0123456789012345678901234567890123456789\"}",
        "the message has 52 bytes, more than 50",
    ),
];

/// Objects, whatever is in them: Python's `json.loads` reads all of these.
const OBJECTS: [&[u8]; 9] = [
    b"{}",
    b" {\"a\": [1, 1e5, -0.5, 1E+3]} \n",
    b"{\n\t\"a\": 1,\r\n \"b\": \"\\n\\\"\\u0001\"\n}",
    b"{\"a\": \"\xff\"}",
    "{\"ü\": \"€\"}".as_bytes(),
    b"{\"a\": 123456789012345678901234567890}",
    b"{\"a\": \"}\", \"b\": \"{\\\\\"}",
    b"{\"a\": NaN, \"b\": [-Infinity,Infinity ,NaN]}",
    b"{\"\\udc00\": \"\\ud83d, NaN\"}",
];

impl World {
    async fn push(&mut self, queue: &str, entry: &[u8]) {
        let mut push = redis::cmd("LPUSH");
        push.arg(self.key(queue)).arg(entry);
        push.query_async::<()>(&mut self.redis).await.unwrap();
    }

    async fn dead(&self) -> Vec<DeadLetter> {
        self.transport.dead_letters("q", 0, 1000).await.unwrap()
    }
}

#[tokio::test]
async fn only_json_objects_get_into_unacked_and_the_rest_stops_nobody() {
    let mut world = World::with(|options| options.message_max_bytes = 50).await;
    world.transport.sign_as("celery@here");
    for (entry, _) in FOREIGN {
        world.push("q", entry).await;
    }
    for object in OBJECTS {
        world.push("q", object).await;
    }
    let mut taken = Vec::new();
    for _ in 0..=FOREIGN.len() {
        taken.extend(world.take(10).await);
    }
    let taken: Vec<_> = taken.iter().map(super::super::Delivery::raw).collect();
    assert_eq!(taken, OBJECTS);
    assert_eq!(
        world.census().await,
        (0, OBJECTS.len(), OBJECTS.len(), FOREIGN.len())
    );
    for (letter, (entry, reason)) in world.dead().await.iter().zip(FOREIGN) {
        let shown = String::from_utf8_lossy(entry);
        assert!(letter.reason.contains(reason), "{shown}: {}", letter.reason);
        assert_eq!(letter.message.as_deref(), Some(entry), "{shown}");
        assert_eq!(letter.worker, "celery@here");
    }
}

/// A message is taken without being parsed when one of its form was parsed before.
#[tokio::test]
async fn what_only_looks_like_a_known_message_does_not_get_into_unacked() {
    let mut world = World::new().await;
    let known: [&[u8]; 6] = [
        b"{\"a\": \"b\"}",
        b"{\"a\": \"c\"}",
        b"{\"a\": \"b\", \"c\": 1}",
        b"{\"a\": \"\", \"c\": 1}",
        b"{\"x\": \"\", \"c\": \"stays\", \"y\": []}",
        b"{\"x\": \"~ [] ^ \xc3\xa4\", \"c\": \"stays\", \"y\": []}",
    ];
    let foreign: [&[u8]; 15] = [
        b"{\"a\": \"}",
        b"{\"a\": \"b\"",
        b"{\"a\": \"b\"}}",
        b" \"a\": \"b\"}",
        b"x{\"a\": \"b\"}",
        b"{\"a\": \"b\"\"}",
        b"{\x01: \x01}",
        b"{\"\x01\": \x01}",
        b"{\"a\": \"b\"\"c\"}",
        b"{\"a\": \"b\\\"}",
        b"{\"a\": \"b\\x\"}",
        b"{\"a\": \"b\nc\"}",
        b"{\"a\": \"\0\"}",
        b"{\"a\": \"\x1f\", \"c\": 1}",
        b"{\"a\", \"b\"}",
    ];
    // Long texts are looked at in another way than short ones.
    let long = |entry: &[u8]| {
        let longer = [b"x".repeat(5000), b"\"}".to_vec()].concat();
        let end = entry.len().saturating_sub(2);
        let (start, rest) = entry.split_at(end);
        let end = if rest == b"\"}" { &longer[..] } else { rest };
        [start, end].concat()
    };
    let known = known.map(<[u8]>::to_vec).into_iter();
    let known: Vec<Vec<u8>> = known
        .clone()
        .chain(known.map(|entry| long(&entry)))
        .collect();
    let foreign = foreign.map(<[u8]>::to_vec).into_iter();
    let foreign: Vec<Vec<u8>> = foreign
        .clone()
        .chain(foreign.map(|entry| long(&entry)))
        .collect();
    for entry in &known {
        world.push("q", entry).await;
    }
    assert_eq!(world.take(20).await.len(), known.len());
    for entry in foreign.iter().chain(&known) {
        world.push("q", entry).await;
    }
    let mut taken = Vec::new();
    for _ in 0..=foreign.len() {
        taken.extend(world.take(20).await);
    }
    let taken: Vec<_> = taken.iter().map(super::super::Delivery::raw).collect();
    assert!(taken == known, "{} of {}", taken.len(), known.len());
    assert_eq!(world.dead().await.len(), foreign.len());
}

#[tokio::test]
async fn a_large_message_is_looked_at_around_its_body() {
    let mut world = World::new().await;
    let body = "A".repeat(2 * 1024 * 1024);
    let whole = format!(r#"{{"body": "{body}", "headers": {{}}}}"#);
    let escaped = format!(r#"{{"body": "{body}\"", "headers": {{}}}}"#);
    for (message, is_taken) in [
        (whole.clone(), true),
        (whole.replace("{}}", "{},}"), false),
        (whole.replacen("\", ", ", ", 1), false),
        (whole.replace("AA\"", "A\n\""), false),
        (escaped, true),
    ] {
        world.push("q", message.as_bytes()).await;
        let taken = world.take(1).await;
        assert_eq!(
            taken.len(),
            usize::from(is_taken),
            "{}",
            &message[message.len() - 40..]
        );
    }
}

/// The check is there to keep an entry out that Python cannot read: so Python's own reader is asked.
#[test]
fn python_reads_every_record_that_is_let_in() {
    let python = std::env::var("CELERIAC_PYTHON")
        .expect("CELERIAC_PYTHON: `tests/services/services install python`");
    let code = "import json, sys\nfor line in sys.stdin.buffer.read().split(b'\\0'):\n    json.loads(line.decode(errors='replace'))";
    let records = OBJECTS.map(|object| [b"[", object, record_tail("q").as_bytes()].concat());
    let mut child = std::process::Command::new(python)
        .args(["-c", code])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &records.join(&b'\0')).unwrap();
    assert!(child.wait().unwrap().success());
}

/// One that it refuses would end every restore of its workers.
#[tokio::test]
async fn an_integer_gets_into_unacked_where_python_reads_it() {
    let python = std::env::var("CELERIAC_PYTHON")
        .expect("CELERIAC_PYTHON: `tests/services/services install python`");
    let digits = |count: usize| "7".repeat(count);
    let (most, more) = (digits(4300), digits(4301));
    let numbers = [
        format!("-{most}"),
        more.clone(),
        format!("-{more}"),
        format!("[1, {more}]"),
        format!("{more}.5"),
        format!("0.{more}"),
        format!("{more}e5"),
        format!("1e-{more}"),
        format!("\"{more}\""),
        format!("\"\\\"{more}\", \"b\": {more}"),
        format!("\"\\\"{more}\""),
        format!("{{\"b\":{more}}}"),
    ];
    let mut world = World::new().await;
    for number in numbers {
        let message = format!(r#"{{"body": "{more}", "a": {number}}}"#);
        let read = std::process::Command::new(&python)
            .args(["-c", "import json, sys; json.loads(sys.argv[1])", &message])
            .output()
            .unwrap();
        world.push("q", message.as_bytes()).await;
        let taken = world.take(1).await;
        let shown = number.replace(&most, "...");
        assert_eq!(taken.len(), usize::from(read.status.success()), "{shown}");
    }
    let reason = "the message has an integer of more than 4300 digits, which Python does not read";
    let dead = world.dead().await;
    assert_eq!(dead.len(), 5);
    assert!(
        dead.iter().all(|letter| letter.reason == reason),
        "{dead:?}"
    );
}

#[tokio::test]
async fn what_was_taken_is_kept_byte_for_byte() {
    let mut world = World::new().await;
    world.transport.sign_as("celery@here");
    let message = b"{\"body\": \"\xfe\", \"x\": \"/ \\\" \\\\ \x7f \xc3\xa9\", \"headers\": {\"task\": \"t\"}}";
    let named = r#"{"body": "é/", "headers": {"task": "proj.add", "id": "an-id"}}"#;
    world.push("q", message).await;
    world.push("q", named.as_bytes()).await;
    for delivery in world.take(2).await {
        world
            .transport
            .dead_letter(delivery, "", "why \"not\"\n")
            .await
            .unwrap();
    }
    assert_eq!(world.census().await, (0, 0, 0, 2));
    let letters = world.dead().await;
    let [odd, plain] = &*letters else {
        panic!("{letters:?}")
    };
    assert_eq!((odd.index, odd.message.as_deref()), (0, Some(&message[..])));
    assert_eq!(
        (plain.index, plain.message.as_deref()),
        (1, Some(named.as_bytes()))
    );
    assert_eq!(
        (plain.task.as_deref(), plain.task_id.as_deref()),
        (Some("proj.add"), Some("an-id"))
    );
    assert_eq!(
        (odd.reason.as_str(), odd.worker.as_str()),
        ("why \"not\"\n", "celery@here")
    );
    assert_ne!(odd.id, plain.id);
    let records: Vec<Vec<u8>> = world.run("LRANGE", "q.dead", &["0", "-1"]).await;
    assert!(
        records[1].ends_with(&[b"}\n", &message[..]].concat()),
        "{records:?}"
    );
}

#[tokio::test]
async fn blanks_around_a_message_lose_none_of_it() {
    let mut world = World::new().await;
    let message = b" \n{\"body\": \"\"}\n";
    for _ in 0..2 {
        world.push("q", message).await;
    }
    let [whole, parsed]: [_; 2] = world.take(2).await.try_into().unwrap();
    world.transport.dead_letter(whole, "", "why").await.unwrap();
    // As it is found again when the reply to its take was lost.
    let raw = message.trim_ascii().to_vec();
    let parsed = super::super::Delivery::new(parsed.tag().to_owned(), "q".to_owned(), raw);
    world
        .transport
        .dead_letter(parsed, "", "why")
        .await
        .unwrap();
    let kept: Vec<_> = world
        .dead()
        .await
        .into_iter()
        .map(|letter| letter.message.unwrap())
        .collect();
    assert_eq!(kept, [message.to_vec(), message.trim_ascii().to_vec()]);
}

#[tokio::test]
async fn a_message_that_another_worker_has_is_not_set_aside() {
    let mut world = World::new().await;
    world.publish(1).await;
    let taken = world.take(1).await.remove(0);
    world.run::<()>("HDEL", "unacked", &[taken.tag()]).await;
    world.transport.dead_letter(taken, "", "why").await.unwrap();
    assert_eq!(world.census().await, (0, 0, 0, 0));
}

#[tokio::test]
async fn the_oldest_fall_off_beyond_the_most_that_are_kept() {
    let mut world = World::with(|options| options.dead_letters_max = 3).await;
    for number in 0..5 {
        world
            .push("q", format!("rubbish {number}").as_bytes())
            .await;
        assert!(world.take(1).await.is_empty());
    }
    world.publish(1).await;
    let taken = world.take(1).await.remove(0);
    world.transport.dead_letter(taken, "", "why").await.unwrap();
    let messages: Vec<_> = world
        .dead()
        .await
        .into_iter()
        .map(|letter| letter.message.unwrap())
        .collect();
    assert_eq!(
        messages,
        [
            b"rubbish 3".to_vec(),
            b"rubbish 4".to_vec(),
            envelope(0).into_bytes()
        ]
    );
}

#[tokio::test]
async fn a_dead_letter_is_sent_again_once() {
    let mut world = World::new().await;
    let urgent = envelope(7).replace(r#""priority": 0"#, r#""priority": 9"#);
    world.push("q", urgent.as_bytes()).await;
    let taken = world.take(1).await.remove(0);
    world.transport.dead_letter(taken, "", "why").await.unwrap();
    let letter = world.dead().await.remove(0);
    let message = letter.message.clone().unwrap();
    assert!(
        world
            .transport
            .replay_dead_letter(&letter, 9, &message)
            .await
            .unwrap()
    );
    assert!(
        !world
            .transport
            .replay_dead_letter(&letter, 9, &message)
            .await
            .unwrap()
    );
    assert!(!world.transport.drop_dead_letter(&letter).await.unwrap());
    let again: Vec<Vec<u8>> = world.run("LRANGE", "q\u{6}\u{16}9", &["0", "-1"]).await;
    assert_eq!(again, [urgent.into_bytes()]);
    assert_eq!(world.census().await, (0, 0, 0, 0));
}

#[tokio::test]
async fn a_dead_letter_is_dropped_alone() {
    let mut world = World::new().await;
    for entry in ["a", "b", "c"] {
        world.push("q", entry.as_bytes()).await;
        assert!(world.take(1).await.is_empty());
    }
    assert_eq!(world.transport.count_dead_letters("q").await.unwrap(), 3);
    let second = world
        .transport
        .dead_letters("q", 1, 1)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (second.index, second.message.as_deref()),
        (1, Some(&b"b"[..]))
    );
    assert!(world.transport.drop_dead_letter(&second).await.unwrap());
    let left: Vec<_> = world
        .dead()
        .await
        .into_iter()
        .map(|letter| letter.message.unwrap())
        .collect();
    assert_eq!(left, [b"a", b"c"]);
    assert!(
        world
            .transport
            .dead_letters("q", 2, 10)
            .await
            .unwrap()
            .is_empty()
    );
}
