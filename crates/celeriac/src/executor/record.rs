//! Writing down where a task stands, in the result backend.
//!
//! Counterpart: `celery/backends/base.py` (`mark_as_failure`, `_fail_chain`, `_get_result_meta`) @ 5.7.0.

use celeriac_protocol::Map;
use celeriac_protocol::canvas::Signature;
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use celeriac_protocol::timestamp;
use serde_json::{Value, json};

use super::{Executor, Request};
use crate::backend::map;
use crate::backoff::Backoff;
use crate::clock;
use crate::log_lines::shown;

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

    /// What would have come next in the chain fails as well: whoever waits for the last one must hear of
    /// it. `false` when a stop came first.
    pub(super) async fn fail_chain(
        &self,
        request: &Request,
        exception: &Value,
        traceback: Option<&str>,
    ) -> bool {
        if !Self::is_stored(request, &State::Failure) {
            return true;
        }
        // The list is in reverse. The end of the chain, which is waited for, comes last: who hears of it
        // finds all the others failed too.
        for signature in request.message().embed.chain.iter().flatten().rev() {
            let Some(id) = signature.task_id() else {
                continue;
            };
            let mut meta = TaskMeta::new(id, State::Failure, exception.clone());
            meta.traceback = traceback.map(ToOwned::to_owned);
            meta.date_done = Some(timestamp::isoformat(clock::now()));
            let option = |key: &str| signature.options.get(key).and_then(Value::as_str);
            meta.group_id = option("group_id").map(ToOwned::to_owned);
            meta.parent_id = option("parent_id").map(ToOwned::to_owned);
            if self.app.settings().result_extended {
                meta.extra = extended_unsent(signature);
            }
            if !self.persist(&meta).await {
                return false;
            }
        }
        true
    }

    fn is_stored(request: &Request, status: &State) -> bool {
        let is_error = matches!(status, State::Failure | State::Revoked | State::Retry);
        let is_wanted = is_error && request.options().store_errors_even_if_ignored;
        is_wanted || !request.ignores_result()
    }

    async fn persist(&self, meta: &TaskMeta) -> bool {
        let mut backoff = Backoff::new();
        while let Err(error) = self.app.backend().store(meta).await {
            if self.patience.is_worth_mentioning() {
                log::warn!(
                    "cannot store the result of {}, trying again: {error}",
                    shown(&meta.task_id)
                );
            }
            if !backoff.wait(&self.patience).await {
                return false;
            }
        }
        true
    }
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
