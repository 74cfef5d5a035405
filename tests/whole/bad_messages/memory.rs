//! What bombs and large messages cost a worker, and that what Python compresses is read.

use celeriac::SendOptions;
use celeriac_tests::eventually::eventually;
use celeriac_tests::fleet::Fleet;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::python;
use redis::AsyncCommands;
use serde_json::json;

use super::{Sent, push, records, with_body};

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
    let large = |mib: usize| with_body(format!(r#"[["{}"],{{}},{{}}]"#, "x".repeat(mib << 20)));
    let inflates = Some("inflates from");
    let too_large = Some("more than 67108864 (message_max_bytes)");
    for (name, bytes, reason, most) in [
        (
            "1 GiB in zlib",
            compressed(&zlib, "application/x-gzip"),
            inflates,
            200,
        ),
        (
            "1 GiB in bzip2",
            compressed(&bzip2, "application/x-bz2"),
            inflates,
            200,
        ),
        ("64 MiB", large(64), too_large, 50),
        ("20 MiB that are read", large(20), None, 250),
    ] {
        push(&fleet, &bytes).await;
        let good = vec![json!("good")];
        let good = fleet.send("proj.echo", good, SendOptions::default()).await;
        fleet.ends(&good).await;
        let peak = peak_mib(&worker);
        assert!(
            peak < base + most,
            "{name}: {peak} MiB, {base} MiB before all"
        );
        let kept = records(&fleet).await;
        let is_as_expected = match (reason, &*kept) {
            (None, []) => true,
            (Some(reason), [(record, _)]) => record["reason"]
                .as_str()
                .is_some_and(|kept| kept.contains(reason)),
            _ => false,
        };
        assert!(
            is_as_expected,
            "{name}: {:?}",
            kept.iter().map(|(record, _)| record).collect::<Vec<_>>()
        );
        fleet.run::<()>(&["DEL", "celery.dead"]).await;
    }
}

fn compressed(body: &[u8], name: &str) -> Vec<u8> {
    let headers = json!({"compression": name});
    Sent {
        body,
        headers,
        ..Sent::default()
    }
    .bytes()
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
