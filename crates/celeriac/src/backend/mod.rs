//! Where results are kept.
//!
//! - here: what a backend must do; the suite that each of them passes is `contract`.
//! - `document`: what a worker says of a task. `stored`: its bytes, and how long they are kept.
//! - `chord`: what a backend does for chords and groups.
//! - `waiters`: who waits for which result.
//! - `redis`, `memory`, `disabled`: the backends.
//!
//! Counterpart: `celery/backends/base.py` @ 5.7.0.

mod chord;
#[cfg(test)]
mod contract;
mod disabled;
mod document;
mod memory;
mod redis;
mod stored;
mod waiters;

use std::slice;

use async_trait::async_trait;
use celeriac_protocol::result::TaskMeta;

pub(crate) use chord::{Chords, Claim, Counted, Part, Parts, ResultTree, Start};
pub(crate) use disabled::DisabledBackend;
pub(crate) use document::{Author, map};
pub(crate) use memory::MemoryBackend;
pub(crate) use redis::RedisBackend;

use crate::transport::Error;

/// A result backend, as the engine uses it.
#[async_trait]
pub(crate) trait ResultBackend: Chords + std::fmt::Debug {
    /// The URL with the password masked, as the banner shows it.
    fn url(&self) -> &str;

    /// Stores the states of tasks, in their order, and tells those who wait for them. A stored SUCCESS is never
    /// overwritten. Up to 128 of them, or a megabyte, are stored in one step: who sees one of them sees all.
    ///
    /// # Cancel safety
    /// They may have been stored. Storing again is harmless.
    ///
    /// # Errors
    /// The backend is away or refuses the write.
    async fn store(&self, metas: &[TaskMeta]) -> Result<(), Error>;

    /// As [`Self::store`], of the SUCCESS of a task of which nothing is stored, as far as is known. Where something is, it is
    /// heeded all the same.
    ///
    /// # Cancel safety
    /// As [`Self::store`].
    ///
    /// # Errors
    /// As [`Self::store`].
    async fn store_first(&self, success: &TaskMeta) -> Result<(), Error> {
        self.store(slice::from_ref(success)).await
    }

    /// What is stored about a task; `None`: nothing (Celery's PENDING).
    ///
    /// # Errors
    /// The backend is away, or holds something else under this key.
    async fn get(&self, task_id: &str) -> Result<Option<TaskMeta>, Error>;

    /// Waits until a task is ready (SUCCESS, FAILURE or REVOKED is stored), for ever if it never is. Goes on through
    /// a short outage.
    ///
    /// # Cancel safety
    /// Dropped, it waits no more.
    ///
    /// # Errors
    /// The backend has been away for some time, refuses, or holds something else under this key.
    async fn wait(&self, task_id: &str) -> Result<TaskMeta, Error>;

    /// What keeps those who wait from hearing anything, if something does.
    fn trouble(&self) -> Option<Error> {
        None
    }

    /// Removes what is stored about a task.
    ///
    /// # Errors
    /// The backend is away.
    async fn forget(&self, task_id: &str) -> Result<(), Error>;
}
