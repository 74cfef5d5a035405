//! Tasks that run again.

#![expect(
    clippy::disallowed_names,
    reason = "Celery's tests call these parameters by their names"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use celeriac::protocol::exception::TaskException;
use celeriac::{AppBuilder, Context, Invocation, MaxRetries, Outcome, Retry, TaskOptions, clock};
use celery::task::TaskResult;
use serde_json::{Map, Value, json};

use super::{expected_exception, unpickleable_exception};
use crate::function::Function;

/// How often the task `retry` has run since it was last told to return; Python keeps it at the task.
#[derive(Debug, Default)]
struct Attempts(AtomicU32);

pub(super) fn register(app: AppBuilder) -> AppBuilder {
    let once = || TaskOptions {
        max_retries: Some(MaxRetries::Times(1)),
        ..TaskOptions::default()
    };
    let ignoring = |ignore_result| TaskOptions {
        ignore_result: Some(ignore_result),
        ..TaskOptions::default()
    };
    let quickly = || TaskOptions {
        default_retry_delay: Some(Duration::from_secs(1)),
        ..TaskOptions::default()
    };
    let expiring = TaskOptions {
        expires: Some(Duration::from_secs(120)),
        ..once()
    };
    let by_itself = TaskOptions {
        autoretry_for: vec!["ValueError".into()],
        retry_backoff: Some(Duration::from_secs(1)),
        ..once()
    };
    app.manage(Arc::new(Attempts::default()))
        .task_with::<retry>(quickly())
        .task_with::<retry_unpickleable>(quickly())
        .task_with::<retry_with_args_after_kwargs>(once())
        .task_with::<retry_with_kwargs_after_args>(once())
        .task_with::<retry_once_ignore_result>(ignoring(true))
        .task_with::<retry_once_with_result>(ignoring(false))
        .task_with::<auto_retry_class_task>(by_itself)
        .handler(Function::with(
            expiring,
            "t.integration.tasks.retry_once",
            retry_once,
        ))
        .handler(Function::with(
            once(),
            "t.integration.tasks.retry_once_priority",
            retry_once_priority,
        ))
        .handler(Function::with(
            once(),
            "t.integration.tasks.retry_once_headers",
            retry_once_headers,
        ))
}

/// With a value to return, that is returned in the fourth run.
#[celery::task(name = "t.integration.tasks.retry")]
async fn retry(return_value: Option<Value>) -> TaskResult<Value> {
    let context = context();
    if let Some(value) = return_value {
        let attempts = context.state::<Attempts>().expect("the app manages it");
        if attempts.0.fetch_add(1, Ordering::Relaxed) >= 3 {
            attempts.0.store(0, Ordering::Relaxed);
            return Ok(value);
        }
    }
    Err(context.retry(Retry {
        countdown: Some(Duration::from_secs(5)),
        ..Retry::because(expected_exception(Vec::new()))
    }))
}

#[celery::task(name = "t.integration.tasks.retry_unpickleable")]
async fn retry_unpickleable(
    foo: Value,
    bar: Value,
    retry_kwargs: Map<String, Value>,
) -> TaskResult<()> {
    log::debug!("{bar} is not told");
    Err(context().retry(Retry {
        exception: Some(unpickleable_exception(foo)),
        ..wish(&retry_kwargs, None)
    }))
}

/// What is newly given wins, and the rest stays.
#[celery::task(name = "t.integration.tasks.retry_with_args_after_kwargs")]
async fn retry_with_args_after_kwargs(
    foo: i64,
    bar: i64,
    label: Option<Value>,
) -> TaskResult<Value> {
    let context = context();
    if context.retries() == 0 {
        return Err(context.retry(Retry {
            args: Some(vec![json!(foo + 1), json!(bar + 1)]),
            countdown: Some(Duration::ZERO),
            ..Retry::default()
        }));
    }
    Ok(json!({
        "foo": foo, "bar": bar, "label": label, "retries": context.retries(), "is_eager": false,
    }))
}

#[celery::task(name = "t.integration.tasks.retry_with_kwargs_after_args")]
async fn retry_with_kwargs_after_args(foo: i64, bar: i64) -> TaskResult<Value> {
    let context = context();
    if context.retries() == 0 {
        return Err(context.retry(Retry {
            kwargs: json!({"foo": foo + 1}).as_object().cloned(),
            countdown: Some(Duration::ZERO),
            ..Retry::default()
        }));
    }
    Ok(json!({"foo": foo, "bar": bar, "retries": context.retries(), "is_eager": false}))
}

#[celery::task(name = "t.integration.tasks.retry_once_ignore_result")]
async fn retry_once_ignore_result() -> TaskResult<u64> {
    once_at_once()
}

#[celery::task(name = "t.integration.tasks.retry_once_with_result")]
async fn retry_once_with_result() -> TaskResult<u64> {
    once_at_once()
}

fn once_at_once() -> TaskResult<u64> {
    let context = context();
    match context.retries() {
        0 => Err(context.retry(Retry {
            countdown: Some(Duration::ZERO),
            ..Retry::default()
        })),
        retries => Ok(retries),
    }
}

/// Fails the first time; its options do the rest.
#[celery::task(name = "auto_retry_class_task")]
async fn auto_retry_class_task() -> TaskResult<u64> {
    let context = context();
    match context.retries() {
        0 => Err(context.raise(TaskException::new("builtins", "ValueError", Vec::new()))),
        retries => Ok(retries),
    }
}

/// `retry_once(*args, expires=None, max_retries=1, countdown=0.1)`.
async fn retry_once(call: Invocation) -> Outcome {
    again_or(&call, |context| json!(context.retries()))
}

/// `retry_once_priority(*args, expires=60.0, max_retries=1, countdown=0.1)`, which makes nothing of `expires`.
async fn retry_once_priority(mut call: Invocation) -> Outcome {
    call.kwargs.remove("expires");
    again_or(&call, |context| json!(context.properties().priority))
}

/// `retry_once_headers(*args, max_retries=1, countdown=0.1)`.
async fn retry_once_headers(call: Invocation) -> Outcome {
    again_or(&call, |context| {
        Value::Object(context.headers().extra.clone())
    })
}

fn again_or(call: &Invocation, then: impl FnOnce(&Context) -> Value) -> Outcome {
    match call.context.retries() {
        0 => wish(&call.kwargs, Some(Duration::from_millis(100))).into(),
        _ => Outcome::Success(then(&call.context)),
    }
}

/// A retry with the options that a caller names.
fn wish(options: &Map<String, Value>, countdown: Option<Duration>) -> Retry {
    let seconds = |name: &str| {
        let seconds = options.get(name).and_then(Value::as_f64)?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    let max_retries = options.get("max_retries").and_then(Value::as_u64);
    Retry {
        countdown: seconds("countdown").or(countdown),
        expires: seconds("expires").map(|after| clock::now() + after),
        max_retries: max_retries.and_then(|times| u32::try_from(times).ok()),
        ..Retry::default()
    }
}

fn context() -> Context {
    Context::current().expect("it runs as a task")
}
