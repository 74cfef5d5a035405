//! The part of a worker that takes messages: connect, consume, reconnect.
//!
//! - here: the loop, and Celery's lines about the connection.
//! - `strategy`: what to do with one message.
//! - `held`: everything that we hold, and settling it.
//! - `timer`: what waits for its time.
//! - `lease`: renewing what is held, restoring what others have left.
//!
//! Counterpart: `celery/worker/consumer/consumer.py` @ 5.7.0.

pub(crate) mod held;
pub(crate) mod lease;
mod strategy;
pub(crate) mod timer;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::backoff::pause;
use crate::executor::Request;
use crate::shutdown::Shutdown;
use crate::state::WorkerState;
use crate::transport::{Error, MAX_TAKE, QueueEnd};
use held::Held;
use strategy::Strategy;
use timer::Timed;

/// `broker_connection_retry`: the first wait, and what is added to each, in seconds.
const RETRY_STEP: Duration = Duration::from_secs(2);

/// The longest wait between two tries.
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// The message loop of one worker.
#[derive(Debug)]
pub(crate) struct Consumer {
    app: App,
    hostname: String,
    queues: Vec<String>,
    /// How many messages may be held beside those that wait for their time.
    prefetch: Arc<Semaphore>,
    held: Held,
    strategy: Strategy,
    /// Takes that have failed in a row.
    failures: u32,
    shutdown: Shutdown,
}

/// Where the consumer's messages go.
#[derive(Debug, Clone)]
pub(crate) struct Outlets {
    pub(crate) ready: ReadySender,
    pub(crate) timed: mpsc::Sender<Timed>,
    /// What remote control sees.
    pub(crate) state: WorkerState,
}

/// The way to the slots. Full channels must not hold up a stop: the slots take no more then.
#[derive(Debug, Clone)]
pub(crate) struct ReadySender {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) stopping: CancellationToken,
}

impl ReadySender {
    /// Passes a request on; it comes back when the worker is stopping.
    pub(crate) async fn send(&self, request: Request) -> Result<(), Box<Request>> {
        let place = tokio::select! {
            biased;
            // cancel-safe: a place that was not used is given up
            () = self.stopping.cancelled() => None,
            place = self.requests.reserve() => place.ok(),
        };
        match place {
            Some(place) => {
                place.send(request);
                Ok(())
            }
            None => Err(Box::new(request)),
        }
    }
}

impl Consumer {
    pub(crate) fn new(
        app: App,
        hostname: String,
        queues: Vec<String>,
        prefetch: Arc<Semaphore>,
        held: Held,
        outlets: Outlets,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            strategy: Strategy::new(app.clone(), hostname.clone(), held.clone(), outlets),
            held,
            failures: 0,
            app,
            hostname,
            queues,
            prefetch,
            shutdown,
        }
    }

    /// Consumes until told to stop.
    ///
    /// # Errors
    /// The broker could not be reached within the number of tries that the settings allow.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let mut is_first = true;
        while self.connect(is_first).await? {
            log::info!("Connected to {}", self.app.settings().masked_broker_url());
            if is_first {
                log::info!("{} ready.", self.hostname);
                is_first = false;
            }
            if let Err(error) = self.consume().await {
                log::warn!(
                    "consumer: Connection to broker lost. Trying to re-establish the connection... ({error})"
                );
                self.pause_between_failures().await;
            }
        }
        Ok(())
    }

    /// A broker that answers, but lets us take nothing (a key of another type, a right that is missing),
    /// is asked again at the pace of one that does not answer.
    async fn pause_between_failures(&mut self) {
        let wait = (RETRY_STEP * self.failures).min(RETRY_LONGEST);
        self.failures = self.failures.saturating_add(1);
        pause(wait, self.shutdown.stopping()).await;
    }

    /// Tries until the broker answers; `false` when told to stop.
    async fn connect(&self, is_first: bool) -> Result<bool, Error> {
        let settings = self.app.settings();
        let is_retried = !is_first || settings.broker_connection_retry_on_startup;
        let limit = settings
            .broker_connection_max_retries
            .filter(|limit| *limit > 0);
        let mut tries = 0;
        while !self.shutdown.is_stopping() {
            let error = match self.declare_queues().await {
                Ok(()) => return Ok(true),
                Err(error) => error,
            };
            tries += 1;
            let url = self.app.broker_url();
            if !is_retried || !error.is_transient() || limit.is_some_and(|limit| tries > limit) {
                log::error!("consumer: Cannot connect to {url}: {error}.");
                return Err(error);
            }
            let wait = (RETRY_STEP * tries).min(RETRY_LONGEST);
            let of = limit.map_or_else(|| "inf".to_owned(), |limit| limit.to_string());
            log::error!(
                "consumer: Cannot connect to {url}: {error}. Trying again in {:.2} seconds... ({tries}/{of})",
                wait.as_secs_f64()
            );
            pause(wait, self.shutdown.stopping()).await;
        }
        Ok(false)
    }

    async fn declare_queues(&self) -> Result<(), Error> {
        let transport = self.app.transport();
        transport.connect().await?;
        for queue in &self.queues {
            transport.declare(queue).await?;
        }
        Ok(())
    }

    async fn consume(&mut self) -> Result<(), Error> {
        let transport = Arc::clone(self.app.transport());
        while self.has_room().await {
            let room = self.prefetch.available_permits().min(MAX_TAKE);
            // Never inside a select: what is taken must reach our hands.
            let deliveries = transport.take(&self.queues, room).await?;
            self.failures = 0;
            let is_drained = deliveries.len() < room;
            let mut late = Vec::new();
            for delivery in deliveries {
                let permit = Arc::clone(&self.prefetch).try_acquire_owned().ok();
                late.extend(self.strategy.handle(delivery, permit).await);
            }
            // All at once, so that they keep their order.
            self.held.requeue(late, QueueEnd::Front).await;
            if is_drained {
                tokio::select! {
                    // cancel-safe: both only wait
                    () = self.shutdown.stopping().cancelled() => {}
                    () = transport.woken() => {}
                }
            }
        }
        Ok(())
    }

    /// Waits until a further message may be held; `false` when told to stop.
    async fn has_room(&self) -> bool {
        tokio::select! {
            biased;
            // cancel-safe: both only wait
            () = self.shutdown.stopping().cancelled() => false,
            permit = self.prefetch.acquire() => permit.is_ok(),
        }
    }
}
