//! A master, its replica, and a sentinel that promotes the replica when the master is gone.

use std::process::Command;

use tempfile::TempDir;

use crate::eventually::eventually;
use crate::process::{PATIENCE, Process};
use crate::proxy::free_port;
use crate::redis::PrivateRedis;

/// The master's name among sentinels.
pub const MASTER: &str = "main";

/// The three of them.
#[derive(Debug)]
pub struct Watched {
    /// The first master.
    pub first: PrivateRedis,
    /// The first replica.
    pub second: PrivateRedis,
    port: u16,
    _directory: TempDir,
    _sentinel: Process,
}

impl Watched {
    /// Starts them, and waits until the sentinel knows both servers.
    ///
    /// # Panics
    /// One of them does not start.
    pub async fn start() -> Self {
        let first = PrivateRedis::start().await;
        let port = first.port().to_string();
        let replicaof = ["--replicaof", "127.0.0.1", &port];
        let second = PrivateRedis::start_with(&replicaof.map(str::to_owned)).await;
        let directory = TempDir::new().expect("a directory can be made");
        let file = directory.path().join("sentinel.conf");
        let own = free_port();
        let text = format!(
            "port {own}\nbind 127.0.0.1\nsentinel monitor {MASTER} 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 5000\n"
        );
        std::fs::write(&file, text).expect("it can be written");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel");
        let watched = Self {
            _sentinel: Process::start(directory.path(), "sentinel", &mut command),
            _directory: directory,
            first,
            second,
            port: own,
        };
        eventually("the sentinel knows the replica", PATIENCE, async || {
            let replicas: Vec<redis::Value> = watched.ask("replicas").await?;
            (!replicas.is_empty()).then_some(())
        })
        .await;
        watched
    }

    /// The URL of a database of the master.
    pub fn url(&self, database: u8) -> String {
        format!("sentinel://127.0.0.1:{}/{database}", self.port)
    }

    /// Waits until the replica has everything that the master was told. `WAIT` is about what its own connection has
    /// written, so this one writes something.
    ///
    /// # Panics
    /// One of them is away.
    pub async fn replicated(&self) {
        let mut connection = self.first.connect().await;
        let mut pipe = redis::pipe();
        pipe.cmd("INCR").arg("replicated").ignore();
        pipe.cmd("WAIT").arg(&["1", "10000"]);
        let replicas: [usize; 1] = pipe.query_async(&mut connection).await.expect("it runs");
        assert_eq!(replicas, [1]);
    }

    /// Kills the master, and waits until the replica has taken its place.
    pub async fn fail_over(&mut self) {
        self.first.kill();
        let second = self.second.port().to_string();
        eventually("the replica is promoted", PATIENCE, async || {
            let master: (String, String) = self.ask("get-master-addr-by-name").await?;
            (master.1 == second).then_some(())
        })
        .await;
    }

    async fn ask<T: redis::FromRedisValue>(&self, what: &str) -> Option<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).ok()?;
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut command = redis::cmd("SENTINEL");
        command.arg(what).arg(MASTER);
        command.query_async(&mut connection).await.ok()
    }
}
