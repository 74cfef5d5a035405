//! `celeriac ingest`: files at hand come to the same fate as those of the pipeline.

use std::fs;
use std::process::Output;

use celeriac_tests::pipeline::Pipeline;
use celeriac_tests::sensor_file::{bad, drop_by_rename, good};
use serde_json::Value;

/// Runs it to its end; what it printed.
fn ingest(pipeline: &Pipeline, args: &[&str], code: i32) -> String {
    let args = ["ingest"].iter().chain(args);
    let output = pipeline.command(args.copied()).output();
    let output: Output = output.expect("the program runs");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn files_at_hand_come_to_the_same_fate_without_kafka_and_redis() {
    let mut pipeline = Pipeline::new("").await;
    for variable in ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"] {
        pipeline.set(variable, "redis://127.0.0.1:1/0");
    }
    let (data, elsewhere) = (pipeline.data(), pipeline.path("elsewhere"));
    fs::create_dir(&elsewhere).expect("a directory");
    drop_by_rename(&data, "a.csv", good(1, 100));
    drop_by_rename(&data, "b.csv", bad(2));
    drop_by_rename(&elsewhere, "c.csv", good(1, 100));
    drop_by_rename(&elsewhere, "d.csv", good(3, 50));

    let printed = ingest(&pipeline, &["./data/../data", "elsewhere/c.csv"], 1);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert_eq!(lines[0], "loaded       data/a.csv: 100 rows");
    let refused = "quarantined  data/b.csv: 2 violations (bad_number 1, out_of_range 1)";
    assert!(lines[1].starts_with(refused), "{printed}");
    assert!(lines[2].starts_with("duplicate    /"), "{printed}");
    assert!(lines[2].ends_with("/elsewhere/c.csv: the content of a.csv"));
    assert!(pipeline.path("quarantine/b.csv.error.json").exists());

    // Again, and with what is new: nothing is loaded twice, and the exit code is that of all being well.
    let printed = ingest(&pipeline, &["--json", "data", "elsewhere"], 0);
    let statuses: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["status"].take())
        .collect();
    assert_eq!(statuses, ["loaded", "duplicate", "loaded"]);
    let rows = "select count(*) from raw_sensor_data";
    assert_eq!(pipeline.database.number(rows).await, 150);
    assert_eq!(pipeline.ledger().await.len(), 4);
    pipeline.check_tables().await;
}

#[tokio::test]
async fn a_dry_run_prints_what_is_wrong_and_changes_nothing() {
    let mut pipeline = Pipeline::new("").await;
    pipeline.set("DATABASE_URL", "postgresql://127.0.0.1:1/nowhere");
    drop_by_rename(&pipeline.data(), "a.csv", good(1, 100));
    drop_by_rename(&pipeline.data(), "b.csv", bad(2));
    let printed = ingest(&pipeline, &["--dry-run", "data"], 1);
    let expected = "good         data/a.csv: 100 rows of 3 devices\n\
        bad          data/b.csv: 2 violation(s)\n  \
          bad_number     line 7, column \"temp\": a finite decimal number, found \"hot\"\n  \
          out_of_range   line 8, column \"humidity\": 0 <= humidity <= 100, found \"120\"\n";
    assert_eq!(printed, expected);
    assert_eq!(
        ingest(&pipeline, &["--dry-run", "data/a.csv"], 0)
            .lines()
            .count(),
        1
    );
    assert!(pipeline.data().join("b.csv").exists());
    assert!(!pipeline.path("quarantine").exists());
    assert_eq!(pipeline.ledger().await, []);
}
