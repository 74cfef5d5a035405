//! The part of a worker that takes messages: connect, consume, reconnect.
//!
//! - here: the loop, and Celery's lines about the connection.
//! - `prefetch`: how many messages may be held, and when a take is worth its while.
//! - `strategy`: what to do with one message.
//! - `held`: everything that we hold, and settling it; `acks`: acknowledgements, gathered.
//! - `timer`: what waits for its time.
//! - `rate_limit`: what waits because others of its kind have just started.
//! - `lease`: renewing what is held, restoring what others have left.
//! - `neighbours`: saying that we live, and taking over from who does not.
//! - `strays`: what the broker has forgotten that we have settled.
//!
//! Counterpart: `celery/worker/consumer/consumer.py` @ 5.7.0.

pub(crate) mod acks;
pub(crate) mod held;
pub(crate) mod lease;
pub(crate) mod neighbours;
mod prefetch;
pub(crate) mod rate_limit;
pub(crate) mod strategy;
mod strays;
pub(crate) mod timer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::backoff::{jittered, pause};
use crate::events::Events;
use crate::executor::{Ready, Request};
use crate::shutdown::Shutdown;
use crate::state::WorkerState;
use crate::threads::Threads;
use crate::transport::{Delivery, Error, QueueEnd};
use held::Held;
pub(crate) use prefetch::Prefetch;
use rate_limit::{Admission, RateLimits};
use strategy::{Strategy, Taken};
use timer::Timed;

/// `broker_connection_retry`: the first wait, and what is added to each, in seconds.
const RETRY_STEP: Duration = Duration::from_secs(2);

/// The longest wait between two tries.
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// The longest time without looking whether the broker is back.
const LOOK_AGAIN: Duration = Duration::from_secs(4);

/// How long a stop may wait for the broker to hear that another worker is to watch.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// What is added to the wait after each take that failed.
const FAILURE_STEP: Duration = Duration::from_secs(1);

/// The message loop of one worker.
#[derive(Debug)]
pub(crate) struct Consumer {
    app: App,
    hostname: String,
    queues: Vec<String>,
    /// How many messages may be held beside those that wait for their time.
    prefetch: Prefetch,
    slots: Slots,
    held: Held,
    strategy: Strategy,
    /// Takes that have failed in a row.
    failures: u32,
    shutdown: Shutdown,
}

/// Messages that came with one take.
#[derive(Debug)]
struct Batch {
    taken: Vec<Taken>,
    /// Their room in the prefetch.
    room: Option<OwnedSemaphorePermit>,
    /// There may be more.
    is_full: bool,
}

/// A slot that is busy for longer than this is not about to be free.
const BUSY: Duration = Duration::from_millis(5);

/// How often a worker without a free slot looks for messages while others may take them.
const FULL_LOOK: Duration = Duration::from_secs(5);

/// How many requests the slots have, of how many they can run.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    pub(crate) busy: watch::Receiver<usize>,
    pub(crate) count: usize,
}

impl Slots {
    pub(crate) async fn one_is_free(&mut self) {
        let count = self.count;
        // The sender lives as long as the slots.
        self.busy.wait_for(|busy| *busy < count).await.ok();
    }

    fn has_a_free_one(&self) -> bool {
        *self.busy.borrow() < self.count
    }

    async fn stay_busy(&mut self) -> bool {
        tokio::time::timeout(BUSY, self.one_is_free())
            .await
            .is_err()
    }
}

/// Where the consumer's messages go.
#[derive(Debug, Clone)]
pub(crate) struct Outlets {
    /// How many messages may be held beside those that wait for their time.
    pub(crate) prefetch: usize,
    pub(crate) ready: ReadySender,
    pub(crate) timed: mpsc::Sender<Timed>,
    /// How much of it is in use.
    pub(crate) slots: Slots,
    /// What remote control sees.
    pub(crate) state: WorkerState,
    /// What monitors are told.
    pub(crate) events: Events,
    pub(crate) threads: Threads,
}

