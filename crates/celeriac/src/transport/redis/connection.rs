//! One connection to Redis that is opened when it is needed and opened anew when it broke.
//!
//! The `redis` crate's own `ConnectionManager` is not used: it comes back silently, and a tracking
//! connection that comes back without `CLIENT TRACKING` is deaf (promise M7). Every command has a
//! deadline, so a server that stays silent is noticed.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ProtocolVersion};
use tokio::sync::{Mutex, Notify};

use super::super::Error;
use super::address::Address;

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a reply may take; a script over some hundred messages needs a few milliseconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection in one role.
pub(crate) struct Connection {
    address: Address,
    /// Where pushed invalidations ring; `None`: this connection asks for none.
    wake: Option<Arc<Notify>>,
    open: Mutex<Option<Open>>,
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    is_tracking: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("url", &self.address.masked)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection for commands.
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            wake: None,
            open: Mutex::new(None),
        }
    }

    /// A connection whose reads are tracked by the server: a change of a key that was read rings `wake`.
    pub(crate) fn tracking(address: Address, wake: Arc<Notify>) -> Self {
        Self {
            wake: Some(wake),
            ..Self::new(address)
        }
    }

    /// The open connection; opened if there is none.
    pub(crate) async fn get(&self) -> Result<MultiplexedConnection, Error> {
        let mut open = self.open.lock().await;
        if let Some(open) = &*open {
            return Ok(open.connection.clone());
        }
        let fresh = self.connect().await?;
        let connection = fresh.connection.clone();
        *open = Some(fresh);
        Ok(connection)
    }

    /// Whether the server tells us of changes; otherwise one has to look.
    pub(crate) async fn is_tracking(&self) -> bool {
        self.open
            .lock()
            .await
            .as_ref()
            .is_some_and(|open| open.is_tracking)
    }

    /// Sorts a command's result, and forgets the connection if it is no longer usable.
    pub(crate) async fn check<T>(&self, result: redis::RedisResult<T>) -> Result<T, Error> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => {
                let error = sort(&error);
                // READONLY: after a failover this is not the server to write to any more.
                if error.is_connection() || error.to_string().starts_with("READONLY") {
                    *self.open.lock().await = None;
                }
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Open, Error> {
        let Some(wake) = &self.wake else {
            return self.plain().await;
        };
        match self.tracked(Arc::clone(wake)).await {
            Err(Error::Reply { reply }) => {
                log::warn!(
                    "the broker offers no CLIENT TRACKING, looking once a second instead: {reply}"
                );
                self.plain().await
            }
            other => other,
        }
    }

    async fn plain(&self) -> Result<Open, Error> {
        let client = Client::open(self.address.resolve().await?).map_err(|error| sort(&error))?;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config())
            .await
            .map_err(|error| self.address.explain(sort(&error)))?;
        Ok(Open {
            connection,
            is_tracking: false,
        })
    }

    async fn tracked(&self, wake: Arc<Notify>) -> Result<Open, Error> {
        let info = self.address.resolve().await?;
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        let client =
            Client::open(info.set_redis_settings(settings)).map_err(|error| sort(&error))?;
        // Whatever is pushed, also that the connection broke, is a reason to look.
        let config = config().set_push_sender(move |_push: redis::PushInfo| {
            wake.notify_one();
            Ok::<(), redis::aio::SendError>(())
        });
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| self.address.explain(sort(&error)))?;
        // NOLOOP: only the take script speaks here, and its own pops are no news.
        redis::cmd("CLIENT")
            .arg(&["TRACKING", "ON", "NOLOOP"])
            .query_async::<()>(&mut connection)
            .await
            .map_err(|error| sort(&error))?;
        Ok(Open {
            connection,
            is_tracking: true,
        })
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
}

fn sort(error: &redis::RedisError) -> Error {
    if let Some(code) = error.code() {
        // A transaction that was aborted says why in the reply to one of its commands.
        let replies = error.clone().into_server_errors();
        let detail = match replies.as_deref().and_then(<[_]>::first) {
            Some((_, cause)) if cause.code() != code => cause.to_string(),
            _ => error.detail().unwrap_or_default().to_owned(),
        };
        // Inside a script, the server does not say which right is missing; its log does.
        let advice = match detail.contains("can't run this command") {
            true => "; ACL LOG on the server names it",
            false => "",
        };
        return Error::Reply {
            reply: format!("{}{advice}", format!("{code} {detail}").trim_end()),
        };
    }
    Error::Connection {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_aborted_transaction_says_why() {
        let url = std::env::var("CELERY_BROKER_URL").expect("`make up` runs");
        let connection = Connection::new(Address::parse("broker", &url).expect("a Redis URL"));
        let mut pipe = redis::pipe();
        pipe.atomic().cmd("SETEX").arg("a key alone").ignore();
        let mut open = connection.get().await.expect("redis runs");
        let result = connection.check(pipe.query_async::<()>(&mut open).await);
        let error = result.await.expect_err("SETEX needs three arguments");
        let text = error.to_string();
        assert!(text.contains("wrong number of arguments"), "{text}");
    }
}
