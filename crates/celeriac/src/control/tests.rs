//! Tests of every answer's form, and of what a request may not do.

use super::*;
use crate::app::{SendOptions, Settings};
use crate::clock;
use crate::handler::{Handler, Invocation, Outcome, TaskOptions};
use crate::state::Tracked;
use async_trait::async_trait;
use celeriac_protocol::compose::TaskCall;
use celeriac_protocol::message::TaskMessage;
use chrono::{DateTime, Utc};
use serde_json::Map;

struct Late;

#[async_trait]
impl Handler for Late {
    fn name(&self) -> &str {
        "proj.late"
    }

    fn options(&self) -> TaskOptions {
        TaskOptions {
            acks_late: Some(true),
            ..TaskOptions::default()
        }
    }

    async fn run(&self, _invocation: Invocation) -> Outcome {
        Outcome::Ignore
    }
}

fn control_with(settings: Settings) -> Control {
    let app = App::builder("proj", settings).handler(Late).build();
    let app = app.expect("the URLs are right");
    let state = WorkerState::load(app.settings(), app.lamport().clone()).expect("no state file");
    Control {
        events: Events::new("w1@host".to_owned(), state.clone(), false),
        rates: RateLimits::of(&app),
        app,
        state,
        hostname: "w1@host".to_owned(),
        queues: vec!["celery".to_owned(), "hipri".to_owned()],
        concurrency: 2,
        prefetch: 8,
        shutdown: Shutdown::new(),
    }
}

fn control() -> Control {
    control_with(Settings::default())
}

/// The answer before anything waits for a server.
fn ask(control: &Control, method: &str, arguments: &Value) -> Value {
    let map = arguments.as_object().expect("arguments are an object");
    let request = ControlRequest {
        method: method.to_owned(),
        arguments: map.clone(),
        destination: None,
        pattern: None,
        ticket: Value::Null,
        reply_to: None,
        clock: None,
        expires: None,
    };
    match control.dispatch(&request) {
        Answer::Value(value) => value,
        Answer::Revoked(revoked) => revoked.answer,
        Answer::Query { found, .. } => Value::Object(found),
        Answer::Scheduled => panic!("the messages have to be read first"),
        Answer::Heartbeat => Value::Null,
        Answer::NoReply => panic!("{method} is not answered"),
    }
}

fn track(control: &Control, id: &str) -> (Tracked, CancellationToken) {
    stamped(control, id, &json!({}))
}

fn stamped(control: &Control, id: &str, stamps: &Value) -> (Tracked, CancellationToken) {
    let mut call = TaskCall::new("proj.late", id, vec![json!(1)]);
    call.stamps = stamps.as_object().expect("an object").clone();
    call.stamped_headers = Some(call.stamps.keys().cloned().collect());
    let cancel = CancellationToken::new();
    let message = Arc::new(call.into_message());
    (control.state.track(&message, &cancel), cancel)
}

fn keys(value: &Value) -> Vec<&str> {
    let map = value.as_object().expect("an object");
    map.keys().map(String::as_str).collect()
}

#[test]
fn requests_are_shown_where_they_are() {
    let control = control();
    let (active, _cancel) = track(&control, "a");
    let (_reserved, _cancel) = track(&control, "r");
    assert!(active.start());
    active.acknowledge();

    let shown = ask(&control, "reserved", &json!({}));
    let expected = json!([{
        "id": "r", "name": "proj.late", "args": [1], "kwargs": {}, "type": "proj.late", "hostname": "w1@host",
        "time_start": null, "acknowledged": false,
        "delivery_info": {"exchange": null, "routing_key": null, "priority": 0, "redelivered": false},
        "worker_pid": null,
    }]);
    assert_eq!(
        shown.to_string(),
        expected.to_string(),
        "with the keys in Celery's order"
    );
    assert_eq!(ask(&control, "dump_reserved", &json!({})), shown);

    let shown = ask(&control, "active", &json!({"safe": true}));
    assert_eq!(
        (&shown[0]["id"], &shown[0]["args"]),
        (&json!("a"), &json!("(1,)"))
    );
    assert_eq!(shown[0]["acknowledged"], json!(true));
    assert_eq!(shown[0]["worker_pid"], json!(std::process::id()));
    let age = clock::now().timestamp() as f64 - shown[0]["time_start"].as_f64().expect("a time");
    assert!(age.abs() < 10.0, "{age}");

    let shown = ask(&control, "query_task", &json!({"ids": ["a", "r", "x"]}));
    let stages = ["a", "r"].map(|id| shown[id][0].as_str().unwrap_or_default());
    assert_eq!(stages, ["active", "reserved"]);
    assert_eq!(keys(&shown).len(), 2);
    assert_eq!(
        keys(&ask(&control, "query_task", &json!({"ids": "r"}))),
        ["r"]
    );

    let stats = ask(&control, "stats", &json!({}));
    assert_eq!(stats["total"], json!({"proj.late": 1}));
    assert_eq!(stats["prefetch_count"], json!(8));
}

