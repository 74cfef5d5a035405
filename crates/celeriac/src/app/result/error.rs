//! Why there is no value.
//!
//! Counterpart: what `AsyncResult.get` raises in `celery/result.py` @ 5.7.0.

use std::time::Duration;

use celeriac_protocol::exception::TaskException;
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::transport::Error;

/// Why [`AsyncResult::get`](super::AsyncResult::get) has no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// The task has failed. Permanent: sending it anew is another task.
    #[error("task {id} has failed: {}", exception.repr())]
    Failed {
        /// The task's id.
        id: String,
        /// What was raised: type, module and arguments.
        exception: TaskException,
        /// Python's or our traceback.
        traceback: Option<String>,
    },
    /// The task was revoked, has expired or was terminated. Permanent.
    #[error("task {id} was not run to its end: {}", exception.repr())]
    Revoked {
        /// The task's id.
        id: String,
        /// `TaskRevokedError`, with the reason.
        exception: TaskException,
    },
    /// It is not ready yet. The task goes on; ask again.
    #[error("The operation timed out: task {id} is not ready after {timeout:?}.")]
    Timeout {
        /// The task's id.
        id: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The task has succeeded with a value of another type.
    #[error("the result of task {id} is not what was asked for: {reason}")]
    Value {
        /// The task's id.
        id: String,
        /// What does not fit.
        reason: String,
    },
    /// The backend cannot be asked. Nothing was lost; ask again, if [`ResultError::is_transient`].
    #[error("cannot ask for the result of task {id}: {source}")]
    Backend {
        /// The task's id.
        id: String,
        /// The cause.
        source: Error,
    },
    /// It was called inside a task, where it may wait for ever. See [`AsyncResult::allow_join`](super::AsyncResult::allow_join).
    #[error(
        "Never call result.get() within a task!\n\
         See https://docs.celeryq.dev/en/latest/userguide/tasks.html#avoid-launching-synchronous-subtasks"
    )]
    WouldBlock,
}

impl ResultError {
    /// Asking again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Backend { source, .. } => source.is_transient(),
            _ => false,
        }
    }

    /// What the task has raised.
    pub fn exception(&self) -> Option<&TaskException> {
        match self {
            Self::Failed { exception, .. } | Self::Revoked { exception, .. } => Some(exception),
            _ => None,
        }
    }
}

/// The value of a task that is ready, or how it has failed.
pub(super) fn outcome(meta: TaskMeta) -> Result<Value, ResultError> {
    let exception = || {
        let found = meta.exception();
        // Somebody has written something of his own.
        found.unwrap_or_else(|| {
            TaskException::new("builtins", "Exception", vec![meta.result.clone()])
        })
    };
    match meta.status {
        State::Failure => Err(ResultError::Failed {
            exception: exception(),
            id: meta.task_id,
            traceback: meta.traceback,
        }),
        State::Revoked => Err(ResultError::Revoked {
            exception: exception(),
            id: meta.task_id,
        }),
        _ => Ok(meta.result),
    }
}

/// A value as what was asked for.
pub(super) fn value<T: DeserializeOwned>(id: &str, value: Value) -> Result<T, ResultError> {
    celeriac_protocol::from_value(value).map_err(|error| ResultError::Value {
        id: id.to_owned(),
        reason: error.to_string(),
    })
}
