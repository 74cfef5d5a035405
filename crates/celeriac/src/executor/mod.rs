//! Running tasks.
//!
//! - here: the slots, and one request on its way through a slot.
//! - `ending`: what is left to do when a run is over, while the slot goes on.
//! - `request`: a message that was accepted, with all that belongs to it.
//! - `ready`: what waits for a slot.
//! - `retry`: running a task again.
//! - `time_limit`: which limits hold, and waiting for them.
//! - `record`: writing down where a task stands.
//! - `errback`: errbacks that run here.
//! - `settle`: the order in which the end of a task takes effect (promise M6), the one place; `chord`: its part in a chord.
//! - `blocking`: work off the engine's thread. `panics`: a panic is a FAILURE.
//!
//! Counterpart: `celery/worker/request.py` and `celery/app/trace.py::build_tracer` @ 5.7.0.

mod blocking;
mod chord;
mod ending;
mod errback;
mod panics;
mod ready;
mod record;
mod request;
mod retry;
mod settle;
mod time_limit;

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use celeriac_protocol::exception::TaskException;
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use blocking::on_own_thread;
pub use blocking::{BlockingError, blocking};
pub(crate) use ending::Ending;
pub(crate) use panics::text as panic_text;
pub(crate) use ready::Ready;
pub(crate) use request::Request;
use request::Traces;
use time_limit::{Exceeded, Limit, TimeLimits};

use crate::app::App;
use crate::backoff::Patience;
use crate::consumer::held::Held;
use crate::events::Events;
use crate::handler::{Handler, Invocation, Outcome};
use crate::log_lines;
use crate::state::{TaskLimits, WorkerState};
use crate::threads::Threads;
use crate::transport::QueueEnd;

/// One unit of concurrency.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    pub(crate) app: App,
    pub(crate) events: Events,
    pub(crate) held: Held,
    pub(crate) hostname: String,
    /// Done when no further request is to be started.
    pub(crate) stopping: CancellationToken,
    /// Done when what runs is to end at once.
    pub(crate) cold: CancellationToken,
    /// How long to try what the broker or the backend does not take.
    pub(crate) patience: Patience,
    /// Held by all that run; by a suspect alone.
    pub(crate) company: Arc<RwLock<()>>,
    /// How many requests the slots have, and have before them.
    pub(crate) busy: watch::Sender<usize>,
    /// How many slots there are.
    pub(crate) slots: usize,
    /// The worker's own time limits.
    pub(crate) limits: TaskLimits,
    pub(crate) state: WorkerState,
    pub(crate) threads: Threads,
}

/// How a run has ended.
enum End {
    Outcome(Outcome),
    /// By its hard time limit.
    TimedOut(Limit),
    /// It was given up: at a cold stop, or because the message is not ours any more.
    GivenUp,
    /// A stop came before its first step.
    NotBegun,
}

