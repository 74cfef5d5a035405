//! The tasks that the fault harness calls, by their names there.

use std::time::Duration;

use celeriac::protocol::exception::TaskException;
use celeriac::{AppBuilder, Context, Retry};
use celery::error::TaskError;
use celery::task::TaskResult;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::Value;

use celeriac_test_workers::Sink;

pub(crate) fn register(app: AppBuilder) -> AppBuilder {
    app.task::<append>()
        .task::<sleep_append>()
        .task::<flaky>()
        .task::<poison>()
        .task::<fail>()
        .task::<add>()
        .task::<collect>()
}

#[celery::task(name = "fault.append")]
async fn append(key: String, value: Value) -> TaskResult<Value> {
    push(&key, &value).await?;
    Ok(value)
}

#[celery::task(name = "fault.sleep_append")]
async fn sleep_append(key: String, value: Value, seconds: f64) -> TaskResult<Value> {
    push(&format!("{key}:started"), &value).await?;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    push(&key, &value).await?;
    Ok(value)
}

/// Runs well after `n` retries.
#[celery::task(name = "fault.flaky")]
async fn flaky(key: String, value: Value, n: u64) -> TaskResult<Value> {
    push(&format!("{key}:attempts"), &value).await?;
    let context = context();
    if context.retries() < n {
        return Err(context.retry(Retry {
            countdown: Some(Duration::from_millis(200)),
            max_retries: Some(u32::MAX),
            ..Retry::default()
        }));
    }
    push(&key, &value).await?;
    Ok(value)
}

/// Ends the process that runs it, as the kernel would.
#[celery::task(name = "fault.poison")]
async fn poison(key: String, value: Value) -> TaskResult<()> {
    push(&key, &value).await?;
    let killed = kill_process(getpid(), Signal::KILL);
    Err(raise("OSError", format!("cannot kill myself: {killed:?}")))
}

#[celery::task(name = "fault.fail")]
async fn fail(key: String, value: Value) -> TaskResult<()> {
    push(&key, &value).await?;
    Err(raise("ValueError", format!("fault.fail {}", text(&value))))
}

#[celery::task(name = "fault.add")]
fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

/// The body of a chord.
#[celery::task(name = "fault.collect")]
async fn collect(results: Vec<i64>, key: String) -> TaskResult<i64> {
    let sum = results.iter().sum();
    push(&key, &Value::from(sum)).await?;
    Ok(sum)
}

async fn push(key: &str, value: &Value) -> Result<(), TaskError> {
    let sink = context().state::<Sink>().expect("the app manages a sink");
    let pushed = sink.push(key, &text(value)).await;
    pushed.map_err(|error| raise("ConnectionError", error.to_string()))
}

/// As redis-py writes it: text as it is, other values as Python prints them.
fn text(value: &Value) -> String {
    let text = value.as_str().map(ToOwned::to_owned);
    text.unwrap_or_else(|| celeriac::protocol::repr::repr_value(value))
}

fn raise(exc_type: &str, text: String) -> TaskError {
    context().raise(TaskException::builtin(exc_type, text))
}

fn context() -> Context {
    Context::current().expect("runs as a task")
}
