//! Our worker and the Python twin give the same verdict on every file and write down the same: rows, aggregates, ledger,
//! reports, results, names in quarantine. And they share one ledger.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use celeriac::{App, AsyncResult, SendOptions, Settings};
use celeriac_tests::eventually::eventually;
use celeriac_tests::odd_files::odd;
use celeriac_tests::pipeline::{FATE_PATIENCE, Pipeline};
use celeriac_tests::process::Process;
use serde_json::{Map, Value, json};

/// The two workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Rust,
    Twin,
}

/// A worker with one slot, so that of equal files the first is loaded on either side.
async fn worker(pipeline: &Pipeline, side: Side) -> Process {
    match side {
        Side::Rust => {
            let args = "-A worker.tasks worker --loglevel=info -c 1".split(' ');
            pipeline
                .started("rust", pipeline.command(args), " ready.")
                .await
        }
        Side::Twin => pipeline.twin_worker("twin", 1).await,
    }
}

/// Sends a task for each path, one after the other, and gives their results.
async fn results(pipeline: &Pipeline, paths: &[String]) -> Vec<Value> {
    let settings = Settings {
        broker_url: pipeline.redis.url(0),
        result_backend: Some(pipeline.redis.url(1)),
        ..Settings::default()
    };
    let app = App::builder("client", settings)
        .build()
        .expect("the URLs are right");
    let mut results = Vec::new();
    for path in paths {
        results.push(result(&send(&app, path).await).await);
    }
    results
}

async fn send(app: &App, path: &str) -> AsyncResult {
    let task = "worker.tasks.process_file_task";
    let sent = app.send_task(task, vec![json!(path)], Map::new(), SendOptions::default());
    sent.await.expect("redis runs")
}

async fn result(sent: &AsyncResult) -> Value {
    let what = "the task has ended";
    let meta = eventually(what, FATE_PATIENCE, async || {
        let meta = sent.meta().await.expect("redis runs");
        meta.filter(|meta| meta.date_done.is_some())
    });
    meta.await.result
}

/// The messages' paths of all entries of a directory, in order.
fn paths(pipeline: &Pipeline, directory: &str) -> Vec<String> {
    let mut names: Vec<OsString> = entries(&pipeline.path(directory));
    names.sort();
    let path_of = |name: OsString| match name.to_str() {
        Some(name) => format!("{directory}/{name}"),
        None => {
            let encoded = name.as_bytes().iter().map(|byte| format!("%{byte:02X}"));
            let directory = pipeline.path(directory);
            format!(
                "file://{}/{}",
                directory.display(),
                encoded.collect::<String>()
            )
        }
    };
    names.into_iter().map(path_of).collect()
}

