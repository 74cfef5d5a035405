//! Who owns a message when a worker dies, stops, or takes long.

use std::time::Duration;

use celeriac::{AsyncResult, SendOptions};
use celeriac_tests::eventually::eventually;
use celeriac_tests::fleet::{Fleet, times};
use celeriac_tests::process::PATIENCE;
use rustix::process::Signal;
use serde_json::json;

/// Short, so that a restore is seen soon.
const VISIBILITY_TIMEOUT_SECS: u32 = 2;

async fn fleet() -> Fleet {
    Fleet::new(&format!(
        "[broker_transport_options]\nvisibility_timeout = {VISIBILITY_TIMEOUT_SECS}\nunacked_restore_interval = 0.5\n"
    ))
    .await
}

async fn oldest_claim_has_expired(fleet: &Fleet) -> bool {
    let (now, _): (f64, f64) = fleet.run(&["TIME"]).await;
    let [(_, score)]: [(String, f64); 1] = fleet
        .run(&["ZRANGE", "unacked_index", "0", "0", "WITHSCORES"])
        .await;
    now - score > f64::from(VISIBILITY_TIMEOUT_SECS) + 1.0
}

#[tokio::test]
async fn what_a_killed_worker_held_runs_in_another_one() {
    let fleet = fleet().await;
    let mut first = fleet.worker("first").await;
    let gate = fleet.gate();
    let result = fleet.wait_for(&gate).await;
    first.says("received").await;
    first.kill();
    assert_eq!(fleet.held().await, 1);
    gate.open();

    let second = fleet.worker("second").await;
    fleet.ends(&result).await;
    second.says_times("succeeded", 1).await;
    assert_eq!(times(&second.log(), "succeeded"), 1);
    fleet.holds(0).await;
}

#[tokio::test]
async fn what_a_killed_worker_held_runs_in_pythons_worker_and_the_other_way_round() {
    let fleet = fleet().await;
    let mut first = fleet.worker("rust").await;
    let result = fleet.nap(5.0).await;
    first.says("received").await;
    first.kill();
    // Python looks when it starts, and then only every minute or two.
    eventually("the claim has expired", PATIENCE, async || {
        oldest_claim_has_expired(&fleet).await.then_some(())
    })
    .await;
    let mut python = fleet.python("python", VISIBILITY_TIMEOUT_SECS).await;
    fleet.ends(&result).await;

    // Acknowledged, or it would be taken for the next one.
    fleet.holds(0).await;
    let result = fleet.nap(60.0).await;
    // Said when it is in `unacked`: before that, a Python worker that is killed loses it.
    python.says(&format!("[{}] received", result.id())).await;
    fleet.holds(1).await;
    python.kill();
    let mut second = fleet.worker("second").await;
    second.says(&format!("[{}] received", result.id())).await;
}

#[tokio::test]
async fn a_task_that_outlasts_the_visibility_timeout_runs_once_beside_python() {
    let fleet = fleet().await;
    let mut ours = fleet.worker("rust").await;
    let long = fleet.nap(f64::from(VISIBILITY_TIMEOUT_SECS) * 3.0).await;
    ours.says("received").await;
    let options = SendOptions {
        countdown: Some(Duration::from_secs(u64::from(VISIBILITY_TIMEOUT_SECS) * 3)),
        ..SendOptions::default()
    };
    let later = fleet.send("proj.nap_late", vec![json!(0.1)], options).await;
    fleet.holds(2).await;
    let python = fleet.python("python", VISIBILITY_TIMEOUT_SECS).await;
    fleet.ends(&long).await;
    fleet.ends(&later).await;
    ours.says_times("succeeded", 2).await;
    assert_eq!(times(&ours.log(), "succeeded"), 2);
    assert_eq!(times(&python.log(), "received"), 0);
}

