//! What is sent when a task has ended: callbacks, the next of a chain, errbacks.
//!
//! The ids of what follows are fixed by the task's own id, so that a second run after a crash sends the
//! same ones.
//!
//! Counterpart: `celery/app/trace.py` (`_dispatch_callbacks_and_chain`) and
//! `celery/backends/base.py::Backend._call_task_errbacks` @ 5.7.0. Groups and chords as what follows, and
//! being part of a chord, are not done here yet: [`unsupported`] names them, and such a message is left
//! to workers that can.

use std::time::Duration;

use celeriac_protocol::canvas::{Embed, Signature};
use celeriac_protocol::compose::TaskCall;
use celeriac_protocol::headers::TimeLimit;
use celeriac_protocol::message::TaskMessage;
use celeriac_protocol::{Compression, Serializer, repr, timestamp};
use chrono::{DateTime, Utc};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use crate::app::App;
use crate::app::send::{SendOptions, origin};
use crate::clock;

/// A message that is ready to be sent.
#[derive(Debug)]
pub(crate) struct FollowUp {
    pub(crate) message: TaskMessage,
    pub(crate) queue: String,
    /// The group that Celery makes of several callbacks, and of all errbacks.
    pub(crate) group: Option<String>,
}

impl FollowUp {
    /// A message that is sent by itself.
    pub(crate) fn alone(message: TaskMessage, queue: String) -> Self {
        Self {
            message,
            queue,
            group: None,
        }
    }
}

/// What stands around a signature when it is called.
struct Place<'a> {
    /// What went before: the result, or the id of the task that failed.
    partial: &'a [Value],
    chain: Option<Vec<Signature>>,
    /// The same whenever the task runs again.
    id: String,
    group: Option<(String, i64)>,
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
    let id = &ended.headers.id;
    let partial = std::slice::from_ref(result);
    let callbacks = embed.callbacks.as_deref().unwrap_or_default();
    let group = (callbacks.len() > 1).then(|| derived_id(id, "callbacks"));
    let mut follow_ups = call_all(app, ended, callbacks, partial, "callback", group.as_deref());
    if let Some((signature, rest)) = embed.next_in_chain() {
        let place = Place {
            partial,
            // Empty at the end of a chain, not null, as Celery writes it.
            chain: Some(rest.to_vec()),
            id: derived_id(id, "chain"),
            group: None,
        };
        follow_ups.push(call(app, ended, signature, place));
    }
    follow_ups
}

/// What follows a failure: each errback, with the id of the task that failed.
pub(crate) fn after_failure(app: &App, ended: &TaskMessage) -> Vec<FollowUp> {
    let id = &ended.headers.id;
    let failed = [Value::from(id.clone())];
    let errbacks = ended.embed.errbacks.as_deref().unwrap_or_default();
    let group = derived_id(id, "errbacks");
    call_all(app, ended, errbacks, &failed, "errback", Some(&group))
}

fn call_all(
    app: &App,
    ended: &TaskMessage,
    signatures: &[Signature],
    partial: &[Value],
    kind: &str,
    group: Option<&str>,
) -> Vec<FollowUp> {
    let places = (0..).map(|index: i64| Place {
        partial,
        chain: None,
        id: derived_id(&ended.headers.id, &format!("{kind}-{index}")),
        group: group.map(|group| (group.to_owned(), index)),
    });
    let calls = signatures.iter().zip(places);
    calls
        .map(|(signature, place)| call(app, ended, signature, place))
        .collect()
}

