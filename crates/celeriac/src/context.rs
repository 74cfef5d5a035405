//! What a running task can ask and do: Celery's `self.request` and `self.retry`.
//!
//! A handler gets its [`Context`] with the invocation; a task made with the `celery` crate's macro
//! reaches the same one by [`Context::current`].
//!
//! Counterpart: `celery/app/task.py::Context` @ 5.7.0.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use celeriac_protocol::message::Headers;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::handler::Outcome;

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
    headers: Headers,
    hostname: String,
    is_redelivered: bool,
    cancelled: CancellationToken,
    decision: Mutex<Option<Outcome>>,
    children: Mutex<Vec<String>>,
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
        headers: Headers,
        hostname: String,
        is_redelivered: bool,
        cancelled: CancellationToken,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                app,
                headers,
                hostname,
                is_redelivered,
                cancelled,
                decision: Mutex::new(None),
                children: Mutex::new(Vec::new()),
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
        &self.inner.headers.id
    }

    /// The name in the message.
    pub fn task_name(&self) -> &str {
        &self.inner.headers.task
    }

    /// How often this task has been retried; 0 in the first run.
    pub fn retries(&self) -> u64 {
        self.inner.headers.retries
    }

    /// The first task of the workflow that this one belongs to; itself when it stands alone.
    pub fn root_id(&self) -> &str {
        let root = self.inner.headers.root_id.as_deref();
        root.filter(|id| !id.is_empty()).unwrap_or(self.id())
    }

    /// All headers of the message, unknown ones in `extra`.
    pub fn headers(&self) -> &Headers {
        &self.inner.headers
    }

    /// The worker's node name.
    pub fn hostname(&self) -> &str {
        &self.inner.hostname
    }

    /// The broker has handed this message out before.
    pub fn is_redelivered(&self) -> bool {
        self.inner.is_redelivered
    }

    /// The app, to send further tasks.
    pub fn app(&self) -> &App {
        &self.inner.app
    }

    /// What the program gave the app with `AppBuilder::manage`.
    pub fn state<S: Send + Sync + 'static>(&self) -> Option<Arc<S>> {
        self.inner.app.state()
    }

    /// Done when the run is to end at once: a cold stop, or another worker owns the message now.
    /// Whatever the task returns then is dropped.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancelled
    }

    pub(crate) fn add_child(&self, id: String) {
        self.children().push(id);
    }

    /// The tasks that this one has sent, in order.
    pub(crate) fn take_children(&self) -> Vec<String> {
        std::mem::take(&mut *self.children())
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

    fn children(&self) -> MutexGuard<'_, Vec<String>> {
        lock(&self.inner.children)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
