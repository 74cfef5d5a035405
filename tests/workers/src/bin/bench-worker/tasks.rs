//! The tasks that the benchmark calls, by their names there, written as handlers of our own: they are short and wait for
//! nothing but the network, so they need no thread of their own. `bench.macro` is `bench.noop` by the crate's macro.

use std::sync::Arc;

use async_trait::async_trait;
use celeriac::protocol::exception::TaskException;
use celeriac::{AppBuilder, Handler, Invocation, Outcome, clock};
use celeriac_test_workers::Sink;
use celery::task::TaskResult;
use serde_json::{Value, json};

pub(crate) fn register(app: AppBuilder, sink: &Arc<Sink>) -> AppBuilder {
    let task = |name, work| Task {
        name,
        work,
        sink: Arc::clone(sink),
    };
    app.handler(task("bench.noop", Work::Nothing))
        .handler(task("bench.add", Work::Add))
        .handler(task("bench.incr", Work::Count))
        .handler(task("bench.mark", Work::Mark))
        .handler(task("bench.stamp", Work::Stamp))
        .task::<noop>()
}

#[celery::task(name = "bench.macro")]
async fn noop() -> TaskResult<()> {
    Ok(())
}

enum Work {
    Nothing,
    /// Returns the sum of two numbers.
    Add,
    Count,
    /// Leaves the time at which it ran.
    Mark,
    /// Leaves how many seconds have passed since it was sent.
    Stamp,
}

struct Task {
    name: &'static str,
    work: Work,
    sink: Arc<Sink>,
}

#[async_trait]
impl Handler for Task {
    fn name(&self) -> &str {
        self.name
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let traced = match self.work {
            Work::Nothing => return Outcome::Success(Value::Null),
            Work::Add => return sum(&invocation),
            Work::Count => self.sink.count("bench:count").await,
            Work::Mark => self.leave("bench:mark", now()).await,
            Work::Stamp => match argument(&invocation, 0, "t0").and_then(Value::as_f64) {
                Some(sent) => self.leave("bench:lat", now() - sent).await,
                None => return refused("stamp() needs a number: t0"),
            },
        };
        match traced {
            Ok(()) => Outcome::Success(Value::Null),
            Err(error) => {
                Outcome::failure(TaskException::builtin("ConnectionError", error.to_string()))
            }
        }
    }
}

impl Task {
    async fn leave(&self, key: &str, seconds: f64) -> redis::RedisResult<()> {
        self.sink.push(key, &format!("{seconds:.6}")).await
    }
}

fn sum(invocation: &Invocation) -> Outcome {
    let number = |index, name| argument(invocation, index, name).and_then(Value::as_i64);
    match (number(0, "x"), number(1, "y")) {
        (Some(x), Some(y)) => Outcome::Success(json!(x + y)),
        _ => refused("add() needs two numbers: x, y"),
    }
}

/// By its place, or by its name.
fn argument<'a>(invocation: &'a Invocation, index: usize, name: &str) -> Option<&'a Value> {
    let by_place = invocation.args.get(index);
    by_place.or_else(|| invocation.kwargs.get(name))
}

fn refused(text: &str) -> Outcome {
    Outcome::failure(TaskException::type_error(text.to_owned()))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of this century fit"
)]
fn now() -> f64 {
    clock::now().timestamp_micros() as f64 / 1e6
}
