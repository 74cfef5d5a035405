//! One connection to Redis that is opened when it is needed and opened anew when it broke.
//!
//! The `redis` crate's own `ConnectionManager` is not used: it comes back silently, and a tracking
//! connection that comes back without `CLIENT TRACKING` is deaf (promise M7). Every command has a
//! deadline, so a server that stays silent is noticed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, ProtocolVersion};
use tokio::sync::{Mutex, Notify, mpsc};

use super::super::Error;
use super::address::Address;

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a reply may take; a script over some hundred messages needs a few milliseconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest that a command may block on a connection that is made for it.
pub(crate) const BLOCKING_MAX: Duration = Duration::from_secs(5);

/// A connection in one role.
pub(crate) struct Connection {
    address: Address,
    /// Where pushed invalidations ring; `None`: this connection asks for none.
    wake: Option<Arc<Notify>>,
    response_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// How often it has been opened.
    generation: u64,
    /// Why it could not be opened the last time, and when: those who waited meanwhile need not try themselves.
    refused: Option<(Instant, Error)>,
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    is_tracking: bool,
}

/// A command, a pipeline or a call of a script: something that is answered once.
pub(crate) trait Ask {
    /// Sends it and waits for the answer.
    async fn ask<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> redis::RedisResult<T>;
}

impl Ask for redis::Cmd {
    async fn ask<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> redis::RedisResult<T> {
        self.query_async(connection).await
    }
}

impl Ask for redis::Pipeline {
    async fn ask<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> redis::RedisResult<T> {
        self.query_async(connection).await
    }
}

impl Ask for redis::ScriptInvocation<'_> {
    async fn ask<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> redis::RedisResult<T> {
        self.invoke_async(connection).await
    }
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
            response_timeout: RESPONSE_TIMEOUT,
            state: Mutex::default(),
        }
    }

    /// A connection for one command at a time that blocks on the server for up to [`BLOCKING_MAX`].
    pub(crate) fn waiting(address: Address) -> Self {
        Self {
            response_timeout: BLOCKING_MAX + RESPONSE_TIMEOUT,
            ..Self::new(address)
        }
    }

    /// A connection whose reads are tracked by the server: a change of a key that was read rings `wake`.
    pub(crate) fn tracking(address: Address, wake: Arc<Notify>) -> Self {
        Self {
            wake: Some(wake),
            ..Self::new(address)
        }
    }

    /// A connection of its own on which the server may push (RESP3). What does not fit into the channel is
    /// dropped.
    pub(crate) async fn pushing(
        address: &Address,
        pushed: mpsc::Sender<redis::PushInfo>,
    ) -> Result<MultiplexedConnection, Error> {
        Self::pushing_to(address, move |push| pushed.try_send(push)).await
    }

    /// As [`Self::pushing`], into whatever takes what is pushed.
    pub(crate) async fn pushing_to(
        address: &Address,
        pushed: impl redis::aio::AsyncPushSender,
    ) -> Result<MultiplexedConnection, Error> {
        let config = config(RESPONSE_TIMEOUT).set_push_sender(pushed);
        resp3(address)
            .await?
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| address.explain(sort(&error)))
    }

    /// Sends a command, a pipeline or a script, and waits for its answer. Opens the connection if it is not open; one
    /// that fails is opened anew by the next call.
    ///
    /// # Errors
    /// The server cannot be reached, stays silent for some seconds, or answers with an error.
    pub(crate) async fn ask<T: FromRedisValue>(&self, what: &impl Ask) -> Result<T, Error> {
        self.ask_and_tell(what).await.map(|(answer, _)| answer)
    }

    /// As [`Self::ask`], and says with which of its connections it was answered: another number is another connection.
    pub(crate) async fn ask_and_tell<T: FromRedisValue>(
        &self,
        what: &impl Ask,
    ) -> Result<(T, u64), Error> {
        let (mut connection, generation) = self.open().await?;
        match what.ask(&mut connection).await {
            Ok(answer) => Ok((answer, generation)),
            Err(error) => {
                let error = sort(&error);
                if error.is_of_the_connection() {
                    self.forget(generation).await;
                }
                Err(error)
            }
        }
    }

    /// Whether the server tells us of changes; otherwise one has to look.
    pub(crate) async fn is_tracking(&self) -> bool {
        let state = self.state.lock().await;
        state.open.as_ref().is_some_and(|open| open.is_tracking)
    }

    /// The open connection; opened if there is none.
    async fn open(&self) -> Result<(MultiplexedConnection, u64), Error> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(open) = &state.open {
            return Ok((open.connection.clone(), state.generation));
        }
        if let Some((when, error)) = &state.refused
            && *when >= asked
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(open) => {
                let connection = open.connection.clone();
                state.open = Some(open);
                state.generation += 1;
                Ok((connection, state.generation))
            }
            Err(error) => {
                state.refused = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Uses this connection no longer; a newer one stays.
    async fn forget(&self, generation: u64) {
        let mut state = self.state.lock().await;
        if state.generation == generation {
            state.open = None;
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

    fn config(&self) -> AsyncConnectionConfig {
        config(self.response_timeout)
    }

    async fn plain(&self) -> Result<Open, Error> {
        let client = Client::open(self.address.resolve().await?).map_err(|error| sort(&error))?;
        let connection = client
            .get_multiplexed_async_connection_with_config(&self.config())
            .await
            .map_err(|error| self.address.explain(sort(&error)))?;
        Ok(Open {
            connection,
            is_tracking: false,
        })
    }

    async fn tracked(&self, wake: Arc<Notify>) -> Result<Open, Error> {
        let client = resp3(&self.address).await?;
        // Whatever is pushed, also that the connection broke, is a reason to look.
        let config = self
            .config()
            .set_push_sender(move |_push: redis::PushInfo| {
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

/// A client on whose connections the server may push.
async fn resp3(address: &Address) -> Result<Client, Error> {
    let info = address.resolve().await?;
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(settings)).map_err(|error| sort(&error))
}

fn config(response_timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout))
}

/// Tells a broken connection from an error reply.
pub(crate) fn sort(error: &redis::RedisError) -> Error {
    if let Some(code) = error.code() {
        // A transaction that was aborted says why in the reply to one of its commands.
        let replies = error.clone().into_server_errors();
        let (code, detail) = match replies.as_deref().and_then(<[_]>::first) {
            Some((_, cause)) if cause.code() != code => (cause.code(), cause.details()),
            _ => (code, error.detail()),
        };
        let detail = detail.unwrap_or_default();
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
        let answer = connection.ask::<()>(&pipe).await;
        let error = answer.expect_err("SETEX needs three arguments");
        let text = error.to_string();
        assert!(text.starts_with("ERR wrong number of arguments"), "{text}");
    }
}
