//! Waiting for results: one connection, subscribed to the channels of all results that somebody waits for.
//!
//! It is opened when the first one waits, and closed some seconds after the last. First it subscribes, then it looks, so
//! that nothing is missed; after a reconnect the same anew. A silent connection is found by a sign of life that it asks
//! for (promise M7).
//!
//! Counterpart: `celery/backends/redis.py::ResultConsumer` @ 5.7.0.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_protocol::result::TaskMeta;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::super::stored::Documents;
use super::super::waiters::Waiters;
use crate::backoff::jittered;
use crate::transport::Error;
use crate::transport::redis::{Address, Connection, sort};

/// How often a sign of life is asked for. With the time that a reply may take, and that to connect, it is less than 15 s.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Messages that wait to be read. When they are more, all results that are waited for are looked at anew.
const BACKLOG: usize = 1024;

/// Channels in one command.
const SUBSCRIBE_AT_ONCE: usize = 1000;

/// Results in one look; their documents come in one answer.
const LOOK_AT_ONCE: usize = 100;

/// Between two tries to connect: at first, and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// How long the backend may be away before those who wait are told; Celery's retry policy comes to as much.
const OUTAGE_MAX: Duration = Duration::from_secs(20);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Subscription {
    address: Address,
    key_prefix: String,
    documents: Documents,
    waiters: Arc<Waiters>,
    /// Why nothing is heard, and since when.
    trouble: Mutex<Option<(Instant, Error)>>,
    tasks: TaskTracker,
}

/// One connection's life.
struct Link<'a> {
    subscription: &'a Subscription,
    connection: MultiplexedConnection,
    pushed: mpsc::Receiver<PushInfo>,
    /// Something was pushed that did not fit.
    has_missed: Arc<AtomicBool>,
    subscribed: HashSet<String>,
    next_ping: Instant,
}

impl Subscription {
    pub(super) fn new(address: Address, key_prefix: String, documents: Documents) -> Self {
        Self {
            address,
            key_prefix,
            documents,
            waiters: Arc::default(),
            trouble: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Waits until a task is ready.
    pub(super) async fn wait(self: &Arc<Self>, task_id: &str) -> Result<TaskMeta, Error> {
        loop {
            let (waiting, is_first) = self.waiters.wait(task_id);
            if is_first {
                self.tasks.spawn(Arc::clone(self).serve());
            }
            // Without an answer, the runtime that served us has ended: it is ours now.
            if let Some(answer) = waiting.answer().await {
                return answer;
            }
        }
    }

    pub(super) fn trouble(&self) -> Option<Error> {
        let trouble = self.trouble_since();
        trouble.as_ref().map(|(_, error)| error.clone())
    }

    /// Serves those who wait, until nobody does.
    async fn serve(self: Arc<Self>) {
        let mut served = Served {
            waiters: &self.waiters,
            is_over: false,
        };
        let mut pause = RETRY[0];
        loop {
            let heard = match Link::open(&self).await {
                Ok(mut link) => link.follow().await,
                Err(error) => Err(error),
            };
            if let Err(error) = &heard {
                self.note(error);
            }
            if self.waiters.stop_serving() {
                served.is_over = true;
                return;
            }
            match heard {
                // Somebody has come at the last moment.
                Ok(()) => pause = RETRY[0],
                Err(_) => {
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(RETRY[1]);
                }
            }
        }
    }

    /// What is away for long, or refuses, is told to those who wait.
    fn note(&self, error: &Error) {
        let mut trouble = self.trouble_since();
        let (since, _) = trouble.take().unwrap_or((Instant::now(), error.clone()));
        *trouble = Some((since, error.clone()));
        drop(trouble);
        let is_refused = !error.is_of_the_connection();
        if is_refused || since.elapsed() >= OUTAGE_MAX {
            self.waiters.fail_all(error);
        }
    }

    fn trouble_since(&self) -> MutexGuard<'_, Option<(Instant, Error)>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, id: &str) -> String {
        format!("{}{id}", self.key_prefix)
    }

    /// What is stored, or was published, about a task.
    fn heard(&self, id: &str, document: &[u8]) -> Result<(), Error> {
        let meta = self.documents.read(&self.key(id), document)?;
        self.waiters.deliver(id, &meta);
        Ok(())
    }
}

impl<'a> Link<'a> {
    async fn open(subscription: &'a Subscription) -> Result<Self, Error> {
        let (push, pushed) = mpsc::channel(BACKLOG);
        let has_missed = Arc::new(AtomicBool::new(false));
        let missed = Arc::clone(&has_missed);
        let sender = move |info: PushInfo| {
            let sent = push.try_send(info);
            missed.fetch_or(sent.is_err(), Ordering::Relaxed);
            sent
        };
        Ok(Self {
            connection: Connection::pushing_to(&subscription.address, sender).await?,
            subscription,
            pushed,
            has_missed,
            subscribed: HashSet::new(),
            next_ping: Instant::now() + PING_INTERVAL,
        })
    }

