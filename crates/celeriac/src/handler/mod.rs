//! The seam between the engine and whatever a task is written with.
//!
//! A [`Handler`] is what Celery calls a task: a name, options and something to run. The engine knows
//! nothing else about tasks; `celery_task` turns a task made with the `celery` crate's macro
//! into one.
//!
//! - here: the trait, and how a run can end.
//! - `options`: what a task says about itself.
//! - `exception_kind`: what `except` names in Python.
//! - `rate_limit`: `10/s`.
//!
//! Counterpart: `celery/app/task.py` @ 5.7.0 (the options and what `retry`, `Ignore` and `Reject` mean).

mod exception_kind;
pub(crate) mod options;
mod rate_limit;

use std::time::Duration;

use async_trait::async_trait;
use celeriac_protocol::canvas::{self, Canvas};
use celeriac_protocol::exception::TaskException;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

pub use exception_kind::ExceptionKind;
pub use options::{DEFAULT_BACKOFF_MAX, DEFAULT_RETRY_DELAY, MaxRetries, TaskOptions};
pub use rate_limit::{RateLimit, RateLimitError};

use crate::canvas::Signature;
use crate::context::Context;

/// A task as the engine sees it.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The registered name, such as `worker.tasks.process_file_task`.
    fn name(&self) -> &str;

    /// What the task says about itself; a setting applies where it says nothing. Asked once, when the app is built.
    fn options(&self) -> TaskOptions {
        TaskOptions::default()
    }

    /// The names of its parameters, in their order; none for a task that takes whatever comes. They decide what a retry
    /// with other arguments keeps of the first ones.
    fn parameters(&self) -> &[&str] {
        &[]
    }

    /// Whether each run has a thread of its own, because it may never yield.
    fn needs_thread(&self) -> bool {
        false
    }

    /// As an errback it runs in the worker of the task that has failed, with the failed request, the exception and the
    /// traceback before its own arguments (or with its own alone, where the signature is immutable); what it returns
    /// is dropped. Otherwise a message is sent, with the id of what has failed.
    ///
    /// Celery goes by the number of parameters (`celery/backends/base.py::Backend._call_task_errbacks`).
    fn takes_failure(&self) -> bool {
        false
    }

    /// Runs the task once. A panic is caught by the executor and stored as a FAILURE.
    async fn run(&self, invocation: Invocation) -> Outcome;
}

/// One call of a task: the arguments as they came, and the context of the running request.
#[derive(Debug)]
pub struct Invocation {
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// The running request.
    pub context: Context,
}

/// How one run of a task ended.
#[derive(Debug)]
pub enum Outcome {
    /// The task returned this value.
    Success(Value),
    /// The task raised; final, as raising is in Python.
    Failure {
        /// What was raised.
        exception: TaskException,
        /// The text stored as `traceback`; the exception's own line when the task has none.
        traceback: Option<String>,
    },
    /// Send the task again.
    Retry(Box<Retry>),
    /// Store nothing, acknowledge (`celery.exceptions.Ignore`).
    Ignore,
    /// Send this instead: it has the task's id, and all that follows the task follows it (`Task.replace`).
    Replace(Box<Canvas>),
    /// The body of a chord fails; only `celery.chord_unlock` ends so.
    #[doc(hidden)]
    FailChord(Box<FailedChord>),
    /// Refuse this delivery (`celery.exceptions.Reject`).
    Reject {
        /// Why; goes to the log and, when not requeued, into the stored FAILURE.
        reason: String,
        /// Put the message back at the end of its queue.
        requeue: bool,
    },
}

impl Outcome {
    /// See [`Outcome::Replace`]; a failure where the signature cannot be written.
    pub fn replace(with: impl Into<Signature>) -> Self {
        match Canvas::try_from(with.into()) {
            Ok(canvas) => Self::Replace(Box::new(canvas)),
            Err(error) => Self::failure(TaskException::new(
                "kombu.exceptions",
                "EncodeError",
                vec![Value::from(error.to_string())],
            )),
        }
    }

    /// A failure without a traceback of its own.
    pub fn failure(exception: TaskException) -> Self {
        Self::Failure {
            exception,
            traceback: None,
        }
    }
}

/// A chord whose body is not to run.
#[doc(hidden)]
#[derive(Debug)]
pub struct FailedChord {
    /// The header's id.
    pub(crate) group: String,
    pub(crate) body: canvas::Signature,
    /// The text of the `ChordError`.
    pub(crate) why: String,
    pub(crate) cause: TaskException,
    /// The task that has found it out fails as well, with the cause.
    pub(crate) is_raised: bool,
}

impl From<Retry> for Outcome {
    fn from(retry: Retry) -> Self {
        Self::Retry(Box::new(retry))
    }
}

/// A wish to run again: same id, and everything that is not named here as it was.
///
/// Counterpart: `Task.retry` in `celery/app/task.py`.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// When to run again; wins over `countdown`.
    pub eta: Option<DateTime<Utc>>,
    /// How long to wait; the task's `default_retry_delay` when neither is given.
    pub countdown: Option<Duration>,
    /// How many counted retries are allowed, this time; the task's `max_retries` otherwise.
    pub max_retries: Option<u32>,
    /// The cause: shown in the log, stored with RETRY, and raised once the retries are used up.
    pub exception: Option<TaskException>,
    /// Does not use up a retry: for outages, which may delay a task but never fail it.
    pub is_uncounted: bool,
    /// Other positional arguments. Keyword arguments for the same parameters are dropped; the others stay.
    pub args: Option<Vec<Value>>,
    /// Other keyword arguments. Positional ones for the same parameters are replaced; the others stay.
    pub kwargs: Option<Map<String, Value>>,
    /// Another queue; the one that it came from otherwise.
    pub queue: Option<String>,
    /// Another priority.
    pub priority: Option<u8>,
    /// Another time after which it must not start.
    pub expires: Option<DateTime<Utc>>,
    /// Another hard time limit.
    pub time_limit: Option<Duration>,
    /// Another soft time limit.
    pub soft_time_limit: Option<Duration>,
    /// Further headers of one's own.
    pub headers: Map<String, Value>,
}

impl Retry {
    /// After the task's `default_retry_delay`, because of this.
    pub fn because(exception: TaskException) -> Self {
        Self {
            exception: Some(exception),
            ..Self::default()
        }
    }
}
