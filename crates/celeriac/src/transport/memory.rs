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
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::dead_letter::{DeadLetter, record_head};
use super::order::Cycle;
use super::redelivered::redelivered;
use super::{
    Beats, Delivery, Error, MAX_DEATHS, MAX_TAKE, QueueEnd, ServerFacts, Transport, Unsettled,
    died_too_often, next_step,
};
use crate::app::settings::BrokerTransportOptions;
use crate::clock;

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
    /// The name under which this worker claims messages.
    worker: Mutex<String>,
    /// The node that sets messages aside.
    node: Mutex<String>,
    /// Its number, as it was told last.
    beat: Mutex<Option<i64>>,
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
    /// By queue: records of the messages that nobody can run, the oldest first.
    dead: BTreeMap<String, Vec<Vec<u8>>>,
    claims: u64,
    workers: BTreeMap<String, i64>,
    /// Claim → message id, of what runs and is acknowledged afterwards.
    started: HashMap<String, String>,
    deaths: HashMap<String, u32>,
    unknown: HashMap<String, (Instant, u32)>,
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
            worker: Mutex::new(Uuid::new_v4().to_string()),
            node: Mutex::default(),
            beat: Mutex::default(),
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

    async fn facts(&self) -> Result<ServerFacts, Error> {
        Ok(ServerFacts {
            now: clock::now(),
            eviction_policy: None,
        })
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
        let worker = locked(&self.worker).clone();
        let mut taken = Vec::new();
        for step in &self.options.priority_steps {
            for queue in &ordered {
                while taken.len() < max.min(MAX_TAKE) {
                    let Some(raw) = state.pop(queue, *step) else {
                        break;
                    };
                    if is_object(&raw) {
                        taken.push(state.claim(&worker, queue, raw, now));
                    } else {
                        self.bury(&mut state, queue, &raw, "not a JSON object");
                    }
                }
            }
        }
        Ok(taken)
    }

    async fn woken(&self, queues: &[String]) {
        let pushed = self.broker.pushed.notified();
        // What came since the last take has rung already.
        if self.state().has_any(queues) {
            return;
        }
        // Whether it rang or not, the caller looks next.
        tokio::time::timeout(LOOK_INTERVAL, pushed).await.ok();
    }

    /// Whoever waits is woken by every push.
    async fn stand_down(&self, _queues: &[String]) -> Result<bool, Error> {
        Ok(false)
    }

    async fn ack(&self, deliveries: Vec<Delivery>) -> Result<Vec<Arc<str>>, Unsettled> {
        let mut state = self.state();
        let claims = deliveries.iter().map(Delivery::shared_tag);
        Ok(claims.filter(|tag| state.release(tag).is_none()).collect())
    }

    async fn read_again(&self, deliveries: &mut [Delivery]) -> Result<(), Error> {
        let state = self.state();
        for delivery in deliveries {
            if let Some(claim) = state.unacked.get(delivery.tag()) {
                delivery.fill(claim.raw.clone());
            }
        }
        Ok(())
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
            if state.release(delivery.tag()).is_some() {
                let again = redelivered(delivery.raw());
                let list = (delivery.queue().to_owned(), self.step(again.priority));
                state.push(list, again.message, end);
                pushed += 1;
            }
        }
        self.broker.pushed.notify_waiters();
        Ok(pushed)
    }

    async fn dead_letter(
        &self,
        delivery: Delivery,
        id: &str,
        reason: &str,
    ) -> Result<(), Unsettled> {
        let mut state = self.state();
        if state.release(delivery.tag()).is_some() {
            self.bury(&mut state, delivery.queue(), delivery.raw(), reason);
            state.deaths.remove(id);
            state.unknown.remove(id);
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
        let tags = expired.into_iter().map(|(_, tag)| tag);
        Ok(self.give_back(&mut state, tags))
    }

    fn identify(&self, worker: Uuid) {
        *locked(&self.worker) = worker.to_string();
    }

    async fn beat(&self) -> Result<Beats, Error> {
        let mut state = self.state();
        let worker = locked(&self.worker).clone();
        let beat = state.workers.entry(worker.clone()).or_default();
        let step = next_step();
        *beat += step;
        let last = locked(&self.beat).replace(*beat);
        let is_unbroken = last.is_none_or(|last| *beat == last + step);
        let mut others = state.workers.clone();
        others.remove(&worker);
        Ok(Beats {
            is_unbroken,
            connection: 0,
            others,
        })
    }

    async fn leave(&self) -> Result<(), Error> {
        let worker = locked(&self.worker).clone();
        self.state().workers.remove(&worker);
        Ok(())
    }

    async fn take_over(&self, worker: &str, beat: Option<i64>) -> Result<Option<usize>, Error> {
        let mut state = self.state();
        if beat.is_some() && state.workers.get(worker) != beat.as_ref() {
            return Ok(Some(0));
        }
        state.workers.remove(worker);
        let claims = state.claims_of(worker);
        Ok(Some(self.give_back(&mut state, claims.into_iter())))
    }

    async fn claims(&self) -> Result<Vec<String>, Error> {
        let worker = locked(&self.worker).clone();
        Ok(self.state().claims_of(&worker))
    }

    async fn put_back(&self, tags: &[String]) -> Result<usize, Error> {
        let mut state = self.state();
        for tag in tags {
            state.started.remove(tag);
        }
        let mut tags = tags.to_vec();
        tags.sort_unstable_by(|one, other| other.cmp(one));
        Ok(self.give_back(&mut state, tags.into_iter()))
    }

    async fn mark_started(&self, delivery: &mut Delivery, id: &str) -> Result<(), Error> {
        let started = (delivery.tag().to_owned(), id.to_owned());
        self.state().started.extend([started]);
        Ok(())
    }

    async fn deaths(&self, ids: &[&str]) -> Result<Vec<u32>, Error> {
        let state = self.state();
        let deaths = ids.iter().map(|id| state.deaths.get(*id).copied());
        Ok(deaths.map(Option::unwrap_or_default).collect())
    }

    async fn forgive(&self, id: &str) -> Result<(), Error> {
        self.state().deaths.remove(id);
        Ok(())
    }

    async fn unknown(&self, id: &str) -> Result<(u32, Duration), Error> {
        let mut state = self.state();
        let first = (Instant::now(), 0);
        let (since, hands) = state.unknown.entry(id.to_owned()).or_insert(first);
        *hands += 1;
        Ok((*hands, since.elapsed()))
    }

    fn sign_as(&self, node: &str) {
        node.clone_into(&mut locked(&self.node));
    }

    async fn count_dead_letters(&self, queue: &str) -> Result<usize, Error> {
        Ok(self.state().dead.get(queue).map_or(0, Vec::len))
    }

    async fn dead_letters(
        &self,
        queue: &str,
        skip: usize,
        count: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let state = self.state();
        let records = state.dead.get(queue).into_iter().flatten();
        let records = records.enumerate().skip(skip).take(count);
        Ok(records
            .map(|(place, record)| DeadLetter::parse(queue, place, record.clone()))
            .collect())
    }

    async fn replay_dead_letter(
        &self,
        letter: &DeadLetter,
        priority: i64,
        message: &[u8],
    ) -> Result<bool, Error> {
        let mut state = self.state();
        let is_there = state.unbury(letter);
        if is_there {
            let list = (letter.queue.clone(), self.step(priority));
            state.push(list, message.to_vec(), QueueEnd::Back);
            self.broker.pushed.notify_waiters();
        }
        Ok(is_there)
    }

    async fn drop_dead_letter(&self, letter: &DeadLetter) -> Result<bool, Error> {
        Ok(self.state().unbury(letter))
    }
}

