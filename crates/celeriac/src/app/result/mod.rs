//! What a caller holds of a task that was sent: waiting for its result, looking at its state, forgetting it.
//!
//! - here: [`AsyncResult`].
//! - `error`: why there is no value.
//! - `node`: what comes of a canvas: a task or a group; `set`: those of a group, or any ([`join`]).
//! - `parents`: what came before, and whether it has failed.
//!
//! Waiting is listening, not polling: all that wait in one app share one connection of the backend, so ten thousand may
//! wait at a time.
//!
//! Counterpart: `celery/result.py` @ 5.7.0. Difference: nothing is remembered here, each question is asked of the backend.

mod error;
mod node;
mod parents;
mod set;

use std::sync::Arc;
use std::time::Duration;

use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::ResultError;
pub use node::ResultNode;
pub use set::{GroupResult, ResultSet, join};

use super::App;
use crate::context::Context;
use crate::transport::Error;

/// A task that was sent.
#[derive(Debug, Clone)]
pub struct AsyncResult {
    id: String,
    app: App,
    parent: Option<Arc<ResultNode>>,
    /// The task was sent with `ignore_result`: there will be none.
    is_ignored: bool,
    may_wait_in_task: bool,
}

impl App {
    /// The result of a task that was sent elsewhere, or before.
    pub fn async_result(&self, id: impl Into<String>) -> AsyncResult {
        AsyncResult::new(self.clone(), id.into())
    }
}

impl AsyncResult {
    pub(crate) fn new(app: App, id: String) -> Self {
        Self {
            id,
            app,
            parent: None,
            is_ignored: false,
            may_wait_in_task: false,
        }
    }

    /// No result is stored of it, so none is waited for.
    #[must_use]
    pub(crate) fn ignored(mut self, is_ignored: bool) -> Self {
        self.is_ignored = is_ignored;
        self
    }

    fn with_parent(self, parent: Option<Arc<ResultNode>>) -> Self {
        Self { parent, ..self }
    }

    /// Lets a task wait for this one. A task that waits keeps its slot: where all slots wait for tasks that have none,
    /// nothing goes on. Celery's `disable_sync_subtasks=False`.
    #[must_use]
    pub fn allow_join(mut self) -> Self {
        self.may_wait_in_task = true;
        self
    }

    /// The task id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What came before it, where that is known: the task before it in a chain, the header of a chord.
    pub fn parent(&self) -> Option<&ResultNode> {
        self.parent.as_deref()
    }

    /// Waits until the task is ready and returns its value; for ever without a timeout. An outage of the backend is
    /// waited out for some seconds. Where what came before it has failed, that is the failure.
    ///
    /// # Cancel safety
    /// Dropped, it waits no more; it can be asked again.
    ///
    /// # Errors
    /// The task has failed or was revoked, the timeout has passed, the value is no `T`, the backend is away, or it was
    /// called inside a task: see [`ResultError`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        timeout: impl Into<Option<Duration>> + Send,
    ) -> Result<T, ResultError> {
        let value = self.value(timeout.into()).await?;
        error::value(&self.id, value)
    }

    async fn value(&self, timeout: Option<Duration>) -> Result<Value, ResultError> {
        if self.is_ignored {
            return Ok(Value::Null);
        }
        let own = async { error::outcome(self.wait(timeout).await?) };
        parents::followed(self.parent(), own).await
    }

    /// Waits until the task is ready and returns all that is stored about it, also a failure. Celery's
    /// `get(propagate=False)`.
    ///
    /// # Cancel safety
    /// Dropped, it waits no more; it can be asked again.
    ///
    /// # Errors
    /// The timeout has passed, the backend is away, or it was called inside a task.
    pub async fn wait(
        &self,
        timeout: impl Into<Option<Duration>> + Send,
    ) -> Result<TaskMeta, ResultError> {
        if !self.may_wait_in_task && Context::current().is_some() {
            return Err(ResultError::WouldBlock);
        }
        let ready = match timeout.into() {
            None => self.ready_meta().await,
            Some(timeout) => match tokio::time::timeout(timeout, self.ready_meta()).await {
                Ok(ready) => ready,
                Err(_) => match self.app.backend().trouble() {
                    Some(error) => Err(error),
                    None => {
                        let id = self.id.clone();
                        return Err(ResultError::Timeout { id, timeout });
                    }
                },
            },
        };
        ready.map_err(|source| self.backend_error(source))
    }

    /// What is there already need not be listened for.
    async fn ready_meta(&self) -> Result<TaskMeta, Error> {
        match self.meta().await {
            Ok(Some(meta)) if meta.status.is_ready() => Ok(meta),
            Err(error) if !error.is_transient() => Err(error),
            // An outage is waited out there.
            _ => self.app.backend().wait(&self.id).await,
        }
    }

    fn backend_error(&self, source: Error) -> ResultError {
        ResultError::Backend {
            id: self.id.clone(),
            source,
        }
    }

    /// What the backend holds now; `None` while it holds nothing (PENDING).
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn meta(&self) -> Result<Option<TaskMeta>, Error> {
        self.app.backend().get(&self.id).await
    }

    /// The state: PENDING while nothing is known of the task, also if it was never sent.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn state(&self) -> Result<State, Error> {
        let meta = self.meta().await?;
        Ok(meta.map_or(State::Pending, |meta| meta.status))
    }

    /// The value, the exception as it is stored, or what a task has said of its progress; null while there is nothing.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn info(&self) -> Result<Value, Error> {
        Ok(self.meta().await?.map_or(Value::Null, |meta| meta.result))
    }

    /// The traceback of a task that has failed.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn traceback(&self) -> Result<Option<String>, Error> {
        Ok(self.meta().await?.and_then(|meta| meta.traceback))
    }

    /// Whether the task has ended: SUCCESS, FAILURE or REVOKED.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn ready(&self) -> Result<bool, Error> {
        Ok(self.state().await?.is_ready())
    }

    /// Whether it is SUCCESS.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn successful(&self) -> Result<bool, Error> {
        Ok(self.state().await? == State::Success)
    }

    /// Whether it is FAILURE.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn failed(&self) -> Result<bool, Error> {
        Ok(self.state().await? == State::Failure)
    }

    /// The tasks that it has sent, and those that have followed it.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn children(&self) -> Result<Vec<ResultNode>, Error> {
        let meta = self.meta().await?;
        let children = meta.map_or(Value::Null, |meta| meta.children);
        let children = children.as_array().map_or(&[][..], Vec::as_slice);
        Ok(node::nodes(&self.app, children))
    }

    /// Removes what is stored about the task and its parents.
    ///
    /// # Errors
    /// The backend is away, or there is none.
    pub async fn forget(&self) -> Result<(), Error> {
        ResultNode::Task(self.clone()).forget().await
    }

    /// Asks all workers not to start the task.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn revoke(&self) -> Result<(), Error> {
        self.app.revoke(&[&self.id]).await
    }
}
