//! The headers of a task message of protocol 2.
//!
//! Guarantee M4: headers that are not known here (a user's own, a newer Celery's) are kept in `extra`, in order.
//! Counterpart: `celery/app/amqp.py @ 5.7.0` (`as_task_v2`).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Number, Value, json};

use crate::{
    DecodeError, Map,
    fields::Fields,
    key_order::{KeyOrder, Layout},
    node::{kind, wrong_kind},
    timestamp,
};

/// What a worker needs to know of a task before it reads the body.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Headers {
    /// The sender's language: `py`, here `rs`.
    pub lang: Option<String>,
    /// The task's name: `worker.tasks.process_file_task`.
    pub task: String,
    /// The task's id.
    pub id: String,
    /// A name to show instead of the task's.
    pub shadow: Option<String>,
    /// Not before this time, ISO 8601 as sent; see [`Headers::eta_time`].
    pub eta: Option<String>,
    /// Not after this time, ISO 8601 as sent; see [`Headers::expires_time`].
    pub expires: Option<String>,
    /// The id of the group that it belongs to.
    pub group: Option<String>,
    /// Its place in the group.
    pub group_index: Option<i64>,
    /// How often it was retried.
    pub retries: u64,
    /// The time limits of this call.
    pub timelimit: TimeLimit,
    /// The id of the first task of the workflow; its own when it is the first.
    pub root_id: Option<String>,
    /// The id of the task that sent it.
    pub parent_id: Option<String>,
    /// The positional arguments as Python shows them.
    pub argsrepr: Option<String>,
    /// The keyword arguments as Python shows them.
    pub kwargsrepr: Option<String>,
    /// The sender: `gen11071@host`.
    pub origin: Option<String>,
    /// Store no result; `None` where the sender wrote null (`send_task` of a name).
    pub ignore_result: Option<bool>,
    /// How deep the task is in replacements of itself by others.
    pub replaced_task_nesting: u64,
    /// The names in `stamps`; null without stamps.
    pub stamped_headers: Option<Vec<String>>,
    /// Values that are handed on to all tasks of a workflow.
    pub stamps: Map,
    /// All further headers.
    pub extra: Map,
    /// The order of the headers, as received.
    pub key_order: KeyOrder,
}

/// A call's own time limits in seconds; on the wire `[hard, soft]`. Kept as sent: `2` and `2.0` differ in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeLimit {
    /// The task is ended then.
    pub hard: Option<Number>,
    /// The task gets `SoftTimeLimitExceeded` then.
    pub soft: Option<Number>,
}

pub(crate) const HEADERS: Layout = Layout {
    keys: &[
        "lang",
        "task",
        "id",
        "shadow",
        "eta",
        "expires",
        "group",
        "group_index",
        "retries",
        "timelimit",
        "root_id",
        "parent_id",
        "argsrepr",
        "kwargsrepr",
        "origin",
        "ignore_result",
        "replaced_task_nesting",
        "stamped_headers",
        "stamps",
    ],
    ..Layout::named("headers")
};

impl Headers {
    /// Reads the headers of an envelope.
    ///
    /// # Errors
    /// A header that decides how the task runs has another type, or `eta` or `expires` is no time.
    pub fn from_map(map: Map) -> Result<Self, DecodeError> {
        Self::from_fields(*Fields::new(&HEADERS, map))
    }

    pub(crate) fn from_fields(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let mut headers = Self {
            lang: fields.lenient("lang"),
            task: fields.required("task")?,
            id: fields.required("id")?,
            shadow: fields.lenient("shadow"),
            eta: fields.unless_falsy("eta")?,
            expires: fields.unless_falsy("expires")?,
            group: fields.optional("group")?,
            group_index: fields.lenient("group_index"),
            retries: fields.or_default("retries")?,
            timelimit: match fields.is_falsy("timelimit") {
                true => TimeLimit::default(),
                false => TimeLimit::from_json(&fields.or_default::<Vec<_>>("timelimit")?)?,
            },
            root_id: fields.lenient("root_id"),
            parent_id: fields.lenient("parent_id"),
            argsrepr: fields.lenient("argsrepr"),
            kwargsrepr: fields.lenient("kwargsrepr"),
            origin: fields.lenient("origin"),
            ignore_result: fields.lenient("ignore_result"),
            replaced_task_nesting: fields.or_default("replaced_task_nesting")?,
            stamped_headers: fields.lenient("stamped_headers"),
            stamps: fields.or_default("stamps")?,
            extra: Map::new(),
            key_order: KeyOrder::default(),
        };
        (headers.extra, headers.key_order) = fields.finish();
        headers.eta_time()?;
        headers.expires_time()?;
        Ok(headers)
    }