/// What a run holds of [`Executor::company`] while it lasts.
enum Company {
    Shared(#[expect(dead_code, reason = "held until dropped")] OwnedRwLockReadGuard<()>),
    Alone(#[expect(dead_code, reason = "held until dropped")] OwnedRwLockWriteGuard<()>),
}

impl Executor {
    /// Runs one request after the other until told to stop. Returns how many have run.
    pub(crate) async fn run_slot(
        self,
        slot: usize,
        ready: Ready,
        endings: mpsc::Sender<Ending>,
    ) -> usize {
        let mut count = 0;
        let name = log_lines::slot_name(slot);
        while let Some(request) = self.next(&ready).await {
            let traces = request.traces();
            // Pinned here, and passed on by reference: it is too large to be moved around.
            let execution = pin!(self.execute(request));
            if let Some(Some(ending)) = self.guarded(&name, &traces, execution).await {
                // It cannot be refused: what settles ends after the slots.
                endings.send(ending.of_slot(&name)).await.ok();
            }
            self.busy.send_if_modified(|busy| {
                *busy -= 1;
                *busy < self.slots
            });
            count += 1;
        }
        count
    }

    /// The task's own panics are caught further in: this one is ours, and must not cost the slot.
    async fn guarded<T>(
        &self,
        name: &Arc<str>,
        traces: &Traces,
        work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let work = AssertUnwindSafe(work).catch_unwind();
        match log_lines::in_process(Arc::clone(name), work).await {
            Ok(done) => Some(done),
            Err(panic) => {
                traces.subject().internal_error(&panics::text(&*panic));
                self.held.let_go(traces.tag());
                None
            }
        }
    }

    async fn next(&self, ready: &Ready) -> Option<Request> {
        tokio::select! {
            biased;
            // cancel-safe: a request is either taken or still there
            () = self.stopping.cancelled() => None,
            request = ready.take() => request,
        }
    }

    /// From the slot to the end of the run. What is left to do then is returned, unless it is done already. What is rare
    /// is boxed, as in [`Self::finish`].
    async fn execute(&self, mut request: Request) -> Option<Ending> {
        if request.context().is_cancelled() {
            request.subject().lost();
            return None;
        }
        if request.is_expired() {
            Box::pin(self.discard(request, "expired")).await;
            return None;
        }
        let company = match self.thread_for(&request).await {
            true => self.company(&request).await,
            false => None,
        };
        let Some(company) = company else {
            self.requeue(&mut request, QueueEnd::Front).await;
            return None;
        };
        let mut request = self.admitted(request).await?;
        let early = if request.options().acks_late {
            if request.is_to_be_marked() {
                self.mark_started(&mut request).await;
            }
            None
        } else {
            request.take_delivery()
        };
        if let Some(delivery) = &early
            && !self.held.is_still_ours(delivery).await
        {
            request.subject().lost();
            return None;
        }
        // Beside the run, as a pool's child has begun when Celery's main process acknowledges. Where the message turns
        // out to be another worker's, the run is cancelled.
        let mut receipt = early.map(|delivery| self.held.ack(delivery));
        // One that has come before may be what ended the other worker: once it has begun, it must not come again.
        if request.context().is_redelivered()
            && let Some(receipt) = receipt.take()
            && !receipt.confirmed().await
        {
            request.subject().lost();
            return None;
        }
        let started = Instant::now();
        let end = self.begin(&mut request).await;
        let ending = Ending::new(request, end, started.elapsed(), receipt);
        // A mark that outlasts the run would blame this one for what the next one does.
        if ending.keeps_its_slot() {
            if ending.is_of_a_suspect() {
                Box::pin(self.finish(ending)).await;
                drop(company);
            } else {
                // Whoever waits to run alone need not wait for servers.
                drop(company);
                Box::pin(self.finish(ending)).await;
            }
            return None;
        }
        Some(ending)
    }

    /// It starts now, unless there is a reason against it.
    async fn admitted(&self, request: Request) -> Option<Request> {
        if !request.start() {
            Box::pin(self.discard(request, "revoked")).await;
        } else if request.deaths() > 0 && !request.options().runs_again_after_death {
            Box::pin(self.worker_lost(request)).await;
        } else if let Some(meta) = self.success_of(&request).await {
            Box::pin(self.already_done(request, meta)).await;
        } else {
            return Some(request);
        }
        None
    }

    /// A place for the thread that the task needs. A thread that goes on beyond a limit cannot be ended; while such
    /// threads have all places, nothing starts. `false`: a stop came first.
    async fn thread_for(&self, request: &Request) -> bool {
        if !request.handler().needs_thread() {
            return true;
        }
        let (used, count) = self.threads.used();
        if used == count {
            log::error!(
                "All {count} threads have tasks that go on beyond their end; no task starts here until one ends"
            );
        }
        let place = tokio::select! {
            biased;
            // cancel-safe: a place that was not taken is free
            place = self.threads.place() => place,
            () = self.stopping.cancelled() => None,
        };
        let Some(place) = place else {
            return false;
        };
        request.context().give_thread(place);
        true
    }

    /// The stored SUCCESS of a task that comes a second time, where the settings ask for that.
    async fn success_of(&self, request: &Request) -> Option<TaskMeta> {
        let is_wanted = self.app.settings().worker_deduplicate_successful_tasks
            && request.options().acks_late
            && request.context().is_redelivered();
        if !is_wanted {
            return None;
        }
        // Without an answer it runs again, as in Celery.
        let stored = self.app.backend().get(request.context().id()).await;
        let meta = stored.ok().flatten()?;
        (meta.status == State::Success).then_some(meta)
    }

    /// A suspect waits until nothing else runs, and nothing else starts meanwhile. `None`: a stop came first.
    async fn company(&self, request: &Request) -> Option<Company> {
        let company = Arc::clone(&self.company);
        let company = match request.is_suspect() {
            true => Company::Alone(company.write_owned().await),
            false => Company::Shared(company.read_owned().await),
        };
        if self.stopping.is_cancelled() {
            return None;
        }
        if request.is_suspect() {
            request.subject().runs_alone();
        }
        Some(company)
    }

    /// From now on the death of this worker counts against the message (promise M5).
    async fn mark_started(&self, request: &mut Request) {
        let transport = self.app.transport();
        if let Some((delivery, id)) = request.delivery_mut()
            && let Err(error) = transport.mark_started(delivery, id).await
        {
            // The broker is away. To wait for it would hold up what can run.
            log::debug!(
                "could not mark {} as started: {error}",
                log_lines::shown(id)
            );
        }
    }

    async fn begin(&self, request: &mut Request) -> End {
        self.events.started(request.event_id());
        if request.tracks_started() {
            let meta = json!({"pid": std::process::id(), "hostname": self.hostname});
            let children = Value::Array(Vec::new());
            let end = request.context().end().clone();
            let stored = tokio::select! {
                biased;
                // cancel-safe: what is on its way is stored, or not; it says nothing of the end
                stored = self.store(request, State::Started, meta, None, children) => stored,
                () = self.cold.cancelled() => false,
                () = end.cancelled() => return End::GivenUp,
            };
            // A stop does not wait for a task that has not begun.
            if !stored && request.delivery().is_some() {
                return End::NotBegun;
            }
        }
        self.run(request).await
    }

    /// Runs the handler.
    async fn run(&self, request: &mut Request) -> End {
        // Not even its first step, when it was cancelled while it was acknowledged.
        if request.context().is_cancelled() {
            return End::GivenUp;
        }
        let (args, kwargs) = request.arguments();
        let context = request.context().clone();
        let handler = Arc::clone(request.handler());
        let invocation = Invocation {
            args,
            kwargs,
            context: context.clone(),
        };
        let changed = self.state.time_limits(context.task_name());
        let limits = TimeLimits::new(request, self.limits, changed);
        let is_limited = limits.are_any();
        let say =
            |limit: &Limit| settle::main_process(|| request.subject().exceeded_soft(&limit.shown));
        let run = run_handler(handler, invocation, request.runs_with_the_engine());
        tokio::select! {
            biased;
            outcome = run => End::Outcome(outcome),
            exceeded = limits.exceeded(&context, say), if is_limited => {
                context.end().cancel();
                match exceeded {
                    Exceeded::Soft => End::Outcome(Outcome::failure(TaskException::soft_time_limit_exceeded())),
                    Exceeded::Hard(limit) => End::TimedOut(limit),
                }
            }
            // The run is given up: what it has not committed is rolled back by whoever it speaks to.
            () = self.cold.cancelled() => {
                context.end().cancel();
                End::GivenUp
            }
            () = context.end().cancelled() => End::GivenUp,
        }
    }
}

/// Runs a handler within its context, on the engine's thread or beside it. Its panic is a failure.
async fn run_handler(
    handler: Arc<dyn Handler>,
    invocation: Invocation,
    is_with_the_engine: bool,
) -> Outcome {
    let context = invocation.context.clone();
    let named = context.clone();
    let run = async move { panics::caught(named.task_name(), handler.run(invocation)).await };
    match is_with_the_engine {
        true => context.scope(run).await,
        false => blocking::beside_the_engine(context, run).await,
    }
}