#[tokio::test]
async fn a_warm_stop_finishes_what_runs_and_gives_back_the_rest() {
    let fleet = fleet().await;
    let mut worker = fleet.worker("worker").await;
    let gate = fleet.gate();
    for _ in 0..6 {
        fleet.wait_for(&gate).await;
    }
    fleet.holds(6).await;
    worker.signal(Signal::TERM);
    worker.says("Warm shutdown").await;
    gate.open();
    assert_eq!(worker.ends().await.code(), Some(0), "{}", worker.log());
    assert_eq!(times(&worker.log(), "succeeded"), 2);
    assert_eq!((fleet.held().await, fleet.waiting().await), (0, 4));
}

#[tokio::test]
async fn a_cold_stop_gives_back_what_runs_too() {
    let fleet = fleet().await;
    let mut worker = fleet.worker("worker").await;
    for _ in 0..6 {
        fleet.nap(60.0).await;
    }
    fleet.holds(6).await;
    worker.signal(Signal::QUIT);
    assert_eq!(worker.ends().await.code(), Some(0), "{}", worker.log());
    assert_eq!((fleet.held().await, fleet.waiting().await), (0, 6));
}

#[tokio::test]
async fn a_soft_stop_leaves_time_to_what_runs_unless_asked_again() {
    for is_impatient in [false, true] {
        let fleet = Fleet::new("worker_soft_shutdown_timeout = 60\n").await;
        let mut worker = fleet.worker("worker").await;
        let gate = fleet.gate();
        for _ in 0..6 {
            fleet.wait_for(&gate).await;
        }
        fleet.holds(6).await;
        worker.signal(Signal::QUIT);
        worker
            .says("Initiating Soft Shutdown, terminating in 60.0 seconds")
            .await;
        // What has not started is given back meanwhile.
        fleet.holds(2).await;
        if is_impatient {
            worker.signal(Signal::QUIT);
        } else {
            gate.open();
        }
        assert_eq!(worker.ends().await.code(), Some(0), "{}", worker.log());
        let ran = if is_impatient { 0 } else { 2 };
        assert_eq!(times(&worker.log(), "succeeded"), ran);
        assert_eq!((fleet.held().await, fleet.waiting().await), (0, 6 - ran));
        let last = format!(
            "Stopped: 2 task(s) have run, {} message(s) were given back, 0 stay in unacked",
            6 - ran
        );
        assert!(worker.log().contains(&last), "{}", worker.log());
    }
}

#[tokio::test]
async fn a_broker_that_restarts_costs_no_task() {
    let mut fleet = fleet().await;
    let mut worker = fleet.worker("worker").await;
    let running = fleet.nap(3.0).await;
    worker.says("received").await;
    fleet.redis.kill();
    worker.says("Connection to broker lost").await;
    fleet.redis.restart().await;
    let after = fleet.nap(0.1).await;
    fleet.ends(&running).await;
    fleet.ends(&after).await;
    worker.says_times("succeeded", 2).await;
    assert_eq!(times(&worker.log(), "succeeded"), 2, "{}", worker.log());
}

/// As when a replica that lagged is promoted, or a crash costs the server its last writes.
#[tokio::test]
async fn what_the_broker_has_forgotten_to_be_settled_runs_again_and_what_runs_does_not() {
    let mut fleet = Fleet::new("").await;
    let mut worker = fleet.worker("worker").await;
    let gate = fleet.gate();
    let settled = fleet.wait_for(&gate).await;
    let running = fleet.nap(12.0).await;
    worker.says_times("received", 2).await;
    let state = fleet.redis.state();
    gate.open();
    fleet.ends(&settled).await;
    fleet.holds(1).await;

    fleet.redis.return_to(&state).await;
    worker
        .says("Restored 1 message(s) that this worker had settled")
        .await;
    worker.says_times("succeeded", 3).await;
    fleet.holds(0).await;
    let received =
        |result: &AsyncResult| times(&worker.log(), &format!("[{}] received", result.id()));
    assert_eq!((received(&settled), received(&running)), (2, 1));
}