    /// The headers as they are written into an envelope.
    pub fn to_map(&self) -> Map {
        let mut known = Map::new();
        let mut put = |key: &str, value: Value| known.insert(key.to_owned(), value);
        put("lang", json!(self.lang));
        put("task", json!(self.task));
        put("id", json!(self.id));
        put("shadow", json!(self.shadow));
        put("eta", json!(self.eta));
        put("expires", json!(self.expires));
        put("group", json!(self.group));
        put("group_index", json!(self.group_index));
        put("retries", json!(self.retries));
        put("timelimit", self.timelimit.to_json());
        put("root_id", json!(self.root_id));
        put("parent_id", json!(self.parent_id));
        put("argsrepr", json!(self.argsrepr));
        put("kwargsrepr", json!(self.kwargsrepr));
        put("origin", json!(self.origin));
        put("ignore_result", json!(self.ignore_result));
        put("replaced_task_nesting", json!(self.replaced_task_nesting));
        put("stamped_headers", json!(self.stamped_headers));
        put("stamps", Value::Object(self.stamps.clone()));
        self.key_order.arrange(&HEADERS, known, &self.extra)
    }

    /// The time before which the task must not run.
    ///
    /// # Errors
    /// [`DecodeError::Timestamp`]; not after a successful parse, unless the field was changed since.
    pub fn eta_time(&self) -> Result<Option<DateTime<Utc>>, DecodeError> {
        time("eta", self.eta.as_deref())
    }

    /// The time after which the task must not run.
    ///
    /// # Errors
    /// As [`Headers::eta_time`].
    pub fn expires_time(&self) -> Result<Option<DateTime<Utc>>, DecodeError> {
        time("expires", self.expires.as_deref())
    }
}

fn time(field: &'static str, text: Option<&str>) -> Result<Option<DateTime<Utc>>, DecodeError> {
    // Python takes the empty text for none, too.
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wrong = |err: timestamp::TimestampError| DecodeError::Timestamp {
        field,
        text: text.to_owned(),
        reason: err.0,
    };
    timestamp::parse(text).map(Some).map_err(wrong)
}

impl TimeLimit {
    /// The hard limit as a duration; `None` also for what is no sensible time (negative, not finite).
    pub fn hard_duration(&self) -> Option<Duration> {
        duration(self.hard.as_ref())
    }

    /// The soft limit as a duration; `None` also for what is no sensible time.
    pub fn soft_duration(&self) -> Option<Duration> {
        duration(self.soft.as_ref())
    }

    fn from_json(limits: &[Value]) -> Result<Self, DecodeError> {
        const EXPECTED: &str = "[hard, soft] in seconds";
        let number = |value: &Value| match value {
            Value::Null => Ok(None),
            Value::Number(number) => Ok(Some(number.clone())),
            other => Err(wrong_kind("headers", "timelimit", EXPECTED, kind(other))),
        };
        match limits {
            [] => Ok(Self::default()),
            [hard, soft] => Ok(Self {
                hard: number(hard)?,
                soft: number(soft)?,
            }),
            _ => Err(DecodeError::Field {
                object: "headers",
                field: "timelimit",
                expected: EXPECTED,
                found: "a list of another length",
            }),
        }
    }

    fn to_json(&self) -> Value {
        json!([self.hard, self.soft])
    }
}

fn duration(limit: Option<&Number>) -> Option<Duration> {
    limit
        .and_then(Number::as_f64)
        .and_then(|secs| Duration::try_from_secs_f64(secs).ok())
}
