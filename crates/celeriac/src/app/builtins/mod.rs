//! The tasks that every app has.
//!
//! Counterpart: `celery/app/builtins.py` @ 5.7.0.

mod chord_unlock;

use async_trait::async_trait;
use celeriac_protocol::canvas::Canvas;
use celeriac_protocol::exception::TaskException;
use serde_json::{Map, Value, json};

use super::SendError;
use crate::canvas::Ids;
use crate::handler::{Handler, Invocation, MaxRetries, Outcome, TaskOptions};

/// The names of all of them begin so.
pub(crate) const PREFIX: &str = "celery.";

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Builtin {
    Accumulate,
    BackendCleanup,
    Chain,
    Chord,
    ChordUnlock,
    Chunks,
    Group,
    Map,
    Starmap,
}

impl Builtin {
    pub(super) const ALL: [Self; 9] = [
        Self::Accumulate,
        Self::BackendCleanup,
        Self::Chain,
        Self::Chord,
        Self::ChordUnlock,
        Self::Chunks,
        Self::Group,
        Self::Map,
        Self::Starmap,
    ];
}

#[async_trait]
impl Handler for Builtin {
    fn name(&self) -> &str {
        match self {
            Self::Accumulate => "celery.accumulate",
            Self::BackendCleanup => "celery.backend_cleanup",
            Self::Chain => "celery.chain",
            Self::Chord => "celery.chord",
            Self::ChordUnlock => "celery.chord_unlock",
            Self::Chunks => "celery.chunks",
            Self::Group => "celery.group",
            Self::Map => "celery.map",
            Self::Starmap => "celery.starmap",
        }
    }

    fn options(&self) -> TaskOptions {
        match self {
            Self::ChordUnlock => TaskOptions {
                ignore_result: Some(true),
                max_retries: Some(MaxRetries::Unlimited),
                ..TaskOptions::default()
            },
            _ => TaskOptions::default(),
        }
    }

    fn parameters(&self) -> &[&str] {
        match self {
            Self::Accumulate | Self::BackendCleanup | Self::Chain => &[],
            Self::Chord => &["header", "body", "partial_args"],
            Self::ChordUnlock => chord_unlock::PARAMETERS,
            Self::Chunks => &["task", "it", "n"],
            Self::Group => &[
                "tasks",
                "result",
                "group_id",
                "partial_args",
                "add_to_parent",
            ],
            Self::Map | Self::Starmap => &["task", "it"],
        }
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let run = match self {
            Self::Accumulate => accumulate(&invocation),
            // What is stored expires by itself.
            Self::BackendCleanup => Ok(Value::Null),
            Self::Chain => Err(Outcome::failure(TaskException::builtin(
                "NotImplementedError",
                "chain is not a real task",
            ))),
            Self::Chord => chord(&invocation).await,
            Self::ChordUnlock => chord_unlock::run(&invocation).await,
            Self::Chunks => chunks(&invocation).await,
            Self::Group => group(&invocation).await,
            Self::Map => map(&invocation, false).await,
            Self::Starmap => map(&invocation, true).await,
        };
        run.map_or_else(|outcome| outcome, Outcome::Success)
    }
}

/// Its arguments, or the one of them at `index`.
fn accumulate(invocation: &Invocation) -> Result<Value, Outcome> {
    let args = &invocation.args;
    match invocation.kwargs.get("index") {
        None | Some(Value::Null) => Ok(Value::Array(args.clone())),
        Some(index) => {
            let at = index.as_i64().and_then(|index| match index {
                index if index < 0 => usize::try_from(index + args.len() as i64).ok(),
                index => usize::try_from(index).ok(),
            });
            let value = at.and_then(|at| args.get(at)).cloned();
            let error = || TaskException::builtin("IndexError", "tuple index out of range");
            value.ok_or_else(|| Outcome::failure(error()))
        }
    }
}

