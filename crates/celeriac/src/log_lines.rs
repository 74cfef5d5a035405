//! The log lines of a worker, in Celery's words: other people's tools parse them.
//!
//! Counterpart: `celery/app/trace.py` (`LOG_*`), `celery/worker/strategy.py` and
//! `celery/worker/consumer/consumer.py` @ 5.7.0.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use celeriac_protocol::exception::TaskException;
use celeriac_protocol::{Map, repr};
use log::{Level, error, info, log_enabled, warn};
use serde_json::{Value, json};

/// What stands behind the level where no task runs.
pub(crate) const MAIN_PROCESS: &str = "MainProcess";

tokio::task_local! {
    static PROCESS_NAME: Arc<str>;
}

/// What stands behind the level in a log line: `MainProcess`, or `ForkPoolWorker-<slot>` inside a task.
/// There are no processes here; the names are those that log rules know.
pub fn process_name() -> String {
    PROCESS_NAME
        .try_with(ToString::to_string)
        .unwrap_or_else(|_| MAIN_PROCESS.to_owned())
}

/// The name of a slot, counted from 1.
pub(crate) fn slot_name(slot: usize) -> Arc<str> {
    format!("ForkPoolWorker-{slot}").into()
}

/// The name outside of the slots.
pub(crate) fn main_process() -> Arc<str> {
    static NAME: LazyLock<Arc<str>> = LazyLock::new(|| MAIN_PROCESS.into());
    Arc::clone(&NAME)
}

/// Runs a future under this process name.
pub(crate) async fn in_process<F: Future>(name: impl Into<Arc<str>>, future: F) -> F::Output {
    PROCESS_NAME.scope(name.into(), future).await
}

/// Runs a function under this process name.
pub(crate) fn in_process_sync<R>(name: impl Into<Arc<str>>, function: impl FnOnce() -> R) -> R {
    PROCESS_NAME.sync_scope(name.into(), function)
}

/// Characters of a name or an id that are shown; no honest one is longer.
const SHOWN_MAX: usize = 255;

/// Characters of a reason that are shown.
const REASON_MAX: usize = 1000;

