//! What a worker has and remembers: the requests in its hands, what was revoked, counts, its logical clock.
//!
//! The consumer, the timer and the slots tell it what becomes of a request; remote control reads it. There
//! is one for each worker, and no global.
//!
//! - here: the handle that all share.
//! - `requests`: the requests that are scheduled, reserved or active.
//! - `revoked`: the ids that must not run.
//! - `stamps`: the stamps whose tasks must not run.
//! - `limits`: the limits of tasks that remote control has changed.
//! - `statedb`: what is kept across a restart.
//!
//! Counterpart: `celery/worker/state.py` @ 5.7.0.

mod limits;
mod requests;
mod revoked;
mod stamps;
mod statedb;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use celeriac_protocol::message::TaskMessage;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use limits::LimitTable;
pub(crate) use limits::TaskLimits;
use requests::Requests;
pub(crate) use requests::{HeldRequest, Stage, Tracked, Waiting};
pub use revoked::RevokedError;
use revoked::{LimitedSet, Limits};
pub(crate) use stamps::{MAX_STAMP_BYTES, Stamp};
use stamps::{RevokedStamps, Wanted};
use statedb::Saved;
pub use statedb::StateDbError;
pub(crate) use statedb::keep;

use crate::app::Settings;
use crate::lamport::LamportClock;

/// Longest id that is remembered as revoked, in bytes; Celery's own have 36.
pub(crate) const MAX_ID_BYTES: usize = 1024;

/// See the module's text. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct WorkerState {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    requests: Mutex<Requests>,
    revoked: Mutex<LimitedSet>,
    /// Locked last: whoever starts a request looks here while it has the requests.
    stamps: Mutex<RevokedStamps>,
    time_limits: LimitTable,
    /// Rings when something was revoked.
    changed: Notify,
    clock: LamportClock,
    started: Instant,
    statedb: Option<PathBuf>,
}

/// What cannot be had at the start of a worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// An environment variable has a value that it cannot take.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
    /// The state file cannot be read.
    #[error(transparent)]
    StateDb(#[from] StateDbError),
}

impl WorkerState {
    /// As the last worker with the same state file left it; empty without one.
    ///
    /// # Errors
    /// The file cannot be read, or a limit in the environment is no number.
    pub(crate) fn load(settings: &Settings, clock: LamportClock) -> Result<Self, StateError> {
        let limits = Limits::from_environment()?;
        let statedb = settings.worker_state_db.as_ref().map(PathBuf::from);
        let saved = match &statedb {
            Some(path) => statedb::load(path)?,
            None => Saved::default(),
        };
        clock.catch_up(saved.clock);
        let state = Self::new(limits, clock, statedb);
        state.revoke(&saved.revoked);
        if let Some(path) = &state.inner.statedb {
            // Whether it can be written shows now, not when it is needed.
            statedb::save(path, &state.saved())?;
        }
        Ok(state)
    }

    fn new(limits: Limits, clock: LamportClock, statedb: Option<PathBuf>) -> Self {
        Self {
            inner: Arc::new(Inner {
                requests: Mutex::default(),
                revoked: Mutex::new(LimitedSet::new(limits)),
                stamps: Mutex::new(RevokedStamps::new(limits)),
                time_limits: LimitTable::default(),
                changed: Notify::new(),
                clock,
                started: Instant::now(),
                statedb,
            }),
        }
    }

    /// Takes note of a request that was accepted. It is reserved until it is told otherwise; whatever ends
    /// it drops what is returned.
    pub(crate) fn track(&self, message: &Arc<TaskMessage>, cancel: &CancellationToken) -> Tracked {
        let id = &message.headers.id;
        let number = self.requests().insert(Arc::clone(message), cancel.clone());
        let tracked = Tracked::new(self.clone(), number);
        // After the insertion: whoever revokes puts the id here first, and then looks for the request.
        if self.revoked().contains(id, Instant::now()) {
            tracked.forbid();
        } else if message.headers.expires.is_some() {
            // Celery looks at the stamps when a message comes only where it has to look at the time.
            tracked.forbid_by_stamp();
        }
        tracked
    }

