//! What may stand in the topic besides our producer's records, and what is read twice.

use celeriac_tests::kafka::Record;
use celeriac_tests::pipeline::Pipeline;
use celeriac_tests::sensor_file::{drop_by_rename, good};
use celeriac_tests::twin::Side;

/// The record of the Python pipeline's producer for a file of `data/`.
fn bare(name: &str) -> String {
    format!(r#"{{"file_path": "data/{name}", "file_name": "{name}"}}"#)
}

#[tokio::test]
async fn the_bare_record_of_the_python_producer_works_with_the_defaults() {
    let pipeline = Pipeline::new("").await;
    drop_by_rename(&pipeline.data(), "split_1.csv", good(1, 250));
    let _running = (pipeline.worker("worker").await, pipeline.consumer().await);
    let record = r#"{"file_path":"data/split_1.csv","file_name":"split_1.csv"}"#;
    pipeline.topic.produce([Some(record.as_bytes())]).await;

    let ledger = pipeline.ledger_of(1).await;
    assert_eq!(
        (&*ledger[0].state, ledger[0].row_count),
        ("loaded", Some(250))
    );
    pipeline.has_no_lag(pipeline.topic.name()).await;
    pipeline.check_tables().await;
}

#[tokio::test]
async fn a_bad_record_is_kept_with_its_reason_and_the_good_ones_behind_it_pass() {
    check_bad_records(Side::Rust).await;
}

#[tokio::test]
async fn the_twin_keeps_a_bad_record_as_we_do() {
    check_bad_records(Side::Twin).await;
}

async fn check_bad_records(side: Side) {
    let pipeline = Pipeline::new("").await;
    let too_large = format!(r#"{{"file_path": "{}"}}"#, "x".repeat(70_000));
    let cases: [(Option<&[u8]>, &str); 9] = [
        (Some(b"{not json"), "not_json"),
        (Some(b""), "not_json"),
        (None, "tombstone"),
        (Some(b"\xff\xfe{}"), "not_utf8"),
        (Some(b"[1, 2]"), "not_an_object"),
        (Some(br#"{"file_name": "a.csv"}"#), "no_file_path"),
        (Some(br#"{"file_path": 7}"#), "file_path_not_text"),
        (
            Some(br#"{"file_path": "data/../../etc/passwd"}"#),
            "outside_root",
        ),
        (Some(too_large.as_bytes()), "too_large"),
    ];
    let good_records: Vec<String> = (0..=cases.len())
        .map(|n| bare(&format!("{n}.csv")))
        .collect();
    let mut values = vec![Some(good_records[0].as_bytes())];
    for ((bad, _), good) in cases.iter().zip(&good_records[1..]) {
        values.extend([*bad, Some(good.as_bytes())]);
    }
    for (seed, file) in (1..).zip(0..=cases.len()) {
        drop_by_rename(&pipeline.data(), &format!("{file}.csv"), good(seed, 3));
    }
    pipeline.topic.produce(values).await;
    let _worker = pipeline.worker("worker").await;
    let consumer = pipeline.consumer_of(side).await;

    let ledger = pipeline.ledger_of(good_records.len()).await;
    assert!(
        ledger.iter().all(|row| row.state == "loaded"),
        "{ledger:#?}"
    );
    pipeline.has_no_lag(pipeline.topic.name()).await;
    let mut kept = pipeline.topic.dead_letters().await;
    let offset = |record: &Record| record.header("offset").and_then(|text| text.parse().ok());
    kept.sort_by_key(|record| offset(record).unwrap_or(-1));
    assert_eq!(kept.len(), cases.len(), "{kept:#?}");
    for (at, (record, (value, reason))) in kept.iter().zip(cases).enumerate() {
        assert_eq!(record.value.as_deref(), value, "{reason}");
        assert_eq!(offset(record), Some(2 * at as i64 + 1), "{reason}");
        let headers = ["reason", "topic", "partition"].map(|name| record.header(name));
        assert_eq!(
            headers,
            [Some(reason), Some(pipeline.topic.name()), Some("0")]
        );
        assert!(record.header("error").is_some_and(|text| !text.is_empty()));
    }
    assert_eq!(
        consumer.log().matches(": ERROR/").count(),
        cases.len(),
        "{}",
        consumer.log()
    );
}

#[tokio::test]
async fn a_topic_that_is_read_again_from_its_beginning_adds_no_row() {
    let mut pipeline = Pipeline::new("").await;
    let producer = pipeline.producer().await;
    let consumer = pipeline.consumer().await;
    let worker = pipeline.worker("worker").await;
    let files = 20;
    for file in 0..files {
        // Each content twice, so that duplicates are read again too.
        drop_by_rename(
            &pipeline.data(),
            &format!("{file}.csv"),
            good(1 + file / 2, 20),
        );
    }
    drop_by_rename(&pipeline.data(), "bad.csv", "no header\n");
    let count = files as usize + 1;
    let before = pipeline.ledger_of(count).await;
    pipeline.has_no_messages().await;
    drop((producer, consumer));

    pipeline.set("KAFKA_GROUP", format!("{}-again", pipeline.topic.name()));
    let _consumer = pipeline.consumer().await;
    pipeline
        .has_no_lag(&format!("{}-again", pipeline.topic.name()))
        .await;
    pipeline.has_no_messages().await;
    let runs = worker.log().matches("] succeeded in ").count();
    assert_eq!(
        runs,
        2 * count,
        "every file was processed twice:\n{}",
        worker.log()
    );
    assert_eq!(pipeline.ledger().await, before);
    assert_eq!(before.len(), count);
    let rows = pipeline
        .database
        .number("select count(*) from raw_sensor_data")
        .await;
    assert_eq!(rows, i64::from(files / 2) * 20);
    pipeline.check_tables().await;
}
