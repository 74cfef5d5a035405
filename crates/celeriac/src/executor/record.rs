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
        let mut meta = request.context().author().document(status, result);
        meta.traceback = traceback.map(ToOwned::to_owned);
        meta.children = children;
        Box::pin(async move { self.persist(&meta).await }).await
    }

    /// What would have come next in the chain fails as well: whoever waits for the last one must hear of it, and so must
    /// a chord that one of them is a part of. `false` when a stop came first.
    pub(super) async fn fail_chain(&self, request: &Request, failed: &Failed) -> bool {
        let chain = request.message().embed.chain.clone().unwrap_or_default();
        let is_stored = Self::is_stored(request, &State::Failure);
        let is_again = request.context().is_redelivered();
        let by = Some(request.message());
        Box::pin(self.fail_all(chain, failed, is_stored, is_again, by)).await
    }

    /// See [`Self::fail_chain`]; the chain is in reverse, as it is passed on. Counterpart: `Backend._fail_chain`.
    pub(super) async fn fail_all(
        &self,
        mut chain: Vec<Signature>,
        failed: &Failed,
        is_stored: bool,
        is_again: bool,
        by: Option<&TaskMessage>,
    ) -> bool {
        // The end of the chain, which is waited for, comes last: who hears of it finds all the others failed too. Of a
        // chord in it that is the body.
        chain.reverse();
        let mut left = VecDeque::from(chain);
        while let Some(signature) = left.pop_front() {
            let options = &signature.options;
            let option = |key: &str| options.get(key).and_then(Value::as_str);
            if let Some(id) = signature.task_id() {
                if is_stored && !self.store_unsent(id, failed, Some(&signature)).await {
                    return false;
                }
                let chord = signatures(options.get("chord"));
                if let (Some(body), Some(group)) = (chord.first(), option("group_id")) {
                    let part = Part {
                        group,
                        task_id: id,
                        index: options.get("group_index").and_then(Value::as_i64),
                        state: failed.state.clone(),
                        result: &failed.exception.to_value(),
                        is_again,
                    };
                    if !Box::pin(self.count(&part, body, by)).await {
                        return false;
                    }
                }
            }
            if signature.subtask_type.as_deref() == Some("chord") {
                left.extend(signatures(signature.kwargs.get("body")));
            }
        }
        true
    }

    /// Stores the failure of a task that was never sent.
    pub(super) async fn store_unsent(
        &self,
        id: &str,
        failed: &Failed,
        signature: Option<&Signature>,
    ) -> bool {
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
        self.persist(&meta).await
    }

    fn is_stored(request: &Request, status: &State) -> bool {
        let is_error = matches!(status, State::Failure | State::Revoked | State::Retry);
        let is_wanted = is_error && request.options().store_errors_even_if_ignored;
        is_wanted || !request.ignores_result()
    }

    async fn persist(&self, meta: &TaskMeta) -> bool {
        let what = || format!("cannot store the result of {}", shown(&meta.task_id));
        let store = || self.app.backend().store(meta);
        self.until_answered(what, store).await.is_some()
    }
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
