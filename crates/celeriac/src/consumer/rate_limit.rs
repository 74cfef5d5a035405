//! Rate limits: how many tasks of a kind may start in a time, in this worker.
//!
//! A request over the limit waits here. It is held and counts against the prefetch, as in Celery. Others pass it by.
//!
//! Counterpart: `celery/worker/consumer/consumer.py` (`bucket_for_task`, `_limit_task`, `reset_rate_limits`) and
//! `kombu/utils/limits.py::TokenBucket` with its capacity of 1 @ 5.7.0.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::ReadySender;
use crate::app::App;
use crate::executor::Request;
use crate::handler::RateLimit;
use crate::transport::Delivery;

/// The longest sleep; a new rate and a new request wake it before.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The limits of one worker, and who waits for them. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct RateLimits {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Nearly always there are none, and every request asks.
    are_any: AtomicBool,
    are_disabled: bool,
    buckets: Mutex<Buckets>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Buckets {
    by_task: HashMap<String, Bucket>,
    /// Nobody passes on any more what waits here.
    are_closed: bool,
}

/// What becomes of a request.
pub(super) enum Admission {
    /// It may start now.
    Start(Request),
    /// It waits.
    Waits,
    /// It came too late: the worker is stopping.
    TooLate(Request),
}

#[derive(Debug)]
struct Bucket {
    rate: Option<RateLimit>,
    /// The next start is allowed then.
    next: Instant,
    waiting: VecDeque<Request>,
}

impl Bucket {
    fn new(rate: Option<RateLimit>) -> Self {
        Self {
            rate,
            next: Instant::now(),
            waiting: VecDeque::new(),
        }
    }

    /// Whether one may start now; then the next one is due an interval later.
    fn take(&mut self, now: Instant) -> bool {
        let Some(interval) = self.rate.and_then(RateLimit::interval) else {
            return true;
        };
        if self.next > now {
            return false;
        }
        self.next = now.checked_add(interval).unwrap_or(now + LONGEST_SLEEP);
        true
    }
}

impl RateLimits {
    /// What the app's tasks say.
    pub(crate) fn of(app: &App) -> Self {
        let are_disabled = app.settings().worker_disable_rate_limits;
        let limited = app.task_names().into_iter().filter_map(|name| {
            let rate = app.registered(&name)?.effective.rate_limit?;
            Some((name, Bucket::new(Some(rate))))
        });
        let by_task: HashMap<_, _> = limited.filter(|_| !are_disabled).collect();
        Self {
            inner: Arc::new(Inner {
                are_any: AtomicBool::new(!by_task.is_empty()),
                are_disabled,
                buckets: Mutex::new(Buckets {
                    by_task,
                    are_closed: false,
                }),
                changed: Notify::new(),
            }),
        }
    }

    /// The limit of a task, where it has one.
    pub(crate) fn rate(&self, task: &str) -> Option<RateLimit> {
        self.buckets().by_task.get(task)?.rate
    }

    /// Sets the limit of a registered task from now on, for those too that wait already. Where the settings disable rate
    /// limits, nothing changes.
    pub(crate) fn set(&self, task: &str, rate: Option<RateLimit>) {
        if self.inner.are_disabled {
            return;
        }
        let mut buckets = self.buckets();
        let bucket = buckets
            .by_task
            .entry(task.to_owned())
            .or_insert_with(|| Bucket::new(None));
        bucket.rate = rate;
        bucket.next = Instant::now();
        drop(buckets);
        self.inner.are_any.store(true, Ordering::Relaxed);
        self.inner.changed.notify_one();
    }

    /// Lets the request start now, or wait here.
    pub(super) fn admit(&self, request: Request) -> Admission {
        if !self.inner.are_any.load(Ordering::Relaxed) {
            return Admission::Start(request);
        }
        let mut buckets = self.buckets();
        let are_closed = buckets.are_closed;
        let task = &request.message().headers.task;
        let Some(bucket) = buckets.by_task.get_mut(task) else {
            return Admission::Start(request);
        };
        if bucket.waiting.is_empty() && bucket.take(Instant::now()) {
            return Admission::Start(request);
        }
        if are_closed {
            return Admission::TooLate(request);
        }
        bucket.waiting.push_back(request);
        self.inner.changed.notify_one();
        Admission::Waits
    }

    /// Passes on whoever may start, until told to stop. Returns what still waits, for the worker to give back.
    pub(crate) async fn run(self, ready: ReadySender) -> Vec<Delivery> {
        loop {
            let (due, sleep) = self.due(Instant::now());
            let mut late = Vec::new();
            for request in due {
                late.extend(ready.start(request).await.err());
            }
            if ready.stopping.is_cancelled() {
                let late = late.into_iter().map(|request| request.into_delivery());
                return late.chain(self.left()).collect();
            }
            tokio::select! {
                // cancel-safe, all: they only wait
                () = ready.stopping.cancelled() => {}
                () = self.inner.changed.notified() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Who may start now, and how long until the next one may.
    fn due(&self, now: Instant) -> (Vec<Request>, Duration) {
        let mut due = Vec::new();
        let mut sleep = LONGEST_SLEEP;
        for bucket in self.buckets().by_task.values_mut() {
            while !bucket.waiting.is_empty() && bucket.take(now) {
                due.extend(bucket.waiting.pop_front());
            }
            if !bucket.waiting.is_empty() {
                sleep = sleep.min(bucket.next.saturating_duration_since(now));
            }
        }
        (due, sleep)
    }

    fn left(&self) -> Vec<Delivery> {
        let mut buckets = self.buckets();
        buckets.are_closed = true;
        let waiting = buckets
            .by_task
            .values_mut()
            .flat_map(|bucket| bucket.waiting.drain(..));
        waiting.map(Request::into_delivery).collect()
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        let buckets = self.inner.buckets.lock();
        buckets.unwrap_or_else(PoisonError::into_inner)
    }
}
