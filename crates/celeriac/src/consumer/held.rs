//! Everything that a worker holds, from the take until it is settled.
//!
//! The tags held here are renewed (promise M2). A message that another worker has taken over is
//! cancelled here, and settled no more. Settling goes on until the broker has answered: until then the
//! message is held, and renewed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::neighbours;
use crate::app::App;
use crate::backoff::{Backoff, Patience};
use crate::transport::{Delivery, Error, QueueEnd, Unsettled};

/// What a worker holds. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    app: App,
    patience: Patience,
    claims: Arc<Mutex<HashMap<String, Claim>>>,
    /// When everything that is held was last known to be ours.
    confirmed: Arc<Mutex<Instant>>,
    /// Others have taken us for dead, and not every claim has been asked for since.
    is_shaken: Arc<AtomicBool>,
    totals: Arc<Totals>,
}

/// What has become of messages that were not acknowledged.
#[derive(Debug, Default)]
struct Totals {
    given_back: AtomicUsize,
    left: AtomicUsize,
}

/// One message that is held.
#[derive(Debug)]
struct Claim {
    taken_over: CancellationToken,
    /// The broker may have settled it already: that it is gone there is no sign of another worker.
    is_settling: bool,
    /// When it was last known to be ours.
    confirmed: Instant,
}

impl Claim {
    /// It is gone from the broker. The run ends, unless we may have settled it there ourselves: what is
    /// acknowledged before it runs must run.
    fn end(&self) {
        if !self.is_settling {
            self.taken_over.cancel();
        }
    }
}

enum Settlement<'a> {
    Ack,
    Requeue(QueueEnd),
    DeadLetter { id: &'a str, reason: &'a str },
}

impl Held {
    pub(crate) fn new(app: App, patience: Patience) -> Self {
        Self {
            app,
            patience,
            claims: Arc::default(),
            confirmed: Arc::new(Mutex::new(Instant::now())),
            is_shaken: Arc::default(),
            totals: Arc::default(),
        }
    }

    /// Takes note of a beat that was answered. Where others have taken us for dead before it, each claim is asked for.
    ///
    /// # Errors
    /// The broker is away; it is asked after the next beat.
    pub(crate) async fn answered(&self, asked: Instant, is_unbroken: bool) -> Result<(), Error> {
        if !is_unbroken {
            self.is_shaken.store(true, Ordering::Relaxed);
        }
        if self.is_shaken.load(Ordering::Relaxed) {
            self.renew().await?;
            self.is_shaken.store(false, Ordering::Relaxed);
        }
        *self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = asked;
        Ok(())
    }

    /// How many messages were given back, and how many had to be left in `unacked`.
    pub(crate) fn totals(&self) -> (usize, usize) {
        let total = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (total(&self.totals.given_back), total(&self.totals.left))
    }

    /// For how long to try what the broker does not take.
    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Takes note of a delivery. The token is cancelled when another worker takes it over.
    pub(crate) fn hold(&self, delivery: &Delivery) -> CancellationToken {
        let taken_over = CancellationToken::new();
        let claim = Claim {
            taken_over: taken_over.clone(),
            is_settling: false,
            confirmed: Instant::now(),
        };
        self.claims().insert(delivery.tag().to_owned(), claim);
        taken_over
    }

    /// Renews everything that is held, and cancels what another worker has taken over.
    ///
    /// # Errors
    /// The broker is away.
    pub(crate) async fn renew(&self) -> Result<(), Error> {
        let tags: Vec<String> = self.claims().keys().cloned().collect();
        self.renew_these(&tags).await
    }

    /// Whether a message may be settled. Without a beat or a renewal for some seconds (the process was stopped, the
    /// broker was away) another worker may have it: then the broker is asked.
    pub(crate) async fn is_still_ours(&self, delivery: &Delivery) -> bool {
        let mut backoff = Backoff::new();
        while self.is_doubtful(delivery.tag()) {
            if self.ask_for(delivery.tag()).await.is_err() && !backoff.wait(&self.patience).await {
                break;
            }
        }
        self.claims().contains_key(delivery.tag())
    }

