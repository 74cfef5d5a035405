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
//! - `redelivered`: what becomes of a message that goes back.
//!
//! Counterpart: `kombu/transport/virtual/base.py` @ 5.7.0 (`Channel`, `QoS`).

#[cfg(test)]
mod contract;
pub(crate) mod dead_letter;
mod error;
pub(crate) mod fanout;
pub(crate) mod memory;
mod order;
mod redelivered;
pub(crate) mod redis;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use dead_letter::DeadLetter;
pub use error::Error;
pub use fanout::{Broadcasts, Fanout};

/// Starts of a message that have ended in the death of the worker, after which it is set aside.
pub(crate) const MAX_DEATHS: u32 = 3;

/// By how much a worker counts up its number. Never the same: counted up by one from nothing again, it might come to
/// where it was expected, and nobody would see that it had been removed.
pub(crate) fn next_step() -> i64 {
    rand::random_range(2..1_000_000)
}

/// Why such a message is set aside.
pub(crate) fn died_too_often(deaths: u32) -> String {
    format!("{deaths} of its starts have ended in the death of the worker")
}

/// Most messages in one take. A script holds up the whole server; this many take about 2 ms.
pub(crate) const MAX_TAKE: usize = 256;

/// One message in our hands.
#[derive(Debug, Default)]
pub struct Delivery {
    /// The claim: the field in `unacked` and the member in `unacked_index`.
    tag: Arc<str>,
    /// The queue it was taken from, without a priority suffix.
    queue: Arc<str>,
    /// The envelope as it lay in the list.
    raw: Vec<u8>,
    /// The broker may have a mark that says that it runs.
    is_started: bool,
}

impl Delivery {
    pub(crate) fn new(tag: impl Into<Arc<str>>, queue: impl Into<Arc<str>>, raw: Vec<u8>) -> Self {
        Self {
            tag: tag.into(),
            queue: queue.into(),
            raw,
            is_started: false,
        }
    }

    /// The claim under which the broker keeps the message for us. Claims of one transport sort in the
    /// order in which they were made.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The claim, to be kept.
    pub(crate) fn shared_tag(&self) -> Arc<str> {
        Arc::clone(&self.tag)
    }

    /// Keeps only the claim: the message is in the broker, see [`Transport::read_again`].
    pub(crate) fn lighten(&mut self) {
        self.raw = Vec::new();
    }

    /// Whether the message itself is not here.
    pub(crate) fn is_light(&self) -> bool {
        self.raw.is_empty()
    }

    pub(crate) fn fill(&mut self, raw: Vec<u8>) {
        self.raw = raw;
    }

    /// The queue it came from.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The queue, to be kept.
    pub(crate) fn shared_queue(&self) -> Arc<str> {
        Arc::clone(&self.queue)
    }

    /// Whether it was written down that it runs.
    pub(crate) fn is_started(&self) -> bool {
        self.is_started
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

/// What the workers of a fleet have said of themselves; see [`Transport::beat`].
#[derive(Debug, Clone, Default)]
pub struct Beats {
    /// Nobody has taken us for dead since the last beat (and the broker has forgotten nothing).
    pub is_unbroken: bool,
    /// Which of our connections was answered; another number is another connection.
    pub connection: u64,
    /// The other workers, and the number that each counts up while it lives.
    pub others: BTreeMap<String, i64>,
}

/// What a broker says of itself that a worker may have to warn of.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Its clock.
    pub now: DateTime<Utc>,
    /// How it throws keys away when its memory is full; `None` where it does not, or does not say.
    pub eviction_policy: Option<String>,
}

/// A list on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Which server, and as which user.
    pub server: u64,
    /// The number of the database.
    pub database: i64,
    /// The key.
    pub list: String,
}

/// A broker, as the engine uses it.
#[async_trait]
pub trait Transport: Send + Sync + std::fmt::Debug {
    /// The URL with the password masked, as Celery's banner and log lines show it.
    fn url(&self) -> &str;

    /// Broadcasts, for remote control; `None`: this broker has none.
    fn fanout(&self) -> Option<&dyn Fanout> {
        None
    }

    /// Opens what is not open, so that an unreachable broker shows here.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses us.
    async fn connect(&self) -> Result<(), Error>;

    /// Looks at the broker's clock, and whether it keeps what it is given.
    ///
    /// # Errors
    /// The broker is away, or refuses.
    async fn facts(&self) -> Result<ServerFacts, Error>;

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

    /// Where [`Self::publish`] would put a message, for whoever can do that in one step with something else. `None`: only
    /// the transport can.
    ///
    /// # Errors
    /// The broker is away or refuses a write.
    async fn slot(&self, _queue: &str, _priority: i64) -> Result<Option<Slot>, Error> {
        Ok(None)
    }

    /// Takes up to `max` messages (at most 256) in one step on the server: each is in its queue or claimed by us,
    /// at every instant (promise M1). Claims whose reply was lost are returned by the next call.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was claimed would lie until it is restored. Never use it in `select!`.
    ///
    /// # Errors
    /// The broker is away or refuses; nothing is lost.
    async fn take(&self, queues: &[String], max: usize) -> Result<Vec<Delivery>, Error>;

