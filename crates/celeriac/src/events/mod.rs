//! Events: a worker tells monitors (Flower, `celery events`) of its tasks and of itself.
//!
//! Telling costs a task nothing that it could fail by: an event is written into a bounded buffer, or dropped when the
//! broker is away. While nobody has switched the events of tasks on (`-E`, `worker_send_task_events`, remote control),
//! each place in the engine only looks at a flag.
//!
//! - here: what happens to a task.
//! - `buffer`: what waits to be sent.
//! - `sender`: sending it, and the worker's heartbeat.
//! - `sent`: `task-sent`, which whoever sends a task tells.
//!
//! Counterpart: `celery/events/dispatcher.py`, `celery/worker/consumer/events.py` and `Request.send_event` @ 5.7.0.
//! Deliberate differences: `disable_events` works after `-E` too, where Celery says that they were disabled already and
//! goes on; what happens while a worker stops warmly is told, where Celery has closed its dispatcher by then.

mod buffer;
mod sender;
mod sent;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use celeriac_protocol::event::{Event, Origin, TaskCalled, TaskId, TaskRaised};
use celeriac_protocol::exception::TaskException;
use celeriac_protocol::message::TaskMessage;
use celeriac_protocol::{repr, timestamp};
use chrono::{Local, Offset};
use serde_json::Value;

use crate::clock;
use crate::state::WorkerState;
use buffer::Buffer;
pub(crate) use sent::announce_sent;

/// `Heart.interval`: from one heartbeat to the next.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(2);

/// One worker's events. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hostname: String,
    state: WorkerState,
    /// Whether the events of tasks are on.
    tasks: AtomicBool,
    buffer: Buffer,
}

impl Events {
    /// Those of tasks are on from the start, or not.
    pub(crate) fn new(hostname: String, state: WorkerState, tasks: bool) -> Self {
        Self {
            inner: Arc::new(Inner {
                hostname,
                state,
                tasks: AtomicBool::new(tasks),
                buffer: Buffer::default(),
            }),
        }
    }

    /// Switches the events of tasks on or off; `false`: they were already.
    pub(crate) fn switch(&self, tasks: bool) -> bool {
        self.inner.tasks.swap(tasks, Ordering::Relaxed) != tasks
    }

    /// Whether anybody wants to hear of tasks.
    fn is_on(&self) -> bool {
        self.inner.tasks.load(Ordering::Relaxed)
    }

    /// A task was accepted.
    pub(crate) fn received(&self, message: &TaskMessage) {
        if !self.is_on() {
            return;
        }
        let headers = &message.headers;
        let eta = isoformat(headers.eta.as_deref());
        let expires = isoformat(headers.expires.as_deref());
        self.push(&Event::TaskReceived(TaskCalled {
            uuid: &headers.id,
            name: &headers.task,
            args: headers.argsrepr.as_deref().unwrap_or_default(),
            kwargs: headers.kwargsrepr.as_deref().unwrap_or_default(),
            root_id: headers.root_id.as_deref(),
            parent_id: headers.parent_id.as_deref(),
            retries: headers.retries,
            eta: eta.as_deref(),
            expires: expires.as_deref(),
        }));
    }

    /// A task begins to run. Here and below, no id: its task sends no events.
    pub(crate) fn started(&self, uuid: Option<&str>) {
        if let Some(uuid) = self.heard(uuid) {
            self.push(&Event::TaskStarted(TaskId { uuid }));
        }
    }

    /// A task has returned this.
    pub(crate) fn succeeded(&self, uuid: Option<&str>, value: &Value, runtime: Duration) {
        if let Some(uuid) = self.heard(uuid) {
            self.push(&Event::TaskSucceeded {
                uuid,
                result: &repr::saferepr(value),
                runtime: runtime.as_secs_f64(),
            });
        }
    }

    /// A task has failed for good.
    pub(crate) fn failed(&self, uuid: Option<&str>, exception: &TaskException, traceback: &str) {
        if let Some(uuid) = self.heard(uuid) {
            self.push(&Event::TaskFailed(TaskRaised {
                uuid,
                exception: &exception.repr(),
                traceback: Some(traceback),
            }));
        }
    }

    /// A task was sent again; where it named no cause, Celery shows `None`.
    pub(crate) fn retried(
        &self,
        uuid: Option<&str>,
        cause: Option<&TaskException>,
        traceback: Option<&str>,
    ) {
        if let Some(uuid) = self.heard(uuid) {
            let exception = cause.map_or_else(|| "None".to_owned(), TaskException::repr);
            self.push(&Event::TaskRetried(TaskRaised {
                uuid,
                exception: &exception,
                traceback,
            }));
        }
    }

