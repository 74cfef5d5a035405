//! Workers that die, sleep or are cut off: who notices, how soon, and what becomes of what they held. The visibility timeout
//! is Celery's hour here, so nothing comes back by it.

use std::time::{Duration, Instant};

use celeriac::SendOptions;
use celeriac_tests::eventually::eventually;
use celeriac_tests::fleet::{Fleet, times};
use celeriac_tests::process::{PATIENCE, Process};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Promise M2.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(15);

/// What the machine may add to it while it runs other tests.
const SLACK: Duration = Duration::from_secs(5);

/// Longer than anybody waits before it takes a silent worker for dead.
const OUTAGE: Duration = Duration::from_secs(60);

async fn dead_letters(fleet: &Fleet) -> Vec<String> {
    fleet.run(&["LRANGE", "celery.dead", "0", "-1"]).await
}

#[tokio::test]
async fn what_a_dead_worker_held_is_back_within_fifteen_seconds() {
    let fleet = Fleet::new("").await;
    let gate = fleet.gate();
    let mut first = fleet.worker("first").await;
    let running = fleet.wait_for(&gate).await;
    let options = SendOptions {
        countdown: Some(Duration::from_secs(3600)),
        ..SendOptions::default()
    };
    let later = fleet.send("proj.nap_late", vec![json!(0.1)], options).await;
    first.says(&format!("[{}] received", later.id())).await;
    let mut second = fleet.worker("second").await;
    // The second one has heard of the first.
    tokio::time::sleep(Duration::from_secs(3)).await;
    first.kill();
    let killed = Instant::now();
    second.says(&format!("[{}] received", running.id())).await;
    second.says(&format!("[{}] received", later.id())).await;
    let taken = killed.elapsed();
    assert!(taken < TAKEN_OVER_MAX + SLACK, "{taken:?}");
    gate.open();
    fleet.ends(&running).await;
    assert_eq!(fleet.held().await, 1, "the one with an ETA");
}

#[tokio::test]
async fn a_worker_that_wakes_up_lets_go_of_what_was_taken_over() {
    let fleet = Fleet::new("").await;
    let gate = fleet.gate();
    let mut asleep = fleet.worker("asleep").await;
    let result = fleet.wait_for(&gate).await;
    asleep.says("received").await;
    let mut awake = fleet.worker("awake").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    asleep.stop().await;
    awake.says("received").await;
    asleep.signal(Signal::CONT);
    asleep.says("was taken over by another worker").await;
    gate.open();
    fleet.ends(&result).await;
    awake.says("succeeded").await;
    assert_eq!(times(&asleep.log(), "succeeded"), 0, "{}", asleep.log());
    fleet.holds(0).await;
}

#[tokio::test]
async fn redis_is_away_for_a_minute_and_no_task_runs_twice() {
    // Every claim is older than the visibility timeout when Redis is back, and every worker looks for such claims.
    let mut fleet = Fleet::new(
        "[broker_transport_options]\nvisibility_timeout = 20\nunacked_restore_interval = 0.5\n",
    )
    .await;
    let gate = fleet.gate();
    let mut workers = Vec::new();
    for name in ["one", "two", "three"] {
        workers.push(fleet.worker(name).await);
    }
    let mut results = Vec::new();
    // Six run, and the others are held.
    for _ in 0..9 {
        results.push(fleet.wait_for(&gate).await);
    }
    fleet.holds(9).await;
    fleet.redis.kill();
    let away = Instant::now();
    tokio::time::sleep(OUTAGE).await;
    fleet.redis.restart().await;
    for worker in &mut workers {
        worker.says_times("Connected to", 2).await;
    }
    // Whoever would take another for dead does it now.
    tokio::time::sleep(TAKEN_OVER_MAX).await;
    gate.open();
    for result in &results {
        fleet.ends(result).await;
    }
    let count = |text: &str| -> usize {
        workers
            .iter()
            .map(|worker| times(&worker.log(), text))
            .sum()
    };
    eventually("all are told of", PATIENCE, async || {
        (count("succeeded") >= 9).then_some(())
    })
    .await;
    assert_eq!(count("succeeded"), 9);
    assert_eq!(count("] received"), 9, "none was given back");
    assert_eq!(count("was taken over"), 0);
    fleet.holds(0).await;
    // An outage is told of at most once in ten seconds.
    let lines = count(" WARNING/") + count(": ERROR/");
    let most = 3 * (away.elapsed().as_secs() as usize / 10 + 1);
    assert!(lines <= most, "{lines} lines");
}

