//! Exceptions as Celery stores them, so that Python's `.get()` raises one that can be caught by its type.
//!
//! ```json
//! {"exc_type": "ValueError", "exc_message": ["bang"], "exc_module": "builtins"}
//! ```
//! Counterpart: `celery/backends/base.py @ 5.7.0` (`prepare_exception`, `exception_to_python`); texts of the
//! exceptions: `celery/exceptions.py`, `billiard/exceptions.py`, CPython.

use serde_json::{Value, json};

use crate::{DecodeError, Map, fields::Fields, key_order::Layout, repr};

/// A Python exception by its name and arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskException {
    /// The class's qualified name.
    pub exc_type: String,
    /// The exception's `args`.
    pub exc_message: Vec<Value>,
    /// The class's module; Python makes a class of its own where it is null or cannot be found.
    pub exc_module: Option<String>,
}

const LAYOUT: Layout = Layout {
    keys: &["exc_type", "exc_message", "exc_module"],
    ..Layout::named("exception")
};

const BUILTINS: &str = "builtins";
const CELERY: &str = "celery.exceptions";
const BILLIARD: &str = "billiard.exceptions";

impl TaskException {
    /// An exception of a module.
    pub fn new(
        exc_module: impl Into<String>,
        exc_type: impl Into<String>,
        args: Vec<Value>,
    ) -> Self {
        Self {
            exc_type: exc_type.into(),
            exc_message: args,
            exc_module: Some(exc_module.into()),
        }
    }

    /// An exception that Python itself has: `ValueError`, `OSError`, …
    pub fn builtin(exc_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(BUILTINS, exc_type, vec![Value::String(message.into())])
    }

    /// `TypeError`: the arguments do not fit the task.
    pub fn type_error(message: impl Into<String>) -> Self {
        Self::builtin("TypeError", message)
    }

    /// `NotRegistered`: no task of that name.
    pub fn not_registered(task: impl Into<String>) -> Self {
        Self::celery("NotRegistered", task)
    }

    /// `TaskRevokedError`, with `revoked` or `expired`.
    pub fn task_revoked(reason: impl Into<String>) -> Self {
        Self::celery("TaskRevokedError", reason)
    }

    /// `MaxRetriesExceededError`: there is no further retry.
    pub fn max_retries_exceeded(message: impl Into<String>) -> Self {
        Self::celery("MaxRetriesExceededError", message)
    }

    /// `InvalidTaskError`: the message is wrong.
    pub fn invalid_task(message: impl Into<String>) -> Self {
        Self::celery("InvalidTaskError", message)
    }

    /// `ChordError`: a part of the chord failed.
    pub fn chord_error(message: impl Into<String>) -> Self {
        Self::celery("ChordError", message)
    }

    /// What was asked for cannot be: `celery.exceptions.ImproperlyConfigured`.
    pub fn improperly_configured(message: impl Into<String>) -> Self {
        Self::celery("ImproperlyConfigured", message)
    }

    /// A result did not come in time: `celery.exceptions.TimeoutError`.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::celery("TimeoutError", message)
    }

    /// `Ignore`: the task wants no state stored.
    pub fn ignore() -> Self {
        Self::new(CELERY, "Ignore", Vec::new())
    }

    /// `Reject`: the task refuses its message.
    pub fn reject(reason: Value, requeue: bool) -> Self {
        Self::new(CELERY, "Reject", vec![reason, Value::Bool(requeue)])
    }

    /// `WorkerLostError`: the process died under the task.
    pub fn worker_lost(message: impl Into<String>) -> Self {
        Self::new(
            BILLIARD,
            "WorkerLostError",
            vec![Value::String(message.into())],
        )
    }

    /// `Terminated`: ended on request; `signal` is its number.
    pub fn terminated(signal: i64) -> Self {
        Self::new(BILLIARD, "Terminated", vec![json!(signal)])
    }

    /// `TimeLimitExceeded`: ended after `limit` seconds, as the setting says them.
    pub fn time_limit_exceeded(limit: Value) -> Self {
        Self::new(BILLIARD, "TimeLimitExceeded", vec![limit])
    }

    /// `SoftTimeLimitExceeded`.
    pub fn soft_time_limit_exceeded() -> Self {
        Self::new(BILLIARD, "SoftTimeLimitExceeded", Vec::new())
    }

    fn celery(exc_type: &str, message: impl Into<String>) -> Self {
        Self::new(CELERY, exc_type, vec![Value::String(message.into())])
    }

    /// Reads the `result` of a failed task. A message that is no list counts as the only argument.
    ///
    /// # Errors
    /// It is no object, or has no `exc_type`.
    pub fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::from_value(&LAYOUT, value)?;
        let exc_type = fields.required("exc_type")?;
        let exc_module = fields.optional("exc_module")?;
        let exc_message = match fields.optional("exc_message")? {
            None => Vec::new(),
            Some(Value::Array(args)) => args,
            Some(other) => vec![other],
        };
        Ok(Self {
            exc_type,
            exc_message,
            exc_module,
        })
    }

    /// The `result` of a failed task.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("exc_type".to_owned(), json!(self.exc_type));
        map.insert(
            "exc_message".to_owned(),
            Value::Array(self.exc_message.clone()),
        );
        map.insert("exc_module".to_owned(), json!(self.exc_module));
        Value::Object(map)
    }

    /// The class's name without the classes around it.
    fn name(&self) -> &str {
        self.exc_type.rsplit('.').next().unwrap_or(&self.exc_type)
    }

    /// Python's `repr(exc)`: `ValueError('bang')`.
    pub fn repr(&self) -> String {
        match (self.name(), self.exc_message.as_slice()) {
            ("NotRegistered", _) => {
                format!(
                    "Task of kind {} never registered, please make sure it's imported.",
                    self.display()
                )
            }
            ("Reject", [reason, requeue]) => {
                format!(
                    "reject requeue={}: {}",
                    repr::str_value(requeue),
                    repr::str_value(reason)
                )
            }
            (name, [only]) => format!("{name}({})", repr::repr_value(only)),
            (name, args) => format!("{name}{}", repr::repr_tuple(args)),
        }
    }

    /// Python's `str(exc)`: `bang`.
    pub fn display(&self) -> String {
        match (self.name(), self.exc_message.as_slice()) {
            (name @ ("TimeLimitExceeded" | "SoftTimeLimitExceeded"), args) => {
                format!("{name}{}", repr::repr_tuple(args))
            }
            (_, []) => String::new(),
            ("KeyError" | "NotRegistered" | "QueueNotFound", [key]) => repr::repr_value(key),
            (_, [only]) => repr::str_value(only),
            (name, [errno, text]) if is_os_error(name) => {
                format!(
                    "[Errno {}] {}",
                    repr::str_value(errno),
                    repr::str_value(text)
                )
            }
            (_, args) => repr::repr_tuple(args),
        }
    }
}

/// The classes of Python's that show two arguments as an error number and its text.
fn is_os_error(name: &str) -> bool {
    matches!(
        name,
        "OSError"
            | "BlockingIOError"
            | "BrokenPipeError"
            | "ChildProcessError"
            | "ConnectionAbortedError"
            | "ConnectionRefusedError"
            | "ConnectionResetError"
            | "FileExistsError"
            | "FileNotFoundError"
            | "InterruptedError"
            | "IsADirectoryError"
            | "NotADirectoryError"
            | "PermissionError"
            | "ProcessLookupError"
    )
}