impl MemoryTransport {
    /// Puts back what these claims hold, and sets aside what has killed too often; how many went back.
    fn give_back(&self, state: &mut State, tags: impl Iterator<Item = String>) -> usize {
        let mut restored = 0;
        for tag in tags {
            let was_running = state.started.contains_key(&tag);
            let Some(claim) = state.release(&tag) else {
                continue;
            };
            let again = redelivered(&claim.raw);
            let deaths = state.deaths.entry(again.id.clone()).or_default();
            *deaths += u32::from(was_running);
            if *deaths >= MAX_DEATHS {
                state.deaths.remove(&again.id);
                let reason = died_too_often(MAX_DEATHS);
                self.bury(state, &claim.queue, &claim.raw, &reason);
            } else {
                let list = (claim.queue, self.step(again.priority));
                state.push(list, again.message, QueueEnd::Front);
                restored += 1;
            }
        }
        self.broker.pushed.notify_waiters();
        restored
    }

    fn bury(&self, state: &mut State, queue: &str, raw: &[u8], reason: &str) {
        let head = record_head(queue, &locked(&self.node), Some(raw));
        let reason = serde_json::Value::from(reason);
        let mut record = format!("{head}, \"reason\": {reason}}}\n").into_bytes();
        record.extend_from_slice(raw);
        let dead = state.dead.entry(queue.to_owned()).or_default();
        dead.push(record);
        let most = self.options.dead_letters_max;
        dead.drain(..dead.len().saturating_sub(most));
    }
}

impl State {
    /// The newest first: what is pushed last is taken first.
    fn claims_of(&self, worker: &str) -> Vec<String> {
        let prefix = format!("{worker}-");
        let claims = self.unacked.keys().rev();
        let claims = claims.filter(|tag| tag.starts_with(&prefix));
        claims.cloned().collect()
    }

    fn push(&mut self, list: (String, u8), raw: Vec<u8>, end: QueueEnd) {
        let list = self.lists.entry(list).or_default();
        match end {
            QueueEnd::Front => list.push_back(raw),
            QueueEnd::Back => list.push_front(raw),
        }
    }

    fn has_any(&self, queues: &[String]) -> bool {
        let mut lists = self.lists.iter();
        lists.any(|((queue, _), list)| queues.contains(queue) && !list.is_empty())
    }

    fn pop(&mut self, queue: &str, step: u8) -> Option<Vec<u8>> {
        self.lists.get_mut(&(queue.to_owned(), step))?.pop_back()
    }

    fn claim(&mut self, worker: &str, queue: &str, raw: Vec<u8>, now: Instant) -> Delivery {
        self.claims += 1;
        let tag = format!("{worker}-{:012}", self.claims);
        let claim = Claim {
            queue: queue.to_owned(),
            raw: raw.clone(),
            renewed: now,
        };
        self.unacked.insert(tag.clone(), claim);
        Delivery::new(tag, queue.to_owned(), raw)
    }

    /// Ends a claim; `None`: it is another's, or nobody's.
    fn release(&mut self, tag: &str) -> Option<Claim> {
        self.started.remove(tag);
        self.unacked.remove(tag)
    }

    fn unbury(&mut self, letter: &DeadLetter) -> bool {
        let dead = self.dead.entry(letter.queue.clone()).or_default();
        let place = dead.iter().position(|record| *record == letter.record);
        place.map(|place| dead.remove(place)).is_some()
    }
}

/// What may be claimed. Counterpart: `redis/scripts/refusal.lua`.
fn is_object(raw: &[u8]) -> bool {
    let is_json = serde_json::from_slice::<&RawValue>(raw).is_ok();
    is_json && raw.trim_ascii_start().starts_with(b"{")
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
