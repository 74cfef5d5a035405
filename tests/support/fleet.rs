//! A Redis of a test's own, workers of both languages on it, and a client that sends to them.

use std::path::PathBuf;
use std::process::Command;

use celeriac::{App, AsyncResult, SendOptions, Settings};
use redis::FromRedisValue;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::process::{PATIENCE, Process};
use crate::programs::{python_worker, test_worker};
use crate::redis::PrivateRedis;

/// The servers, the client, and the directory of the workers: their settings file and their logs.
#[derive(Debug)]
pub struct Fleet {
    /// Broker in database 0, results in database 1.
    pub redis: PrivateRedis,
    directory: TempDir,
    app: App,
}

impl Fleet {
    /// `settings` is the text of the `celeriac.toml` of our workers.
    ///
    /// # Panics
    /// Redis does not start.
    pub async fn new(settings: &str) -> Self {
        let redis = PrivateRedis::start().await;
        let directory = TempDir::new().expect("a directory can be made");
        std::fs::write(directory.path().join("celeriac.toml"), settings)
            .expect("a test's directory can be written");
        let settings = Settings {
            broker_url: redis.url(0),
            result_backend: Some(redis.url(1)),
            ..Settings::default()
        };
        let app = App::builder("proj", settings).build();
        Self {
            redis,
            directory,
            app: app.expect("the URLs are right"),
        }
    }

    /// The client.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Starts one of our workers.
    pub fn start(&self, name: &str) -> Process {
        self.launch(name, &mut self.command(name))
    }

    /// What starts one of our workers, for a test to add to.
    pub fn command(&self, name: &str) -> Command {
        let mut command = test_worker(&self.redis.url(0), &self.redis.url(1));
        command
            .current_dir(self.directory.path())
            .args(["-n", &format!("{name}@%h")]);
        command
    }

    /// One of our workers, ready.
    pub async fn worker(&self, name: &str) -> Process {
        Process::ready(self.directory.path(), name, &mut self.command(name)).await
    }

    /// One of Python's, ready.
    pub async fn python(&self, name: &str, visibility_timeout_secs: u32) -> Process {
        let mut command = python_worker(&self.redis.url(0), &self.redis.url(1));
        command.env("VISIBILITY_TIMEOUT", visibility_timeout_secs.to_string());
        Process::ready(self.directory.path(), name, &mut command).await
    }

    /// Starts what is not one of our workers as they are, with its output beside theirs.
    pub fn launch(&self, name: &str, command: &mut Command) -> Process {
        Process::start(self.directory.path(), name, command)
    }

    /// Sends a task.
    ///
    /// # Panics
    /// Redis is away.
    pub async fn send(&self, task: &str, args: Vec<Value>, options: SendOptions) -> AsyncResult {
        let sent = self.app.send_task(task, args, Map::new(), options);
        sent.await.expect("redis runs")
    }

    /// Sends a task that is acknowledged only when the gate is open.
    pub async fn wait_for(&self, gate: &Gate) -> AsyncResult {
        let args = vec![json!(gate.path)];
        self.send("proj.wait_late", args, SendOptions::default())
            .await
    }

    /// A gate that is shut.
    pub fn gate(&self) -> Gate {
        Gate {
            path: self.directory.path().join("gate"),
        }
    }

    /// Sends a task that is acknowledged only when it has slept.
    pub async fn nap(&self, seconds: f64) -> AsyncResult {
        let args = vec![json!(seconds)];
        self.send("proj.nap_late", args, SendOptions::default())
            .await
    }

    /// Runs a command in the broker's database.
    ///
    /// # Panics
    /// Redis is away, or answers with an error.
    pub async fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.redis.connect().await;
        let [name, args @ ..] = command else {
            panic!("a command has a name")
        };
        let mut command = redis::cmd(name);
        for arg in args {
            command.arg(arg);
        }
        let reply = command.query_async(&mut connection).await;
        reply.expect("redis runs and does it")
    }

    /// How many messages are held by workers.
    pub async fn held(&self) -> usize {
        self.run(&["HLEN", "unacked"]).await
    }

    /// How many messages wait in the queue.
    pub async fn waiting(&self) -> usize {
        self.run(&["LLEN", "celery"]).await
    }

    /// Waits until workers hold so many messages.
    pub async fn holds(&self, count: usize) {
        eventually("the workers hold them", PATIENCE, async || {
            (self.held().await == count).then_some(())
        })
        .await;
    }

    /// Waits until the task has ended, well or badly.
    ///
    /// # Panics
    /// Redis is away.
    pub async fn ends(&self, result: &AsyncResult) {
        eventually("the task has ended", PATIENCE, async || {
            let meta = result.meta().await.expect("redis runs");
            meta.filter(|meta| meta.date_done.is_some())
        })
        .await;
    }
}

/// What tasks wait for: a task behind it runs until the test lets it end, however slow the machine is.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
}

impl Gate {
    /// Lets all tasks end that wait for it, now and later.
    ///
    /// # Panics
    /// The directory of the test cannot be written.
    pub fn open(&self) {
        std::fs::write(&self.path, "").expect("a test's directory can be written");
    }
}

/// How often a text stands in a log.
pub fn times(log: &str, text: &str) -> usize {
    log.matches(text).count()
}
