//! What is sent when a task has ended: callbacks, the next of a chain, errbacks.
//!
//! The ids of what follows are fixed by the task's own id, so that a second run after a crash sends the
//! same ones.
//!
//! Counterpart: `celery/app/trace.py` (`_dispatch_callbacks_and_chain`) and
//! `celery/backends/base.py::Backend._call_task_errbacks` @ 5.7.0. Groups and chords as what follows, and
//! being part of a chord, are not done here yet: [`unsupported`] names them, and such a message is left
//! to workers that can.

use celeriac_protocol::canvas::{Embed, Signature};
use celeriac_protocol::compose::TaskCall;
use celeriac_protocol::headers::TimeLimit;
use celeriac_protocol::message::TaskMessage;
use celeriac_protocol::timestamp;
use chrono::{DateTime, Utc};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use crate::app::App;
use crate::app::send::origin;
use crate::clock;

/// A message that is ready to be sent.
#[derive(Debug)]
pub(crate) struct FollowUp {
    pub(crate) message: TaskMessage,
    pub(crate) queue: String,
}

/// What in this message we cannot carry on; `None`: nothing.
pub(crate) fn unsupported(embed: &Embed) -> Option<&'static str> {
    if embed.chord.is_some() {
        return Some("part of a chord");
    }
    let lists = [&embed.callbacks, &embed.errbacks, &embed.chain];
    let mut signatures = lists.into_iter().flatten().flatten();
    signatures
        .any(|signature| {
            signature.subtask_type.is_some() || signature.options.contains_key("chord")
        })
        .then_some("followed by a group, chain or chord")
}

/// What follows a success: the callbacks, then the next of the chain.
pub(crate) fn after_success(app: &App, ended: &TaskMessage, result: &Value) -> Vec<FollowUp> {
    let embed = &ended.embed;
    let args = std::slice::from_ref(result);
    let callbacks = embed.callbacks.iter().flatten();
    let mut follow_ups: Vec<FollowUp> = callbacks
        .enumerate()
        .map(|(index, signature)| {
            let embed = Embed::default();
            call(
                app,
                ended,
                signature,
                args,
                embed,
                &format!("callback-{index}"),
            )
        })
        .collect();
    if let Some((signature, rest)) = embed.next_in_chain() {
        let embed = Embed {
            // Empty at the end of a chain, not null, as Celery writes it.
            chain: Some(rest.to_vec()),
            ..Embed::default()
        };
        follow_ups.push(call(app, ended, signature, args, embed, "chain"));
    }
    follow_ups
}

/// What follows a failure: each errback, with the id of the task that failed.
pub(crate) fn after_failure(app: &App, ended: &TaskMessage) -> Vec<FollowUp> {
    let failed = [Value::from(ended.headers.id.clone())];
    let errbacks = ended.embed.errbacks.iter().flatten();
    errbacks
        .enumerate()
        .map(|(index, signature)| {
            let embed = Embed::default();
            call(
                app,
                ended,
                signature,
                &failed,
                embed,
                &format!("errback-{index}"),
            )
        })
        .collect()
}

/// Composes the call of a signature. Counterpart: `celery/canvas.py::Signature.apply_async`.
fn call(
    app: &App,
    parent: &TaskMessage,
    signature: &Signature,
    partial: &[Value],
    mut embed: Embed,
    place: &str,
) -> FollowUp {
    let options = Options(&signature.options);
    let parent_id = &parent.headers.id;
    let id = signature
        .task_id()
        .map_or_else(|| derived_id(parent_id, place), ToOwned::to_owned);
    embed.callbacks = options.signatures("link");
    embed.errbacks = options.signatures("link_error");
    let priority = options.0.get("priority").and_then(Value::as_u64);
    let root = parent.headers.root_id.clone();
    let mut call = TaskCall {
        kwargs: signature.kwargs.clone(),
        origin: origin(),
        reply_to: Some(
            options
                .text("reply_to")
                .unwrap_or_else(|| app.oid().to_owned()),
        ),
        shadow: options.text("shadow"),
        eta: options.time("countdown").or_else(|| options.time("eta")),
        timelimit: TimeLimit {
            hard: options.number("time_limit"),
            soft: options.number("soft_time_limit"),
        },
        group: options.text("group_id"),
        group_index: options.0.get("group_index").and_then(Value::as_i64),
        root_id: root.or_else(|| Some(parent_id.clone())),
        parent_id: Some(parent_id.clone()),
        ignore_result: Some(options.flag("ignore_result")),
        priority: app.priority(priority.and_then(|priority| u8::try_from(priority).ok())),
        headers: options.map("headers"),
        embed,
        ..TaskCall::new(&signature.task, id, signature.merged_args(partial))
    };
    if let Some(expires) = options.time("expires") {
        call.expire_at(expires, clock::now());
    }
    FollowUp {
        message: call.into_message(),
        queue: app.queue(options.text("queue").as_deref()),
    }
}

fn derived_id(parent: &str, place: &str) -> String {
    let name = format!("{parent}/{place}");
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
}

/// The options of a signature, as Celery writes them.
struct Options<'a>(&'a Map<String, Value>);

impl Options<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.0
            .get(key)
            .and_then(Value::as_str)
            .map(ToOwned::to_owned)
    }

    fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn map(&self, key: &str) -> Map<String, Value> {
        self.0
            .get(key)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    }

    fn signatures(&self, key: &str) -> Option<Vec<Signature>> {
        let list = match self.0.get(key)? {
            Value::Array(list) => list.clone(),
            one @ Value::Object(_) => vec![one.clone()],
            _ => return None,
        };
        let signatures = list.into_iter().map(Signature::from_value);
        signatures.collect::<Result<Vec<_>, _>>().ok()
    }

    fn number(&self, key: &str) -> Option<Number> {
        self.0.get(key).and_then(Value::as_number).cloned()
    }

    /// A point in time: seconds from now, or a text.
    fn time(&self, key: &str) -> Option<DateTime<Utc>> {
        let value = self.0.get(key)?;
        if let Some(seconds) = value.as_f64() {
            let millis = (seconds * 1000.0).round();
            let wait = chrono::Duration::try_milliseconds(millis as i64)?;
            return clock::now().checked_add_signed(wait);
        }
        timestamp::parse(value.as_str()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_countdown_beyond_all_time_is_none() {
        for countdown in [json!(1e300), json!(-1e300), json!(1e18), json!("soon")] {
            let options = json!({"countdown": countdown});
            let options = options.as_object().expect("an object");
            assert_eq!(Options(options).time("countdown"), None, "{countdown}");
        }
    }
}
