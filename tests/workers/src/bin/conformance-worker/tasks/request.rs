//! Tasks that return what they know of their own request.

use std::time::Duration;

use celeriac::{AppBuilder, Context, Invocation, Outcome, TaskOptions};
use celery::task::TaskResult;
use serde_json::{Value, json};

use crate::function::Function;

pub(super) fn register(app: AppBuilder) -> AppBuilder {
    let declared = TaskOptions {
        time_limit: Some(Duration::from_secs(60)),
        soft_time_limit: Some(Duration::from_secs(45)),
        ..TaskOptions::default()
    };
    let contradictory = TaskOptions {
        time_limit: Some(Duration::from_secs(1)),
        soft_time_limit: Some(Duration::from_secs(2)),
        ..TaskOptions::default()
    };
    app.task::<ids>()
        .task::<collect_ids>()
        .task::<return_request_eta>()
        .task::<return_properties>()
        .task::<return_request_time_limits>()
        .task_with::<task_with_declared_time_limits>(declared)
        .task_with::<soft_time_limit_must_exceed_time_limit>(contradictory)
        .handler(Function::new(
            "t.integration.tasks.return_priority",
            return_priority,
        ))
}

#[celery::task(name = "t.integration.tasks.ids")]
async fn ids(i: Value) -> TaskResult<Value> {
    Ok(ids_and(&context(), &i))
}

#[celery::task(name = "t.integration.tasks.collect_ids")]
async fn collect_ids(res: Value, i: Value) -> TaskResult<Value> {
    Ok(json!([res, ids_and(&context(), &i)]))
}

fn ids_and(context: &Context, i: &Value) -> Value {
    let headers = context.headers();
    json!([headers.root_id, headers.parent_id, i])
}

#[celery::task(name = "t.integration.tasks.return_request_eta")]
async fn return_request_eta() -> TaskResult<Option<String>> {
    Ok(context().headers().eta.clone())
}

#[celery::task(name = "t.integration.tasks.return_properties")]
async fn return_properties() -> TaskResult<Value> {
    Ok(Value::Object(context().properties().to_map()))
}

#[celery::task(name = "t.integration.tasks.return_request_time_limits")]
async fn return_request_time_limits() -> TaskResult<Value> {
    Ok(time_limits(&context()))
}

#[celery::task(name = "t.integration.tasks.task_with_declared_time_limits")]
async fn task_with_declared_time_limits() -> TaskResult<Value> {
    Ok(time_limits(&context()))
}

/// Celery's clients refuse to send it.
#[celery::task(name = "t.integration.tasks.soft_time_limit_must_exceed_time_limit")]
async fn soft_time_limit_must_exceed_time_limit() -> TaskResult<()> {
    Ok(())
}

/// As the message names them: Celery's clients write a task's own limits into it.
fn time_limits(context: &Context) -> Value {
    let limits = &context.headers().timelimit;
    json!({"time_limit": limits.hard, "soft_time_limit": limits.soft})
}

/// `return_priority(*_args)`.
async fn return_priority(call: Invocation) -> Outcome {
    let priority = call.context.properties().priority;
    let shown = priority.map_or_else(|| "None".to_owned(), |priority| priority.to_string());
    Outcome::Success(json!(format!("Priority: {shown}")))
}

fn context() -> Context {
    Context::current().expect("it runs as a task")
}
