//! Everything that a worker holds, from the take until it is settled.
//!
//! The tags held here are renewed (promise M2). A message that another worker has taken over is
//! cancelled here, and settled no more. Settling goes on until the broker has answered: until then the
//! message is held, and renewed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::backoff::Backoff;
use crate::transport::{Delivery, QueueEnd, Unsettled};

/// What a worker holds. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    app: App,
    /// Done when settling has to end, whether the broker has answered or not.
    abandon: CancellationToken,
    tags: Arc<Mutex<HashMap<String, CancellationToken>>>,
}

enum Settlement<'a> {
    Ack,
    Requeue(QueueEnd),
    DeadLetter(&'a str),
}

impl Held {
    pub(crate) fn new(app: App, abandon: CancellationToken) -> Self {
        Self {
            app,
            abandon,
            tags: Arc::default(),
        }
    }

    /// Takes note of a delivery. The token is cancelled when another worker takes it over.
    pub(crate) fn hold(&self, delivery: &Delivery) -> CancellationToken {
        let token = CancellationToken::new();
        self.tags().insert(delivery.tag().to_owned(), token.clone());
        token
    }

    /// The tags that are held now.
    pub(crate) fn list(&self) -> Vec<String> {
        self.tags().keys().cloned().collect()
    }

    /// Another worker has this message: cancel, settle no more.
    pub(crate) fn lose(&self, tag: &str) {
        if let Some(token) = self.tags().remove(tag) {
            token.cancel();
        }
    }

    pub(crate) async fn ack(&self, delivery: Delivery) {
        self.settle(vec![delivery], &Settlement::Ack).await;
    }

    /// Puts messages back; returns how many were still ours.
    pub(crate) async fn requeue(&self, deliveries: Vec<Delivery>, end: QueueEnd) -> usize {
        self.settle(deliveries, &Settlement::Requeue(end)).await
    }

    pub(crate) async fn dead_letter(&self, delivery: Delivery, reason: &str) {
        self.settle(vec![delivery], &Settlement::DeadLetter(reason))
            .await;
    }

    async fn settle(&self, mut deliveries: Vec<Delivery>, settlement: &Settlement<'_>) -> usize {
        let tags: Vec<String> = deliveries
            .iter()
            .map(|delivery| delivery.tag().to_owned())
            .collect();
        let mut backoff = Backoff::new();
        let settled = loop {
            deliveries.retain(|delivery| self.tags().contains_key(delivery.tag()));
            if deliveries.is_empty() {
                break 0;
            }
            match self.settle_once(deliveries, settlement).await {
                Ok(count) => break count,
                Err(unsettled) => {
                    if backoff.is_worth_mentioning() {
                        log::warn!(
                            "the broker does not take our settlement, trying again: {}",
                            unsettled.error
                        );
                    }
                    deliveries = unsettled.deliveries;
                }
            }
            if !backoff.wait(&self.abandon).await {
                log::error!(
                    "the broker is away: {} message(s) stay in its unacked until the visibility timeout",
                    deliveries.len()
                );
                break 0;
            }
        };
        let mut held = self.tags();
        for tag in &tags {
            held.remove(tag);
        }
        settled
    }

    async fn settle_once(
        &self,
        mut deliveries: Vec<Delivery>,
        settlement: &Settlement<'_>,
    ) -> Result<usize, Unsettled> {
        let transport = self.app.transport();
        let count = deliveries.len();
        match settlement {
            Settlement::Ack => transport.ack(deliveries).await.map(|()| count),
            Settlement::Requeue(end) => transport.requeue(deliveries, *end).await,
            Settlement::DeadLetter(reason) => match deliveries.pop() {
                Some(delivery) => transport.dead_letter(delivery, reason).await.map(|()| 1),
                None => Ok(0),
            },
        }
    }

    fn tags(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
