//! `process_file_task::new(path).delay(&app)`: the crate's signature, sent as Python's `.delay` sends.
//!
//! The crate writes arguments by keyword and leaves out most headers. So its message is caught on the
//! way and read, and ours is composed from it: positional arguments, all v2 headers.
//!
//! Counterpart: `celery/app/task.py::Task.delay` and `apply_async` @ 5.7.0.

use std::cell::RefCell;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_protocol::{Limits, json};
use celery::error::BrokerError;
use celery::protocol::Message;
use celery::task::{Signature, Task};
use serde_json::{Map, Value};

use super::crate_app::{CAPTURED, Captured};
use crate::app::{App, AsyncResult, SendError, SendOptions};

/// Sends a task made with `#[celery::task]`.
#[async_trait]
pub trait Delay {
    /// Sends the task now, with its own options.
    ///
    /// # Errors
    /// The broker is away, or the arguments are not JSON.
    async fn delay(self, app: &App) -> Result<AsyncResult, SendError>;

    /// Sends the task with these options; they win over those of the signature.
    ///
    /// # Errors
    /// As [`Self::delay`].
    async fn apply_async(self, app: &App, options: SendOptions) -> Result<AsyncResult, SendError>;
}

#[async_trait]
impl<T: Task + 'static> Delay for Signature<T> {
    async fn delay(self, app: &App) -> Result<AsyncResult, SendError> {
        self.apply_async(app, SendOptions::default()).await
    }

    async fn apply_async(self, app: &App, options: SendOptions) -> Result<AsyncResult, SendError> {
        let arguments = |reason: String| SendError::Arguments {
            task: T::NAME.to_owned(),
            reason,
        };
        let celery = app.crate_app().get(app).await;
        let celery = celery.map_err(|error| arguments(error.to_string()))?;
        let caught = CAPTURED
            .scope(RefCell::new(None), async {
                let sent = celery.send_task(self).await;
                sent.map(|_| CAPTURED.with(RefCell::take))
            })
            .await
            .map_err(|error| arguments(format!("{error:?}")))?
            .ok_or_else(|| arguments("the signature made no message".to_owned()))?;
        let args = positional(&caught.message).map_err(|error| arguments(error.to_string()))?;
        let defaults = (T::DEFAULTS.time_limit, T::DEFAULTS.hard_time_limit);
        let mut options = merged(options, &caught, defaults);
        // Unlike a name alone, a task says whether its result is wanted.
        let task = app.registered(T::NAME);
        let ignores = task.map_or(app.settings().task_ignore_result, |task| {
            task.effective.ignore_result
        });
        options.ignore_result.get_or_insert(ignores);
        app.send_task(T::NAME, args, Map::new(), options).await
    }
}

/// Sends what the crate's own `Celery::send_task` was given.
pub(super) async fn send_as_is(
    app: &App,
    message: &Message,
    queue: &str,
) -> Result<(), BrokerError> {
    let args = positional(message)?;
    let caught = Captured {
        message: message.clone(),
        queue: queue.to_owned(),
    };
    let mut options = merged(SendOptions::default(), &caught, (None, None));
    options.task_id = Some(message.headers.id.clone());
    let sent = app.send_task(&message.headers.task, args, Map::new(), options);
    match sent.await {
        Ok(_) => Ok(()),
        Err(error) => Err(BrokerError::IoError(std::io::Error::other(error))),
    }
}

/// The parameters in the order in which the task declares them, which is the order of its struct. The crate has written
/// them with serde_json, for which a float that is not finite is null.
fn positional(message: &Message) -> Result<Vec<Value>, serde_json::Error> {
    let (_, params, _): (Value, Map<String, Value>, Value) =
        json::parse_within(&Limits::NONE, "arguments", &message.raw_body)
            .map_err(serde::de::Error::custom)
            .and_then(celeriac_protocol::from_value)?;
    Ok(params.into_iter().map(|(_, value)| value).collect())
}

/// The signature's options where the caller's say nothing. Limits that stand in the task's definition
/// are the worker's business and do not travel.
fn merged(
    mut options: SendOptions,
    caught: &Captured,
    (soft_default, hard_default): (Option<u32>, Option<u32>),
) -> SendOptions {
    let headers = &caught.message.headers;
    let queue = Some(caught.queue.clone()).filter(|queue| !queue.is_empty());
    let limit = |limit: Option<u32>, default: Option<u32>| {
        let limit = limit.filter(|_| limit != default);
        limit.map(|seconds| Duration::from_secs(seconds.into()))
    };
    options.queue = options.queue.or(queue);
    options.expires = options.expires.or(headers.expires);
    if options.countdown.is_none() {
        options.eta = options.eta.or(headers.eta);
    }
    // In the crate the second of the pair is its soft limit, the first its hard one.
    let (hard, soft) = headers.timelimit;
    options.soft_time_limit = options.soft_time_limit.or(limit(soft, soft_default));
    options.time_limit = options.time_limit.or(limit(hard, hard_default));
    options
}