/// Composes the call of a signature; a task of this app says itself what the signature does not. Counterpart:
/// `celery/canvas.py::Signature.apply_async`, and `celery/app/task.py::Task.apply_async` behind it.
fn call(app: &App, parent: &TaskMessage, signature: &Signature, place: Place<'_>) -> FollowUp {
    let options = Options(&signature.options);
    let task = &signature.task;
    let own = app.with_those_of_the_task(task, SendOptions::default());
    let ignores = || Some(app.registered(task)?.effective.ignore_result);
    let seconds = |limit: Duration| limit.as_secs().into();
    let parent_id = &parent.headers.id;
    let id = signature.task_id().map_or(place.id, ToOwned::to_owned);
    let priority = options.0.get("priority").and_then(Value::as_u64);
    let priority = priority.and_then(|priority| u8::try_from(priority).ok());
    let root = parent.headers.root_id.clone();
    let (group, group_index) = match place.group {
        Some((group, index)) => (Some(group), Some(index)),
        None => (None, None),
    };
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
            hard: options.number("time_limit").or(own.time_limit.map(seconds)),
            soft: options
                .number("soft_time_limit")
                .or(own.soft_time_limit.map(seconds)),
        },
        group: group.clone().or_else(|| options.text("group_id")),
        group_index: group_index.or_else(|| options.0.get("group_index").and_then(Value::as_i64)),
        root_id: root.or_else(|| Some(parent_id.clone())),
        parent_id: Some(parent_id.clone()),
        ignore_result: options.flag("ignore_result").or_else(ignores),
        priority: app.priority(priority.or(own.priority)),
        headers: options.map("headers"),
        embed: Embed {
            callbacks: options.signatures("link"),
            errbacks: options.signatures("link_error"),
            chain: place.chain,
            ..Embed::default()
        },
        ..TaskCall::new(task, id, signature.merged_args(place.partial))
    };
    if let Some(expires) = options.time("expires").or(own.expires) {
        call.expire_at(expires, clock::now());
    }
    let mut message = call.into_message();
    let serializer = options.text("serializer");
    let compression = options.text("compression");
    app.write_as_told(
        &mut message,
        serializer.and_then(|name| Serializer::named(&name)),
        compression.and_then(|name| Compression::named(&name)),
    );
    if signature.immutable && group.is_none() {
        // Celery shows what it merged as a tuple, and what it left alone as the list that it was.
        message.headers.argsrepr = Some(repr::saferepr(&Value::Array(signature.args.clone())));
    }
    FollowUp {
        message,
        queue: app.queue(task, options.text("queue").or(own.queue).as_deref()),
        group,
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

    fn flag(&self, key: &str) -> Option<bool> {
        self.0.get(key).and_then(Value::as_bool)
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
    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::app::Settings;
    use crate::handler::{Handler, Invocation, Outcome, TaskOptions};

    /// A task that says how it is sent.
    struct Particular;

    #[async_trait]
    impl Handler for Particular {
        fn name(&self) -> &str {
            "particular"
        }

        fn options(&self) -> TaskOptions {
            TaskOptions {
                queue: Some("its-own".to_owned()),
                priority: Some(6),
                expires: Some(Duration::from_secs(60)),
                time_limit: Some(Duration::from_secs(9)),
                ignore_result: Some(true),
                ..TaskOptions::default()
            }
        }

        async fn run(&self, _: Invocation) -> Outcome {
            Outcome::Ignore
        }
    }

    #[test]
    fn what_follows_is_sent_as_its_task_says() {
        let settings = Settings {
            broker_url: "memory://".to_owned(),
            ..Settings::default()
        };
        let app = App::builder("x", settings).handler(Particular);
        let app = app.build().expect("the URL is right");
        let follow_up = |task: &str, options: Value| {
            let mut link = Signature::new(task, Vec::new(), Map::new());
            link.options = options.as_object().expect("an object").clone();
            let mut ended = TaskCall::new("before", "an-id", Vec::new());
            ended.embed.callbacks = Some(vec![link]);
            let mut sent = after_success(&app, &ended.into_message(), &json!(1));
            let FollowUp { message, queue, .. } = sent.remove(0);
            let (headers, priority) = (message.headers, message.properties.priority);
            let expires = headers.expires.is_some();
            let (hard, ignores) = (headers.timelimit.hard, headers.ignore_result);
            json!([queue, priority, expires, hard, ignores])
        };
        assert_eq!(
            follow_up("particular", json!({})),
            json!(["its-own", 6, true, 9, true])
        );
        let said = json!({"queue": "q", "priority": 2, "time_limit": 5, "ignore_result": false});
        assert_eq!(
            follow_up("particular", said),
            json!(["q", 2, true, 5, false])
        );
        // Whoever has it decides.
        assert_eq!(
            follow_up("unknown", json!({})),
            json!(["celery", 0, false, null, null])
        );
    }

    #[test]
    fn a_countdown_beyond_all_time_is_none() {
        for countdown in [json!(1e300), json!(-1e300), json!(1e18), json!("soon")] {
            let options = json!({"countdown": countdown});
            let options = options.as_object().expect("an object");
            assert_eq!(Options(options).time("countdown"), None, "{countdown}");
        }
    }
}
