//! A message that was accepted, with everything that belongs to it.
//!
//! Counterpart: `celery/worker/request.py::Request` @ 5.7.0.

use std::sync::Arc;

use celeriac_protocol::message::TaskMessage;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Registered};
use crate::clock;
use crate::consumer::timer::Parked;
use crate::context::{Context, Place};
use crate::handler::Handler;
use crate::handler::options::Effective;
use crate::log_lines::Subject;
use crate::state::{Tracked, WorkerState};
use crate::transport::Delivery;

/// See the module's text.
pub(crate) struct Request {
    task: Arc<Registered>,
    context: Context,
    /// Gone once it is acknowledged.
    delivery: Option<Delivery>,
    /// Our room in the prefetch; given up with the request.
    permit: Option<OwnedSemaphorePermit>,
    /// How many of its starts have ended in the death of the worker.
    deaths: u32,
    /// Its place among what the worker has.
    tracked: Option<Tracked>,
}

/// See [`Request::traces`].
pub(crate) struct Traces {
    message: Arc<TaskMessage>,
    tag: Option<Arc<str>>,
}

impl Traces {
    pub(crate) fn subject(&self) -> Subject<'_> {
        let headers = &self.message.headers;
        Subject::new(&headers.task, &headers.id)
    }

    /// The claim; `None` when it was acknowledged before.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("context", &self.context)
            .field("delivery", &self.delivery)
            .field("permit", &self.permit)
            .finish_non_exhaustive()
    }
}

impl Request {
    pub(crate) fn new(
        app: &App,
        task: Arc<Registered>,
        message: Arc<TaskMessage>,
        delivery: Delivery,
        place: Place,
        cancelled: CancellationToken,
    ) -> Self {
        Self {
            context: Context::new(app.clone(), message, place, cancelled),
            task,
            delivery: Some(delivery),
            permit: None,
            deaths: 0,
            tracked: None,
        }
    }

    pub(crate) fn with_deaths(mut self, deaths: u32) -> Self {
        self.deaths = deaths;
        self
    }

    /// It may have killed a worker: it runs alone, so that no other task dies with it.
    pub(crate) fn is_suspect(&self) -> bool {
        self.deaths > 0
    }

    /// How many of its starts have ended in the death of the worker.
    pub(crate) fn deaths(&self) -> u32 {
        self.deaths
    }

    /// What is still to be settled, to be marked, and the message's id.
    pub(crate) fn delivery_mut(&mut self) -> Option<(&mut Delivery, &str)> {
        let id = &self.context.message().headers.id;
        self.delivery
            .as_mut()
            .map(|delivery| (delivery, id.as_str()))
    }

    /// From now on remote control sees it.
    pub(crate) fn tracked_by(mut self, state: &WorkerState) -> Self {
        self.tracked = Some(state.track(self.context.message(), self.context.end()));
        self
    }

    /// What is kept of it until its time has come.
    pub(crate) fn wait(self, eta: DateTime<Utc>) -> Parked {
        let Self {
            delivery,
            tracked,
            deaths,
            ..
        } = self;
        let delivery = delivery.expect("a request that was not started is not acknowledged");
        tracked
            .iter()
            .for_each(|tracked| tracked.wait(eta, &delivery));
        Parked {
            delivery,
            tracked,
            deaths,
            permit: None,
        }
    }

    /// It has waited until now, and may have been revoked meanwhile.
    pub(crate) fn after(self, waited: &Tracked) -> Self {
        if waited.is_revoked() {
            self.tracked.iter().for_each(Tracked::forbid);
        }
        self
    }

    /// Whether it was revoked before it has started.
    pub(crate) fn is_revoked(&self) -> bool {
        self.tracked.as_ref().is_some_and(Tracked::is_revoked)
    }

    /// It starts now; `false`: it was revoked, and must not.
    pub(crate) fn start(&self) -> bool {
        self.tracked.as_ref().is_none_or(Tracked::start)
    }

    /// The stamp for which it must not start: its name and value; `None` where it was not revoked for a stamp.
    pub(crate) fn revoking_stamp(&self) -> Option<Box<Map<String, Value>>> {
        self.tracked.as_ref().and_then(Tracked::revoking_stamp)
    }

    /// Whether its start is to be written down before it runs (promise M5). In a stretch of tasks that take less than
    /// a round trip that would be most of the work, so there it is done only for what comes again: whatever ended its
    /// first start, the second one is counted.
    pub(crate) fn is_to_be_marked(&self) -> bool {
        !self.is_brisk() || self.is_suspect() || self.context.is_redelivered()
    }

