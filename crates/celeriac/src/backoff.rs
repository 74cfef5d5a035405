//! Waiting between two tries, and not saying the same thing too often.
//!
//! While a worker runs, what it owes the broker or the backend is tried without end. A stop must come to
//! an end even when they are away, so it grants all that is still to be done a few seconds together.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// The first wait; doubled until [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5);

/// How long a stopping worker tries to reach a server that is away.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// An outage is mentioned at most this often, by whoever meets it.
const MENTION_INTERVAL: Duration = Duration::from_secs(10);

/// A growing, jittered wait.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Waits before the next try; `false`: the worker is stopping, and has tried for long enough.
    pub(crate) async fn wait(&mut self, patience: &Patience) -> bool {
        let wait = jittered(self.next);
        self.next = (self.next * 2).min(LONGEST);
        patience.wait(wait).await
    }
}

/// A wait that differs from worker to worker, so that a fleet does not come back all at once.
pub(crate) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..1.0))
}

/// Waits; `false` when told to end.
pub(crate) async fn pause(wait: Duration, end: &CancellationToken) -> bool {
    tokio::select! {
        // cancel-safe: both only wait
        () = end.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    }
}

/// How long one worker's tries go on. Cheap to clone; all clones share one deadline.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    stopping: CancellationToken,
    deadline: Arc<OnceLock<Instant>>,
    mentioned: Arc<Mutex<Option<Instant>>>,
}

impl Patience {
    /// Without end, until `stopping` is done; then some seconds from the first failure on.
    pub(crate) fn new(stopping: CancellationToken) -> Self {
        Self {
            stopping,
            deadline: Arc::default(),
            mentioned: Arc::default(),
        }
    }

    /// Whether an outage is worth a line now; all parts of a worker share the lines.
    pub(crate) fn is_worth_mentioning(&self) -> bool {
        let mut mentioned = self
            .mentioned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_due = mentioned.is_none_or(|mentioned| mentioned.elapsed() >= MENTION_INTERVAL);
        if is_due {
            *mentioned = Some(Instant::now());
        }
        is_due
    }

    /// Waits for what may come; `false`: the worker is stopping, and has waited for long enough.
    pub(crate) async fn wait(&self, wait: Duration) -> bool {
        if !self.stopping.is_cancelled() {
            pause(wait, &self.stopping).await;
            return true;
        }
        let deadline = self.deadline.get_or_init(|| Instant::now() + STOP_PATIENCE);
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::time::sleep(wait.min(left)).await;
        !left.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_ends_the_tries_of_all_together() {
        let stopping = CancellationToken::new();
        let patience = Patience::new(stopping.clone());
        let mut backoff = Backoff::new();
        for _ in 0..2 {
            assert!(backoff.wait(&patience).await, "nobody has said stop");
        }
        stopping.cancel();
        patience
            .deadline
            .set(Instant::now())
            .expect("nobody has waited since the stop");
        assert!(!Backoff::new().wait(&patience).await);
        assert!(!Backoff::new().wait(&patience.clone()).await);
    }
}