/// Only its claim is held here.
#[tokio::test]
async fn what_waits_for_its_time_is_read_again_to_be_shown() {
    let control = control_with(Settings {
        broker_url: "memory://what-waits".to_owned(),
        ..Settings::default()
    });
    let (app, state) = (&control.app, &control.state);
    let call = app.send_task(
        "proj.late",
        vec![json!(1)],
        Map::new(),
        SendOptions::default(),
    );
    let id = call.await.expect("memory takes it").id().to_owned();
    let taken = app.transport().take(&["celery".to_owned()], 1).await;
    let delivery = taken.expect("it is there").remove(0);
    let limits = control.app.settings().message_limits();
    let message = TaskMessage::decode(&limits, delivery.raw()).expect("it is ours");
    let waiting = state.track(&Arc::new(message), &CancellationToken::new());
    let eta: DateTime<Utc> = "2026-11-23T17:44:35.769877Z".parse().expect("a time");
    waiting.wait(eta, &delivery);

    let shown = control.scheduled().await;
    assert_eq!(shown[0]["eta"], json!("2026-11-23T17:44:35.769877+00:00"));
    assert_eq!(shown[0]["priority"], json!(6));
    let request = &shown[0]["request"];
    assert_eq!(
        (&request["id"], &request["args"]),
        (&json!(id), &json!([1]))
    );
    let found = control
        .query_waiting(std::slice::from_ref(&id), Map::new())
        .await;
    assert_eq!(found[&id][0], json!("scheduled"));
    assert_eq!(ask(&control, "reserved", &json!({})), json!([]));
    let stats = ask(&control, "stats", &json!({}));
    assert_eq!(
        stats["prefetch_count"],
        json!(9),
        "one more for each that waits"
    );
    assert!(!waiting.is_revoked());
    state.revoke(std::slice::from_ref(&id));
    assert!(waiting.is_revoked());
    drop(waiting);
    assert_eq!(control.scheduled().await, json!([]));
}

#[test]
fn the_stats_have_celerys_keys() {
    let control = control_with(Settings {
        broker_url: "redis://user:s3cret@broker.example:6399/7".to_owned(),
        ..Settings::default()
    });
    let stats = ask(&control, "stats", &json!({}));
    assert_eq!(
        keys(&stats),
        [
            "total",
            "pid",
            "clock",
            "uptime",
            "pool",
            "broker",
            "prefetch_count",
            "rusage"
        ]
    );
    assert_eq!(stats["clock"], json!("0"), "as text");
    assert_eq!(stats["pool"]["max-concurrency"], json!(2));
    let broker = &stats["broker"];
    assert_eq!(broker["hostname"], json!("broker.example"));
    assert_eq!(
        (&broker["userid"], &broker["port"], &broker["virtual_host"]),
        (&json!("user"), &json!(6399), &json!("7"))
    );
    assert!(!stats.to_string().contains("s3cret"), "{stats}");
}

