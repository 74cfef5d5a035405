//! What the worker engine withstands: odd settings, odd messages, and servers that are away.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use celeriac::protocol::canvas::Signature;
use celeriac::protocol::envelope::Envelope;
use celeriac::{App, AsyncResult, SendOptions, Settings, clock};
use celeriac_tests::eventually::eventually;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::test_worker;
use celeriac_tests::redis::PrivateRedis;
use chrono::TimeDelta;
use redis::FromRedisValue;
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// How long a stop may take while a server is away, with room for a slow machine.
const STOP_MAX: Duration = Duration::from_secs(15);

struct World {
    redis: PrivateRedis,
    directory: TempDir,
    app: App,
}

impl World {
    async fn new(settings: &str) -> Self {
        let redis = PrivateRedis::start().await;
        let directory = TempDir::new().expect("a directory");
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

    fn start(&self, name: &str) -> Process {
        let mut command: Command = test_worker(&self.redis.url(0), &self.redis.url(1));
        let directory: &Path = self.directory.path();
        Process::start(directory, name, command.current_dir(directory))
    }

    async fn worker(&self, name: &str) -> Process {
        let mut worker = self.start(name);
        worker.says(" ready.").await;
        worker
    }

    async fn send(&self, task: &str, args: Vec<Value>, options: SendOptions) -> AsyncResult {
        let sent = self.app.send_task(task, args, Map::new(), options);
        sent.await.expect("redis runs")
    }

    async fn nap(&self, seconds: f64) -> AsyncResult {
        let args = vec![json!(seconds)];
        self.send("proj.nap_late", args, SendOptions::default())
            .await
    }

    async fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.redis.connect().await;
        redis::cmd(command[0])
            .arg(&command[1..])
            .query_async(&mut connection)
            .await
            .expect("redis runs")
    }

    async fn held(&self) -> usize {
        self.run(&["HLEN", "unacked"]).await
    }

    async fn holds(&self, count: usize) {
        eventually("the worker holds them", PATIENCE, async || {
            (self.held().await == count).then_some(())
        })
        .await;
    }

    async fn succeeds(&self, result: &AsyncResult) {
        eventually("the task has ended", PATIENCE, async || {
            let meta = result.meta().await.expect("redis runs");
            meta.filter(|meta| meta.date_done.is_some())
        })
        .await;
    }
}