    /// From now on these ids are not started here. Returns those that do not run here at this moment.
    pub(crate) fn revoke(&self, ids: &[String]) -> Vec<String> {
        let now = Instant::now();
        {
            let mut revoked = self.revoked();
            for id in ids {
                revoked.add(id, now);
            }
        }
        self.inner.changed.notify_one();
        self.requests().revoke(ids)
    }

    /// Ends the runs of these ids. Returns those that are in our hands, running or not.
    pub(crate) fn terminate(&self, ids: &[String], signal: i64) -> Vec<String> {
        let mut runs = Vec::new();
        let known = self.requests().terminate(ids, signal, &mut runs);
        for run in runs {
            run.cancel();
        }
        known
    }

    /// From now on no task with one of these stamps is started here. Returns how many other stamps had to be
    /// forgotten for them.
    pub(crate) fn revoke_stamps(&self, stamps: &[Stamp<'_>]) -> usize {
        self.stamps().add(stamps)
    }

    /// Ends the runs of tasks with one of these stamps. Returns the stamps that those have.
    pub(crate) fn terminate_stamped<'a>(
        &self,
        stamps: &'a [Stamp<'a>],
        signal: i64,
    ) -> Vec<&'a Stamp<'a>> {
        let mut wanted = Wanted::new(stamps);
        let runs = self.requests().terminate_stamped(&mut wanted, signal);
        for run in runs {
            run.cancel();
        }
        let found = stamps.iter().filter(|stamp| wanted.was_found(stamp));
        found.collect()
    }

    /// The revoked ids, oldest first.
    pub(crate) fn revoked_ids(&self) -> Vec<String> {
        self.revoked().ids(Instant::now())
    }

    /// The requests in our hands, in the order in which they came.
    pub(crate) fn held(&self) -> Vec<HeldRequest> {
        self.requests().held()
    }

    /// Those that wait for their time.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        self.requests().waiting()
    }

    /// How many wait for their time.
    pub(crate) fn count_waiting(&self) -> usize {
        self.requests().count_waiting()
    }

    /// Those of these ids.
    pub(crate) fn held_by_id(&self, ids: &[String]) -> Vec<HeldRequest> {
        self.requests().held_by_id(ids)
    }

    /// The time limits that remote control has set for a task; `None`: none.
    pub(crate) fn time_limits(&self, task: &str) -> Option<TaskLimits> {
        self.inner.time_limits.of(task)
    }

    /// Sets them, from the next start on.
    pub(crate) fn limit_time(&self, task: &str, limits: TaskLimits) {
        self.inner.time_limits.set(task, limits);
    }

    /// How many requests of each task have been started, in the order of the first ones.
    pub(crate) fn totals(&self) -> Vec<(String, u64)> {
        self.requests().totals()
    }

    /// How many requests run, and how many were started so far.
    pub(crate) fn activity(&self) -> (usize, u64) {
        self.requests().activity()
    }

    /// The logical clock (Lamport's), one further.
    pub(crate) fn forward_clock(&self) -> u64 {
        self.inner.clock.forward()
    }

    /// The logical clock as it stands.
    pub(crate) fn clock(&self) -> u64 {
        self.inner.clock.value()
    }

    /// Whole seconds since the worker has started.
    pub(crate) fn uptime_secs(&self) -> u64 {
        self.inner.started.elapsed().as_secs()
    }

    fn saved(&self) -> Saved {
        Saved {
            clock: self.clock(),
            revoked: self.revoked_ids(),
        }
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        lock(&self.inner.requests)
    }

    fn revoked(&self) -> MutexGuard<'_, LimitedSet> {
        lock(&self.inner.revoked)
    }

    fn stamps(&self) -> MutexGuard<'_, RevokedStamps> {
        lock(&self.inner.stamps)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