#[test]
fn no_password_is_in_any_answer() {
    let control = control_with(Settings {
        broker_url: "redis://:s3cret@broker.example:6399/0".to_owned(),
        result_backend: Some("redis://me:s3cret@broker.example:6399/1".to_owned()),
        worker_state_db: None,
        ..Settings::default()
    });
    for (method, arguments) in [
        ("conf", json!({})),
        ("dump_conf", json!({"with_defaults": true})),
        ("report", json!({})),
        ("stats", json!({})),
    ] {
        let answer = ask(&control, method, &arguments).to_string();
        assert!(!answer.contains("s3cret"), "{method}: {answer}");
        assert!(answer.contains("broker.example"), "{method}: {answer}");
    }
    let conf = ask(&control, "conf", &json!({}));
    assert_eq!(
        conf,
        json!({
            "broker_url": "redis://:********@broker.example:6399/0",
            "result_backend": "redis://me:********@broker.example:6399/1",
            "accept_content": ["json"],
            "enable_utc": true, "timezone": "UTC", "broker_heartbeat": 0, "worker_hijack_root_logger": true,
            "worker_log_color": null, "include": [], "deprecated_settings": null,
        })
    );
    let all = ask(&control, "conf", &json!({"with_defaults": true}));
    assert_eq!(all["task_acks_late"], json!(false));
    assert_eq!(all["worker_concurrency"], Value::Null);
    assert_eq!(all["worker_state_db"], Value::Null);
    assert_eq!(
        all["broker_transport_options"]["visibility_timeout"],
        json!(3600)
    );
    assert_eq!(
        all["broker_transport_options"]["unacked_key"],
        json!("********"),
        "as Celery"
    );
}

#[test]
fn tasks_and_queues_are_named() {
    let control = control();
    assert_eq!(
        ask(&control, "registered", &json!({})),
        json!(["proj.late"])
    );
    let items = json!({"taskinfoitems": ["acks_late", "rate_limit", 7, "name"], "builtins": true});
    let all = ask(&control, "dump_tasks", &items);
    let all = all.as_array().unwrap();
    assert_eq!(
        [&all[0], &all[all.len() - 1]],
        [
            "celery.accumulate [acks_late=False name=celery.accumulate]",
            "proj.late [acks_late=True name=proj.late]"
        ]
    );
    let queues = ask(&control, "active_queues", &json!({}));
    assert_eq!(queues[1]["name"], json!("hipri"));
    assert_eq!(queues[1]["exchange"]["type"], json!("direct"));
    assert_eq!(keys(&queues[0]).len(), 18);
    assert!(
        ask(&control, "memsample", &json!({}))
            .as_str()
            .expect("text")
            .ends_with("MB")
    );
}

/// Calls, and what Python's method raises.
fn failing_calls() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("no_such_method", json!({}), "KeyError('no_such_method')"),
        (
            "report",
            json!({"x": 1}),
            r#"TypeError("report() got an unexpected keyword argument 'x'")"#,
        ),
        (
            "revoke",
            json!({}),
            r#"TypeError("revoke() missing 1 required positional argument: 'task_id'")"#,
        ),
        (
            "revoke",
            json!({"task_id": {"a": [1]}}),
            r#"TypeError("unhashable type: 'dict'")"#,
        ),
        (
            "revoke",
            json!({"task_id": [["a"]]}),
            r#"TypeError("unhashable type: 'list'")"#,
        ),
        (
            "revoke",
            json!({"task_id": ["a".repeat(2000)]}),
            "ValueError('a task id has at most 1024 bytes')",
        ),
        (
            "revoke",
            json!({"task_id": "x", "terminate": true, "signal": "FOO"}),
            r#"AttributeError("module 'signal' has no attribute 'SIGFOO'")"#,
        ),
        (
            "terminate",
            json!({"signal": "kill", "task_id": "x"}),
            "TypeError('signal name must be uppercase string.')",
        ),
        (
            "hello",
            json!({}),
            r#"TypeError("hello() missing 1 required positional argument: 'from_node'")"#,
        ),
        (
            "election",
            json!({}),
            r#"TypeError("election() missing 2 required positional arguments: 'id' and 'topic'")"#,
        ),
        (
            "autoscale",
            json!({"max": 1}),
            "ValueError('Autoscale not enabled')",
        ),
        (
            "pool_restart",
            json!({}),
            "ValueError('Pool restarts not enabled')",
        ),
        (
            "enable_events",
            json!({"x": 1}),
            "TypeError(\"enable_events() got an unexpected keyword argument 'x'\")",
        ),
    ]
}

