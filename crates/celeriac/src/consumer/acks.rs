//! Acknowledgements on their way: what comes together goes to the broker together.
//!
//! A round trip for each task would be most of what a short task costs. Whatever has gathered while the last batch was
//! on the way goes with the next one, so nothing ever waits for others to come; each caller hears of its own message.
//!
//! Counterpart: `kombu/transport/virtual/base.py::QoS` (`ack`) @ 5.7.0, which sends each by itself.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::transport::Delivery;

/// Most acknowledgements in one request; about a millisecond of the server's time.
const BATCH_MAX: usize = 1000;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    gathered: Mutex<Gathered>,
    ring: Notify,
}

#[derive(Debug, Default)]
struct Gathered {
    deliveries: Vec<Delivery>,
    waiting: Waiting,
}

/// Those who wait for a batch's answer.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Vec<(Arc<str>, oneshot::Sender<bool>)>);

/// The answer that comes.
#[derive(Debug)]
pub(crate) struct Receipt(oneshot::Receiver<bool>);

impl Receipt {
    /// Waits for the broker's answer. `false`: another worker has the message, or the worker ends without an answer.
    pub(crate) async fn answer(self) -> bool {
        self.0.await.unwrap_or(false)
    }
}

impl Acks {
    pub(crate) fn put(&self, delivery: Delivery) -> Receipt {
        let (answer, receipt) = oneshot::channel();
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = gathered.deliveries.is_empty();
        gathered.waiting.0.push((delivery.shared_tag(), answer));
        gathered.deliveries.push(delivery);
        drop(gathered);
        if is_first {
            self.ring.notify_one();
        }
        Receipt(receipt)
    }

    /// Waits for something to acknowledge; `None` when told to end, and nothing is left.
    pub(crate) async fn next(&self, end: &CancellationToken) -> Option<(Vec<Delivery>, Waiting)> {
        loop {
            let batch = self.batch();
            if !batch.0.is_empty() {
                return Some(batch);
            }
            tokio::select! {
                // cancel-safe, both: they only wait
                () = end.cancelled() => return None,
                () = self.ring.notified() => {}
            }
        }
    }

    fn batch(&self) -> (Vec<Delivery>, Waiting) {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut deliveries = take(&mut gathered.deliveries);
        let mut waiting = take(&mut gathered.waiting);
        if deliveries.len() > BATCH_MAX {
            gathered.deliveries = deliveries.split_off(BATCH_MAX);
            gathered.waiting.0 = waiting.0.split_off(BATCH_MAX);
        }
        (deliveries, waiting)
    }
}

impl Waiting {
    pub(crate) fn answer(self, lost: &[Arc<str>]) {
        for (tag, answer) in self.0 {
            // Who does not wait any more need not know.
            answer.send(!lost.contains(&tag)).ok();
        }
    }
}
