//! `dead-letter`: a person looks at what is kept, sends it again, or drops it.

use std::process::{Command, Output, Stdio};

use celeriac::SendOptions;
use celeriac_tests::eventually::eventually;
use celeriac_tests::fleet::{Fleet, times};
use celeriac_tests::process::PATIENCE;
use celeriac_tests::programs::program;
use serde_json::{Map, Value, json};

use super::{push, records, with_headers};

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

fn bad_header() -> Vec<u8> {
    with_headers(json!({"id": "an-id", "timelimit": "x"}))
}

/// A queue whose worker has set three messages aside and is gone: rubbish, one with a bad header, and no UTF-8.
async fn three_are_kept(with_bad_header: &[u8]) -> Fleet {
    let fleet = Fleet::new("").await;
    let mut worker = fleet.worker("worker").await;
    let bad: [&[u8]; 3] = [b"rubbish\x1b[2J", with_bad_header, b"{\"a\": \xff}"];
    for (kept, bytes) in bad.iter().enumerate() {
        push(&fleet, bytes).await;
        eventually("it is kept", PATIENCE, async || {
            (records(&fleet).await.len() > kept).then_some(())
        })
        .await;
    }
    worker.kill();
    fleet
}

#[tokio::test]
async fn a_person_looks_at_dead_letters() {
    let empty = Fleet::new("").await;
    assert_eq!(shown(&dead_letter(&empty, "list --json", "")), "[]\n");
    let fleet = three_are_kept(&bad_header()).await;

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
}

#[tokio::test]
async fn a_person_sends_dead_letters_again_or_drops_them() {
    let squeezed = bad_header();
    let fleet = three_are_kept(&squeezed).await;
    let listed = shown(&dead_letter(&fleet, "list --json", ""));
    let listed: Vec<Map<String, Value>> = serde_json::from_str(&listed).expect("JSON");

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
