//! Events: what Celery's receiver hears of our worker beside a Python worker, and what telling may not do.

use std::process::Command;
use std::time::Duration;

use celeriac::{App, SendOptions, Settings};
use celeriac_tests::control::{ask, to};
use celeriac_tests::eventually::eventually;
use celeriac_tests::fleet::Fleet;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::{python, python_worker};
use chrono::{DateTime, Utc};
use rustix::process::Signal;
use serde_json::{Map, Value, json};

/// Long enough for an event that was sent to be heard.
const HEARING: Duration = Duration::from_millis(1500);

/// What differs from run to run, whoever sends.
const OF_THE_MOMENT: [&str; 7] = [
    "pid",
    "clock",
    "timestamp",
    "local_received",
    "runtime",
    "uuid",
    "root_id",
];

/// Python's receiver, and what it has heard.
struct Watch(Process);

impl Watch {
    fn start(fleet: &Fleet) -> Self {
        let mut command = python();
        Self(launch(fleet, "watch", command.arg("watch.py")))
    }

    fn events(&self) -> Vec<Value> {
        let log = self.0.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let events = whole.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        });
        events.collect()
    }

    fn of(&self, key: &str, value: &str) -> Vec<Value> {
        let events = self.events().into_iter();
        events.filter(|event| event[key] == value).collect()
    }

    /// Waits until it hears of this node: then it hears of all others, too.
    async fn hears(&self, kind: &str, node: &str) -> Value {
        eventually(&format!("{kind} of {node}"), PATIENCE, async || {
            let events = self.of("type", kind).into_iter();
            events.rev().find(|event| event["hostname"] == node)
        })
        .await
    }
}

fn launch(fleet: &Fleet, name: &str, command: &mut Command) -> Process {
    command
        .env("CELERY_BROKER_URL", fleet.redis.url(0))
        .env("CELERY_RESULT_BACKEND", fleet.redis.url(1));
    fleet.launch(name, command)
}

/// Our worker on the queue `ours`.
async fn ours(fleet: &Fleet, arguments: &[&str]) -> Process {
    let mut command = fleet.command("ours");
    command
        .args(["-n", "ours@host", "-Q", "ours"])
        .args(arguments);
    let mut worker = fleet.launch("ours", &mut command);
    worker.says(" ready.").await;
    worker
}

/// Python's on the queue `theirs`.
async fn theirs(fleet: &Fleet) -> Process {
    let mut command = python_worker(&fleet.redis.url(0), &fleet.redis.url(1));
    command.args(["-n", "theirs@host", "-Q", "theirs", "-E"]);
    let mut worker = fleet.launch("theirs", &mut command);
    worker.says(" ready.").await;
    worker
}

/// The calls that both workers get: a name for it, the task, its arguments, and how it is sent.
fn calls() -> Vec<(&'static str, &'static str, Value, SendOptions)> {
    let plain = SendOptions::default;
    let past: DateTime<Utc> = "2020-01-02T03:04:05.678901Z".parse().expect("a time");
    let future: DateTime<Utc> = "2099-01-02T03:04:05Z".parse().expect("a time");
    let expired = SendOptions {
        expires: Some(past),
        ..plain()
    };
    let timed = SendOptions {
        eta: Some(past),
        expires: Some(future),
        ..plain()
    };
    vec![
        ("good", "proj.add", json!([1, 2]), plain()),
        ("bad", "proj.boom", json!(["ValueError", "bang"]), plain()),
        ("twice", "proj.flaky", json!([1, 3]), plain()),
        ("never", "proj.flaky", json!([9, 0]), plain()),
        ("refused", "proj.refuses", json!([]), plain()),
        ("later", "proj.refuses_once", json!([]), plain()),
        ("expired", "proj.add", json!([1, 2]), expired),
        ("timed", "proj.add", json!([1, 2]), timed),
        ("ended", "proj.nap", json!([600]), plain()),
        ("revoked", "proj.add", json!([1, 2]), plain()),
    ]
}

