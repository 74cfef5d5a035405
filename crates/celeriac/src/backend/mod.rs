//! Where results are kept.
//!
//! Counterpart: `celery/backends/base.py` @ 5.7.0.

mod disabled;
mod document;
mod redis;

use async_trait::async_trait;
use celeriac_protocol::result::TaskMeta;

pub(crate) use disabled::DisabledBackend;
pub(crate) use document::{Author, map};
pub(crate) use redis::RedisBackend;

use crate::transport::Error;

/// A result backend, as the engine uses it.
#[async_trait]
pub(crate) trait ResultBackend: Send + Sync + std::fmt::Debug {
    /// The URL with the password masked, as the banner shows it.
    fn url(&self) -> &str;

    /// Stores the state of a task and tells those who wait for it. A stored SUCCESS is never overwritten.
    ///
    /// # Errors
    /// The backend is away or refuses the write. Storing again is harmless.
    async fn store(&self, meta: &TaskMeta) -> Result<(), Error>;

    /// What is stored about a task; `None`: nothing (Celery's PENDING).
    ///
    /// # Errors
    /// The backend is away, or holds something else under this key.
    async fn get(&self, task_id: &str) -> Result<Option<TaskMeta>, Error>;
}
