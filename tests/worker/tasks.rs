//! Tasks of every kind: with the crate's macro, and as handlers of our own.

use std::time::Duration;

use async_trait::async_trait;
use celeriac::protocol::exception::TaskException;
use celeriac::{
    AppBuilder, Context, Handler, Invocation, Outcome, Retry, SendOptions, TaskOptions,
};
use celery::error::TaskError;
use celery::task::TaskResult;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Map, Value, json};

/// All of them.
pub(crate) fn register(app: AppBuilder) -> AppBuilder {
    app.task::<add>()
        .task::<total>()
        .task::<identity>()
        .task::<boom>()
        .task::<flaky>()
        .task::<expected>()
        .task::<nap>()
        .task::<parent>()
        .task::<custom>()
        .task::<caused>()
        .task::<progress>()
        .handler(Echo)
        .handler(Panics)
        .handler(Refuses)
        .handler(RefusesOnce)
        .handler(NapLate)
        .handler(Stubborn)
        .handler(WaitLate)
        .handler(DiesLate)
}

#[celery::task(name = "proj.add")]
fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celery::task(name = "proj.total")]
fn total(values: Vec<i64>) -> TaskResult<i64> {
    Ok(values.into_iter().sum())
}

#[celery::task(name = "proj.identity")]
fn identity(value: Value) -> TaskResult<Value> {
    Ok(value)
}

/// Raises what the caller names.
#[celery::task(name = "proj.boom")]
fn boom(exc_type: String, text: String) -> TaskResult<()> {
    let context = Context::current().expect("runs as a task");
    Err(context.raise(TaskException::builtin(exc_type, text)))
}

