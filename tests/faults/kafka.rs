//! K: Kafka is away, dies, moves its partitions. K3, K4 and K8 are rows of `tests/whole` (`records`, `outages`); K5 and
//! K6 are failpoints.

use std::time::Duration;

use celeriac_tests::eventually::eventually;
use celeriac_tests::files::Files;
use celeriac_tests::kafka::Topic;
use celeriac_tests::marks::Marks;
use celeriac_tests::pipeline::{Pipeline, Role};
use celeriac_tests::postgres::Database;
use celeriac_tests::private::PrivateServer;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::proxy::{OpenProxy, free_port};
use celeriac_tests::service;
use rustix::process::Signal;

use crate::Row;

/// Files are announced soon, and Kafka soon misses a member that has vanished (6000 is its least).
const QUICK: &str = "[pipeline]
settle_ms = 100
rescan_ms = 500
[kafka]
\"session.timeout.ms\" = 6000
";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::short("k1::kafka_is_away_at_the_start", away_at_the_start),
        Row::long(
            "k2::kafka_is_killed_while_files_come",
            killed_while_files_come,
        ),
        Row::long(
            "k2::kafka_is_away_when_tasks_are_in_redis",
            away_when_marks_move,
        ),
        Row::long(
            "k7::consumers_come_die_and_sleep",
            consumers_come_die_and_sleep,
        ),
    ]
}

/// K1, and F3: what Kafka has not acknowledged is not in the journal, so the next producer announces it.
async fn away_at_the_start() {
    let pipeline = Pipeline::new(QUICK).await;
    let mut files = Files::new(pipeline.data());
    files.drop_good("good.csv", 1, 50);
    files.drop_bad("bad.csv", 2);
    let port = free_port();
    let start = |name, args: &[&str]| {
        let mut command = pipeline.command(Role::Producer.args());
        command
            .args(args)
            .env("KAFKA_BOOTSTRAP_SERVERS", format!("127.0.0.1:{port}"));
        Process::start(pipeline.directory(), name, &mut command)
    };
    // It has given both to librdkafka, and has had no answer.
    let mut first = start("first", &["--once", "--timeout", "2"]);
    first.says("2 files are not announced").await;
    assert_eq!(first.ends().await.code(), Some(69));

    let mut second = start("second", &[]);
    second.says("Watching").await;
    second.says("new files wait").await;
    second.signal(Signal::TERM);
    assert_eq!(second.ends().await.code(), Some(0), "{}", second.log());

    let _third = start("third", &[]);
    let _kafka = OpenProxy::start(port, pipeline.topic.servers()).await;
    eventually("both are announced", PATIENCE, async || {
        (pipeline.topic.end().await == 2).then_some(())
    })
    .await;
    let _running = (pipeline.worker("worker").await, pipeline.consumer().await);
    pipeline.check(&files).await;
}

/// A pipeline on a Kafka to kill.
async fn pipeline_on(kafka: &PrivateServer) -> Pipeline {
    let topic = Topic::create_on(kafka.address(), 1).await;
    Pipeline::with(Database::create().await, topic, QUICK).await
}

async fn killed_while_files_come() {
    let kafka = PrivateServer::kafka();
    let pipeline = pipeline_on(&kafka).await;
    let mut files = Files::new(pipeline.data());
    let _running = (
        pipeline.worker("worker").await,
        pipeline.consumer().await,
        pipeline.producer().await,
    );
    for number in 0..60 {
        files.drop_good(&format!("{number}.csv"), number, 10);
        if number == 30 {
            kafka.kill();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Longer than librdkafka tries a commit.
    tokio::time::sleep(Duration::from_secs(15)).await;
    kafka.restart();
    pipeline.check(&files).await;
}

/// Tasks come to Redis while Kafka is away, so that their commit fails; the mark must move without a further record.
async fn away_when_marks_move() {
    let kafka = PrivateServer::kafka();
    let mut pipeline = pipeline_on(&kafka).await;
    let mut files = Files::new(pipeline.data());
    let mut producer = pipeline.producer().await;
    let mut consumer = pipeline.consumer().await;
    pipeline.redis.kill();
    files.drop_good("a.csv", 1, 50);
    producer.says("Announced \"data/a.csv\"").await;
    consumer.says("tasks wait, and nothing is committed").await;
    kafka.kill();
    pipeline.redis.restart().await;
    consumer.says("Sent \"data/a.csv\"").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    kafka.restart();
    let _worker = pipeline.worker("worker").await;
    pipeline.check(&files).await;
}

/// Partitions go from one consumer to the other; one that wakes after it was given up commits nothing over the new
/// owner's mark.
async fn consumers_come_die_and_sleep() {
    let topic = Topic::create_on(service("KAFKA_BOOTSTRAP_SERVERS"), 6).await;
    let settings = format!("{QUICK}\"max.poll.interval.ms\" = 6000\n");
    let pipeline = Pipeline::with(Database::create().await, topic, &settings).await;
    let mut files = Files::new(pipeline.data());
    let marks = Marks::watch(&pipeline).await;
    let _running = (pipeline.worker("worker").await, pipeline.producer().await);
    let mut next = 0;
    let mut drop_some = async || {
        for _ in 0..30 {
            files.drop_good(&format!("{next}.csv"), next, 5);
            next += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let consumer = async |name: &str| {
        let command = pipeline.command(Role::Consumer.args());
        pipeline
            .started(name, command, Role::Consumer.ready())
            .await
    };
    let mut first = consumer("first").await;
    drop_some().await;
    let mut second = consumer("second").await;
    drop_some().await;
    first.kill();
    drop_some().await;
    let _third = consumer("third").await;
    second.signal(Signal::STOP);
    drop_some().await;
    // Longer than the group waits for it.
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop_some().await;
    second.signal(Signal::CONT);
    drop_some().await;
    pipeline.check(&files).await;
    marks.check();
    second.signal(Signal::TERM);
    assert_eq!(second.ends().await.code(), Some(0), "{}", second.log());
}