/// Runs a task of this app for each of a list, here and now, one after the other.
async fn map(invocation: &Invocation, is_star: bool) -> Result<Value, Outcome> {
    let canvas = canvas(invocation, 0, "task")?;
    let name = canvas.to_signature().task;
    let task = invocation.context.app().registered(&name).cloned();
    let unknown = || Outcome::failure(TaskException::not_registered(&name));
    let task = task.ok_or_else(unknown)?;
    let mut results = Vec::new();
    for item in list(invocation, 1, "it")? {
        let args = match item {
            Value::Array(args) if is_star => args,
            one => vec![one],
        };
        let run = task.handler.run(Invocation {
            args,
            kwargs: Map::new(),
            context: invocation.context.clone(),
        });
        match run.await {
            Outcome::Success(value) => results.push(value),
            other => return Err(other),
        }
    }
    Ok(Value::Array(results))
}

/// A group of `celery.starmap`, each with so many of a list.
async fn chunks(invocation: &Invocation) -> Result<Value, Outcome> {
    let task = argument(invocation, 0, "task")?;
    let size = argument(invocation, 2, "n")?.as_u64();
    let size = size
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size > 0);
    let size = size.ok_or_else(|| type_error("n must be a positive number"))?;
    let items = list(invocation, 1, "it")?;
    let parts = items
        .chunks(size)
        .map(|part| Canvas::starmap(task.clone(), part.to_vec()));
    send(invocation, &Canvas::group(parts), &[]).await
}

async fn group(invocation: &Invocation) -> Result<Value, Outcome> {
    let args = list(invocation, 3, "partial_args").unwrap_or_default();
    let mut group = Canvas::group(canvases(list(invocation, 0, "tasks")?)?);
    if let Ok(id) = argument(invocation, 2, "group_id") {
        group.options_mut().insert("task_id".to_owned(), id);
    }
    send(invocation, &group, &args).await
}

async fn chord(invocation: &Invocation) -> Result<Value, Outcome> {
    let chord = json!({
        "task": "celery.chord",
        "subtask_type": "chord",
        "kwargs": {
            "kwargs": {},
            "header": argument(invocation, 0, "header")?,
            "body": argument(invocation, 1, "body")?,
        },
    });
    let chord = Canvas::from_value(chord).map_err(|error| type_error(&error.to_string()))?;
    let args = list(invocation, 2, "partial_args").unwrap_or_default();
    send(invocation, &chord, &args).await
}

/// What comes of it is the task's result.
async fn send(invocation: &Invocation, canvas: &Canvas, args: &[Value]) -> Result<Value, Outcome> {
    let sent = sent(invocation, canvas, args).await;
    sent.map_err(|error| Outcome::failure(unreachable(&error)))
}

/// Its ids are those of the task that sends it: sent again, it is the same.
async fn sent(
    invocation: &Invocation,
    canvas: &Canvas,
    args: &[Value],
) -> Result<Value, SendError> {
    let context = &invocation.context;
    let ids = Ids::of(context.id(), "builtin");
    let sent = context.app().send_canvas(canvas, args, Map::new(), ids);
    Ok(context.clone().scope(sent).await?.unwrap_or_default())
}

/// A server that cannot be asked.
fn unreachable(error: &dyn std::error::Error) -> TaskException {
    let text = vec![Value::from(error.to_string())];
    TaskException::new("kombu.exceptions", "OperationalError", text)
}

fn canvas(invocation: &Invocation, place: usize, name: &str) -> Result<Canvas, Outcome> {
    let canvas = Canvas::from_value(argument(invocation, place, name)?);
    canvas.map_err(|error| type_error(&error.to_string()))
}

fn canvases(values: Vec<Value>) -> Result<Vec<Canvas>, Outcome> {
    let canvases = values.into_iter().map(Canvas::from_value);
    let canvases = canvases.collect::<Result<_, _>>();
    canvases.map_err(|error| type_error(&error.to_string()))
}

fn list(invocation: &Invocation, place: usize, name: &str) -> Result<Vec<Value>, Outcome> {
    match argument(invocation, place, name)? {
        Value::Array(list) => Ok(list),
        _ => Err(type_error(&format!("{name} must be a list"))),
    }
}

fn argument(invocation: &Invocation, place: usize, name: &str) -> Result<Value, Outcome> {
    let found = invocation
        .args
        .get(place)
        .or_else(|| invocation.kwargs.get(name));
    let missing = || type_error(&format!("missing required argument: '{name}'"));
    found.cloned().ok_or_else(missing)
}

fn type_error(message: &str) -> Outcome {
    Outcome::failure(TaskException::type_error(message))
}
