//! Settling what we hold: ack, requeue. (The third way is in `dead_letters`.)
//!
//! Counterpart: `QoS.ack`, `QoS.reject` and `QoS.restore_by_tag` in `kombu/transport/redis.py`.

use std::sync::LazyLock;

use celeriac_protocol::{Envelope, Limits};
use redis::Script;

use super::{Delivery, Error, QueueEnd, RedisTransport};

static REQUEUE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/requeue.lua")));

/// Messages a script gives back at once: about 2 ms of the server's time.
const REQUEUE_BATCH: usize = 100;

impl RedisTransport {
    /// First the record, then the index: what is left when only half was done is an index entry
    /// without a record, which every worker's restore cleans up.
    pub(super) async fn remove_claims(&self, deliveries: &[Delivery]) -> Result<usize, Error> {
        let tags: Vec<&str> = deliveries.iter().map(Delivery::tag).collect();
        let mut connection = self.commands.get().await?;
        let removed = redis::pipe()
            .cmd("HDEL")
            .arg(self.keys.unacked())
            .arg(&tags)
            .cmd("ZREM")
            .arg(self.keys.unacked_index())
            .arg(&tags)
            .ignore()
            .query_async::<(usize,)>(&mut connection)
            .await;
        let (removed,) = self.commands.check(removed).await?;
        Ok(removed)
    }

    pub(super) async fn push_back(
        &self,
        deliveries: &[Delivery],
        end: QueueEnd,
    ) -> Result<usize, Error> {
        let (command, ordered): (_, Vec<&Delivery>) = match end {
            // The last one pushed is the next one taken, so the oldest goes last.
            QueueEnd::Front => ("RPUSH", deliveries.iter().rev().collect()),
            QueueEnd::Back => ("LPUSH", deliveries.iter().collect()),
        };
        let mut pushed = 0;
        for batch in ordered.chunks(REQUEUE_BATCH) {
            let mut call = REQUEUE.prepare_invoke();
            call.arg(self.keys.unacked())
                .arg(self.keys.unacked_index())
                .arg(command);
            for delivery in batch {
                let (priority, message) = redelivered(delivery.raw());
                call.arg(delivery.tag())
                    .arg(self.keys.list(delivery.queue(), priority))
                    .arg(message);
            }
            let mut connection = self.commands.get().await?;
            let count = call.invoke_async::<usize>(&mut connection).await;
            pushed += self.commands.check(count).await?;
        }
        Ok(pushed)
    }
}

/// The envelope marked as redelivered, and its priority. An envelope that cannot be read goes back as
/// it is.
pub(super) fn redelivered(raw: &[u8]) -> (i64, Vec<u8>) {
    // What was taken once is read again, whatever its size.
    match Envelope::parse_within(&Limits::new(usize::MAX, usize::MAX), raw) {
        Ok(mut envelope) => {
            envelope.set_redelivered();
            let priority = envelope.properties.priority.unwrap_or(0);
            (priority, envelope.to_json().into_bytes())
        }
        Err(_) => (0, raw.to_vec()),
    }
}
