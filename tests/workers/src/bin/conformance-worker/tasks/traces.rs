//! Tasks that leave traces in the harness's Redis.

use celeriac::protocol::exception::TaskException;
use celeriac::{AppBuilder, Context};
use celeriac_test_workers::Sink;
use celery::error::TaskError;
use celery::task::TaskResult;
use serde_json::{Value, json};

pub(super) fn register(app: AppBuilder) -> AppBuilder {
    app.task::<redis_echo>()
        .task::<redis_echo_group_id>()
        .task::<redis_count>()
        .task::<sum_and_record>()
        .task::<errback_old_style>()
        .task::<errback_old_style_with_args>()
}

#[celery::task(name = "t.integration.tasks.redis_echo")]
async fn redis_echo(message: Value, redis_key: Option<String>) -> TaskResult<()> {
    push(redis_key.as_deref().unwrap_or("redis-echo"), &message).await
}

#[celery::task(name = "t.integration.tasks.redis_echo_group_id")]
async fn redis_echo_group_id(_result: Value, redis_key: Option<String>) -> TaskResult<()> {
    let group = json!(context().group());
    push(redis_key.as_deref().unwrap_or("redis-group-ids"), &group).await
}

#[celery::task(name = "t.integration.tasks.redis_count")]
async fn redis_count(redis_key: Option<String>) -> TaskResult<()> {
    count(redis_key.as_deref().unwrap_or("redis-count")).await
}

#[celery::task(name = "t.integration.tasks.sum_and_record")]
async fn sum_and_record(values: Vec<i64>, redis_key: String) -> TaskResult<i64> {
    let id = json!(context().id());
    push(&redis_key, &id).await?;
    Ok(values.iter().sum())
}

#[celery::task(name = "t.integration.tasks.errback_old_style")]
async fn errback_old_style(request_id: String) -> TaskResult<String> {
    count(&request_id).await?;
    Ok(request_id)
}

#[celery::task(name = "t.integration.tasks.errback_old_style_with_args")]
async fn errback_old_style_with_args(request_id: String, label: Value) -> TaskResult<()> {
    push(&request_id, &label).await
}

/// As redis-py writes it: texts and numbers, nothing else.
async fn push(key: &str, value: &Value) -> TaskResult<()> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => {
            let text = "Invalid input: convert to a bytes, string, int or float first.";
            let exception = TaskException::new("redis.exceptions", "DataError", vec![json!(text)]);
            return Err(context().raise(exception));
        }
    };
    sink().push(key, &text).await.map_err(unreachable)
}

async fn count(key: &str) -> TaskResult<()> {
    sink().count(key).await.map_err(unreachable)
}

fn sink() -> std::sync::Arc<Sink> {
    context().state().expect("the app manages a sink")
}

fn unreachable(error: impl std::fmt::Display) -> TaskError {
    context().raise(TaskException::builtin("ConnectionError", error.to_string()))
}

fn context() -> Context {
    Context::current().expect("it runs as a task")
}
