//! Waiting between two tries, and not saying the same thing too often.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// The first wait; doubled until [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5);

/// An outage is mentioned at most this often.
const MENTION_INTERVAL: Duration = Duration::from_secs(10);

/// A growing, jittered wait.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    mentioned: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self {
            next: FIRST,
            mentioned: None,
        }
    }

    /// Whether the trouble is worth a line now.
    pub(crate) fn is_worth_mentioning(&mut self) -> bool {
        let due = self
            .mentioned
            .is_none_or(|mentioned| mentioned.elapsed() >= MENTION_INTERVAL);
        if due {
            self.mentioned = Some(Instant::now());
        }
        due
    }

    /// Waits, unless told to stop; `false` when told.
    pub(crate) async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let wait = self.next.mul_f64(rand::random_range(0.5..1.0));
        self.next = (self.next * 2).min(LONGEST);
        tokio::select! {
            // cancel-safe: nothing is in hand here
            () = stop.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }
}
