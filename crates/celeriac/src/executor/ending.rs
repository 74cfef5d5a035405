//! What is left to do when a run is over: hear whether an early ack was in time, store, acknowledge.
//!
//! A slot has one run at a time, and goes on with the next one while the broker and the backend are answering for the
//! last ones; so many of those go together. How many may be open is limited: a backend that is away stops the slots.
//!
//! A run whose start was written down (promise M5) keeps its slot until that is taken back.
//!
//! Counterpart: `celery/worker/request.py` (`on_success`, `on_failure`), which the main process does beside the pool.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::{End, Executor, Request};
use crate::consumer::acks::Receipt;
use crate::log_lines;
use crate::transport::QueueEnd;

/// A run that is over.
pub(crate) struct Ending {
    request: Request,
    end: End,
    runtime: Duration,
    /// Remote control has ended it.
    is_terminated: bool,
    /// The answer to an early ack.
    receipt: Option<Receipt>,
    /// The slot that it ran in.
    slot: Arc<str>,
}

impl Ending {
    pub(super) fn new(
        mut request: Request,
        end: End,
        runtime: Duration,
        receipt: Option<Receipt>,
    ) -> Self {
        let is_terminated = request.end();
        request.leave_room();
        Self {
            request,
            end,
            runtime,
            is_terminated,
            receipt,
            slot: log_lines::main_process(),
        }
    }

    pub(super) fn of_slot(mut self, slot: &Arc<str>) -> Self {
        self.slot = Arc::clone(slot);
        self
    }

    pub(super) fn is_of_a_suspect(&self) -> bool {
        self.request.is_suspect()
    }

    pub(super) fn keeps_its_slot(&self) -> bool {
        self.request.is_suspect() || self.request.is_marked()
    }
}

impl Executor {
    /// Sees to the ends of runs, up to so many at once, until the slots are gone and nothing is open.
    pub(crate) async fn settle_all(self, mut endings: mpsc::Receiver<Ending>, most: usize) {
        let mut open = FuturesUnordered::new();
        let mut has_slots = true;
        while has_slots || !open.is_empty() {
            tokio::select! {
                // cancel-safe, both: an ending is in the channel or taken, and what is open stays open
                ending = endings.recv(), if has_slots && open.len() < most => match ending {
                    Some(ending) => open.push(self.finish_guarded(ending)),
                    None => has_slots = false,
                },
                Some(()) = open.next(), if !open.is_empty() => {}
            }
        }
    }

    async fn finish_guarded(&self, ending: Ending) {
        let (slot, traces) = (Arc::clone(&ending.slot), ending.request.traces());
        let end = pin!(self.finish(ending));
        self.guarded(&slot, &traces, end).await;
    }

    /// What is rare is boxed: there is one of these for each run that is over, with room for its largest branch.
    pub(super) async fn finish(&self, ending: Ending) {
        let Ending {
            mut request,
            end,
            runtime,
            is_terminated,
            receipt,
            slot: _,
        } = ending;
        let is_ours = match receipt {
            Some(receipt) => receipt.confirmed().await,
            None => true,
        };
        if !is_ours {
            return request.subject().lost();
        }
        if is_terminated {
            return Box::pin(self.terminated(request)).await;
        }
        match end {
            End::Outcome(outcome) => self.settle(request, outcome, runtime).await,
            End::TimedOut(limit) => Box::pin(self.timed_out(request, &limit)).await,
            End::GivenUp if self.cold.is_cancelled() => {
                self.events.cancelled(request.event_id());
                Box::pin(self.requeue(&mut request, QueueEnd::Front)).await;
            }
            End::NotBegun => self.give_back(request).await,
            // Another worker owns the message now; whatever we would say is wrong (promise M2).
            End::GivenUp => request.subject().lost(),
        }
    }
}
