//! How the end of a task takes effect: the one place that decides the order (promise M6).
//!
//! The ids of what follows are fixed → what follows is sent → the result is stored, with the children →
//! the message is acknowledged. A crash in between leads to a redelivery, which sends the same ids again.
//!
//! Counterpart: `celery/app/trace.py` (`trace_task`, `TraceInfo.handle_*`) and `celery/app/task.py`
//! (`retry`) @ 5.7.0.

use std::time::Duration;

use celeriac_protocol::exception::TaskException;
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use serde_json::{Value, json};

use super::retry::automatic;
use super::time_limit::Limit;
use super::{Executor, Request};
use crate::backoff::Backoff;
use crate::canvas::{self, FollowUp};
use crate::context::child;
use crate::failpoint::failpoint;
use crate::handler::Outcome;
use crate::log_lines;
use crate::traceback::one_line;
use crate::transport::QueueEnd;

impl Executor {
    pub(super) async fn settle(&self, mut request: Request, outcome: Outcome, runtime: Duration) {
        // Guarantee M2: a worker that was asleep may have been taken for dead; then its word is nothing.
        if let Some(delivery) = request.delivery()
            && !self.held.is_still_ours(delivery).await
        {
            return request.subject().lost();
        }
        match outcome {
            Outcome::Success(value) => self.succeed(request, value, runtime).await,
            Outcome::Failure {
                exception,
                traceback,
            } => {
                let retries = request.message().headers.retries;
                match automatic(&request.task().options, &exception, retries) {
                    Some(retry) => Box::pin(self.retry(request, retry, traceback)).await,
                    None => Box::pin(self.fail(request, exception, traceback)).await,
                }
            }
            Outcome::Retry(retry) => Box::pin(self.retry(request, *retry, None)).await,
            Outcome::Ignore => {
                request.subject().ignored();
                self.ack(&mut request).await;
            }
            Outcome::Reject { reason, requeue } => {
                Box::pin(self.reject(request, &reason, requeue)).await
            }
        }
    }

    async fn succeed(&self, mut request: Request, value: Value, runtime: Duration) {
        let follow_ups = canvas::after_success(&self.app, request.message(), &value);
        let children = children(&request, &follow_ups);
        if !self.send_all(follow_ups).await {
            return self.give_back(request).await;
        }
        let is_stored = self.store(&request, State::Success, value.clone(), None, children);
        if !is_stored.await {
            return self.give_back(request).await;
        }
        request.subject().succeeded(runtime, &value);
        self.events.succeeded(request.event_id(), &value, runtime);
        self.ack(&mut request).await;
    }

    pub(super) async fn fail(
        &self,
        mut request: Request,
        exception: TaskException,
        traceback: Option<String>,
    ) {
        let traceback = traceback.unwrap_or_else(|| one_line(&exception));
        let recorded = self.record_failure(&request, &exception, Some(&traceback));
        if !recorded.await {
            return self.give_back(request).await;
        }
        let throws = &request.task().options.throws;
        let is_expected = throws.iter().any(|kind| kind.includes(&exception));
        request
            .subject()
            .failed(&exception, &traceback, is_expected);
        let id = request.event_id();
        // Celery refuses the message where `acks_on_failure` is false, and says so; on Redis it is gone either way.
        if request.delivery().is_some() && !request.options().acks_on_failure {
            self.events.rejected(id, false);
        }
        self.events.failed(id, &exception, &traceback);
        self.ack(&mut request).await;
    }

    /// Stores a failure, also for what would have come next, and sends the errbacks; `false` when a stop came first.
    async fn record_failure(
        &self,
        request: &Request,
        exception: &TaskException,
        traceback: Option<&str>,
    ) -> bool {
        let follow_ups = canvas::after_failure(&self.app, request.message());
        // The errbacks are sent after the result is stored, so they are no children, as in Celery.
        let children = children(request, &[]);
        let value = exception.to_value();
        let failed = State::Failure;
        self.store(request, failed, value.clone(), traceback, children)
            .await
            && self.fail_chain(request, &value, traceback).await
            && self.send_all(follow_ups).await
    }

    /// The hard time limit has ended the run.
    pub(super) async fn timed_out(&self, mut request: Request, limit: &Limit) {
        // Guarantee M2: as for any other end.
        if let Some(delivery) = request.delivery()
            && !self.held.is_still_ours(delivery).await
        {
            return request.subject().lost();
        }
        let exception = TaskException::time_limit_exceeded(limit.shown.clone());
        // Celery has no traceback of a task that it has ended.
        if !self.record_failure(&request, &exception, None).await {
            return self.give_back(request).await;
        }
        main_process(|| request.subject().exceeded_hard(&limit.shown));
        let id = request.event_id();
        self.events.failed(id, &exception, &one_line(&exception));
        if request.options().acks_on_timeout {
            self.ack(&mut request).await;
        } else if self.requeue(&mut request, QueueEnd::Back).await {
            self.events.rejected(request.event_id(), true);
        }
    }

    /// Its last start has ended in the death of its worker, and its options forbid another one.
    pub(super) async fn worker_lost(&self, request: Request) {
        let text = format!(
            "the worker died while the task ran ({} times)",
            request.deaths()
        );
        self.fail(request, TaskException::worker_lost(text), None)
            .await;
    }

