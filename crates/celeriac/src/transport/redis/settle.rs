//! Settling what we hold: ack, requeue, dead letter.
//!
//! Counterpart: `QoS.ack`, `QoS.reject` and `QoS.restore_by_tag` in `kombu/transport/redis.py`. The dead
//! letters are ours: on Redis, Celery destroys a message that it cannot run.

use std::sync::LazyLock;

use base64::Engine;
use celeriac_protocol::envelope::Envelope;
use redis::Script;
use serde_json::json;

use super::{Delivery, Error, QueueEnd, RedisTransport};
use crate::clock;

static REQUEUE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/requeue.lua")));
static BURY: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/dead_letter.lua")));
static BURY_WAITING: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/dead_letter_waiting.lua")));

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

    pub(super) async fn bury(&self, delivery: &Delivery, reason: &str) -> Result<(), Error> {
        let mut connection = self.commands.get().await?;
        let buried = BURY
            .arg(self.keys.unacked())
            .arg(self.keys.unacked_index())
            .arg(delivery.tag())
            .arg(self.keys.dead(delivery.queue()))
            .arg(dead_record(delivery.queue(), delivery.raw(), reason))
            .invoke_async::<()>(&mut connection)
            .await;
        self.commands.check(buried).await
    }

    /// Moves an entry that is no JSON object out of the way. A failure leaves it where it is, for the
    /// next take to find.
    pub(super) async fn bury_waiting(&self, list: &str, queue: &str, entry: &[u8]) {
        let reason = "not a JSON object";
        log::error!(
            "Message in queue {queue:?} is {reason} ({} bytes); it is kept in {:?}",
            entry.len(),
            self.keys.dead(queue)
        );
        let moved = async {
            let mut connection = self.commands.get().await?;
            let moved = BURY_WAITING
                .arg(list)
                .arg(entry)
                .arg(self.keys.dead(queue))
                .arg(dead_record(queue, entry, reason))
                .invoke_async::<()>(&mut connection)
                .await;
            self.commands.check(moved).await
        };
        if let Err(error) = moved.await {
            log::warn!("could not move it: {error}");
        }
    }
}

/// The envelope marked as redelivered, and its priority. An envelope that cannot be read goes back as
/// it is.
pub(super) fn redelivered(raw: &[u8]) -> (i64, Vec<u8>) {
    match Envelope::parse(raw) {
        Ok(mut envelope) => {
            envelope.set_redelivered();
            let priority = envelope.properties.priority.unwrap_or(0);
            (priority, envelope.to_json().into_bytes())
        }
        Err(_) => (0, raw.to_vec()),
    }
}

/// One entry of `<queue>.dead`: JSON, whatever bytes the message had.
fn dead_record(queue: &str, raw: &[u8], reason: &str) -> String {
    let (encoding, message) = match std::str::from_utf8(raw) {
        Ok(text) => ("utf-8", text.to_owned()),
        Err(_) => (
            "base64",
            base64::engine::general_purpose::STANDARD.encode(raw),
        ),
    };
    json!({
        "queue": queue,
        "reason": reason,
        "date": clock::now().to_rfc3339(),
        "encoding": encoding,
        "message": message,
    })
    .to_string()
}
