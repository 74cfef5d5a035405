//! Composing a task message as Celery does.
//!
//! Counterpart: `celery/app/amqp.py @ 5.7.0` (`as_task_v2`). Deliberate differences: `lang` is `rs` by default; a header
//! of the user's own fills one of Celery's only where that says nothing, while Python lets it replace any.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    Compression, Embed, Headers, Map, Properties, Serializer, TaskMessage, TimeLimit, repr,
    timestamp::isoformat,
};

/// Celery's `delivery_mode` of persistent messages, its default.
pub const PERSISTENT: i64 = 2;

/// A call to be sent: everything that `apply_async` takes and that goes into the message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskCall {
    /// The task's name.
    pub task: String,
    /// The task's id.
    pub id: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map,
    /// The sender's language; `rs` from [`TaskCall::new`].
    pub lang: String,
    /// The sender: `gen<pid>@<host>`.
    pub origin: String,
    /// The caller's oid, where it wants replies.
    pub reply_to: Option<String>,
    /// A name to show instead of the task's.
    pub shadow: Option<String>,
    /// Not before; a countdown is added to the clock by the caller.
    pub eta: Option<DateTime<Utc>>,
    /// Not after; [`TaskCall::expire_at`] sets this and the next.
    pub expires: Option<DateTime<Utc>>,
    /// The message property that goes with `expires`; see [`expiration`].
    pub expiration: Option<String>,
    /// The group's id.
    pub group: Option<String>,
    /// The place in the group.
    pub group_index: Option<i64>,
    /// How often it was retried.
    pub retries: u64,
    /// Time limits of this call.
    pub timelimit: TimeLimit,
    /// The first task of the workflow; the call's own id when `None`.
    pub root_id: Option<String>,
    /// The task that sends it.
    pub parent_id: Option<String>,
    /// Shown instead of the arguments (a secret among them, for example).
    pub argsrepr: Option<String>,
    /// Shown instead of the keyword arguments.
    pub kwargsrepr: Option<String>,
    /// Store no result. `None` is written as null, as `send_task` does for a task that it does not know.
    pub ignore_result: Option<bool>,
    /// How deep the task is in replacements.
    pub replaced_task_nesting: u64,
    /// The names of the stamps.
    pub stamped_headers: Option<Vec<String>>,
    /// The stamps.
    pub stamps: Map,
    /// What follows the task.
    pub embed: Embed,
    /// 0 to 9; Celery's default on Redis is 0.
    pub priority: i64,
    /// [`PERSISTENT`] from [`TaskCall::new`].
    pub delivery_mode: i64,
    /// Headers of the user's own, such as `traceparent`.
    pub headers: Map,
    /// Further message properties.
    pub properties: Map,
    /// How the body is serialized.
    pub serializer: Serializer,
    /// How the body is compressed.
    pub compression: Option<Compression>,
}

impl TaskCall {
    /// A call with Celery's defaults: all that `.delay(*args)` says.
    pub fn new(task: impl Into<String>, id: impl Into<String>, args: Vec<Value>) -> Self {
        Self {
            task: task.into(),
            id: id.into(),
            args,
            lang: "rs".to_owned(),
            ignore_result: Some(false),
            delivery_mode: PERSISTENT,
            ..Self::default()
        }
    }

    /// Must not run after `expires`; `now` is the time of sending.
    pub fn expire_at(&mut self, expires: DateTime<Utc>, now: DateTime<Utc>) {
        self.expires = Some(expires);
        self.expiration = Some(expiration(expires, now));
    }

    /// The message, ready for [`TaskMessage::to_envelope`].
    pub fn into_message(self) -> TaskMessage {
        let argsrepr = self.argsrepr.unwrap_or_else(|| repr::repr_args(&self.args));
        let kwargsrepr = self
            .kwargsrepr
            .unwrap_or_else(|| repr::repr_kwargs(&self.kwargs));
        let headers = Headers {
            lang: Some(self.lang),
            task: self.task,
            shadow: self.shadow,
            eta: self.eta.map(isoformat),
            expires: self.expires.map(isoformat),
            group: self.group,
            group_index: self.group_index,
            retries: self.retries,
            timelimit: self.timelimit,
            root_id: self
                .root_id
                .filter(|id| !id.is_empty())
                .or_else(|| Some(self.id.clone())),
            parent_id: self.parent_id,
            argsrepr: Some(argsrepr),
            kwargsrepr: Some(kwargsrepr),
            origin: Some(self.origin),
            ignore_result: self.ignore_result,
            replaced_task_nesting: self.replaced_task_nesting,
            stamped_headers: self.stamped_headers,
            stamps: self.stamps,
            extra: self.headers,
            id: self.id.clone(),
            ..Headers::default()
        };
        let properties = Properties {
            correlation_id: Some(self.id),
            reply_to: Some(self.reply_to.unwrap_or_default()),
            delivery_mode: Some(self.delivery_mode),
            expiration: self.expiration,
            priority: Some(self.priority),
            extra: self.properties,
            ..Properties::default()
        };
        TaskMessage {
            headers,
            properties,
            args: self.args,
            kwargs: self.kwargs,
            embed: self.embed,
            serializer: self.serializer,
            compression: self.compression,
        }
    }
}

/// The message property `expiration`: milliseconds from `now` until `expires`, at least 0, as text.
pub fn expiration(expires: DateTime<Utc>, now: DateTime<Utc>) -> String {
    (expires - now).num_milliseconds().max(0).to_string()
}
