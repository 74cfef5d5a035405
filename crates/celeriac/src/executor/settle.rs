//! How the end of a task takes effect: the one place that decides the order (promise M6).
//!
//! The ids of what follows are fixed → what follows is sent → the result is stored, with the children →
//! the message is acknowledged. A crash in between leads to a redelivery, which sends the same ids again.
//!
//! Counterpart: `celery/app/trace.py` (`trace_task`, `TraceInfo.handle_*`) and `celery/app/task.py`
//! (`retry`) @ 5.7.0.

use std::time::Duration;

use celeriac_protocol::canvas::{Canvas, Signature};
use celeriac_protocol::exception::TaskException;
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::Value;

use super::record::{Failed, rest};
use super::retry::automatic;
use super::time_limit::Limit;
use super::{Executor, Request};
use crate::backend::Start;
use crate::backoff::Backoff;
use crate::canvas::{self, Action, FollowUp, FollowUps, Unsendable};
use crate::failpoint::failpoint;
use crate::handler::Outcome;
use crate::log_lines;
use crate::traceback::one_line;
use crate::transport::{Error, QueueEnd};

/// Messages on their way to the broker: of a large header, those that follow need not wait for each answer.
const SENDS_IN_FLIGHT: usize = 64;

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
            Outcome::Replace(canvas) => Box::pin(self.replace(request, *canvas)).await,
            Outcome::FailChord(failed) => {
                Box::pin(self.fail_chord(request, *failed, runtime)).await
            }
            Outcome::Reject { reason, requeue } => {
                Box::pin(self.reject(request, &reason, requeue)).await
            }
        }
    }

    pub(super) async fn succeed(&self, mut request: Request, value: Value, runtime: Duration) {
        let follow_ups = match canvas::after_success(&self.app, request.message(), &value) {
            Ok(follow_ups) => follow_ups,
            Err(error) => {
                let exception = error.into_exception();
                return Box::pin(self.fail(request, exception, None)).await;
            }
        };
        let children = children(&request, &follow_ups);
        if !self
            .carry_out(follow_ups, request.context().is_redelivered())
            .await
        {
            return self.give_back(request).await;
        }
        failpoint("after_send");
        let is_stored = self.store(&request, State::Success, value.clone(), None, children);
        if !is_stored.await {
            return self.give_back(request).await;
        }
        failpoint("after_store");
        if !self.report(&request, State::Success, &value).await {
            return self.give_back(request).await;
        }
        request.subject().succeeded(runtime, &value);
        self.events.succeeded(request.event_id(), &value, runtime);
        self.ack(&mut request).await;
    }

    /// Another canvas has the task's id from now on, and all that follows the task follows it.
    async fn replace(&self, mut request: Request, canvas: Canvas) {
        match canvas::instead(&self.app, request.message(), canvas) {
            Ok(follow_ups) => {
                if !self
                    .carry_out(follow_ups, request.context().is_redelivered())
                    .await
                {
                    return self.give_back(request).await;
                }
                request.subject().ignored();
                self.ack(&mut request).await;
            }
            Err(error) => self.fail(request, error.into_exception(), None).await,
        }
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
        // The errbacks are sent after the result is stored, so they are no children, as in Celery.
        let children = children(request, &FollowUps::default());
        let failed = Failed::new(exception.clone()).with_traceback(traceback);
        let value = exception.to_value();
        let rest = rest(request.message());
        if !self.store_failure(request, &failed, &rest, children).await
            || !self.report(request, State::Failure, &value).await
        {
            return false;
        }
        let embed = &request.message().embed;
        if embed.chain.is_none() && embed.errbacks.is_none() {
            return true;
        }
        Box::pin(self.pass_on(request, &failed, &rest)).await
    }

    /// Chords hear of what would have come next, and the errbacks are called.
    async fn pass_on(&self, request: &Request, failed: &Failed, rest: &[Signature]) -> bool {
        let message = request.message();
        let is_again = request.context().is_redelivered();
        let counted = self.count_parts(rest, failed, is_again, Some(message));
        if !Box::pin(counted).await {
            return false;
        }
        let errbacks = message.embed.errbacks.as_deref().unwrap_or_default();
        let root = message.headers.root_id.as_deref();
        let called = self.call_errbacks(errbacks, &message.headers.id, root, failed);
        called.await.unwrap_or_else(|error| {
            log::error!(
                "cannot send the errbacks of {}: {}",
                log_lines::shown(&message.headers.id),
                error.repr()
            );
            true
        })
    }

    /// Those that take the failure itself run here; all others are sent the id of what has failed. `false` when a stop
    /// came first.
    ///
    /// # Errors
    /// They cannot be sent as they are written.
    pub(super) async fn call_errbacks(
        &self,
        errbacks: &[Signature],
        failed_id: &str,
        root: Option<&str>,
        failed: &Failed,
    ) -> Result<bool, TaskException> {
        let takes_failure = |errback: &Signature| {
            let task = self.app.registered(&errback.task);
            task.is_some_and(|task| task.handler.takes_failure())
        };
        let (here, sent): (Vec<_>, Vec<_>) = errbacks.iter().cloned().partition(takes_failure);
        for errback in &here {
            self.run_errback(errback, failed_id, root, failed).await;
        }
        let follow_ups = canvas::errbacks(&self.app, &sent, failed_id, root);
        let follow_ups = follow_ups.map_err(Unsendable::into_exception)?;
        Ok(self.carry_out(follow_ups, false).await)
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
        if !has_children
            && let Ok(follow_ups) =
                canvas::after_success(&self.app, request.message(), &meta.result)
            && !self.carry_out(follow_ups, true).await
        {
            return self.give_back(request).await;
        }
        // Celery does not, and then the chord waits for ever.
        if !self.report(&request, State::Success, &meta.result).await {
            return self.give_back(request).await;
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
        let is_stored = self.store(&request, State::Revoked, value.clone(), None, children);
        if !is_stored.await || !self.report(&request, State::Revoked, &value).await {
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

    /// Does all of it; `false` when a stop came first. `is_again`: it may have been done before, in part or whole.
    pub(super) async fn carry_out(&self, follow_ups: FollowUps, is_again: bool) -> bool {
        // Messages are large, and most tasks send none.
        if follow_ups.actions.is_empty() {
            return true;
        }
        Box::pin(self.act(follow_ups.actions, is_again)).await
    }

    async fn act(&self, actions: Vec<Action>, is_again: bool) -> bool {
        match self.start_chords(actions, is_again).await {
            Some(sends) => self.send_all(sends).await,
            None => false,
        }
    }

    /// Begins the chords, and returns what is to be sent; `None` when a stop came first.
    pub(super) async fn start_chords(
        &self,
        actions: Vec<Action>,
        is_again: bool,
    ) -> Option<Vec<FollowUp>> {
        let mut sends = Vec::new();
        let mut actions = actions.into_iter();
        while let Some(action) = actions.next() {
            match action {
                Action::Send(follow_up) => sends.push(*follow_up),
                Action::Start {
                    group,
                    size,
                    document,
                    actions: header,
                } => {
                    let start = || {
                        let backend = self.app.backend();
                        backend.chord_start(&group, size, document.as_ref(), is_again)
                    };
                    // It has run, and its body was sent: it must not begin again.
                    if self.insisting(&group, start).await? == Start::Over {
                        actions.by_ref().take(header).for_each(drop);
                    }
                }
            }
        }
        Some(sends)
    }

    /// Sends until the broker has everything; `false` when a stop came first.
    pub(super) async fn send_all(&self, follow_ups: Vec<FollowUp>) -> bool {
        let sends = follow_ups.into_iter().map(|next| self.send(next));
        let mut sends = stream::iter(sends).buffered(SENDS_IN_FLIGHT);
        while let Some(is_sent) = sends.next().await {
            if !is_sent {
                return false;
            }
        }
        true
    }

    async fn send(&self, follow_up: FollowUp) -> bool {
        let FollowUp { message, queue } = follow_up;
        let task = || log_lines::shown(&message.headers.task);
        let what = || format!("cannot send {} to the broker", task());
        let publish = || self.app.publish(&message, &queue);
        self.until_answered(what, publish).await.is_some()
    }

    /// Asks a server until it answers, and says `what` cannot be done meanwhile; `None` when a stop came first.
    pub(super) async fn until_answered<T, F>(
        &self,
        what: impl Fn() -> String,
        ask: impl Fn() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut backoff = Backoff::new();
        loop {
            let error = match ask().await {
                Ok(answer) => return Some(answer),
                Err(error) => error,
            };
            if self.patience.is_worth_mentioning() {
                log::warn!("{}, trying again: {error}", what());
            }
            if !backoff.wait(&self.patience).await {
                return None;
            }
        }
    }
}

/// Says what Celery's main process says: of a task that has no slot yet, or has it no more.
pub(super) fn main_process(say: impl FnOnce()) {
    log_lines::in_process_sync(log_lines::MAIN_PROCESS.to_owned(), say);
}

/// What the task has sent, and what follows it: `[[id, parent], null]` each, and for a group its members
/// instead of the null.
pub(super) fn children(request: &Request, follow_ups: &FollowUps) -> Value {
    let mut children = request.context().take_children();
    children.extend(follow_ups.children.iter().cloned());
    Value::Array(children)
}
