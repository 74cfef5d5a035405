//! Remote control: Python's tools against our worker, revoking, and requests that mean no good.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::time::Duration;

use celeriac::SendOptions;
use celeriac_tests::control::{Client, ask, celery, enveloped, request, to};
use celeriac_tests::eventually::eventually;
use celeriac_tests::fleet::{Fleet, times};
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::{python_worker, test_worker};
use celeriac_tests::proxy::FreezingProxy;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How soon a ping is answered.
const PING_MAX: Duration = Duration::from_millis(50);

fn named(name: &str) -> SendOptions {
    SendOptions {
        task_id: Some(name.to_owned()),
        ..SendOptions::default()
    }
}

fn later(name: &str) -> SendOptions {
    SendOptions {
        countdown: Some(Duration::from_secs(3600)),
        ..named(name)
    }
}

/// Our worker under this name, with further arguments.
async fn worker(fleet: &Fleet, directory: &TempDir, name: &str, arguments: &[&str]) -> Process {
    let mut command = test_worker(&fleet.redis.url(0), &fleet.redis.url(1));
    command
        .args(["-n", &format!("{name}@host")])
        .args(arguments);
    Process::ready(
        directory.path(),
        name,
        command.current_dir(directory.path()),
    )
    .await
}

/// A list's first entry, objects by their keys, all else by its type.
fn form(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("flag"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
        Value::Array(items) => items.iter().take(1).map(form).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), form(value)))
            .collect(),
    }
}

/// One of our workers and one of Python's, each on a queue of its name.
pub(crate) async fn both(fleet: &Fleet, directory: &TempDir) -> [Process; 2] {
    let ours = worker(fleet, directory, "ours", &["-Q", "ours"]).await;
    let mut command = python_worker(&fleet.redis.url(0), &fleet.redis.url(1));
    let command = command.args(["-Q", "theirs", "-n", "theirs@host"]);
    let python = Process::ready(directory.path(), "theirs", command).await;
    [ours, python]
}

/// More than the two slots can run, and a task for later.
async fn keep_busy(fleet: &Fleet, queue: &str) {
    let to_queue = |options: SendOptions| SendOptions {
        queue: Some(queue.to_owned()),
        ..options
    };
    for number in 0..3 {
        let options = to_queue(named(&format!("{queue}-{number}")));
        fleet.send("proj.nap", vec![json!(600)], options).await;
    }
    let options = to_queue(later(&format!("{queue}-later")));
    let args = vec![json!(1), json!(2)];
    fleet.send("proj.add", args, options).await;
}

/// What both workers answer to each method.
pub(crate) async fn ask_both(fleet: &Fleet, methods: &[&str]) -> Vec<[Value; 2]> {
    let calls = methods.iter();
    let calls: Vec<Value> = calls
        .map(|method| json!(["broadcast", method, {}, null, 2]))
        .collect();
    let answers = ask(fleet, &calls).await.into_iter();
    answers
        .map(|answer| ["ours@host", "theirs@host"].map(|node| answer[node].clone()))
        .collect()
}

#[tokio::test]
async fn a_busy_worker_shows_its_tasks_as_pythons_does() {
    let fleet = Fleet::new("").await;
    let directory = TempDir::new().expect("a directory");
    let _both = both(&fleet, &directory).await;
    for queue in ["ours", "theirs"] {
        keep_busy(&fleet, queue).await;
    }
    let answers = eventually("both workers are busy", PATIENCE * 2, async || {
        let answers = ask_both(&fleet, &["active", "reserved", "scheduled"]).await;
        let counts = answers.iter().flatten();
        let counts = counts.map(|answer| answer.as_array().map_or(0, Vec::len));
        (counts.collect::<Vec<_>>() == [2, 2, 1, 1, 1, 1]).then_some(answers)
    })
    .await;
    for [ours, theirs] in &answers {
        assert_eq!(form(ours), form(theirs), "{ours} {theirs}");
        let mut expected = theirs[0]["delivery_info"].clone();
        if !expected.is_null() {
            expected["routing_key"] = json!("ours");
        }
        assert_eq!(ours[0]["delivery_info"], expected);
    }
    let ids = ["ours-0", "ours-2", "ours-later", "x"];
    let queried = to("ours@host", "query_task", &json!({"ids": ids}));
    let answer = ask(&fleet, &[queried]).await.remove(0);
    let stages = ids.map(|id| answer["ours@host"][id][0].clone());
    assert_eq!(
        json!(stages),
        json!(["active", "reserved", "scheduled", null])
    );
}