/// The same of `revoke_by_stamped_headers`.
fn failing_stamps() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"terminate": true}),
            r#"TypeError("revoke_by_stamped_headers() missing 1 required positional argument: 'headers'")"#,
        ),
        (
            json!({"headers": null, "signal": "term"}),
            "TypeError('signal name must be uppercase string.')",
        ),
        (
            json!({"headers": null}),
            r#"AttributeError("'NoneType' object has no attribute 'items'")"#,
        ),
        (
            json!({"headers": "a=b"}),
            r#"AttributeError("'str' object has no attribute 'items'")"#,
        ),
        (
            json!({"headers": ["a=b", 7]}),
            r#"AttributeError("'int' object has no attribute 'split'")"#,
        ),
        (
            json!({"headers": ["a=b", "c"]}),
            "IndexError('list index out of range')",
        ),
        (
            json!({"headers": {"a": "b", "c": null}}),
            r#"TypeError("'NoneType' object is not iterable")"#,
        ),
        (
            json!({"headers": {"a": ["b", "c".repeat(2000)]}}),
            "ValueError('a stamp has at most 1024 bytes')",
        ),
    ]
}

#[test]
fn what_python_would_raise_is_answered() {
    let control = control();
    let of_stamps = failing_stamps().into_iter();
    let of_stamps =
        of_stamps.map(|(arguments, expected)| ("revoke_by_stamped_headers", arguments, expected));
    for (method, arguments, expected) in failing_calls().into_iter().chain(of_stamps) {
        assert_eq!(
            ask(&control, method, &arguments),
            json!({"error": expected}),
            "{method}"
        );
    }
    assert!(
        control.state.revoked_ids().is_empty(),
        "what fails has no effect"
    );
    let (unstopped, _cancel) = stamped(&control, "s", &json!({"a": "b"}));
    assert!(unstopped.start(), "neither on stamps");
    assert_eq!(
        ask(&control, "ping", &json!({"x": 1})),
        json!({"ok": "pong"})
    );
    assert_eq!(ask(&control, "heartbeat", &json!({})), Value::Null);
}

#[test]
fn revoking_says_what_celery_says() {
    let control = control();
    let revoke = |arguments: &Value| ask(&control, "revoke", arguments);
    assert_eq!(
        revoke(&json!({"task_id": []})),
        json!({"ok": "tasks set() flagged as revoked"})
    );
    assert_eq!(
        revoke(&json!({"task_id": ["a", "b", "a"], "terminate": false, "signal": "SIGTERM"})),
        json!({"ok": "tasks {'a', 'b'} flagged as revoked"})
    );
    let (running, cancel) = track(&control, "r");
    assert!(running.start());
    assert_eq!(
        revoke(&json!({"task_id": "r"})),
        json!({"ok": "tasks {'r'} flagged as revoked"})
    );
    assert!(!cancel.is_cancelled(), "it goes on");
    let terminate = json!({"task_id": ["x"], "terminate": true, "signal": "KILL"});
    assert_eq!(
        revoke(&terminate),
        json!({"ok": "terminate: tasks unknown"})
    );
    let terminate = json!({"task_id": ["x", "r"], "signal": 9});
    assert_eq!(
        ask(&control, "terminate", &terminate),
        json!({"ok": "terminate: r"})
    );
    assert!(cancel.is_cancelled());
    let revoked = json!(["a", "b", "r", "x"]);
    let mut shown = ask(&control, "revoked", &json!({}));
    shown
        .as_array_mut()
        .expect("a list")
        .sort_by_key(Value::to_string);
    assert_eq!(shown, revoked);
}

