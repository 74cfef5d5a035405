//! What waits for its time: tasks with an ETA, and messages that are handed back later.
//!
//! They are held (and renewed) meanwhile, but take no room from the prefetch.
//!
//! Counterpart: `celery/worker/strategy.py` (`apply_eta_task`) and `kombu/asynchronous/timer.py` @ 5.7.0.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use super::ReadySender;
use super::held::Held;
use crate::clock;
use crate::executor::Request;
use crate::transport::{Delivery, QueueEnd};

/// The wall clock may be set; it is read again at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

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

struct Entry {
    at: DateTime<Utc>,
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
            let wait = (next.at - clock::now()).to_std().unwrap_or_default();
            wait.min(LONGEST_SLEEP)
        });
        tokio::select! {
            biased;
            // cancel-safe: a message is either received or still in the channel
            () = ready.stopping.cancelled() => break,
            timed = incoming.recv() => match timed {
                Some(Timed { at, action }) => {
                    sequence += 1;
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

fn pop_due(entries: &mut BinaryHeap<Reverse<Entry>>) -> Option<Entry> {
    let Reverse(next) = entries.peek()?;
    if next.at > clock::now() {
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
