//! No results: what an app without a `result_backend` has.
//!
//! Counterpart: `celery/backends/base.py::DisabledBackend` @ 5.7.0: storing is nothing, asking is an error.

use async_trait::async_trait;
use celeriac_protocol::result::TaskMeta;

use super::ResultBackend;
use crate::transport::Error;

/// Stores nothing and knows nothing.
#[derive(Debug)]
pub(crate) struct DisabledBackend;

#[async_trait]
impl ResultBackend for DisabledBackend {
    fn url(&self) -> &str {
        "disabled://"
    }

    async fn store(&self, _meta: &TaskMeta) -> Result<(), Error> {
        Ok(())
    }

    async fn get(&self, _task_id: &str) -> Result<Option<TaskMeta>, Error> {
        Err(Error::NoResultBackend)
    }

    async fn wait(&self, _task_id: &str) -> Result<TaskMeta, Error> {
        Err(Error::NoResultBackend)
    }

    async fn forget(&self, _task_id: &str) -> Result<(), Error> {
        Err(Error::NoResultBackend)
    }
}
