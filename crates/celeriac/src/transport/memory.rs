//! A broker within this process: `memory://NAME`, for tests without a server.
//!
//! It keeps the promises of a broker: one lock is one step on the server; a claim is renewed, lost and
//! restored as on Redis; what is no JSON object goes to the dead letters. All transports of one name in this
//! process are the same broker, as with kombu; it goes with the last of them.
//!
//! Counterpart: `kombu/transport/memory.py` @ 5.7.0. Difference: kombu's is the same for every URL.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_protocol::binding::priority_step;
use celeriac_protocol::envelope::Envelope;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::order::Cycle;
use super::{Delivery, Error, MAX_TAKE, QueueEnd, Transport, Unsettled};
use crate::app::settings::BrokerTransportOptions;

/// A look is due after this long even if nothing was pushed.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The brokers of this process that somebody uses.
static BROKERS: LazyLock<Mutex<HashMap<String, Weak<Broker>>>> = LazyLock::new(Mutex::default);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct MemoryTransport {
    url: String,
    options: BrokerTransportOptions,
    broker: Arc<Broker>,
    prefix: Uuid,
    cycle: Mutex<Cycle>,
}

#[derive(Debug, Default)]
struct Broker {
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By queue and priority step; the back is taken next.
    lists: BTreeMap<(String, u8), VecDeque<Vec<u8>>>,
    unacked: BTreeMap<String, Claim>,
    /// By queue: the messages that nobody can run, each with its reason.
    dead: BTreeMap<String, Vec<(Vec<u8>, String)>>,
    claims: u64,
}

#[derive(Debug)]
struct Claim {
    queue: String,
    raw: Vec<u8>,
    /// When its holder last said that it lives.
    renewed: Instant,
}