#[tokio::test]
async fn every_other_answer_has_the_form_of_pythons() {
    let fleet = Fleet::new("").await;
    let directory = TempDir::new().expect("a directory");
    let _both = both(&fleet, &directory).await;
    let methods = [
        "ping",
        "clock",
        "active_queues",
        "registered",
        "revoked",
        "report",
        "stats",
        "no_such_method",
        "heartbeat",
        "disable_events",
        "enable_events",
        "enable_events",
        "disable_events",
        "election",
    ];
    let answers = ask_both(&fleet, &methods).await;
    assert_eq!(answers.len(), methods.len());
    for (method, [mut ours, mut theirs]) in methods.into_iter().zip(answers) {
        if method == "stats" {
            for stats in [&mut ours, &mut theirs] {
                // Ours has no pool of processes that it writes to.
                stats["pool"]["writes"] = Value::Null;
            }
        }
        assert_eq!(form(&ours), form(&theirs), "{method}: {ours} {theirs}");
        if matches!(
            method,
            "ping" | "no_such_method" | "election" | "enable_events" | "disable_events"
        ) {
            assert_eq!(ours, theirs, "{method}");
        }
    }
}

#[tokio::test]
async fn the_prefetch_count_is_shown_as_pythons_is() {
    let fleet = Fleet::new("").await;
    let directory = TempDir::new().expect("a directory");
    let arguments = ["--prefetch-multiplier=3", "--disable-prefetch"];
    let _ours = worker(&fleet, &directory, "ours", &arguments).await;
    let mut command = python_worker(&fleet.redis.url(0), &fleet.redis.url(1));
    let command = command.args(["-n", "theirs@host"]).args(arguments);
    let _theirs = Process::ready(directory.path(), "theirs", command).await;
    let [ours, theirs] = ask_both(&fleet, &["stats"]).await.remove(0);
    assert_eq!(ours["prefetch_count"], theirs["prefetch_count"]);
    assert_eq!(ours["prefetch_count"], json!(6), "{ours}");
}

#[tokio::test]
async fn celerys_command_line_finds_our_worker() {
    let fleet = Fleet::new("").await;
    let directory = TempDir::new().expect("a directory");
    let _first = worker(&fleet, &directory, "w1", &[]).await;
    let _second = worker(&fleet, &directory, "w2", &[]).await;
    let status = celery(&fleet, &["status", "-j"]).await;
    let (nodes, _) = status.split_once('\n').expect("two lines");
    let nodes: Value = serde_json::from_str(nodes).expect("JSON");
    assert_eq!(
        nodes,
        json!({"w1@host": {"ok": "pong"}, "w2@host": {"ok": "pong"}})
    );
    let one = celery(&fleet, &["inspect", "registered", "-j", "-d", "w2@host"]).await;
    let one: Value = serde_json::from_str(one.lines().next().expect("a line")).expect("JSON");
    let tasks = one["w2@host"].as_array().expect("a list");
    assert!(tasks.contains(&json!("proj.add")), "{one}");
    assert_eq!(one.as_object().map(serde_json::Map::len), Some(1));
    let bindings = celery(&fleet, &["list", "bindings"]).await;
    assert!(bindings.contains("celery"), "{bindings}");
}

#[tokio::test]
async fn ping_is_answered_at_once_while_all_slots_are_busy_and_the_queue_is_full() {
    let fleet = Fleet::new("").await;
    let gate = fleet.gate();
    for _ in 0..200 {
        fleet.wait_for(&gate).await;
    }
    let worker = fleet.worker("worker").await;
    fleet.holds(8).await;
    let mut client = Client::bind(&fleet).await;
    let mut took = Vec::new();
    for _ in 0..21 {
        let (answer, ping) = client.ask("ping", &json!({})).await;
        assert_eq!(answer, json!({"ok": "pong"}));
        took.push(ping);
    }
    took.sort();
    // The machine may be busy with a compiler for a moment, but not half of the time.
    assert!(took[10] < PING_MAX, "{took:?}");
    drop(worker);
}

#[tokio::test]
async fn tasks_that_never_yield_hold_up_no_ping_and_have_their_limits() {
    let fleet = Fleet::new("").await;
    let directory = TempDir::new().expect("a directory");
    // One for each of the runtime's threads.
    let slots = std::thread::available_parallelism().map_or(1, NonZero::get);
    let limits = ["-c", &slots.to_string(), "--time-limit", "2"];
    let mut worker = worker(&fleet, &directory, "w1", &limits).await;
    let stubborn = fleet
        .send("proj.stubborn", vec![json!(600)], named("stubborn"))
        .await;
    for _ in 1..slots {
        fleet
            .send("proj.stubborn", vec![json!(600)], SendOptions::default())
            .await;
    }
    worker.says("proj.stubborn[stubborn] received").await;
    let mut client = Client::bind(&fleet).await;
    for _ in 0..5 {
        let (answer, _) = client.ask("ping", &json!({})).await;
        assert_eq!(answer, json!({"ok": "pong"}));
    }
    fleet.ends(&stubborn).await;
    let log = worker.log();
    assert!(
        log.contains("Hard time limit (2.0s) exceeded for proj.stubborn[stubborn]"),
        "{log}"
    );
}

