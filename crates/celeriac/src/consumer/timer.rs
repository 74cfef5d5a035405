//! What waits for its time: tasks with an ETA, and messages that are handed back later.
//!
//! They are held (and renewed) meanwhile, but take no room from the prefetch. There may be a hundred thousand, so only the
//! claim is kept of each: the message is in the broker, from where it is read again when its time has come.
//!
//! Counterpart: `celery/worker/strategy.py` (`apply_eta_task`) and `kombu/asynchronous/timer.py` @ 5.7.0.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::held::Held;
use super::strategy::Strategy;
use crate::backoff::Backoff;
use crate::clock;
use crate::log_lines::shown;
use crate::state::Tracked;
use crate::transport::{Delivery, QueueEnd};

/// The longest sleep of the timer; whatever comes in wakes it before.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Some decades: what is due later never is, in this process.
const FARTHEST: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 50);

/// So many are read again at once.
const TOGETHER: usize = 256;

/// How soon to try again what the broker did not hand out.
const RETRY: Duration = Duration::from_secs(1);

/// Something to do at a point in time.
#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) at: DateTime<Utc>,
    pub(crate) action: Action,
}

/// What to do then.
#[derive(Debug)]
pub(crate) enum Action {
    /// Run it.
    Run(Box<Parked>),
    /// Put it back at the end of its queue, for a worker that can run it.
    HandBack(Box<Delivery>),
}

/// A request that waits for its time.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) delivery: Delivery,
    /// Its place in what remote control sees.
    pub(crate) tracked: Option<Tracked>,
    /// How many of its starts have ended in the death of the worker.
    pub(crate) deaths: u32,
    /// Room in the prefetch, where too many wait already.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Action {
    /// What is held for it.
    pub(crate) fn into_delivery(self) -> Delivery {
        match self {
            Self::Run(parked) => parked.delivery,
            Self::HandBack(delivery) => *delivery,
        }
    }

    fn lighten(&mut self) {
        match self {
            Self::Run(parked) => parked.delivery.lighten(),
            Self::HandBack(delivery) => delivery.lighten(),
        }
    }

    fn delivery(&mut self) -> &mut Delivery {
        match self {
            Self::Run(parked) => &mut parked.delivery,
            Self::HandBack(delivery) => delivery,
        }
    }
}

/// Due by the monotonic clock: a wall clock that is set later changes nothing, as in kombu.
struct Entry {
    at: Instant,
    sequence: u64,
    action: Action,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// Waits for each entry's time, until told to stop. Returns what has not had its time yet, for the
/// worker to give back.
pub(crate) async fn run(
    mut incoming: mpsc::Receiver<Timed>,
    strategy: Strategy,
    held: Held,
    stopping: CancellationToken,
) -> Vec<Delivery> {
    let mut timer = Timer {
        entries: BinaryHeap::new(),
        sequence: 0,
        strategy,
        held,
    };
    loop {
        // Whatever could not be read comes again in a second, so this comes to an end.
        while let Some(due) = timer.pop_due() {
            timer.act(due).await;
        }
        let sleep = timer.entries.peek().map_or(LONGEST_SLEEP, |Reverse(next)| {
            let wait = next.at.saturating_duration_since(Instant::now());
            wait.min(LONGEST_SLEEP)
        });
        tokio::select! {
            biased;
            // cancel-safe: a message is either received or still in the channel
            () = stopping.cancelled() => break,
            timed = incoming.recv() => match timed {
                Some(Timed { at, action }) => timer.push(due(at), action),
                None => break,
            },
            () = tokio::time::sleep(sleep) => {}
        }
    }
    incoming.close();
    let mut left: Vec<Delivery> = timer
        .entries
        .into_iter()
        .map(|Reverse(entry)| entry.action.into_delivery())
        .collect();
    while let Some(timed) = incoming.recv().await {
        left.push(timed.action.into_delivery());
    }
    read_all(left, &timer.held).await
}

struct Timer {
    entries: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
    strategy: Strategy,
    held: Held,
}

impl Timer {
    fn push(&mut self, at: Instant, mut action: Action) {
        self.sequence += 1;
        action.lighten();
        self.entries.push(Reverse(Entry {
            at,
            sequence: self.sequence,
            action,
        }));
    }

    /// What is due now, as far as it is read at once.
    fn pop_due(&mut self) -> Option<Vec<Action>> {
        let now = Instant::now();
        let mut due = Vec::new();
        while due.len() < TOGETHER
            && let Some(Reverse(next)) = self.entries.peek()
            && next.at <= now
            && let Some(Reverse(entry)) = self.entries.pop()
        {
            due.push(entry.action);
        }
        (!due.is_empty()).then_some(due)
    }

    async fn act(&mut self, mut due: Vec<Action>) {
        let mut deliveries: Vec<Delivery> = due
            .iter_mut()
            .map(|action| std::mem::take(action.delivery()))
            .collect();
        let read = self.held.read_again(&mut deliveries).await;
        let mut back = Vec::new();
        for (mut action, delivery) in due.into_iter().zip(deliveries) {
            let is_light = delivery.is_light();
            *action.delivery() = delivery;
            if is_light && read.is_err() {
                self.push(Instant::now() + RETRY, action);
                continue;
            }
            if is_light {
                self.lose(action);
                continue;
            }
            match action {
                Action::Run(parked) => {
                    if let Some(late) = self.strategy.revive(*parked).await {
                        self.held.requeue(vec![late], QueueEnd::Front).await;
                    }
                }
                Action::HandBack(delivery) => back.push(*delivery),
            }
        }
        if !back.is_empty() {
            self.held.requeue(back, QueueEnd::Back).await;
        }
    }

    /// It is not in the broker any more.
    fn lose(&self, mut action: Action) {
        let id = match &action {
            Action::Run(parked) => parked.tracked.as_ref().and_then(Tracked::waiting_id),
            Action::HandBack(_) => None,
        };
        log::warn!(
            "Message {} that waited for its time was taken over by another worker, or removed from the broker",
            shown(id.as_deref().unwrap_or("of an unknown task"))
        );
        self.held.forget(action.delivery());
    }
}

/// All messages, to be given back. What the broker does not hand out stays there, for whoever finds us dead.
async fn read_all(mut deliveries: Vec<Delivery>, held: &Held) -> Vec<Delivery> {
    let mut backoff = Backoff::new();
    let mut is_read = true;
    for batch in deliveries.chunks_mut(TOGETHER) {
        while is_read && held.read_again(batch).await.is_err() {
            is_read = backoff.wait(held.patience()).await;
        }
    }
    let (light, whole): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(Delivery::is_light);
    if !is_read {
        held.say_left(light.len());
    }
    for delivery in &light {
        match is_read {
            true => held.forget(delivery),
            false => held.let_go(Some(delivery.tag())),
        }
    }
    whole
}

/// A time beyond all clocks is as far away as one can wait.
fn due(at: DateTime<Utc>) -> Instant {
    let wait = (at - clock::now()).to_std().unwrap_or_default();
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now + FARTHEST)
}