/// Which task a line is about: its name and id such as they may stand in a line. They come from a message, and must
/// neither end the line, nor command a terminal, nor fill the disk.
#[derive(Debug, Clone)]
pub(crate) struct Subject<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) id: Cow<'a, str>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(name: &'a str, id: &'a str) -> Self {
        Self {
            name: shown(name),
            id: shown(id),
        }
    }

    pub(crate) fn received(&self) {
        let Self { name, id } = self;
        info!(task_name = &**name, task_id = &**id; "Task {name}[{id}] received");
    }

    pub(crate) fn succeeded(&self, runtime: Duration, result: &Value) {
        // What a result looks like is not asked for nothing.
        if !log_enabled!(Level::Info) {
            return;
        }
        let Self { name, id } = self;
        let seconds = repr::repr_value(&json!(runtime.as_secs_f64()));
        // Celery writes line ends in texts as they are; here one task is one line.
        let result = repr::saferepr(result);
        let result = printable(&result, usize::MAX);
        info!(task_name = &**name, task_id = &**id, runtime = runtime.as_secs_f64();
            "Task {name}[{id}] succeeded in {seconds}s: {result}");
    }

    /// `is_expected`: the task says that this belongs to its business.
    pub(crate) fn failed(&self, exception: &TaskException, traceback: &str, is_expected: bool) {
        let Self { name, id } = self;
        let exception = exception.repr();
        if is_expected {
            return info!(task_name = &**name, task_id = &**id;
                "Task {name}[{id}] raised expected: {exception}");
        }
        let traceback = traceback.trim_end();
        error!(task_name = &**name, task_id = &**id;
            "Task {name}[{id}] raised unexpected: {exception}\n{traceback}");
    }

    pub(crate) fn exceeded_soft(&self, limit: &Value) {
        let Self { name, id } = self;
        let limit = repr::repr_value(limit);
        warn!(task_name = &**name, task_id = &**id; "Soft time limit ({limit}s) exceeded for {name}[{id}]");
    }

    pub(crate) fn exceeded_hard(&self, limit: &Value) {
        let Self { name, id } = self;
        let limit = repr::repr_value(limit);
        error!(task_name = &**name, task_id = &**id; "Hard time limit ({limit}s) exceeded for {name}[{id}]");
    }

    pub(crate) fn already_succeeded(&self) {
        let Self { name, id } = self;
        info!(task_name = &**name, task_id = &**id; "Task {name}[{id}] Task already completed successfully.");
    }

    pub(crate) fn retried(&self, when: &str, exception: Option<&TaskException>) {
        let Self { name, id } = self;
        let cause = exception.map_or_else(String::new, |cause| format!(": {}", cause.repr()));
        info!(task_name = &**name, task_id = &**id;
            "Task {name}[{id}] retry: Retry {when}{cause}");
    }

    pub(crate) fn ignored(&self) {
        let Self { name, id } = self;
        info!(task_name = &**name, task_id = &**id; "Task {name}[{id}] ignored");
    }

    pub(crate) fn rejected(&self, reason: &str, requeue: bool) {
        let Self { name, id } = self;
        let requeue = repr::repr_value(&Value::Bool(requeue));
        let reason = printable(reason, REASON_MAX);
        warn!(task_name = &**name, task_id = &**id;
            "Task {name}[{id}] reject requeue={requeue}: {reason}");
    }

    /// `stamp`: the name and the value for which it was revoked, if it was for one.
    pub(crate) fn discarded(&self, stamp: Option<&Map>) {
        let Self { name, id } = self;
        let cause = stamp.map_or_else(String::new, |stamp| {
            let stamp = repr::repr_value(&Value::Object(stamp.clone()));
            format!(" (revoked by header: {})", printable(&stamp, REASON_MAX))
        });
        info!(task_name = &**name, task_id = &**id; "Discarding revoked task: {name}[{id}]{cause}");
    }

    pub(crate) fn terminated(&self) {
        let Self { name, id } = self;
        info!(task_name = &**name, task_id = &**id; "Task {name}[{id}] was terminated by remote control");
    }

    pub(crate) fn lost(&self) {
        let Self { name, id } = self;
        warn!(task_name = &**name, task_id = &**id;
            "Task {name}[{id}] was taken over by another worker, or removed from the broker; its run here is cancelled");
    }

    /// A task whose earlier starts have ended in the death of the worker.
    pub(crate) fn runs_alone(&self) {
        let Self { name, id } = self;
        warn!(task_name = &**name, task_id = &**id;
            "Task {name}[{id}] runs alone: a worker died while it ran");
    }

    pub(crate) fn internal_error(&self, text: &str) {
        let Self { name, id } = self;
        let text = printable(text, REASON_MAX);
        error!(task_name = &**name, task_id = &**id; "Task {name}[{id}] INTERNAL ERROR: {text}");
    }

    /// A task that was acknowledged before it ran, whose end could not be written down.
    pub(crate) fn unrecorded(&self) {
        let Self { name, id } = self;
        error!(task_name = &**name, task_id = &**id;
            "Task {name}[{id}] has run, but its result is lost: the worker stops, and broker or backend is away");
    }

    /// A task that this worker cannot run; Celery's first sentence, then what becomes of the message.
    pub(crate) fn not_ours(&self, why: &str, delay: Duration) {
        let Self { name, id } = self;
        error!(task_name = &**name, task_id = &**id;
            "{why} Message {id} is handed back to its queue in {} s.", delay.as_secs());
    }
}

/// A panic of ours that is no single task's.
pub(crate) fn internal_error(place: &str, text: &str) {
    let text = printable(text, REASON_MAX);
    error!("INTERNAL ERROR {place}: {text}");
}

/// Text from elsewhere, such as it may stand in a line.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    printable(text, SHOWN_MAX)
}

/// A text such as it may stand in a line: at most so many characters, none of which ends the line or commands a terminal.
pub(crate) fn printable(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most && text.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().min(most));
    let mut characters = text.chars();
    for character in characters.by_ref().take(most) {
        // Unicode has line ends beyond the control characters.
        match character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_message_stays_on_its_line_and_is_cut() {
        let forged = "evil\n[2026-11-26 00:00:00,000: INFO/MainProcess] forged\u{1b}[31m";
        let id = "x".repeat(100_000);
        let subject = Subject::new(forged, &id);
        let name = "evil\\n[2026-11-26 00:00:00,000: INFO/MainProcess] forged\\u{1b}[31m";
        assert_eq!(subject.name, name);
        assert_eq!(subject.id.chars().count(), SHOWN_MAX + 1);
        assert_eq!(Subject::new("proj.ädd", "1").name, "proj.ädd");
    }
}
