//! What a running task can ask and do: Celery's `self.request` and `self.retry`.
//!
//! A handler gets its [`Context`] with the invocation; a task made with the `celery` crate's macro
//! reaches the same one by [`Context::current`].
//!
//! Counterpart: `celery/app/task.py::Context` @ 5.7.0.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use celeriac_protocol::canvas::Canvas;
use celeriac_protocol::exception::TaskException;
use celeriac_protocol::message::{Headers, TaskMessage};
use celeriac_protocol::{DeliveryInfo, Properties, State, repr};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::app::canvas::unsendable;
use crate::app::{App, AsyncResult, ResultNode, SendError, SendOptions};
use crate::backend::Author;
use crate::canvas::{self, NOTHING, Signature};
use crate::handler::Outcome;
use crate::threads::Threads;
use crate::transport::Error;

tokio::task_local! {
    static CURRENT: Context;
}

/// The running request. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    app: App,
    message: Arc<TaskMessage>,
    place: Place,
    /// Ends the run; also done when another worker has taken the message over.
    end: CancellationToken,
    /// What the task sees of that, once it has asked.
    cancelled: OnceLock<CancellationToken>,
    /// Done when the soft time limit has passed.
    soft_limit: LazyLock<CancellationToken>,
    /// The task has asked for that, so it is told and not ended.
    hears_soft_limit: AtomicBool,
    decision: Mutex<Option<Outcome>>,
    children: Mutex<Vec<Value>>,
    /// It has stored a state of its own.
    has_state: AtomicBool,
    /// How many it has added to its chord.
    added: AtomicU32,
    /// The place of its thread, until that starts.
    thread: Mutex<Option<OwnedSemaphorePermit>>,
}

