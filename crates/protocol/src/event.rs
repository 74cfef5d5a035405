//! Events: what workers and clients tell monitors (Flower, `celery events`) of tasks and of themselves.
//!
//! An event is a JSON object: who sends it and when, and the fields of its type. It goes over the fanout exchange
//! `celeryev`, alone (`worker.online`, `task.sent`), or as one of a list (`task.multi`).
//!
//! Counterpart: `celery/events/event.py`, `celery/events/dispatcher.py`, and the senders in `celery/worker/request.py`,
//! `strategy.py` and `heartbeat.py` @ 5.7.0.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use crate::serializer::JSON_CONTENT_TYPE;
use crate::{Map, json};

/// The exchange of all events.
pub const EVENT_EXCHANGE: &str = "celeryev";

/// The routing key of a list of events of tasks.
pub const TASK_MULTI: &str = "task.multi";

/// Who sends an event, and when.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The node's name.
    pub hostname: &'a str,
    /// Hours from local time to UTC: -1 in Berlin in winter.
    pub utcoffset: f64,
    /// The sender's process.
    pub pid: u32,
    /// The sender's logical clock, moved on for this event.
    pub clock: u64,
    /// When it happened.
    pub timestamp: DateTime<Utc>,
}

/// An event's type and the fields that only this type has.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Event<'a> {
    /// A worker says how it is.
    Worker(Worker<'a>),
    /// A task was sent, by whoever sends tasks.
    TaskSent(TaskSent<'a>),
    /// A worker has accepted a task.
    TaskReceived(TaskCalled<'a>),
    /// A task starts to run.
    TaskStarted(TaskId<'a>),
    /// A task has returned.
    TaskSucceeded {
        /// The task's id.
        uuid: &'a str,
        /// Python's `repr` of what it has returned.
        result: &'a str,
        /// Seconds that it ran.
        runtime: f64,
    },
    /// A task has failed for good.
    TaskFailed(TaskRaised<'a>),
    /// A task will run again.
    TaskRetried(TaskRaised<'a>),
    /// A task does not run, or no more: revoked, expired, or ended from outside.
    TaskRevoked {
        /// The task's id.
        uuid: &'a str,
        /// It was running.
        terminated: bool,
        /// The signal that was named for it.
        signum: Option<i64>,
        /// Its time had passed.
        expired: bool,
    },
    /// A task has refused its message.
    TaskRejected {
        /// The task's id.
        uuid: &'a str,
        /// The message goes back to its queue.
        requeue: bool,
    },
    /// A run is given up, and the message goes back to its queue.
    TaskCancelled(TaskId<'a>),
}

/// The fields of `worker-online`, `worker-heartbeat` and `worker-offline`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worker<'a> {
    #[serde(skip)]
    /// Which of the three.
    pub sign: Sign,
    /// Seconds from one heartbeat to the next.
    pub freq: serde_json::Number,
    /// What it does; nothing in a heartbeat that was asked for, as in Celery.
    #[serde(flatten)]
    pub load: Option<Load>,
    /// The program: `celeriac`.
    pub sw_ident: &'a str,
    /// Its version.
    pub sw_ver: &'a str,
    /// The system: `Linux`.
    pub sw_sys: &'a str,
}

/// A worker's sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It begins to work.
    Online,
    /// It still does.
    Heartbeat,
    /// It ends.
    Offline,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Load {
    /// Tasks that run.
    pub active: usize,
    /// Tasks that were started so far.
    pub processed: u64,
    /// The system's load in the last 1, 5 and 15 minutes.
    pub loadavg: [f64; 3],
}

/// The fields of `task-sent`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(
    missing_docs,
    reason = "the fields have the names of the headers of a task message"
)]
pub struct TaskSent<'a> {
    pub uuid: &'a str,
    pub root_id: Option<&'a str>,
    pub parent_id: Option<&'a str>,
    pub name: &'a str,
    pub args: &'a str,
    pub kwargs: &'a str,
    pub retries: u64,
    pub eta: Option<&'a str>,
    pub expires: Option<&'a str>,
    pub queue: &'a str,
    pub exchange: &'a str,
    pub routing_key: &'a str,
}

/// The fields of `task-received`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(
    missing_docs,
    reason = "the fields have the names of the headers of a task message"
)]
pub struct TaskCalled<'a> {
    pub uuid: &'a str,
    pub name: &'a str,
    pub args: &'a str,
    pub kwargs: &'a str,
    pub root_id: Option<&'a str>,
    pub parent_id: Option<&'a str>,
    pub retries: u64,
    pub eta: Option<&'a str>,
    pub expires: Option<&'a str>,
}

/// An event that says nothing but which task it is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskId<'a> {
    /// The task's id.
    pub uuid: &'a str,
}

/// A task has raised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskRaised<'a> {
    /// The task's id.
    pub uuid: &'a str,
    /// Python's `repr` of the exception.
    pub exception: &'a str,
    /// Where it was raised.
    pub traceback: Option<&'a str>,
}

