//! A worker's life.
//!
//! 1. Starts: renewing, restoring, the timer, the slots, remote control.
//! 2. Consumes until told to stop.
//! 3. Stops in reverse: no further takes; what waits for its time and what has not started is given
//!    back; what runs is finished (warm) or given back (cold); renewing ends last.
//!
//! All of that has one thread, the engine: a message wakes one part after the other, and parts that wake each other across
//! processors for each message take twice the time. Tasks run there too while they are short; all others run on the runtime
//! that the worker was started on.
//!
//! Counterpart: `celery/worker/worker.py::WorkController` and `celery/apps/worker.py` @ 5.7.0.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::app::App;
use crate::backoff::Patience;
use crate::checks;
use crate::consumer::held::Held;
use crate::consumer::rate_limit::RateLimits;
use crate::consumer::strategy::Strategy;
use crate::consumer::{Consumer, Outlets, Prefetch, ReadySender, Slots, lease, neighbours, timer};
use crate::control::Control;
use crate::events::Events;
use crate::executor::{Executor, Ready, Request};
use crate::shutdown::Shutdown;
use crate::state::{self, StateError, TaskLimits, WorkerState};
use crate::threads::Threads;
use crate::transport::{Delivery, Error, QueueEnd};

/// How many messages may be on the way between two parts of a worker.
const CHANNEL_CAPACITY: usize = 1024;

/// How many runs that are over may wait for the broker's and the backend's answers: as many messages as are held, within
/// these limits. With so many a batch is worth its round trip, and they are lost to a worker that is killed then.
const SETTLING_MIN: usize = 16;
const SETTLING_MAX: usize = 256;

/// What a worker is told at its start.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The node name, such as `celery@host`.
    pub hostname: String,
    /// How many tasks run at a time; at least 1.
    pub concurrency: usize,
    /// The queues to consume from.
    pub queues: Vec<String>,
    /// How often to tell monitors that the worker lives ([`crate::DEFAULT_HEARTBEAT`]); `None`: never.
    pub heartbeat: Option<Duration>,
    /// The hard time limit of tasks for which nothing else names one.
    pub time_limit: Option<Duration>,
    /// The soft time limit of such tasks.
    pub soft_time_limit: Option<Duration>,
    /// What the parent of a supervised worker knows; nothing otherwise.
    pub succession: Succession,
}

/// Under a parent that restarts it: who this worker is, and whose place it takes.
#[derive(Debug, Clone, Default)]
pub struct Succession {
    /// The name under which it claims messages; a random one otherwise.
    pub worker: Option<Uuid>,
    /// Workers that have ended without a clean stop, beyond doubt: what they held is given back at once.
    pub predecessors: Vec<Uuid>,
}