/// Where a request runs.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The worker's node name.
    pub(crate) hostname: Arc<str>,
    /// The queue that the message came from.
    pub(crate) queue: Arc<str>,
    /// The broker has handed this message out before.
    pub(crate) is_redelivered: bool,
    /// The worker's threads for tasks.
    pub(crate) threads: Threads,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id())
            .field("task", &self.task_name())
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(crate) fn new(
        app: App,
        message: Arc<TaskMessage>,
        place: Place,
        end: CancellationToken,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                app,
                message,
                place,
                cancelled: OnceLock::new(),
                end,
                soft_limit: LazyLock::new(CancellationToken::new),
                hears_soft_limit: AtomicBool::new(false),
                decision: Mutex::new(None),
                children: Mutex::new(Vec::new()),
                has_state: AtomicBool::new(false),
                added: AtomicU32::new(0),
                thread: Mutex::new(None),
            }),
        }
    }

    /// The context of the task that calls this; `None` outside a task or on another spawned task.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    pub(crate) async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The task id.
    pub fn id(&self) -> &str {
        &self.inner.message.headers.id
    }

    /// The name in the message.
    pub fn task_name(&self) -> &str {
        &self.inner.message.headers.task
    }

    /// How often this task has been retried; 0 in the first run.
    pub fn retries(&self) -> u64 {
        self.inner.message.headers.retries
    }

    /// The first task of the workflow that this one belongs to; itself when it stands alone.
    pub fn root_id(&self) -> &str {
        let root = self.inner.message.headers.root_id.as_deref();
        root.filter(|id| !id.is_empty()).unwrap_or(self.id())
    }

    /// The task that has sent this one; `None` for one that was sent from outside.
    pub fn parent_id(&self) -> Option<&str> {
        self.inner.message.headers.parent_id.as_deref()
    }

    /// The group that it belongs to.
    pub fn group(&self) -> Option<&str> {
        self.inner.message.headers.group.as_deref()
    }

    /// Its place in the group.
    pub fn group_index(&self) -> Option<i64> {
        self.inner.message.headers.group_index
    }

    /// The time before which it was not to run.
    pub fn eta(&self) -> Option<DateTime<Utc>> {
        self.headers().eta_time().ok().flatten()
    }

    /// The time after which it was not to start.
    pub fn expires(&self) -> Option<DateTime<Utc>> {
        self.headers().expires_time().ok().flatten()
    }

    /// The hard time limit that the message names; the one that holds may be the task's or the worker's.
    pub fn time_limit(&self) -> Option<Duration> {
        self.headers().timelimit.hard_duration()
    }

    /// The soft time limit that the message names.
    pub fn soft_time_limit(&self) -> Option<Duration> {
        self.headers().timelimit.soft_duration()
    }

    /// All headers of the message, unknown ones in `extra`.
    pub fn headers(&self) -> &Headers {
        &self.inner.message.headers
    }

    /// The properties of the message: correlation id, reply queue, priority, and whatever the sender has added.
    pub fn properties(&self) -> &Properties {
        &self.inner.message.properties
    }

    /// Exchange and routing key.
    pub fn delivery_info(&self) -> &DeliveryInfo {
        &self.properties().delivery_info
    }

    /// The positional arguments as they came.
    pub fn args(&self) -> &[Value] {
        &self.inner.message.args
    }

    /// The keyword arguments as they came.
    pub fn kwargs(&self) -> &Map<String, Value> {
        &self.inner.message.kwargs
    }

    /// The worker's node name.
    pub fn hostname(&self) -> &str {
        &self.inner.place.hostname
    }

    /// The broker has handed this message out before.
    pub fn is_redelivered(&self) -> bool {
        self.inner.place.is_redelivered
    }

    /// The app, to send further tasks.
    pub fn app(&self) -> &App {
        &self.inner.app
    }

    /// What the program gave the app with `AppBuilder::manage`.
    pub fn state<S: Send + Sync + 'static>(&self) -> Option<Arc<S>> {
        self.inner.app.state()
    }

    /// Done when the run is to end at once: a time limit, a cold stop, remote control, or another worker owns the
    /// message now. Whatever the task returns then is dropped. An async task is ended at its next `await` by itself.
    pub fn cancelled(&self) -> &CancellationToken {
        let end = &self.inner.end;
        self.inner.cancelled.get_or_init(|| end.child_token())
    }

    /// Whether the run is to end at once; see [`Self::cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.inner.end.is_cancelled()
    }

    /// What a run does beyond its end, in the store or at the broker, nobody asked for.
    pub(crate) fn goes_on(&self) -> Result<(), Error> {
        match self.is_cancelled() {
            true => Err(Error::GivenUp),
            false => Ok(()),
        }
    }

    /// Ends the run.
    pub(crate) fn end(&self) -> &CancellationToken {
        &self.inner.end
    }

    /// Done when the soft time limit has passed. A task that has asked for it is told, and may clean up and return
    /// what it likes until its hard limit. One that never asks is ended with `SoftTimeLimitExceeded`.
    pub fn soft_limit(&self) -> &CancellationToken {
        self.inner.hears_soft_limit.store(true, Ordering::Relaxed);
        &self.inner.soft_limit
    }

    /// The soft limit has passed; `true` when the task listens.
    pub(crate) fn reach_soft_limit(&self) -> bool {
        self.inner.soft_limit.cancel();
        self.inner.hears_soft_limit.load(Ordering::Relaxed)
    }

    /// Stores a state of the task's own, such as `PROGRESS`, with what belongs to it: whoever asks for the result sees
    /// it. It is stored also where results are ignored, and never over a SUCCESS.
    ///
    /// # Errors
    /// The backend is away; the task may go on. [`Error::GivenUp`]: the run is over, as far as anybody else knows.
    pub async fn update_state(&self, state: &str, meta: Value) -> Result<(), Error> {
        self.goes_on()?;
        self.inner.has_state.store(true, Ordering::Relaxed);
        let mut document = self.author().document(State::from(state), meta);
        document.children = Value::Array(self.children().clone());
        self.inner.app.backend().store(&[document]).await
    }

    /// Sends a task as a child of this one, also from another spawned future.
    ///
    /// # Errors
    /// As [`App::send_task`]; [`Error::GivenUp`] where the run is over.
    pub async fn send_task(
        &self,
        name: &str,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
        options: SendOptions,
    ) -> Result<AsyncResult, SendError> {
        let sending = self.app().send_task(name, args, kwargs, options);
        self.clone().scope(sending).await
    }

    /// Sends a canvas as one more member of the header that this task is in; the body waits for it, too. Returns what
    /// will come of it.
    ///
    /// # Errors
    /// As [`App::send_task`]; [`SendError::Backend`]; [`SendError::Arguments`] where this task is in no chord.
    pub async fn add_to_chord(
        &self,
        signature: impl Into<Signature> + Send,
    ) -> Result<ResultNode, SendError> {
        let canvas = Canvas::try_from(signature.into())?;
        let place = format!("add-{}", self.inner.added.fetch_add(1, Ordering::Relaxed));
        let app = self.app();
        let planned = canvas::added(app, self.message(), canvas.clone(), &place);
        let (follow_ups, result) = planned.map_err(|error| unsendable(&canvas, &error))?;
        let result = app
            .result_from_tuple(&result)
            .ok_or_else(|| SendError::Arguments {
                task: self.task_name().to_owned(),
                reason: NOTHING.to_owned(),
            })?;
        let grown = app
            .backend()
            .chord_grow(self.group().unwrap_or_default(), result.id());
        grown.await.map_err(|source| SendError::Backend {
            task: self.task_name().to_owned(),
            url: app.backend_url().to_owned(),
            source,
        })?;
        let sending = app.send_all(&canvas, follow_ups);
        self.clone().scope(sending).await?;
        Ok(result)
    }

    pub(crate) fn author(&self) -> Author<'_> {
        Author {
            message: &self.inner.message,
            hostname: &self.inner.place.hostname,
            queue: &self.inner.place.queue,
            is_extended: self.inner.app.settings().result_extended,
        }
    }

    pub(crate) fn message(&self) -> &Arc<TaskMessage> {
        &self.inner.message
    }

    pub(crate) fn queue(&self) -> &str {
        &self.inner.place.queue
    }

    pub(crate) fn give_thread(&self, place: OwnedSemaphorePermit) {
        *lock(&self.inner.thread) = Some(place);
    }

    pub(crate) fn take_thread(&self) -> Option<OwnedSemaphorePermit> {
        lock(&self.inner.thread).take()
    }

    pub(crate) fn threads(&self) -> &Threads {
        &self.inner.place.threads
    }

    /// Whether the task has stored a state of its own.
    pub(crate) fn has_state(&self) -> bool {
        self.inner.has_state.load(Ordering::Relaxed)
    }

    /// `[[id, parent], members]`
    pub(crate) fn add_child(&self, child: Value) {
        self.children().push(child);
    }

    /// The tasks that this one has sent, in order.
    pub(crate) fn take_children(&self) -> Vec<Value> {
        std::mem::take(&mut *self.children())
    }

    /// What a task raises that must not be retried once more, with these arguments.
    ///
    /// Counterpart: `Task.MaxRetriesExceededError` as `Task.retry` raises it.
    pub(crate) fn retries_exceeded(
        &self,
        args: &[Value],
        kwargs: &Map<String, Value>,
    ) -> TaskException {
        TaskException::max_retries_exceeded(format!(
            "Can't retry {}[{}] args:{} kwargs:{}",
            self.task_name(),
            self.id(),
            repr::repr_tuple(args),
            repr::repr_value(&Value::Object(kwargs.clone())),
        ))
    }

    pub(crate) fn decide(&self, outcome: Outcome) {
        *self.decision() = Some(outcome);
    }

    /// The outcome that the task has named beside its return value.
    pub(crate) fn take_decision(&self) -> Option<Outcome> {
        self.decision().take()
    }

    fn decision(&self) -> MutexGuard<'_, Option<Outcome>> {
        lock(&self.inner.decision)
    }

    fn children(&self) -> MutexGuard<'_, Vec<Value>> {
        lock(&self.inner.children)
    }
}

/// A task among the children of another one, as in a result: `[[id, parent], null]`.
pub(crate) fn child(id: &str) -> Value {
    json!([[id, null], null])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
