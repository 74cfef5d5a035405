//! Remote control: what `celery inspect`, `celery control`, `celery status` and Flower ask a worker.
//!
//! Whoever may publish at the broker may ask, so a request harms nobody, whatever is in it: what cannot be
//! read is logged and forgotten, what fails is answered with the error. A worker answers while all its slots
//! are busy: nothing here waits for a task, and what waits for a server (replies, the results of revoked
//! tasks) does so beside the listening.
//!
//! - here: listening, and who is meant.
//! - `panel`: from a method's name to its answer.
//! - `arguments`: a method's arguments, with Python's errors.
//! - `tasks`: active, reserved, scheduled, query_task, registered.
//! - `revoke`: revoke, terminate, revoked, hello.
//! - `stamps`: revoke_by_stamped_headers.
//! - `queues`: active_queues.
//! - `stats`, `process`: stats, memsample.
//! - `conf`: conf, report.
//!
//! Counterpart: `celery/worker/pidbox.py`, `celery/worker/control.py` and `kombu/pidbox.py` @ 5.7.0.
//! Deliberate differences: a reply goes only into a queue that was bound for replies; a request whose parts
//! have wrong types is not begun; the worker still answers while it stops warmly, so that a task that does
//! not end can be found and terminated. Neighbours are answered (`hello`), but not asked at the start.

mod arguments;
mod conf;
mod limits;
mod panel;
mod process;
mod queues;
mod revoke;
mod stamps;
mod stats;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use celeriac_protocol::control::{ControlReply, ControlRequest, ReplyTo};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::app::App;
use crate::backoff::{Backoff, Patience};
use crate::consumer::rate_limit::RateLimits;
use crate::events::Events;
use crate::log_lines::shown;
use crate::shutdown::Shutdown;
use crate::state::WorkerState;
use crate::transport::{Broadcasts, Error, Fanout};
use arguments::Arguments;
use panel::Answer;

/// Requests that are being answered at the same time; further ones wait.
const CONCURRENT_ANSWERS: usize = 256;

/// How often a reply is tried: a connection may have broken while nothing was said.
const REPLY_TRIES: usize = 3;

/// How long a stopping worker tries to remove its name from the broker.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// One worker's side of remote control. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) app: App,
    pub(crate) state: WorkerState,
    pub(crate) hostname: String,
    pub(crate) queues: Vec<String>,
    pub(crate) concurrency: usize,
    /// Messages held beside those that wait for their time; 0: no limit.
    pub(crate) prefetch: usize,
    pub(crate) shutdown: Shutdown,
    pub(crate) events: Events,
    pub(crate) rates: RateLimits,
}

impl Control {
    /// Listens and answers until told to end. `listening` is told when the first try to listen is over.
    pub(crate) async fn run(self, listening: oneshot::Sender<()>, end: CancellationToken) {
        let transport = Arc::clone(self.app.transport());
        let Some(fanout) = transport.fanout() else {
            return;
        };
        let answering = TaskTracker::new();
        let mut listening = Some(listening);
        let mut is_mentioned = false;
        let mut backoff = Backoff::new();
        while !end.is_cancelled() {
            let broken = tokio::select! {
                biased;
                // cancel-safe: dropping the other closes the connection; a request in flight has its own task
                () = end.cancelled() => break,
                broken = self.listen(fanout, &mut listening, &answering, &mut backoff) => broken,
            };
            // Whoever waits for the first try waits no longer.
            listening = None;
            match broken {
                // The consumer speaks of outages.
                Error::Connection { .. } => log::debug!("pidbox: {broken}"),
                _ if !is_mentioned => {
                    is_mentioned = true;
                    log::warn!(
                        "pidbox: the broker lets nobody listen to remote control, trying again: {broken}"
                    );
                }
                _ => log::debug!("pidbox: {broken}"),
            }
            backoff.wait(&Patience::new(end.clone())).await;
        }
        answering.close();
        let farewell = async {
            answering.wait().await;
            fanout.unsubscribe(&self.hostname).await
        };
        match tokio::time::timeout(FAREWELL_PATIENCE, farewell).await {
            Ok(Ok(())) => {}
            // Its name in the broker's table goes by itself after an hour.
            Ok(Err(error)) => log::debug!("pidbox: {error}"),
            Err(_) => log::debug!("pidbox: the broker does not answer"),
        }
    }

