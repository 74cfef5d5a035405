//! Canvas in Celery's words: signatures, what they can be told, and how they become a chain, a group or a chord.
//!
//! ```
//! use celeriac::{chain, chord, group, signature};
//!
//! let report = chain![
//!     signature("proj.add", (2, 2)),
//!     signature("reports.summarise", ()).set("queue", "reports"),
//! ];
//! let same = signature("proj.add", (2, 2)) | signature("reports.summarise", ()).set("queue", "reports");
//! let squares = (0..10).map(|n| signature("proj.mul", (n, n)));
//! let sum = chord(squares, signature("proj.sum", ()));
//! let alert = signature("proj.alert", ("sums",)).immutable();
//! let both = group([report | sum, same]).link_error(alert);
//! # drop(both);
//! ```
//!
//! What cannot be written as JSON, a path that is not UTF-8 for example, is told by whoever sends the signature.
//!
//! Counterpart: `celery/canvas.py` (`Signature`, `signature`, `chain`, `group`, `chord`) @ 5.7.0.

use std::ops::BitOr;

use celeriac_protocol::canvas::{self, Belongs, Canvas, Planner};
use celeriac_protocol::to_value;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Ids;
use crate::app::{App, ResultNode, SendError, SendOptions};

/// A call that can be sent, or several that belong together.
#[derive(Debug, Clone)]
pub struct Signature {
    canvas: Result<Canvas, Unwritable>,
}

/// The first thing in a signature that cannot be written.
#[derive(Debug, Clone)]
struct Unwritable {
    task: String,
    reason: String,
}

impl From<Unwritable> for SendError {
    fn from(Unwritable { task, reason }: Unwritable) -> Self {
        Self::Arguments { task, reason }
    }
}

/// A call of a task by its name, in whichever language it is. `args` is a tuple, an array or a list; `()` is none.
pub fn signature(task: impl Into<String>, args: impl Serialize) -> Signature {
    let task = task.into();
    let canvas = match list(&args) {
        Ok(args) => Ok(Canvas::Task(canvas::Signature::new(task, args, Map::new()))),
        Err(reason) => Err(Unwritable { task, reason }),
    };
    Signature { canvas }
}

/// One after the other, each with the result of the one before: the macro `chain!`, for any number of them.
pub fn chain<S: Into<Signature>>(tasks: impl IntoIterator<Item = S>) -> Signature {
    let canvas = all(tasks).map(Canvas::chain);
    Signature { canvas }
}

/// All at once.
pub fn group<S: Into<Signature>>(tasks: impl IntoIterator<Item = S>) -> Signature {
    let canvas = all(tasks).map(Canvas::group);
    Signature { canvas }
}

/// All of the header at once; the body gets the list of their results.
pub fn chord<S: Into<Signature>>(
    header: impl IntoIterator<Item = S>,
    body: impl Into<Signature>,
) -> Signature {
    let chord = |header| Ok(Canvas::chord(header, body.into().canvas?));
    let canvas = all(header).and_then(chord);
    Signature { canvas }
}

/// One after the other, each with the result of the one before: `chain![first, second]`.
#[macro_export]
macro_rules! chain {
    ($($task:expr),+ $(,)?) => {
        $crate::chain([$($crate::Signature::from($task)),+])
    };
}

impl Signature {
    /// Adds keyword arguments: whatever is written as an object.
    #[must_use]
    pub fn kwargs(self, kwargs: impl Serialize) -> Self {
        self.change(|canvas| {
            let Value::Object(kwargs) = written(&kwargs)? else {
                return Err("keyword arguments must be an object".to_owned());
            };
            let Canvas::Task(task) = canvas else {
                return Err("only a task has keyword arguments".to_owned());
            };
            task.kwargs.extend(kwargs);
            Ok(())
        })
    }

    /// Sets an option of `apply_async`: `queue`, `priority`, `countdown` (seconds), `task_id` and all the others that
    /// Celery knows. One that nobody knows becomes a property of the message.
    #[must_use]
    pub fn set(self, option: &str, value: impl Serialize) -> Self {
        self.change(|canvas| {
            let options = [(option.to_owned(), written(&value)?)];
            *canvas = std::mem::take(canvas).set(options.into_iter().collect());
            Ok(())
        })
    }

    /// Stamps all tasks in it, their callbacks and errbacks with headers: whatever is written as an object. Of a chord only
    /// the header, as in Celery; for visitors, and for lists of stamps, see [`Canvas::stamp`].
    #[must_use]
    pub fn stamp(self, headers: impl Serialize) -> Self {
        self.change(|canvas| {
            let Value::Object(headers) = written(&headers)? else {
                return Err("stamps must be an object".to_owned());
            };
            let stamped = canvas.stamp(None, false, &headers);
            stamped.map_err(|error| error.to_string())
        })
    }

    /// A copy with further arguments, which come before its own: `clone` in Celery.
    #[must_use]
    pub fn clone_with(&self, args: impl Serialize) -> Self {
        let copy = self.clone();
        copy.change(|canvas| {
            *canvas = canvas.clone_with(&list(&args)?, &Map::new(), &Map::new());
            Ok(())
        })
    }

