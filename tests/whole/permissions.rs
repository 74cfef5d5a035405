//! The least that a worker and a client must be allowed in Redis: the lines of docs/operations.md.

use std::fs;
use std::time::Duration;

use celeriac::{App, AsyncResult, SendOptions, Settings};
use celeriac_tests::eventually::eventually;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::test_worker;
use celeriac_tests::redis::PrivateRedis;
use celeriac_tests::root;
use redis::FromRedisValue;
use rustix::process::Signal;
use serde_json::{Map, json};
use tempfile::TempDir;

/// A Redis with the two users of the documentation, and a client that is the producer.
struct World {
    redis: PrivateRedis,
    directory: TempDir,
    app: App,
}

impl World {
    async fn new() -> Self {
        let redis = PrivateRedis::start().await;
        let login = |user: &str, database| {
            let login = format!("redis://{user}:PASSWORD@");
            redis.url(database).replace("redis://", &login)
        };
        let settings = Settings {
            broker_url: login("producer", 0),
            result_backend: Some(login("producer", 1)),
            ..Settings::default()
        };
        let world = Self {
            app: App::builder("proj", settings)
                .build()
                .expect("the URLs are right"),
            directory: TempDir::new().expect("a directory can be made"),
            redis,
        };
        for user in ["worker", "producer"] {
            let line = documented(user);
            let words: Vec<&str> = line.split(' ').collect();
            world.run::<()>(&words).await.expect("Redis takes the line");
        }
        let settings = "[broker_transport_options]\nunacked_restore_interval = 1\n";
        fs::write(world.directory.path().join("celeriac.toml"), settings)
            .expect("it can be written");
        world
    }

    async fn worker(&self) -> Process {
        let [broker, backend] = [0, 1].map(|database| {
            let url = self.redis.url(database);
            url.replace("redis://", "redis://worker:PASSWORD@")
        });
        let mut command = test_worker(&broker, &backend);
        command.current_dir(self.directory.path());
        Process::ready(self.directory.path(), "worker", &mut command).await
    }

    /// Asks the broker's database as the default user, who may everything.
    async fn run<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut connection = self.redis.connect().await;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    async fn send(&self, seconds: f64, countdown: Option<Duration>) -> AsyncResult {
        let options = SendOptions {
            countdown,
            ..SendOptions::default()
        };
        let sent = self
            .app
            .send_task("proj.nap_late", vec![json!(seconds)], Map::new(), options);
        sent.await.expect("the producer may send")
    }

    async fn runs(&self, sent: &AsyncResult) {
        let value = sent.get::<f64>(PATIENCE).await;
        assert_eq!(value.expect("the producer may wait for results"), 0.0);
    }

    /// Waiting, and held.
    async fn census(&self) -> (usize, usize) {
        let waiting = self.run(&["LLEN", "celery"]).await;
        let held = self.run(&["HLEN", "unacked"]).await;
        (waiting.expect("it runs"), held.expect("it runs"))
    }

    async fn comes_to(&self, census: (usize, usize)) {
        eventually(&format!("{census:?}"), PATIENCE, async || {
            (self.census().await == census).then_some(())
        })
        .await;
    }
}

/// The line of the documentation that makes this user.
fn documented(user: &str) -> String {
    let text = fs::read_to_string(root().join("docs/operations.md")).expect("it is there");
    let start = format!("ACL SETUSER {user} ");
    let line = text.lines().find(|line| line.starts_with(&start));
    line.expect("the documentation has the line").to_owned()
}

#[tokio::test]
async fn a_worker_needs_no_other_right_than_the_documented_ones() {
    let world = World::new().await;
    let mut worker = world.worker().await;
    let sent = world.send(0.0, None).await;
    world.runs(&sent).await;

    // What waits for its time is given back at a stop.
    world.send(0.0, Some(Duration::from_secs(3600))).await;
    world.comes_to((0, 1)).await;
    worker.signal(Signal::TERM);
    assert!(worker.ends().await.success());
    world.comes_to((1, 0)).await;
    world.run::<()>(&["DEL", "celery"]).await.expect("it runs");

    // What a killed worker held is restored, by the record that Python's kombu writes as well.
    let mut killed = world.worker().await;
    let sent = world.send(0.0, Some(Duration::from_secs(1))).await;
    world.comes_to((0, 1)).await;
    killed.kill();
    let entry: Vec<String> = world.run(&["HVALS", "unacked"]).await.expect("it runs");
    let record = entry[0].replace(r#""", "celery"]"#, r#""celery", "celery"]"#);
    let theirs = ["HSET", "unacked", "theirs", &record];
    world.run::<()>(&theirs).await.expect("it runs");
    let index = ["ZADD", "unacked_index", "1", "theirs"];
    world.run::<()>(&index).await.expect("it runs");
    let mut worker = world.worker().await;
    world.runs(&sent).await;
    worker.says("which is dead").await;
    world.comes_to((0, 0)).await;

    // Rubbish goes to the dead letters.
    let rubbish = ["LPUSH", "celery", "rubbish"];
    world.run::<()>(&rubbish).await.expect("it runs");
    eventually("it is a dead letter", PATIENCE, async || {
        let dead: usize = world.run(&["LLEN", "celery.dead"]).await.ok()?;
        (dead > 0).then_some(())
    })
    .await;
    let log = worker.log();
    assert!(
        !log.contains("NOPERM") && !log.contains("permissions"),
        "{log}"
    );
}

#[tokio::test]
async fn a_worker_waits_where_a_right_is_missing_and_names_it() {
    let world = World::new().await;
    let mut worker = world.worker().await;
    for right in ["evalsha", "lrange", "zadd", "hset", "ltrim"] {
        let take_away = ["ACL", "SETUSER", "worker", &format!("-{right}")];
        world.run::<()>(&take_away).await.expect("it runs");
        let sent = world.send(0.0, None).await;
        worker.says(&format!("'{right}'")).await;
        assert!(worker.has_ended().is_none());
        assert_eq!(world.census().await, (1, 0), "{right}");
        let give = ["ACL", "SETUSER", "worker", &format!("+{right}")];
        world.run::<()>(&give).await.expect("it runs");
        world.runs(&sent).await;
    }
}

#[tokio::test]
async fn a_producer_may_send_and_read_results_and_nothing_else() {
    let world = World::new().await;
    let sent = world.send(0.0, None).await;
    let url = world
        .redis
        .url(0)
        .replace("redis://", "redis://producer:PASSWORD@");
    let client = redis::Client::open(url).expect("the URL is right");
    let connecting = client.get_multiplexed_async_connection();
    let mut connection = connecting.await.expect("it may connect");
    for command in [
        ["LRANGE", "celery", "0", "-1"].as_slice(),
        &["DEL", "celery"],
        &["GET", "celery"],
        &["SADD", "another", "x"],
        &["HGETALL", "unacked"],
    ] {
        let refused = redis::cmd(command[0])
            .arg(&command[1..])
            .query_async::<redis::Value>(&mut connection)
            .await;
        let error = refused.expect_err("it may not").to_string();
        assert!(error.contains("permission"), "{command:?}: {error}");
    }
    let _worker = world.worker().await;
    world.runs(&sent).await;
}
