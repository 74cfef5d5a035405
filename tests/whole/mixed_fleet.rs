//! The project in small: a worker of either language on one queue, each killed with SIGKILL again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use celeriac_tests::eventually::eventually;
use celeriac_tests::pipeline::{FATE_PATIENCE, Pipeline};
use celeriac_tests::process::Process;
use celeriac_tests::sensor_file::{bad, drop_by_rename, good};
use celeriac_tests::twin::Side;
use uuid::Uuid;

const FILES: usize = 200;

/// In each of these one worker dies; the languages take turns.
const ROUNDS: usize = 8;

/// Files of a round that come while both run.
const TOGETHER: usize = 10;

/// Short, so that what a dead worker held comes again within the test. What a Python worker loses (killed between
/// taking a message and writing that down) has no row, and is announced again.
const SETTINGS: &str = "[broker_transport_options]\nvisibility_timeout = 5\nunacked_restore_interval = 1\n\
    unacked_mutex_expire = 5\n\
    [pipeline]\nsettle_ms = 200\nrescan_ms = 500\nannounce_again_ms = 4000\n";

#[tokio::test]
async fn two_hundred_files_once_each_though_either_worker_dies_four_times() {
    let mut pipeline = Pipeline::new(SETTINGS).await;
    pipeline.set("VISIBILITY_TIMEOUT", "5");
    let _running = (pipeline.producer().await, pipeline.consumer().await);
    let mut files = Files::default();
    let mut workers = [Side::Rust, Side::Twin].map(|side| (side, None));
    for round in 0..ROUNDS {
        for (side, worker) in &mut workers {
            if worker.is_none() {
                *worker = Some(pipeline.worker_of(*side, log_of(*side), 2).await);
            }
        }
        files.drop(&pipeline, TOGETHER);
        let delay_ms = u64::try_from(Uuid::new_v4().as_u128() % 500).expect("it is small");
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        let [dies, lives] = match round % 2 {
            0 => [Side::Rust, Side::Twin],
            _ => [Side::Twin, Side::Rust],
        };
        for (_, worker) in workers.iter_mut().filter(|(side, _)| *side == dies) {
            kill(worker.take());
        }
        // These are the other one's alone.
        let before = tasks_of(&pipeline, lives).len();
        files.drop(&pipeline, FILES / ROUNDS - TOGETHER);
        eventually("it has run a dozen by itself", FATE_PATIENCE, async || {
            (tasks_of(&pipeline, lives).len() >= before + 12).then_some(())
        })
        .await;
    }
    let _twin = pipeline.worker_of(Side::Twin, log_of(Side::Twin), 2).await;

    let ledger = pipeline.ledger_of(FILES).await;
    pipeline.has_no_messages().await;
    let names: BTreeSet<&str> = ledger.iter().map(|row| &*row.file_name).collect();
    assert_eq!(
        (names.len(), pipeline.ledger().await.len()),
        (FILES, FILES),
        "each file once"
    );
    for row in &ledger {
        let expected = if row.file_name.starts_with("bad") {
            "quarantined"
        } else {
            "loaded"
        };
        assert_eq!(row.state, expected, "{row:?}");
    }
    pipeline.check_tables().await;
    check_shares(&pipeline);
}

/// Each language has run at least a fifth of all tasks.
fn check_shares(pipeline: &Pipeline) {
    for side in [Side::Rust, Side::Twin] {
        let ran = tasks_of(pipeline, side).len();
        assert!(ran * 5 >= FILES, "{side:?} ran {ran} tasks of {FILES}");
    }
}

/// The ids of the tasks that this side has run to their end: Celery's line is the same in both languages.
fn tasks_of(pipeline: &Pipeline, side: Side) -> BTreeSet<String> {
    let log = pipeline.path(&format!("{}.log", log_of(side)));
    let log = std::fs::read_to_string(log).expect("it has written there");
    let ran = log.lines().filter(|line| line.contains("] succeeded in "));
    ran.filter_map(|line| Some(line.split(['[', ']']).nth(3)?.to_owned()))
        .collect()
}

fn log_of(side: Side) -> &'static str {
    match side {
        Side::Rust => "rust",
        Side::Twin => "twin",
    }
}

fn kill(worker: Option<Process>) {
    worker
        .expect("both run at the beginning of a round")
        .kill_with_children();
}

/// What was dropped so far.
#[derive(Default)]
struct Files {
    dropped: usize,
}

impl Files {
    /// Drops so many more, one of ten bad.
    fn drop(&mut self, pipeline: &Pipeline, count: usize) {
        for number in self.dropped..self.dropped + count {
            let seed = u32::try_from(number).expect("it is small");
            match number % 10 {
                0 => drop_by_rename(&pipeline.data(), &format!("bad_{number}.csv"), bad(seed)),
                _ => drop_by_rename(
                    &pipeline.data(),
                    &format!("good_{number}.csv"),
                    good(seed, 50),
                ),
            }
        }
        self.dropped += count;
    }
}
