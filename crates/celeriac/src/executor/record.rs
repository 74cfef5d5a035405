//! Writing down where a task stands, in the result backend.
//!
//! Counterpart: `celery/backends/base.py` (`mark_as_failure`, `_fail_chain`, `_get_result_meta`) @ 5.7.0.

use std::collections::VecDeque;

use celeriac_protocol::Map;
use celeriac_protocol::canvas::Signature;
use celeriac_protocol::exception::TaskException;
use celeriac_protocol::message::TaskMessage;
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use celeriac_protocol::timestamp;
use serde_json::{Value, json};

use super::{Executor, Request};
use crate::backend::{Part, map};
use crate::clock;
use crate::log_lines::shown;
use crate::traceback;

impl Executor {
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
        if !Self::is_stored(request, &status) {
            return true;
        }
        let is_first = status == State::Success && !request.may_have_a_state();
        let meta = document(request, status, result, traceback, children);
        Box::pin(async move {
            match is_first {
                true => self.persist_first(&meta).await,
                false => self.persist(&[meta]).await,
            }
        })
        .await
    }

    /// Stores the failure of a task, and of what would have come next in its chain: whoever waits for the last one must
    /// hear of it. All in one step: Celery's clients look at a chain's tasks one by one, ask to be told of the next one, and
    /// look, by two connections; the server may hear the second first, and what is told in between is never heard.
    /// `false` when a stop came first. Counterpart: `Backend.mark_as_failure` and `Backend._fail_chain`.
    pub(super) async fn store_failure(
        &self,
        request: &Request,
        failed: &Failed,
        rest: &[Signature],
        children: Value,
    ) -> bool {
        if !Self::is_stored(request, &State::Failure) {
            return true;
        }
        let traceback = failed.traceback.as_deref();
        let value = failed.exception.to_value();
        let mut metas = vec![document(
            request,
            State::Failure,
            value,
            traceback,
            children,
        )];
        metas.extend(self.unsent_chain(rest, failed));
        Box::pin(async move { self.persist(&metas).await }).await
    }

    /// The chain of a body that fails does so too; it is in reverse, as it is passed on. `false` when a stop came first.
    pub(super) async fn fail_all(
        &self,
        chain: Vec<Signature>,
        failed: &Failed,
        is_again: bool,
        by: Option<&TaskMessage>,
    ) -> bool {
        let rest = in_order(chain);
        let metas: Vec<TaskMeta> = self.unsent_chain(&rest, failed).collect();
        self.persist(&metas).await && self.count_parts(&rest, failed, is_again, by).await
    }

    fn unsent_chain(&self, rest: &[Signature], failed: &Failed) -> impl Iterator<Item = TaskMeta> {
        rest.iter().filter_map(|signature| {
            let id = signature.task_id()?;
            Some(self.unsent(id, failed, Some(signature)))
        })
    }

    /// A chord that one of what would have come next is a part of must hear of it. `false` when a stop came first.
    pub(super) async fn count_parts(
        &self,
        rest: &[Signature],
        failed: &Failed,
        is_again: bool,
        by: Option<&TaskMessage>,
    ) -> bool {
        for signature in rest {
            let options = &signature.options;
            let chord = signatures(options.get("chord"));
            let group = options.get("group_id").and_then(Value::as_str);
            let (Some(task_id), Some(body), Some(group)) =
                (signature.task_id(), chord.first(), group)
            else {
                continue;
            };
            let part = Part {
                group,
                task_id,
                index: options.get("group_index").and_then(Value::as_i64),
                state: failed.state.clone(),
                result: &failed.exception.to_value(),
                is_again,
            };
            if !Box::pin(self.count(&part, body, by)).await {
                return false;
            }
        }
        true
    }

    /// Stores the failure of a task that was never sent.
    pub(super) async fn store_unsent(&self, id: &str, failed: &Failed) -> bool {
        self.persist(&[self.unsent(id, failed, None)]).await
    }

    fn unsent(&self, id: &str, failed: &Failed, signature: Option<&Signature>) -> TaskMeta {
        let mut meta = TaskMeta::new(id, failed.state.clone(), failed.exception.to_value());
        meta.traceback.clone_from(&failed.traceback);
        meta.date_done = Some(timestamp::isoformat(clock::now()));
        if let Some(signature) = signature {
            let option = |key: &str| signature.options.get(key).and_then(Value::as_str);
            meta.group_id = option("group_id").map(ToOwned::to_owned);
            meta.parent_id = option("parent_id").map(ToOwned::to_owned);
            if self.app.settings().result_extended {
                meta.extra = extended_unsent(signature);
            }
        }
        meta
    }

    fn is_stored(request: &Request, status: &State) -> bool {
        let is_error = matches!(status, State::Failure | State::Revoked | State::Retry);
        let is_wanted = is_error && request.options().store_errors_even_if_ignored;
        is_wanted || !request.ignores_result()
    }

    async fn persist(&self, metas: &[TaskMeta]) -> bool {
        let id = || metas.first().map_or("", |meta| &meta.task_id);
        let store = || self.app.backend().store(metas);
        self.until_answered(|| cannot_store(id()), store)
            .await
            .is_some()
    }

    async fn persist_first(&self, success: &TaskMeta) -> bool {
        let store = || self.app.backend().store_first(success);
        self.until_answered(|| cannot_store(&success.task_id), store)
            .await
            .is_some()
    }
}