    /// A task will not run, since it was revoked or its time has passed.
    pub(crate) fn revoked(&self, uuid: Option<&str>, expired: bool) {
        if let Some(uuid) = self.heard(uuid) {
            self.push(&Event::TaskRevoked {
                uuid,
                terminated: false,
                signum: None,
                expired,
            });
        }
    }

    /// A running task was ended by remote control, which named this signal.
    pub(crate) fn terminated(&self, uuid: Option<&str>, signum: Option<i64>) {
        if let Some(uuid) = self.heard(uuid) {
            self.push(&Event::TaskRevoked {
                uuid,
                terminated: true,
                signum,
                expired: false,
            });
        }
    }

    /// A task has refused its message.
    pub(crate) fn rejected(&self, uuid: Option<&str>, requeue: bool) {
        if let Some(uuid) = self.heard(uuid) {
            self.push(&Event::TaskRejected { uuid, requeue });
        }
    }

    /// A run is given up by a cold stop.
    pub(crate) fn cancelled(&self, uuid: Option<&str>) {
        if let Some(uuid) = self.heard(uuid) {
            self.push(&Event::TaskCancelled(TaskId { uuid }));
        }
    }

    fn heard<'a>(&self, uuid: Option<&'a str>) -> Option<&'a str> {
        uuid.filter(|_| self.is_on())
    }

    fn push(&self, event: &Event<'_>) {
        self.inner.buffer.push(self.text(event));
    }

    fn text(&self, event: &Event<'_>) -> String {
        event.to_json(&origin(
            &self.inner.hostname,
            self.inner.state.forward_clock(),
        ))
    }
}

/// This process, now.
fn origin(hostname: &str, clock: u64) -> Origin<'_> {
    let now = clock::now();
    let east = now.with_timezone(&Local).offset().fix().local_minus_utc();
    Origin {
        hostname,
        utcoffset: f64::from(-east) / 3600.0,
        pid: std::process::id(),
        clock,
        timestamp: now,
    }
}

/// A time as Python shows it; one that has an offset keeps that, as it does there.
fn isoformat(text: Option<&str>) -> Option<String> {
    let text = text.filter(|text| !text.is_empty())?;
    let offset = text
        .len()
        .checked_sub("+00:00".len())
        .and_then(|at| text.get(at..));
    let has_offset =
        offset.is_some_and(|offset| offset.starts_with(['+', '-']) && offset.contains(':'));
    match (has_offset, timestamp::parse(text)) {
        (false, Ok(time)) => Some(timestamp::isoformat(time)),
        _ => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Settings;
    use crate::lamport::LamportClock;

    fn events(tasks: bool) -> Events {
        let state = WorkerState::load(&Settings::default(), LamportClock::default());
        Events::new("w1@host".to_owned(), state.expect("no file"), tasks)
    }

    #[test]
    fn nothing_is_written_while_nobody_listens() {
        let events = events(false);
        events.started(Some("a"));
        assert!(events.inner.buffer.take().is_none());
        assert_eq!(events.inner.state.clock(), 0);
        assert!(events.switch(true) && !events.switch(true));
        events.started(None);
        events.started(Some("a"));
        let batch = events.inner.buffer.take().expect("an event");
        let told: Value = serde_json::from_str(&batch.list).expect("JSON");
        assert_eq!(told[0]["type"], "task-started");
        assert_eq!(
            (&told[0]["clock"], &told[0]["uuid"]),
            (&Value::from(1), &Value::from("a"))
        );
        assert!(events.switch(false));
        events.started(Some("b"));
        assert!(events.inner.buffer.take().is_none());
    }

    #[test]
    fn times_are_shown_as_python_shows_them() {
        let shown = |text| isoformat(Some(text)).expect("a time");
        assert_eq!(
            shown("2026-11-23T17:55:09.858581+01:00"),
            "2026-11-23T17:55:09.858581+01:00"
        );
        assert_eq!(shown("2026-11-23T17:55:09Z"), "2026-11-23T17:55:09+00:00");
        assert_eq!(shown("2026-11-23"), "2026-11-23T00:00:00+00:00");
        assert_eq!(isoformat(Some("")), None);
    }
}