/// The way to the slots. Full channels must not hold up a stop: the slots take no more then.
#[derive(Debug, Clone)]
pub(crate) struct ReadySender {
    pub(crate) requests: Ready,
    /// How many requests the slots have, and have before them: counted up here, and down by the slot that is done.
    pub(crate) busy: watch::Sender<usize>,
    pub(crate) rates: RateLimits,
    pub(crate) stopping: CancellationToken,
}

impl ReadySender {
    /// Passes a request on, as soon as its rate limit allows; it comes back when the worker is stopping.
    pub(crate) async fn send(&self, request: Request) -> Result<(), Box<Request>> {
        match self.rates.admit(request) {
            Admission::Start(request) => self.start(request).await,
            Admission::Waits => Ok(()),
            Admission::TooLate(request) => Err(Box::new(request)),
        }
    }

    async fn start(&self, request: Request) -> Result<(), Box<Request>> {
        let room = tokio::select! {
            biased;
            // cancel-safe: room that was not used is given up
            () = self.stopping.cancelled() => None,
            room = self.requests.room() => room,
        };
        match room {
            Some(room) => {
                self.busy.send_if_modified(|busy| {
                    *busy += 1;
                    // Whoever waits, waits for one that is free.
                    false
                });
                room.put(request);
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
        prefetch: Prefetch,
        held: Held,
        outlets: Outlets,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            slots: outlets.slots.clone(),
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
        let (mut is_first, mut is_mentioned) = (true, true);
        while self.connect(is_first).await? {
            if is_mentioned {
                log::info!("Connected to {}", self.app.settings().masked_broker_url());
            }
            if is_first {
                log::info!("{} ready.", self.hostname);
                is_first = false;
            }
            if let Err(error) = self.consume().await {
                is_mentioned = self.held.patience().is_worth_mentioning();
                if is_mentioned {
                    log::warn!(
                        "consumer: Connection to broker lost. Trying to re-establish the connection... ({error})"
                    );
                }
                self.pause_between_failures().await;
            }
        }
        // Whoever watches for the others does so no more. A broker that is away must not hold up the stop.
        let stood_down = self.app.transport().stand_down(&self.queues);
        tokio::time::timeout(GOODBYE_MAX, stood_down).await.ok();
        Ok(())
    }

    /// A broker that answers, but lets us take nothing (a key of another type, a right that is missing),
    /// is not asked all the time.
    async fn pause_between_failures(&mut self) {
        let wait = (FAILURE_STEP * self.failures).min(LOOK_AGAIN);
        self.failures = self.failures.saturating_add(1);
        pause(jittered(wait), self.shutdown.stopping()).await;
    }

    /// Tries until the broker answers; `false` when told to stop. Tries are counted, and told of, at Celery's pace; in
    /// between it is looked more often, so that the end of an outage is noticed in seconds.
    async fn connect(&self, is_first: bool) -> Result<bool, Error> {
        let settings = self.app.settings();
        let is_retried = !is_first || settings.broker_connection_retry_on_startup;
        let limit = settings
            .broker_connection_max_retries
            .filter(|limit| *limit > 0);
        let mut tries = 0;
        let mut next_try = Instant::now();
        while !self.shutdown.is_stopping() {
            let error = match self.declare_queues().await {
                Ok(()) => return Ok(true),
                Err(error) => error,
            };
            if Instant::now() >= next_try {
                tries += 1;
                let url = self.app.broker_url();
                if !is_retried || !error.is_transient() || limit.is_some_and(|limit| tries > limit)
                {
                    log::error!("consumer: Cannot connect to {url}: {error}.");
                    return Err(error);
                }
                let wait = (RETRY_STEP * tries).min(RETRY_LONGEST);
                next_try = Instant::now() + wait;
                if self.held.patience().is_worth_mentioning() {
                    let of = limit.map_or_else(|| "inf".to_owned(), |limit| limit.to_string());
                    log::error!(
                        "consumer: Cannot connect to {url}: {error}. Trying again in {:.2} seconds... ({tries}/{of})",
                        wait.as_secs_f64()
                    );
                }
            }
            let wait = next_try
                .saturating_duration_since(Instant::now())
                .min(LOOK_AGAIN);
            pause(jittered(wait), self.shutdown.stopping()).await;
        }
        Ok(false)
    }

    async fn declare_queues(&self) -> Result<(), Error> {
        let transport = self.app.transport();
        transport.connect().await?;
        // Before the first take: who holds something must be watched.
        neighbours::beat(&self.app, &self.held).await?;
        for queue in &self.queues {
            transport.declare(queue).await?;
        }
        Ok(())
    }

    async fn consume(&mut self) -> Result<(), Error> {
        let mut late = Vec::new();
        let ended = self.take_and_hand_out(&mut late).await;
        // All at once, so that they keep their order.
        self.held.requeue(late, QueueEnd::Front).await;
        ended
    }

    /// What comes too late to be handed out, because the worker is stopping, is put into `late`.
    async fn take_and_hand_out(&mut self, late: &mut Vec<Delivery>) -> Result<(), Error> {
        while self.has_room().await {
            let mut batch = self.take().await?;
            self.failures = 0;
            // The server takes the next messages while these are read.
            while batch.is_full && self.prefetch.has_worth() && !self.shutdown.is_stopping() {
                let (next, ()) = tokio::join!(self.take(), async {
                    // First the command goes out.
                    tokio::task::yield_now().await;
                    self.hand_out(batch, late).await;
                });
                batch = next?;
            }
            let is_drained = !batch.is_full;
            self.hand_out(batch, late).await;
            if is_drained {
                self.wait_for_more().await?;
            } else if self.prefetch.room() == 0 {
                // The rest of a burst is not for us: somebody else is to look.
                let transport = Arc::clone(self.app.transport());
                transport.stand_down(&self.queues).await?;
            }
        }
        Ok(())
    }

    /// Takes what there is room for. Never inside a select: what is taken must reach our hands.
    async fn take(&self) -> Result<Batch, Error> {
        let room = self.prefetch.batch();
        let deliveries = self.app.transport().take(&self.queues, room).await?;
        Ok(Batch {
            is_full: deliveries.len() == room,
            room: self.prefetch.take(deliveries.len()),
            taken: self.strategy.hold(deliveries),
        })
    }

    async fn hand_out(&self, mut batch: Batch, late: &mut Vec<Delivery>) {
        for arrival in self.strategy.arrivals(batch.taken).await {
            let room = batch.room.as_mut().and_then(|room| room.split(1));
            late.extend(self.strategy.handle(arrival, room).await);
        }
    }

    /// Waits until there may be something to take. While all slots are busy, a message had better go to a worker
    /// that has a free one.
    async fn wait_for_more(&mut self) -> Result<(), Error> {
        // What was handed out starts first.
        tokio::task::yield_now().await;
        let transport = Arc::clone(self.app.transport());
        let is_lent_out =
            self.slots.stay_busy().await && transport.stand_down(&self.queues).await?;
        tokio::select! {
            // cancel-safe, all: they only wait
            () = self.shutdown.stopping().cancelled() => {}
            () = self.slots.one_is_free(), if is_lent_out => {}
            // What is to be taken long before it runs (an ETA, a revoked task) is not left for long.
            () = tokio::time::sleep(FULL_LOOK), if is_lent_out => {}
            () = transport.woken(&self.queues), if !is_lent_out => {}
        }
        Ok(())
    }

    /// Waits until further messages are to be held; `false` when told to stop.
    async fn has_room(&mut self) -> bool {
        if self.shutdown.is_stopping() {
            return false;
        }
        // Mostly so, and it is on the way of a message that wakes an idle worker.
        if self.slots.has_a_free_one() && self.prefetch.room() > 0 {
            return true;
        }
        tokio::select! {
            biased;
            // cancel-safe, all: they only wait
            () = self.shutdown.stopping().cancelled() => false,
            () = self.prefetch.is_worth_a_take(&mut self.slots) => true,
        }
    }
}
