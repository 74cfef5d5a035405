//! A Redis of a test's own, to fill, kill and look into.

use std::path::{Path, PathBuf};
use std::process::Command;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::process::{PATIENCE, Process};
use crate::proxy::free_port;

/// A running `redis-server`; its data outlives [`Self::kill`].
#[derive(Debug)]
pub struct PrivateRedis {
    port: u16,
    directory: TempDir,
    /// What is said to it beside the usual.
    options: Vec<String>,
    process: Option<Process>,
}

impl PrivateRedis {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// `redis-server` is not installed or does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one on a free port, with options of its own.
    ///
    /// # Panics
    /// `redis-server` is not installed or does not start.
    pub async fn start_with(options: &[String]) -> Self {
        let mut redis = Self {
            port: free_port(),
            directory: TempDir::new().expect("a directory can be made"),
            options: options.to_vec(),
            process: None,
        };
        redis.restart().await;
        redis
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database of it.
    pub fn url(&self, database: u8) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port)
    }

    /// A connection to its database 0.
    ///
    /// # Panics
    /// It cannot be reached.
    pub async fn connect(&self) -> MultiplexedConnection {
        self.connect_to(0).await
    }

    /// A connection to another database of it.
    ///
    /// # Panics
    /// It cannot be reached.
    pub async fn connect_to(&self, database: u8) -> MultiplexedConnection {
        let client = redis::Client::open(self.url(database)).expect("the URL is right");
        // The machine may be busy with a compiler.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        client
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .expect("redis runs")
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// A copy of its data as they are now.
    ///
    /// # Panics
    /// The directory cannot be read, or a new one not be written.
    pub fn state(&self) -> TempDir {
        let copy = TempDir::new().expect("a directory can be made");
        copy_files(&self.data(), copy.path());
        copy
    }

    /// Kills it, and starts it with older data.
    ///
    /// # Panics
    /// It does not start, or not with these data.
    pub async fn return_to(&mut self, state: &TempDir) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("it has data");
        copy_files(state.path(), &self.data());
        self.restart().await;
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("appendonlydir")
    }

    /// Starts it anew, on the same port and data.
    ///
    /// # Panics
    /// It does not start.
    pub async fn restart(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            // By default Redis may keep a second of writes to itself, and a kill would lose them.
            .args(["--appendfsync", "always"])
            .args(["--port", &self.port.to_string(), "--dir"])
            .arg(self.directory.path())
            .args(&self.options);
        self.process = Some(Process::start(self.directory.path(), "redis", &mut command));
        let client = redis::Client::open(self.url(0)).expect("the URL is right");
        eventually("redis answers", PATIENCE, async || {
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            redis::cmd("PING")
                .query_async::<String>(&mut connection)
                .await
                .ok()
        })
        .await;
    }
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory can be made");
    for entry in from.read_dir().expect("it can be read") {
        let entry = entry.expect("it can be read");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("it can be copied");
    }
}