fn entries(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

/// All that is left behind, without what differs from run to run: ids, times, and the name of the working directory.
async fn left_behind(pipeline: &Pipeline) -> BTreeMap<String, String> {
    let mut left = BTreeMap::new();
    for (what, sql) in [("file", FILES), ("row", ROWS)] {
        let rows: Vec<(String, String)> = pipeline.database.rows(sql).await;
        left.extend(
            rows.into_iter()
                .map(|(key, text)| (format!("{what} {key}"), text)),
        );
    }
    for directory in ["in", "quarantine"] {
        for name in entries(&pipeline.path(directory)) {
            let text = match name.to_string_lossy().ends_with(".error.json") {
                true => report(&pipeline.path(directory).join(&name)),
                false => String::new(),
            };
            left.insert(format!("{directory}/{name:?}"), text);
        }
    }
    let log = fs::read_to_string(pipeline.path("logs/errors.log")).unwrap_or_default();
    for (number, line) in log.lines().enumerate() {
        let (time, line) = line
            .split_once(' ')
            .expect("a time stands before each line");
        assert_eq!(time.len(), "2026-11-23T17:43:36.694319Z".len(), "{time}");
        left.insert(format!("errors.log {number:04}"), line.to_owned());
    }
    let directory = pipeline.directory().to_str().expect("UTF-8");
    let blank = |text: String| text.replace(directory, "…");
    left.into_iter()
        .map(|(key, text)| (blank(key), blank(text)))
        .collect()
}

const FILES: &str = "select path, concat_ws(' ', state, size_bytes, encode(f.sha256, 'hex'), reason, reasons::text, \
    quarantine_path, moved_at is null, file_key is null, c.file_name, c.row_count) \
    from ingest_files f left join ingest_content c using (content_id)";

const ROWS: &str = "select concat(encode(c.sha256, 'hex'), ' ', line_no), concat_ws(' ', r.file_name, \
    (extract(epoch from ts) * 1000000)::bigint, quote_literal(device), light, motion, co, humidity, lpg, smoke, temp) \
    from raw_sensor_data r join ingest_content c using (content_id)";

const AGGREGATES: &str = "select concat_ws(' ', encode(c.sha256, 'hex'), device, metric, a.file_name, count), \
    min_value, max_value, avg_value, std_dev, median_value \
    from aggregated_metrics a join ingest_content c using (content_id) order by 1";

type Aggregate = (String, f64, f64, f64, Option<f64>, f64);

/// The report beside a quarantined file.
fn report(path: &Path) -> String {
    let text = fs::read(path).expect("it is there");
    let mut report: Map<String, Value> = serde_json::from_slice(&text).expect("JSON");
    for key in ["task_id", "quarantined_at"] {
        let value = report.remove(key);
        assert!(
            value.is_some_and(|value| value.is_string()),
            "{key} in {path:?}"
        );
    }
    format!("{report:#?}")
}

/// Fills `in/` on both sides, has either worker deal with it, and compares.
async fn compare(fill: impl Fn(&Path)) {
    let mut sides = Vec::new();
    for side in [Side::Rust, Side::Twin] {
        let mut pipeline = Pipeline::new("").await;
        pipeline.set("WATCH_DIR", "in");
        fill(pipeline.directory());
        let paths = paths(&pipeline, "in");
        let _worker = worker(&pipeline, side).await;
        let results = results(&pipeline, &paths).await;
        pipeline.check_tables().await;
        let directory = pipeline.directory().to_str().expect("UTF-8").to_owned();
        let results: Vec<String> = results
            .iter()
            .map(|result| result.to_string().replace(&directory, "…"))
            .collect();
        let aggregates: Vec<Aggregate> = pipeline.database.rows(AGGREGATES).await;
        sides.push((results, left_behind(&pipeline).await, aggregates));
    }
    let (twin, rust) = (
        sides.pop().expect("two sides"),
        sides.pop().expect("two sides"),
    );
    let differences: Vec<String> = std::iter::zip(&rust.0, &twin.0)
        .filter(|(rust, twin)| rust != twin)
        .map(|(rust, twin)| format!("result\n  rust {rust}\n  twin {twin}"))
        .chain(rust.1.keys().chain(twin.1.keys()).filter_map(|key| {
            let (rust, twin) = (rust.1.get(key), twin.1.get(key));
            (rust != twin).then(|| format!("{key}\n  rust {rust:?}\n  twin {twin:?}"))
        }))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(rust.2.len(), twin.2.len());
    for (rust, twin) in std::iter::zip(&rust.2, &twin.2) {
        assert!(are_close(rust, twin), "\n  rust {rust:?}\n  twin {twin:?}");
    }
    assert!(!rust.2.is_empty() && rust.1.keys().any(|key| key.starts_with("quarantine/")));
}

fn are_close(a: &Aggregate, b: &Aggregate) -> bool {
    let is_close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(1.0);
    let is_equal = a.0 == b.0 && a.1 == b.1 && a.2 == b.2 && a.4.is_some() == b.4.is_some();
    is_equal
        && is_close(a.3, b.3)
        && is_close(a.4.unwrap_or_default(), b.4.unwrap_or_default())
        && is_close(a.5, b.5)
}

#[tokio::test]
async fn fifty_odd_files_are_the_same_to_both() {
    compare(|directory| fill_with_odd_files(&directory.join("in"), 50)).await;
}

fn fill_with_odd_files(directory: &Path, count: u32) {
    fs::create_dir(directory).expect("a directory");
    for seed in 0..count {
        fs::write(directory.join(format!("{seed:02}.csv")), odd(seed)).expect("room");
    }
}

#[tokio::test]
async fn the_shared_corpus_is_the_same_to_both() {
    for seed in ["7", "31", "1009"] {
        let Some(script) = corpus_script() else {
            return;
        };
        compare(|directory| {
            let made = Command::new("python3")
                .arg(&script)
                .arg(directory)
                .args(["--seed", seed])
                .output();
            let made = made.expect("python3 runs");
            assert!(made.status.success(), "{made:?}");
        })
        .await;
    }
}

/// `None`, and a line that says so, where nobody has the shared corpus.
fn corpus_script() -> Option<PathBuf> {
    let harness = std::env::var_os("HARNESS").map(PathBuf::from);
    let script = harness.map(|harness| harness.join("corpus/make_corpus.py"));
    let script = script.filter(|script| script.exists());
    if script.is_none() {
        let line =
            "HARNESS names no shared corpus; the odd files of this test cover the same rules\n";
        // Not worth failing for.
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).ok();
    }
    script
}

#[tokio::test]
async fn what_one_has_done_the_other_finds_done() {
    for [first, second] in [[Side::Rust, Side::Twin], [Side::Twin, Side::Rust]] {
        let mut pipeline = Pipeline::new("").await;
        pipeline.set("WATCH_DIR", "in");
        fill_with_odd_files(&pipeline.path("in"), 12);
        fs::copy(pipeline.path("in/00.csv"), pipeline.path("in/copy.csv")).expect("it is there");
        std::os::unix::fs::symlink("00.csv", pipeline.path("in/link.csv")).expect("a link");
        let mut paths = paths(&pipeline, "in");
        paths.extend(
            ["in/never there.csv", "../outside.csv", "file:///etc/passwd"].map(str::to_owned),
        );
        let mut known = None;
        for side in [first, second] {
            let _worker = worker(&pipeline, side).await;
            let results = results(&pipeline, &paths).await;
            let now = (results, left_behind(&pipeline).await);
            // Only what was refused in place is written to the log each time: nothing says that it was before.
            let now = (now.0, without_log(now.1));
            let known = known.get_or_insert_with(|| now.clone());
            assert_eq!(*known, now, "{first:?} then {second:?}");
        }
        let rows = pipeline
            .database
            .number("select count(*) from ingest_files")
            .await;
        assert_eq!(usize::try_from(rows), Ok(paths.len()), "each file once");
        pipeline.check_tables().await;
    }
}

fn without_log(mut left: BTreeMap<String, String>) -> BTreeMap<String, String> {
    left.retain(|key, _| !key.starts_with("errors.log"));
    left
}
