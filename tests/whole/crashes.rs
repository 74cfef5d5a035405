//! A program of the pipeline is killed with SIGKILL, at its worst moment or at any, and started again: no row is
//! missing and none is there twice.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use celeriac::protocol::envelope::Envelope;
use celeriac_tests::copying::NO_COMMIT;
use celeriac_tests::eventually::eventually;
use celeriac_tests::pipeline::Pipeline;
use celeriac_tests::process::PATIENCE;
use celeriac_tests::proxy::SwallowingProxy;
use celeriac_tests::sensor_file::{drop_by_rename, good};
use redis::AsyncCommands as _;
use uuid::Uuid;

const RECORD: &[u8] = br#"{"file_path": "data/a.csv", "file_name": "a.csv"}"#;

#[tokio::test]
async fn a_worker_killed_in_mid_copy_leaves_no_row_and_the_next_one_loads_them_once() {
    let rows = 200_000;
    // Short, so that the message is restored soon.
    let settings =
        "[broker_transport_options]\nvisibility_timeout = 2\nunacked_restore_interval = 0.5\n";
    let pipeline = Pipeline::new(settings).await;
    drop_by_rename(&pipeline.data(), "a.csv", good(1, rows));
    let _consumer = pipeline.consumer().await;
    let mut first = pipeline.worker("first").await;
    let blocker = pipeline.database.session(NO_COMMIT).await;
    pipeline.topic.produce([Some(RECORD)]).await;
    pipeline.has_copied_more_than(0).await;
    first.kill();
    drop(blocker);
    pipeline.has_nothing_of_it(PATIENCE).await;

    let second = pipeline.worker("second").await;
    let ledger = pipeline.ledger_of(1).await;
    pipeline.has_no_messages().await;
    assert_eq!(ledger[0].row_count, Some(i64::from(rows)), "{ledger:?}");
    assert_eq!(pipeline.ledger().await, ledger);
    assert_eq!(
        second.log().matches("] received").count(),
        1,
        "{}",
        second.log()
    );
    pipeline.check_tables().await;
}

#[tokio::test]
async fn a_consumer_killed_between_enqueue_and_commit_sends_the_same_task_again() {
    // Kafka's least: how long it waits for a member that has vanished.
    let pipeline = Pipeline::new("[kafka]\n\"session.timeout.ms\" = 6000\n").await;
    drop_by_rename(&pipeline.data(), "a.csv", good(1, 100));
    pipeline.topic.produce([Some(RECORD)]).await;
    let proxy = SwallowingProxy::start(pipeline.redis.port(), "LPUSH").await;
    let mut command = pipeline.command(["consume"]);
    command.env(
        "CELERY_BROKER_URL",
        format!("redis://127.0.0.1:{}/0", proxy.port()),
    );
    let ready = "Consuming the partitions";
    let mut consumer = pipeline.started("consumer", command, ready).await;
    eventually("the task is in Redis", PATIENCE, async || {
        (!task_ids(&pipeline).await.is_empty()).then_some(())
    })
    .await;
    // Commits are gathered for a fifth of a second: one that came too early would be there by now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    consumer.kill();
    let group = pipeline.topic.name();
    assert_eq!(
        pipeline.topic.committed(group).await,
        None,
        "Redis has not answered"
    );

    let _consumer = pipeline.consumer().await;
    pipeline.has_no_lag(group).await;
    let ids = task_ids(&pipeline).await;
    assert!(ids.len() >= 2, "it came again: {ids:?}");
    assert_eq!(
        BTreeSet::from_iter(&ids).len(),
        1,
        "as the same task: {ids:?}"
    );

    let worker = pipeline.worker("worker").await;
    pipeline.has_no_messages().await;
    assert_eq!(worker.log().matches("] succeeded in").count(), ids.len());
    let ledger = pipeline.ledger().await;
    assert_eq!(ledger.len(), 1, "{ledger:#?}");
    assert_eq!(
        pipeline
            .database
            .number("select count(*) from raw_sensor_data")
            .await,
        100
    );
    pipeline.check_tables().await;
}

/// Of the messages that wait, the latest first.
async fn task_ids(pipeline: &Pipeline) -> Vec<String> {
    let mut connection = pipeline.redis.connect().await;
    let messages: Vec<Vec<u8>> = connection
        .lrange("celery", 0, -1)
        .await
        .expect("redis runs");
    let id = |raw: &Vec<u8>| Envelope::parse(raw).expect("an envelope").headers["id"].to_string();
    messages.iter().map(id).collect()
}

const FILES: u32 = 200;
const KILLS: usize = 20;

#[tokio::test]
async fn a_producer_killed_at_any_time_misses_no_file() {
    let pipeline = Pipeline::new("[pipeline]\nsettle_ms = 150\nrescan_ms = 150\n").await;
    let _running = (pipeline.worker("worker").await, pipeline.consumer().await);
    let data = pipeline.data();
    let (delays, ()) = tokio::join!(kill_producers(&pipeline), deliver_files(&data));
    let log = std::fs::read_to_string(pipeline.path("producer.log")).expect("they all write there");
    assert!(
        log.contains("Announced "),
        "none of them came to work: {delays:?}"
    );
    let mut last = pipeline.producer().await;

    pipeline.ledger_of(FILES as usize).await;
    last.signal(rustix::process::Signal::TERM);
    assert_eq!(last.ends().await.code(), Some(0), "{}", last.log());
    pipeline.has_no_lag(pipeline.topic.name()).await;
    pipeline.has_no_messages().await;
    let ledger = pipeline.ledger().await;
    let names: BTreeSet<&str> = ledger.iter().map(|row| row.file_name.as_str()).collect();
    assert_eq!(
        (names.len(), ledger.len()),
        (FILES as usize, FILES as usize),
        "{delays:?}"
    );
    assert!(
        ledger.iter().all(|row| row.state == "loaded"),
        "{delays:?} {ledger:#?}"
    );
    pipeline.check_tables().await;
}

/// Starts one after the other, and kills each of them in its first moments, in which it announces what has come
/// before its start and what comes just now; how late, in milliseconds.
async fn kill_producers(pipeline: &Pipeline) -> Vec<u64> {
    let mut delays = Vec::new();
    for _ in 0..KILLS {
        let mut producer = pipeline.producer().await;
        let delay_ms = u64::try_from(Uuid::new_v4().as_u128() % 400).expect("it is small");
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        producer.kill();
        delays.push(delay_ms);
    }
    delays
}

/// A file every few milliseconds, renamed in and written in place by turns.
async fn deliver_files(directory: &Path) {
    for number in 0..FILES {
        let (name, text) = (format!("{number}.csv"), good(number, 5));
        if number % 2 == 0 {
            drop_by_rename(directory, &name, text);
        } else {
            let mut file = File::create(directory.join(name)).expect("a file");
            let (half, rest) = text.split_at(text.len() / 2);
            file.write_all(half.as_bytes()).expect("room");
            file.write_all(rest.as_bytes()).expect("room");
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
