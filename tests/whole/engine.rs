//! What the worker engine withstands: odd settings, odd messages, and servers that are away.

use std::time::{Duration, Instant};

use celeriac::protocol::envelope::Envelope;
use celeriac::{SendOptions, clock, signature};
use celeriac_tests::eventually::eventually;
use celeriac_tests::fleet::{Fleet, times};
use celeriac_tests::process::PATIENCE;
use chrono::TimeDelta;
use rustix::process::Signal;
use serde_json::json;

/// How long a stop may take while a server is away, with room for a slow machine.
const STOP_MAX: Duration = Duration::from_secs(15);

#[tokio::test]
async fn more_than_one_take_brings_is_run_without_a_pause() {
    let fleet = Fleet::new("worker_prefetch_multiplier = 0\n").await;
    // Six takes; with a look every five seconds between them it would be half a minute.
    for _ in 0..1500 {
        let options = SendOptions::default();
        fleet.send("proj.echo", Vec::new(), options).await;
    }
    let worker = fleet.worker("worker").await;
    eventually("all have run", Duration::from_secs(15), async || {
        (times(&worker.log(), "succeeded") == 1500).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_tasks_sleep_at_once_in_one_process() {
    let fleet = Fleet::new("").await;
    for _ in 0..10_000 {
        fleet.nap(20.0).await;
    }
    let mut command = fleet.command("worker");
    command.args(["-c", "10000", "--loglevel=info"]);
    let worker = fleet.launch("worker", &mut command);
    // With a thousand at a time it would take longer.
    eventually("all have slept", Duration::from_secs(180), async || {
        (times(&worker.log(), "succeeded") == 10_000).then_some(())
    })
    .await;
    let tasks = std::fs::read_dir(format!("/proc/{}/task", worker.id()));
    let threads = tasks.expect("it runs").count();
    assert!(threads < 100, "{threads} threads");
}

#[tokio::test]
async fn a_broker_that_answers_but_gives_nothing_is_not_asked_without_pause() {
    let fleet = Fleet::new("").await;
    fleet.run::<()>(&["SET", "unacked", "a mistake"]).await;
    let result = fleet.nap(0.0).await;
    let mut worker = fleet.start("worker");
    worker.says("Connection to broker lost").await;
    let first = Instant::now();
    worker.says_times("Connection to broker lost", 3).await;
    assert!(first.elapsed() > Duration::from_secs(1), "{}", worker.log());
    fleet.run::<()>(&["DEL", "unacked"]).await;
    fleet.ends(&result).await;
}

#[tokio::test]
async fn a_link_with_a_countdown_beyond_all_time_costs_no_slot() {
    let fleet = Fleet::new("").await;
    let worker = fleet.worker("worker").await;
    for _ in 0..4 {
        let options = SendOptions {
            link: vec![signature("proj.echo", ()).set("countdown", -1e300)],
            ..SendOptions::default()
        };
        let result = fleet.send("proj.echo", Vec::new(), options).await;
        fleet.ends(&result).await;
    }
    assert_eq!(times(&worker.log(), "panicked"), 0, "{}", worker.log());
}

#[tokio::test]
async fn a_stop_gives_what_waits_for_its_time_back_in_its_order() {
    let fleet = Fleet::new("").await;
    let mut sent = Vec::new();
    for number in 0..50 {
        let options = SendOptions {
            // The times are in no order.
            eta: Some(clock::now() + TimeDelta::seconds(3600 + number * 7 % 50)),
            ..SendOptions::default()
        };
        let result = fleet.send("proj.echo", Vec::new(), options).await;
        sent.push(result.id().to_owned());
    }
    let mut worker = fleet.worker("worker").await;
    fleet.holds(50).await;
    worker.signal(Signal::TERM);
    worker.ends().await;
    let mut waiting: Vec<Vec<u8>> = fleet.run(&["LRANGE", "celery", "0", "-1"]).await;
    waiting.reverse();
    let ids: Vec<String> = waiting
        .iter()
        .map(|raw| Envelope::parse(raw).expect("an envelope").headers["id"].clone())
        .map(|id| id.as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids, sent);
}

#[tokio::test]
async fn a_worker_stops_while_its_servers_are_away() {
    for (signal, name) in [(Signal::TERM, "warm"), (Signal::QUIT, "cold")] {
        let mut fleet = Fleet::new("").await;
        let mut worker = fleet.worker(name).await;
        let gate = fleet.gate();
        let running = fleet.wait_for(&gate).await;
        let options = SendOptions {
            countdown: Some(Duration::from_secs(3600)),
            ..SendOptions::default()
        };
        fleet.send("proj.echo", Vec::new(), options).await;
        worker.says(running.id()).await;
        fleet.holds(2).await;
        fleet.redis.kill();
        worker.says("Connection to broker lost").await;
        worker.signal(signal);
        gate.open();
        let since = Instant::now();
        assert_eq!(worker.ends().await.code(), Some(0), "{}", worker.log());
        assert!(since.elapsed() < STOP_MAX, "{:?}", since.elapsed());
        let log = worker.log();
        let text = "1 message(s) stay in its unacked";
        assert_eq!(times(&log, text), 2, "{log}");
        fleet.redis.restart().await;
        assert_eq!(fleet.held().await, 2, "nothing is lost");
    }
}

#[tokio::test]
async fn a_worker_that_was_asleep_settles_nothing_that_another_has_taken_over() {
    let fleet = Fleet::new(
        "[broker_transport_options]\nvisibility_timeout = 2\nunacked_restore_interval = 0.5\n",
    )
    .await;
    let asleep = fleet.worker("asleep").await;
    let mut results = Vec::new();
    let gate = fleet.gate();
    for _ in 0..4 {
        results.push(fleet.wait_for(&gate).await);
    }
    let options = SendOptions::default();
    results.push(fleet.send("proj.echo", Vec::new(), options).await);
    asleep.says_times("received", 5).await;
    asleep.stop().await;
    gate.open();
    let awake = fleet.worker("awake").await;
    for result in &results {
        fleet.ends(result).await;
    }
    asleep.signal(Signal::CONT);
    asleep
        .says_times("was taken over by another worker", 5)
        .await;
    assert_eq!(times(&asleep.log(), "succeeded"), 0, "{}", asleep.log());
    awake.says_times("succeeded", 5).await;
    assert_eq!(times(&awake.log(), "succeeded"), 5);
    fleet.holds(0).await;
}

#[tokio::test]
async fn an_early_acknowledgement_that_meets_a_renewal_loses_no_task() {
    // Renewed every 50 ms, so that some acknowledgements are on the way at the same time.
    let fleet = Fleet::new("[broker_transport_options]\nvisibility_timeout = 0.2\n").await;
    const TASKS: usize = 1000;
    for _ in 0..TASKS {
        let args = vec![json!(0.002)];
        fleet.send("proj.nap", args, SendOptions::default()).await;
    }
    let worker = fleet.worker("worker").await;
    eventually("all are acknowledged", PATIENCE * 2, async || {
        let waiting: usize = fleet.run(&["LLEN", "celery"]).await;
        (waiting == 0 && fleet.held().await == 0).then_some(())
    })
    .await;
    eventually("all have run", PATIENCE, async || {
        (times(&worker.log(), "succeeded") == TASKS).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_says_at_its_start_what_does_not_fit_together() {
    let settings = "task_time_limit = 100\n[broker_transport_options]\nvisibility_timeout = 50\n";
    let fleet = Fleet::new(settings).await;
    let memory = ["CONFIG", "SET", "maxmemory", "100mb"];
    fleet.run::<()>(&memory).await;
    let policy = ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"];
    fleet.run::<()>(&policy).await;
    let mut worker = fleet.worker("worker").await;
    worker
        .says("longer than the visibility timeout (50 s)")
        .await;
    worker.says("maxmemory-policy allkeys-lru").await;
    let other = Fleet::new("").await;
    let quiet = other.worker("worker").await;
    assert_eq!(times(&quiet.log(), "WARNING"), 0, "{}", quiet.log());
}
