//! Broadcasts: Redis' publish and subscribe, on a connection of its own.
//!
//! A subscriber is told nothing while nobody publishes, so a dead connection looks like a quiet one. This one
//! asks for a sign of life every few seconds, and is given up when none comes: within 15 s there is a new one
//! (promise M7). Redis keeps no broadcast for whoever is away.
//!
//! Replies go into lists, and a request names the list. Only the list that kombu's clients bind to the reply
//! exchange is ever written, and only while it is bound: a request must not make us write to a task queue, or
//! to any other key.
//!
//! Counterpart: `kombu/transport/redis.py` (`_subscribe`, `_put_fanout`, `_queue_bind`, `_put`) @ 5.7.0.
//! Difference: a reply that nobody fetches goes after a while, where Python's stays.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_protocol::control::{CONTROL_EXCHANGE, REPLY_EXCHANGE, ReplyTo};
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Script, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Connection, Error, RedisTransport, connection};
use crate::transport::fanout::{Broadcasts, Fanout};

/// How often a sign of life is asked for. With the time that a reply may take, and that to connect, it is
/// less than 15 s.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Broadcasts that wait to be looked at. Beyond that they are dropped: whoever floods the channel must not
/// fill our memory.
const BACKLOG: usize = 256;

/// How long a binding is kept that nobody renews, as kombu has it (`MIN_BINDING_TTL`).
const BINDING_TTL: Duration = Duration::from_secs(60 * 60);

/// How often ours is renewed.
const BINDING_RENEWAL: Duration = Duration::from_secs(20 * 60);

/// How long a reply waits to be fetched: much longer than any client's patience.
const REPLY_TTL: Duration = Duration::from_secs(10 * 60);

/// kombu's own way to add a binding that may expire: a table that nobody renews is swept by any worker.
static BIND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/bind.lua")));

/// See the module's text.
struct Subscription {
    connection: MultiplexedConnection,
    pushed: mpsc::Receiver<PushInfo>,
    channel: Vec<u8>,
    next_ping: Instant,
    bindings: Bindings,
}

/// What keeps the node's queue in the table of the control exchange.
struct Bindings {
    table: String,
    deadlines: String,
    member: String,
    next_renewal: Instant,
}

#[async_trait]
impl Fanout for RedisTransport {
    async fn subscribe(&self, node: &str) -> Result<Box<dyn Broadcasts>, Error> {
        let (push, pushed) = mpsc::channel(BACKLOG);
        let mut connection = Connection::pushing(&self.address, push).await?;
        let channel = self.keys.channel(CONTROL_EXCHANGE, self.address.database());
        let subscribed = redis::cmd("SUBSCRIBE")
            .arg(&channel)
            .query_async::<()>(&mut connection)
            .await;
        subscribed.map_err(|error| connection::sort(&error))?;
        let [table, _] = self.keys.bindings(CONTROL_EXCHANGE);
        let mut bindings = Bindings {
            table,
            deadlines: self.keys.binding_deadlines(),
            member: self.keys.fanout_member(&node_queue(node)),
            next_renewal: Instant::now(),
        };
        bindings.renew(&mut connection).await?;
        Ok(Box::new(Subscription {
            connection,
            pushed,
            channel: channel.into_bytes(),
            next_ping: Instant::now() + PING_INTERVAL,
            bindings,
        }))
    }

    async fn unsubscribe(&self, node: &str) -> Result<(), Error> {
        let [table, _] = self.keys.bindings(CONTROL_EXCHANGE);
        let mut remove = redis::cmd("SREM");
        remove
            .arg(table)
            .arg(self.keys.fanout_member(&node_queue(node)));
        self.commands.ask(&remove).await
    }

    async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        envelope: &str,
    ) -> Result<(), Error> {
        let channel = self.keys.channel(exchange, self.address.database());
        let mut publish = redis::cmd("PUBLISH");
        publish
            .arg(format!("{channel}/{routing_key}"))
            .arg(envelope);
        self.commands.ask(&publish).await
    }

    async fn reply(&self, to: &ReplyTo, envelope: &str) -> Result<bool, Error> {
        // Guarantee M5: a request names the list, and must not make us write to any other than its own.
        if to.exchange != REPLY_EXCHANGE {
            return Ok(false);
        }
        let queue = to.queue();
        let [table, _] = self.keys.bindings(REPLY_EXCHANGE);
        let mut find = redis::cmd("SISMEMBER");
        find.arg(table)
            .arg(self.keys.direct_member(&to.routing_key, &queue));
        let is_bound: bool = self.commands.ask(&find).await?;
        if !is_bound {
            return Ok(false);
        }
        let list = self.keys.list(&queue, 0);
        let mut pipe = redis::pipe();
        pipe.cmd("LPUSH").arg(&list).arg(envelope).ignore();
        pipe.cmd("PEXPIRE")
            .arg(&list)
            .arg(REPLY_TTL.as_millis() as u64)
            .ignore();
        self.commands.ask::<()>(&pipe).await?;
        Ok(true)
    }
}

#[async_trait]
impl Broadcasts for Subscription {
    async fn next(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            tokio::select! {
                // cancel-safe: a push is either received or still in the channel
                push = self.pushed.recv() => match push {
                    Some(push) if push.kind == PushKind::Message => {
                        if let Some(payload) = self.payload(push) {
                            return Ok(payload);
                        }
                    }
                    Some(push) if push.kind != PushKind::Disconnection => {}
                    _ => return Err(Error::Connection {
                        reason: "the connection for broadcasts broke".to_owned(),
                    }),
                },
                // Guarantee M7: a silent connection is found.
                () = tokio::time::sleep_until(self.next_ping) => self.ping().await?,
            }
        }
    }
}

impl Subscription {
    /// `[channel, payload]`; nothing of another channel.
    fn payload(&self, push: PushInfo) -> Option<Vec<u8>> {
        let mut data = push.data.into_iter().map(|value| match value {
            Value::BulkString(bytes) => bytes,
            _ => Vec::new(),
        });
        let channel = data.next()?;
        (channel == self.channel).then(|| data.next()).flatten()
    }

    /// Cancelled in between, it only begins anew.
    async fn ping(&mut self) -> Result<(), Error> {
        let pong = redis::cmd("PING")
            .query_async::<()>(&mut self.connection)
            .await;
        pong.map_err(|error| connection::sort(&error))?;
        if self.bindings.next_renewal <= Instant::now() {
            self.bindings.renew(&mut self.connection).await?;
        }
        self.next_ping = Instant::now() + PING_INTERVAL;
        Ok(())
    }
}

impl Bindings {
    async fn renew(&mut self, connection: &mut MultiplexedConnection) -> Result<(), Error> {
        let bound = BIND
            .key(&self.table)
            .key(&self.deadlines)
            .arg(&self.member)
            .arg(CONTROL_EXCHANGE)
            .arg(BINDING_TTL.as_millis() as u64)
            .invoke_async::<()>(connection)
            .await;
        bound.map_err(|error| connection::sort(&error))?;
        self.next_renewal = Instant::now() + BINDING_RENEWAL;
        Ok(())
    }
}

/// The queue of kombu's node; on Redis it is only a name in a table.
fn node_queue(node: &str) -> String {
    format!("{node}.{CONTROL_EXCHANGE}")
}
