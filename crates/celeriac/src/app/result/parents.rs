//! Those that came before a result: where one of them has failed, nothing comes of what follows.
//!
//! A failure is passed on to all that follows, but as another one (the body of a chord gets a `ChordError`), and a task that
//! was revoked passes nothing on. So whoever waits is told of the first that has failed.
//!
//! Counterpart: `AsyncResult._maybe_reraise_parent_error` in `celery/result.py` @ 5.7.0. Deliberate difference: Celery asks
//! for each of them again and again, and which failure it finds is a matter of time. Here tasks are listened to, the
//! members of a header are asked when what follows has failed, and the first that has failed is told.

use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use serde_json::Value;

use super::{AsyncResult, ResultError, ResultNode, error};

/// So many are asked at a time.
const ASKED_AT_A_TIME: usize = 64;

/// Waits for what comes of `own`, unless one of those before it has failed.
pub(super) async fn followed(
    parent: Option<&ResultNode>,
    own: impl Future<Output = Result<Value, ResultError>>,
) -> Result<Value, ResultError> {
    let Some(parent) = parent else {
        return own.await;
    };
    let mut before: Vec<&ResultNode> =
        std::iter::successors(Some(parent), |node| node.parent()).collect();
    before.reverse();
    let tasks = before.iter().filter_map(|node| node.as_task());
    let tasks: Vec<AsyncResult> = tasks.cloned().collect();
    let ended = tokio::select! {
        biased;
        ended = own => ended,
        failure = failure_of(tasks) => Err(failure),
    };
    match ended {
        Err(failure) if failure.exception().is_some() => {
            let all = before.iter().flat_map(|node| node.tasks()).collect();
            Err(first_failure(all).await.unwrap_or(failure))
        }
        ended => ended,
    }
}

/// Waits until one of them fails.
async fn failure_of(tasks: Vec<AsyncResult>) -> ResultError {
    let waits = tasks
        .into_iter()
        .map(|task| async move { task.ready_meta().await });
    let mut waits: FuturesUnordered<_> = waits.collect();
    while let Some(ended) = waits.next().await {
        // What the backend cannot tell, whoever waits for the result itself is told.
        if let Ok(meta) = ended
            && let Err(failure) = error::outcome(meta)
        {
            return failure;
        }
    }
    std::future::pending().await
}

/// The first in the list that has failed by now.
async fn first_failure(tasks: Vec<AsyncResult>) -> Option<ResultError> {
    let metas = stream::iter(tasks).map(|task| async move { task.meta().await });
    let mut metas = metas.buffered(ASKED_AT_A_TIME);
    while let Some(meta) = metas.next().await {
        if let Ok(Some(meta)) = meta
            && let Err(failure) = error::outcome(meta)
        {
            return Some(failure);
        }
    }
    None
}
