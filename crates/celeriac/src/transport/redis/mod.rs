//! Redis as a broker, on the same keys as kombu.
//!
//! - `take`: messages out of the lists into `unacked`, in one script (promise M1).
//! - `forms`: what its script need not parse again.
//! - `lookout`: waiting until there is something to take.
//! - `settle`: ack, requeue; `dead_letters`: what nobody can run.
//! - `lease`: renewing what we hold, and saying that we live (promise M2).
//! - `restore`: giving back what a dead worker held, and what nobody renews.
//! - `fanout`: broadcasts, and replies to them.
//! - `keys`: the names of the keys.
//! - `address`: the URLs, `tls` and `sentinel` behind them.
//! - `connection`: one connection in one role; three of them are enough for any number of queues.
//!
//! Counterpart: `kombu/transport/redis.py` @ 5.7.0. Deliberate differences: no BRPOP (between the pop
//! and the write to `unacked` a killed worker loses the message), a claim tag of our own as the field
//! in `unacked` (an envelope's `delivery_tag` need not be unique), and renewed claims.

mod address;
mod connection;
mod dead_letters;
mod fanout;
mod forms;
mod keys;
mod lease;
mod lookout;
mod restore;
mod sentinel;
mod settle;
mod take;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use tokio::sync::Notify;
use uuid::Uuid;

pub(crate) use address::Address;
pub(crate) use connection::{Connection, sort};

use super::{
    Beats, DeadLetter, Delivery, Error, Fanout, QueueEnd, ServerFacts, Slot, Transport, Unsettled,
};
use crate::app::settings::BrokerTransportOptions;
use crate::clock;
use keys::Keys;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct RedisTransport {
    address: Address,
    options: BrokerTransportOptions,
    keys: Keys,
    /// Publishes, settles, renews, restores.
    commands: Connection,
    /// Takes, and is told when there is something to take.
    taker: Connection,
    /// Waits for the lookout's call.
    waiter: Connection,
    wake: Arc<Notify>,
    post: lookout::Post,
    claims: Mutex<take::Claims>,
    declared: Mutex<HashSet<String>>,
    /// The node that sets messages aside; empty in a process that runs none.
    node: Mutex<String>,
}

impl RedisTransport {
    /// # Errors
    /// The URL is not one of a Redis server.
    pub(crate) fn new(url: &str, options: &BrokerTransportOptions) -> Result<Self, Error> {
        let address = Address::parse("broker", url)?
            .watched_by(options.master_name.as_deref(), &options.sentinel_kwargs)?;
        let wake = Arc::new(Notify::new());
        Ok(Self {
            keys: Keys::new(options.clone()),
            options: options.clone(),
            commands: Connection::new(address.clone()),
            taker: Connection::tracking(address.clone(), Arc::clone(&wake)),
            waiter: Connection::waiting(address.clone()),
            address,
            wake,
            post: lookout::Post::new(),
            claims: Mutex::new(take::Claims::new(options.queue_order_strategy)),
            declared: Mutex::new(HashSet::new()),
            node: Mutex::default(),
        })
    }

    /// The name under which we claim messages, and say that we live.
    fn worker(&self) -> String {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.worker.clone()
    }

    fn node(&self) -> String {
        self.node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn is_declared(&self, queue: &str) -> bool {
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        declared.contains(queue)
    }
}

#[async_trait]
impl Transport for RedisTransport {
    fn url(&self) -> &str {
        &self.address.masked
    }

    fn fanout(&self) -> Option<&dyn Fanout> {
        Some(self)
    }

    async fn connect(&self) -> Result<(), Error> {
        self.commands.ask(&redis::cmd("PING")).await
    }

    async fn facts(&self) -> Result<ServerFacts, Error> {
        let (seconds, micros): (i64, u32) = self.commands.ask(&redis::cmd("TIME")).await?;
        let now = DateTime::from_timestamp(seconds, micros.saturating_mul(1000));
        // Not everybody may ask this; then it is as if all were well.
        let mut memory = redis::cmd("INFO");
        memory.arg("memory");
        let memory: String = self.commands.ask(&memory).await.unwrap_or_default();
        Ok(ServerFacts {
            now: now.unwrap_or_else(clock::now),
            eviction_policy: eviction_policy(&memory),
        })
    }

    /// Counterpart: `Channel._queue_bind`: with the direct exchange of the queue's own name, in both
    /// sets, since a binding in the first alone may be swept.
    async fn declare(&self, queue: &str) -> Result<(), Error> {
        let binding = self.keys.binding_member(queue);
        let mut pipe = redis::pipe();
        for key in self.keys.bindings(queue) {
            pipe.cmd("SADD").arg(key).arg(&binding).ignore();
        }
        self.commands.ask::<()>(&pipe).await?;
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        declared.insert(queue.to_owned());
        Ok(())
    }

