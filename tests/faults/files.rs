//! F: files that vanish, change, pretend to be others, or are too much.
//!
//! Elsewhere: a file that is being written (F1) is a row of `tests/whole/pipeline.rs`; one that changes while it is read
//! (F2), paths, special files and links (F9 to F11) are rows of `tasks/tests/services`; F7 of `tests/whole/corpus.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use celeriac_tests::eventually::eventually;
use celeriac_tests::files::{Fate, Files};
use celeriac_tests::pipeline::Pipeline;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::sensor_file::{HEADER, drop_by_rename, good};
use rustix::process::Signal;

use crate::Row;

/// Files are announced soon.
const SETTINGS: &str = "[pipeline]\nsettle_ms = 100\nrescan_ms = 500\n";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::short(
            "f3_f6::removed_and_replaced_before_the_task",
            before_the_task,
        ),
        Row::short("f4_f5::new_contents_and_old_contents", new_and_old_contents),
        Row::long("f8::a_link_put_in_between", a_link_put_in_between),
        Row::long("f12::bombs", bombs),
        Row::long("f13::an_overflow_of_notifications", an_overflow),
        Row::short("f14::the_watch_directory_is_replaced", directory_replaced),
    ]
}

async fn before_the_task() {
    let pipeline = Pipeline::new(SETTINGS).await;
    let mut files = Files::new(pipeline.data());
    let mut producer = pipeline.producer().await;
    let _consumer = pipeline.consumer().await;
    files.drop_good("gone.csv", 1, 50);
    drop_by_rename(&pipeline.data(), "replaced.csv", good(2, 50));
    for name in ["gone.csv", "replaced.csv"] {
        producer.says(&format!("Announced \"data/{name}\"")).await;
    }
    files.remove("gone.csv");
    files.drop_good("replaced.csv", 3, 60);
    let _worker = pipeline.worker("worker").await;
    pipeline.check(&files).await;
}

async fn new_and_old_contents() {
    let pipeline = Pipeline::new(SETTINGS).await;
    let mut files = Files::new(pipeline.data());
    let _running = (
        pipeline.worker("worker").await,
        pipeline.consumer().await,
        pipeline.producer().await,
    );
    files.drop_good("a.csv", 1, 50);
    pipeline.ledger_of(1).await;
    files.drop_good("a.csv", 2, 60);
    pipeline.ledger_of(2).await;
    files.drop_good("b.csv", 1, 50);
    pipeline.ledger_of(3).await;
    files.drop_bad("a.csv", 4);
    pipeline.check(&files).await;
    let states: Vec<String> = pipeline
        .ledger()
        .await
        .into_iter()
        .map(|row| row.state)
        .collect();
    assert_eq!(states, ["loaded", "loaded", "duplicate", "quarantined"]);
}

/// While tasks look at them, a file and a directory are swapped with links to what lies outside.
async fn a_link_put_in_between() {
    let pipeline = Pipeline::new("").await;
    let (data, canary) = (pipeline.data(), pipeline.canary.path().to_owned());
    let is_over = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (data, canary, is_over) = (data.clone(), canary.clone(), Arc::clone(&is_over));
        std::thread::spawn(move || swap(&data, &canary, &is_over))
    };
    let _worker = pipeline.worker("worker").await;
    for number in 0..300 {
        for name in ["swapped.csv", "directory/good.csv"] {
            pipeline.send(name, &format!("{name}-{number}")).await;
        }
    }
    pipeline.has_no_messages().await;
    is_over.store(true, Ordering::Relaxed);
    swapping.join().expect("it does not panic");
    pipeline.canary.check();
    pipeline.check_tables().await;
    let sql = format!(
        "select count(*) from ingest_files where size_bytes = {} or quarantine_path is not null",
        fs::metadata(canary.join("good.csv"))
            .expect("it is there")
            .len(),
    );
    assert_eq!(pipeline.database.number(&sql).await, 0);
    let states = "select state from ingest_files group by 1 order by 1";
    let states: Vec<(String,)> = pipeline.database.rows(states).await;
    let states: Vec<String> = states.into_iter().map(|(state,)| state).collect();
    // Refused as a link, and loaded as a file: both were met.
    assert!(states.contains(&"loaded".to_owned()), "{states:?}");
    assert!(states.contains(&"quarantined".to_owned()), "{states:?}");
}