#[tokio::test]
async fn what_is_revoked_before_it_runs_never_runs() {
    let fleet = Fleet::new("").await;
    let gate = fleet.gate();
    let directory = TempDir::new().expect("a directory");
    let worker = worker(&fleet, &directory, "w1", &[]).await;
    for _ in 0..2 {
        fleet.wait_for(&gate).await;
    }
    fleet.holds(2).await;
    fleet.send("proj.echo", Vec::new(), named("reserved")).await;
    fleet
        .send("proj.echo", Vec::new(), later("scheduled"))
        .await;
    fleet.holds(4).await;
    let result = |id: &str| json!(["result", id]);
    let ids = ["reserved", "scheduled", "not-sent-yet"];
    let mut calls = vec![to("w1@host", "revoke", &json!({"task_id": ids}))];
    calls.extend(ids.map(result));
    let answers = ask(&fleet, &calls).await;
    let text = "tasks {'reserved', 'scheduled', 'not-sent-yet'} flagged as revoked";
    assert_eq!(answers[0], json!({"w1@host": {"ok": text}}));
    for answer in &answers[1..] {
        // At once, while all slots are busy.
        assert_eq!(*answer, json!(["REVOKED", "TaskRevokedError('revoked')"]));
    }
    fleet
        .send("proj.echo", Vec::new(), later("not-sent-yet"))
        .await;
    let after = fleet.send("proj.echo", Vec::new(), named("after")).await;
    gate.open();
    fleet.ends(&after).await;
    // What is scheduled is discarded when its time comes; the others are gone.
    fleet.holds(1).await;
    let log = worker.log();
    for id in ["reserved", "not-sent-yet"] {
        assert_eq!(
            times(&log, &format!("Discarding revoked task: proj.echo[{id}]")),
            1,
            "{log}"
        );
        assert_eq!(
            times(&log, &format!("proj.echo[{id}] succeeded")),
            0,
            "{log}"
        );
    }
    let answers = ask(
        &fleet,
        &[result("reserved"), result("not-sent-yet"), result("after")],
    )
    .await;
    assert_eq!(
        answers[0],
        json!(["REVOKED", "TaskRevokedError('revoked')"])
    );
    assert_eq!(answers[1], answers[0]);
    assert_eq!(answers[2][0], json!("SUCCESS"));
}

#[tokio::test]
async fn what_runs_goes_on_unless_it_is_terminated() {
    let fleet = Fleet::new("").await;
    let gate = fleet.gate();
    let directory = TempDir::new().expect("a directory");
    let mut worker = worker(&fleet, &directory, "w1", &[]).await;
    let goes_on = fleet.wait_for(&gate).await;
    // Acknowledged before it runs, with a thread of its own; and acknowledged afterwards.
    for task in ["proj.nap", "proj.nap_late"] {
        let name = format!("ended-{task}");
        fleet.send(task, vec![json!(600)], named(&name)).await;
        worker.says(&format!("{name}] received")).await;
        let is_active = async || {
            let query = to("w1@host", "query_task", &json!({"ids": [name]}));
            let answer = ask(&fleet, &[query]).await.remove(0);
            (answer["w1@host"][&name][0] == json!("active")).then_some(())
        };
        eventually("it runs", PATIENCE, is_active).await;
        let arguments = json!({"task_id": [name], "terminate": true, "signal": "SIGTERM"});
        let calls = [
            to("w1@host", "revoke", &json!({"task_id": goes_on.id()})),
            json!(["result", goes_on.id()]),
            to("w1@host", "revoke", &arguments),
        ];
        let answers = ask(&fleet, &calls).await;
        assert_eq!(answers[1][0], json!("PENDING"), "it is left to the run");
        assert_eq!(
            answers[2],
            json!({"w1@host": {"ok": format!("terminate: {name}")}})
        );
        worker.says(&format!("Terminating {name} (15)")).await;
        worker
            .says(&format!("{task}[{name}] was terminated by remote control"))
            .await;
        fleet.holds(1).await;
        let answers = ask(&fleet, &[json!(["result", name])]).await;
        assert_eq!(
            answers[0],
            json!(["REVOKED", "TaskRevokedError('terminated')"])
        );
    }
    gate.open();
    fleet.ends(&goes_on).await;
    let calls = [
        to(
            "w1@host",
            "revoke",
            &json!({"task_id": goes_on.id(), "terminate": true}),
        ),
        json!(["result", goes_on.id()]),
        to("w1@host", "active", &json!({})),
    ];
    let answers = ask(&fleet, &calls).await;
    assert_eq!(
        answers[0],
        json!({"w1@host": {"ok": "terminate: tasks unknown"}}),
        "it is over"
    );
    assert_eq!(answers[1][0], json!("SUCCESS"), "and stays what it is");
    assert_eq!(answers[2], json!({"w1@host": []}));
}

