//! Composing: the call that was made in Python, made here with the recorded ids, gives the recorded bytes.

use celeriac_protocol::{Map, Routing, Signature, TaskCall, TimeLimit, timestamp};
use chrono::Duration;
use serde_json::{Value, json};

use crate::{
    check_all, fixture,
    messages::{Recorded, scenario},
};

/// The same call through our API; ids, origin and the clock are the recorded ones.
#[expect(clippy::too_many_lines, reason = "one arm for each option of a call")]
fn compose(line: &Recorded, call: &Value) -> String {
    let envelope = line.envelope();
    let recorded = |key: &str| envelope.headers[key].as_str().unwrap().to_owned();
    let options = call["options"].as_object().unwrap();
    let text = |key: &str| options.get(key).and_then(Value::as_str).map(str::to_owned);
    let number = |key: &str| options.get(key).and_then(Value::as_number).cloned();
    let signatures = |key: &str| match options.get(key)? {
        Value::Array(list) => Some(
            list.iter()
                .cloned()
                .map(|sig| Signature::from_value(sig).unwrap())
                .collect(),
        ),
        one => Some(vec![Signature::from_value(one.clone()).unwrap()]),
    };
    let mut task = TaskCall::new(
        call["task"].as_str().unwrap(),
        recorded("id"),
        call["args"].as_array().unwrap().clone(),
    );
    task.kwargs = call["kwargs"].as_object().unwrap().clone();
    task.lang = "py".to_owned();
    task.origin = recorded("origin");
    task.reply_to = envelope.properties.reply_to.clone();
    if options.contains_key("eta") || options.contains_key("countdown") {
        task.eta = Some(timestamp::parse(&recorded("eta")).unwrap());
    }
    if options.contains_key("expires") {
        let expires = timestamp::parse(&recorded("expires")).unwrap();
        let left_ms: i64 = envelope
            .properties
            .expiration
            .as_ref()
            .unwrap()
            .parse()
            .unwrap();
        task.expire_at(expires, expires - Duration::milliseconds(left_ms));
    }
    task.shadow = text("shadow");
    task.root_id = text("root_id");
    task.parent_id = text("parent_id");
    (task.argsrepr, task.kwargsrepr) = (text("argsrepr"), text("kwargsrepr"));
    // Python leaves these two among the message's properties as well.
    task.properties = options
        .clone()
        .into_iter()
        .filter(|(key, _)| key == "argsrepr" || key == "kwargsrepr")
        .collect();
    task.timelimit = TimeLimit {
        hard: number("time_limit"),
        soft: number("soft_time_limit"),
    };
    task.ignore_result = Some(options.get("ignore_result") == Some(&Value::Bool(true)));
    task.priority = options
        .get("priority")
        .map_or(0, |priority| priority.as_i64().unwrap());
    task.delivery_mode = options
        .get("delivery_mode")
        .map_or(task.delivery_mode, |mode| mode.as_i64().unwrap());
    task.headers = options
        .get("headers")
        .map_or_else(Map::new, |headers| headers.as_object().unwrap().clone());
    if let Some(names) = options.get("stamped_headers").and_then(Value::as_array) {
        let names: Vec<String> = names
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        task.stamps = names
            .iter()
            .map(|name| (name.clone(), options[name].clone()))
            .collect();
        task.stamped_headers = Some(names);
    }
    task.embed.callbacks = signatures("link");
    task.embed.errbacks = signatures("link_error");
    let queue = text("queue").unwrap_or_else(|| "celery".to_owned());
    let tag = envelope.properties.delivery_tag.unwrap();
    task.into_message()
        .to_envelope(&Routing::queue(queue), &tag)
        .to_json()
}

#[test]
fn a_call_composes_to_the_bytes_that_python_sent() {
    let lines = fixture::<Recorded>("messages");
    let calls = lines
        .iter()
        .filter_map(|line| Some((line, line.call.as_ref()?)));
    check_all(
        "calls",
        calls.map(|(line, call)| (line.name.clone(), compose(line, call), line.message.clone())),
    );
}

#[test]
fn a_retried_message_is_the_bytes_that_python_sent() {
    let retry = |name: &str| {
        let [sent, retried] = &scenario(name)[..] else {
            panic!("{name}: two messages expected")
        };
        let recorded = retried.task();
        let mut task = sent.task();
        task.headers.retries += 1;
        task.headers.eta = recorded.headers.eta;
        task.headers.parent_id = Some(task.headers.id.clone());
        task.properties.expiration = recorded.properties.expiration;
        task.properties
            .extra
            .insert("origin".to_owned(), json!(task.headers.origin));
        let tag = recorded.properties.delivery_tag.unwrap();
        (
            name.to_owned(),
            task.to_envelope(&Routing::queue("celery"), &tag).to_json(),
            retried.message.clone(),
        )
    };
    check_all("retries", ["retried", "retry_later"].map(retry));
}

#[test]
fn ours_differs_from_pythons_in_lang_only() {
    let message = TaskCall::new(
        "worker.tasks.process_file_task",
        "id",
        vec![json!("data/split_1.csv")],
    )
    .into_message();
    let [recorded] = &scenario("delay")[..] else {
        panic!("one message expected")
    };
    let mut recorded = recorded.envelope().headers;
    recorded.insert("lang".to_owned(), json!("rs"));
    for (key, ours) in [("id", "id"), ("root_id", "id"), ("origin", "")] {
        recorded.insert(key.to_owned(), json!(ours));
    }
    assert_eq!(message.headers.to_map(), recorded);
}