    /// Follows all that are waited for, until the connection breaks or nobody has waited for a while.
    async fn follow(&mut self) -> Result<(), Error> {
        let waiters = &self.subscription.waiters;
        self.catch_up(waiters.ids()).await?;
        loop {
            *self.subscription.trouble_since() = None;
            tokio::select! {
                // cancel-safe: a push is either received or still in the channel
                push = self.pushed.recv() => self.read(push)?,
                // cancel-safe: what has changed is taken with the last step
                changed = waiters.changed() => self.catch_up(changed).await?,
                // Guarantee M7: a silent connection is found.
                () = tokio::time::sleep_until(self.next_ping) => {
                    if waiters.ids().is_empty() {
                        return Ok(());
                    }
                    self.ask::<()>(&redis::cmd("PING")).await?;
                    self.next_ping = Instant::now() + PING_INTERVAL;
                }
            }
            if self.has_missed.swap(false, Ordering::Relaxed) {
                self.catch_up(waiters.ids()).await?;
            }
        }
    }

    /// Subscribes to what is waited for, and not to what is not; then looks at what is: it may have been stored before
    /// its channel was listened to.
    async fn catch_up(&mut self, ids: Vec<String>) -> Result<(), Error> {
        let waiters = &self.subscription.waiters;
        let (wanted, unwanted): (Vec<_>, Vec<_>) =
            ids.into_iter().partition(|id| waiters.is_waited_for(id));
        let new = wanted.iter().filter(|id| !self.subscribed.contains(*id));
        let new: Vec<String> = new.cloned().collect();
        for some in new.chunks(SUBSCRIBE_AT_ONCE) {
            let keys = self.keys(some);
            let subscribed = self.connection.subscribe(keys.as_slice()).await;
            subscribed.map_err(|error| sort(&error))?;
            self.subscribed.extend(some.iter().cloned());
        }
        let old: Vec<String> = unwanted
            .into_iter()
            .filter(|id| self.subscribed.remove(id))
            .collect();
        for some in old.chunks(SUBSCRIBE_AT_ONCE) {
            let keys = self.keys(some);
            let unsubscribed = self.connection.unsubscribe(keys.as_slice()).await;
            unsubscribed.map_err(|error| sort(&error))?;
        }
        for some in wanted.chunks(LOOK_AT_ONCE) {
            self.look(some).await?;
        }
        Ok(())
    }

    async fn look(&mut self, ids: &[String]) -> Result<(), Error> {
        let look = redis::cmd("MGET").arg(self.keys(ids)).to_owned();
        let stored: Vec<Option<Vec<u8>>> = self.ask(&look).await?;
        for (id, document) in ids.iter().zip(stored) {
            let Some(document) = document else { continue };
            if let Err(error) = self.subscription.heard(id, &document) {
                self.subscription.waiters.fail(id, &error);
            }
        }
        Ok(())
    }

    /// `[channel, document]`.
    fn read(&self, push: Option<PushInfo>) -> Result<(), Error> {
        let push = push.filter(|push| push.kind != PushKind::Disconnection);
        let push = push.ok_or_else(|| Error::Connection {
            reason: "the connection that waits for results broke".to_owned(),
        })?;
        let prefix = self.subscription.key_prefix.as_bytes();
        if push.kind == PushKind::Message
            && let [Value::BulkString(channel), Value::BulkString(document)] = push.data.as_slice()
            && let Some(id) = channel.strip_prefix(prefix)
            && let Ok(id) = std::str::from_utf8(id)
            && let Err(error) = self.subscription.heard(id, document)
        {
            // Anybody may publish. What is stored counts, and is told by another message.
            log::debug!("what was published is no result: {error}");
        }
        Ok(())
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, Error> {
        let answer = command.query_async(&mut self.connection).await;
        answer.map_err(|error| sort(&error))
    }

    fn keys(&self, ids: &[String]) -> Vec<String> {
        ids.iter().map(|id| self.subscription.key(id)).collect()
    }
}

/// Whoever serves may be dropped with its runtime: then those who wait must know.
struct Served<'a> {
    waiters: &'a Waiters,
    is_over: bool,
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.waiters.abandon();
        }
    }
}
