//! Who owns what is taken: renewing our claims, and restoring those that nobody renews.
//!
//! Everything goes by the server's clock, so that a worker whose own clock is wrong harms nobody.
//!
//! Counterpart: `QoS.restore_visible` and `Channel._do_restore_message` in `kombu/transport/redis.py`.
//! Python's worker never renews; ours does, and Python's restore leaves renewed claims alone. Python's lock holds for
//! `unacked_mutex_expire`, ours for seconds.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::settle::redelivered;
use super::{Error, RedisTransport};

static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/renew.lua")));
static RESTORE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/restore.lua")));

/// Releases a lock that is still ours, as redis-py's `Lock.release` does.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0",
    )
});

/// Claims renewed by one call: about 1 ms of the server's time.
const RENEW_BATCH: usize = 1000;

/// Messages looked at in one round of restoring.
const RESTORE_BATCH: usize = 100;

/// Rounds in a row: some seconds. A dead worker may have held thousands.
const RESTORE_ROUNDS: usize = 100;

/// How long our lock holds at most, whatever `unacked_mutex_expire` says (kombu's default is five minutes): a worker that
/// is killed while it restores holds up the others for so long. Where it runs out too early nothing breaks, since each
/// message is restored in one step.
const LOCK_MAX: Duration = Duration::from_secs(10);

/// An entry of `unacked`: `[message, exchange, routing_key]`.
pub(super) struct Record {
    pub(super) message: Vec<u8>,
    pub(super) exchange: String,
    pub(super) routing_key: String,
}

impl Record {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (message, exchange, routing_key): (Box<RawValue>, String, String) =
            serde_json::from_slice(bytes).ok()?;
        Some(Self {
            message: message.get().as_bytes().to_vec(),
            exchange,
            routing_key,
        })
    }
}

impl RedisTransport {
    pub(super) async fn renew_claims(&self, tags: &[String]) -> Result<Vec<String>, Error> {
        let mut lost = Vec::new();
        for batch in tags.chunks(RENEW_BATCH) {
            let mut connection = self.commands.get().await?;
            let gone = RENEW
                .arg(self.keys.unacked_index())
                .arg(batch)
                .invoke_async::<Vec<String>>(&mut connection)
                .await;
            lost.extend(self.commands.check(gone).await?);
        }
        Ok(lost)
    }

    pub(super) async fn restore_visible(&self) -> Result<usize, Error> {
        let token = Uuid::new_v4().to_string();
        if !self.lock_restore(&token).await? {
            return Ok(0);
        }
        let restored = self.restore_round().await;
        self.unlock_restore(&token).await?;
        restored
    }

    async fn restore_round(&self) -> Result<usize, Error> {
        let timeout = self.options.visibility_timeout;
        let latest = self
            .server_time()
            .await?
            .saturating_sub(timeout)
            .as_secs_f64();
        let (mut restored, mut left_alone) = (0, 0);
        for _ in 0..RESTORE_ROUNDS {
            // What is left alone stays in the index, and must not hide what lies behind it.
            let tags = self.expired(latest, left_alone).await?;
            for tag in &tags {
                match self.restore_one(tag, latest).await? {
                    Some(count) => restored += count,
                    None => left_alone += 1,
                }
            }
            if tags.len() < RESTORE_BATCH {
                break;
            }
        }
        Ok(restored)
    }

    /// Tags that nobody has renewed, newest first: what is pushed last is taken first.
    async fn expired(&self, latest: f64, skipped: usize) -> Result<Vec<String>, Error> {
        let mut connection = self.commands.get().await?;
        let tags = redis::cmd("ZRANGE")
            .arg(self.keys.unacked_index())
            .arg(latest)
            .arg(0)
            .arg(&["BYSCORE", "REV", "LIMIT"])
            .arg(skipped)
            .arg(RESTORE_BATCH)
            .query_async::<Vec<String>>(&mut connection)
            .await;
        self.commands.check(tags).await
    }

    /// How many messages went back, 0 or 1; `None`: nobody knows where it belongs, and it stays.
    async fn restore_one(&self, tag: &str, latest: f64) -> Result<Option<usize>, Error> {
        let mut connection = self.commands.get().await?;
        let record = redis::cmd("HGET")
            .arg(self.keys.unacked())
            .arg(tag)
            .query_async::<Option<Vec<u8>>>(&mut connection)
            .await;
        let record = self.commands.check(record).await?;
        let (list, message) = match record.as_deref().map(Record::parse) {
            None => (String::new(), Vec::new()),
            Some(None) => {
                log::error!(
                    "entry {tag:?} of {:?} is no message; left alone",
                    self.keys.unacked()
                );
                return Ok(None);
            }
            Some(Some(record)) => {
                let (priority, message) = redelivered(&record.message);
                let Some(queue) = self.lookup(&record).await? else {
                    log::error!(
                        "entry {tag:?} of {:?} names no known queue; left alone",
                        self.keys.unacked()
                    );
                    return Ok(None);
                };
                (self.keys.list(&queue, priority), message)
            }
        };
        let restored = RESTORE
            .arg(self.keys.unacked())
            .arg(self.keys.unacked_index())
            .arg(tag)
            .arg(latest)
            .arg(list)
            .arg(message)
            .invoke_async::<usize>(&mut connection)
            .await;
        self.commands.check(restored).await.map(Some)
    }

    /// The queue that a record belongs to. Counterpart: `kombu/transport/virtual/base.py::_lookup`.
    async fn lookup(&self, record: &Record) -> Result<Option<String>, Error> {
        if record.exchange.is_empty() {
            return Ok(Some(record.routing_key.clone()));
        }
        let [all, _] = self.keys.bindings(&record.exchange);
        let mut connection = self.commands.get().await?;
        let members = redis::cmd("SMEMBERS")
            .arg(all)
            .query_async::<Vec<String>>(&mut connection)
            .await;
        let members = self.commands.check(members).await?;
        let mut bindings = members
            .iter()
            .filter_map(|member| self.keys.parse_binding(member));
        Ok(bindings
            .find(|binding| binding.routing_key == record.routing_key)
            .map(|binding| binding.queue))
    }

    async fn server_time(&self) -> Result<Duration, Error> {
        let mut connection = self.commands.get().await?;
        let time = redis::cmd("TIME")
            .query_async::<(u64, u32)>(&mut connection)
            .await;
        let (seconds, micros) = self.commands.check(time).await?;
        Ok(Duration::new(seconds, micros.saturating_mul(1000)))
    }

    /// One worker restores at a time, of either language: the lock is kombu's.
    pub(super) async fn lock_restore(&self, token: &str) -> Result<bool, Error> {
        let mut connection = self.commands.get().await?;
        let locked = redis::cmd("SET")
            .arg(self.keys.unacked_mutex())
            .arg(token)
            .arg("NX")
            .arg("PX")
            .arg(self.options.unacked_mutex_expire.min(LOCK_MAX).as_millis() as u64)
            .query_async::<Option<String>>(&mut connection)
            .await;
        Ok(self.commands.check(locked).await?.is_some())
    }

    async fn unlock_restore(&self, token: &str) -> Result<(), Error> {
        let mut connection = self.commands.get().await?;
        let released = RELEASE
            .key(self.keys.unacked_mutex())
            .arg(token)
            .invoke_async::<()>(&mut connection)
            .await;
        self.commands.check(released).await
    }
}
