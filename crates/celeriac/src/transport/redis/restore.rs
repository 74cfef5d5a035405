//! Giving back what a worker has left behind: one that was seen to be dead, as Python does whoever has not renewed a claim
//! within the visibility timeout, and we ourselves where the server has forgotten that we had settled it.
//!
//! Each message goes back in one step on the server, and only if it is still so; a lock keeps workers of both languages
//! from looking at the same ones at once. A start that ended in the death of its worker is counted beside the message,
//! by its id (promise M5): what has killed [`MAX_DEATHS`] workers is set aside.
//!
//! Counterpart: `QoS.restore_visible` and `Channel._do_restore_message` in `kombu/transport/redis.py`. Python's lock holds
//! for `unacked_mutex_expire`, ours for seconds.

use std::sync::{LazyLock, PoisonError};
use std::time::Duration;

use redis::Script;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Error, RedisTransport};
use crate::transport::redelivered::redelivered;
use crate::transport::{Delivery, MAX_DEATHS, died_too_often};

static RESTORE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/restore.lua")));

/// Removes a value that is still the expected one, as redis-py's `Lock.release` does.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0",
    )
});

/// Declares a worker dead whose number is still the expected one ('': whatever it is).
static DECLARE_DEAD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if ARGV[3] ~= '' and redis.call('HGET', ARGV[1], ARGV[2]) ~= ARGV[3] then return 0 end redis.call('HSET', ARGV[1], ARGV[2], ARGV[4]) return 1",
    )
});

/// Forgets a worker that is still declared dead.
static FORGET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('HGET', ARGV[1], ARGV[2]) == ARGV[3] then return redis.call('HDEL', ARGV[1], ARGV[2]) end return 0",
    )
});

/// Removes the marks of a worker that is still declared dead.
static UNMARK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('HGET', ARGV[1], ARGV[2]) == ARGV[3] then redis.call('HDEL', ARGV[4], unpack(ARGV, 5)) end",
    )
});

/// The number of a worker that was declared dead. One that lives all the same counts it up with its next beat: what is
/// not given back by then stays its own, and it sees that its number is another.
const DEAD: i64 = -1;

/// Messages looked at in one round, and given back by one script.
const BATCH: usize = 100;

/// Rounds in a row: some seconds. A dead worker may have held thousands.
const ROUNDS: usize = 100;

/// Claims looked through by one step of a scan.
const SCAN_COUNT: usize = 1000;

/// How long our lock holds at most, whatever `unacked_mutex_expire` says (kombu's default is five minutes): a worker that
/// is killed while it restores holds up the others for so long. Where it runs out too early nothing breaks, since each
/// message is restored in one step.
const LOCK_MAX: Duration = Duration::from_secs(10);

/// For how long deaths are remembered after the last one.
const DEATHS_REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

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

/// Whose messages go back.
enum Whose<'a> {
    /// Those of a worker that is declared dead.
    Dead(&'a str),
    /// Those with a score up to this one.
    Expired(f64),
    /// Our own.
    Ours,
}

/// One message on its way back.
struct Returning {
    claim: String,
    list: String,
    queue: String,
    /// As it is held.
    original: Vec<u8>,
    /// Marked as redelivered.
    message: Vec<u8>,
    id: String,
}

impl RedisTransport {
    /// Counterpart: `QoS.restore_visible`.
    pub(super) async fn restore_visible(&self) -> Result<usize, Error> {
        let latest = self.latest_expired().await?;
        // Most of the time there is none, and no lock is needed to see that.
        if self.expired(latest, 0, 1).await?.is_empty() {
            return Ok(0);
        }
        let (key, token) = (self.keys.unacked_mutex(), Uuid::new_v4().to_string());
        if !self.lock(&key, &token).await? {
            return Ok(0);
        }
        let restored = self.restore_expired_claims(latest).await;
        self.unlock(&key, &token).await?;
        restored
    }

    /// Gives back what a dead worker held. `None`: somebody else is giving back right now.
    pub(super) async fn restore_of(
        &self,
        worker: &str,
        beat: Option<i64>,
    ) -> Result<Option<usize>, Error> {
        // A lock of our own: kombu's stays for minutes where a Python worker was killed with it.
        let (key, token) = (self.keys.takeover(), Uuid::new_v4().to_string());
        if !self.lock(&key, &token).await? {
            return Ok(None);
        }
        let restored = self.restore_claims_of(worker, beat).await;
        self.unlock(&key, &token).await?;
        restored.map(Some)
    }