#[tokio::test]
async fn poison_among_innocents_is_set_aside_and_they_run() {
    let fleet = Fleet::new("").await;
    let mut command = fleet.command("supervised");
    let mut worker = fleet.launch("supervised", command.arg("--supervise"));
    worker.says(" ready.").await;
    let mut good = Vec::new();
    for number in 0..20 {
        if number == 3 {
            fleet
                .send("proj.dies_late", Vec::new(), SendOptions::default())
                .await;
        }
        good.push(fleet.nap(0.2).await);
    }
    for result in &good {
        fleet.ends(result).await;
        let meta = result.meta().await.expect("redis runs");
        assert_eq!(meta.map(|meta| meta.result), Some(json!(0.2)));
    }
    let dead = eventually("the poison is set aside", PATIENCE, async || {
        let dead = dead_letters(&fleet).await;
        (!dead.is_empty()).then_some(dead)
    })
    .await;
    assert_eq!(dead.len(), 1, "no innocent is set aside: {dead:?}");
    assert!(dead[0].contains("proj.dies_late"), "{dead:?}");
    assert!(dead[0].contains("3 of its starts"), "{dead:?}");
    let log = worker.log();
    assert_eq!(times(&log, "was killed by signal 9"), 3, "{log}");
    fleet.holds(0).await;
    // The parent ends as its worker ends.
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends().await.code(), Some(0), "{log}");
}

#[tokio::test]
async fn a_supervised_worker_ends_with_its_parent() {
    let fleet = Fleet::new("").await;
    let mut command = fleet.command("supervised");
    let mut parent = fleet.launch("supervised", command.arg("--supervise"));
    parent.says(" ready.").await;
    let connected = || async {
        fleet
            .run::<String>(&["CLIENT", "LIST"])
            .await
            .lines()
            .count()
    };
    assert!(connected().await > 1);
    parent.kill();
    eventually("the worker has left", PATIENCE, async || {
        // This one asks.
        (connected().await == 1).then_some(())
    })
    .await;
    assert!(parent.log().contains("Warm shutdown"), "{}", parent.log());
}

#[tokio::test]
async fn rubbish_in_unacked_stops_no_restore_and_we_put_none_there() {
    let fleet = Fleet::new(
        "[broker_transport_options]\nvisibility_timeout = 2\nunacked_restore_interval = 0.5\n",
    )
    .await;
    // Killed with everything in its hands that it takes in.
    let mut first = fleet.worker("first").await;
    let gate = fleet.gate();
    let result = fleet.wait_for(&gate).await;
    first.says("received").await;
    for rubbish in ["rubbish", "[1, 2]", "", "{\"body\": 1}", "{}", "12"] {
        fleet.run::<()>(&["LPUSH", "celery", rubbish]).await;
    }
    first.says_times("celery.dead", 6).await;
    first.kill();
    let held: Vec<String> = fleet.run(&["HVALS", "unacked"]).await;
    for entry in &held {
        let record: Value = serde_json::from_str(entry).expect("Python's restore can read it");
        assert!(record[0].is_object(), "{entry}");
    }
    fleet
        .run::<()>(&["HSET", "unacked", "theirs", "{no json"])
        .await;
    fleet
        .run::<()>(&["ZADD", "unacked_index", "1", "theirs"])
        .await;
    gate.open();
    let mut second = fleet.worker("second").await;
    fleet.ends(&result).await;
    second.says("succeeded").await;
    fleet.holds(1).await;
}

#[tokio::test]
async fn a_busy_python_worker_gets_the_task_that_only_it_knows() {
    let fleet = Fleet::new("").await;
    let mut ours = fleet.worker("ours").await;
    let mut python = fleet.python("python", 3600).await;
    // Both of its processes are busy, and it holds as much as it may: ours is the only one that takes.
    for _ in 0..10 {
        fleet
            .send("proj.python_nap", vec![json!(4.0)], SendOptions::default())
            .await;
    }
    python.says("received").await;
    let only = fleet
        .send("proj.python_only", vec![json!(7)], SendOptions::default())
        .await;
    ours.says("Received unregistered task of type 'proj.python_")
        .await;
    let minute = Duration::from_secs(60);
    let meta = eventually("Python has run it", minute, async || {
        let meta = only.meta().await.expect("redis runs");
        meta.filter(|meta| meta.date_done.is_some())
    })
    .await;
    assert_eq!(meta.result, json!(7));
    assert_eq!(dead_letters(&fleet).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_busy_worker_leaves_messages_to_an_idle_one() {
    let fleet = Fleet::new("").await;
    let gate = fleet.gate();
    let mut workers = [fleet.worker("one").await, fleet.worker("two").await];
    let received = |workers: &[Process; 2]| {
        workers
            .each_ref()
            .map(|worker| times(&worker.log(), "] received"))
    };
    // They have heard of each other, and one of them watches.
    tokio::time::sleep(Duration::from_secs(6)).await;
    for number in 1..=4 {
        fleet.wait_for(&gate).await;
        let sent = Instant::now();
        eventually("somebody takes it", PATIENCE, async || {
            (received(&workers).iter().sum::<usize>() == number).then_some(())
        })
        .await;
        assert!(
            sent.elapsed() < SLACK,
            "task {number}: {:?}",
            sent.elapsed()
        );
    }
    // Each may hold eight, and runs two.
    assert_eq!(received(&workers), [2, 2]);
    // Whichever of them watches is killed: the other one hears of the next message all the same.
    workers[0].kill();
    gate.open();
    let next = fleet.nap(0.1).await;
    workers[1].says(&format!("[{}] received", next.id())).await;
}
