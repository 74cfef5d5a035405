//! What to do with one message: run it, hold it until its time, hand it back, or set it aside.
//!
//! Whatever bytes are in a queue, the worker lives and the messages behind them run (promise M5).
//!
//! Counterpart: `celery/worker/strategy.py` and `Consumer.on_unknown_task` @ 5.7.0. Deliberate
//! differences: what Celery destroys (a task that it does not know, a message that it cannot read) is
//! handed back or kept in `<queue>.dead`.

use std::collections::HashMap;
use std::time::Duration;

use celeriac_protocol::envelope::Envelope;
use celeriac_protocol::error::DecodeError;
use celeriac_protocol::message::TaskMessage;
use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;

use super::Outlets;
use super::held::Held;
use super::timer::{Action, Timed};
use crate::app::App;
use crate::canvas;
use crate::clock;
use crate::executor::Request;
use crate::log_lines::Subject;
use crate::transport::Delivery;

/// The longest time for which a message that is not ours is held before it goes back.
const LONGEST_HAND_BACK: Duration = Duration::from_secs(60);

/// How many such messages are counted; beyond that the counts start afresh.
const HAND_BACKS_COUNTED: usize = 10_000;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Strategy {
    app: App,
    hostname: String,
    held: Held,
    outlets: Outlets,
    /// How often each message that is not ours has come by. Kept here, not in the message (promise M4).
    hand_backs: HashMap<String, u32>,
}

impl Strategy {
    pub(super) fn new(app: App, hostname: String, held: Held, outlets: Outlets) -> Self {
        Self {
            app,
            hostname,
            held,
            outlets,
            hand_backs: HashMap::new(),
        }
    }

    /// Sees to one message. The permit is its room in the prefetch. A message that comes too late, because
    /// the worker is stopping, is returned: it goes back to its queue.
    pub(super) async fn handle(
        &mut self,
        delivery: Delivery,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Option<Delivery> {
        let cancelled = self.held.hold(&delivery);
        let decoded = decode(delivery.raw());
        let (message, eta, is_redelivered) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                self.set_aside(delivery, &error).await;
                return None;
            }
        };
        let subject = Subject::new(&message.headers.task, &message.headers.id);
        let Some(handler) = self.app.handler(&message.headers.task).cloned() else {
            let why = format!("Received unregistered task of type '{}'.", subject.name);
            return self.hand_back(delivery, &subject, &why).await;
        };
        if let Some(what) = canvas::unsupported(&message.embed) {
            let why = format!(
                "Task {}[{}] is {what}, which this worker cannot carry on.",
                subject.name, subject.id
            );
            return self.hand_back(delivery, &subject, &why).await;
        }
        subject.received();
        let request = Request::new(
            &self.app,
            handler,
            message,
            delivery,
            self.hostname.clone(),
            is_redelivered,
            cancelled,
        );
        let request = request.tracked_by(&self.outlets.state);
        // What was revoked does not wait for its time: a slot discards it.
        let is_due = request.is_revoked();
        match eta.filter(|eta| *eta > clock::now() && !is_due) {
            // Held without room in the prefetch, as Celery does by counting it up.
            Some(at) => {
                request.schedule(at);
                self.hold_until(at, Action::Run(Box::new(request))).await
            }
            None => self.run(request.with_permit(permit)).await,
        }
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
        &mut self,
        delivery: Delivery,
        subject: &Subject,
        why: &str,
    ) -> Option<Delivery> {
        if self.hand_backs.len() >= HAND_BACKS_COUNTED {
            self.hand_backs.clear();
        }
        let count = self.hand_backs.entry(subject.id.clone()).or_insert(0);
        let delay = Duration::from_secs(1 << (*count).min(6)).min(LONGEST_HAND_BACK);
        *count += 1;
        subject.not_ours(why, delay);
        self.hold_until(clock::now() + delay, Action::HandBack(delivery))
            .await
    }

    async fn set_aside(&self, delivery: Delivery, error: &DecodeError) {
        log::error!(
            "Received invalid task message: {error}. It is kept in {}.dead.",
            delivery.queue()
        );
        self.held.dead_letter(delivery, &error.to_string()).await;
    }
}

type Decoded = (TaskMessage, Option<DateTime<Utc>>, bool);

fn decode(raw: &[u8]) -> Result<Decoded, DecodeError> {
    let envelope = Envelope::parse(raw)?;
    let message = TaskMessage::from_envelope(&envelope)?;
    let eta = message.headers.eta_time()?;
    message.headers.expires_time()?;
    let is_redelivered = envelope
        .properties
        .delivery_info
        .redelivered
        .unwrap_or(false);
    Ok((message, eta, is_redelivered))
}
