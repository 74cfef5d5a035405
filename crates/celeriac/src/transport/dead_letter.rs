//! One record of `<queue>.dead`: a message that nobody could run, and why.
//!
//! ```text
//! {"id": "4b0e…", "date": "2026-11-26T15:20:09.123456+00:00", "queue": "celery", "worker": "celery@host", "task": "proj.add", "task_id": "cccb…", "reason": "headers.eta is a number, expected a string"}
//! {"body": …
//! ```
//! The first line is JSON; what is behind it is the message, byte for byte. `task` and `task_id` are null where the
//! message does not tell.
//!
//! Counterpart: none. Celery on Redis destroys what it cannot run.

use celeriac_protocol::timestamp::isoformat;
use celeriac_protocol::{Envelope, Limits};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock;

/// Characters of a task's name or id that a record repeats beside the message.
const REPEATED_MAX: usize = 255;

/// A message that nobody could run.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// How many lie below it: 0 is the oldest of its queue. Falls as older ones leave.
    pub index: usize,
    /// The record's own id, which stays the same.
    pub id: String,
    /// When it was set aside, ISO 8601 in UTC.
    pub date: String,
    /// The queue it came from.
    pub queue: String,
    /// The node that set it aside.
    pub worker: String,
    /// The task's name, where the message tells.
    pub task: Option<String>,
    /// The task's id, where the message tells.
    pub task_id: Option<String>,
    /// Why nobody could run it.
    pub reason: String,
    /// The envelope, byte for byte; `None`: this is no record of ours.
    pub message: Option<Vec<u8>>,
    /// The record as it lies in the list.
    pub(crate) record: Vec<u8>,
}

impl DeadLetter {
    /// Reads a record. What is none keeps its place all the same, so that it can be seen and dropped.
    pub(crate) fn parse(queue: &str, index: usize, record: Vec<u8>) -> Self {
        let end = record.iter().position(|byte| *byte == b'\n');
        let (line, message) = record.split_at(end.unwrap_or(record.len()));
        let fields = match celeriac_protocol::json::parse("record", line) {
            Ok(Value::Object(fields)) => Some(fields),
            _ => None,
        };
        let message = message.split_first().filter(|_| fields.is_some());
        let message = message.map(|(_, message)| message.to_vec());
        let mut fields = fields.unwrap_or_default();
        let mut text = |name: &str| match fields.get_mut(name).map(Value::take) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        Self {
            index,
            id: text("id").unwrap_or_default(),
            date: text("date").unwrap_or_default(),
            queue: queue.to_owned(),
            worker: text("worker").unwrap_or_default(),
            task: text("task"),
            task_id: text("task_id"),
            reason: text("reason").unwrap_or_else(|| "this is no record of a message".to_owned()),
            message,
            record,
        }
    }
}

/// The beginning of a record, up to the reason; `message` is `None` where nobody has read it.
pub(crate) fn record_head(queue: &str, worker: &str, message: Option<&[u8]>) -> String {
    let (task, task_id) = message.map(what_it_tells).unwrap_or_default();
    let head = json!({
        "id": Uuid::new_v4().to_string(),
        "date": isoformat(clock::now()),
        "queue": queue,
        "worker": worker,
        "task": task,
        "task_id": task_id,
    });
    let mut head = celeriac_protocol::json::to_python_string(&head);
    head.pop();
    head
}

/// The name and the id of the task in a message that may be broken elsewhere.
fn what_it_tells(message: &[u8]) -> (Option<String>, Option<String>) {
    let Ok(envelope) = Envelope::parse_within(&Limits::new(usize::MAX, usize::MAX), message) else {
        return (None, None);
    };
    let text = |name: &str| {
        let text = envelope.headers.get(name)?.as_str()?;
        Some(text.chars().take(REPEATED_MAX).collect())
    };
    (text("task"), text("id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_what_the_message_tells() {
        let message = format!(
            r#"{{"body": "", "headers": {{"task": "{}", "id": 7}}}}"#,
            "n".repeat(1000)
        );
        let head = record_head("celery", "celery@host", Some(message.as_bytes()));
        let record = DeadLetter::parse("celery", 3, format!("{head}}}\n\n\n").into_bytes());
        assert_eq!(
            (record.index, record.queue.as_str(), record.worker.as_str()),
            (3, "celery", "celery@host")
        );
        assert_eq!(record.message.as_deref(), Some(&b"\n\n"[..]));
        assert_eq!((record.task, record.task_id), (Some("n".repeat(255)), None));
        assert!(Uuid::parse_str(&record.id).is_ok() && record.date.ends_with("+00:00"));
    }

    #[test]
    fn a_record_says_what_stands_in_it() {
        let record = br#"{"id": "7", "task": {"$serde_json::private::RawValue": "\"proj.add\""}}
{}"#;
        let record = DeadLetter::parse("celery", 0, record.to_vec());
        assert_eq!((record.id.as_str(), record.task), ("7", None));
        assert_eq!(record.message.as_deref(), Some(&b"{}"[..]));
    }

    #[test]
    fn what_is_no_record_has_a_place_but_no_message() {
        for foreign in [&b"\xff"[..], b"[]\n", b"{\n}", br#"{"message": "x"}"#, b""] {
            let letter = DeadLetter::parse("q", 0, foreign.to_vec());
            assert_eq!((letter.message, letter.record), (None, foreign.to_vec()));
        }
    }
}
