//! Values in, values out.

#![expect(clippy::print_stdout, reason = "a task is there to print")]

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use celeriac::protocol::exception::TaskException;
use celeriac::protocol::repr;
use celeriac::{AppBuilder, Context, Outcome, TaskOptions};
use celery::error::TaskError;
use celery::task::TaskResult;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::function::{Function, argument};

pub(super) fn register(app: AppBuilder) -> AppBuilder {
    let ignoring = |ignore_result| TaskOptions {
        ignore_result: Some(ignore_result),
        ..TaskOptions::default()
    };
    app.task::<identity>()
        .task::<add>()
        .task::<mul>()
        .task::<write_to_file_and_return_int>()
        .task::<add_not_typed>()
        .task_with::<add_ignore_result>(ignoring(true))
        .task_with::<add_with_result>(ignoring(false))
        .task::<delayed_sum>()
        .task::<delayed_sum_with_soft_guard>()
        .task::<tsum>()
        .task::<xsum>()
        .task::<print_unicode>()
        .task::<return_exception>()
        .task::<replaced_with_me>()
        .task::<add_pydantic>()
        .task::<add_pydantic_string_annotations>()
        .handler(Function::new("t.integration.tasks.sleeping", sleeping))
}

#[celery::task(name = "t.integration.tasks.identity")]
async fn identity(x: Value) -> TaskResult<Value> {
    Ok(x)
}

#[celery::task(name = "t.integration.tasks.add")]
async fn add(x: Value, y: Value, z: Option<Value>) -> TaskResult<Value> {
    let sum = plus(&x, &y)?;
    match z.filter(is_true) {
        Some(z) => plus(&sum, &z),
        None => Ok(sum),
    }
}

#[celery::task(name = "t.integration.tasks.mul")]
async fn mul(x: i64, y: i64) -> TaskResult<i64> {
    x.checked_mul(y)
        .ok_or_else(|| raise("OverflowError", "the product is too large".to_owned()))
}

#[celery::task(name = "t.integration.tasks.write_to_file_and_return_int")]
fn write_to_file_and_return_int(file_name: String, i: i64) -> TaskResult<i64> {
    let opened = File::options().append(true).create(true).open(&file_name);
    let written = opened.and_then(|mut file| file.write_all(format!("{i}\n").as_bytes()));
    written.map_err(|error| raise("OSError", format!("{file_name}: {error}")))?;
    Ok(i)
}

#[celery::task(name = "t.integration.tasks.add_not_typed")]
async fn add_not_typed(x: Value, y: Value) -> TaskResult<Value> {
    plus(&x, &y)
}

#[celery::task(name = "t.integration.tasks.add_ignore_result")]
async fn add_ignore_result(x: Value, y: Value) -> TaskResult<Value> {
    plus(&x, &y)
}

#[celery::task(name = "t.integration.tasks.add_with_result")]
async fn add_with_result(x: Value, y: Value) -> TaskResult<Value> {
    plus(&x, &y)
}

#[celery::task(name = "t.integration.tasks.delayed_sum")]
async fn delayed_sum(numbers: Vec<Value>, pause_time: Option<f64>) -> TaskResult<Value> {
    tokio::time::sleep(pause(pause_time)?).await;
    sum(&numbers)
}

/// Returns 0 when its soft limit passes.
#[celery::task(name = "t.integration.tasks.delayed_sum_with_soft_guard")]
async fn delayed_sum_with_soft_guard(
    numbers: Vec<Value>,
    pause_time: Option<f64>,
) -> TaskResult<Value> {
    let context = context();
    tokio::select! {
        () = tokio::time::sleep(pause(pause_time)?) => sum(&numbers),
        () = context.soft_limit().cancelled() => Ok(json!(0)),
    }
}

#[celery::task(name = "t.integration.tasks.tsum")]
async fn tsum(nums: Vec<Value>) -> TaskResult<Value> {
    sum(&nums)
}

