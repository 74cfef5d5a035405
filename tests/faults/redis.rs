//! R: Redis refuses what it is asked.
//!
//! Elsewhere: Redis away (R1) and without its data (R4) are rows of `tests/whole/outages.rs`, a lost reply (R3) of
//! `tests/whole/crashes.rs`.

use std::time::Duration;

use celeriac_tests::files::Files;
use celeriac_tests::marks::Marks;
use celeriac_tests::pipeline::Pipeline;
use celeriac_tests::proxy::free_port;
use redis::aio::MultiplexedConnection;

use crate::Row;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row::short("r2::full_then_read_only", full_then_read_only)]
}

async fn full_then_read_only() {
    let pipeline = Pipeline::new("[pipeline]\nsettle_ms = 100\nrescan_ms = 500\n").await;
    let mut files = Files::new(pipeline.data());
    let mut redis = pipeline.redis.connect().await;
    let marks = Marks::watch(&pipeline).await;
    let _running = (pipeline.worker("worker").await, pipeline.producer().await);
    let mut consumer = pipeline.consumer().await;

    // Nothing more fits in, not even with all that is there thrown away.
    run(&mut redis, "CONFIG SET maxmemory 1").await;
    files.drop_good("full.csv", 1, 50);
    consumer.says("OOM").await;
    stays_uncommitted(&pipeline).await;
    run(&mut redis, "CONFIG SET maxmemory 0").await;
    consumer.says("Sent \"data/full.csv\"").await;
    pipeline.ledger_of(1).await;
    pipeline.has_no_lag(pipeline.topic.name()).await;

    // The replica of a server that is not there.
    run(&mut redis, &format!("REPLICAOF 127.0.0.1 {}", free_port())).await;
    files.drop_good("read_only.csv", 2, 50);
    files.drop_bad("bad.csv", 3);
    consumer.says("READONLY").await;
    run(&mut redis, "REPLICAOF NO ONE").await;
    pipeline.check(&files).await;
    marks.check();
}

async fn run(redis: &mut MultiplexedConnection, command: &str) {
    let mut words = command.split(' ');
    let mut call = redis::cmd(words.next().expect("a command"));
    for word in words {
        call.arg(word);
    }
    let () = call.query_async(redis).await.expect("redis does it");
}

/// A commit is gathered for a fifth of a second: one that came too early would be there by now.
async fn stays_uncommitted(pipeline: &Pipeline) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pipeline.topic.committed(pipeline.topic.name()).await, None);
}
