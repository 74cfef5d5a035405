//! Results as Celery stores them under `celery-task-meta-<id>`.
//!
//! ```json
//! {"status": "SUCCESS", "result": 3, "traceback": null, "children": [], "date_done": "2026-11-23T17:43:36.694319+00:00",
//!  "task_id": "801db094-f897-4d89-822a-dba7fac8ae2e"}
//! ```
//! Counterpart: `celery/backends/base.py @ 5.7.0` (`_get_result_meta`, `_store_result`).

use serde_json::{Value, json};

use crate::{
    DecodeError, EncodeError, Limits, Map, Serializer, State, TaskException,
    fields::Fields,
    json,
    key_order::{KeyOrder, Layout},
    serializer::{deserialize, serialize},
};

/// The stored state of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskMeta {
    /// The state.
    pub status: State,
    /// The return value, an exception (see [`TaskMeta::exception`]), or the meta of a state of the task's own.
    pub result: Value,
    /// Python's or our traceback, when it failed.
    pub traceback: Option<String>,
    /// The tasks that it sent, each `[[id, parent], null]`.
    pub children: Value,
    /// When it ended, ISO 8601; `None` while it has not.
    pub date_done: Option<String>,
    /// The group that it belongs to.
    pub group_id: Option<String>,
    /// The task that sent it.
    pub parent_id: Option<String>,
    /// The task's id.
    pub task_id: String,
    /// Further keys (`result_extended`), written before `task_id`.
    pub extra: Map,
    /// The order of the keys, as received.
    pub key_order: KeyOrder,
}

const LAYOUT: Layout = Layout {
    object: "result",
    keys: &[
        "status",
        "result",
        "traceback",
        "children",
        "date_done",
        "group_id",
        "parent_id",
        "task_id",
    ],
    tail: 1,
    optional: &["group_id", "parent_id"],
    inside: &[],
};

/// What one of the keys has.
enum Part<'a> {
    Text(Option<&'a str>),
    Value(&'a Value),
}

impl Part<'_> {
    fn is_null(&self) -> bool {
        matches!(self, Self::Text(None) | Self::Value(Value::Null))
    }

    fn to_value(&self) -> Value {
        match *self {
            Self::Text(text) => json!(text),
            Self::Value(value) => value.clone(),
        }
    }

    fn write(&self, object: &mut json::ObjectText, key: &str) {
        match *self {
            Self::Text(None) => object.value(key, &Value::Null),
            Self::Text(Some(text)) => object.text(key, text),
            Self::Value(value) => object.value(key, value),
        }
    }
}

impl TaskMeta {
    /// A state with its result, nothing else.
    pub fn new(task_id: impl Into<String>, status: State, result: Value) -> Self {
        Self {
            status,
            result,
            traceback: None,
            children: json!([]),
            date_done: None,
            group_id: None,
            parent_id: None,
            task_id: task_id.into(),
            extra: Map::new(),
            key_order: KeyOrder::default(),
        }
    }

