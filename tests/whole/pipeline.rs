//! Files go in, rows come out: what each kind of file leaves behind, and where.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use celeriac::protocol::state::State;
use celeriac_tests::eventually::eventually;
use celeriac_tests::pipeline::{LedgerRow, Pipeline};
use celeriac_tests::process::PATIENCE;
use celeriac_tests::sensor_file::{bad, drop_by_rename, good};
use serde_json::{Value, json};

/// Short, so that a file which is taken too early is taken within the test.
const SETTINGS: &str = "[pipeline]\nsettle_ms = 200\nrescan_ms = 200\n";

fn row<'a>(ledger: &'a [LedgerRow], name: &str) -> &'a LedgerRow {
    let rows: Vec<_> = ledger.iter().filter(|row| row.file_name == name).collect();
    assert_eq!(rows.len(), 1, "{name} in {ledger:#?}");
    rows[0]
}

async fn check_result(pipeline: &Pipeline, ledger: &[LedgerRow], name: &str, expected: Value) {
    let task_id = &row(ledger, name).task_id;
    let meta = pipeline.result(task_id).await;
    assert_eq!(meta.status, State::Success);
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&meta.result[key], value, "{name}: {}", meta.result);
    }
}

/// The file lies there with its report beside it, and the log has its line.
fn check_quarantine(pipeline: &Pipeline, name: &str, text: &str) {
    assert!(
        !pipeline.data().join(name).exists(),
        "{name} was left behind"
    );
    let read = |path: String| {
        let path = pipeline.path(&path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    };
    assert_eq!(read(format!("quarantine/{name}")), text);
    let report: Value = serde_json::from_str(&read(format!("quarantine/{name}.error.json")))
        .expect("a report is JSON");
    assert_eq!(report["file_path"], format!("data/{name}"));
    assert_eq!(report["violations"], 2);
    let first = &report["first"][0];
    assert_eq!(first["line"], 7);
    assert_eq!(first["column"], "temp");
    assert_eq!(first["reason"], "bad_number");
    assert_eq!(first["text"], "hot");
    let log = read("logs/errors.log".to_owned());
    let mut lines = log.lines();
    let reason = report["reason"].as_str().expect("a sentence");
    let is_its = |line: &str| line.contains(&format!(" Quarantined data/{name}: {reason}"));
    assert_eq!(
        lines.by_ref().filter(|line| is_its(line)).count(),
        1,
        "{log}"
    );
}

/// How many files lie there whose names are not hidden, as the producer's journal's is.
fn visible_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        .count()
}

#[tokio::test]
async fn every_file_comes_to_its_fate_and_good_ones_to_rows_and_aggregates() {
    let pipeline = Pipeline::new(SETTINGS).await;
    let data = pipeline.data();
    drop_by_rename(&data, "before.csv", good(1, 300));
    let worker = pipeline.worker("worker").await;
    let _consumer = pipeline.consumer().await;
    let mut producer = pipeline.producer().await;
    // It listens first and looks at the directory then.
    producer.says(r#"Announced "data/before.csv""#).await;

    let whole = good(2, 400);
    let (half, rest) = whole.split_at(whole.len() / 2);
    let mut in_place = File::create(data.join("in_place.csv")).expect("a file");
    in_place.write_all(half.as_bytes()).expect("room");
    drop_by_rename(&data, "renamed.csv", good(3, 1001));
    drop_by_rename(&data, "bad.csv", bad(4));
    drop_by_rename(&data, "UPPER.CSV", good(5, 1));
    drop_by_rename(&data, "other.txt", good(6, 10));
    // A link is never closed: it has to settle. What had been written to by then has looked the same for longer.
    fs::write(pipeline.path("elsewhere"), good(8, 30)).expect("room");
    fs::hard_link(pipeline.path("elsewhere"), data.join("linked.csv")).expect("one file system");
    let ledger = pipeline.ledger_of(5).await;
    assert!(!producer.log().contains("in_place.csv"));
    assert_eq!(row(&ledger, "linked.csv").state, "loaded");
    assert_eq!(row(&ledger, "bad.csv").state, "quarantined");
    in_place.write_all(rest.as_bytes()).expect("room");
    drop(in_place);
    drop_by_rename(&data, "again.csv", good(3, 1001));
    // The same name with other content is another file.
    drop_by_rename(&data, "UPPER.CSV", good(7, 2));
    producer.says(r#"Announced "data/in_place.csv""#).await;

    let ledger = pipeline.ledger_of(8).await;
    for (name, rows) in [
        ("before.csv", 300),
        ("in_place.csv", 400),
        ("renamed.csv", 1001),
    ] {
        let row = row(&ledger, name);
        assert_eq!(
            (&*row.state, row.row_count),
            ("loaded", Some(rows)),
            "{name}"
        );
        let expected =
            json!({"status": "loaded", "rows": rows, "file_path": format!("data/{name}")});
        check_result(&pipeline, &ledger, name, expected).await;
        assert!(data.join(name).exists(), "a good file stays where it is");
        let line = format!("Data from data/{name} validated and transformed successfully.");
        let log = worker.log();
        let line = log.lines().find(|logged| logged.contains(&line));
        assert!(
            line.is_some_and(|line| line.contains(": WARNING/")),
            "{log}"
        );
    }
    let expected = json!({"status": "duplicate", "duplicate_of": "renamed.csv"});
    check_result(&pipeline, &ledger, "again.csv", expected).await;
    let expected = json!({"status": "quarantined", "quarantine_path": "quarantine/bad.csv",
        "reasons": {"bad_number": 1, "out_of_range": 1}});
    check_result(&pipeline, &ledger, "bad.csv", expected).await;
    check_quarantine(&pipeline, "bad.csv", &bad(4));

    assert_eq!(ledger.len(), 8, "{ledger:#?}");
    let rows = pipeline
        .database
        .number("select count(*) from raw_sensor_data")
        .await;
    assert_eq!(rows, 300 + 400 + 1001 + 30 + 1 + 2);
    pipeline.check_tables().await;
    pipeline.has_no_lag(pipeline.topic.name()).await;
    pipeline.has_no_messages().await;
    assert_eq!(visible_files(&data), 7, "nothing else was moved");
}

#[tokio::test]
async fn a_bad_file_may_come_again_and_overwrites_nothing() {
    let pipeline = Pipeline::new(SETTINGS).await;
    let _running = (
        pipeline.worker("worker").await,
        pipeline.consumer().await,
        pipeline.producer().await,
    );
    for (seed, expected) in [(1, 1), (2, 2)] {
        drop_by_rename(&pipeline.data(), "bad.csv", bad(seed));
        pipeline.ledger_of(expected).await;
    }
    let count = || fs::read_dir(pipeline.path("quarantine")).map_or(0, Iterator::count);
    eventually(
        "two files lie there, each with its report",
        PATIENCE,
        async || (count() == 4).then_some(()),
    )
    .await;
    assert_eq!(
        fs::read_to_string(pipeline.path("quarantine/bad.csv")).expect("the first one"),
        bad(1)
    );
}
