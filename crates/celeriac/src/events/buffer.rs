//! Events of tasks that wait to be sent: a bounded heap of texts.
//!
//! Whoever has something to tell must never wait for the broker, so what does not fit is dropped, and counted.
//!
//! Counterpart: `_group_buffer` and `_outbound_buffer` in `celery/events/dispatcher.py` @ 5.7.0, which have no bound.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Most events that wait: those of some seconds of a busy worker.
const MAX_EVENTS: usize = 20_000;

/// Most bytes that wait.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Most events in one message. Celery sends its list at 24; a receiver takes any number.
const MAX_BATCH: usize = 128;

/// A message is not made larger than this by a further event.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    waiting: Mutex<Waiting>,
    /// Rings when something waits.
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

impl Buffer {
    /// Adds an event, or drops it.
    pub(super) fn push(&self, event: String) {
        let was_empty = {
            let mut waiting = self.waiting();
            if waiting.events.len() >= MAX_EVENTS || waiting.bytes + event.len() > MAX_BYTES {
                waiting.dropped += 1;
                return;
            }
            waiting.bytes += event.len();
            waiting.events.push_back(event);
            waiting.events.len() == 1
        };
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Waits until there is something to take.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The oldest events, as the JSON list that one message carries; `None` where nothing waits.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut waiting = self.waiting();
        let mut list = String::from("[");
        let mut count = 0;
        while let Some(event) = waiting.events.front() {
            let is_full = count == MAX_BATCH || list.len() + event.len() > MAX_BATCH_BYTES;
            if count > 0 && is_full {
                break;
            }
            list.push_str(if count == 0 { "" } else { ", " });
            list.push_str(event);
            count += 1;
            waiting.bytes -= event.len();
            waiting.events.pop_front();
        }
        list.push(']');
        let has_more = !waiting.events.is_empty();
        (count > 0).then_some(Batch {
            list,
            count,
            has_more,
        })
    }

    /// How many were dropped since this was asked last.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.waiting().dropped)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of one message.
#[derive(Debug)]
pub(super) struct Batch {
    /// A JSON list.
    pub(super) list: String,
    /// How many events are in it.
    pub(super) count: usize,
    /// It was full: further events wait.
    pub(super) has_more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_taken_in_lists_of_a_bounded_size() {
        let buffer = Buffer::default();
        assert!(buffer.take().is_none());
        for number in 0..MAX_BATCH + 1 {
            buffer.push(number.to_string());
        }
        let first = buffer.take().expect("events wait");
        assert!(first.list.starts_with("[0, 1, 2") && first.count == MAX_BATCH);
        assert!(first.has_more);
        let rest = buffer.take().expect("one more");
        assert_eq!((rest.list.as_str(), rest.count), ("[128]", 1));
        assert!(!rest.has_more);
        let large = "x".repeat(MAX_BATCH_BYTES + 1);
        buffer.push(large.clone());
        buffer.push(large);
        let counts: Vec<usize> = std::iter::from_fn(|| buffer.take())
            .map(|batch| batch.count)
            .collect();
        assert_eq!(counts, [1, 1], "a large event travels alone");
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let buffer = Buffer::default();
        for _ in 0..MAX_EVENTS + 5 {
            buffer.push("1".to_owned());
        }
        assert_eq!((buffer.take_dropped(), buffer.take_dropped()), (5, 0));
        while buffer.take().is_some() {}
        assert_eq!(buffer.waiting().bytes, 0);
        buffer.push("x".repeat(MAX_BYTES));
        buffer.push("1".to_owned());
        assert_eq!(buffer.take_dropped(), 1);
    }
}
