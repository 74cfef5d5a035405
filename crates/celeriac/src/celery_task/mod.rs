//! Tasks made with the `celery` crate's macro, as handlers: the one room that knows the crate.
//!
//! - here: running such a task, and the typed errors that its own error type has no word for.
//! - `arguments`: binding arguments to parameters as Python does.
//! - `crate_app`: the crate's `Celery`, which its tasks insist on.
//! - `delay`: `task::new(…).delay(&app)`; `signatures`: `task::s((…))`.
//!
//! What the crate does itself is used where it is right (`from_request`, `run`, `on_success`,
//! `on_failure`, `retry_eta`); its brokers and its worker loop are not.
//!
//! Deliberate difference from the crate: a task without `max_retries` is retried three times, as in
//! Celery, not for ever.

mod arguments;
mod crate_app;
mod delay;
mod signatures;

use std::marker::PhantomData;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_protocol::exception::TaskException;
use celery::error::TaskError;
use celery::protocol::{Message, MessageHeaders, MessageProperties};
use celery::task::{Request, Task};
use serde::Serialize;
use serde_json::Value;

pub(crate) use crate_app::CrateApp;
pub use delay::Delay;
pub use signatures::TaskSignature;

use crate::canvas::Signature;
use crate::context::Context;
use crate::executor;
use crate::handler::{Handler, Invocation, MaxRetries, Outcome, Retry, TaskOptions};

impl Context {
    /// Ends the task as FAILURE with this exception: `return Err(ctx.raise(…))`.
    pub fn raise(&self, exception: TaskException) -> TaskError {
        let text = exception.repr();
        self.decide(Outcome::failure(exception));
        TaskError::UnexpectedError(text)
    }