    /// Listens until that breaks; returns why.
    async fn listen(
        &self,
        fanout: &dyn Fanout,
        listening: &mut Option<oneshot::Sender<()>>,
        answering: &TaskTracker,
        backoff: &mut Backoff,
    ) -> Error {
        let mut broadcasts = match fanout.subscribe(&self.hostname).await {
            Ok(broadcasts) => broadcasts,
            Err(error) => return error,
        };
        *backoff = Backoff::new();
        // Nobody waits for it any more when it is the second time.
        listening.take().map(|listening| listening.send(()).ok());
        match self.answer_all(&mut *broadcasts, answering).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn answer_all(
        &self,
        broadcasts: &mut dyn Broadcasts,
        answering: &TaskTracker,
    ) -> Result<std::convert::Infallible, Error> {
        let places = Arc::new(Semaphore::new(CONCURRENT_ANSWERS));
        loop {
            let bytes = broadcasts.next().await?;
            if let Some(request) = self.read(&bytes) {
                let answer = self.dispatch(&request);
                if let Ok(place) = Arc::clone(&places).acquire_owned().await {
                    answering.spawn(self.clone().finish(request, answer, place));
                }
            }
        }
    }

    /// A request that is for us.
    fn read(&self, bytes: &[u8]) -> Option<ControlRequest> {
        // As Celery: every message moves the clock, and a client's own clock says nothing.
        self.state.forward_clock();
        let request = ControlRequest::parse(bytes).and_then(|request| {
            let is_ours = request.is_for(&self.hostname)?;
            Ok(is_ours.then_some(request))
        });
        request.unwrap_or_else(|error| {
            log::error!("Control command error: {}", shown(&error.to_string()));
            None
        })
    }

    /// Does what is asked, as far as it can be done at once.
    fn dispatch(&self, request: &ControlRequest) -> Answer {
        log::debug!(
            "pidbox received method {} [reply_to:{} ticket:{}]",
            shown(&request.method),
            request
                .reply_to
                .as_ref()
                .map_or("None".to_owned(), |to| shown(&to.routing_key).into_owned()),
            shown(request.ticket.as_str().unwrap_or("None")),
        );
        let arguments = Arguments::new(&request.method, &request.arguments);
        self.answer(&request.method, &arguments)
            .unwrap_or_else(|exception| {
                let repr = exception.repr();
                log::error!("pidbox command error: {}", shown(&repr));
                Answer::Value(json!({"error": repr}))
            })
    }

    /// What has to wait for a server: marking revoked tasks, and the reply.
    async fn finish(self, request: ControlRequest, answer: Answer, _place: OwnedSemaphorePermit) {
        let value = match answer {
            Answer::Value(value) => value,
            Answer::Scheduled => self.scheduled().await,
            Answer::Query { ids, found } => self.query_waiting(&ids, found).await,
            Answer::Revoked(revoked) => {
                self.mark_revoked(&revoked.idle).await;
                revoked.answer
            }
            Answer::Heartbeat => {
                if let Err(error) = self.events.beat_now(&self.app).await {
                    log::debug!("events: {error}");
                }
                Value::Null
            }
            Answer::NoReply => return,
        };
        if let Some(to) = &request.reply_to {
            self.reply(to, &request.ticket, value).await;
        }
    }

    async fn reply(&self, to: &ReplyTo, ticket: &Value, answer: Value) {
        let Some(fanout) = self.app.transport().fanout() else {
            return;
        };
        let reply = ControlReply {
            node: &self.hostname,
            answer,
            ticket,
            clock: self.state.forward_clock(),
        };
        let envelope = reply.to_json(to, &Uuid::new_v4().to_string());
        for _ in 0..REPLY_TRIES {
            match fanout.reply(to, &envelope).await {
                Ok(true) => return,
                Ok(false) => {
                    // The client has gone, or there never was one.
                    let key = shown(&to.routing_key);
                    return log::debug!("pidbox: no queue is bound for the reply to {key}");
                }
                Err(error) => log::debug!("pidbox: cannot reply: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
