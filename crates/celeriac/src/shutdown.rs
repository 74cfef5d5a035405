//! Telling a worker to stop.
//!
//! Counterpart: `celery/worker/state.py` (`should_stop`, `should_terminate`) @ 5.7.0, without the globals.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff::pause;

/// A handle to stop a worker with. Cheap to clone; all clones speak to the same worker.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    warm: CancellationToken,
    /// A cold stop is asked for; what runs may have some time left.
    soft: CancellationToken,
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

    /// Give everything back, also what runs, once `worker_soft_shutdown_timeout` has passed; at once when asked again.
    pub fn cold(&self) {
        if self.soft.is_cancelled() {
            self.cold.cancel();
        }
        self.soft.cancel();
        self.warm.cancel();
    }

    /// Lets what runs go on for a while after a cold stop was asked for.
    ///
    /// Counterpart: `WorkController.wait_for_soft_shutdown`; deliberate difference: a worker whose last task has ended
    /// does not sit out the time.
    pub(crate) async fn soften(&self, timeout: Duration, is_busy: impl Fn() -> bool) {
        self.soft.cancelled().await;
        if !timeout.is_zero() && is_busy() {
            log::warn!(
                "Initiating Soft Shutdown, terminating in {:?} seconds",
                timeout.as_secs_f64()
            );
            pause(timeout, &self.cold).await;
        }
        self.cold.cancel();
    }

    /// Whether any stop has been asked for.
    pub fn is_stopping(&self) -> bool {
        self.warm.is_cancelled()
    }

    /// Whether what runs is to end now.
    pub fn is_cold(&self) -> bool {
        self.cold.is_cancelled()
    }

    /// Done when any stop is asked for.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.warm
    }

    /// Done when what runs is to end now.
    pub(crate) fn cold_token(&self) -> &CancellationToken {
        &self.cold
    }
}