fn cannot_store(id: &str) -> String {
    format!("cannot store the result of {}", shown(id))
}

fn document(
    request: &Request,
    status: State,
    result: Value,
    traceback: Option<&str>,
    children: Value,
) -> TaskMeta {
    let mut meta = request.context().author().document(status, result);
    meta.traceback = traceback.map(ToOwned::to_owned);
    meta.children = children;
    meta
}

/// What would have come next in the chain of a task.
pub(super) fn rest(message: &TaskMessage) -> Vec<Signature> {
    in_order(message.embed.chain.clone().unwrap_or_default())
}

/// A chain as it is passed on is in reverse. Its end, which is waited for, comes last; of a chord in it that is the body.
fn in_order(mut chain: Vec<Signature>) -> Vec<Signature> {
    chain.reverse();
    let mut left = VecDeque::from(chain);
    let mut rest = Vec::with_capacity(left.len());
    while let Some(signature) = left.pop_front() {
        if signature.subtask_type.as_deref() == Some("chord") {
            left.extend(signatures(signature.kwargs.get("body")));
        }
        rest.push(signature);
    }
    rest
}

/// A failure that others must hear of.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) state: State,
    pub(super) exception: TaskException,
    pub(super) traceback: Option<String>,
    /// What has made it fail.
    cause: Option<TaskException>,
}

impl Failed {
    pub(super) fn new(exception: TaskException) -> Self {
        Self {
            state: State::Failure,
            exception,
            traceback: None,
            cause: None,
        }
    }

    pub(super) fn with_traceback(mut self, traceback: Option<&str>) -> Self {
        self.traceback = traceback.map(ToOwned::to_owned);
        self
    }

    /// A chord whose body cannot run.
    pub(super) fn chord(text: impl Into<String>) -> Self {
        let exception = TaskException::chord_error(text);
        let traceback = Some(traceback::one_line(&exception));
        Self {
            traceback,
            ..Self::new(exception)
        }
    }

    /// A chord with a task in its header that has failed.
    pub(super) fn dependency(id: &str, cause: TaskException) -> Self {
        let text = format!("Dependency {id} raised {}", cause.repr());
        Self::chord(text).because(cause)
    }

    pub(super) fn because(self, cause: TaskException) -> Self {
        Self {
            cause: Some(cause),
            ..self
        }
    }

    /// What has made it fail.
    pub(super) fn original(&self) -> Self {
        match &self.cause {
            Some(cause) => Self {
                traceback: Some(traceback::one_line(cause)),
                ..Self::new(cause.clone())
            },
            None => self.clone(),
        }
    }
}

/// The signatures that an option has: one, several, none. What is none is left out, as there is nobody to tell.
pub(super) fn signatures(value: Option<&Value>) -> Vec<Signature> {
    let list = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
    };
    let read = list.into_iter().map(Signature::from_value);
    read.filter_map(Result::ok).collect()
}

/// What is known of a task of a chain that was never sent.
fn extended_unsent(signature: &Signature) -> Map {
    map([
        ("name", json!(signature.task)),
        ("args", json!(signature.args)),
        ("kwargs", json!(signature.kwargs)),
        ("worker", Value::Null),
        ("retries", json!(0)),
        ("queue", Value::Null),
    ])
}