impl MemoryTransport {
    /// The broker that the URL names; a new one, if nobody uses it.
    pub(crate) fn new(url: &str, options: &BrokerTransportOptions) -> Self {
        let mut brokers = locked(&BROKERS);
        brokers.retain(|_, broker| broker.strong_count() > 0);
        let found = brokers.get(url).and_then(Weak::upgrade);
        let broker = found.unwrap_or_default();
        brokers.insert(url.to_owned(), Arc::downgrade(&broker));
        Self {
            url: url.to_owned(),
            cycle: Mutex::new(Cycle::new(options.queue_order_strategy)),
            options: options.clone(),
            broker,
            prefix: Uuid::new_v4(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.broker.state)
    }

    fn step(&self, priority: i64) -> u8 {
        priority_step(priority, &self.options.priority_steps)
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn url(&self) -> &str {
        &self.url
    }

    async fn connect(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn declare(&self, _queue: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn publish(&self, queue: &str, priority: i64, envelope: &str) -> Result<(), Error> {
        let list = (queue.to_owned(), self.step(priority));
        let mut state = self.state();
        state.push(list, envelope.as_bytes().to_vec(), QueueEnd::Back);
        self.broker.pushed.notify_waiters();
        Ok(())
    }

    async fn take(&self, queues: &[String], max: usize) -> Result<Vec<Delivery>, Error> {
        let ordered = locked(&self.cycle).next(queues);
        let mut state = self.state();
        // One step, one time: what was taken together is restored together, in its order.
        let now = Instant::now();
        let mut taken = Vec::new();
        for step in &self.options.priority_steps {
            for queue in &ordered {
                while taken.len() < max.min(MAX_TAKE) {
                    let Some(raw) = state.pop(queue, *step) else {
                        break;
                    };
                    if is_object(&raw) {
                        taken.push(state.claim(&self.prefix, queue, raw, now));
                    } else {
                        state.bury(queue, &raw, "not a JSON object");
                    }
                }
            }
        }
        Ok(taken)
    }

    async fn woken(&self) {
        let pushed = self.broker.pushed.notified();
        // Whether it rang or not, the caller looks next.
        tokio::time::timeout(LOOK_INTERVAL, pushed).await.ok();
    }

    async fn ack(&self, deliveries: Vec<Delivery>) -> Result<usize, Unsettled> {
        let mut state = self.state();
        let claims = deliveries.iter().map(Delivery::tag);
        Ok(claims.filter_map(|tag| state.unacked.remove(tag)).count())
    }

    async fn requeue(&self, deliveries: Vec<Delivery>, end: QueueEnd) -> Result<usize, Unsettled> {
        let mut state = self.state();
        let mut ordered = deliveries;
        if end == QueueEnd::Front {
            // The last one pushed is the next one taken, so the oldest goes last.
            ordered.reverse();
        }
        let mut pushed = 0;
        for delivery in &ordered {
            if state.unacked.remove(delivery.tag()).is_some() {
                let (priority, raw) = redelivered(delivery.raw());
                let list = (delivery.queue().to_owned(), self.step(priority));
                state.push(list, raw, end);
                pushed += 1;
            }
        }
        self.broker.pushed.notify_waiters();
        Ok(pushed)
    }

    async fn dead_letter(&self, delivery: Delivery, reason: &str) -> Result<(), Unsettled> {
        let mut state = self.state();
        if state.unacked.remove(delivery.tag()).is_some() {
            state.bury(delivery.queue(), delivery.raw(), reason);
        }
        Ok(())
    }

    async fn renew(&self, tags: &[String]) -> Result<Vec<String>, Error> {
        let mut state = self.state();
        let mut lost = Vec::new();
        for tag in tags {
            match state.unacked.get_mut(tag) {
                Some(claim) => claim.renewed = Instant::now(),
                None => lost.push(tag.clone()),
            }
        }
        Ok(lost)
    }

    async fn restore_expired(&self) -> Result<usize, Error> {
        let mut state = self.state();
        let timeout = self.options.visibility_timeout;
        let claims = state.unacked.iter();
        let expired = claims.filter(|(_, claim)| claim.renewed.elapsed() >= timeout);
        let mut expired: Vec<(Instant, String)> = expired
            .map(|(tag, claim)| (claim.renewed, tag.clone()))
            .collect();
        // Newest first: what is pushed last is taken first.
        expired.sort_unstable_by(|one, other| other.cmp(one));
        for (_, tag) in &expired {
            if let Some(claim) = state.unacked.remove(tag) {
                let (priority, raw) = redelivered(&claim.raw);
                state.push((claim.queue, self.step(priority)), raw, QueueEnd::Front);
            }
        }
        self.broker.pushed.notify_waiters();
        Ok(expired.len())
    }
}

impl State {
    fn push(&mut self, list: (String, u8), raw: Vec<u8>, end: QueueEnd) {
        let list = self.lists.entry(list).or_default();
        match end {
            QueueEnd::Front => list.push_back(raw),
            QueueEnd::Back => list.push_front(raw),
        }
    }

    fn pop(&mut self, queue: &str, step: u8) -> Option<Vec<u8>> {
        self.lists.get_mut(&(queue.to_owned(), step))?.pop_back()
    }

    fn claim(&mut self, prefix: &Uuid, queue: &str, raw: Vec<u8>, now: Instant) -> Delivery {
        self.claims += 1;
        let tag = format!("{prefix}-{:012}", self.claims);
        let claim = Claim {
            queue: queue.to_owned(),
            raw: raw.clone(),
            renewed: now,
        };
        self.unacked.insert(tag.clone(), claim);
        Delivery::new(tag, queue.to_owned(), raw)
    }

    fn bury(&mut self, queue: &str, raw: &[u8], reason: &str) {
        let dead = self.dead.entry(queue.to_owned()).or_default();
        dead.push((raw.to_vec(), reason.to_owned()));
    }
}

/// The envelope marked as redelivered, and its priority; what cannot be read goes back as it is.
fn redelivered(raw: &[u8]) -> (i64, Vec<u8>) {
    let Ok(mut envelope) = Envelope::parse(raw) else {
        return (0, raw.to_vec());
    };
    envelope.set_redelivered();
    let priority = envelope.properties.priority.unwrap_or(0);
    (priority, envelope.to_json().into_bytes())
}

/// What may be claimed; the same look as that of `redis/scripts/take.lua`.
fn is_object(raw: &[u8]) -> bool {
    let raw = raw.trim_ascii();
    raw.starts_with(b"{") && raw.ends_with(b"}")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
impl MemoryTransport {
    /// How many wait in this queue, are held by anybody, and are dead; for the contract.
    pub(super) fn census(&self, queue: &str) -> (usize, usize, usize) {
        let state = self.state();
        let lists = state.lists.iter().filter(|((name, _), _)| name == queue);
        (
            lists.map(|(_, list)| list.len()).sum(),
            state.unacked.len(),
            state.dead.get(queue).map_or(0, Vec::len),
        )
    }
}
