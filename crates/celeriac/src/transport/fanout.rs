//! Broadcasts, and replies to them: what a transport must be able to do for remote control.
//!
//! Counterpart: the fanout exchanges of `kombu/transport/virtual/exchange.py` and `kombu/pidbox.py` @ 5.7.0.

use async_trait::async_trait;
use celeriac_protocol::control::ReplyTo;

use super::Error;

/// A broker that can broadcast.
#[async_trait]
pub trait Fanout: Send + Sync + std::fmt::Debug {
    /// Listens to the control exchange on a connection of its own, under the name of this node.
    ///
    /// # Errors
    /// The broker is away or refuses.
    async fn subscribe(&self, node: &str) -> Result<Box<dyn Broadcasts>, Error>;

    /// Leaves nothing of the node behind.
    ///
    /// # Errors
    /// The broker is away or refuses.
    async fn unsubscribe(&self, node: &str) -> Result<(), Error>;

    /// Publishes to whoever listens to a fanout exchange at this moment, such as for events.
    ///
    /// # Errors
    /// The broker is away or refuses.
    async fn publish(&self, exchange: &str, routing_key: &str, envelope: &str)
    -> Result<(), Error>;

    /// Puts a reply into the queue of whoever has asked. `false`: the name is not that of a queue that was
    /// bound for replies, and nothing was written.
    ///
    /// # Errors
    /// The broker is away or refuses.
    async fn reply(&self, to: &ReplyTo, envelope: &str) -> Result<bool, Error>;
}

/// A subscription.
#[async_trait]
pub trait Broadcasts: Send {
    /// The next broadcast. Cancel safe: none is lost.
    ///
    /// # Errors
    /// The connection broke or stayed silent for too long: subscribe again.
    async fn next(&mut self) -> Result<Vec<u8>, Error>;
}
