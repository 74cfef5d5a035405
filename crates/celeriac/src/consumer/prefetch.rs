//! How many messages may be held beside those that wait for their time, and when to take more.
//!
//! Counterpart: `kombu/common.py::QoS` and `worker_prefetch_multiplier` @ 5.7.0.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Slots;
use crate::transport::MAX_TAKE;

/// Short tasks free most of the room in less; whatever there is after this is worth a take.
const SOON: Duration = Duration::from_millis(5);

/// Where so many messages come with a take, the half of them is worth one: what a take costs by itself is small then, and
/// the server takes one half while the other one runs.
const HALVES: usize = 32;

/// Where messages are held until results are stored, a fourth of so many is: the server has three things to do for each, one
/// after the other, and the halves would wait for it at the same time.
const FOURTHS: usize = 64;

/// See the module's text.
#[derive(Debug, Clone)]
pub(crate) struct Prefetch {
    room: Arc<Semaphore>,
    /// So much room is worth a take while all slots are busy.
    worth: u32,
    /// The most to take at a time.
    most: usize,
}

impl Prefetch {
    /// Room for so many messages; at least one. Some of them may be held until their results are stored.
    pub(crate) fn new(limit: usize, is_held_for_results: bool) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        let part = |parts: usize| (limit / parts).min(MAX_TAKE / 2);
        let (worth, most) = match limit {
            FOURTHS.. if is_held_for_results => (part(4), part(4)),
            HALVES.. => (part(2), part(2)),
            _ => (limit - limit / 4, limit),
        };
        Self {
            room: Arc::new(Semaphore::new(limit)),
            worth: u32::try_from(worth).unwrap_or(u32::MAX),
            most,
        }
    }

    /// How many more messages may be held.
    pub(crate) fn room(&self) -> usize {
        self.room.available_permits()
    }

    /// How many messages to take at a time.
    pub(crate) fn batch(&self) -> usize {
        self.room().min(self.most)
    }

    /// Room for so many messages, given up with what is returned.
    pub(crate) fn take(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(count).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(count).ok()
    }

    /// Whether a take is worth its while although all slots are busy.
    pub(crate) fn has_worth(&self) -> bool {
        self.room() >= self.worth as usize
    }

    /// Waits until much of the room is free: a take costs nearly the same for one message as for many, and what is left
    /// runs meanwhile. A slot that has nothing to run does not wait for that, and where tasks take longer nobody
    /// does.
    pub(crate) async fn is_worth_a_take(&self, slots: &mut Slots) {
        tokio::select! {
            biased;
            // cancel-safe, both: they only wait
            () = slots.one_is_free() => {}
            () = self.has(self.worth) => return,
            () = tokio::time::sleep(SOON) => {}
        }
        // Only now: whoever waits for much keeps what is free from whoever waits for little.
        self.has(1).await;
    }

    async fn has(&self, count: u32) {
        // It is never closed; what is acquired here is given up at once.
        self.room.acquire_many(count).await.ok();
    }
}