    /// It came a second time, and had succeeded before (`worker_deduplicate_successful_tasks`). What follows it was
    /// sent before that was stored; where no trace of it is there, it is sent now, with the same ids.
    pub(super) async fn already_done(&self, mut request: Request, meta: TaskMeta) {
        request.subject().already_succeeded();
        let has_children = meta
            .children
            .as_array()
            .is_some_and(|list| !list.is_empty());
        if !has_children {
            let follow_ups = canvas::after_success(&self.app, request.message(), &meta.result);
            if !self.send_all(follow_ups).await {
                return self.give_back(request).await;
            }
        }
        self.ack(&mut request).await;
    }

    async fn reject(&self, mut request: Request, reason: &str, requeue: bool) {
        request.subject().rejected(reason, requeue);
        if requeue {
            if self.requeue(&mut request, QueueEnd::Back).await {
                self.events.rejected(request.event_id(), true);
            }
            return;
        }
        // Celery's main process writes it down, which knows nothing of what the task has sent.
        request.context().take_children();
        let exception = TaskException::reject(Value::from(reason), false);
        if !self.record_failure(&request, &exception, None).await {
            return self.give_back(request).await;
        }
        let id = request.event_id();
        self.events.failed(id, &exception, &one_line(&exception));
        if request.delivery().is_some() {
            self.events.rejected(id, false);
        }
        self.ack(&mut request).await;
    }

    /// A task that must not run any more: its time has passed, or it was revoked.
    pub(super) async fn discard(&self, request: Request, reason: &str) {
        let stamp = request.revoking_stamp();
        main_process(|| request.subject().discarded(stamp.as_deref()));
        let id = request.event_id();
        self.events.revoked(id, reason == "expired");
        self.store_revoked(request, reason).await;
    }

    /// A run that remote control has ended. Whatever it returned is dropped.
    pub(super) async fn terminated(&self, request: Request) {
        // Guarantee M2: as for any other end.
        if let Some(delivery) = request.delivery()
            && !self.held.is_still_ours(delivery).await
        {
            return request.subject().lost();
        }
        request.subject().terminated();
        let id = request.event_id();
        self.events.terminated(id, request.signal());
        self.store_revoked(request, "terminated").await;
    }

    async fn store_revoked(&self, mut request: Request, reason: &str) {
        let value = TaskException::task_revoked(reason).to_value();
        let children = Value::Array(Vec::new());
        let is_stored = self.store(&request, State::Revoked, value, None, children);
        if !is_stored.await {
            return self.give_back(request).await;
        }
        self.ack(&mut request).await;
    }

    /// Acknowledges what is not acknowledged yet; `false` when it is not ours any more.
    pub(super) async fn ack(&self, request: &mut Request) -> bool {
        match request.take_delivery() {
            Some(delivery) => {
                failpoint("before_ack");
                let is_ours = self.held.ack(delivery).confirmed().await;
                failpoint("after_ack");
                if is_ours && request.is_suspect() {
                    Box::pin(self.forgive(&request.message().headers.id)).await;
                }
                is_ours
            }
            None => true,
        }
    }

    /// It has not killed this worker.
    async fn forgive(&self, id: &str) {
        if let Err(error) = self.app.transport().forgive(id).await {
            // It is forgotten a day after the last death in any case.
            log::debug!(
                "could not forget the deaths of {}: {error}",
                log_lines::shown(id)
            );
        }
    }

    /// The end could not be written down before a stop: the task will run again, if it was not
    /// acknowledged before.
    pub(super) async fn give_back(&self, mut request: Request) {
        if !Box::pin(self.requeue(&mut request, QueueEnd::Front)).await {
            request.subject().unrecorded();
        }
    }

    /// Puts back what is not acknowledged yet; `false` when it was.
    pub(super) async fn requeue(&self, request: &mut Request, end: QueueEnd) -> bool {
        let Some(delivery) = request.take_delivery() else {
            return false;
        };
        self.held.requeue(vec![delivery], end).await;
        true
    }

    /// Sends until the broker has everything; `false` when a stop came first.
    pub(super) async fn send_all(&self, follow_ups: Vec<FollowUp>) -> bool {
        // Messages are large, and most tasks send none.
        let sends = follow_ups.into_iter().map(|next| Box::pin(self.send(next)));
        for send in sends {
            if !send.await {
                return false;
            }
        }
        true
    }

    async fn send(&self, follow_up: FollowUp) -> bool {
        let FollowUp { message, queue, .. } = follow_up;
        let mut backoff = Backoff::new();
        while let Err(error) = self.app.publish(&message, &queue).await {
            if self.patience.is_worth_mentioning() {
                log::warn!(
                    "cannot send {} to the broker, trying again: {error}",
                    log_lines::shown(&message.headers.task)
                );
            }
            if !backoff.wait(&self.patience).await {
                return false;
            }
        }
        true
    }
}

/// Says what Celery's main process says: of a task that has no slot yet, or has it no more.
pub(super) fn main_process(say: impl FnOnce()) {
    log_lines::in_process_sync(log_lines::MAIN_PROCESS.to_owned(), say);
}

/// What the task has sent, and what follows it: `[[id, parent], null]` each, and for a group its members
/// instead of the null.
pub(super) fn children(request: &Request, follow_ups: &[FollowUp]) -> Value {
    let sent = request.context().take_children();
    let mut children: Vec<Value> = sent.iter().map(|id| child(id)).collect();
    for together in follow_ups.chunk_by(|one, next| one.group.is_some() && one.group == next.group)
    {
        let ids = together.iter().map(|next| child(&next.message.headers.id));
        match together.first().and_then(|first| first.group.as_ref()) {
            Some(group) => children.push(json!([[group, null], ids.collect::<Vec<_>>()])),
            None => children.extend(ids),
        }
    }
    Value::Array(children)
}
