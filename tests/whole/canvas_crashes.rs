//! Workers that die at each step of a canvas: it comes to its end all the same, and the body of a chord runs once.

use std::time::Duration;

use celeriac::{CANVAS_FAILPOINTS, Signature, chord, group, signature};
use celeriac_tests::fleet::{Fleet, times};
use celeriac_tests::process::{PATIENCE, Process};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};

/// What a dead worker held is restored soon; a task that was killed runs again.
const SETTINGS: &str = "task_acks_late = true\n\
    [broker_transport_options]\nvisibility_timeout = 2\nunacked_restore_interval = 0.5\n";

/// Workers that die at the same time.
const AT_ONCE: usize = 3;

fn add(args: impl serde::Serialize) -> Signature {
    signature("proj.add", args)
}

fn total() -> Signature {
    signature("proj.total", ())
}

/// How often a task of this name has succeeded.
fn successes(task: &str, workers: &[&Process]) -> usize {
    let of = |worker: &&Process| {
        let log = worker.log();
        let lines = log.lines();
        lines
            .filter(|line| {
                line.contains(&format!("Task {task}[")) && line.contains("] succeeded in")
            })
            .count()
    };
    workers.iter().map(of).sum()
}

/// A chain that begins a chord, whose body goes on.
fn canvas() -> Signature {
    add((1, 1)) | group([add((1,)), add((2,)), add((3,))]) | total() | add((100,))
}

async fn dies_at(failpoint: &str) {
    let fleet = Fleet::new(SETTINGS).await;
    let mut command = fleet.command("first");
    command.env("CELERIAC_FAILPOINT", failpoint);
    let mut first = fleet.launch("first", &mut command);
    let sent = canvas().delay(fleet.app()).await.expect("redis runs");
    first.ends().await;
    assert_eq!(
        times(&first.log(), "the process ends here"),
        1,
        "{}",
        first.log()
    );

    let second = fleet.worker("second").await;
    let value: Value = sent
        .get(PATIENCE)
        .await
        .unwrap_or_else(|error| panic!("{failpoint}: {error}\n{}\n{}", first.log(), second.log()));
    assert_eq!(value, json!(112), "{failpoint}");
    // Whatever else were sent would have come by now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        successes("proj.total", &[&first, &second]),
        1,
        "{failpoint}"
    );
    fleet.holds(0).await;
    assert_eq!(fleet.waiting().await, 0, "{failpoint}");
}

#[tokio::test]
async fn a_worker_that_dies_at_any_step_stops_no_canvas_and_no_body_runs_twice() {
    let steps = CANVAS_FAILPOINTS.iter().chain(&["before_ack", "after_ack"]);
    let deaths = steps.map(|failpoint| dies_at(failpoint));
    stream::iter(deaths)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
}

#[tokio::test]
async fn a_chord_comes_to_its_end_though_workers_of_either_language_are_killed() {
    let fleet = Fleet::new(SETTINGS).await;
    let mut ours = fleet.worker("ours").await;
    let mut python = fleet.python("python", 2).await;
    let members = (0..24).map(|_| signature("proj.nap_late", (0.4,)));
    let body = signature("proj.identity", ()).set("task_id", "the-body");
    let sent = chord(members, body)
        .delay(fleet.app())
        .await
        .expect("redis runs");
    tokio::time::sleep(Duration::from_millis(700)).await;
    ours.kill();
    let again = fleet.worker("again").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    python.kill();

    let value: Vec<Value> = sent.get(PATIENCE).await.expect("it comes to its end");
    assert_eq!(value.len(), 24);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bodies = successes("proj.identity", &[&ours, &python, &again]);
    assert_eq!(bodies, 1, "{}\n{}", python.log(), again.log());
}
