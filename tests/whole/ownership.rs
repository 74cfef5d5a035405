//! Who owns a message when a worker dies, stops, or takes long.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use celeriac::{App, AsyncResult, SendOptions, Settings};
use celeriac_tests::eventually::eventually;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::{python_worker, test_worker};
use celeriac_tests::redis::PrivateRedis;
use rustix::process::Signal;
use serde_json::{Map, json};
use tempfile::TempDir;

/// Short, so that a restore is seen soon.
const VISIBILITY_TIMEOUT_SECS: u32 = 2;

struct World {
    redis: PrivateRedis,
    directory: TempDir,
    app: App,
}

impl World {
    async fn new() -> Self {
        let redis = PrivateRedis::start().await;
        let directory = TempDir::new().expect("a directory");
        let settings = format!(
            "[broker_transport_options]\nvisibility_timeout = {VISIBILITY_TIMEOUT_SECS}\nunacked_restore_interval = 0.5\n"
        );
        std::fs::write(directory.path().join("celeriac.toml"), settings).expect("can be written");
        let settings = Settings {
            broker_url: redis.url(0),
            result_backend: Some(redis.url(1)),
            ..Settings::default()
        };
        let app = App::builder("proj", settings)
            .build()
            .expect("the URLs are right");
        Self {
            redis,
            directory,
            app,
        }
    }

    async fn rust(&self, name: &str) -> Process {
        self.worker(name, test_worker(&self.redis.url(0), &self.redis.url(1)))
            .await
    }

    async fn python(&self, name: &str) -> Process {
        let mut command = python_worker(&self.redis.url(0), &self.redis.url(1));
        command.env("VISIBILITY_TIMEOUT", VISIBILITY_TIMEOUT_SECS.to_string());
        let mut worker = Process::start(self.directory.path(), name, &mut command);
        worker.says(" ready.").await;
        worker
    }

    async fn worker(&self, name: &str, mut command: Command) -> Process {
        let directory: &Path = self.directory.path();
        let mut worker = Process::start(directory, name, command.current_dir(directory));
        worker.says(" ready.").await;
        worker
    }

    /// A task that is acknowledged only when it has slept.
    async fn nap(&self, seconds: f64) -> AsyncResult {
        self.send("proj.nap_late", json!(seconds), SendOptions::default())
            .await
    }

    async fn send(&self, task: &str, arg: serde_json::Value, options: SendOptions) -> AsyncResult {
        let sent = self.app.send_task(task, vec![arg], Map::new(), options);
        sent.await.expect("redis runs")
    }

    async fn held(&self) -> usize {
        self.count("HLEN", "unacked").await
    }

    async fn waiting(&self) -> usize {
        self.count("LLEN", "celery").await
    }

    async fn oldest_claim_has_expired(&self) -> bool {
        let mut connection = self.redis.connect().await;
        let ((now, _), [(_, score)]): ((f64, f64), [(String, f64); 1]) = redis::pipe()
            .cmd("TIME")
            .cmd("ZRANGE")
            .arg(&["unacked_index", "0", "0", "WITHSCORES"])
            .query_async(&mut connection)
            .await
            .expect("one message is held");
        now - score > f64::from(VISIBILITY_TIMEOUT_SECS) + 1.0
    }

    async fn count(&self, command: &str, key: &str) -> usize {
        let mut connection = self.redis.connect().await;
        redis::cmd(command)
            .arg(key)
            .query_async(&mut connection)
            .await
            .expect("redis runs")
    }

    async fn succeeds(&self, result: &AsyncResult) {
        eventually("the task has succeeded", PATIENCE, async || {
            result
                .meta()
                .await
                .expect("redis runs")
                .filter(|meta| meta.date_done.is_some())
        })
        .await;
    }
}

fn times(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

#[tokio::test]
async fn what_a_killed_worker_held_runs_in_another_one() {
    let world = World::new().await;
    let mut first = world.rust("first").await;
    let result = world.nap(1.0).await;
    first.says("received").await;
    first.kill();
    assert_eq!(world.held().await, 1);

    let second = world.rust("second").await;
    world.succeeds(&result).await;
    assert_eq!(times(&second.log(), "succeeded"), 1);
    eventually("it is acknowledged", PATIENCE, async || {
        (world.held().await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_killed_worker_held_runs_in_pythons_worker_and_the_other_way_round() {
    let world = World::new().await;
    let mut first = world.rust("rust").await;
    let result = world.nap(1.0).await;
    first.says("received").await;
    first.kill();
    // Python looks when it starts, and then only every minute or two.
    eventually("the claim has expired", PATIENCE, async || {
        world.oldest_claim_has_expired().await.then_some(())
    })
    .await;
    let mut python = world.python("python").await;
    world.succeeds(&result).await;

    let result = world.nap(60.0).await;
    eventually("it is taken", PATIENCE, async || {
        (world.held().await == 1).then_some(())
    })
    .await;
    python.kill();
    let mut second = world.rust("second").await;
    second.says(&format!("[{}] received", result.id())).await;
}

#[tokio::test]
async fn a_task_that_outlasts_the_visibility_timeout_runs_once_beside_python() {
    let world = World::new().await;
    let mut ours = world.rust("rust").await;
    let long = world.nap(f64::from(VISIBILITY_TIMEOUT_SECS) * 3.0).await;
    ours.says("received").await;
    let options = SendOptions {
        countdown: Some(Duration::from_secs(u64::from(VISIBILITY_TIMEOUT_SECS) * 3)),
        ..SendOptions::default()
    };
    let later = world.send("proj.nap_late", json!(0.1), options).await;
    eventually("both are held", PATIENCE, async || {
        (world.held().await == 2).then_some(())
    })
    .await;
    let python = world.python("python").await;
    world.succeeds(&long).await;
    world.succeeds(&later).await;
    assert_eq!(times(&ours.log(), "succeeded"), 2);
    assert_eq!(times(&python.log(), "received"), 0);
}

#[tokio::test]
async fn a_warm_stop_finishes_what_runs_and_gives_back_the_rest() {
    let world = World::new().await;
    let mut worker = world.rust("worker").await;
    for _ in 0..6 {
        world.nap(1.0).await;
    }
    eventually("all are held", PATIENCE, async || {
        (world.held().await == 6).then_some(())
    })
    .await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends().await.code(), Some(0), "{}", worker.log());
    assert_eq!(times(&worker.log(), "succeeded"), 2);
    assert_eq!((world.held().await, world.waiting().await), (0, 4));
}

#[tokio::test]
async fn a_cold_stop_gives_back_what_runs_too() {
    let world = World::new().await;
    let mut worker = world.rust("worker").await;
    for _ in 0..6 {
        world.nap(60.0).await;
    }
    eventually("all are held", PATIENCE, async || {
        (world.held().await == 6).then_some(())
    })
    .await;
    worker.signal(Signal::QUIT);
    assert_eq!(worker.ends().await.code(), Some(0), "{}", worker.log());
    assert_eq!((world.held().await, world.waiting().await), (0, 6));
}

#[tokio::test]
async fn a_broker_that_restarts_costs_no_task() {
    let mut world = World::new().await;
    let mut worker = world.rust("worker").await;
    let running = world.nap(3.0).await;
    worker.says("received").await;
    world.redis.kill();
    worker.says("Connection to broker lost").await;
    world.redis.restart().await;
    let after = world.nap(0.1).await;
    world.succeeds(&running).await;
    world.succeeds(&after).await;
    assert_eq!(times(&worker.log(), "succeeded"), 2, "{}", worker.log());
}