/// Puts the one and the other in place, many times a millisecond.
fn swap(data: &Path, canary: &Path, is_over: &AtomicBool) {
    let (inside, directory) = (data.join("inside"), data.join("directory"));
    fs::create_dir(&inside).expect("room");
    fs::write(inside.join("good.csv"), good(2, 7)).expect("room");
    let pause = || std::thread::park_timeout(Duration::from_micros(50));
    while !is_over.load(Ordering::Relaxed) {
        drop_by_rename(data, "swapped.csv", good(1, 7));
        fs::rename(&inside, &directory).expect("nothing is there");
        pause();
        let beside = data.join("link.tmp");
        symlink(canary.join("good.csv"), &beside).expect("a link");
        fs::rename(&beside, data.join("swapped.csv")).expect("one directory");
        // A directory and a link cannot replace each other.
        fs::rename(&directory, &inside).expect("nothing is there");
        symlink(canary, &directory).expect("nothing is there");
        pause();
        fs::remove_file(&directory).expect("a link");
    }
}

/// What a worker may need beyond what it needs for small files, in KiB.
const MEMORY_KIB: u64 = 128 << 10;

async fn bombs() {
    let pipeline = Pipeline::new("").await;
    let mut files = Files::new(pipeline.data());
    let worker = pipeline.worker("worker").await;
    files.drop_good("small.csv", 1, 50);
    pipeline.send("small.csv", "small").await;
    pipeline.ledger_of(1).await;
    let before = peak_kib(&worker);
    let line = "x".repeat(300 << 20);
    files.drop("one_line.csv", format!("{HEADER}{line}"), Fate::Bad);
    files.drop("never_closed.csv", format!("{HEADER}\"{line}"), Fate::Bad);
    let columns: Vec<String> = (0..1_000_000).map(|column| format!("c{column}")).collect();
    files.drop("columns.csv", columns.join(","), Fate::Bad);
    files.drop(
        "rows.csv",
        format!("{HEADER}{}", ",\n".repeat(10 << 20)),
        Fate::Bad,
    );
    for name in [
        "one_line.csv",
        "never_closed.csv",
        "columns.csv",
        "rows.csv",
    ] {
        pipeline.send(name, name).await;
    }
    pipeline.check(&files).await;
    let needed = peak_kib(&worker) - before;
    assert!(
        needed < MEMORY_KIB,
        "{needed} KiB more than for a small file"
    );
}

/// The largest resident size of a process until now.
fn peak_kib(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()));
    let status = status.expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().strip_suffix(" kB"));
    kib.and_then(|text| text.parse().ok())
        .expect("a number of KiB")
}

/// The producer sleeps while more happens than the system's queue holds; the file is in what is lost.
async fn an_overflow() {
    // Too far away to help.
    let pipeline = Pipeline::new("[pipeline]\nsettle_ms = 100\nrescan_ms = 3600000\n").await;
    let mut files = Files::new(pipeline.data());
    let mut producer = pipeline.producer().await;
    let _running = (pipeline.worker("worker").await, pipeline.consumer().await);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
    let limit: u32 = limit.expect("Linux").trim().parse().expect("a number");
    producer.signal(Signal::STOP);
    for number in 0..limit {
        // Equal events in a row count once; so two names, and two events each.
        let path = pipeline.data().join(format!("{}.tmp", number % 2));
        fs::write(&path, "").expect("room");
    }
    for number in 0..2 {
        fs::remove_file(pipeline.data().join(format!("{number}.tmp"))).expect("it is there");
    }
    files.drop_good("lost.csv", 1, 50);
    producer.signal(Signal::CONT);
    eventually("it is found", PATIENCE, async || {
        (pipeline.topic.end().await == 1).then_some(())
    })
    .await;
    pipeline.check(&files).await;
    producer.says("overflow").await;
}

async fn directory_replaced() {
    let pipeline = Pipeline::new(SETTINGS).await;
    let mut producer = pipeline.producer().await;
    let _running = (pipeline.worker("worker").await, pipeline.consumer().await);
    drop_by_rename(&pipeline.data(), "old.csv", good(1, 50));
    producer.says("Announced \"data/old.csv\"").await;
    pipeline.ledger_of(1).await;
    fs::rename(pipeline.data(), pipeline.path("old")).expect("one directory");
    fs::create_dir(pipeline.data()).expect("room");
    producer.says("was moved, removed or replaced").await;
    let mut files = Files::new(pipeline.data());
    files.expect("old.csv", good(1, 50), Fate::Good);
    files.drop_good("new.csv", 2, 50);
    pipeline.ledger_of(2).await;
    fs::rename(
        pipeline.path("old/old.csv"),
        pipeline.data().join("old.csv"),
    )
    .expect("there");
    pipeline.check(&files).await;
}