/// The members may be lists of numbers.
#[celery::task(name = "t.integration.tasks.xsum")]
async fn xsum(nums: Vec<Value>) -> TaskResult<Value> {
    let sums = nums.iter().map(|member| match member {
        Value::Array(numbers) => sum(numbers),
        number => Ok(number.clone()),
    });
    sum(&sums.collect::<TaskResult<Vec<Value>>>()?)
}

/// Logs and prints text beyond ASCII.
#[celery::task(name = "t.integration.tasks.print_unicode")]
fn print_unicode(log_message: Option<String>, print_message: Option<String>) -> TaskResult<()> {
    log::warn!("{}", log_message.as_deref().unwrap_or("håå®ƒ valmuefrø"));
    println!("{}", print_message.as_deref().unwrap_or("hiöäüß"));
    Ok(())
}

#[celery::task(name = "t.integration.tasks.return_exception")]
async fn return_exception(e: Value) -> TaskResult<(Value, bool)> {
    Ok((e, true))
}

#[celery::task(name = "t.integration.tasks.replaced_with_me")]
async fn replaced_with_me() -> TaskResult<bool> {
    Ok(true)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AddParameterModel {
    x: i64,
    y: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AddResultModel {
    result: i64,
}

#[celery::task(name = "t.integration.tasks.add_pydantic")]
async fn add_pydantic(data: AddParameterModel) -> TaskResult<AddResultModel> {
    let result = data.x + data.y;
    Ok(AddResultModel { result })
}

#[celery::task(name = "t.integration.tasks.add_pydantic_string_annotations")]
async fn add_pydantic_string_annotations(data: AddParameterModel) -> TaskResult<AddResultModel> {
    let result = data.x + data.y;
    Ok(AddResultModel { result })
}

/// `sleeping(i, **_)`.
async fn sleeping(call: celeriac::Invocation) -> Outcome {
    let seconds = argument(&call, 0, "i").and_then(Value::as_f64);
    let Some(Ok(pause)) = seconds.map(Duration::try_from_secs_f64) else {
        let text = "sleeping() missing 1 required positional argument: 'i'";
        return Outcome::failure(TaskException::type_error(text));
    };
    tokio::time::sleep(pause).await;
    Outcome::Success(Value::Null)
}

fn context() -> Context {
    Context::current().expect("it runs as a task")
}

fn raise(exc_type: &str, text: String) -> TaskError {
    context().raise(TaskException::builtin(exc_type, text))
}

fn pause(seconds: Option<f64>) -> Result<Duration, TaskError> {
    let pause = Duration::try_from_secs_f64(seconds.unwrap_or(1.0));
    pause.map_err(|_| raise("ValueError", "sleep length must be non-negative".to_owned()))
}

fn sum(numbers: &[Value]) -> TaskResult<Value> {
    let mut sum = json!(0);
    for number in numbers {
        sum = plus(&sum, number)?;
    }
    Ok(sum)
}

/// Python's `x + y`, for what JSON has.
fn plus(x: &Value, y: &Value) -> TaskResult<Value> {
    match (x, y) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one
                .checked_add(other)
                .map(Value::from)
                .ok_or_else(|| raise("OverflowError", "the sum is too large".to_owned())),
            _ => Ok(json!(
                one.as_f64().unwrap_or(f64::NAN) + other.as_f64().unwrap_or(f64::NAN)
            )),
        },
        (Value::String(one), Value::String(other)) => Ok(json!(format!("{one}{other}"))),
        (Value::Array(one), Value::Array(other)) => Ok([one.as_slice(), other].concat().into()),
        _ => {
            let [one, other] = [x, y].map(kind);
            let text = format!("unsupported operand type(s) for +: '{one}' and '{other}'");
            Err(raise("TypeError", text))
        }
    }
}

/// The name of Python's type.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// Python's `bool(value)`.
pub(super) fn is_true(value: &Value) -> bool {
    !matches!(
        repr::repr_value(value).as_str(),
        "None" | "False" | "0" | "0.0" | "''" | "[]" | "{}"
    )
}
