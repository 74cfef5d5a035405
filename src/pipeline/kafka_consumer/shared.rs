//! What the consumer's thread and its handle both see.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::pipeline::offsets::{Offsets, Ticket};

/// How far the consumer's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Running,
    /// No more records are taken; those in hand are finished.
    Draining,
    Closing,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) offsets: Offsets,
    pub(super) phase: Phase,
    /// A rebalance undoes a pause.
    pub(super) is_assigned_anew: bool,
    pub(super) has_commit_failed: bool,
}

/// The state, and a bell that rings when there may be room again.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding this lock")
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
        self.changed.notify_one();
    }

    pub(super) fn done(&self, ticket: &Ticket) {
        self.lock().offsets.done(ticket);
        self.changed.notify_one();
    }

    /// Waits until something is done, or for this long.
    pub(super) fn wait(&self, limit: Duration) {
        let woken = self.changed.wait_timeout(self.lock(), limit);
        drop(woken.expect("no panic while holding this lock"));
    }
}