    /// As [`Self::raise`]; the traceback shows the error that has led to it, and its causes.
    pub fn raise_from(
        &self,
        exception: TaskException,
        error: &(dyn std::error::Error + 'static),
    ) -> TaskError {
        let text = exception.repr();
        self.decide(Outcome::failure_from(exception, error));
        TaskError::UnexpectedError(text)
    }

    /// Asks for a retry: `return Err(ctx.retry(…))`.
    pub fn retry(&self, retry: Retry) -> TaskError {
        self.decide(retry.into());
        TaskError::Retry(None)
    }

    /// Sends a signature in place of this task: `return Err(ctx.replace(…))`. It gets the task's id, and all that follows the
    /// task follows it.
    pub fn replace(&self, with: impl Into<Signature>) -> TaskError {
        self.decide(Outcome::replace(with));
        TaskError::UnexpectedError("replaced".to_owned())
    }

    /// Ends the task without storing anything: `return Err(ctx.ignore())`.
    pub fn ignore(&self) -> TaskError {
        self.decide(Outcome::Ignore);
        TaskError::UnexpectedError("ignored".to_owned())
    }

    /// Refuses the message: `return Err(ctx.reject(…))`. Requeued, it goes to the end of its queue.
    pub fn reject(&self, reason: impl Into<String>, requeue: bool) -> TaskError {
        let reason = reason.into();
        self.decide(Outcome::Reject {
            reason: reason.clone(),
            requeue,
        });
        TaskError::UnexpectedError(reason)
    }
}

/// A task of the crate, as a handler.
pub(crate) struct CeleryTask<T> {
    options: TaskOptions,
    task: PhantomData<fn() -> T>,
}

impl<T: Task> CeleryTask<T> {
    /// What the crate calls a time limit is Celery's soft one.
    pub(crate) fn new(options: TaskOptions) -> Self {
        let seconds =
            |seconds: Option<u32>| seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let of_macro = T::DEFAULTS;
        Self {
            options: TaskOptions {
                acks_late: options.acks_late.or(of_macro.acks_late),
                soft_time_limit: options.soft_time_limit.or(seconds(of_macro.time_limit)),
                time_limit: options.time_limit.or(seconds(of_macro.hard_time_limit)),
                max_retries: options
                    .max_retries
                    .or(of_macro.max_retries.map(MaxRetries::Times)),
                ..options
            },
            task: PhantomData,
        }
    }
}

#[async_trait]
impl<T> Handler for CeleryTask<T>
where
    T: Task + 'static,
    T::Returns: Serialize,
{
    fn name(&self) -> &str {
        T::NAME
    }

    fn options(&self) -> TaskOptions {
        self.options.clone()
    }

    fn parameters(&self) -> &[&str] {
        T::ARGS
    }

    fn needs_thread(&self) -> bool {
        true
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let Invocation {
            args,
            kwargs,
            context,
        } = invocation;
        let bound = arguments::bind(T::NAME, T::ARGS, args, kwargs);
        let params: T::Params = match bound.and_then(arguments::Bound::convert) {
            Ok(params) => params,
            Err(text) => return Outcome::failure(TaskException::type_error(text)),
        };
        let app = match context.app().crate_app().get(context.app()).await {
            Ok(app) => app,
            Err(error) => {
                return Outcome::failure(TaskException::builtin("OSError", error.to_string()));
            }
        };
        let request = Request::<T>::new(app, message(&context), params.clone());
        let task = T::from_request(request, T::DEFAULTS);
        let run = run_once(task, params, context.clone());
        // The macro hides whether the function is async; one that is not would hold up the runtime.
        executor::on_own_thread(context, run).await
    }
}

async fn run_once<T>(task: T, params: T::Params, context: Context) -> Outcome
where
    T: Task + 'static,
    T::Returns: Serialize,
{
    match task.run(params).await {
        Ok(returned) => {
            task.on_success(&returned).await;
            match celeriac_protocol::to_value(&returned) {
                Ok(value) => Outcome::Success(value),
                // kombu's EncodeError: the task ran, its value cannot be stored.
                Err(error) => Outcome::failure(TaskException::new(
                    "kombu.exceptions",
                    "EncodeError",
                    vec![Value::from(error.to_string())],
                )),
            }
        }
        Err(error) => {
            let outcome = context
                .take_decision()
                .unwrap_or_else(|| untyped(&task, &error));
            if matches!(outcome, Outcome::Failure { .. }) {
                task.on_failure(&error).await;
            }
            outcome
        }
    }
}

/// What the crate's own errors mean: retried while the task allows it, as the crate documents.
fn untyped<T: Task>(task: &T, error: &TaskError) -> Outcome {
    let (kind, text) = match error {
        TaskError::ExpectedError(text) => ("ExpectedError", text.clone()),
        TaskError::UnexpectedError(text) => ("UnexpectedError", text.clone()),
        TaskError::TimeoutError => ("TimeoutError", "task timed out".to_owned()),
        TaskError::Retry(eta) => {
            return Outcome::from(Retry {
                eta: eta.or_else(|| task.retry_eta()),
                ..Retry::default()
            });
        }
    };
    let exception = TaskException::new("celery.error", kind, vec![Value::from(text)]);
    if kind == "UnexpectedError" && !task.retry_for_unexpected() {
        return Outcome::failure(exception);
    }
    Outcome::from(Retry {
        eta: task.retry_eta(),
        exception: Some(exception),
        ..Retry::default()
    })
}

/// The request in the crate's words. Its body is empty: the arguments are bound by us.
fn message(context: &Context) -> Message {
    let headers = context.headers();
    let seconds = |limit: Option<Duration>| {
        limit.map(|limit| u32::try_from(limit.as_secs()).unwrap_or(u32::MAX))
    };
    Message {
        properties: MessageProperties {
            correlation_id: context.id().to_owned(),
            content_type: "application/json".to_owned(),
            content_encoding: "utf-8".to_owned(),
            reply_to: None,
        },
        headers: MessageHeaders {
            id: context.id().to_owned(),
            task: headers.task.clone(),
            lang: headers.lang.clone(),
            root_id: headers.root_id.clone(),
            parent_id: headers.parent_id.clone(),
            group: headers.group.clone(),
            meth: None,
            shadow: headers.shadow.clone(),
            eta: headers.eta_time().ok().flatten(),
            expires: headers.expires_time().ok().flatten(),
            retries: Some(u32::try_from(headers.retries).unwrap_or(u32::MAX)),
            timelimit: (
                seconds(headers.timelimit.soft_duration()),
                seconds(headers.timelimit.hard_duration()),
            ),
            argsrepr: headers.argsrepr.clone(),
            kwargsrepr: headers.kwargsrepr.clone(),
            origin: headers.origin.clone(),
        },
        raw_body: Vec::new(),
    }
}
