//! The log lines of a worker, in Celery's words: other people's tools parse them.
//!
//! Counterpart: `celery/app/trace.py` (`LOG_*`), `celery/worker/strategy.py` and
//! `celery/worker/consumer/consumer.py` @ 5.7.0.

use std::time::Duration;

use celeriac_protocol::exception::TaskException;
use celeriac_protocol::repr;
use log::{error, info, warn};
use serde_json::{Value, json};

tokio::task_local! {
    static PROCESS_NAME: String;
}

/// What stands behind the level in a log line: `MainProcess`, or `ForkPoolWorker-<slot>` inside a task.
/// There are no processes here; the names are those that log rules know.
pub fn process_name() -> String {
    PROCESS_NAME
        .try_with(Clone::clone)
        .unwrap_or_else(|_| "MainProcess".to_owned())
}

/// The name of a slot, counted from 1.
pub(crate) fn slot_name(slot: usize) -> String {
    format!("ForkPoolWorker-{slot}")
}

/// Runs a future under this process name.
pub(crate) async fn in_process<F: Future>(name: String, future: F) -> F::Output {
    PROCESS_NAME.scope(name, future).await
}

/// Runs a function under this process name.
pub(crate) fn in_process_sync<R>(name: String, function: impl FnOnce() -> R) -> R {
    PROCESS_NAME.sync_scope(name, function)
}

/// Which task a line is about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) id: String,
}

impl Subject {
    pub(crate) fn received(&self) {
        let Self { name, id } = self;
        info!(task_name = name.as_str(), task_id = id.as_str(); "Task {name}[{id}] received");
    }

    pub(crate) fn succeeded(&self, runtime: Duration, result: &Value) {
        let Self { name, id } = self;
        let seconds = repr::repr_value(&json!(runtime.as_secs_f64()));
        // Celery writes line ends in texts as they are; here one task is one line.
        let result = repr::saferepr(result)
            .replace('\n', "\\n")
            .replace('\r', "\\r");
        info!(task_name = name.as_str(), task_id = id.as_str(), runtime = runtime.as_secs_f64();
            "Task {name}[{id}] succeeded in {seconds}s: {result}");
    }

    pub(crate) fn failed(&self, exception: &TaskException, traceback: &str) {
        let Self { name, id } = self;
        let exception = exception.repr();
        let traceback = traceback.trim_end();
        error!(task_name = name.as_str(), task_id = id.as_str();
            "Task {name}[{id}] raised unexpected: {exception}\n{traceback}");
    }

    pub(crate) fn retried(&self, when: &str, exception: Option<&TaskException>) {
        let Self { name, id } = self;
        let cause = exception.map_or_else(String::new, |cause| format!(": {}", cause.repr()));
        info!(task_name = name.as_str(), task_id = id.as_str();
            "Task {name}[{id}] retry: Retry {when}{cause}");
    }

    pub(crate) fn ignored(&self) {
        let Self { name, id } = self;
        info!(task_name = name.as_str(), task_id = id.as_str(); "Task {name}[{id}] ignored");
    }

    pub(crate) fn rejected(&self, reason: &str, requeue: bool) {
        let Self { name, id } = self;
        let requeue = repr::repr_value(&Value::Bool(requeue));
        warn!(task_name = name.as_str(), task_id = id.as_str();
            "Task {name}[{id}] reject requeue={requeue}: {reason}");
    }

    pub(crate) fn discarded(&self) {
        let Self { name, id } = self;
        info!(task_name = name.as_str(), task_id = id.as_str(); "Discarding revoked task: {name}[{id}]");
    }

    pub(crate) fn lost(&self) {
        let Self { name, id } = self;
        warn!(task_name = name.as_str(), task_id = id.as_str();
            "Task {name}[{id}] was taken over by another worker, or removed from the broker; its run here is cancelled");
    }

    pub(crate) fn internal_error(&self, text: &str) {
        let Self { name, id } = self;
        error!(task_name = name.as_str(), task_id = id.as_str(); "Task {name}[{id}] INTERNAL ERROR: {text}");
    }

    /// A task that was acknowledged before it ran, whose end could not be written down.
    pub(crate) fn unrecorded(&self) {
        let Self { name, id } = self;
        error!(task_name = name.as_str(), task_id = id.as_str();
            "Task {name}[{id}] has run, but its result is lost: the worker stops, and broker or backend is away");
    }

    /// A task that this worker cannot run; Celery's first sentence, then what becomes of the message.
    pub(crate) fn not_ours(&self, why: &str, delay: Duration) {
        let Self { name, id } = self;
        error!(task_name = name.as_str(), task_id = id.as_str();
            "{why} Message {id} is handed back to its queue in {} s.", delay.as_secs());
    }
}