/// The events of one task without what differs by nature; the place of a field counts.
fn comparable(events: &[Value], queue: &str) -> Vec<String> {
    let shown = events.iter().map(|event| {
        let event = event.as_object().expect("an object");
        let fields = event.iter().map(|(key, value)| match key.as_str() {
            key if OF_THE_MOMENT.contains(&key) => (
                key.to_owned(),
                json!(value.is_string() || value.is_number()),
            ),
            // The time of a retry is that of its run.
            "eta" if event.get("retries") != Some(&json!(0)) => {
                (key.to_owned(), json!(value.is_string()))
            }
            // Its text is that of another language.
            "traceback" => (key.to_owned(), json!(value.is_string())),
            _ => (key.to_owned(), value.clone()),
        });
        let fields: Map<String, Value> = fields.collect();
        json!(fields)
            .to_string()
            .replace(&format!("{queue}@host"), "NODE")
            .replace(&format!("{queue}-"), "")
    });
    let mut shown: Vec<String> = shown.collect();
    // The message of a retry may come back before its sender has told that it was sent.
    let is = |event: &str, kind: &str| event.contains(&format!(r#""type":"{kind}""#));
    for next in 1..shown.len() {
        if is(&shown[next], "task-retried") && is(&shown[next - 1], "task-received") {
            shown.swap(next - 1, next);
        }
    }
    shown
}

/// What is in a heartbeat of `node`, in its order, without what differs from beat to beat.
///
/// Not in one that answers the call of `celery events`, which says less and may be all that was
/// heard so far.
async fn form_of_a_beat(watch: &Watch, node: &str) -> String {
    let beat = eventually("a beat of its own", PATIENCE, async || {
        let mut events = watch.of("hostname", node).into_iter();
        events.find(|event| event["type"] == "worker-heartbeat" && !event["active"].is_null())
    })
    .await;
    let beat = beat.as_object().expect("an object");
    let form = beat.iter().map(|(key, value)| match key.as_str() {
        "freq" | "sw_sys" | "utcoffset" | "type" => (key.clone(), value.clone()),
        "loadavg" => (key.clone(), json!(value.as_array().map(Vec::len))),
        _ => (key.clone(), json!(value.is_number())),
    });
    json!(form.collect::<Map<_, _>>()).to_string()
}

#[tokio::test]
async fn every_event_has_the_fields_of_pythons() {
    let fleet = Fleet::new("").await;
    let watch = Watch::start(&fleet);
    let mut dump = python();
    dump.args(["-m", "celery", "-A", "proj", "events", "--dump"]);
    let mut dump = launch(&fleet, "dump", &mut dump);
    let _workers = (ours(&fleet, &["-E"]).await, theirs(&fleet).await);
    for node in ["ours@host", "theirs@host"] {
        watch.hears("worker-heartbeat", node).await;
        let revoke = to(
            node,
            "revoke",
            &json!({"task_id": ["ours-revoked", "theirs-revoked"]}),
        );
        ask(&fleet, &[revoke]).await;
    }
    for queue in ["ours", "theirs"] {
        for (name, task, args, options) in calls() {
            let args = args.as_array().expect("a list").clone();
            let options = SendOptions {
                task_id: Some(format!("{queue}-{name}")),
                queue: Some(queue.to_owned()),
                ..options
            };
            fleet.send(task, args, options).await;
        }
        let ended = format!("{queue}-ended");
        eventually("it runs", PATIENCE, async || {
            let events = watch.of("uuid", &ended);
            events
                .iter()
                .any(|event| event["type"] == "task-started")
                .then_some(())
        })
        .await;
        let node = format!("{queue}@host");
        let arguments = json!({"task_id": ended, "terminate": true, "signal": "SIGKILL"});
        ask(&fleet, &[to(&node, "revoke", &arguments)]).await;
    }
    for (name, ..) in calls() {
        let told = eventually("both have told it", PATIENCE, async || {
            let told = ["ours", "theirs"].map(|queue| {
                let events = watch.of("uuid", &format!("{queue}-{name}"));
                comparable(&events, queue)
            });
            (told[0].len() == told[1].len() && told[0] == told[1]).then_some(told[0].clone())
        });
        let told = tokio::time::timeout(PATIENCE - HEARING, told).await;
        let told = told.unwrap_or_else(|_| {
            let [ours, theirs] =
                ["ours", "theirs"].map(|queue| watch.of("uuid", &format!("{queue}-{name}")));
            panic!("{name}:\n{ours:#?}\n{theirs:#?}")
        });
        assert!(!told.is_empty(), "{name}");
    }
    let form = form_of_a_beat(&watch, "ours@host").await;
    assert_eq!(form, form_of_a_beat(&watch, "theirs@host").await);
    dump.says("task succeeded: proj.add(ours-good)").await;
}

#[tokio::test]
async fn a_worker_says_when_it_comes_lives_and_goes() {
    let fleet = Fleet::new("").await;
    let watch = Watch::start(&fleet);
    let mut worker = ours(&fleet, &["--heartbeat-interval", "1"]).await;
    let beat = watch.hears("worker-heartbeat", "ours@host").await;
    assert_eq!(
        (&beat["freq"], &beat["sw_ident"]),
        (&json!(1.0), &json!("celeriac"))
    );
    assert_eq!(
        (&beat["active"], &beat["processed"]),
        (&json!(0), &json!(0))
    );
    let to_ours = |name: &str| SendOptions {
        task_id: Some(name.to_owned()),
        queue: Some("ours".to_owned()),
        ..SendOptions::default()
    };
    fleet
        .send("proj.nap", vec![json!(600)], to_ours("runs"))
        .await;
    eventually("it counts", PATIENCE, async || {
        let beat = watch.hears("worker-heartbeat", "ours@host").await;
        (beat["active"] == 1 && beat["processed"] == 1).then_some(())
    })
    .await;
    ask(&fleet, &[to("ours@host", "heartbeat", &json!({}))]).await;
    let asked = eventually("the one that was asked for", PATIENCE, async || {
        let events = watch.of("type", "worker-heartbeat").into_iter();
        events.rev().find(|event| event["freq"] == json!(5))
    })
    .await;
    assert!(asked.get("active").is_none(), "{asked}");
    worker.signal(Signal::QUIT);
    worker.ends().await;
    watch.hears("worker-offline", "ours@host").await;
    assert!(
        watch.of("uuid", "runs").is_empty(),
        "nobody has switched them on"
    );
}

#[tokio::test]
async fn remote_control_switches_the_events_of_tasks() {
    let fleet = Fleet::new("").await;
    let watch = Watch::start(&fleet);
    let mut worker = ours(&fleet, &[]).await;
    watch.hears("worker-heartbeat", "ours@host").await;
    let switch = async |method: &str| {
        let answer = ask(&fleet, &[to("ours@host", method, &json!({}))]).await;
        answer[0]["ours@host"]["ok"].clone()
    };
    let run = async |name: &str| {
        let options = SendOptions {
            task_id: Some(name.to_owned()),
            queue: Some("ours".to_owned()),
            ..SendOptions::default()
        };
        let args = vec![json!(1), json!(2)];
        fleet
            .ends(&fleet.send("proj.add", args, options).await)
            .await;
    };
    assert_eq!(switch("enable_events").await, "task events enabled");
    run("heard").await;
    eventually("it is heard", PATIENCE, async || {
        (watch.of("uuid", "heard").len() == 3).then_some(())
    })
    .await;
    assert_eq!(switch("disable_events").await, "task events disabled");
    run("unheard").await;
    worker
        .says("Events of group {task} disabled by remote.")
        .await;
    tokio::time::sleep(HEARING).await;
    assert!(watch.of("uuid", "unheard").is_empty());
}

#[tokio::test]
async fn without_heartbeat_a_worker_says_nothing_of_itself() {
    let fleet = Fleet::new("worker_send_task_events = true\n").await;
    let watch = Watch::start(&fleet);
    let mut other = fleet.worker("other").await;
    let worker = ours(&fleet, &["--without-heartbeat"]).await;
    assert!(
        worker.log().contains(".> task events: ON\n"),
        "{}",
        worker.log()
    );
    let options = SendOptions {
        queue: Some("ours".to_owned()),
        ..SendOptions::default()
    };
    eventually("the other one is heard", PATIENCE, async || {
        (!watch.of("type", "worker-heartbeat").is_empty()).then_some(())
    })
    .await;
    other.signal(Signal::TERM);
    other.ends().await;
    eventually("its end is heard", PATIENCE, async || {
        (!watch.of("type", "worker-offline").is_empty()).then_some(())
    })
    .await;
    fleet
        .ends(
            &fleet
                .send("proj.add", vec![json!(1), json!(2)], options)
                .await,
        )
        .await;
    watch.hears("task-succeeded", "ours@host").await;
    let of_ours = watch.of("hostname", "ours@host").into_iter();
    let kinds = of_ours.map(|event| event["type"].as_str().unwrap_or_default().to_owned());
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        ["task-received", "task-started", "task-succeeded"]
    );
}

#[tokio::test]
async fn tasks_run_although_they_may_not_be_told_of_which_is_done_later() {
    let fleet = Fleet::new("").await;
    let watch = Watch::start(&fleet);
    let allow = async |channels: &[&str]| {
        let user = ["ACL", "SETUSER", "quiet", "on", ">secret", "~*", "+@all"];
        fleet.run::<()>(&[&user[..], channels].concat()).await;
    };
    allow(&["&/0.celery.pidbox", "&/0.celeryev/worker.*"]).await;
    let url = fleet
        .redis
        .url(0)
        .replace("redis://", "redis://quiet:secret@");
    let mut command = fleet.command("ours");
    command
        .env("CELERY_BROKER_URL", url)
        .args(["-n", "ours@host", "-Q", "ours", "-E"]);
    let worker = fleet.launch("ours", &mut command);
    watch.hears("worker-heartbeat", "ours@host").await;
    let mut results = Vec::new();
    for number in 0..100 {
        let options = SendOptions {
            task_id: Some(format!("task-{number}")),
            queue: Some("ours".to_owned()),
            ..SendOptions::default()
        };
        results.push(
            fleet
                .send("proj.add", vec![json!(1), json!(2)], options)
                .await,
        );
    }
    for result in &results {
        fleet.ends(result).await;
    }
    assert!(watch.of("type", "task-received").is_empty());
    allow(&["allchannels"]).await;
    eventually("all is told", PATIENCE, async || {
        (watch.of("type", "task-succeeded").len() == results.len()).then_some(())
    })
    .await;
    assert!(!worker.log().contains("INTERNAL ERROR"), "{}", worker.log());
}

#[tokio::test]
async fn a_client_tells_what_it_sends_as_pythons_does() {
    let fleet = Fleet::new("").await;
    let watch = Watch::start(&fleet);
    let worker = ours(&fleet, &[]).await;
    watch.hears("worker-heartbeat", "ours@host").await;
    let settings = Settings {
        broker_url: fleet.redis.url(0),
        task_send_sent_event: true,
        ..Settings::default()
    };
    let app = App::builder("proj", settings)
        .build()
        .expect("the URLs are right");
    let eta: DateTime<Utc> = "2099-01-02T03:04:05.678901Z".parse().expect("a time");
    let options = SendOptions {
        task_id: Some("ours-sent".to_owned()),
        queue: Some("elsewhere".to_owned()),
        eta: Some(eta),
        ..SendOptions::default()
    };
    let kwargs = Map::from_iter([("y".to_owned(), json!("b"))]);
    app.send_task("proj.add", vec![json!(1)], kwargs, options)
        .await
        .expect("redis runs");
    let mut sender = python();
    sender.args([
        "-c",
        "from datetime import datetime, timezone as t; from proj import app; app.conf.task_send_sent_event = True; \
         app.send_task('proj.add', (1,), {'y': 'b'}, task_id='theirs-sent', queue='elsewhere', \
         eta=datetime(2099, 1, 2, 3, 4, 5, 678901, t.utc))",
    ]);
    launch(&fleet, "sender", &mut sender).ends().await;
    let told = eventually("both have told it", PATIENCE, async || {
        let told = ["ours-sent", "theirs-sent"].map(|id| watch.of("uuid", id));
        (told.iter().all(|events| events.len() == 1)).then_some(told)
    })
    .await;
    let hosts = told.each_ref().map(|events| {
        let host = events[0]["hostname"].as_str().expect("a text");
        let digits = |character: char| character.is_ascii_digit();
        let (pid, host) = host.split_once('@').expect("a node name");
        (pid.trim_end_matches(digits).to_owned(), host.to_owned())
    });
    assert_eq!(hosts[0], hosts[1]);
    let shown = told.map(|mut events| {
        events[0]["hostname"] = json!("gen");
        comparable(&events, "")
    });
    assert_eq!(shown[0], shown[1]);
    drop(worker);
}
