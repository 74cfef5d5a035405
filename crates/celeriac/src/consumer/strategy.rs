//! What to do with one message: run it, hold it until its time, hand it back, or set it aside.
//!
//! Whatever bytes are in a queue, the worker lives and the messages behind them run (promise M5).
//!
//! Counterpart: `celery/worker/strategy.py` and `Consumer.on_unknown_task` @ 5.7.0. Deliberate
//! differences: what Celery destroys (a task that it does not know, a message that it cannot read) is
//! handed back or kept in `<queue>.dead`.

use std::sync::Arc;
use std::time::Duration;

use celeriac_protocol::error::DecodeError;
use celeriac_protocol::limits::Limits;
use celeriac_protocol::message::TaskMessage;
use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Outlets;
use super::held::Held;
use super::timer::{Action, Parked, Timed};
use crate::app::App;
use crate::clock;
use crate::context::Place;
use crate::executor::Request;
use crate::log_lines::{Subject, printable};
use crate::state::Tracked;
use crate::transport::{Delivery, MAX_DEATHS, died_too_often};

/// The longest time for which a message that is not ours is held before it goes back.
const LONGEST_HAND_BACK: Duration = Duration::from_secs(60);

/// A message is set aside when it has come by this many times, to any worker …
const HANDS_MAX: u32 = 15;

/// … and for so long, without one that registers its task.
const UNKNOWN_MAX: Duration = Duration::from_secs(15 * 60);

/// A message that is ours, not yet read.
#[derive(Debug)]
pub(super) struct Taken {
    delivery: Delivery,
    cancelled: CancellationToken,
}

/// A message that was read, not yet looked at.
#[derive(Debug)]
pub(super) struct Arrival {
    delivery: Delivery,
    decoded: Result<Decoded, DecodeError>,
    cancelled: CancellationToken,
    /// How many of its starts have ended in the death of the worker.
    deaths: u32,
    /// Its place among what waits for its time, when it has done so.
    waited: Option<Tracked>,
}

/// Characters of the reason for which a message is set aside.
const REASON_MAX: usize = 1000;

/// See the module's text.
#[derive(Debug, Clone)]
pub(crate) struct Strategy {
    app: App,
    hostname: Arc<str>,
    held: Held,
    outlets: Outlets,
}

impl Strategy {
    pub(crate) fn new(app: App, hostname: String, held: Held, outlets: Outlets) -> Self {
        Self {
            app,
            hostname: hostname.into(),
            held,
            outlets,
        }
    }

    /// Takes note of what has come: it is renewed from now on.
    pub(super) fn hold(&self, deliveries: Vec<Delivery>) -> Vec<Taken> {
        let taken = deliveries.into_iter().map(|delivery| Taken {
            cancelled: self.held.hold(&delivery),
            delivery,
        });
        taken.collect()
    }

    /// Reads what has come.
    pub(super) async fn arrivals(&self, taken: Vec<Taken>) -> Vec<Arrival> {
        let limits = self.app.settings().message_limits();
        let mut arrivals: Vec<Arrival> = taken
            .into_iter()
            .map(
                |Taken {
                     delivery,
                     cancelled,
                 }| Arrival {
                    decoded: decode(&limits, delivery.raw()),
                    delivery,
                    cancelled,
                    deaths: 0,
                    waited: None,
                },
            )
            .collect();
        let again = |arrival: &&mut Arrival| matches!(arrival.decoded, Ok((_, _, true)));
        let mut redelivered: Vec<&mut Arrival> = arrivals.iter_mut().filter(again).collect();
        let ids: Vec<&str> = redelivered.iter().map(|arrival| arrival.id()).collect();
        if !ids.is_empty() {
            // Without an answer they are run as usual; the next death counts.
            let deaths = self.app.transport().deaths(&ids).await.unwrap_or_default();
            for (arrival, deaths) in redelivered.iter_mut().zip(deaths) {
                arrival.deaths = deaths;
            }
        }
        arrivals
    }

