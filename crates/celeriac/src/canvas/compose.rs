//! A call as a message: its options become headers, properties, and what follows the task.
//!
//! Counterpart: `celery/canvas.py::Signature.apply_async`, `celery/app/task.py::Task.apply_async` and
//! `celery/app/base.py::Celery.send_task` @ 5.7.0.

use std::time::Duration;

use celeriac_protocol::canvas::{Call, CanvasError, Embed, Signature};
use celeriac_protocol::compose::TaskCall;
use celeriac_protocol::headers::TimeLimit;
use celeriac_protocol::message::TaskMessage;
use celeriac_protocol::{Compression, Serializer, repr, timestamp};
use chrono::{DateTime, Utc};
use serde_json::{Map, Number, Value, json};

use super::follow::FollowUp;
use crate::app::App;
use crate::app::send::{SendOptions, origin};
use crate::clock;

/// The options that mean something; kombu makes a message property of each other one.
const KNOWN: [&str; 38] = [
    "add_to_parent",
    "argsrepr",
    "chain",
    "chord",
    "compression",
    "countdown",
    "declare",
    "delivery_mode",
    "eta",
    "exchange",
    "exchange_type",
    "expires",
    "group_id",
    "group_index",
    "headers",
    "ignore_result",
    "immediate",
    "kwargsrepr",
    "link",
    "link_error",
    "mandatory",
    "parent_id",
    "priority",
    "queue",
    "replaced_task_nesting",
    "reply_to",
    "retries",
    "retry",
    "retry_policy",
    "root_id",
    "route_name",
    "routing_key",
    "serializer",
    "shadow",
    "soft_time_limit",
    "stamped_headers",
    "task_id",
    "time_limit",
];

/// The task that sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent<'a> {
    pub(crate) id: &'a str,
    pub(crate) root: &'a str,
    /// What it sends has this priority, where nothing else is said (`task_inherit_parent_priority`).
    pub(crate) priority: Option<u8>,
}

impl<'a> Parent<'a> {
    pub(crate) fn of(app: &App, message: &'a TaskMessage) -> Self {
        let headers = &message.headers;
        let priority = message.properties.priority;
        let root = headers.root_id.as_deref().filter(|root| !root.is_empty());
        Self {
            id: &headers.id,
            root: root.unwrap_or(&headers.id),
            priority: priority
                .filter(|_| app.settings().task_inherit_parent_priority)
                .and_then(|priority| u8::try_from(priority).ok()),
        }
    }

    /// As options of a call.
    pub(super) fn options(&self) -> Map<String, Value> {
        let options = [("parent_id", self.id), ("root_id", self.root)];
        options
            .map(|(key, id)| (key.to_owned(), json!(id)))
            .into_iter()
            .collect()
    }
}

/// Composes the message of a call; a task of this app says itself what the call does not.
pub(crate) fn compose(
    app: &App,
    call: Call,
    parent: Option<&Parent<'_>>,
) -> Result<FollowUp, CanvasError> {
    let options = Options(&call.options);
    let own = app.with_those_of_the_task(&call.task, SendOptions::default());
    let mut composed = task_call(app, &call, &own, parent);
    composed.embed = Embed {
        callbacks: options.signatures("link")?,
        errbacks: options.signatures("link_error")?,
        chain: options.signatures("chain")?,
        chord: options.signature("chord")?,
        ..Embed::default()
    };
    if let Some(expires) = options.time("expires").or(own.expires) {
        composed.expire_at(expires, clock::now());
    }
    let mut message = composed.into_message();
    let serializer = options.text("serializer");
    let compression = options.text("compression");
    app.write_as_told(
        &mut message,
        serializer.and_then(|name| Serializer::named(&name)),
        compression.and_then(|name| Compression::named(&name)),
    );
    if call.shows_list && !call.args.is_empty() && !options.0.contains_key("argsrepr") {
        // Celery shows what it merged as a tuple, and what it left alone as the list that it was.
        message.headers.argsrepr = Some(repr::saferepr(&Value::Array(call.args)));
    }
    let route = options.text("route_name").unwrap_or(call.task);
    let queue = app.queue(&route, options.text("queue").or(own.queue).as_deref());
    Ok(FollowUp { message, queue })
}