    async fn publish(&self, queue: &str, priority: i64, envelope: &str) -> Result<(), Error> {
        if !self.is_declared(queue) {
            self.declare(queue).await?;
        }
        let mut push = redis::cmd("LPUSH");
        push.arg(self.keys.list(queue, priority)).arg(envelope);
        self.commands.ask(&push).await
    }

    async fn slot(&self, queue: &str, priority: i64) -> Result<Option<Slot>, Error> {
        let Some(server) = self.address.server() else {
            return Ok(None);
        };
        if !self.is_declared(queue) {
            self.declare(queue).await?;
        }
        Ok(Some(Slot {
            server,
            database: self.address.database(),
            list: self.keys.list(queue, priority),
        }))
    }

    async fn take(&self, queues: &[String], max: usize) -> Result<Vec<Delivery>, Error> {
        self.take_messages(queues, max).await
    }

    async fn woken(&self, queues: &[String]) {
        self.wait(queues, &self.wake).await;
    }

    async fn stand_down(&self, queues: &[String]) -> Result<bool, Error> {
        self.step_down(queues).await
    }

    async fn ack(&self, deliveries: Vec<Delivery>) -> Result<Vec<Arc<str>>, Unsettled> {
        match self.remove_claims(&deliveries).await {
            Ok(lost) => Ok(lost),
            Err(error) => Err(Unsettled { deliveries, error }),
        }
    }

    async fn requeue(&self, deliveries: Vec<Delivery>, end: QueueEnd) -> Result<usize, Unsettled> {
        match self.push_back(&deliveries, end).await {
            Ok(pushed) => Ok(pushed),
            Err(error) => Err(Unsettled { deliveries, error }),
        }
    }

    async fn dead_letter(
        &self,
        delivery: Delivery,
        id: &str,
        reason: &str,
    ) -> Result<(), Unsettled> {
        match self.bury(&delivery, id, reason).await {
            Ok(()) => Ok(()),
            Err(error) => Err(Unsettled {
                deliveries: vec![delivery],
                error,
            }),
        }
    }

    async fn read_again(&self, deliveries: &mut [Delivery]) -> Result<(), Error> {
        self.read_claimed(deliveries).await
    }

    async fn renew(&self, tags: &[String]) -> Result<Vec<String>, Error> {
        self.renew_claims(tags).await
    }

    async fn restore_expired(&self) -> Result<usize, Error> {
        self.restore_visible().await
    }

    fn identify(&self, worker: Uuid) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.rename(worker);
    }

    async fn beat(&self) -> Result<Beats, Error> {
        self.say_alive().await
    }

    async fn leave(&self) -> Result<(), Error> {
        self.say_goodbye().await
    }

    async fn take_over(&self, worker: &str, beat: Option<i64>) -> Result<Option<usize>, Error> {
        self.restore_of(worker, beat).await
    }

    async fn claims(&self) -> Result<Vec<String>, Error> {
        self.own_claims().await
    }

    async fn put_back(&self, tags: &[String]) -> Result<usize, Error> {
        self.restore_own(tags).await
    }

    async fn mark_started(&self, delivery: &mut Delivery, id: &str) -> Result<(), Error> {
        self.write_started(delivery, id).await
    }

    async fn deaths(&self, ids: &[&str]) -> Result<Vec<u32>, Error> {
        self.read_deaths(ids).await
    }

    async fn forgive(&self, id: &str) -> Result<(), Error> {
        self.forget_deaths(id).await
    }

    async fn unknown(&self, id: &str) -> Result<(u32, Duration), Error> {
        self.count_unknown(id).await
    }

    fn sign_as(&self, node: &str) {
        node.clone_into(&mut self.node.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn count_dead_letters(&self, queue: &str) -> Result<usize, Error> {
        self.count_dead(queue).await
    }

    async fn dead_letters(
        &self,
        queue: &str,
        skip: usize,
        count: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        self.read_dead(queue, skip, count).await
    }

    async fn replay_dead_letter(
        &self,
        letter: &DeadLetter,
        priority: i64,
        message: &[u8],
    ) -> Result<bool, Error> {
        self.push_dead(letter, priority, message).await
    }

    async fn drop_dead_letter(&self, letter: &DeadLetter) -> Result<bool, Error> {
        self.drop_dead(letter).await
    }
}

/// The policy by which a server with a limit of memory forgets, in what `INFO memory` says.
fn eviction_policy(memory: &str) -> Option<String> {
    let value = |key: &str| {
        let mut lines = memory.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
    };
    let policy = value("maxmemory_policy").filter(|policy| *policy != "noeviction")?;
    let is_limited = value("maxmemory").is_some_and(|bytes| bytes != "0");
    is_limited.then(|| policy.to_owned())
}