#[tokio::test]
async fn revoked_ids_outlive_a_kill_with_a_state_file() {
    let fleet = Fleet::new("").await;
    let directory = TempDir::new().expect("a directory");
    let arguments = ["-S", "state-%n"];
    let mut first = worker(&fleet, &directory, "w1", &arguments).await;
    let mut client = Client::bind(&fleet).await;
    client
        .ask("revoke", &json!({"task_id": ["unwanted"]}))
        .await;
    let state = directory.path().join("state-w1");
    eventually("it is written down", PATIENCE, async || {
        let text = std::fs::read_to_string(&state).unwrap_or_default();
        text.contains("unwanted").then_some(())
    })
    .await;
    first.kill();
    // The result says so already, but a worker goes by what it knows itself.
    fleet.run::<()>(&["FLUSHALL"]).await;
    let mut second = worker(&fleet, &directory, "w1", &arguments).await;
    fleet.send("proj.echo", Vec::new(), named("unwanted")).await;
    second
        .says("Discarding revoked task: proj.echo[unwanted]")
        .await;
    let mut client = Client::bind(&fleet).await;
    let (revoked, _) = client.ask("revoked", &json!({})).await;
    assert_eq!(revoked, json!(["unwanted"]));
    second.signal(Signal::TERM);
    assert_eq!(second.ends().await.code(), Some(0));

    std::fs::write(&state, "a shelve").expect("a directory that can be written");
    let mut command = test_worker(&fleet.redis.url(0), &fleet.redis.url(1));
    command
        .args(["-n", "w1@host", "-S", "state-w1"])
        .current_dir(directory.path());
    let mut refused = Process::start(directory.path(), "refused", &mut command);
    assert_eq!(refused.ends().await.code(), Some(1));
    let log = refused.log();
    assert!(
        log.contains("state-w1") && log.contains("give another one with --statedb"),
        "{log}"
    );
}

#[tokio::test]
async fn a_shutdown_from_remote_finishes_what_runs() {
    let fleet = Fleet::new("").await;
    let gate = fleet.gate();
    let directory = TempDir::new().expect("a directory");
    let mut stopped = worker(&fleet, &directory, "w1", &[]).await;
    let running = fleet.wait_for(&gate).await;
    fleet.holds(1).await;
    let mut client = Client::bind(&fleet).await;
    let (active, _) = client.ask("active", &json!({})).await;
    assert_eq!(active[0]["id"], json!(running.id()));
    let bound = async || -> BTreeSet<String> {
        fleet
            .run(&["SMEMBERS", "_kombu.binding.celery.pidbox"])
            .await
    };
    assert_eq!(
        bound().await,
        BTreeSet::from(["\u{6}\u{16}\u{6}\u{16}w1@host.celery.pidbox".to_owned()])
    );
    client
        .publish(&request("shutdown", &json!({}), &Value::Null))
        .await;
    stopped
        .says("WARNING/MainProcess] Got shutdown from remote")
        .await;
    // It still answers, so that one can see what holds it up.
    let (active, _) = client.ask("active", &json!({})).await;
    assert_eq!(active[0]["id"], json!(running.id()));
    gate.open();
    assert_eq!(stopped.ends().await.code(), Some(0), "{}", stopped.log());
    let meta = running.meta().await.expect("redis runs").expect("a result");
    assert_eq!(meta.status.as_str(), "SUCCESS");
    assert!(bound().await.is_empty(), "its name is gone");
}