    /// Whether it may run on the engine's thread: it has a thread of its own, or tasks of its kind have not held up
    /// anybody for long.
    pub(crate) fn runs_with_the_engine(&self) -> bool {
        self.handler().needs_thread() || self.is_brisk()
    }

    fn is_brisk(&self) -> bool {
        self.tracked.as_ref().is_some_and(Tracked::is_brisk)
    }

    /// Whether it was written down that it runs.
    pub(crate) fn is_marked(&self) -> bool {
        self.delivery.as_ref().is_some_and(Delivery::is_started)
    }

    /// What is needed to speak of it, and to let it go, when it is lost itself.
    pub(crate) fn traces(&self) -> Traces {
        Traces {
            message: Arc::clone(self.context.message()),
            tag: self.delivery.as_ref().map(Delivery::shared_tag),
        }
    }

    /// Its run is over: another message may be held in its place. What is still to be acknowledged counts as held until
    /// then, as in Celery: so many at most run again when the worker is killed.
    pub(crate) fn leave_room(&mut self) {
        if self.delivery.is_none() {
            self.permit = None;
        }
    }

    /// Its run is over; `true` when remote control has ended it.
    pub(crate) fn end(&self) -> bool {
        self.tracked.as_ref().is_some_and(Tracked::end)
    }

    /// The id under which monitors hear of it; `None`: its task sends no events.
    pub(crate) fn event_id(&self) -> Option<&str> {
        let sends = self.options().send_events;
        sends.then_some(self.message().headers.id.as_str())
    }

    /// The signal that remote control has named for its end.
    pub(crate) fn signal(&self) -> Option<i64> {
        self.tracked.as_ref().and_then(Tracked::signal)
    }

    pub(crate) fn with_permit(mut self, permit: Option<OwnedSemaphorePermit>) -> Self {
        self.permit = permit;
        self
    }

    pub(crate) fn message(&self) -> &TaskMessage {
        self.context.message()
    }

    pub(crate) fn task(&self) -> &Registered {
        &self.task
    }

    pub(crate) fn handler(&self) -> &Arc<dyn Handler> {
        &self.task.handler
    }

    /// What holds for the task.
    pub(crate) fn options(&self) -> &Effective {
        &self.task.effective
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The queue it came from, where a retry goes too.
    pub(crate) fn queue(&self) -> &str {
        self.context.queue()
    }

    /// What is still to be settled; `None` once it is acknowledged.
    pub(crate) fn delivery(&self) -> Option<&Delivery> {
        self.delivery.as_ref()
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        let headers = &self.message().headers;
        // Celery shows it under the name that the sender gave it, if any.
        let shadow = headers.shadow.as_deref().filter(|name| !name.is_empty());
        Subject::new(shadow.unwrap_or(&headers.task), &headers.id)
    }

    pub(crate) fn arguments(&self) -> (Vec<Value>, Map<String, Value>) {
        (self.message().args.clone(), self.message().kwargs.clone())
    }

    /// The delivery, to be settled. Its room in the prefetch is free from now on, also while a task
    /// that was acknowledged early still runs; unless nothing is to be taken ahead.
    pub(crate) fn take_delivery(&mut self) -> Option<Delivery> {
        if !self.context.app().settings().worker_disable_prefetch {
            self.permit = None;
        }
        self.tracked.iter().for_each(Tracked::acknowledge);
        self.delivery.take()
    }

    /// The delivery of a request that was not started.
    pub(crate) fn into_delivery(mut self) -> Delivery {
        self.delivery
            .take()
            .expect("a request that was not started is not acknowledged")
    }

    pub(crate) fn is_expired(&self) -> bool {
        let expires = self.context.expires();
        expires.is_some_and(|expires| expires <= clock::now())
    }

    /// The message wins over the task. Counterpart: `celery/app/task.py::get_actual_ignore_result`.
    pub(crate) fn ignores_result(&self) -> bool {
        let headers = &self.message().headers;
        headers
            .ignore_result
            .unwrap_or(self.options().ignore_result)
    }

    /// Whether a state of it may be stored: by an earlier run, at its start, or by the task itself.
    pub(crate) fn may_have_a_state(&self) -> bool {
        self.message().headers.retries > 0
            || self.context.is_redelivered()
            || self.tracks_started()
            || self.context.has_state()
    }

    pub(crate) fn tracks_started(&self) -> bool {
        self.options().track_started && !self.ignores_result()
    }
}
