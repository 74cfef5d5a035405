//! Results in Redis: one string a task, and a message on a channel of the same name.
//!
//! - here: the keys, reading and forgetting.
//! - `store`: storing and telling, in one step, and many at a time.
//! - `subscription`: waiting.
//! - `chord`: chords and groups.
//!
//! A SUCCESS that is there is never overwritten: a task that is delivered twice must not turn into a failure.
//!
//! Counterpart: `celery/backends/redis.py` and `celery/backends/base.py::KeyValueStoreBackend` @ 5.7.0.

mod chord;
#[cfg(test)]
mod chord_tests;
mod store;
mod subscription;
#[cfg(test)]
mod tests;

use std::slice;
use std::sync::Arc;

use async_trait::async_trait;
use celeriac_protocol::result::TaskMeta;

use super::ResultBackend;
use super::chord::Rules;
use super::stored::Documents;
use crate::app::Settings;
use crate::transport::Error;
use crate::transport::redis::{Address, Connection};
use store::{Before, Stores};
use subscription::Subscription;

/// `BaseKeyValueStoreBackend.task_keyprefix`.
const TASK_KEY_PREFIX: &str = "celery-task-meta-";

/// `BaseKeyValueStoreBackend.group_keyprefix`.
const GROUP_KEY_PREFIX: &str = "celery-taskset-meta-";

/// See the module's text.
#[derive(Debug)]
pub(crate) struct RedisBackend {
    url: String,
    connection: Arc<Connection>,
    key_prefix: String,
    group_key_prefix: String,
    documents: Documents,
    rules: Rules,
    stores: Stores,
    subscription: Arc<Subscription>,
    /// See [`Address::server`].
    server: Option<u64>,
    database: i64,
}

impl RedisBackend {
    /// # Errors
    /// The URL is not one of a Redis server.
    pub(crate) fn new(url: &str, settings: &Settings) -> Result<Self, Error> {
        let options = &settings.result_backend_transport_options;
        let address = Address::parse("result backend", url)?
            .watched_by(options.master_name.as_deref(), &options.sentinel_kwargs)?;
        let prefix = separated(&options.global_keyprefix);
        let key_prefix = format!("{prefix}{TASK_KEY_PREFIX}");
        let documents = Documents::new(settings);
        Ok(Self {
            url: address.masked.clone(),
            connection: Arc::new(Connection::new(address.clone())),
            stores: Stores::new(),
            server: address.server(),
            database: address.database(),
            subscription: Arc::new(Subscription::new(
                address,
                key_prefix.clone(),
                documents.clone(),
            )),
            key_prefix,
            group_key_prefix: format!("{prefix}{GROUP_KEY_PREFIX}"),
            documents,
            rules: Rules::new(settings),
        })
    }

    fn key(&self, task_id: &str) -> String {
        format!("{}{task_id}", self.key_prefix)
    }

    async fn store_over(&self, metas: &[TaskMeta], before: Before) -> Result<(), Error> {
        let results = metas.iter().map(|meta| {
            let document = || self.documents.write(meta);
            (self.key(&meta.task_id), document)
        });
        let results: Vec<_> = results.collect();
        let (connection, documents) = (&self.connection, &self.documents);
        self.stores
            .store(connection, documents, &results, before)
            .await
    }
}

#[async_trait]
impl ResultBackend for RedisBackend {
    fn url(&self) -> &str {
        &self.url
    }

    async fn store(&self, metas: &[TaskMeta]) -> Result<(), Error> {
        self.store_over(metas, Before::Anything).await
    }

    async fn store_first(&self, success: &TaskMeta) -> Result<(), Error> {
        let metas = slice::from_ref(success);
        self.store_over(metas, Before::Nothing).await
    }

    async fn get(&self, task_id: &str) -> Result<Option<TaskMeta>, Error> {
        let key = self.key(task_id);
        let stored: Option<Vec<u8>> = self.connection.ask(redis::cmd("GET").arg(&key)).await?;
        let read = stored.map(|bytes| self.documents.read(&key, &bytes));
        read.transpose()
    }

    async fn wait(&self, task_id: &str) -> Result<TaskMeta, Error> {
        self.subscription.wait(task_id).await
    }

    fn trouble(&self) -> Option<Error> {
        self.subscription.trouble()
    }

    async fn forget(&self, task_id: &str) -> Result<(), Error> {
        let key = self.key(task_id);
        self.connection.ask(redis::cmd("DEL").arg(&key)).await
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