/// Why a worker has ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The broker could not be reached within the tries that the settings allow.
    #[error("cannot connect to the broker: {0}")]
    Broker(#[source] Error),
    /// What it remembers of the last run cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The machine has no thread for it.
    #[error("cannot start the engine's thread: {0}")]
    Thread(#[source] io::Error),
}

/// A worker. See the module's text.
#[derive(Debug)]
pub struct Worker {
    app: App,
    options: WorkerOptions,
}

/// The parts of a running worker.
struct Running {
    app: App,
    tracker: TaskTracker,
    held: Held,
    /// Ends renewing.
    released: CancellationToken,
    ready: Ready,
    slots: Vec<JoinHandle<usize>>,
    settling: JoinHandle<()>,
    timer: JoinHandle<Vec<Delivery>>,
    rates: JoinHandle<Vec<Delivery>>,
}

impl Worker {
    /// A worker that has not started.
    pub fn new(app: App, options: WorkerOptions) -> Self {
        Self { app, options }
    }

    /// Runs until `shutdown` says otherwise.
    ///
    /// # Errors
    /// [`WorkerError::Broker`]: the settings limit the tries to reach the broker, and they are used up.
    /// [`WorkerError::State`]: the state file or a limit in the environment is wrong.
    /// [`WorkerError::Thread`]: no thread can be started.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        let engine = Engine::start().map_err(WorkerError::Thread)?;
        let work = engine.spawn(self.work(shutdown, Handle::current()));
        work.await
            .unwrap_or_else(|error| resume_unwind(error.into_panic()))
    }

    /// Works on the runtime that this is called on, with tasks on another one.
    async fn work(self, shutdown: Shutdown, tasks: Handle) -> Result<(), WorkerError> {
        let state = WorkerState::load(self.app.settings(), self.app.lamport().clone())?;
        self.app.transport().sign_as(&self.options.hostname);
        if let Some(worker) = self.options.succession.worker {
            self.app.transport().identify(worker);
        }
        let (busy, free) = watch::channel(0);
        let rates = RateLimits::of(&self.app);
        let ready = ReadySender {
            requests: Ready::new(CHANNEL_CAPACITY),
            busy,
            rates: rates.clone(),
            stopping: shutdown.stopping().clone(),
        };
        let (timed, coming) = mpsc::channel(CHANNEL_CAPACITY);
        let events = Events::new(
            self.options.hostname.clone(),
            state.clone(),
            self.app.settings().worker_send_task_events,
        );
        let outlets = Outlets {
            prefetch: self.prefetch(),
            ready,
            timed,
            slots: Slots {
                busy: free,
                count: self.slots(),
            },
            state: state.clone(),
            events: events.clone(),
            threads: Threads::new(self.slots(), tasks),
        };
        let running = self.start(&shutdown, coming, &outlets);
        self.remember_and_listen(&running, &state, rates, &shutdown, &events)
            .await;
        let consumer = Consumer::new(
            self.app.clone(),
            self.options.hostname.clone(),
            self.options.queues.clone(),
            Prefetch::new(self.prefetch(), self.app.acks_some_after_results()),
            running.held.clone(),
            outlets,
            shutdown.clone(),
        );
        let ended = consumer.run().await;
        shutdown.warm();
        running.stop().await;
        ended.map_err(WorkerError::Broker)
    }

    fn start(
        &self,
        shutdown: &Shutdown,
        timed: mpsc::Receiver<timer::Timed>,
        outlets: &Outlets,
    ) -> Running {
        let ReadySender { requests, busy, .. } = outlets.ready.clone();
        let tracker = TaskTracker::new();
        let released = CancellationToken::new();
        let stopping = shutdown.stopping().clone();
        let patience = Patience::new(stopping.clone());
        let held = Held::new(self.app.clone(), patience.clone());
        self.keep(&tracker, &held, shutdown, &busy, &released);
        let rates = tracker.spawn(outlets.ready.rates.clone().run(outlets.ready.clone()));
        let strategy = Strategy::new(
            self.app.clone(),
            self.options.hostname.clone(),
            held.clone(),
            outlets.clone(),
        );
        let timer = tracker.spawn(timer::run(timed, strategy, held.clone(), stopping.clone()));
        let acknowledging = held.clone().acknowledge(released.clone());
        tracker.spawn(acknowledging);
        let most = self.prefetch().clamp(SETTLING_MIN, SETTLING_MAX);
        let executor = Executor {
            app: self.app.clone(),
            events: outlets.events.clone(),
            held: held.clone(),
            hostname: self.options.hostname.clone(),
            stopping,
            cold: shutdown.cold_token().clone(),
            patience,
            company: Arc::default(),
            busy,
            slots: self.slots(),
            limits: self.limits(),
            state: outlets.state.clone(),
            threads: outlets.threads.clone(),
        };
        let (endings, ended) = mpsc::channel(CHANNEL_CAPACITY.min(most));
        let settling = tracker.spawn(executor.clone().settle_all(ended, most));
        let slots = 1..=self.slots();
        let slots = slots
            .map(|slot| {
                let run = executor.clone();
                tracker.spawn(run.run_slot(slot, requests.clone(), endings.clone()))
            })
            .collect();
        Running {
            app: self.app.clone(),
            tracker,
            held,
            released,
            ready: requests,
            slots,
            settling,
            timer,
            rates,
        }
    }

    fn limits(&self) -> TaskLimits {
        TaskLimits {
            soft: self.options.soft_time_limit,
            hard: self.options.time_limit,
        }
    }

    /// What goes on beside the tasks: renewing, saying that we live, restoring, and a stop that softens.
    fn keep(
        &self,
        tracker: &TaskTracker,
        held: &Held,
        shutdown: &Shutdown,
        busy: &watch::Sender<usize>,
        released: &CancellationToken,
    ) {
        tracker.spawn(lease::renew(
            self.app.clone(),
            held.clone(),
            released.clone(),
        ));
        tracker.spawn(neighbours::watch(
            self.app.clone(),
            held.clone(),
            self.options.succession.predecessors.clone(),
            released.clone(),
        ));
        tracker.spawn(checks::run(
            self.app.clone(),
            self.limits(),
            shutdown.stopping().clone(),
        ));
        tracker.spawn(lease::restore(
            self.app.clone(),
            shutdown.stopping().clone(),
        ));
        let soft = self.app.settings().worker_soft_shutdown_timeout;
        let (stop, slots, over) = (shutdown.clone(), busy.clone(), released.clone());
        tracker.spawn(async move {
            tokio::select! {
                // cancel-safe, both: they only wait
                () = stop.soften(soft, || *slots.borrow() > 0) => {}
                () = over.cancelled() => {}
            }
        });
    }

    /// The state file, and remote control. Returns when the worker listens to that, or cannot yet: whoever
    /// reads that it is ready may ask it.
    async fn remember_and_listen(
        &self,
        running: &Running,
        state: &WorkerState,
        rates: RateLimits,
        shutdown: &Shutdown,
        events: &Events,
    ) {
        let end = running.released.clone();
        let telling = events.clone();
        running
            .tracker
            .spawn(telling.run(self.app.clone(), self.options.heartbeat, end.clone()));
        running
            .tracker
            .spawn(state::keep(state.clone(), end.clone()));
        let settings = self.app.settings();
        if !settings.worker_enable_remote_control {
            return;
        }
        let control = Control {
            app: self.app.clone(),
            state: state.clone(),
            hostname: self.options.hostname.clone(),
            queues: self.options.queues.clone(),
            concurrency: self.options.concurrency,
            // As Celery shows it: 0 for no limit, and `worker_disable_prefetch` changes nothing.
            prefetch: settings.worker_prefetch_multiplier * self.slots(),
            shutdown: shutdown.clone(),
            events: events.clone(),
            rates,
        };
        let (listening, listens) = oneshot::channel();
        running.tracker.spawn(control.run(listening, end));
        // An error: it does not listen yet, and tries again.
        listens.await.ok();
    }

    /// How many tasks run at a time.
    fn slots(&self) -> usize {
        self.options.concurrency.max(1)
    }

    /// Counterpart: `worker_prefetch_multiplier` × concurrency, 0 being unlimited; `worker_disable_prefetch`.
    fn prefetch(&self) -> usize {
        let settings = self.app.settings();
        if settings.worker_disable_prefetch {
            return self.slots();
        }
        match settings.worker_prefetch_multiplier {
            0 => usize::MAX,
            multiplier => multiplier * self.slots(),
        }
    }
}

