//! Tasks that fail, and tasks that refuse their message.

#![expect(
    clippy::disallowed_names,
    reason = "Celery's tests call these parameters by their names"
)]

use celeriac::protocol::exception::TaskException;
use celeriac::{AppBuilder, Context, Invocation, Outcome, TaskOptions};
use celery::task::TaskResult;
use serde_json::{Value, json};

use super::{expected_exception, unpickleable_exception};
use crate::function::Function;

pub(super) fn register(app: AppBuilder) -> AppBuilder {
    let late = || TaskOptions {
        acks_late: Some(true),
        ..TaskOptions::default()
    };
    app.task::<fail_unpickleable>()
        .task_with::<reject_then_succeed>(late())
        .task_with::<store_success_then_reject>(late())
        .task::<reject_without_requeue>()
        .handler(Function::new("t.integration.tasks.fail", fail))
        .handler(Function::new(
            "t.integration.tasks.raise_error",
            raise_error,
        ))
}

/// `fail(*args)`.
async fn fail(call: Invocation) -> Outcome {
    let mut args = vec![json!("Task expected to fail")];
    args.extend(call.args);
    Outcome::failure(expected_exception(args))
}

/// `raise_error(*args)`.
async fn raise_error(_call: Invocation) -> Outcome {
    Outcome::failure(TaskException::builtin("ValueError", "deliberate error"))
}

#[celery::task(name = "t.integration.tasks.fail_unpickleable")]
async fn fail_unpickleable(foo: Value, bar: Value) -> TaskResult<()> {
    log::debug!("{bar} is not told");
    Err(context().raise(unpickleable_exception(foo)))
}

/// Refuses the first delivery, so that there is a second.
#[celery::task(name = "t.integration.tasks.reject_then_succeed")]
async fn reject_then_succeed() -> TaskResult<String> {
    let context = context();
    match context.is_redelivered() {
        true => Ok("second-pass".to_owned()),
        false => Err(context.reject("None", true)),
    }
}

/// As if the worker had died between storing and acknowledging.
#[celery::task(name = "t.integration.tasks.store_success_then_reject")]
async fn store_success_then_reject() -> TaskResult<String> {
    let context = context();
    if context.is_redelivered() {
        return Ok("dedup-pass".to_owned());
    }
    match context.update_state("SUCCESS", json!("first-pass")).await {
        Ok(()) => Err(context.reject("None", true)),
        Err(error) => Err(context.raise(TaskException::builtin("OSError", error.to_string()))),
    }
}

#[celery::task(name = "t.integration.tasks.reject_without_requeue")]
async fn reject_without_requeue() -> TaskResult<()> {
    Err(context().reject("rejected", false))
}

fn context() -> Context {
    Context::current().expect("it runs as a task")
}
