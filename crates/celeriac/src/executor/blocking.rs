//! Work off the engine's thread: tasks that may hold up others, and CPU work off the async threads.

use std::panic::resume_unwind;

use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::panics::Witness;
use crate::context::Context;
use crate::handler::Outcome;
use crate::log_lines;

/// The work was not done: the runtime is ending.
#[derive(Debug, thiserror::Error)]
#[error("the worker is ending; the work was not started")]
pub struct BlockingError;

/// Runs `work` on a thread of its own and waits for it. Within a worker, as much of it runs at a time as the worker has
/// slots, or the machine CPUs. Within a task, `work` gets the token that is done when the run is to end at once; look at
/// it every few milliseconds: a thread that never does cannot be ended. A panic in `work` goes on in the caller.
///
/// # Cancel safety
/// Dropping the future does not end the work; the token does.
///
/// # Errors
/// The runtime is ending.
pub async fn blocking<R, F>(work: F) -> Result<R, BlockingError>
where
    F: FnOnce(CancellationToken) -> R + Send + 'static,
    R: Send + 'static,
{
    let (cancelled, place, runtime) = match Context::current() {
        Some(context) => {
            let threads = context.threads();
            let place = threads.work().await;
            (
                context.cancelled().clone(),
                place,
                threads.runtime().clone(),
            )
        }
        None => (CancellationToken::new(), None, Handle::current()),
    };
    let name = log_lines::process_name();
    let witness = Witness::current();
    let work = move || {
        let _place = place;
        witness.sync_scope(|| work(cancelled))
    };
    let thread = runtime.spawn_blocking(move || log_lines::in_process_sync(name, work));
    thread.await.map_err(unwound)
}

/// Runs a task's future on the runtime of tasks, so that what it does between its awaits holds up other tasks at most.
///
/// # Cancel safety
/// Dropping the future ends the task at its next await.
pub(super) async fn beside_the_engine(
    context: Context,
    future: impl Future<Output = Outcome> + Send + 'static,
) -> Outcome {
    let runtime = context.threads().runtime().clone();
    let run = log_lines::in_process(log_lines::process_name(), context.scope(future));
    let run = AbortOnDropHandle::new(runtime.spawn(run));
    // The runtime ends only after the executor, so the outcome of that is seen by nobody.
    run.await.map_err(unwound).unwrap_or(Outcome::Ignore)
}

/// Runs a task's future on a thread of its own, so that one that never yields holds up nothing else.
pub(crate) async fn on_own_thread(
    context: Context,
    future: impl Future<Output = Outcome> + Send + 'static,
) -> Outcome {
    let runtime = context.threads().runtime().clone();
    let name = log_lines::process_name();
    let cancelled = context.cancelled().clone();
    let place = context.take_thread();
    let run = Witness::current().scope(context.scope(future));
    let run = log_lines::in_process(name, run);
    let thread = runtime.clone().spawn_blocking(move || {
        // Given up when the thread ends, which may be long after the run was given up.
        let _place = place;
        runtime.block_on(async {
            tokio::select! {
                biased;
                outcome = run => outcome,
                // Given up; the executor has stopped waiting for the outcome.
                () = cancelled.cancelled() => Outcome::Ignore,
            }
        })
    });
    // The runtime ends only after the executor, so the outcome of that is seen by nobody.
    thread.await.map_err(unwound).unwrap_or(Outcome::Ignore)
}

fn unwound(error: JoinError) -> BlockingError {
    match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_ending) => BlockingError,
    }
}
