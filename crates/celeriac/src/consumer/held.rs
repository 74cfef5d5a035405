//! Everything that a worker holds, from the take until it is settled.
//!
//! The tags held here are renewed (promise M2). A message that another worker has taken over is
//! cancelled here, and settled no more. Settling goes on until the broker has answered: until then the
//! message is held, and renewed.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::acks::{Acks, Receipt};
use super::neighbours;
use crate::app::App;
use crate::backoff::{Backoff, Patience};
use crate::executor::panic_text;
use crate::log_lines;
use crate::transport::{Delivery, Error, QueueEnd, Unsettled};

/// Claims renewed in one go: their names are written out for it, and there may be a hundred thousand.
const RENEWED_TOGETHER: usize = 1000;

/// What a worker holds. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    app: App,
    patience: Patience,
    claims: Arc<Mutex<HashMap<Arc<str>, Claim>>>,
    acks: Arc<Acks>,
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
    /// Ends the run; `None` while the message waits for its time.
    taken_over: Option<CancellationToken>,
    /// It was handed over to be acknowledged, which is seen to whatever becomes of whoever held it.
    is_gathered: bool,
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
            self.cancel();
        }
    }

    fn cancel(&self) {
        if let Some(taken_over) = &self.taken_over {
            taken_over.cancel();
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
            acks: Arc::default(),
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

    /// Those of these claims that are not held.
    pub(super) fn not_held(&self, mut tags: Vec<String>) -> Vec<String> {
        let claims = self.claims();
        tags.retain(|tag| !claims.contains_key(tag.as_str()));
        tags
    }

    /// Takes note of a delivery. The token is cancelled when another worker takes it over.
    pub(crate) fn hold(&self, delivery: &Delivery) -> CancellationToken {
        let taken_over = CancellationToken::new();
        let claim = Claim {
            taken_over: Some(taken_over.clone()),
            is_gathered: false,
            is_settling: false,
            confirmed: Instant::now(),
        };
        self.claims().insert(delivery.shared_tag(), claim);
        taken_over
    }

    /// It waits for its time: as little as possible is kept of it.
    pub(crate) fn park(&self, delivery: &Delivery) {
        if let Some(claim) = self.claims().get_mut(delivery.tag()) {
            claim.taken_over = None;
        }
    }

    /// Its time has come. `None`: another worker has it.
    pub(crate) fn unpark(&self, delivery: &Delivery) -> Option<CancellationToken> {
        let mut claims = self.claims();
        let claim = claims.get_mut(delivery.tag())?;
        Some(
            claim
                .taken_over
                .get_or_insert_with(CancellationToken::new)
                .clone(),
        )
    }

    /// Reads messages again of which only the claims were kept.
    ///
    /// # Errors
    /// The broker is away.
    pub(crate) async fn read_again(&self, deliveries: &mut [Delivery]) -> Result<(), Error> {
        self.app.transport().read_again(deliveries).await
    }

    /// It is gone from the broker.
    pub(crate) fn forget(&self, delivery: &Delivery) {
        self.claims().remove(delivery.tag());
    }

    /// Renews everything that is held, and cancels what another worker has taken over.
    ///
    /// # Errors
    /// The broker is away.
    pub(crate) async fn renew(&self) -> Result<(), Error> {
        let tags: Vec<Arc<str>> = self.claims().keys().cloned().collect();
        for batch in tags.chunks(RENEWED_TOGETHER) {
            let batch: Vec<String> = batch.iter().map(ToString::to_string).collect();
            self.renew_these(&batch).await?;
        }
        Ok(())
    }

    /// Whether a message may be settled. Without a beat or a renewal for some seconds (the process was stopped, the
    /// broker was away) another worker may have it: then the broker is asked.
    pub(crate) async fn is_still_ours(&self, delivery: &Delivery) -> bool {
        if self.is_doubtful(delivery.tag()) {
            Box::pin(self.settle_doubts(delivery.tag())).await;
        }
        self.claims().contains_key(delivery.tag())
    }

    async fn settle_doubts(&self, tag: &str) {
        let mut backoff = Backoff::new();
        while self.is_doubtful(tag) {
            if self.ask_for(tag).await.is_err() && !backoff.wait(&self.patience).await {
                break;
            }
        }
    }

    /// Holds a message no longer, without settling it: it comes back after the visibility timeout. One whose
    /// acknowledgement is on its way is held until that has its answer.
    pub(crate) fn let_go(&self, tag: Option<&str>) {
        let Some(tag) = tag else { return };
        let mut claims = self.claims();
        if claims.get(tag).is_some_and(|claim| !claim.is_gathered) {
            claims.remove(tag);
            self.totals.left.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says that so many could not be given back before a stop.
    pub(crate) fn say_left(&self, count: usize) {
        log::error!(
            "the broker is away: {count} message(s) stay in its unacked, for whoever finds this worker dead"
        );
    }

    /// Settles: the message is done. What comes together goes to the broker together.
    pub(crate) fn ack(&self, delivery: Delivery) -> Receipt {
        if let Some(claim) = self.claims().get_mut(delivery.tag()) {
            claim.is_gathered = true;
        }
        self.acks.put(delivery)
    }

    /// Acknowledges whatever has gathered, one batch after the other, until told to end: when nobody waits any more.
    pub(crate) async fn acknowledge(self, end: CancellationToken) {
        while let Some((deliveries, waiting)) = self.acks.next(&end).await {
            let tags: Vec<Arc<str>> = deliveries.iter().map(Delivery::shared_tag).collect();
            let settling = AssertUnwindSafe(self.settle(deliveries, &Settlement::Ack));
            // A panic of ours must not cost the acknowledgements of all that comes after it.
            let lost = match settling.catch_unwind().await {
                Ok((_, lost)) => lost,
                Err(panic) => {
                    self.abandon(&tags, &*panic);
                    tags
                }
            };
            waiting.answer(&lost);
        }
    }

    /// Puts messages back; returns how many were still ours.
    pub(crate) async fn requeue(&self, deliveries: Vec<Delivery>, end: QueueEnd) -> usize {
        let (count, _) = self.settle(deliveries, &Settlement::Requeue(end)).await;
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

    /// Whether the broker has forgotten these is not known. Their runs end, as what it has not will come again.
    fn abandon(&self, tags: &[Arc<str>], panic: &(dyn Any + Send)) {
        log_lines::internal_error(
            "in an acknowledgement, so its message(s) may run again",
            &panic_text(panic),
        );
        let mut claims = self.claims();
        for claim in tags.iter().filter_map(|tag| claims.remove(tag)) {
            claim.cancel();
            self.totals.left.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn renew_these(&self, tags: &[String]) -> Result<(), Error> {
        let asked = Instant::now();
        let lost = self.app.transport().renew(tags).await?;
        let mut claims = self.claims();
        for tag in &lost {
            if let Some(claim) = claims.remove(tag.as_str()) {
                claim.end();
            }
        }
        for tag in tags {
            if let Some(claim) = claims.get_mut(tag.as_str()) {
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

    /// Returns how many were still ours, and the claims that were found to be another worker's.
    async fn settle(
        &self,
        mut deliveries: Vec<Delivery>,
        settlement: &Settlement<'_>,
    ) -> (usize, Vec<Arc<str>>) {
        let tags: Vec<Arc<str>> = deliveries.iter().map(Delivery::shared_tag).collect();
        let mut lost = Vec::new();
        let mut backoff = Backoff::new();
        let mut is_first = true;
        let settled = loop {
            let before = deliveries.len();
            let gone = self.begin_settling(&mut deliveries);
            let count = deliveries.len();
            if is_first {
                lost = gone;
            }
            if deliveries.is_empty() {
                // Gone from the broker meanwhile: most likely by the try before, whose answer was lost.
                break if is_first { 0 } else { before };
            }
            match self.settle_once(deliveries, settlement).await {
                Ok((settled, others)) if is_first => {
                    lost.extend(others);
                    break settled;
                }
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
                self.say_left(count);
                lost.extend(deliveries.iter().map(Delivery::shared_tag));
                break 0;
            }
        };
        let mut claims = self.claims();
        for tag in &lost {
            if let Some(claim) = claims.get(tag) {
                // What was to be acknowledged beside its run must not run on.
                claim.cancel();
            }
        }
        for tag in &tags {
            claims.remove(tag);
        }
        drop(claims);
        (settled, lost)
    }

    async fn settle_once(
        &self,
        mut deliveries: Vec<Delivery>,
        settlement: &Settlement<'_>,
    ) -> Result<(usize, Vec<Arc<str>>), Unsettled> {
        let transport = self.app.transport();
        let count = deliveries.len();
        match settlement {
            Settlement::Ack => {
                let lost = transport.ack(deliveries).await?;
                Ok((count.saturating_sub(lost.len()), lost))
            }
            Settlement::Requeue(end) => {
                let settled = transport.requeue(deliveries, *end).await?;
                Ok((settled, Vec::new()))
            }
            Settlement::DeadLetter { id, reason } => match deliveries.pop() {
                Some(delivery) => {
                    let kept = transport.dead_letter(delivery, id, reason).await;
                    kept.map(|()| (1, Vec::new()))
                }
                None => Ok((0, Vec::new())),
            },
        }
    }

    /// From now on the broker may have settled them. Those that are not held any more are taken out, and returned.
    fn begin_settling(&self, deliveries: &mut Vec<Delivery>) -> Vec<Arc<str>> {
        let mut claims = self.claims();
        let mut gone = Vec::new();
        deliveries.retain(|delivery| match claims.get_mut(delivery.tag()) {
            Some(claim) => {
                claim.is_settling = true;
                true
            }
            None => {
                gone.push(delivery.shared_tag());
                false
            }
        });
        gone
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<Arc<str>, Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
