//! Redis as a broker, on the same keys as kombu.
//!
//! - `take`: messages out of the lists into `unacked`, in one script (promise M1).
//! - `settle`: ack, requeue, dead letter.
//! - `lease`: renewing what we hold, restoring what nobody renews (promise M2).
//! - `keys`: the names of the keys.
//! - `address`: the URLs, `tls` and `sentinel` behind them.
//! - `connection`: one connection in one role; two of them are enough for any number of queues.
//!
//! Counterpart: `kombu/transport/redis.py` @ 5.7.0. Deliberate differences: no BRPOP (between the pop
//! and the write to `unacked` a killed worker loses the message), a claim tag of our own as the field
//! in `unacked` (an envelope's `delivery_tag` need not be unique), and renewed claims.

mod address;
mod connection;
mod keys;
mod lease;
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
use tokio::sync::Notify;

pub(crate) use address::Address;
pub(crate) use connection::Connection;

use super::{Delivery, Error, QueueEnd, Transport, Unsettled};
use crate::app::settings::BrokerTransportOptions;
use keys::Keys;

/// A look is due after this long even if nothing was pushed: it notices a dead connection.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How often to look where the server does not tell us.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

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
    wake: Arc<Notify>,
    claims: Mutex<take::Claims>,
    declared: Mutex<HashSet<String>>,
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
            address,
            wake,
            claims: Mutex::new(take::Claims::new(options.queue_order_strategy)),
            declared: Mutex::new(HashSet::new()),
        })
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

    async fn connect(&self) -> Result<(), Error> {
        let mut connection = self.commands.get().await?;
        let pong: redis::RedisResult<()> = redis::cmd("PING").query_async(&mut connection).await;
        self.commands.check(pong).await
    }

    /// Counterpart: `Channel._queue_bind`: with the direct exchange of the queue's own name, in both
    /// sets, since a binding in the first alone may be swept.
    async fn declare(&self, queue: &str) -> Result<(), Error> {
        let binding = self.keys.binding_member(queue);
        let mut pipe = redis::pipe();
        for key in self.keys.bindings(queue) {
            pipe.cmd("SADD").arg(key).arg(&binding).ignore();
        }
        let mut connection = self.commands.get().await?;
        let added = pipe.query_async::<()>(&mut connection).await;
        self.commands.check(added).await?;
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        declared.insert(queue.to_owned());
        Ok(())
    }

    async fn publish(&self, queue: &str, priority: i64, envelope: &str) -> Result<(), Error> {
        if !self.is_declared(queue) {
            self.declare(queue).await?;
        }
        let mut connection = self.commands.get().await?;
        let pushed = redis::cmd("LPUSH")
            .arg(self.keys.list(queue, priority))
            .arg(envelope)
            .query_async::<()>(&mut connection)
            .await;
        self.commands.check(pushed).await
    }

    async fn take(&self, queues: &[String], max: usize) -> Result<Vec<Delivery>, Error> {
        self.take_messages(queues, max).await
    }

    async fn woken(&self) {
        let patience = if self.taker.is_tracking().await {
            LOOK_INTERVAL
        } else {
            POLL_INTERVAL
        };
        // Whether it rang or not, the caller looks next.
        tokio::time::timeout(patience, self.wake.notified())
            .await
            .ok();
    }

    async fn ack(&self, deliveries: Vec<Delivery>) -> Result<usize, Unsettled> {
        match self.remove_claims(&deliveries).await {
            Ok(removed) => Ok(removed),
            Err(error) => Err(Unsettled { deliveries, error }),
        }
    }

    async fn requeue(&self, deliveries: Vec<Delivery>, end: QueueEnd) -> Result<usize, Unsettled> {
        match self.push_back(&deliveries, end).await {
            Ok(pushed) => Ok(pushed),
            Err(error) => Err(Unsettled { deliveries, error }),
        }
    }

    async fn dead_letter(&self, delivery: Delivery, reason: &str) -> Result<(), Unsettled> {
        match self.bury(&delivery, reason).await {
            Ok(()) => Ok(()),
            Err(error) => Err(Unsettled {
                deliveries: vec![delivery],
                error,
            }),
        }
    }

    async fn renew(&self, tags: &[String]) -> Result<Vec<String>, Error> {
        self.renew_claims(tags).await
    }

    async fn restore_expired(&self) -> Result<usize, Error> {
        self.restore_visible().await
    }
}
