//! The Python twin's own way from the directory to the rows, and where it meets ours: the same records, the same tasks.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use celeriac::protocol::envelope::Envelope;
use celeriac_tests::eventually::eventually;
use celeriac_tests::pipeline::Pipeline;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::program;
use celeriac_tests::sensor_file::{bad, drop_by_rename, good};
use celeriac_tests::twin::Side;
use redis::AsyncCommands as _;

const QUICK: [&str; 4] = ["--settle-ms", "200", "--rescan-ms", "100"];

#[tokio::test]
async fn the_seeds_programs_bring_files_from_the_directory_to_their_fate() {
    let pipeline = Pipeline::new("").await;
    let data = pipeline.data();
    for (name, text) in [
        ("a.csv", good(1, 40)),
        ("a copy.CSV", good(1, 40)),
        ("b.csv", bad(2)),
    ] {
        fs::write(data.join(name), text).expect("room");
    }
    fs::write(data.join(OsStr::from_bytes(b"latin1_\xe9.csv")), good(3, 5)).expect("room");
    fs::write(data.join(".hidden.csv"), good(4, 5)).expect("room");
    std::os::unix::fs::symlink("a.csv", data.join("link.csv")).expect("a link");
    let command = pipeline.producer_command(Side::Twin, &QUICK);
    let producer = pipeline.started("producer", command, "Watching").await;
    let _consumer = pipeline.consumer_of(Side::Twin).await;
    let _worker = pipeline.worker_of(Side::Twin, "worker", 1).await;
    drop_by_rename(&data, "later.csv", good(5, 10));

    let mut ledger = pipeline.ledger_of(5).await;
    pipeline.has_no_lag(pipeline.topic.name()).await;
    pipeline.has_no_messages().await;
    ledger.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    let fates: Vec<(&str, &str, Option<i64>)> = ledger
        .iter()
        .map(|row| (&*row.file_name, &*row.state, row.row_count))
        .collect();
    let of_a = |state| {
        fates
            .iter()
            .filter(|fate| fate.0.starts_with('a') && fate.1 == state)
            .count()
    };
    assert_eq!((of_a("loaded"), of_a("duplicate")), (1, 1), "{fates:?}");
    let others = [
        ("b.csv", "quarantined", None),
        ("later.csv", "loaded", Some(10)),
        ("latin1_%E9.csv", "quarantined", None),
    ];
    assert_eq!(fates[2..], others);
    pipeline.check_tables().await;
    drop(producer);

    // Its memory outlives it: only what has changed since is announced.
    fs::write(data.join("later.csv"), good(6, 10)).expect("room");
    let before = pipeline.topic.end().await;
    let once = pipeline
        .producer_command(Side::Twin, &["--once", "--settle-ms", "0"])
        .output();
    assert!(
        once.as_ref().is_ok_and(|output| output.status.success()),
        "{once:?}"
    );
    assert_eq!(pipeline.topic.end().await, before + 1, "{once:?}");
}