    async fn restore_claims_of(&self, worker: &str, beat: Option<i64>) -> Result<usize, Error> {
        let mut declare = DECLARE_DEAD.prepare_invoke();
        declare
            .arg(self.keys.workers())
            .arg(worker)
            .arg(beat.map(|beat| beat.to_string()).unwrap_or_default())
            .arg(DEAD);
        let is_dead: bool = self.commands.ask(&declare).await?;
        if !is_dead {
            return Ok(0);
        }
        let mut claims = self
            .scan("ZSCAN", &self.keys.unacked_index(), worker)
            .await?;
        let restored = self.restore_all(&mut claims, &Whose::Dead(worker)).await?;
        // Marks whose message has gone another way.
        let marks = self.scan("HSCAN", &self.keys.started(), worker).await?;
        for marks in marks.chunks(SCAN_COUNT) {
            let mut remove = UNMARK.prepare_invoke();
            remove
                .arg(self.keys.workers())
                .arg(worker)
                .arg(DEAD)
                .arg(self.keys.started())
                .arg(marks);
            self.commands.ask::<()>(&remove).await?;
        }
        // Last, so that another one begins again where this one is killed.
        let mut forget = FORGET.prepare_invoke();
        forget.arg(self.keys.workers()).arg(worker).arg(DEAD);
        self.commands.ask::<()>(&forget).await?;
        Ok(restored)
    }

    async fn restore_all(&self, claims: &mut [String], whose: &Whose<'_>) -> Result<usize, Error> {
        // The newest first: what is pushed last is taken first. The number in a claim has a fixed width.
        claims.sort_unstable_by(|one, other| other.cmp(one));
        let mut restored = 0;
        for batch in claims.chunks(BATCH) {
            restored += self.restore_batch(batch, whose).await?.0;
        }
        Ok(restored)
    }