    /// Returns when a message may be waiting in one of the queues. Of the workers that wait, the broker may wake one.
    ///
    /// # Cancel safety
    /// Safe: whoever is woken in vain is replaced within some seconds.
    async fn woken(&self, queues: &[String]);

    /// Says that this worker has no free slot, so that another one is woken by the next message. `false`: there is no other.
    ///
    /// # Errors
    /// The broker is away.
    async fn stand_down(&self, queues: &[String]) -> Result<bool, Error>;

    /// Settles: the messages are done. Returns the claims that were not ours any more: another worker has those.
    ///
    /// # Errors
    /// The broker did not answer; the deliveries come back. It may have settled them all the same.
    async fn ack(&self, deliveries: Vec<Delivery>) -> Result<Vec<Arc<str>>, Unsettled>;

    /// Settles: puts the messages back, marked as redelivered. Returns how many were still ours.
    ///
    /// # Errors
    /// The broker did not answer; the deliveries come back.
    async fn requeue(&self, deliveries: Vec<Delivery>, end: QueueEnd) -> Result<usize, Unsettled>;

    /// Settles: keeps a message that nobody can run in `<queue>.dead`, with the reason. What was counted
    /// beside it, under its id, is forgotten.
    ///
    /// # Errors
    /// The broker did not answer; the delivery comes back.
    async fn dead_letter(
        &self,
        delivery: Delivery,
        id: &str,
        reason: &str,
    ) -> Result<(), Unsettled>;

    /// Reads messages again, of which only the claims were kept. Those that are not claimed any more stay light.
    ///
    /// # Errors
    /// The broker is away.
    async fn read_again(&self, deliveries: &mut [Delivery]) -> Result<(), Error>;

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

    /// Gives this worker a name that somebody else knows too. To be called before the first take.
    fn identify(&self, worker: Uuid);

    /// Says that this worker lives, and reads what the others have said. To be called before the first take, and every
    /// few seconds from then on: who stays silent is taken for dead.
    ///
    /// # Errors
    /// The broker is away.
    async fn beat(&self) -> Result<Beats, Error>;

    /// Says that this worker holds nothing any more, and needs no watching.
    ///
    /// # Errors
    /// The broker is away.
    async fn leave(&self) -> Result<(), Error>;

    /// Puts back what a dead worker held, if its number still is `beat` (`None`: whatever it is). Starts that its death
    /// has ended are counted; at three a message goes to the dead letters. Returns how many messages went
    /// back; `None`: another worker is giving back right now.
    ///
    /// # Errors
    /// The broker is away; what was not put back is still claimed.
    async fn take_over(&self, worker: &str, beat: Option<i64>) -> Result<Option<usize>, Error>;

    /// What the broker says that this worker holds: the tags, but for those of takes that are not answered yet.
    ///
    /// # Errors
    /// The broker is away.
    async fn claims(&self) -> Result<Vec<String>, Error>;

    /// Puts back claims of this worker that it does not hold; starts are not counted, since nobody has died. Returns how
    /// many messages went back.
    ///
    /// # Errors
    /// The broker is away; what was not put back is still claimed.
    async fn put_back(&self, tags: &[String]) -> Result<usize, Error>;

    /// Writes down that a message runs and is acknowledged afterwards, so that its death with the worker is seen.
    ///
    /// # Errors
    /// The broker is away.
    async fn mark_started(&self, delivery: &mut Delivery, id: &str) -> Result<(), Error>;

    /// How many starts of each of these messages have ended in the death of their worker.
    ///
    /// # Errors
    /// The broker is away.
    async fn deaths(&self, ids: &[&str]) -> Result<Vec<u32>, Error>;

    /// Forgets the deaths of a message that has run well after all.
    ///
    /// # Errors
    /// The broker is away.
    async fn forgive(&self, id: &str) -> Result<(), Error>;

    /// Counts that a message has come to a worker that cannot run it: how often so far, by any worker, and for how long.
    ///
    /// # Errors
    /// The broker is away.
    async fn unknown(&self, id: &str) -> Result<(u32, Duration), Error>;
    /// Says which node sets messages aside, for the records of `<queue>.dead`.
    fn sign_as(&self, node: &str);

    /// How many messages of this queue were set aside and are kept.
    ///
    /// # Errors
    /// The broker is away.
    async fn count_dead_letters(&self, queue: &str) -> Result<usize, Error>;

    /// Those messages, the oldest first: `count` of them after the first `skip`.
    ///
    /// # Errors
    /// The broker is away.
    async fn dead_letters(
        &self,
        queue: &str,
        skip: usize,
        count: usize,
    ) -> Result<Vec<DeadLetter>, Error>;

    /// Puts such a message back into its queue, in one step. `false`: it was gone.
    ///
    /// # Errors
    /// The broker is away; it may have done it.
    async fn replay_dead_letter(
        &self,
        letter: &DeadLetter,
        priority: i64,
        message: &[u8],
    ) -> Result<bool, Error>;

    /// Destroys such a message. `false`: it was gone.
    ///
    /// # Errors
    /// The broker is away; it may have done it.
    async fn drop_dead_letter(&self, letter: &DeadLetter) -> Result<bool, Error>;
}
