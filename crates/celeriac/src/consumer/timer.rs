//! What waits for its time: tasks with an ETA, and messages that are handed back later.
//!
//! They are held (and renewed) meanwhile, but take no room from the prefetch.
//!
//! Counterpart: `celery/worker/strategy.py` (`apply_eta_task`) and `kombu/asynchronous/timer.py` @ 5.7.0.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use super::ReadySender;
use super::held::Held;
use crate::clock;
use crate::executor::Request;
use crate::transport::{Delivery, QueueEnd};

/// The longest sleep of the timer; whatever comes in wakes it before.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Some decades: what is due later never is, in this process.
const FARTHEST: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 50);

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
    Run(Box<Request>),
    /// Put it back at the end of its queue, for a worker that can run it.
    HandBack(Delivery),
}

impl Action {
    /// What is held for it.
    pub(crate) fn into_delivery(self) -> Delivery {
        match self {
            Self::Run(request) => request.into_delivery(),
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
    ready: ReadySender,
    held: Held,
) -> Vec<Delivery> {
    let mut entries: BinaryHeap<Reverse<Entry>> = BinaryHeap::new();
    let mut sequence = 0;
    loop {
        while let Some(entry) = pop_due(&mut entries) {
            act(entry, &ready, &held).await;
        }
        let sleep = entries.peek().map_or(LONGEST_SLEEP, |Reverse(next)| {
            let wait = next.at.saturating_duration_since(Instant::now());
            wait.min(LONGEST_SLEEP)
        });
        tokio::select! {
            biased;
            // cancel-safe: a message is either received or still in the channel
            () = ready.stopping.cancelled() => break,
            timed = incoming.recv() => match timed {
                Some(Timed { at, action }) => {
                    sequence += 1;
                    let at = due(at);
                    entries.push(Reverse(Entry { at, sequence, action }));
                }
                None => break,
            },
            () = tokio::time::sleep(sleep) => {}
        }
    }
    incoming.close();
    let mut left: Vec<Delivery> = entries
        .into_iter()
        .map(|Reverse(entry)| entry.action.into_delivery())
        .collect();
    while let Some(timed) = incoming.recv().await {
        left.push(timed.action.into_delivery());
    }
    left
}

/// A time beyond all clocks is as far away as one can wait.
fn due(at: DateTime<Utc>) -> Instant {
    let wait = (at - clock::now()).to_std().unwrap_or_default();
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now + FARTHEST)
}

fn pop_due(entries: &mut BinaryHeap<Reverse<Entry>>) -> Option<Entry> {
    let Reverse(next) = entries.peek()?;
    if next.at > Instant::now() {
        return None;
    }
    entries.pop().map(|Reverse(entry)| entry)
}

async fn act(entry: Entry, ready: &ReadySender, held: &Held) {
    match entry.action {
        Action::Run(request) => {
            request.reserve();
            if let Err(request) = ready.send(*request).await {
                held.requeue(vec![request.into_delivery()], QueueEnd::Front)
                    .await;
            }
        }
        Action::HandBack(delivery) => {
            held.requeue(vec![delivery], QueueEnd::Back).await;
        }
    }
}
