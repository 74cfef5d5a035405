//! Waiting for messages, cheaply for the whole fleet.
//!
//! Every connection that has read a list is told when the list changes, so one push would wake every idle worker of a
//! fleet for one message. Therefore one of them is the lookout, under a lease: it watches the lists (the take script's
//! reads arm them), and takes what comes while it has a free slot. When it has none left it is relieved: it puts a token
//! into a list on which the others wait by BRPOP, and Redis wakes the one that has waited longest. Whoever waits looks by
//! itself every few seconds all the same: a lookout that dies holds up a message for no longer. A worker without
//! neighbours has no lease to look after. A worker that comes in the place of one that was killed finds the lease of the dead
//! one, so in its first seconds it looks more often.
//!
//! Where the server does not track reads, BLMOVE from a list's end to the same end wakes without taking anything; the other
//! lists are looked at once a second.
//!
//! Counterpart: `Channel._brpop_start` in `kombu/transport/redis.py`, where the BRPOP that waits takes the message as well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::Script;
use tokio::sync::Notify;

use super::connection::BLOCKING_MAX;
use super::{Connection, Error, RedisTransport};

/// A look is due after this long even if nothing was pushed: it notices a dead connection.
const LOOK_INTERVAL: Duration = BLOCKING_MAX;

/// The same for whoever waits, while the lookout may be one that has died before this worker has started.
const EARLY_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often to look where the server does not tell us.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait where the server does not answer; whoever takes next will say so.
const AFTER_ERROR: Duration = Duration::from_millis(200);

/// A lookout that has not been heard of for so long is none.
const LEASE: Duration = Duration::from_secs(12);

/// Gives the post up and wakes one that waits. A token that nobody has fetched is enough.
static RELIEVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/relieve.lua")));

/// What this worker knows of its post.
#[derive(Debug)]
pub(super) struct Post {
    started: Instant,
    is_lookout: AtomicBool,
    has_neighbours: AtomicBool,
    /// When the lease was last looked after.
    kept: Mutex<Option<Instant>>,
}

impl Post {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            is_lookout: AtomicBool::default(),
            has_neighbours: AtomicBool::default(),
            kept: Mutex::default(),
        }
    }

    /// How long to wait for the lookout's call.
    fn patience(&self) -> Duration {
        match self.started.elapsed() < LEASE {
            true => EARLY_LOOK_INTERVAL,
            false => LOOK_INTERVAL,
        }
    }

    /// Takes note of whether there is anybody to share the watch with.
    pub(super) fn meet(&self, has_neighbours: bool) {
        self.has_neighbours.store(has_neighbours, Ordering::Relaxed);
    }

    fn watches(&self) -> bool {
        !self.has_neighbours.load(Ordering::Relaxed) || self.is_lookout.load(Ordering::Relaxed)
    }

    /// Whether the lease is to be looked after, also where pushes leave no time to do so.
    fn is_due(&self) -> bool {
        let kept = *self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_neighbours.load(Ordering::Relaxed)
            && kept.is_none_or(|kept| kept.elapsed() >= LOOK_INTERVAL)
    }

    fn keep(&self, is_lookout: bool) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.is_lookout.store(is_lookout, Ordering::Relaxed);
    }
}

impl RedisTransport {
    /// Returns when there may be something to take. An error is the next take's to find.
    pub(super) async fn wait(&self, queues: &[String], wake: &Notify) {
        if !self.taker.is_tracking().await {
            self.wait_untracked(queues).await;
        } else if self.wait_on_post(queues, wake).await.is_err() {
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }

    async fn wait_on_post(&self, queues: &[String], wake: &Notify) -> Result<(), Error> {
        loop {
            if self.post.watches() {
                if self.post.is_due() && !self.keep_post(queues).await? {
                    continue;
                }
                self.prepare_take(queues);
                let woken = tokio::time::timeout(LOOK_INTERVAL, wake.notified()).await;
                // The read arms the lists again, and shows that the connection lives.
                if woken.is_ok() || self.look(&self.taker, queues).await? {
                    return Ok(());
                }
            } else {
                // A new lookout takes first, which arms the lists.
                if self.keep_post(queues).await? {
                    return Ok(());
                }
                let mut fetch = redis::cmd("BRPOP");
                fetch
                    .arg(self.keys.relief(queues))
                    .arg(self.post.patience().as_secs());
                let token: Option<(String, String)> = self.waiter.ask(&fetch).await?;
                if token.is_some() {
                    return self.take_post(queues).await;
                }
                if self.look(&self.commands, queues).await? {
                    return Ok(());
                }
            }
        }
    }

    async fn look(&self, connection: &Connection, queues: &[String]) -> Result<bool, Error> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(self.keys.lists(queues));
        let waiting: usize = connection.ask(&exists).await?;
        Ok(waiting > 0)
    }

    /// Renews the lease, or takes the post that nobody holds; `false`: somebody else is the lookout.
    async fn keep_post(&self, queues: &[String]) -> Result<bool, Error> {
        if !self.post.has_neighbours.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let worker = self.worker();
        let mut get = redis::cmd("GET");
        let holder: Option<String> = self
            .commands
            .ask(get.arg(self.keys.lookout(queues)))
            .await?;
        let is_ours = holder.is_none_or(|holder| holder == worker);
        if is_ours {
            self.write_lease(&worker, queues).await?;
        }
        self.post.keep(is_ours);
        Ok(is_ours)
    }

    /// Has fetched the token of the one before.
    async fn take_post(&self, queues: &[String]) -> Result<(), Error> {
        self.write_lease(&self.worker(), queues).await?;
        self.post.keep(true);
        Ok(())
    }

    async fn write_lease(&self, worker: &str, queues: &[String]) -> Result<(), Error> {
        let mut lease = redis::cmd("SET");
        lease
            .arg(self.keys.lookout(queues))
            .arg(worker)
            .arg("EX")
            .arg(LEASE.as_secs());
        self.commands.ask(&lease).await
    }

    /// Has no free slot left: another one is to watch.
    pub(super) async fn step_down(&self, queues: &[String]) -> Result<bool, Error> {
        if !self.post.has_neighbours.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if self.post.is_lookout.swap(false, Ordering::Relaxed) {
            let mut relieve = RELIEVE.prepare_invoke();
            relieve
                .arg(self.keys.lookout(queues))
                .arg(self.keys.relief(queues))
                .arg(self.worker())
                .arg(LEASE.as_secs());
            self.commands.ask::<()>(&relieve).await?;
        }
        Ok(true)
    }

    async fn wait_untracked(&self, queues: &[String]) {
        let Some(first) = queues.first() else {
            return tokio::time::sleep(POLL_INTERVAL).await;
        };
        let list = self.keys.list(first, 0);
        let mut rotate = redis::cmd("BLMOVE");
        rotate.arg(&list).arg(&list).arg(&["RIGHT", "RIGHT"]);
        rotate.arg(POLL_INTERVAL.as_secs());
        if self.waiter.ask::<Option<Vec<u8>>>(&rotate).await.is_err() {
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }
}