    /// Our own claims, but for those of takes that are not answered yet.
    pub(super) async fn own_claims(&self) -> Result<Vec<String>, Error> {
        let worker = self.worker();
        let mut found = self
            .scan("ZSCAN", &self.keys.unacked_index(), &worker)
            .await?;
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|tag| claims.is_answered(tag));
        Ok(found)
    }

    /// Gives back claims of our own that we do not hold. Nobody has died, so that no start is counted.
    pub(super) async fn restore_own(&self, tags: &[String]) -> Result<usize, Error> {
        for tags in tags.chunks(SCAN_COUNT) {
            let mut unmark = redis::cmd("HDEL");
            unmark.arg(self.keys.started()).arg(tags);
            self.commands.ask::<()>(&unmark).await?;
        }
        self.restore_all(&mut tags.to_vec(), &Whose::Ours).await
    }

    /// The members or fields that begin with a worker's name.
    async fn scan(&self, command: &str, key: &str, worker: &str) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd(command);
            scan.arg(key)
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{worker}-*"));
            scan.arg("COUNT").arg(SCAN_COUNT);
            let (next, pairs): (u64, Vec<(String, Vec<u8>)>) = self.commands.ask(&scan).await?;
            found.extend(pairs.into_iter().map(|(name, _)| name));
            cursor = next;
            if cursor == 0 {
                return Ok(found);
            }
        }
    }

    async fn restore_expired_claims(&self, latest: f64) -> Result<usize, Error> {
        let (mut restored, mut left_alone) = (0, 0);
        for _ in 0..ROUNDS {
            // What is left alone stays in the index, and must not hide what lies behind it.
            let claims = self.expired(latest, left_alone, BATCH).await?;
            let (count, left) = self.restore_batch(&claims, &Whose::Expired(latest)).await?;
            restored += count;
            left_alone += left;
            if claims.len() < BATCH {
                break;
            }
        }
        Ok(restored)
    }

    /// Gives these back; how many went, and how many had to be left alone.
    async fn restore_batch(
        &self,
        claims: &[String],
        whose: &Whose<'_>,
    ) -> Result<(usize, usize), Error> {
        if claims.is_empty() {
            return Ok((0, 0));
        }
        let (returning, left_alone) = self.read_claims(claims).await?;
        let mut restore = RESTORE.prepare_invoke();
        restore
            .arg(self.keys.unacked())
            .arg(self.keys.unacked_index())
            .arg(self.keys.started())
            .arg(self.keys.deaths())
            .arg(self.keys.workers());
        match whose {
            Whose::Dead(worker) => restore.arg(worker).arg(DEAD),
            Whose::Expired(latest) => restore.arg("").arg(latest),
            Whose::Ours => restore.arg("").arg(f64::MAX),
        };
        restore.arg(MAX_DEATHS).arg(DEATHS_REMEMBERED.as_secs());
        for one in &returning {
            restore
                .arg(&one.claim)
                .arg(&one.list)
                .arg(&one.message)
                .arg(&one.id);
        }
        let mut answer = self
            .commands
            .ask::<Vec<String>>(&restore)
            .await?
            .into_iter();
        let restored = answer
            .next()
            .and_then(|count| count.parse().ok())
            .unwrap_or(0);
        for claim in answer {
            if let Some(one) = returning.iter().find(|one| one.claim == claim) {
                self.park(one).await?;
            }
        }
        Ok((restored, left_alone))
    }

    async fn park(&self, killer: &Returning) -> Result<(), Error> {
        let reason = died_too_often(MAX_DEATHS);
        log::error!(
            "Message {:?} of queue {:?}: {reason}. It is kept in {:?}.",
            killer.id,
            killer.queue,
            self.keys.dead(&killer.queue)
        );
        let delivery = Delivery::new(
            killer.claim.clone(),
            killer.queue.clone(),
            killer.original.clone(),
        );
        self.bury(&delivery, &killer.id, &reason).await
    }

    /// What these claims hold, and where it belongs; and how many of them nobody can tell that of.
    async fn read_claims(&self, claims: &[String]) -> Result<(Vec<Returning>, usize), Error> {
        let mut read = redis::cmd("HMGET");
        read.arg(self.keys.unacked()).arg(claims);
        let records: Vec<Option<Vec<u8>>> = self.commands.ask(&read).await?;
        let mut returning = Vec::with_capacity(claims.len());
        let mut left_alone = 0;
        for (claim, record) in claims.iter().zip(records) {
            match self.returning(claim, record.as_deref()).await? {
                Some(one) => returning.push(one),
                None => left_alone += 1,
            }
        }
        Ok((returning, left_alone))
    }

    /// `None`: nobody knows where it belongs, and it stays.
    async fn returning(
        &self,
        claim: &str,
        record: Option<&[u8]>,
    ) -> Result<Option<Returning>, Error> {
        let mut one = Returning {
            claim: claim.to_owned(),
            list: String::new(),
            queue: String::new(),
            original: Vec::new(),
            message: Vec::new(),
            id: String::new(),
        };
        // An entry of the index alone: the script cleans it up.
        let Some(record) = record else {
            return Ok(Some(one));
        };
        let unacked = self.keys.unacked();
        let Some(record) = Record::parse(record) else {
            log::error!("entry {claim:?} of {unacked:?} is no message; left alone");
            return Ok(None);
        };
        let Some(queue) = self.lookup(&record).await? else {
            log::error!("entry {claim:?} of {unacked:?} names no known queue; left alone");
            return Ok(None);
        };
        let again = redelivered(&record.message);
        one.list = self.keys.list(&queue, again.priority);
        one.queue = queue;
        one.id = again.id;
        one.message = again.message;
        one.original = record.message;
        Ok(Some(one))
    }

    /// The queue that a record belongs to. Counterpart: `kombu/transport/virtual/base.py::_lookup`.
    async fn lookup(&self, record: &Record) -> Result<Option<String>, Error> {
        if record.exchange.is_empty() {
            return Ok(Some(record.routing_key.clone()));
        }
        let [all, _] = self.keys.bindings(&record.exchange);
        let members: Vec<String> = self.commands.ask(redis::cmd("SMEMBERS").arg(all)).await?;
        let mut bindings = members
            .iter()
            .filter_map(|member| self.keys.parse_binding(member));
        Ok(bindings
            .find(|binding| binding.routing_key == record.routing_key)
            .map(|binding| binding.queue))
    }

    /// Claims that nobody has renewed, newest first: what is pushed last is taken first.
    async fn expired(
        &self,
        latest: f64,
        skipped: usize,
        count: usize,
    ) -> Result<Vec<String>, Error> {
        let mut find = redis::cmd("ZRANGE");
        find.arg(self.keys.unacked_index())
            .arg(latest)
            .arg(0)
            .arg(&["BYSCORE", "REV", "LIMIT"])
            .arg(skipped)
            .arg(count);
        self.commands.ask(&find).await
    }

    /// The latest score that counts as expired, by the server's clock.
    async fn latest_expired(&self) -> Result<f64, Error> {
        let (seconds, micros): (u64, u32) = self.commands.ask(&redis::cmd("TIME")).await?;
        let now = Duration::new(seconds, micros.saturating_mul(1000));
        let latest = now.saturating_sub(self.options.visibility_timeout);
        Ok(latest.as_secs_f64())
    }

    /// One worker restores at a time; where it is by age, one of either language: that lock is kombu's.
    pub(super) async fn lock(&self, key: &str, token: &str) -> Result<bool, Error> {
        let expire = self.options.unacked_mutex_expire.min(LOCK_MAX);
        let mut lock = redis::cmd("SET");
        lock.arg(key)
            .arg(token)
            .arg("NX")
            .arg("PX")
            .arg(expire.as_millis() as u64);
        let locked = self.commands.ask::<Option<String>>(&lock).await?;
        Ok(locked.is_some())
    }

    async fn unlock(&self, key: &str, token: &str) -> Result<(), Error> {
        let mut release = RELEASE.prepare_invoke();
        release.key(key).arg(token);
        self.commands.ask(&release).await
    }
}