/// The engine's runtime, left behind when the worker is dropped.
struct Engine(Option<Runtime>);

impl Engine {
    fn start() -> io::Result<Self> {
        let mut runtime = Builder::new_multi_thread();
        runtime.worker_threads(1).thread_name("engine").enable_all();
        runtime.build().map(|runtime| Self(Some(runtime)))
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0
            .as_ref()
            .expect("it is taken by drop alone")
            .spawn(work)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Where this is called, nobody may wait.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Running {
    async fn stop(self) {
        let mut left = self.timer.await.unwrap_or_default();
        left.extend(self.rates.await.unwrap_or_default());
        let not_begun = self.ready.close().into_iter();
        left.extend(not_begun.map(Request::into_delivery));
        if !left.is_empty() {
            let count = left.len();
            // Back to the places where they were: by their claims, which are in the order of the takes.
            left.sort_by(|one, other| one.tag().cmp(other.tag()));
            log::info!("Restoring {count} unacknowledged message(s)");
            self.held.requeue(left, QueueEnd::Front).await;
        }
        let mut ran = 0;
        for slot in self.slots {
            ran += slot.await.unwrap_or(0);
        }
        // What has run is settled.
        self.settling.await.ok();
        self.released.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        let (given_back, left) = self.held.totals();
        // With something left behind, it is to be noticed that this worker is silent.
        if left == 0
            && let Err(error) = self.app.transport().leave().await
        {
            log::debug!("could not say goodbye: {error}");
        }
        log::info!(
            "Stopped: {ran} task(s) have run, {given_back} message(s) were given back, {left} stay in unacked"
        );
    }
}