/// Raises an exception of the caller's own, with two arguments.
#[celery::task(name = "proj.custom")]
fn custom() -> TaskResult<()> {
    let context = Context::current().expect("runs as a task");
    let args = vec![json!("bad"), json!(7)];
    Err(context.raise(TaskException::new("documents", "ProjError", args)))
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the header")]
struct HeaderError {
    source: std::io::Error,
}

/// Fails for a reason that has a reason.
#[celery::task(name = "proj.caused")]
fn caused() -> TaskResult<()> {
    let context = Context::current().expect("runs as a task");
    let source = std::io::Error::other("no such disk");
    let exception = TaskException::builtin("OSError", "cannot load a.csv");
    Err(context.raise_from(exception, &HeaderError { source }))
}

/// Says how far it is.
#[celery::task(name = "proj.progress")]
async fn progress() -> TaskResult<()> {
    let context = Context::current().expect("runs as a task");
    let stored = context.update_state("PROGRESS", json!({"done": 1, "of": 2}));
    match stored.await {
        Ok(()) => Ok(()),
        Err(error) => Err(context.raise(TaskException::builtin("OSError", error.to_string()))),
    }
}

/// Fails until it has been retried `times` times.
#[celery::task(name = "proj.flaky")]
fn flaky(times: u64, max_retries: u32) -> TaskResult<u64> {
    let context = Context::current().expect("runs as a task");
    if context.retries() >= times {
        return Ok(context.retries());
    }
    Err(context.retry(Retry {
        countdown: Some(Duration::from_millis(500)),
        max_retries: Some(max_retries),
        exception: Some(TaskException::builtin("KeyError", "nope")),
        ..Retry::default()
    }))
}

/// Fails with the crate's own error.
#[celery::task(name = "proj.expected", max_retries = 0)]
fn expected() -> TaskResult<()> {
    Err(TaskError::ExpectedError("as expected".to_owned()))
}

#[celery::task(name = "proj.nap")]
async fn nap(seconds: f64) -> TaskResult<f64> {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Ok(seconds)
}

/// Sends a task from inside a task.
#[celery::task(name = "proj.parent")]
async fn parent() -> TaskResult<String> {
    let context = Context::current().expect("runs as a task");
    let args = vec![json!(2), json!(2)];
    let sent = context
        .app()
        .send_task("proj.add", args, Map::new(), SendOptions::default())
        .await;
    match sent {
        Ok(child) => Ok(child.id().to_owned()),
        Err(error) => Err(context.raise(TaskException::builtin("OSError", error.to_string()))),
    }
}

/// Returns what it was given, whatever that is.
struct Echo;

#[async_trait]
impl Handler for Echo {
    fn name(&self) -> &str {
        "proj.echo"
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let Invocation {
            args,
            kwargs,
            context,
        } = invocation;
        let headers = Value::Object(context.headers().extra.clone());
        Outcome::Success(json!({"args": args, "kwargs": kwargs, "headers": headers}))
    }
}

struct Panics;

#[async_trait]
impl Handler for Panics {
    fn name(&self) -> &str {
        "proj.panics"
    }

    async fn run(&self, _invocation: Invocation) -> Outcome {
        panic!("on purpose")
    }
}

/// Never yields, for so many seconds.
struct Stubborn;

#[async_trait]
impl Handler for Stubborn {
    fn name(&self) -> &str {
        "proj.stubborn"
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let seconds = invocation.args[0].as_f64().unwrap_or_default();
        #[expect(clippy::disallowed_methods, reason = "that is what it is for")]
        std::thread::sleep(Duration::from_secs_f64(seconds));
        Outcome::Success(Value::Null)
    }
}

struct Refuses;

#[async_trait]
impl Handler for Refuses {
    fn name(&self) -> &str {
        "proj.refuses"
    }

    async fn run(&self, _invocation: Invocation) -> Outcome {
        Outcome::Reject {
            reason: "bad".to_owned(),
            requeue: false,
        }
    }
}

/// Goes back to its queue the first time.
struct RefusesOnce;

#[async_trait]
impl Handler for RefusesOnce {
    fn name(&self) -> &str {
        "proj.refuses_once"
    }

    fn options(&self) -> TaskOptions {
        TaskOptions {
            acks_late: Some(true),
            ..TaskOptions::default()
        }
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        if invocation.context.is_redelivered() {
            return Outcome::Success(json!("taken"));
        }
        Outcome::Reject {
            reason: "later".to_owned(),
            requeue: true,
        }
    }
}

/// Sleeps, and is acknowledged only afterwards.
struct NapLate;

#[async_trait]
impl Handler for NapLate {
    fn name(&self) -> &str {
        "proj.nap_late"
    }

    fn options(&self) -> TaskOptions {
        TaskOptions {
            acks_late: Some(true),
            ..TaskOptions::default()
        }
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let seconds = invocation
            .args
            .first()
            .and_then(Value::as_f64)
            .unwrap_or(1.0);
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Outcome::Success(json!(seconds))
    }
}

/// Ends the process that runs it, as the kernel would.
struct DiesLate;

#[async_trait]
impl Handler for DiesLate {
    fn name(&self) -> &str {
        "proj.dies_late"
    }

    fn options(&self) -> TaskOptions {
        TaskOptions {
            acks_late: Some(true),
            ..TaskOptions::default()
        }
    }

    async fn run(&self, _invocation: Invocation) -> Outcome {
        let killed = kill_process(getpid(), Signal::KILL);
        let text = format!("cannot kill myself: {killed:?}");
        Outcome::failure(TaskException::builtin("OSError", text))
    }
}

/// Ends when the file at its path appears, and is acknowledged only then: a test decides when that is.
struct WaitLate;

#[async_trait]
impl Handler for WaitLate {
    fn name(&self) -> &str {
        "proj.wait_late"
    }

    fn options(&self) -> TaskOptions {
        TaskOptions {
            acks_late: Some(true),
            ..TaskOptions::default()
        }
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let path = invocation.args.first().and_then(Value::as_str);
        let path = path.unwrap_or_default().to_owned();
        while !std::path::Path::new(&path).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Outcome::Success(json!(path))
    }
}
