//! Tasks that leave traces in the harness's Redis.

use std::sync::Arc;

use celeriac::protocol::exception::TaskException;
use celeriac::{AppBuilder, Context, Invocation, Outcome};
use celeriac_test_workers::Sink;
use celery::task::TaskResult;
use serde_json::{Value, json};

use crate::function::{Function, bind};

pub(super) fn register(app: AppBuilder) -> AppBuilder {
    app.task::<redis_echo>()
        .task::<redis_echo_group_id>()
        .task::<redis_count>()
        .task::<sum_and_record>()
        .task::<errback_old_style>()
        .task::<errback_old_style_with_args>()
        .handler(
            Function::new("t.integration.tasks.errback_new_style", errback_new_style)
                .taking_failure(),
        )
        .handler(
            Function::new(
                "t.integration.tasks.errback_new_style_with_args",
                errback_new_style_with_args,
            )
            .taking_failure(),
        )
}

#[celery::task(name = "t.integration.tasks.redis_echo")]
async fn redis_echo(message: Value, redis_key: Option<String>) -> TaskResult<()> {
    leave(redis_key.as_deref().unwrap_or("redis-echo"), &message).await
}

#[celery::task(name = "t.integration.tasks.redis_echo_group_id")]
async fn redis_echo_group_id(_result: Value, redis_key: Option<String>) -> TaskResult<()> {
    let group = json!(context().group());
    leave(redis_key.as_deref().unwrap_or("redis-group-ids"), &group).await
}

#[celery::task(name = "t.integration.tasks.redis_count")]
async fn redis_count(redis_key: Option<String>) -> TaskResult<()> {
    let context = context();
    let counted = count(&context, redis_key.as_deref().unwrap_or("redis-count")).await;
    counted.map_err(|exception| context.raise(exception))
}

#[celery::task(name = "t.integration.tasks.sum_and_record")]
async fn sum_and_record(values: Vec<i64>, redis_key: String) -> TaskResult<i64> {
    let id = json!(context().id());
    leave(&redis_key, &id).await?;
    Ok(values.iter().sum())
}

#[celery::task(name = "t.integration.tasks.errback_old_style")]
async fn errback_old_style(request_id: String) -> TaskResult<String> {
    let context = context();
    let counted = count(&context, &request_id).await;
    counted.map_err(|exception| context.raise(exception))?;
    Ok(request_id)
}

#[celery::task(name = "t.integration.tasks.errback_old_style_with_args")]
async fn errback_old_style_with_args(request_id: String, label: Value) -> TaskResult<()> {
    leave(&request_id, &label).await
}

/// `errback_new_style(request, exc, tb)`.
async fn errback_new_style(call: Invocation) -> Result<Outcome, TaskException> {
    let [request, _, _] = bind(&call, ["request", "exc", "tb"], 3)?;
    let id = id_of(&request)?;
    count(&call.context, id).await?;
    Ok(Outcome::Success(json!(id)))
}

/// `errback_new_style_with_args(request, exc, tb, label)`.
async fn errback_new_style_with_args(call: Invocation) -> Result<Outcome, TaskException> {
    let [request, _, _, label] = bind(&call, ["request", "exc", "tb", "label"], 4)?;
    push(&call.context, id_of(&request)?, &label).await?;
    Ok(Outcome::Success(Value::Null))
}

/// Of the request that an errback is given.
fn id_of(request: &Value) -> Result<&str, TaskException> {
    let id = request.get("id").and_then(Value::as_str);
    id.ok_or_else(|| TaskException::builtin("AttributeError", "the request has no 'id'"))
}

/// As [`push`], for a task of the macro.
async fn leave(key: &str, value: &Value) -> TaskResult<()> {
    let context = context();
    let pushed = push(&context, key, value).await;
    pushed.map_err(|exception| context.raise(exception))
}

/// As redis-py writes it: texts and numbers, nothing else.
pub(super) async fn push(context: &Context, key: &str, value: &Value) -> Result<(), TaskException> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => {
            let text = "Invalid input: convert to a bytes, string, int or float first.";
            let args = vec![json!(text)];
            return Err(TaskException::new("redis.exceptions", "DataError", args));
        }
    };
    let pushed = sink(context).push(key, &text).await;
    pushed.map_err(|error| unreachable(&error))
}

async fn count(context: &Context, key: &str) -> Result<(), TaskException> {
    let counted = sink(context).count(key).await;
    counted.map_err(|error| unreachable(&error))
}

fn sink(context: &Context) -> Arc<Sink> {
    context.state().expect("the app manages a sink")
}

fn unreachable(error: &redis::RedisError) -> TaskException {
    TaskException::builtin("ConnectionError", error.to_string())
}

fn context() -> Context {
    Context::current().expect("it runs as a task")
}
