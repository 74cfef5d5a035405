//! PostgreSQL or Redis is away while files come in: they are late, and nothing else.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use celeriac::protocol::envelope::Envelope;
use celeriac::protocol::state::State;
use celeriac_tests::eventually::eventually;
use celeriac_tests::pipeline::Pipeline;
use celeriac_tests::private::PrivateServer;
use celeriac_tests::process::PATIENCE;
use celeriac_tests::sensor_file::{bad, drop_by_rename, good};
use redis::AsyncCommands as _;

/// How long PostgreSQL is away, in seconds. `CELERIAC_OUTAGE_SECS` makes it longer: past half a minute the tasks leave
/// their slots meanwhile.
const OUTAGE_SECS: u64 = 20;

/// Files that come in meanwhile; every fourth is bad.
const FILES: u32 = 20;

fn outage() -> Duration {
    let variable = std::env::var("CELERIAC_OUTAGE_SECS").ok();
    let given = variable.map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(given.unwrap_or(OUTAGE_SECS))
}

#[tokio::test]
async fn files_that_come_while_postgresql_is_away_are_late_and_nothing_else() {
    let server = PrivateServer::postgres();
    // A result then says how often its message was retried.
    let pipeline = Pipeline::on(&server, "result_extended = true\n").await;
    let (worker, _consumer, _producer) = (
        pipeline.worker("worker").await,
        pipeline.consumer().await,
        pipeline.producer().await,
    );
    drop_by_rename(&pipeline.data(), "before.csv", good(FILES, 10));
    pipeline.ledger_of(1).await;

    server.kill();
    let back = Instant::now() + outage();
    for number in 0..FILES {
        let text = if number % 4 == 0 {
            bad(number)
        } else {
            good(number, 10)
        };
        drop_by_rename(&pipeline.data(), &format!("{number}.csv"), text);
        tokio::time::sleep(outage() / FILES / 2).await;
    }
    tokio::time::sleep_until(back.into()).await;
    assert!(
        !pipeline.path("quarantine").exists(),
        "no verdict before it is recorded"
    );
    assert_eq!(counted_retries(&pipeline).await, vec![0; FILES as usize]);
    server.restart();

    let ledger = pipeline.ledger_of(FILES as usize + 1).await;
    pipeline.has_no_messages().await;
    assert_eq!(ledger.len(), FILES as usize + 1, "{ledger:#?}");
    for row in &ledger {
        let number: Option<u32> = row.file_name.trim_end_matches(".csv").parse().ok();
        let is_bad = number.is_some_and(|number| number % 4 == 0);
        assert_eq!(
            row.state,
            if is_bad { "quarantined" } else { "loaded" },
            "{row:?}"
        );
        let meta = pipeline.result(&row.task_id).await;
        assert_eq!(
            (meta.status, &meta.extra["retries"]),
            (State::Success, &0.into())
        );
    }
    let log = worker.log();
    assert!(
        !log.contains("raised unexpected") && !log.contains("panicked"),
        "{log}"
    );
    pipeline.check_tables().await;
}

/// Of every message that waits or is held.
async fn counted_retries(pipeline: &Pipeline) -> Vec<u64> {
    let mut connection = pipeline.redis.connect().await;
    let (waiting, held): (Vec<Vec<u8>>, Vec<Vec<u8>>) = redis::pipe()
        .lrange("celery", 0, -1)
        .hvals("unacked")
        .query_async(&mut connection)
        .await
        .expect("redis runs");
    let held = held.iter().map(|bytes| {
        let entry: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        entry[0].to_string().into_bytes()
    });
    let retries = |raw: Vec<u8>| {
        let envelope = Envelope::parse(&raw).expect("an envelope");
        envelope.headers["retries"].as_u64().expect("a count")
    };
    waiting.into_iter().chain(held).map(retries).collect()
}

/// More than the consumer keeps in hand.
const RECORDS: usize = 1000;

#[tokio::test]
async fn while_redis_is_away_the_consumer_commits_nothing_and_stays_in_its_group() {
    // Kafka's least: a consumer that neither polls nor sends heartbeats for so long is out.
    let settings = "[kafka]\n\"session.timeout.ms\" = 6000\n\"max.poll.interval.ms\" = 6000\n";
    let mut pipeline = Pipeline::new(settings).await;
    let group = pipeline.topic.name().to_owned();
    let mut consumer = pipeline.consumer().await;
    let record = |name: &str| format!(r#"{{"file_path": "data/{name}.csv"}}"#).into_bytes();
    pipeline.topic.produce([Some(&*record("first"))]).await;
    pipeline.has_no_lag(&group).await;
    let members = pipeline.topic.members().await;

    pipeline.redis.kill();
    let records: Vec<_> = (0..RECORDS)
        .map(|number| record(&number.to_string()))
        .collect();
    let values = records.iter().map(|record| Some(record.as_slice()));
    pipeline.topic.produce(values).await;
    consumer
        .says("is not available: tasks wait, and nothing is committed")
        .await;
    // Said only after ten seconds, and those are six.
    consumer.says("has not been available for").await;
    assert_eq!(pipeline.topic.committed(&group).await, Some(1));
    assert_eq!(
        (members.len(), pipeline.topic.members().await),
        (1, members)
    );
    pipeline.redis.restart().await;

    pipeline.has_no_lag(&group).await;
    let mut connection = pipeline.redis.connect().await;
    let messages: Vec<Vec<u8>> = connection
        .lrange("celery", 0, -1)
        .await
        .expect("redis runs");
    let argument = |raw: &Vec<u8>| {
        let envelope = Envelope::parse(raw).expect("an envelope");
        envelope.headers["argsrepr"].to_string()
    };
    let arguments: BTreeSet<String> = messages.iter().map(argument).collect();
    assert_eq!(arguments.len(), RECORDS + 1);
    let log = consumer.log();
    assert_eq!(log.matches("Consuming the partitions").count(), 1, "{log}");
}

#[tokio::test]
async fn what_redis_has_forgotten_is_announced_again() {
    let pipeline = Pipeline::new("[pipeline]\nannounce_again_ms = 1000\n").await;
    let _consumer = pipeline.consumer().await;
    let mut producer = pipeline.producer().await;
    for number in 0..3 {
        drop_by_rename(&pipeline.data(), &format!("{number}.csv"), good(number, 10));
    }
    let mut redis = pipeline.redis.connect().await;
    eventually("all tasks are in Redis", PATIENCE, async || {
        (redis.llen::<_, usize>("celery").await.ok()? >= 3).then_some(())
    })
    .await;
    let () = redis.flushall().await.expect("redis runs");

    let worker = pipeline.worker("worker").await;
    pipeline.ledger_of(3).await;
    pipeline.has_no_messages().await;
    producer
        .says("announced files have no row in ingest_files yet")
        .await;
    pipeline.check_tables().await;
    // Each has its row now: the producer knows of nothing more to announce.
    let announced = |log: &str| log.matches("Announced ").count();
    let before = announced(&producer.log());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(announced(&producer.log()), before, "{}", worker.log());
    assert_eq!(pipeline.ledger().await.len(), 3);
}