    /// Holds a message no longer, without settling it: it comes back after the visibility timeout.
    pub(crate) fn let_go(&self, tag: Option<&str>) {
        if let Some(tag) = tag {
            self.claims().remove(tag);
            self.totals.left.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Settles: the message is done. `false`: another worker has it.
    pub(crate) async fn ack(&self, delivery: Delivery) -> bool {
        self.settle(vec![delivery], &Settlement::Ack).await > 0
    }

    /// Puts messages back; returns how many were still ours.
    pub(crate) async fn requeue(&self, deliveries: Vec<Delivery>, end: QueueEnd) -> usize {
        let count = self.settle(deliveries, &Settlement::Requeue(end)).await;
        self.totals.given_back.fetch_add(count, Ordering::Relaxed);
        count
    }

    /// Keeps a message that nobody can run; the id is the message's, if it has one.
    pub(crate) async fn dead_letter(&self, delivery: Delivery, id: &str, reason: &str) {
        self.settle(vec![delivery], &Settlement::DeadLetter { id, reason })
            .await;
    }

    /// First that we live, so that nobody goes on taking over; then whether we still have it.
    async fn ask_for(&self, tag: &str) -> Result<(), Error> {
        neighbours::beat(&self.app, self).await?;
        self.renew_these(&[tag.to_owned()]).await
    }

    async fn renew_these(&self, tags: &[String]) -> Result<(), Error> {
        let asked = Instant::now();
        let lost = self.app.transport().renew(tags).await?;
        let mut claims = self.claims();
        for tag in &lost {
            if let Some(claim) = claims.remove(tag) {
                claim.end();
            }
        }
        for tag in tags {
            if let Some(claim) = claims.get_mut(tag) {
                claim.confirmed = asked;
            }
        }
        Ok(())
    }

    fn is_doubtful(&self, tag: &str) -> bool {
        let beaten = *self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_silent = beaten.elapsed() >= neighbours::DOUBTFUL_AFTER;
        let timeout = self.visibility_timeout();
        let claims = self.claims();
        let claim = claims.get(tag);
        claim.is_some_and(|claim| is_silent || claim.confirmed.elapsed() >= timeout)
    }

    fn visibility_timeout(&self) -> Duration {
        let settings = self.app.settings();
        settings.broker_transport_options.visibility_timeout
    }

    async fn settle(&self, mut deliveries: Vec<Delivery>, settlement: &Settlement<'_>) -> usize {
        let tags: Vec<String> = deliveries
            .iter()
            .map(|delivery| delivery.tag().to_owned())
            .collect();
        let mut backoff = Backoff::new();
        let mut is_first = true;
        let settled = loop {
            let before = deliveries.len();
            deliveries.retain(|delivery| self.begin_settling(delivery.tag()));
            let count = deliveries.len();
            if deliveries.is_empty() {
                // Gone from the broker meanwhile: most likely by the try before, whose answer was lost.
                break if is_first { 0 } else { before };
            }
            match self.settle_once(deliveries, settlement).await {
                Ok(settled) if is_first => break settled,
                // The try before may have settled them, and only its answer was lost.
                Ok(_) => break count,
                Err(unsettled) => {
                    if self.patience.is_worth_mentioning() {
                        log::warn!(
                            "the broker does not take our settlement, trying again: {}",
                            unsettled.error
                        );
                    }
                    deliveries = unsettled.deliveries;
                }
            }
            is_first = false;
            if !backoff.wait(&self.patience).await {
                self.totals.left.fetch_add(count, Ordering::Relaxed);
                log::error!(
                    "the broker is away: {count} message(s) stay in its unacked, for whoever finds this worker dead"
                );
                break 0;
            }
        };
        let mut claims = self.claims();
        for tag in &tags {
            claims.remove(tag);
        }
        settled
    }

    async fn settle_once(
        &self,
        mut deliveries: Vec<Delivery>,
        settlement: &Settlement<'_>,
    ) -> Result<usize, Unsettled> {
        let transport = self.app.transport();
        match settlement {
            Settlement::Ack => transport.ack(deliveries).await,
            Settlement::Requeue(end) => transport.requeue(deliveries, *end).await,
            Settlement::DeadLetter { id, reason } => match deliveries.pop() {
                Some(delivery) => {
                    let kept = transport.dead_letter(delivery, id, reason).await;
                    kept.map(|()| 1)
                }
                None => Ok(0),
            },
        }
    }

    /// From now on the broker may have settled it. `false`: it is not held any more.
    fn begin_settling(&self, tag: &str) -> bool {
        let mut claims = self.claims();
        let claim = claims.get_mut(tag);
        claim.map(|claim| claim.is_settling = true).is_some()
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<String, Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_we_settle_ourselves_is_not_taken_for_lost() {
        for (is_settling, is_cancelled) in [(false, true), (true, false)] {
            let claim = Claim {
                taken_over: CancellationToken::new(),
                is_settling,
                confirmed: Instant::now(),
            };
            claim.end();
            assert_eq!(claim.taken_over.is_cancelled(), is_cancelled);
        }
    }
}
