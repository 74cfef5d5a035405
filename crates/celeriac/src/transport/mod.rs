//! What a broker must be able to do for us.
//!
//! A [`Delivery`] is an envelope that we hold: it is in the broker's `unacked`, under a tag that only
//! we know. It cannot be cloned, and settling it (ack, requeue, dead letter) consumes it, so that it
//! is settled once. When the broker is away, settling hands it back in [`Unsettled`] to be tried again.
//!
//! - `redis`: Redis, on kombu's keys.
//! - `memory`: within this process, for tests.
//! - `contract`: what every transport must do, as tests that each of them passes.
//! - `order`: in which order queues are looked at.
//!
//! Counterpart: `kombu/transport/virtual/base.py` @ 5.7.0 (`Channel`, `QoS`).

#[cfg(test)]
mod contract;
mod error;
pub(crate) mod memory;
mod order;
pub(crate) mod redis;

use async_trait::async_trait;

pub use error::Error;

/// Most messages in one take. A script holds up the whole server; this many take about 2 ms.
pub(crate) const MAX_TAKE: usize = 256;

/// One message in our hands.
#[derive(Debug)]
pub struct Delivery {
    /// The claim: the field in `unacked` and the member in `unacked_index`.
    tag: String,
    /// The queue it was taken from, without a priority suffix.
    queue: String,
    /// The envelope as it lay in the list.
    raw: Vec<u8>,
}

impl Delivery {
    pub(crate) fn new(tag: String, queue: String, raw: Vec<u8>) -> Self {
        Self { tag, queue, raw }
    }

    /// The claim under which the broker keeps the message for us. Claims of one transport sort in the
    /// order in which they were made.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The queue it came from.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// kombu's envelope, byte for byte.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
}

/// A settlement that did not reach the broker: what is still held, and why.
#[derive(Debug)]
pub struct Unsettled {
    /// Still ours; settle again after a pause.
    pub deliveries: Vec<Delivery>,
    /// What went wrong.
    pub error: Error,
}

/// Where a message goes that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueEnd {
    /// It is the next to be taken (kombu's restore).
    Front,
    /// It is the last to be taken (kombu's `reject(requeue=True)`).
    Back,
}

/// A broker, as the engine uses it.
#[async_trait]
pub trait Transport: Send + Sync + std::fmt::Debug {
    /// The URL with the password masked, as Celery's banner and log lines show it.
    fn url(&self) -> &str;

    /// Opens what is not open, so that an unreachable broker shows here.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses us.
    async fn connect(&self) -> Result<(), Error>;

    /// Makes the queue known to Python's clients and workers (binding sets).
    ///
    /// # Errors
    /// The broker is away or refuses the write.
    async fn declare(&self, queue: &str) -> Result<(), Error>;

    /// Appends an envelope to a queue. Returns when the broker has it.
    ///
    /// # Errors
    /// The broker is away or refuses the write; the message may or may not have arrived.
    async fn publish(&self, queue: &str, priority: i64, envelope: &str) -> Result<(), Error>;

    /// Takes up to `max` messages (at most 256) in one step on the server: each is in its queue or claimed by us,
    /// at every instant (promise M1). Claims whose reply was lost are returned by the next call.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was claimed would lie until it is restored. Never use it in `select!`.
    ///
    /// # Errors
    /// The broker is away or refuses; nothing is lost.
    async fn take(&self, queues: &[String], max: usize) -> Result<Vec<Delivery>, Error>;

    /// Returns when a message may be waiting, or after some seconds in any case. Cancel safe.
    async fn woken(&self);

    /// Settles: the messages are done. Returns how many were still ours; another worker has the others.
    ///
    /// # Errors
    /// The broker did not answer; the deliveries come back. It may have settled them all the same.
    async fn ack(&self, deliveries: Vec<Delivery>) -> Result<usize, Unsettled>;

    /// Settles: puts the messages back, marked as redelivered. Returns how many were still ours.
    ///
    /// # Errors
    /// The broker did not answer; the deliveries come back.
    async fn requeue(&self, deliveries: Vec<Delivery>, end: QueueEnd) -> Result<usize, Unsettled>;

    /// Settles: keeps a message that nobody can run in `<queue>.dead`, with the reason.
    ///
    /// # Errors
    /// The broker did not answer; the delivery comes back.
    async fn dead_letter(&self, delivery: Delivery, reason: &str) -> Result<(), Unsettled>;

    /// Says that we live and still hold these tags (promise M2). Returns those that another worker has
    /// taken over: they are lost to us.
    ///
    /// # Errors
    /// The broker is away.
    async fn renew(&self, tags: &[String]) -> Result<Vec<String>, Error>;

    /// Puts back what any worker has held for longer than the visibility timeout without renewing it.
    /// Returns how many messages went back.
    ///
    /// # Errors
    /// The broker is away.
    async fn restore_expired(&self) -> Result<usize, Error>;
}