#[tokio::test]
async fn both_producers_announce_a_file_alike() {
    let pipeline = Pipeline::new("[pipeline]\nsettle_ms = 0\n").await;
    for name in ["plain.csv", "\u{6e29} new\nline '\"$(x).CSV"] {
        fs::write(pipeline.data().join(name), good(1, 5)).expect("room");
    }
    fs::write(
        pipeline.data().join(OsStr::from_bytes(b"\xe9 %41.csv")),
        good(1, 5),
    )
    .expect("room");
    for side in [Side::Rust, Side::Twin] {
        let options: &[&str] = match side {
            Side::Rust => &["--once"],
            Side::Twin => &["--once", "--settle-ms", "0"],
        };
        let announced = pipeline.producer_command(side, options).output();
        assert!(
            announced
                .as_ref()
                .is_ok_and(|output| output.status.success()),
            "{announced:?}"
        );
    }
    let records = pipeline.topic.records().await.into_iter();
    let mut records: Vec<_> = records.map(|record| (record.key, record.value)).collect();
    assert_eq!(records.len(), 6);
    let (ours, theirs) = records.split_at_mut(3);
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn both_consumers_make_the_same_task_of_a_record() {
    let pipeline = Pipeline::new("[pipeline]\nsettle_ms = 0\n").await;
    drop_by_rename(&pipeline.data(), "announced.csv", good(1, 5));
    let announced = pipeline.producer_command(Side::Rust, &["--once"]).status();
    assert!(announced.is_ok_and(|status| status.success()));
    let bare: [&[u8]; 3] = [
        br#"{"file_path": "data/./announced.csv", "file_name": "announced.csv"}"#,
        br#"{"file_path": "data/gone.csv"}"#,
        br#"{"file_path": "file:///nowhere/x.csv"}"#,
    ];
    pipeline.topic.produce(bare.map(Some)).await;
    let mut made = Vec::new();
    for side in [Side::Rust, Side::Twin] {
        let group = format!("{}-{side:?}", pipeline.topic.name());
        let mut command = pipeline.consumer_command(side);
        command.env("KAFKA_GROUP", &group);
        let consumer = pipeline
            .started("consumer", command, "Consuming the partitions")
            .await;
        pipeline.has_no_lag(&group).await;
        drop(consumer);
        let mut redis = pipeline.redis.connect().await;
        let messages: Vec<Vec<u8>> = redis.lrange("celery", 0, -1).await.expect("redis runs");
        let () = redis.del("celery").await.expect("redis runs");
        let mut tasks: Vec<(String, String)> = messages.iter().map(|raw| task(raw)).collect();
        tasks.sort();
        made.push(tasks);
    }
    assert_eq!(made[0].len(), 3);
    assert_eq!(made[0], made[1]);
    // The announced file and its bare record are one task.
    assert_eq!(
        made[0]
            .iter()
            .map(|task| &task.0)
            .collect::<BTreeSet<_>>()
            .len(),
        2
    );
}

/// Id and arguments.
fn task(raw: &[u8]) -> (String, String) {
    let envelope = Envelope::parse(raw).expect("an envelope");
    let text = |key: &str| envelope.headers[key].to_string();
    (text("id"), text("argsrepr"))
}

#[tokio::test]
async fn while_redis_is_away_the_twins_consumer_commits_nothing() {
    let mut pipeline = Pipeline::new("").await;
    let group = pipeline.topic.name().to_owned();
    let mut consumer = pipeline.consumer_of(Side::Twin).await;
    let record = |name: &str| format!(r#"{{"file_path": "data/{name}.csv"}}"#).into_bytes();
    pipeline.topic.produce([Some(&*record("first"))]).await;
    pipeline.has_no_lag(&group).await;

    pipeline.redis.kill();
    let records: Vec<_> = (0..20).map(|number| record(&number.to_string())).collect();
    let values = records.iter().map(|record| Some(record.as_slice()));
    pipeline.topic.produce(values).await;
    consumer
        .says("is not available: tasks wait, and nothing is committed")
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(pipeline.topic.committed(&group).await, Some(1));
    pipeline.redis.restart().await;

    pipeline.has_no_lag(&group).await;
    let mut redis = pipeline.redis.connect().await;
    let names = eventually("all tasks are in Redis", PATIENCE, async || {
        let messages: Vec<Vec<u8>> = redis.lrange("celery", 0, -1).await.ok()?;
        let names: BTreeSet<_> = messages.iter().map(|raw| task(raw).1).collect();
        (names.len() == 21).then_some(names)
    });
    names.await;
    assert!(
        consumer.log().contains("is available again"),
        "{}",
        consumer.log()
    );
    consumer.signal(rustix::process::Signal::TERM);
    assert_eq!(consumer.ends().await.code(), Some(0), "{}", consumer.log());
}

#[tokio::test]
async fn the_clients_have_a_rust_worker_run_the_file_and_python_report_on_it() {
    let pipeline = Pipeline::new("").await;
    let _rust = pipeline.worker_of(Side::Rust, "rust", 1).await;
    // It consumes `reports` alone, so that the file's task is the other's.
    let worker = "-m celery -A worker.tasks worker --loglevel=info -c 1 -Q reports -n twin@%h";
    let command = pipeline.python(worker.split(' '));
    let mut twin = pipeline.started("twin", command, " ready.").await;
    for (name, text, said) in [
        ("good.csv", good(1, 7), "data/good.csv: 7 rows loaded"),
        ("bad.csv", bad(2), "data/bad.csv: quarantined, 2 violations"),
    ] {
        drop_by_rename(&pipeline.data(), name, text);
        let path = format!("data/{name}");
        let output = pipeline
            .python(["-m", "client", &path])
            .output()
            .expect("it runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && printed.contains(said),
            "{output:?}"
        );
    }
    drop_by_rename(&pipeline.data(), "third.csv", good(3, 9));
    let mut client = Command::new(program("examples/client"));
    pipeline.prepare(&mut client);
    let output = client.arg("data/third.csv").output().expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && printed.contains(r#""rows":9"#),
        "{output:?}"
    );
    twin.says("'data/third.csv: 9 rows loaded'").await;

    // A task that fails, and a client that hears of it.
    let wrong = "from client import app; app.send_task('worker.tasks.process_file_task', [7]).get(timeout=30)";
    let output = pipeline.python(["-c", wrong]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("TypeError"),
        "{said}"
    );
}

#[tokio::test]
async fn the_twins_programs_die_and_the_next_ones_complete_what_they_left() {
    let mut pipeline = Pipeline::new("").await;
    drop_by_rename(&pipeline.data(), "a.csv", good(1, 30));
    drop_by_rename(&pipeline.data(), "b.csv", bad(2));
    let dies_at = |mut command: Command, failpoint: &str| {
        command.env("CELERIAC_FAILPOINT", failpoint);
        command
    };
    let once = ["--once", "--settle-ms", "0"];
    let producer = || pipeline.producer_command(Side::Twin, &once);
    for (failpoint, announced) in [("before_journal", 2), ("after_journal", 4)] {
        let status = dies_at(producer(), failpoint).status().expect("it runs");
        assert_eq!(
            (status.code(), pipeline.topic.end().await),
            (None, announced),
            "{failpoint}"
        );
    }
    assert!(producer().status().expect("it runs").success());
    assert_eq!(
        pipeline.topic.end().await,
        4,
        "what the journal has is not announced again"
    );

    let points = [
        ("before_enqueue", 0),
        ("after_enqueue", 0),
        ("before_offset_commit", 0),
        ("after_offset_commit", 1),
    ];
    for (failpoint, committed) in points {
        // Each in a group of its own: Kafka waits for a dead member of one for 45 s.
        let group = format!("{}-{failpoint}", pipeline.topic.name());
        let mut command = dies_at(pipeline.consumer_command(Side::Twin), failpoint);
        command.env("KAFKA_GROUP", &group);
        let mut consumer = Process::start(pipeline.directory(), failpoint, &mut command);
        assert_eq!(consumer.ends().await.code(), None, "{failpoint}");
        let mark = pipeline.topic.committed(&group).await.unwrap_or(0);
        assert_eq!(mark, committed, "{failpoint}");
    }
    let _consumer = pipeline.consumer_of(Side::Twin).await;
    pipeline.has_no_lag(pipeline.topic.name()).await;

    // A child of its pool dies, and the worker gives the message back.
    pipeline.set("CELERIAC_FAILPOINT", "after_commit");
    pipeline.set("CELERIAC_FAILPOINT_ONCE", "died");
    let mut worker = pipeline.worker_of(Side::Twin, "worker", 1).await;
    pipeline.has_no_messages().await;
    worker.says("WorkerLostError").await;
    let ledger = pipeline.ledger().await;
    let mut states: Vec<&str> = ledger.iter().map(|row| &*row.state).collect();
    states.sort_unstable();
    assert_eq!(states, ["loaded", "quarantined"], "{ledger:#?}");
    pipeline.check_tables().await;
}
