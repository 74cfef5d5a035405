//! No results: what an app without a `result_backend` has.
//!
//! Counterpart: `celery/backends/base.py::DisabledBackend` @ 5.7.0: storing is nothing, asking is an error. So is starting
//! a chord; a part of somebody else's is not counted.

use async_trait::async_trait;
use celeriac_protocol::result::TaskMeta;
use serde_json::Value;

use super::ResultBackend;
use super::chord::{Chords, Claim, Counted, Part, Parts, Start};
use crate::transport::Error;

/// Stores nothing and knows nothing.
#[derive(Debug)]
pub(crate) struct DisabledBackend;

#[async_trait]
impl ResultBackend for DisabledBackend {
    fn url(&self) -> &str {
        "disabled://"
    }

    async fn store(&self, _metas: &[TaskMeta]) -> Result<(), Error> {
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

#[async_trait]
impl Chords for DisabledBackend {
    async fn chord_start(
        &self,
        _group: &str,
        _size: usize,
        _group_result: Option<&Value>,
        _is_again: bool,
    ) -> Result<Start, Error> {
        Err(Error::NoResultBackend)
    }

    async fn chord_part(&self, _part: &Part<'_>, _token: &str) -> Result<Counted, Error> {
        Ok(Counted::Waiting)
    }

    async fn chord_results(&self, _group: &str) -> Result<Parts, Error> {
        Err(Error::NoResultBackend)
    }

    async fn chord_extend(&self, _group: &str, _claim: &Claim) -> Result<bool, Error> {
        Err(Error::NoResultBackend)
    }

    async fn chord_done(&self, _group: &str, _claim: &Claim) -> Result<bool, Error> {
        Err(Error::NoResultBackend)
    }

    async fn chord_failed(&self, _group: &str, _claim: &Claim) -> Result<(), Error> {
        Err(Error::NoResultBackend)
    }

    async fn chord_grow(&self, _group: &str, _task_id: &str) -> Result<(), Error> {
        Err(Error::NoResultBackend)
    }

    async fn save_group(&self, _group: &str, _group_result: &Value) -> Result<(), Error> {
        Err(Error::NoResultBackend)
    }

    async fn restore_group(&self, _group: &str) -> Result<Option<Value>, Error> {
        Err(Error::NoResultBackend)
    }

    async fn delete_group(&self, _group: &str) -> Result<(), Error> {
        Err(Error::NoResultBackend)
    }
}