#[test]
fn what_runs_here_is_not_marked_and_the_others_are() {
    let control = control();
    let (running, _cancel) = track(&control, "r");
    assert!(running.start());
    let map = json!({"task_id": ["w", "r"]});
    let map = map.as_object().expect("an object");
    let answer = control.revoke(&Arguments::new("revoke", map));
    let Ok(Answer::Revoked(revoked)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(revoked.idle, ["w"]);
}

#[test]
fn revoking_by_stamps_says_what_celery_says() {
    let control = control();
    let revoke = |arguments: &Value| ask(&control, "revoke_by_stamped_headers", arguments);
    for (arguments, expected) in [
        (
            json!({"headers": {"who": ["a", "b"], "n": 1}, "terminate": false, "signal": "SIGTERM"}),
            "headers {'who': ['a', 'b'], 'n': 1} flagged as revoked, but not terminated",
        ),
        (
            json!({"headers": ["who=c", "k=v=w", "who=d"]}),
            "headers {'who': 'd', 'k': 'v'} flagged as revoked, but not terminated",
        ),
        (
            json!({"headers": {}, "terminate": true}),
            "headers {} were not terminated",
        ),
        (
            json!({"headers": [], "terminate": true, "signal": 9}),
            "headers {} were not terminated",
        ),
        (
            json!({"headers": {"who": "nobody"}, "terminate": true}),
            "headers {'who': 'nobody'} were not terminated",
        ),
    ] {
        assert_eq!(revoke(&arguments), json!({"ok": expected}), "{arguments}");
    }
    for (stamps, is_started) in [
        (json!({"who": "b"}), false),
        (json!({"who": ["x", "d"]}), false),
        (json!({"k": "v"}), false),
        (json!({"n": 1.0}), false),
        (json!({"who": ["c", "x"], "n": "1", "k": null}), true),
    ] {
        let (request, _cancel) = stamped(&control, "s", &stamps);
        assert_eq!(request.start(), is_started, "{stamps}");
    }
    assert_eq!(
        ask(&control, "revoked", &json!({})),
        json!([]),
        "ids only, as in Celery"
    );
}

#[test]
fn what_runs_with_a_revoked_stamp_goes_on_unless_it_is_terminated() {
    let control = control();
    let revoke = |arguments: &Value| ask(&control, "revoke_by_stamped_headers", arguments);
    let (first, first_cancel) = stamped(&control, "1", &json!({"who": ["a", "b"], "n": 1}));
    let (second, second_cancel) = stamped(&control, "2", &json!({"who": "b"}));
    let (other, other_cancel) = stamped(&control, "3", &json!({"who": "c"}));
    let (reserved, reserved_cancel) = stamped(&control, "4", &json!({"who": "b"}));
    assert!(first.start() && second.start() && other.start());
    revoke(&json!({"headers": {"who": ["a", "b", "c"]}}));
    assert!(!first_cancel.is_cancelled() && !other_cancel.is_cancelled());

    let headers = json!({"n": [1, true], "m": "x", "who": ["z", "b", "a"]});
    assert_eq!(
        revoke(&json!({"headers": headers, "terminate": true, "signal": "KILL"})),
        json!({"ok": "headers defaultdict(<class 'set'>, {'n': {1}, 'who': {'b', 'a'}}) revoked"})
    );
    assert!(first_cancel.is_cancelled() && second_cancel.is_cancelled());
    assert!(!other_cancel.is_cancelled() && !reserved_cancel.is_cancelled());
    assert_eq!((first.signal(), other.signal()), (Some(9), None));
    assert!(first.end() && second.end() && !other.end());
    assert!(!reserved.start());
    let stamp = reserved.revoking_stamp().expect("it was for a stamp");
    assert_eq!(Value::Object(*stamp), json!({"who": "b"}));
    assert_eq!(
        revoke(&json!({"headers": {"who": "b"}, "terminate": true})),
        json!({"ok": "headers {'who': 'b'} were not terminated"}),
        "it is over"
    );
}

#[test]
fn neighbours_of_any_version_are_greeted() {
    let control = control();
    let hello = |arguments: &Value| ask(&control, "hello", arguments);
    assert_eq!(
        hello(&json!({"from_node": "w1@host", "revoked": ["own"]})),
        Value::Null
    );
    let answer = hello(&json!({"from_node": "w2@host", "revoked": ["a", 7, "x".repeat(2000)]}));
    assert_eq!(answer, json!({"revoked": ["a"], "clock": 1}));
    let dict = json!({"from_node": "w3@host", "revoked": {"b": [12.5, "b"]}});
    assert_eq!(hello(&dict), json!({"revoked": ["a", "b"], "clock": 2}));
    let (request, _cancel) = track(&control, "b");
    assert!(
        !request.start(),
        "what a neighbour has revoked does not run here"
    );
}

#[test]
fn shutdown_stops_warmly() {
    let control = control();
    let map = json!({"msg": "bye"});
    let map = map.as_object().expect("an object");
    let answer = control.answer("shutdown", &Arguments::new("shutdown", map));
    assert!(matches!(answer, Ok(Answer::NoReply)), "{answer:?}");
    assert!(control.shutdown.is_stopping() && !control.shutdown.is_cold());
}
