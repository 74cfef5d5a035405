//! One run of the task: what it works on, how long it waits in its slot, and when it must stop.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log::Level;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::path::printable;
use super::settings::Ingest;

/// Waits within one run, in seconds. After the last the slot is given back and the task comes again by the engine.
const PATIENCE_SECS: [u64; 4] = [1, 2, 4, 8];

/// One run of the task.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) ingest: &'a Ingest,
    /// The path as the message names it, such as PostgreSQL and a log line can hold it.
    pub(crate) path: String,
    pub(crate) task_id: &'a str,
    cancelled: &'a CancellationToken,
    waits: AtomicUsize,
}

impl<'a> Job<'a> {
    pub(crate) fn new(
        ingest: &'a Ingest,
        path: &str,
        task_id: &'a str,
        cancelled: &'a CancellationToken,
    ) -> Self {
        Self {
            ingest,
            path: printable(path.as_bytes()),
            task_id,
            cancelled,
            waits: AtomicUsize::new(0),
        }
    }

    /// Waits a while for an outage to pass; the run has one budget for all of them.
    ///
    /// # Errors
    /// `error` itself when it is no outage or the budget is used up, [`Error::Cancelled`] when the engine stops us.
    pub(crate) async fn wait_out(&self, error: Error) -> Result<(), Error> {
        if !error.is_outage() || !self.ingest.is_patient {
            return Err(error);
        }
        let Some(&delay) = PATIENCE_SECS.get(self.waits.fetch_add(1, Ordering::Relaxed)) else {
            return Err(error);
        };
        let level = match error {
            Error::Deployment(_) => Level::Error,
            _ => Level::Warn,
        };
        log::log!(
            level,
            "Data from {}: {error}; trying again in {delay} s.",
            self.shown()
        );
        tokio::select! {
            // cancel-safe: nothing but waiting on both sides.
            () = self.cancelled.cancelled() => Err(Error::Cancelled),
            () = tokio::time::sleep(jitter(Duration::from_secs(delay))) => Ok(()),
        }
    }

    /// Does `attempt` until it succeeds, fails for good, or the budget for waiting is used up.
    pub(crate) async fn persist<T, F: Future<Output = Result<T, Error>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, Error> {
        loop {
            match attempt().await {
                Err(error) => self.wait_out(error).await?,
                done => return done,
            }
        }
    }

    /// Runs `work`, which reads files, off the async threads. It gets a token that says when to stop.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Cancelled`] when the worker is ending.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(CancellationToken) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        // Stops the work also when this future is dropped, for nobody would take its result.
        let token = self.cancelled.child_token();
        let _guard = token.clone().drop_guard();
        let result = celeriac::blocking(move |_same_token| work(token)).await;
        result.unwrap_or(Err(Error::Cancelled))
    }

    /// The path for a log line: on one line.
    pub(crate) fn shown(&self) -> String {
        let mut shown = String::with_capacity(self.path.len());
        for c in self.path.chars() {
            match c.is_control() {
                true => shown.extend(c.escape_default()),
                false => shown.push(c),
            }
        }
        shown
    }
}

/// Up to a fifth more or less, so that what failed together does not come back together.
pub(crate) fn jitter(delay: Duration) -> Duration {
    delay.mul_f64(rand::rng().random_range(0.8..1.2))
}
