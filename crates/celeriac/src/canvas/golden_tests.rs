//! What follows a task, compared with what Celery's tracer sent (`python_interop/recorder/canvas`).

use std::collections::HashMap;

use celeriac_protocol::canvas::Embed;
use celeriac_protocol::compose::TaskCall;
use celeriac_protocol::message::TaskMessage;
use serde_json::{Map, Value, json};

use super::{Action, FollowUps, after_success, errbacks};
use crate::app::{App, Settings};

const RECORDED: &str = include_str!("../../../../python_interop/fixtures/canvas/follow.jsonl");

#[test]
fn what_follows_is_what_celery_sends() {
    let mut seen = 0;
    for line in RECORDED.lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        if RUNS_IN_CELERY.iter().any(|name| {
            case["name"]
                .as_str()
                .is_some_and(|case| case.starts_with(name))
        }) {
            continue;
        }
        let settings = Settings {
            broker_url: "memory://".to_owned(),
            task_inherit_parent_priority: case["conf"]["task_inherit_parent_priority"] == true,
            ..Settings::default()
        };
        let app = App::builder("x", settings)
            .build()
            .expect("the URL is right");
        let ended = ended(&case["request"]);
        let follow_ups = match case["state"].as_str() {
            Some("SUCCESS") => after_success(&app, &ended, &json!(7)),
            // Those that run in the process are no messages.
            Some("FAILURE") => {
                let all = ended.embed.errbacks.iter().flatten().cloned();
                let sent = all.filter(|errback| !RUN_HERE.contains(&errback.task.as_str()));
                errbacks(
                    &app,
                    &sent.collect::<Vec<_>>(),
                    "T",
                    ended.headers.root_id.as_deref(),
                )
            }
            _ => continue,
        };
        let follow_ups = follow_ups.expect("it can be sent");
        assert_eq!(ours(follow_ups, &case), theirs(&case), "{}", case["name"]);
        seen += 1;
    }
    assert!(seen > 120, "{seen}");
}

/// As errbacks Celery calls its own tasks in the process, and fails to where it is a chain; we send them.
const RUNS_IN_CELERY: [&str; 4] = [
    "errback_chain",
    "errback_map",
    "errback_starmap",
    "errback_chunks",
];

/// Errbacks that the recorder's app has, and that take the failure itself.
const RUN_HERE: [&str; 2] = ["t.eb_new", "t.eb_more"];

fn ended(request: &Value) -> TaskMessage {
    let text = |key: &str| request[key].as_str().map(ToOwned::to_owned);
    let mut call = TaskCall::new("t.ended", "T", Vec::new());
    call.root_id = text("root_id");
    call.parent_id = text("parent_id");
    call.priority = request["delivery_info"]["priority"].as_i64().unwrap_or(0);
    let embed = ["callbacks", "errbacks", "chain", "chord"];
    let embed = embed
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), request.get(*key)?.clone())));
    call.embed = Embed::from_map(embed.collect()).expect("signatures");
    call.into_message()
}

fn ours(follow_ups: FollowUps, case: &Value) -> Value {
    let sends = follow_ups
        .actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Send(sent) => Some(sent.message),
            Action::Start { .. } => None,
        });
    let sends = sends.map(|message| {
        let embed = Value::Object(message.embed.to_map());
        let headers = message.headers;
        json!([
            [
                headers.task,
                message.args,
                message.kwargs,
                headers.id,
                embed
            ],
            [
                headers.group,
                headers.group_index,
                headers.root_id,
                headers.parent_id
            ],
        ])
    });
    let sends: Vec<Value> = sends.collect();
    let children = stored(case).map(|_| follow_ups.children);
    comparable(&json!([sends, children]))
}

/// The children that were stored with a success.
fn stored(case: &Value) -> Option<&Value> {
    let mut ops = case["ops"].as_array()?.iter();
    let stored = ops.find(|op| op["op"] == "store" && op["id"] == "T" && op["state"] == "SUCCESS");
    Some(&stored?["children"])
}

fn theirs(case: &Value) -> Value {
    let ops = case["ops"].as_array().expect("a list");
    let sends = ops.iter().filter(|op| op["op"] == "send").map(|op| {
        let options = &op["options"];
        let list = |key: &str| match &options[key] {
            Value::Object(one) => json!([one]),
            other => other.clone(),
        };
        let embed = json!({
            "callbacks": list("link"), "errbacks": list("link_error"),
            "chain": options["chain"], "chord": options["chord"],
        });
        // What stands in no option comes from the task that sends.
        let or = |key: &str, running: &Value| match &options[key] {
            Value::Null => running.clone(),
            given => given.clone(),
        };
        let root = match &case["request"]["root_id"] {
            Value::Null => json!("T"),
            root => root.clone(),
        };
        json!([
            [op["task"], op["args"], op["kwargs"], op["id"], embed],
            [
                options["group_id"],
                options["group_index"],
                or("root_id", &root),
                or("parent_id", &json!("T"))
            ],
        ])
    });
    let sends: Vec<Value> = sends.collect();
    let children = stored(case);
    comparable(&json!([sends, children]))
}

/// Ids by the order in which they appear, options without nulls and without the sender's oid.
fn comparable(value: &Value) -> Value {
    fn walk(value: &Value, names: &mut HashMap<String, String>) -> Value {
        match value {
            Value::Array(list) => list.iter().map(|value| walk(value, names)).collect(),
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                let told = keys
                    .into_iter()
                    .filter(|key| *key != "reply_to" && !map[*key].is_null());
                let pairs: Vec<_> = told
                    .map(|key| (key.clone(), walk(&map[key], names)))
                    .collect();
                pairs.into_iter().collect::<Map<_, _>>().into()
            }
            Value::String(text) => {
                let is_drawn = text.len() == 36 || text.strip_prefix('U').is_some_and(is_number);
                if !is_drawn {
                    return value.clone();
                }
                let count = names.len();
                let name = names
                    .entry(text.clone())
                    .or_insert_with(|| format!("id-{count}"));
                json!(name)
            }
            other => other.clone(),
        }
    }
    walk(value, &mut HashMap::new())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