    /// It does not take the result of what goes before; nor does any task of a group, or of a chord's header.
    #[must_use]
    pub fn immutable(self) -> Self {
        self.change(|canvas| {
            canvas.set_immutable(true);
            Ok(())
        })
    }

    /// Adds what is sent with the result after a success: by the last task of a chain, the first of a group, the body of
    /// a chord.
    #[must_use]
    pub fn link(self, callback: impl Into<Self>) -> Self {
        self.with(callback, Canvas::link)
    }

    /// Adds what is sent with the task's id after a failure: by each task of a chain or of a group, by the body of a
    /// chord.
    #[must_use]
    pub fn link_error(self, errback: impl Into<Self>) -> Self {
        self.with(errback, Canvas::link_error)
    }

    /// Sends it as it is, as [`Self::apply_async`] does.
    ///
    /// # Errors
    /// As there.
    pub async fn delay(&self, app: &App) -> Result<ResultNode, SendError> {
        self.apply_async(app, (), SendOptions::default()).await
    }

    /// Sends it: all of a group, what comes first of a chain, the header of a chord. `args` come before its own ones, as
    /// the result of a task before it would; the options win over its own. Inside a task, it becomes a child of that one.
    /// Returns when the broker has all messages, with what will come of it: of a chain the last result, of a chord that of
    /// its body; those that come before are its parents.
    ///
    /// # Errors
    /// [`SendError::Arguments`]: something in it cannot be written, or there is nothing to send. [`SendError::Broker`] and
    /// [`SendError::Backend`]: a part may have been sent. With ids that are fixed ([`Self::freeze`]) to send it again is
    /// safe as long as nobody has run any of it.
    pub async fn apply_async(
        &self,
        app: &App,
        args: impl Serialize + Send,
        options: SendOptions,
    ) -> Result<ResultNode, SendError> {
        let canvas = self.canvas.as_ref().map_err(Clone::clone)?;
        let args = list(&args).map_err(|reason| unwritable(canvas, reason))?;
        app.apply(canvas, &args, options).await
    }

    /// Fixes the ids of all that is in it, and says what will come of it once it is sent.
    ///
    /// # Errors
    /// [`SendError::Arguments`]: something in it cannot be written, or there is nothing to send.
    pub fn freeze(&mut self, app: &App) -> Result<ResultNode, SendError> {
        let canvas = self.canvas.as_mut().map_err(|error| error.clone())?;
        let mut ids = Ids::Random;
        let mut next = || ids.next();
        let fixed = Planner::new(app.oid(), &mut next).fix(canvas, Belongs::default());
        let result = fixed.and_then(|tuple| app.result_from_tuple(&tuple));
        Ok(result.ok_or_else(|| unwritable(canvas, NOTHING.to_owned()))?)
    }

    fn change(mut self, change: impl FnOnce(&mut Canvas) -> Result<(), String>) -> Self {
        if let Ok(canvas) = &mut self.canvas
            && let Err(reason) = change(canvas)
        {
            self.canvas = Err(unwritable(canvas, reason));
        }
        self
    }

    fn with(self, other: impl Into<Self>, join: fn(Canvas, Canvas) -> Canvas) -> Self {
        let joined = self
            .canvas
            .and_then(|canvas| Ok(join(canvas, other.into().canvas?)));
        Self { canvas: joined }
    }
}

/// Why there is no result.
pub(crate) const NOTHING: &str = "there is nothing in it to be sent";

/// `self | next`: `next` follows, with the result of this one. What follows a group makes a chord of it.
impl<S: Into<Signature>> BitOr<S> for Signature {
    type Output = Self;

    fn bitor(self, next: S) -> Self {
        self.with(next, Canvas::then)
    }
}

impl From<Canvas> for Signature {
    fn from(canvas: Canvas) -> Self {
        Self { canvas: Ok(canvas) }
    }
}

impl From<canvas::Signature> for Signature {
    fn from(signature: canvas::Signature) -> Self {
        let task = signature.task.clone();
        let canvas = Canvas::from_signature(signature).map_err(|error| Unwritable {
            task,
            reason: error.to_string(),
        });
        Self { canvas }
    }
}

/// What it is made of.
impl TryFrom<Signature> for Canvas {
    type Error = SendError;

    fn try_from(signature: Signature) -> Result<Self, SendError> {
        Ok(signature.canvas?)
    }
}

fn all<S: Into<Signature>>(tasks: impl IntoIterator<Item = S>) -> Result<Vec<Canvas>, Unwritable> {
    tasks.into_iter().map(|task| task.into().canvas).collect()
}

fn unwritable(canvas: &Canvas, reason: String) -> Unwritable {
    let task = canvas.to_signature().task;
    Unwritable { task, reason }
}

fn list(args: &impl Serialize) -> Result<Vec<Value>, String> {
    match written(args)? {
        Value::Array(args) => Ok(args),
        Value::Null => Ok(Vec::new()),
        _ => Err("arguments must be a tuple or a list".to_owned()),
    }
}

fn written(value: &impl Serialize) -> Result<Value, String> {
    to_value(value).map_err(|error| error.to_string())
}
