//! Telling a worker to stop.
//!
//! Counterpart: `celery/worker/state.py` (`should_stop`, `should_terminate`) @ 5.7.0, without the globals.

use tokio_util::sync::CancellationToken;

/// A handle to stop a worker with. Cheap to clone; all clones speak to the same worker.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    warm: CancellationToken,
    cold: CancellationToken,
}

impl Shutdown {
    /// A handle that has said nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Take no more, finish what runs, give back the rest.
    pub fn warm(&self) {
        self.warm.cancel();
    }

    /// Give everything back at once, also what runs.
    pub fn cold(&self) {
        self.cold.cancel();
        self.warm.cancel();
    }

    /// Whether any stop has been asked for.
    pub fn is_stopping(&self) -> bool {
        self.warm.is_cancelled()
    }

    /// Whether a cold stop has been asked for.
    pub fn is_cold(&self) -> bool {
        self.cold.is_cancelled()
    }

    /// Done when any stop is asked for.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.warm
    }

    /// Done when a cold stop is asked for.
    pub(crate) fn cold_token(&self) -> &CancellationToken {
        &self.cold
    }
}
