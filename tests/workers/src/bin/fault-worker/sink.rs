//! Where the tasks leave their traces: a Redis that the harness never breaks.

use redis::Client;
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

/// One connection, made when the first task runs.
#[derive(Debug)]
pub(crate) struct Sink {
    client: Client,
    connection: OnceCell<MultiplexedConnection>,
}

impl Sink {
    /// # Errors
    /// The URL is none of a Redis server.
    pub(crate) fn new(url: &str) -> redis::RedisResult<Self> {
        Ok(Self {
            client: Client::open(url)?,
            connection: OnceCell::new(),
        })
    }

    /// RPUSH.
    ///
    /// # Errors
    /// The sink does not answer.
    pub(crate) async fn push(&self, key: &str, value: &str) -> redis::RedisResult<()> {
        let connect = || self.client.get_multiplexed_async_connection();
        let mut connection = self.connection.get_or_try_init(connect).await?.clone();
        redis::cmd("RPUSH")
            .arg(key)
            .arg(value)
            .query_async(&mut connection)
            .await
    }
}
