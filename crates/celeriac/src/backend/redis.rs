//! Results in Redis: one string a task, and a message on a channel of the same name.
//!
//! SETEX and PUBLISH go together in one transaction, because Python's `AsyncResult.get()` waits for the
//! message. A SUCCESS that is there is never overwritten: a task that is delivered twice must not turn
//! into a failure.
//!
//! Counterpart: `celery/backends/redis.py` and `celery/backends/base.py::KeyValueStoreBackend` @ 5.7.0.

use std::time::Duration;

use async_trait::async_trait;
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;

use super::ResultBackend;
use crate::app::Settings;
use crate::transport::Error;
use crate::transport::redis::{Address, Connection};

/// `BaseKeyValueStoreBackend.task_keyprefix`.
const TASK_KEY_PREFIX: &str = "celery-task-meta-";

/// See the module's text.
#[derive(Debug)]
pub(crate) struct RedisBackend {
    url: String,
    connection: Connection,
    key_prefix: String,
    expires: Option<Duration>,
}

impl RedisBackend {
    /// # Errors
    /// The URL is not one of a Redis server.
    pub(crate) fn new(url: &str, settings: &Settings) -> Result<Self, Error> {
        let options = &settings.result_backend_transport_options;
        let address = Address::parse("result backend", url)?
            .watched_by(options.master_name.as_deref(), &options.sentinel_kwargs)?;
        let prefix = &options.global_keyprefix;
        Ok(Self {
            url: address.masked.clone(),
            connection: Connection::new(address),
            key_prefix: format!("{}{TASK_KEY_PREFIX}", separated(prefix)),
            expires: settings.result_expires,
        })
    }

    async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.connection.ask(redis::cmd("GET").arg(key)).await
    }
}

#[async_trait]
impl ResultBackend for RedisBackend {
    fn url(&self) -> &str {
        &self.url
    }

    async fn store(&self, meta: &TaskMeta) -> Result<(), Error> {
        let key = format!("{}{}", self.key_prefix, meta.task_id);
        let stored = self.read(&key).await?;
        let stored = stored.and_then(|bytes| TaskMeta::parse(&bytes).ok());
        if stored.is_some_and(|stored| stored.status == State::Success) {
            return Ok(());
        }
        let document = meta.to_json();
        let mut pipe = redis::pipe();
        pipe.atomic();
        match self.expires {
            Some(expires) => pipe
                .cmd("SETEX")
                .arg(&key)
                .arg(expires.as_secs())
                .arg(&document),
            None => pipe.cmd("SET").arg(&key).arg(&document),
        }
        .ignore();
        pipe.cmd("PUBLISH").arg(&key).arg(&document).ignore();
        self.connection.ask(&pipe).await
    }

    async fn get(&self, task_id: &str) -> Result<Option<TaskMeta>, Error> {
        let key = format!("{}{task_id}", self.key_prefix);
        let Some(bytes) = self.read(&key).await? else {
            return Ok(None);
        };
        TaskMeta::parse(&bytes)
            .map(Some)
            .map_err(|error| Error::Reply {
                reply: format!("key {key:?} holds no task result: {error}"),
            })
    }
}

/// The prefix as `_add_global_keyprefix` writes it: set off by `_` unless it ends in a separator.
fn separated(prefix: &str) -> String {
    if prefix.is_empty() || prefix.ends_with([':', '_', '-', '.']) {
        prefix.to_owned()
    } else {
        format!("{prefix}_")
    }
}