    /// Reads what is stored in JSON.
    ///
    /// # Errors
    /// As [`TaskMeta::parse_within`], with [`Limits::default`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::parse_within(&Limits::default(), Serializer::Json, bytes)
    }

    /// Reads what is stored, within the nesting and the number of values of these limits; `result_serializer` says how,
    /// since the document itself does not.
    ///
    /// # Errors
    /// The bytes are not of this serializer, no object, without a `status`, or a limit is passed.
    pub fn parse_within(
        limits: &Limits,
        serializer: Serializer,
        bytes: &[u8],
    ) -> Result<Self, DecodeError> {
        let value = deserialize(limits, "result", serializer, bytes)?;
        let mut fields = Fields::from_value(&LAYOUT, value)?;
        let status: String = fields.required("status")?;
        let mut meta = Self {
            status: State::from(status.as_str()),
            result: fields.optional("result")?.unwrap_or_default(),
            traceback: fields.lenient("traceback"),
            children: fields.optional("children")?.unwrap_or_default(),
            date_done: fields.lenient("date_done"),
            group_id: fields.lenient("group_id"),
            parent_id: fields.lenient("parent_id"),
            task_id: fields.or_default("task_id")?,
            extra: Map::new(),
            key_order: KeyOrder::default(),
        };
        (meta.extra, meta.key_order) = fields.finish();
        Ok(meta)
    }

    /// The text to store and to publish, in JSON.
    pub fn to_json(&self) -> String {
        match self.key_order.is_celerys(&LAYOUT, &self.extra) {
            true => self.to_celerys_json(),
            false => json::to_python_string(&self.to_map()),
        }
    }

    /// As [`KeyOrder::arrange`] orders it, without the map: each task that keeps its result writes one.
    fn to_celerys_json(&self) -> String {
        let mut object = json::ObjectText::with_capacity(256);
        for (place, (key, part)) in LAYOUT.keys.iter().zip(self.parts()).enumerate() {
            if place == LAYOUT.head_len() {
                let extra = self.extra.iter();
                extra.for_each(|(key, value)| object.value(key, value));
            }
            if LAYOUT.writes(key, part.is_null()) {
                part.write(&mut object, key);
            }
        }
        object.finish()
    }

    /// The bytes to store and to publish.
    ///
    /// # Errors
    /// It has something that this serializer cannot write; JSON writes everything.
    pub fn to_bytes(&self, serializer: Serializer) -> Result<Vec<u8>, EncodeError> {
        match serializer {
            Serializer::Json => Ok(self.to_json().into_bytes()),
            other => serialize(other, &Value::Object(self.to_map())),
        }
    }

    fn to_map(&self) -> Map {
        let parts = LAYOUT.keys.iter().zip(self.parts());
        let known = parts.map(|(key, part)| ((*key).to_owned(), part.to_value()));
        self.key_order
            .arrange(&LAYOUT, known.collect(), &self.extra)
    }

    /// In the order of [`LAYOUT`].
    fn parts(&self) -> [Part<'_>; LAYOUT.keys.len()] {
        [
            Part::Text(Some(self.status.as_str())),
            Part::Value(&self.result),
            Part::Text(self.traceback.as_deref()),
            Part::Value(&self.children),
            Part::Text(self.date_done.as_deref()),
            Part::Text(self.group_id.as_deref()),
            Part::Text(self.parent_id.as_deref()),
            Part::Text(Some(&self.task_id)),
        ]
    }

    /// The exception, when the state is one of those that have one and it is in Celery's form.
    pub fn exception(&self) -> Option<TaskException> {
        self.status
            .is_exception()
            .then(|| TaskException::from_value(self.result.clone()).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_is_arranged() {
        let plain = TaskMeta::new("an-id", State::Success, json!({"a": [1.5, "\u{e9}"]}));
        let member = TaskMeta {
            group_id: Some("a-group".to_owned()),
            traceback: Some("a\nb".to_owned()),
            ..plain.clone()
        };
        let of = |extra: Value| TaskMeta {
            extra: extra.as_object().cloned().unwrap(),
            ..member.clone()
        };
        let extended = of(json!({"name": "t", "args": [], "queue": null}));
        let misfit = of(json!({"parent_id": 7, "name": "t"}));
        for meta in [plain, member, extended, misfit] {
            let arranged = json::to_python_string(&meta.to_map());
            assert_eq!(meta.to_json(), arranged);
        }
    }

    #[test]
    fn a_result_is_the_same_in_every_serializer() {
        let read = |serializer, bytes: &[u8]| {
            TaskMeta::parse_within(&Limits::default(), serializer, bytes)
        };
        let text = r#"[1, NaN, {"__type__": "bytes", "__value__": "x"}, {"__type__": "date", "__value__": "2026-11-23"}]"#;
        let result = json::parse("result", text.as_bytes()).unwrap();
        let meta = TaskMeta::new("an-id", State::Success, result);
        for serializer in [Serializer::Json, Serializer::Yaml] {
            let bytes = meta.to_bytes(serializer).unwrap();
            assert_eq!(read(serializer, &bytes), Ok(meta.clone()));
        }
        let refused = meta.to_bytes(Serializer::Msgpack).unwrap_err().to_string();
        assert_eq!(refused, "msgpack cannot write datetime.date(2026, 11, 23)");
        let plain = TaskMeta::new("an-id", State::Success, json!([1, "x"]));
        let bytes = plain.to_bytes(Serializer::Msgpack).unwrap();
        assert_eq!(read(Serializer::Msgpack, &bytes), Ok(plain));
        assert!(read(Serializer::Json, &bytes).is_err());
    }
}
