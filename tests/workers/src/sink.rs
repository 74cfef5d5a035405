//! Where the tasks leave their traces: a Redis of the harness's own.

use redis::Client;
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

/// One connection, made when the first task runs.
#[derive(Debug)]
pub struct Sink {
    client: Client,
    connection: OnceCell<MultiplexedConnection>,
}

impl Sink {
    /// # Errors
    /// The URL is none of a Redis server.
    pub fn new(url: &str) -> redis::RedisResult<Self> {
        Ok(Self {
            client: Client::open(url)?,
            connection: OnceCell::new(),
        })
    }

    /// RPUSH.
    ///
    /// # Errors
    /// The sink does not answer.
    pub async fn push(&self, key: &str, value: impl AsRef<[u8]>) -> redis::RedisResult<()> {
        self.run(redis::cmd("RPUSH").arg(key).arg(value.as_ref()))
            .await
    }

    /// INCR.
    ///
    /// # Errors
    /// The sink does not answer.
    pub async fn count(&self, key: &str) -> redis::RedisResult<()> {
        self.run(redis::cmd("INCR").arg(key)).await
    }

    async fn run(&self, command: &redis::Cmd) -> redis::RedisResult<()> {
        let connect = || self.client.get_multiplexed_async_connection();
        let mut connection = self.connection.get_or_try_init(connect).await?.clone();
        command.query_async(&mut connection).await
    }
}