impl Event<'_> {
    /// The type: `task-received`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Worker(worker) => match worker.sign {
                Sign::Online => "worker-online",
                Sign::Heartbeat => "worker-heartbeat",
                Sign::Offline => "worker-offline",
            },
            Self::TaskSent(_) => "task-sent",
            Self::TaskReceived(_) => "task-received",
            Self::TaskStarted(_) => "task-started",
            Self::TaskSucceeded { .. } => "task-succeeded",
            Self::TaskFailed(_) => "task-failed",
            Self::TaskRetried(_) => "task-retried",
            Self::TaskRevoked { .. } => "task-revoked",
            Self::TaskRejected { .. } => "task-rejected",
            Self::TaskCancelled(_) => "task-cancelled",
        }
    }

    /// The routing key of this event alone: `task.received`.
    pub fn routing_key(&self) -> String {
        self.kind().replace('-', ".")
    }

    /// The event as Python writes it.
    pub fn to_json(&self, origin: &Origin<'_>) -> String {
        json::try_to_python_string(&Whole {
            hostname: origin.hostname,
            utcoffset: origin.utcoffset,
            pid: origin.pid,
            clock: origin.clock,
            fields: self,
            timestamp: origin.timestamp.timestamp_micros() as f64 / 1e6,
            kind: self.kind(),
        })
        .expect("an event has string keys only")
    }
}

#[derive(Serialize)]
struct Whole<'a> {
    hostname: &'a str,
    utcoffset: f64,
    pid: u32,
    clock: u64,
    #[serde(flatten)]
    fields: &'a Event<'a>,
    timestamp: f64,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// The bytes for the event exchange, as kombu writes them: `body` is one event, or a list of them.
pub fn envelope(body: &str, hostname: &str, routing_key: &str, delivery_tag: &str) -> String {
    let mut headers = Map::new();
    headers.insert("hostname".to_owned(), json!(hostname));
    json::to_python_string(&json!({
        "body": BASE64.encode(body),
        "content-encoding": "utf-8",
        "content-type": JSON_CONTENT_TYPE,
        "headers": headers,
        "properties": {
            "delivery_mode": 1,
            "delivery_info": {"exchange": EVENT_EXCHANGE, "routing_key": routing_key},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": delivery_tag,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Celery 5.7.0 has sent.
    const ONLINE: &str = r#"{"hostname": "w1@lab", "utcoffset": 0.0, "pid": 9578, "clock": 2, "freq": 2.0, "active": 0, "processed": 0, "loadavg": [1.59, 0.64, 0.27], "sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux", "timestamp": 1795455790.160624, "type": "worker-online"}"#;
    const RECEIVED: &str = r#"{"hostname": "w1@lab", "utcoffset": 0.0, "pid": 9578, "clock": 29, "uuid": "801db094-f897-4d89-822a-dba7fac8ae2e", "name": "proj.add", "args": "(1, 2)", "kwargs": "{}", "root_id": "801db094-f897-4d89-822a-dba7fac8ae2e", "parent_id": null, "retries": 0, "eta": null, "expires": null, "timestamp": 1795455816.686172, "type": "task-received"}"#;
    const ENVELOPE: &str = r#"{"body": "e30=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"hostname": "w1@lab"}, "properties": {"delivery_mode": 1, "delivery_info": {"exchange": "celeryev", "routing_key": "task.multi"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "eaa04ca4"}}"#;

    fn origin(clock: u64, microseconds: i64) -> Origin<'static> {
        Origin {
            hostname: "w1@lab",
            utcoffset: 0.0,
            pid: 9578,
            clock,
            timestamp: DateTime::from_timestamp_micros(microseconds).expect("a time"),
        }
    }

    fn worker(load: Option<Load>) -> Event<'static> {
        Event::Worker(Worker {
            sign: Sign::Online,
            freq: serde_json::Number::from_f64(2.0).expect("finite"),
            load,
            sw_ident: "py-celery",
            sw_ver: "5.7.0",
            sw_sys: "Linux",
        })
    }

    #[test]
    fn events_are_written_as_celery_writes_them() {
        let online = worker(Some(Load {
            active: 0,
            processed: 0,
            loadavg: [1.59, 0.64, 0.27],
        }));
        let online = (
            online.to_json(&origin(2, 1_795_455_790_160_624)),
            online.routing_key(),
        );
        assert_eq!(online, (ONLINE.to_owned(), "worker.online".to_owned()));
        let id = "801db094-f897-4d89-822a-dba7fac8ae2e";
        let received = Event::TaskReceived(TaskCalled {
            uuid: id,
            name: "proj.add",
            args: "(1, 2)",
            kwargs: "{}",
            root_id: Some(id),
            parent_id: None,
            retries: 0,
            eta: None,
            expires: None,
        });
        assert_eq!(
            received.to_json(&origin(29, 1_795_455_816_686_172)),
            RECEIVED
        );
        assert_eq!(envelope("{}", "w1@lab", TASK_MULTI, "eaa04ca4"), ENVELOPE);
    }

    #[test]
    fn a_heartbeat_that_was_asked_for_has_no_load() {
        let text = worker(None).to_json(&origin(1, 0));
        assert!(
            !text.contains("active") && text.contains(r#""freq": 2.0, "sw_ident""#),
            "{text}"
        );
    }
}