#[tokio::test]
async fn broken_requests_harm_nobody() {
    let fleet = Fleet::new("").await;
    let directory = TempDir::new().expect("a directory");
    let worker = worker(&fleet, &directory, "w1", &[]).await;
    let mut client = Client::bind(&fleet).await;
    let no_clock = json!({});
    let reply_to_a_queue = json!({"exchange": "", "routing_key": "celery"});
    let reply_to_unbound = json!({"exchange": "reply.celery.pidbox", "routing_key": "victim"});
    let ping = |reply_to: &Value| request("ping", &json!({}), reply_to);
    let forged = "x\n[2026-11-26 00:00:00,000: INFO/MainProcess] forged";
    for bytes in [
        b"nope".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"[1]".to_vec(),
        b"{}".to_vec(),
        vec![b'['; 1_000_000],
        vec![b'x'; 1_000_000],
        enveloped("[1, 2]", &no_clock),
        enveloped("{}", &no_clock),
        enveloped("", &no_clock),
        enveloped(
            r#"{"method": "ping", "arguments": {}}"#,
            &json!({"clock": "x"}),
        ),
        enveloped(
            r#"{"method": "ping", "destination": {"w1@host": 1}}"#,
            &no_clock,
        ),
        enveloped(
            r#"{"method": "ping", "pattern": "(", "matcher": "pcre"}"#,
            &no_clock,
        ),
        request("ping", &json!([1]), &Value::Null),
        request("revoke", &json!({"task_id": {"a": [1]}}), &Value::Null),
        request(forged, &json!({}), &Value::Null),
        request("revoke", &json!({"task_id": forged}), &Value::Null),
        request("hello", &json!({"from_node": forged}), &Value::Null),
        ping(&json!("celery")),
        ping(&json!([])),
        ping(&reply_to_a_queue),
        ping(&reply_to_unbound),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
        assert_eq!(client.publish(&bytes).await, 1, "{shown}");
        let (answer, _) = client.ask("ping", &json!({})).await;
        assert_eq!(answer, json!({"ok": "pong"}), "after {shown}");
    }
    let result = fleet
        .send("proj.echo", Vec::new(), named("after all"))
        .await;
    fleet.ends(&result).await;
    let log = worker.log();
    assert!(
        !log.lines()
            .any(|line| line.starts_with("[2026-11-26 00:00:00,000")),
        "{log}"
    );
    assert!(log.contains("Control command error: "), "{log}");
    assert!(
        log.contains("pidbox command error: TypeError(\"unhashable type: 'dict'\")"),
        "{log}"
    );
    let keys: BTreeSet<String> = fleet.run(&["KEYS", "*victim*"]).await;
    assert!(keys.is_empty(), "{keys:?}");
    assert_eq!(
        fleet.waiting().await,
        0,
        "nothing was written to the task queue"
    );
}

#[tokio::test]
async fn after_an_outage_the_worker_listens_again() {
    let mut fleet = Fleet::new("").await;
    let mut worker = fleet.worker("worker").await;
    fleet.redis.kill();
    worker.says("Connection to broker lost").await;
    fleet.redis.restart().await;
    eventually("it listens again", Duration::from_secs(15), async || {
        (Client::bind(&fleet).await.publish(b"{}").await == 1).then_some(())
    })
    .await;
    let mut client = Client::bind(&fleet).await;
    assert_eq!(
        client.ask("ping", &json!({})).await.0,
        json!({"ok": "pong"})
    );
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_replaced() {
    let fleet = Fleet::new("").await;
    let proxy = FreezingProxy::start(fleet.redis.port()).await;
    let url = |database: u8| format!("redis://127.0.0.1:{}/{database}", proxy.port());
    let directory = TempDir::new().expect("a directory");
    let mut command = test_worker(&url(0), &url(1));
    let _worker = Process::ready(
        directory.path(),
        "worker",
        command.current_dir(directory.path()),
    )
    .await;
    let mut client = Client::bind(&fleet).await;
    assert_eq!(client.publish(b"{}").await, 1);
    proxy.freeze();
    // Nobody closes the old connection, so Redis goes on to believe that somebody listens there.
    eventually(
        "a second one listens",
        Duration::from_secs(15),
        async || (client.publish(b"{}").await == 2).then_some(()),
    )
    .await;
    assert_eq!(
        client.ask("ping", &json!({})).await.0,
        json!({"ok": "pong"})
    );
}

#[tokio::test]
async fn without_remote_control_nobody_listens() {
    let fleet = Fleet::new("worker_enable_remote_control = false\n").await;
    let worker = fleet.worker("worker").await;
    let mut client = Client::bind(&fleet).await;
    let heard = client
        .publish(&request("shutdown", &json!({}), &Value::Null))
        .await;
    assert_eq!(heard, 0);
    let result = fleet
        .send("proj.echo", Vec::new(), SendOptions::default())
        .await;
    fleet.ends(&result).await;
    drop(worker);
}
