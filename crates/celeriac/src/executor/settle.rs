//! How the end of a task takes effect: the one place that decides the order (promise M6).
//!
//! The ids of what follows are fixed → what follows is sent → the result is stored, with the children →
//! the message is acknowledged. A crash in between leads to a redelivery, which sends the same ids again.
//!
//! Counterpart: `celery/app/trace.py` (`trace_task`, `TraceInfo.handle_*`) and `celery/app/task.py`
//! (`retry`) @ 5.7.0.

use std::time::Duration;

use celeriac_protocol::compose::expiration;
use celeriac_protocol::exception::TaskException;
use celeriac_protocol::message::TaskMessage;
use celeriac_protocol::state::State;
use celeriac_protocol::{repr, timestamp};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Executor, Request};
use crate::backoff::Backoff;
use crate::canvas::{self, FollowUp};
use crate::clock;
use crate::failpoint::failpoint;
use crate::handler::{DEFAULT_MAX_RETRIES, DEFAULT_RETRY_DELAY, Outcome, Retry};
use crate::log_lines;
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
                self.fail(request, exception, traceback).await;
            }
            Outcome::Retry(retry) => self.retry(request, retry).await,
            Outcome::Ignore => {
                request.subject().ignored();
                self.ack(&mut request).await;
            }
            Outcome::Reject { reason, requeue } => self.reject(request, &reason, requeue).await,
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
        self.ack(&mut request).await;
    }

    async fn fail(
        &self,
        mut request: Request,
        exception: TaskException,
        traceback: Option<String>,
    ) {
        let traceback = traceback.unwrap_or_else(|| one_line(&exception));
        let follow_ups = canvas::after_failure(&self.app, request.message());
        // The errbacks are sent after the result is stored, so they are no children, as in Celery.
        let children = children(&request, &[]);
        let value = exception.to_value();
        let failed = State::Failure;
        let is_done = self
            .store(&request, failed, value.clone(), Some(&traceback), children)
            .await
            && self.fail_chain(&request, &value, &traceback).await
            && self.send_all(follow_ups).await;
        if !is_done {
            return self.give_back(request).await;
        }
        request.subject().failed(&exception, &traceback);
        self.ack(&mut request).await;
    }

    /// Sends the message again under the same id, before this delivery is acknowledged.
    async fn retry(&self, mut request: Request, retry: Retry) {
        let headers = &request.message().headers;
        let count = headers.retries.saturating_add(1);
        let max = u64::from(retry.max_retries.unwrap_or(DEFAULT_MAX_RETRIES));
        if !retry.is_uncounted && count > max {
            let exception = retry
                .exception
                .unwrap_or_else(|| exceeded(request.message()));
            return self.fail(request, exception, None).await;
        }
        let countdown = retry.countdown.unwrap_or(DEFAULT_RETRY_DELAY);
        let eta = retry.eta.unwrap_or_else(|| clock::now() + countdown);
        let mut message = again(request.message(), eta);
        if !retry.is_uncounted {
            message.headers.retries = count;
        }
        let queue = request.queue().to_owned();
        // Celery counts the message of a retry among the task's children.
        let follow_ups = vec![FollowUp::alone(message, queue)];
        let children = children(&request, &follow_ups);
        if !self.send_all(follow_ups).await {
            return self.give_back(request).await;
        }
        let cause = retry.exception.as_ref();
        let value = cause.map_or(Value::Null, TaskException::to_value);
        let traceback = cause.map(one_line);
        self.store(
            &request,
            State::Retry,
            value,
            traceback.as_deref(),
            children,
        )
        .await;
        let when = match retry.eta {
            Some(eta) => format!("at {}", timestamp::isoformat(eta)),
            None => format!("in {}s", repr::repr_value(&seconds(countdown))),
        };
        request.subject().retried(&when, cause);
        self.ack(&mut request).await;
    }

    async fn reject(&self, mut request: Request, reason: &str, requeue: bool) {
        request.subject().rejected(reason, requeue);
        if requeue {
            self.requeue(&mut request, QueueEnd::Back).await;
            return;
        }
        let value = TaskException::reject(Value::from(reason), false).to_value();
        let children = Value::Array(Vec::new());
        let is_stored = self.store(&request, State::Failure, value, None, children);
        if !is_stored.await {
            return self.give_back(request).await;
        }
        self.ack(&mut request).await;
    }

    /// A task that must not run any more: its time has passed, or it was revoked.
    pub(super) async fn discard(&self, request: Request, reason: &str) {
        // Before a task has a slot, Celery's main process speaks of it.
        let subject = request.subject();
        log_lines::in_process_sync(log_lines::MAIN_PROCESS.to_owned(), || subject.discarded());
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
                let is_ours = self.held.ack(delivery).is_ours().await;
                failpoint("after_ack");
                if is_ours && request.is_suspect() {
                    self.forgive(&request.message().headers.id).await;
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
            log::debug!("could not forget the deaths of {id}: {error}");
        }
    }

    /// The end could not be written down before a stop: the task will run again, if it was not
    /// acknowledged before.
    async fn give_back(&self, mut request: Request) {
        if !self.requeue(&mut request, QueueEnd::Front).await {
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
    async fn send_all(&self, follow_ups: Vec<FollowUp>) -> bool {
        for FollowUp { message, queue, .. } in follow_ups {
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
        }
        true
    }
}

/// The message of a retry; everything that it does not change travels on, known or not.
fn again(sent: &TaskMessage, eta: DateTime<Utc>) -> TaskMessage {
    let mut message = sent.clone();
    let headers = &mut message.headers;
    headers.parent_id = Some(headers.id.clone());
    headers.eta = Some(timestamp::isoformat(eta));
    headers.ignore_result = Some(headers.ignore_result.unwrap_or(false));
    let properties = &mut message.properties;
    properties.expiration = sent
        .headers
        .expires_time()
        .ok()
        .flatten()
        .map(|expires| expiration(expires, clock::now()));
    // Celery passes the option `origin` on to kombu too, which takes it for a property.
    properties
        .extra
        .insert("origin".to_owned(), json!(headers.origin));
    message
}

/// What the task has sent, and what follows it: `[[id, parent], null]` each, and for a group its members
/// instead of the null.
fn children(request: &Request, follow_ups: &[FollowUp]) -> Value {
    let child = |id: &str| json!([[id, null], null]);
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

/// Counterpart: `Task.MaxRetriesExceededError` as `Task.retry` raises it.
fn exceeded(message: &TaskMessage) -> TaskException {
    let headers = &message.headers;
    TaskException::max_retries_exceeded(format!(
        "Can't retry {}[{}] args:{} kwargs:{}",
        headers.task,
        headers.id,
        repr::repr_tuple(&message.args),
        repr::repr_value(&Value::Object(message.kwargs.clone())),
    ))
}

/// Stands for the traceback that a Rust task does not have.
fn one_line(exception: &TaskException) -> String {
    let module = exception.exc_module.as_deref();
    let module = module.filter(|module| *module != "builtins");
    let prefix = module.map_or_else(String::new, |module| format!("{module}."));
    format!("{prefix}{}: {}\n", exception.exc_type, exception.display())
}

/// Seconds as Python would print them: `10`, or `1.5`.
fn seconds(duration: Duration) -> Value {
    if duration.subsec_nanos() == 0 {
        json!(duration.as_secs())
    } else {
        json!(duration.as_secs_f64())
    }
}