/// All but what follows the task, and when it expires.
fn task_call(app: &App, call: &Call, own: &SendOptions, parent: Option<&Parent<'_>>) -> TaskCall {
    let options = Options(&call.options);
    let ignores = || Some(app.registered(&call.task)?.effective.ignore_result);
    let seconds = |limit: Duration| limit.as_secs().into();
    let priority = options.0.get("priority").and_then(Value::as_u64);
    let priority = priority.and_then(|priority| u8::try_from(priority).ok());
    let priority = priority.or(parent.and_then(|parent| parent.priority));
    let root = parent.map(|parent| parent.root.to_owned());
    let sender = parent.map(|parent| parent.id.to_owned());
    let id = options.text("task_id").unwrap_or_default();
    let reply_to = options.text("reply_to");
    let stamped_headers = options.stamped();
    let [stamps, properties] = options.unknown(stamped_headers.as_deref());
    TaskCall {
        kwargs: call.kwargs.clone(),
        origin: origin(),
        reply_to: reply_to.or_else(|| Some(app.oid().to_owned())),
        shadow: options.text("shadow"),
        eta: options.time("countdown").or_else(|| options.time("eta")),
        timelimit: TimeLimit {
            hard: options.number("time_limit").or(own.time_limit.map(seconds)),
            soft: options
                .number("soft_time_limit")
                .or(own.soft_time_limit.map(seconds)),
        },
        group: options.text("group_id"),
        group_index: options.0.get("group_index").and_then(Value::as_i64),
        retries: options.count("retries"),
        root_id: options.text("root_id").or(root),
        parent_id: options.text("parent_id").or(sender),
        argsrepr: options.text("argsrepr"),
        kwargsrepr: options.text("kwargsrepr"),
        ignore_result: options.flag("ignore_result").or_else(ignores),
        replaced_task_nesting: options.count("replaced_task_nesting"),
        stamped_headers,
        stamps,
        priority: app.priority(priority.or(own.priority)),
        headers: options.map("headers"),
        properties,
        ..TaskCall::new(&call.task, id, call.args.clone())
    }
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

    /// The names of the stamps.
    fn stamped(&self) -> Option<Vec<String>> {
        let names = self.0.get("stamped_headers")?.as_array()?.iter();
        let names = names.filter_map(Value::as_str);
        Some(names.map(ToOwned::to_owned).collect())
    }

    /// Those that mean nothing here: the stamps, and all others.
    fn unknown(&self, stamped: Option<&[String]>) -> [Map<String, Value>; 2] {
        let unknown = self.0.iter();
        let unknown = unknown.filter(|(key, _)| !KNOWN.contains(&key.as_str()));
        let unknown = unknown.map(|(key, value)| (key.clone(), value.clone()));
        let is_stamp = |key: &String| stamped.is_some_and(|names| names.contains(key));
        let (stamps, others) = unknown.partition(|(key, _)| is_stamp(key));
        [stamps, others]
    }

    fn count(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or(0)
    }

    /// One, or a list of them.
    fn signatures(&self, key: &str) -> Result<Option<Vec<Signature>>, CanvasError> {
        let list = match self.0.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(list)) => list.clone(),
            Some(one) => vec![one.clone()],
        };
        let signatures = list.into_iter().map(Signature::from_value);
        Ok(Some(signatures.collect::<Result<_, _>>()?))
    }

    fn signature(&self, key: &str) -> Result<Option<Signature>, CanvasError> {
        let chord = self.0.get(key).filter(|chord| !chord.is_null()).cloned();
        Ok(chord.map(Signature::from_value).transpose()?)
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

    use super::super::{Action, after_success};
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
            let sent = after_success(&app, &ended.into_message(), &json!(1));
            let Some(Action::Send(sent)) = sent.expect("it can be sent").actions.pop() else {
                unreachable!("one call follows");
            };
            let FollowUp { message, queue } = *sent;
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
    fn what_follows_has_the_priority_of_its_parent_where_the_settings_say_so() {
        let sent = |task_inherit_parent_priority: bool| {
            let settings = Settings {
                broker_url: "memory://".to_owned(),
                task_inherit_parent_priority,
                ..Settings::default()
            };
            let app = App::builder("x", settings).build();
            let mut link = Signature::new("after", Vec::new(), Map::new());
            link.options.insert("priority".to_owned(), json!(2));
            let mut ended = TaskCall::new("before", "an-id", Vec::new());
            ended.priority = 7;
            ended.embed.callbacks = Some(vec![link]);
            ended.embed.chain = Some(vec![Signature::new("next", Vec::new(), Map::new())]);
            let ended = ended.into_message();
            let sent = after_success(&app.expect("the URL is right"), &ended, &json!(1));
            let actions = sent.expect("it can be sent").actions.into_iter();
            let priorities = actions.map(|action| match action {
                Action::Send(sent) => sent.message.properties.priority,
                Action::Start { .. } => None,
            });
            priorities.collect::<Vec<_>>()
        };
        assert_eq!(sent(false), [Some(2), Some(0)]);
        // As in Celery, over that of the signature, too.
        assert_eq!(sent(true), [Some(7), Some(7)]);
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
