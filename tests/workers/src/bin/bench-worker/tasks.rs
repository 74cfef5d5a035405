//! The tasks that the benchmark calls, by their names there.

use celeriac::protocol::exception::TaskException;
use celeriac::{AppBuilder, Context, clock};
use celeriac_test_workers::Sink;
use celery::error::TaskError;
use celery::task::TaskResult;

pub(crate) fn register(app: AppBuilder) -> AppBuilder {
    app.task::<noop>()
        .task::<add>()
        .task::<incr>()
        .task::<mark>()
        .task::<stamp>()
}

#[celery::task(name = "bench.noop")]
async fn noop() -> TaskResult<()> {
    Ok(())
}

#[celery::task(name = "bench.add")]
async fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celery::task(name = "bench.incr")]
async fn incr() -> TaskResult<()> {
    let sink = sink();
    sink.count("bench:count")
        .await
        .map_err(|error| raise(&error))
}

/// Leaves the time at which it ran.
#[celery::task(name = "bench.mark")]
async fn mark() -> TaskResult<()> {
    push("bench:mark", now()).await
}

/// Leaves how many seconds have passed since it was sent.
#[celery::task(name = "bench.stamp")]
async fn stamp(t0: f64) -> TaskResult<()> {
    push("bench:lat", now() - t0).await
}

async fn push(key: &str, seconds: f64) -> TaskResult<()> {
    let pushed = sink().push(key, &format!("{seconds:.6}")).await;
    pushed.map_err(|error| raise(&error))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of this century fit"
)]
fn now() -> f64 {
    clock::now().timestamp_micros() as f64 / 1e6
}

fn sink() -> std::sync::Arc<Sink> {
    let context = Context::current().expect("runs as a task");
    context.state::<Sink>().expect("the app manages a sink")
}

fn raise(error: &redis::RedisError) -> TaskError {
    let context = Context::current().expect("runs as a task");
    context.raise(TaskException::builtin("ConnectionError", error.to_string()))
}