fn times(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

async fn says_times(worker: &mut Process, text: &str, count: usize) {
    worker.says(text).await;
    eventually(text, PATIENCE, async || {
        (times(&worker.log(), text) >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn more_than_one_take_brings_is_run_without_a_pause() {
    let world = World::new("worker_prefetch_multiplier = 0\n").await;
    // Six takes; with a look every five seconds between them it would be half a minute.
    for _ in 0..1500 {
        let options = SendOptions::default();
        world.send("proj.echo", Vec::new(), options).await;
    }
    let worker = world.worker("worker").await;
    eventually("all have run", Duration::from_secs(15), async || {
        (times(&worker.log(), "succeeded") == 1500).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_answers_but_gives_nothing_is_not_asked_without_pause() {
    let world = World::new("").await;
    world.run::<()>(&["SET", "unacked", "a mistake"]).await;
    let result = world.nap(0.0).await;
    let mut worker = world.start("worker");
    worker.says("Connection to broker lost").await;
    let first = Instant::now();
    says_times(&mut worker, "Connection to broker lost", 3).await;
    assert!(first.elapsed() > Duration::from_secs(1), "{}", worker.log());
    world.run::<()>(&["DEL", "unacked"]).await;
    world.succeeds(&result).await;
}

#[tokio::test]
async fn a_link_with_a_countdown_beyond_all_time_costs_no_slot() {
    let world = World::new("").await;
    let worker = world.worker("worker").await;
    for _ in 0..4 {
        let mut link = Signature::new("proj.echo", Vec::new(), Map::new());
        link.options.insert("countdown".to_owned(), json!(-1e300));
        let options = SendOptions {
            link: vec![link],
            ..SendOptions::default()
        };
        let result = world.send("proj.echo", Vec::new(), options).await;
        world.succeeds(&result).await;
    }
    assert_eq!(times(&worker.log(), "panicked"), 0, "{}", worker.log());
}

#[tokio::test]
async fn a_stop_gives_what_waits_for_its_time_back_in_its_order() {
    let world = World::new("").await;
    let mut sent = Vec::new();
    for number in 0..50 {
        let options = SendOptions {
            // The times are in no order.
            eta: Some(clock::now() + TimeDelta::seconds(3600 + number * 7 % 50)),
            ..SendOptions::default()
        };
        let result = world.send("proj.echo", Vec::new(), options).await;
        sent.push(result.id().to_owned());
    }
    let mut worker = world.worker("worker").await;
    world.holds(50).await;
    worker.signal(Signal::TERM);
    worker.ends().await;
    let mut waiting: Vec<Vec<u8>> = world.run(&["LRANGE", "celery", "0", "-1"]).await;
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
        let mut world = World::new("").await;
        let mut worker = world.worker(name).await;
        let running = world.nap(1.0).await;
        let options = SendOptions {
            countdown: Some(Duration::from_secs(3600)),
            ..SendOptions::default()
        };
        world.send("proj.echo", Vec::new(), options).await;
        worker.says(running.id()).await;
        world.holds(2).await;
        world.redis.kill();
        worker.says("Connection to broker lost").await;
        worker.signal(signal);
        let since = Instant::now();
        assert_eq!(worker.ends().await.code(), Some(0), "{}", worker.log());
        assert!(since.elapsed() < STOP_MAX, "{:?}", since.elapsed());
        let log = worker.log();
        let text = "1 message(s) stay in its unacked until the visibility timeout";
        assert_eq!(times(&log, text), 2, "{log}");
        world.redis.restart().await;
        assert_eq!(world.held().await, 2, "nothing is lost");
    }
}

#[tokio::test]
async fn a_worker_that_was_asleep_settles_nothing_that_another_has_taken_over() {
    let world = World::new(
        "[broker_transport_options]\nvisibility_timeout = 2\nunacked_restore_interval = 0.5\n",
    )
    .await;
    let mut asleep = world.worker("asleep").await;
    let mut results = Vec::new();
    for _ in 0..4 {
        results.push(world.nap(1.0).await);
    }
    let options = SendOptions::default();
    results.push(world.send("proj.echo", Vec::new(), options).await);
    says_times(&mut asleep, "received", 5).await;
    asleep.signal(Signal::STOP);
    let awake = world.worker("awake").await;
    for result in &results {
        world.succeeds(result).await;
    }
    asleep.signal(Signal::CONT);
    says_times(&mut asleep, "was taken over by another worker", 5).await;
    assert_eq!(times(&asleep.log(), "succeeded"), 0, "{}", asleep.log());
    assert_eq!(times(&awake.log(), "succeeded"), 5);
    world.holds(0).await;
}

#[tokio::test]
async fn an_early_acknowledgement_that_meets_a_renewal_loses_no_task() {
    // Renewed every 50 ms, so that some acknowledgements are on the way at the same time.
    let world = World::new("[broker_transport_options]\nvisibility_timeout = 0.2\n").await;
    const TASKS: usize = 1000;
    for _ in 0..TASKS {
        let args = vec![json!(0.002)];
        world.send("proj.nap", args, SendOptions::default()).await;
    }
    let worker = world.worker("worker").await;
    eventually("all are acknowledged", PATIENCE * 2, async || {
        let waiting: usize = world.run(&["LLEN", "celery"]).await;
        (waiting == 0 && world.held().await == 0).then_some(())
    })
    .await;
    eventually("all have run", PATIENCE, async || {
        (times(&worker.log(), "succeeded") == TASKS).then_some(())
    })
    .await;
}
