//! The document of a task's state, as a worker writes it.
//!
//! Counterpart: `celery/backends/base.py::Backend._get_result_meta` @ 5.7.0.

use celeriac_protocol::Map;
use celeriac_protocol::message::{Headers, TaskMessage};
use celeriac_protocol::result::TaskMeta;
use celeriac_protocol::state::State;
use celeriac_protocol::timestamp;
use serde_json::{Value, json};

use crate::clock;

/// Whose state it is, and who says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Author<'a> {
    pub(crate) message: &'a TaskMessage,
    /// The worker's node name.
    pub(crate) hostname: &'a str,
    /// The queue that the message came from.
    pub(crate) queue: &'a str,
    /// `result_extended`.
    pub(crate) is_extended: bool,
}

impl Author<'_> {
    /// The document; without traceback and children.
    pub(crate) fn document(&self, status: State, result: Value) -> TaskMeta {
        let headers = &self.message.headers;
        let is_ready = status.is_ready();
        let mut meta = TaskMeta::new(&headers.id, status, result);
        meta.date_done = is_ready.then(|| timestamp::isoformat(clock::now()));
        meta.group_id = headers.group.clone();
        meta.parent_id = headers.parent_id.clone();
        if self.is_extended {
            meta.extra = self.extended();
        }
        meta
    }

    fn extended(&self) -> Map {
        let headers = &self.message.headers;
        let fields = [
            ("name", json!(headers.task)),
            ("args", json!(self.message.args)),
            ("kwargs", json!(self.message.kwargs)),
            ("worker", json!(self.hostname)),
            ("retries", json!(headers.retries)),
            ("queue", json!(self.queue)),
        ];
        let mut fields = map(fields);
        fields.extend(stamps(headers));
        fields
    }
}

fn stamps(headers: &Headers) -> Map {
    if headers.stamps.is_empty() {
        return Map::new();
    }
    let mut fields = map([("stamped_headers", json!(headers.stamped_headers))]);
    let stamped = headers.stamped_headers.iter().flatten();
    for name in stamped {
        if let Some(value) = headers.stamps.get(name) {
            fields.insert(name.clone(), value.clone());
        }
    }
    fields
}

/// A map with these fields, in this order.
pub(crate) fn map<const N: usize>(fields: [(&str, Value); N]) -> Map {
    let fields = fields.map(|(key, value)| (key.to_owned(), value));
    fields.into_iter().collect()
}
