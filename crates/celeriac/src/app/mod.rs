//! The app: settings, tasks, and the way to the broker and the results.
//!
//! - `settings`: Celery's names, read from flags, environment and file.
//! - `connect`: from a URL to a transport or backend.
//! - `send`: `send_task`, and what `apply_async` takes.
//! - `broadcast`: what is said to all workers.
//! - `builtins`: the tasks that every app has; `canvas`: sending several tasks that belong together.
//! - `dead_letters`: what nobody could run.
//! - `registered`: a task that the app has.
//! - `result`: what a caller holds of a task that was sent.
//!
//! There is no global app: two of them, with workers, can live in one process.
//!
//! Counterpart: `celery/app/base.py` @ 5.7.0.

mod broadcast;
pub(crate) mod builtins;
pub(crate) mod canvas;
mod connect;
mod dead_letters;
mod registered;
mod result;
pub(crate) mod send;
pub mod settings;

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use celery::task::Task;
use serde::Serialize;
use uuid::Uuid;

pub use dead_letters::{DeadLetters, Pages};
pub(crate) use registered::Registered;
pub use result::{AsyncResult, GroupResult, ResultError, ResultNode, ResultSet, join};
pub use send::{SendError, SendOptions};
pub use settings::Settings;

use builtins::Builtin;

use crate::backend::ResultBackend;
use crate::celery_task::{CeleryTask, CrateApp};
use crate::handler::{Handler, TaskOptions};
use crate::lamport::LamportClock;
use crate::transport::{Error, Transport};

/// A Celery app. Cheap to clone; all clones are the same app.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    settings: Settings,
    tasks: BTreeMap<String, Arc<Registered>>,
    state: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    transport: Arc<dyn Transport>,
    backend: Arc<dyn ResultBackend>,
    crate_app: CrateApp,
    /// The logical clock of this process.
    lamport: LamportClock,
    /// Where replies to this process would go; Celery puts it into `reply_to` of every message.
    oid: String,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("name", &self.inner.name)
            .field("broker", &self.inner.transport.url())
            .finish_non_exhaustive()
    }
}

/// An app that does not keep itself alive.
#[derive(Clone)]
pub(crate) struct WeakApp {
    inner: Weak<Inner>,
}

impl WeakApp {
    pub(crate) fn upgrade(&self) -> Option<App> {
        self.inner.upgrade().map(|inner| App { inner })
    }
}

impl App {
    /// Begins an app of this name (what `-A` says) with these settings.
    pub fn builder(name: &str, settings: Settings) -> AppBuilder {
        AppBuilder {
            name: name.to_owned(),
            settings,
            tasks: BTreeMap::new(),
            state: HashMap::new(),
        }
    }

    /// The name that `-A` says.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The settings; frozen.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The registered tasks' names, sorted, without Celery's own.
    pub fn task_names(&self) -> Vec<String> {
        let names = self.inner.tasks.keys();
        let own = names.filter(|name| !name.starts_with(builtins::PREFIX));
        own.cloned().collect()
    }

    /// As [`App::task_names`], with Celery's own.
    pub(crate) fn all_task_names(&self) -> Vec<String> {
        self.inner.tasks.keys().cloned().collect()
    }

    /// What the program gave with [`AppBuilder::manage`].
    pub fn state<S: Send + Sync + 'static>(&self) -> Option<Arc<S>> {
        let state = self.inner.state.get(&TypeId::of::<S>())?;
        Arc::clone(state).downcast().ok()
    }

    /// The broker's URL, its password masked.
    pub fn broker_url(&self) -> &str {
        self.inner.transport.url()
    }

    /// The result backend's URL, its password masked; `disabled://` without one.
    pub fn backend_url(&self) -> &str {
        self.inner.backend.url()
    }

    /// The messages of a queue that nobody could run.
    pub fn dead_letters(&self, queue: &str) -> DeadLetters {
        DeadLetters::new(self.clone(), queue)
    }

    pub(crate) fn registered(&self, task: &str) -> Option<&Arc<Registered>> {
        self.inner.tasks.get(task)
    }

    /// Whether there are tasks whose messages are acknowledged when their results are stored.
    pub(crate) fn acks_some_after_results(&self) -> bool {
        let mut tasks = self.inner.tasks.values().map(|task| &task.effective);
        tasks.any(|options| options.acks_late && !options.ignore_result)
    }

    pub(crate) fn transport(&self) -> &Arc<dyn Transport> {
        &self.inner.transport
    }

    pub(crate) fn backend(&self) -> &Arc<dyn ResultBackend> {
        &self.inner.backend
    }

    pub(crate) fn crate_app(&self) -> &CrateApp {
        &self.inner.crate_app
    }

    pub(crate) fn downgrade(&self) -> WeakApp {
        WeakApp {
            inner: Arc::downgrade(&self.inner),
        }
    }

    pub(crate) fn lamport(&self) -> &LamportClock {
        &self.inner.lamport
    }

    pub(crate) fn oid(&self) -> &str {
        &self.inner.oid
    }
}

/// An app in the making.
pub struct AppBuilder {
    name: String,
    settings: Settings,
    tasks: BTreeMap<String, Arc<dyn Handler>>,
    state: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppBuilder")
            .field("name", &self.name)
            .field("tasks", &self.tasks.keys())
            .finish_non_exhaustive()
    }
}

impl AppBuilder {
    /// Registers a task made with `#[celery::task]`. A second one of the same name replaces the first.
    #[must_use]
    pub fn task<T>(self) -> Self
    where
        T: Task + 'static,
        T::Returns: Serialize,
    {
        self.task_with::<T>(TaskOptions::default())
    }

    /// Registers a task made with `#[celery::task]`, with options for which that macro has no word. They win over
    /// what stands in the macro.
    #[must_use]
    pub fn task_with<T>(self, options: TaskOptions) -> Self
    where
        T: Task + 'static,
        T::Returns: Serialize,
    {
        self.handler(CeleryTask::<T>::new(options))
    }

    /// Registers a task of one's own making. A second one of the same name replaces the first.
    #[must_use]
    pub fn handler(mut self, handler: impl Handler) -> Self {
        let name = handler.name().to_owned();
        self.tasks.insert(name, Arc::new(handler));
        self
    }

    /// Gives the tasks something to share, one value a type: a pool, settings of their own.
    #[must_use]
    pub fn manage<S: Send + Sync + 'static>(mut self, state: Arc<S>) -> Self {
        self.state.insert(TypeId::of::<S>(), state);
        self
    }

    /// Makes the app. Connects to nothing.
    ///
    /// # Errors
    /// [`Error::Url`]: the broker's or the backend's URL is wrong.
    pub fn build(self) -> Result<App, Error> {
        let transport = connect::transport(&self.settings)?;
        let backend = connect::backend(&self.settings)?;
        let settings = &self.settings;
        let builtins = Builtin::ALL.map(|builtin| {
            let handler: Arc<dyn Handler> = Arc::new(builtin);
            (handler.name().to_owned(), handler)
        });
        // Whoever has a task of such a name means that one.
        let tasks = builtins.into_iter().chain(self.tasks);
        let tasks =
            tasks.map(|(name, handler)| (name, Arc::new(Registered::new(handler, settings))));
        Ok(App {
            inner: Arc::new(Inner {
                name: self.name,
                tasks: tasks.collect(),
                state: self.state,
                transport,
                backend,
                crate_app: CrateApp::default(),
                lamport: LamportClock::default(),
                oid: Uuid::new_v4().to_string(),
                settings: self.settings,
            }),
        })
    }
}
