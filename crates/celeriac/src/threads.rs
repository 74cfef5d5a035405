//! Where tasks run beside the engine, and how many threads they may have.
//!
//! The engine has one thread ([`crate::worker`]); tasks have the runtime that the worker was started on.
//!
//! CPU work ([`crate::blocking`]) has as many as there are slots or CPUs; more of it waits for its turn.
//!
//! A thread that never yields cannot be ended. When its task's time limit has passed, its slot takes the next task, on
//! another thread; there are twice as many as slots. Once those are all taken by tasks that do not end, slots wait.

use std::num::NonZero;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places for such threads of one worker. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Threads {
    runtime: Handle,
    places: Arc<Semaphore>,
    count: usize,
    work: Arc<Semaphore>,
}

impl Threads {
    /// For so many slots, on this runtime.
    pub(crate) fn new(slots: usize, runtime: Handle) -> Self {
        let count = slots.saturating_mul(2).min(Semaphore::MAX_PERMITS);
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            runtime,
            places: Arc::new(Semaphore::new(count)),
            count,
            work: Arc::new(Semaphore::new(slots.clamp(cpus, Semaphore::MAX_PERMITS))),
        }
    }

    /// The runtime of tasks.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// A place for CPU work, likewise.
    pub(crate) async fn work(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.work).acquire_owned().await.ok()
    }

    /// A place, given up by whoever drops it: to be moved into the thread. `None`: never, as they are not closed.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// How many are in use, of how many.
    pub(crate) fn used(&self) -> (usize, usize) {
        let used = self.count - self.places.available_permits().min(self.count);
        (used, self.count)
    }
}
