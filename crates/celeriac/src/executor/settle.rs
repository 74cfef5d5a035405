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
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use celeriac_protocol::{repr, timestamp};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Executor, Request};
use crate::backoff::Backoff;
use crate::canvas::{self, FollowUp};
use crate::clock;
use crate::handler::{DEFAULT_MAX_RETRIES, DEFAULT_RETRY_DELAY, Outcome, Retry};
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
        let children = children(&request, &follow_ups);
        let value = exception.to_value();
        let is_stored = self.store(&request, State::Failure, value, Some(&traceback), children);
        if !is_stored.await || !self.send_all(follow_ups).await {
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
        if !self.send_all(vec![FollowUp { message, queue }]).await {
            return self.give_back(request).await;
        }
        let cause = retry.exception.as_ref();
        let value = cause.map_or(Value::Null, TaskException::to_value);
        let traceback = cause.map(one_line);
        let children = children(&request, &[]);
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
            if let Some(delivery) = request.take_delivery() {
                self.held.requeue(vec![delivery], QueueEnd::Back).await;
            }
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

    /// A task whose time has passed before it could run.
    pub(super) async fn discard(&self, mut request: Request) {
        request.subject().discarded();
        let value = TaskException::task_revoked("expired").to_value();
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
            Some(delivery) => self.held.ack(delivery).await,
            None => true,
        }
    }

    /// The end could not be written down before a stop: the task will run again, if it was not
    /// acknowledged before.
    async fn give_back(&self, mut request: Request) {
        match request.take_delivery() {
            Some(delivery) => {
                self.held.requeue(vec![delivery], QueueEnd::Front).await;
            }
            None => request.subject().unrecorded(),
        }
    }

    /// Sends until the broker has everything; `false` when a stop came first.
    async fn send_all(&self, follow_ups: Vec<FollowUp>) -> bool {
        for FollowUp { message, queue } in follow_ups {
            let mut backoff = Backoff::new();
            while let Err(error) = self.app.publish(&message, &queue).await {
                if backoff.is_worth_mentioning() {
                    log::warn!(
                        "cannot send {} to the broker, trying again: {error}",
                        message.headers.task
                    );
                }
                if !backoff.wait(&self.patience).await {
                    return false;
                }
            }
        }
        true
    }

    /// Stores until the backend has it; `false` when a stop came first. Where results are ignored,
    /// nothing is stored.
    pub(super) async fn store(
        &self,
        request: &Request,
        status: State,
        result: Value,
        traceback: Option<&str>,
        children: Value,
    ) -> bool {
        let settings = self.app.settings();
        let is_error = matches!(status, State::Failure | State::Revoked);
        let is_wanted = is_error && settings.task_store_errors_even_if_ignored;
        if request.ignores_result(settings) && !is_wanted {
            return true;
        }
        let meta = self.meta(request, status, result, traceback, children);
        let mut backoff = Backoff::new();
        while let Err(error) = self.app.backend().store(&meta).await {
            if backoff.is_worth_mentioning() {
                log::warn!(
                    "cannot store the result of {}, trying again: {error}",
                    meta.task_id
                );
            }
            if !backoff.wait(&self.patience).await {
                return false;
            }
        }
        true
    }

    /// Counterpart: `celery/backends/base.py::Backend._get_result_meta`.
    fn meta(
        &self,
        request: &Request,
        status: State,
        result: Value,
        traceback: Option<&str>,
        children: Value,
    ) -> TaskMeta {
        let message = request.message();
        let headers = &message.headers;
        let is_ready = status.is_ready();
        let mut meta = TaskMeta::new(&headers.id, status, result);
        meta.traceback = traceback.map(ToOwned::to_owned);
        meta.children = children;
        meta.date_done = is_ready.then(|| timestamp::isoformat(clock::now()));
        meta.group_id = headers.group.clone();
        meta.parent_id = headers.parent_id.clone();
        if self.app.settings().result_extended {
            let extra = [
                ("name", json!(headers.task)),
                ("args", json!(message.args)),
                ("kwargs", json!(message.kwargs)),
                ("worker", json!(self.hostname)),
                ("retries", json!(headers.retries)),
                ("queue", json!(request.queue())),
            ];
            meta.extra = extra
                .map(|(key, value)| (key.to_owned(), value))
                .into_iter()
                .collect();
        }
        meta
    }
}

/// The message of a retry; everything that it does not change travels on, known or not.
fn again(sent: &TaskMessage, eta: DateTime<Utc>) -> TaskMessage {
    let mut message = sent.clone();
    let headers = &mut message.headers;
    headers.parent_id = Some(headers.id.clone());
    headers.eta = Some(timestamp::isoformat(eta));
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

/// What the task has sent, and what follows it: `[[id, parent], null]` each.
fn children(request: &Request, follow_ups: &[FollowUp]) -> Value {
    let sent = request.context().take_children();
    let following = follow_ups
        .iter()
        .map(|next| next.message.headers.id.clone());
    let ids = sent.into_iter().chain(following);
    ids.map(|id| json!([[id, null], null])).collect()
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