    /// Sees to one message. The permit is its room in the prefetch. A message that comes too late, because
    /// the worker is stopping, is returned: it goes back to its queue.
    pub(super) async fn handle(
        &self,
        arrival: Arrival,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Option<Delivery> {
        let Arrival {
            delivery,
            decoded,
            cancelled,
            deaths,
            waited,
        } = arrival;
        if self.outlets.ready.stopping.is_cancelled() {
            return Some(delivery);
        }
        let (message, eta, is_redelivered) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                let setting = match error {
                    DecodeError::TooLarge { .. } | DecodeError::InflatesTooMuch { .. } => {
                        " (message_max_bytes)"
                    }
                    _ => "",
                };
                let reason = format!("{error}{setting}");
                self.set_aside(delivery, "", &reason).await;
                return None;
            }
        };
        if deaths >= MAX_DEATHS {
            // Given back by somebody who does not count.
            let reason = died_too_often(deaths);
            self.set_aside(delivery, &message.headers.id, &reason).await;
            return None;
        }
        let Some(task) = self.app.registered(&message.headers.task).cloned() else {
            let subject = Subject::new(&message.headers.task, &message.headers.id);
            let why = format!("Received unregistered task of type '{}'.", subject.name);
            let id = &message.headers.id;
            return self.hand_back(delivery, id, &subject, &why).await;
        };
        let place = Place {
            hostname: Arc::clone(&self.hostname),
            queue: delivery.shared_queue(),
            is_redelivered,
            threads: self.outlets.threads.clone(),
        };
        let request = Request::new(&self.app, task, message, delivery, place, cancelled)
            .with_deaths(deaths)
            .tracked_by(&self.outlets.state);
        if let Some(waited) = waited {
            return self.run(request.after(&waited).with_permit(permit)).await;
        }
        request.subject().received();
        // What must not run does not wait for its time: a slot discards it.
        let is_due = request.is_revoked() || request.is_expired();
        if !is_due && request.options().send_events {
            self.outlets.events.received(request.message());
        }
        match eta.filter(|eta| *eta > clock::now() && !is_due) {
            // Held without room in the prefetch, as Celery does by counting it up.
            Some(at) => self.park(request, at, permit).await,
            None => self.run(request.with_permit(permit)).await,
        }
    }

    /// Holds a message until its time, without room in the prefetch, as Celery does by counting it up; so many that
    /// `worker_eta_task_limit` is not exceeded.
    async fn park(
        &self,
        request: Request,
        at: DateTime<Utc>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Option<Delivery> {
        let limit = self.app.settings().worker_eta_task_limit;
        let held = self.outlets.state.count_waiting() + self.outlets.prefetch;
        let mut parked = request.wait(at);
        parked.permit = permit.filter(|_| limit.is_some_and(|limit| held >= limit));
        self.held.park(&parked.delivery);
        self.hold_until(at, Action::Run(Box::new(parked))).await
    }

    /// Its time has come, and it has been read again.
    pub(super) async fn revive(&self, parked: Parked) -> Option<Delivery> {
        let Parked {
            delivery,
            tracked,
            deaths,
            permit,
        } = parked;
        let limits = self.app.settings().message_limits();
        let decoded = decode(&limits, delivery.raw());
        let Some(cancelled) = self.held.unpark(&delivery) else {
            if let Ok((message, _, _)) = &decoded {
                Subject::new(&message.headers.task, &message.headers.id).lost();
            }
            return None;
        };
        let arrival = Arrival {
            decoded,
            delivery,
            cancelled,
            deaths,
            waited: tracked,
        };
        self.handle(arrival, permit).await
    }

    async fn run(&self, request: Request) -> Option<Delivery> {
        let sent = self.outlets.ready.send(request).await;
        sent.err().map(|request| request.into_delivery())
    }

    async fn hold_until(&self, at: DateTime<Utc>, action: Action) -> Option<Delivery> {
        let sent = self.outlets.timed.send(Timed { at, action }).await;
        sent.err().map(|late| late.0.action.into_delivery())
    }

    /// Another worker may know what we do not. Held for a growing while, so that it does not circle.
    async fn hand_back(
        &self,
        delivery: Delivery,
        id: &str,
        subject: &Subject<'_>,
        why: &str,
    ) -> Option<Delivery> {
        // Without an answer it is as if it had come for the first time; it is not set aside.
        let seen = self.app.transport().unknown(id).await;
        let (hands, known_for) = seen.unwrap_or((1, Duration::ZERO));
        if hands >= HANDS_MAX && known_for >= UNKNOWN_MAX {
            let minutes = known_for.as_secs() / 60;
            let reason = format!("{why} No worker has run it in {minutes} minutes.");
            self.set_aside(delivery, id, &reason).await;
            return None;
        }
        let doublings = hands.saturating_sub(1).min(6);
        let delay = Duration::from_secs(1 << doublings).min(LONGEST_HAND_BACK);
        subject.not_ours(why, delay);
        self.hold_until(clock::now() + delay, Action::HandBack(Box::new(delivery)))
            .await
    }

    async fn set_aside(&self, delivery: Delivery, id: &str, reason: &str) {
        // It may repeat what the message says.
        let reason = printable(reason, REASON_MAX);
        let queue = delivery.queue();
        log::error!("Received invalid task message: {reason}. It is kept in {queue}.dead.");
        self.held.dead_letter(delivery, id, &reason).await;
    }
}

impl Arrival {
    fn id(&self) -> &str {
        let decoded = self.decoded.as_ref();
        decoded.map_or("", |(message, _, _)| message.headers.id.as_str())
    }
}

type Decoded = (Arc<TaskMessage>, Option<DateTime<Utc>>, bool);

fn decode(limits: &Limits, raw: &[u8]) -> Result<Decoded, DecodeError> {
    let message = TaskMessage::decode(limits, raw)?;
    let eta = message.headers.eta_time()?;
    message.headers.expires_time()?;
    let is_redelivered = message
        .properties
        .delivery_info
        .redelivered
        .unwrap_or(false);
    Ok((Arc::new(message), eta, is_redelivered))
}
