//! The seam between the engine and whatever a task is written with.
//!
//! A [`Handler`] is what Celery calls a task: a name, options and something to run. The engine knows
//! nothing else about tasks; `celery_task` turns a task made with the `celery` crate's macro
//! into one.
//!
//! Counterpart: `celery/app/task.py` @ 5.7.0 (the options and what `retry`, `Ignore` and `Reject` mean).

use std::time::Duration;

use async_trait::async_trait;
use celeriac_protocol::exception::TaskException;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::context::Context;

/// `Task.default_retry_delay`: three minutes.
pub const DEFAULT_RETRY_DELAY: Duration = Duration::from_secs(180);

/// `Task.max_retries`.
pub const DEFAULT_MAX_RETRIES: u32 = 3;

/// A task as the engine sees it.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The registered name, such as `worker.tasks.process_file_task`.
    fn name(&self) -> &str;

    /// What the task says about itself; a setting applies where it says nothing.
    fn options(&self) -> TaskOptions {
        TaskOptions::default()
    }

    /// Runs the task once. A panic is caught by the executor and stored as a FAILURE.
    async fn run(&self, invocation: Invocation) -> Outcome;
}

/// What a task may decide for itself. `None`: the setting of the app decides.
#[derive(Debug, Clone, Default)]
pub struct TaskOptions {
    /// Acknowledge after the task has ended instead of just before it starts (`task_acks_late`).
    pub acks_late: Option<bool>,
    /// Store no result (`task_ignore_result`).
    pub ignore_result: Option<bool>,
    /// Store STARTED when the task starts (`task_track_started`).
    pub track_started: Option<bool>,
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
    Retry(Retry),
    /// Store nothing, acknowledge (`celery.exceptions.Ignore`).
    Ignore,
    /// Refuse this delivery (`celery.exceptions.Reject`).
    Reject {
        /// Why; goes to the log and, when not requeued, into the stored FAILURE.
        reason: String,
        /// Put the message back at the end of its queue.
        requeue: bool,
    },
}

impl Outcome {
    /// A failure without a traceback of its own.
    pub fn failure(exception: TaskException) -> Self {
        Self::Failure {
            exception,
            traceback: None,
        }
    }
}

/// A wish to run again: same id, same arguments.
///
/// Counterpart: `Task.retry` in `celery/app/task.py`.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// When to run again; wins over `countdown`.
    pub eta: Option<DateTime<Utc>>,
    /// How long to wait; [`DEFAULT_RETRY_DELAY`] when neither is given.
    pub countdown: Option<Duration>,
    /// How many counted retries are allowed; `None` is [`DEFAULT_MAX_RETRIES`].
    pub max_retries: Option<u32>,
    /// The cause: shown in the log, stored with RETRY, and raised once the retries are used up.
    pub exception: Option<TaskException>,
    /// Does not use up a retry: for outages, which may delay a task but never fail it.
    pub is_uncounted: bool,
}
