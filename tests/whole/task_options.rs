//! Every option of a task, against what a Python worker does with it: the same messages, and what both show of them.

use std::time::{Duration, Instant};

use celeriac::protocol::state::State;
use celeriac::{SendOptions, clock, signature};
use celeriac_tests::eventually::eventually;
use celeriac_tests::process::PATIENCE;
use celeriac_tests::side::{Seen, Side, Sides, Told};
use chrono::TimeDelta;
use serde_json::{Map, Value, json};

fn options() -> SendOptions {
    SendOptions::default()
}

fn told(settings: &Value, flags: &[&'static str]) -> Told {
    Told {
        settings: settings.as_object().expect("a map").clone(),
        flags: flags.to_vec(),
    }
}

fn states(seen: &Seen) -> Vec<&str> {
    let states = seen.documents.iter();
    states.filter_map(|seen| seen["status"].as_str()).collect()
}

const DONE: &str = " succeeded in ";
const RAISED: &str = " raised unexpected: ";

#[tokio::test]
async fn results_and_states() {
    let sides = Sides::told(&Told::default()).await;
    let seen = sides
        .agree("plain", json!([{"a": [1, "é"]}]), options(), DONE)
        .await;
    assert_eq!(states(&seen), ["SUCCESS"]);
    sides
        .agree("fails", json!(["KeyError"]), options(), RAISED)
        .await;
    for (task, first) in [("tracked", "STARTED"), ("progress", "PROGRESS")] {
        let seen = sides.agree(task, json!([]), options(), DONE).await;
        assert_eq!(states(&seen), [first, "SUCCESS"]);
        // Nobody is told of the end before it is stored.
        assert_eq!(sides.ours.published(&seen), 2, "{task}");
    }
    let seen = sides
        .agree("ignores", json!([]), options(), " ignored")
        .await;
    assert_eq!(seen.documents.len(), 0);
    sides
        .agree(
            "throws",
            json!(["KeyError"]),
            options(),
            " raised expected: ",
        )
        .await;
    sides
        .agree("throws", json!(["ValueError"]), options(), RAISED)
        .await;
}

#[tokio::test]
async fn annotations_win_over_the_tasks() {
    let annotations = json!({
        "options.plain": {"track_started": true},
        "options.tracked": {"track_started": false},
        "options.ignored": {"store_errors_even_if_ignored": false},
        "*": {"store_errors_even_if_ignored": true},
    });
    let settings = json!({"task_annotations": annotations});
    let sides = Sides::told(&told(&settings, &[])).await;
    let seen = sides.agree("plain", json!([]), options(), DONE).await;
    assert_eq!(states(&seen), ["STARTED", "SUCCESS"]);
    let seen = sides.agree("tracked", json!([]), options(), DONE).await;
    assert_eq!(states(&seen), ["SUCCESS"]);
    // As it is in Celery, that of all tasks wins over that of the name.
    let seen = sides
        .agree("ignored", json!(["KeyError"]), options(), RAISED)
        .await;
    assert_eq!(states(&seen), ["FAILURE"]);
}

#[tokio::test]
async fn results_that_nobody_wants() {
    let sides = Sides::told(&Told::default()).await;
    let ignored = |ignored: bool| SendOptions {
        ignore_result: Some(ignored),
        ..options()
    };
    for (task, is_stored) in [
        ("ignored", false),
        ("plain", true),
        ("errors_stored", false),
    ] {
        // Sent by name, as by a client that does not know the task: the task decides.
        let seen = sides.agree(task, json!([]), options(), DONE).await;
        assert_eq!(!seen.documents.is_empty(), is_stored, "{task}");
        // The message decides.
        let seen = sides.agree(task, json!([]), ignored(true), DONE).await;
        assert_eq!(seen.documents.len(), 0, "{task}");
        let seen = sides.agree(task, json!([]), ignored(false), DONE).await;
        assert_eq!(states(&seen), ["SUCCESS"], "{task}");
    }
    for (task, is_stored) in [("ignored", false), ("errors_stored", true)] {
        let seen = sides
            .agree(task, json!(["ValueError"]), options(), RAISED)
            .await;
        assert_eq!(!seen.documents.is_empty(), is_stored, "{task}");
    }
}

#[tokio::test]
async fn retries() {
    let sides = Sides::told(&Told::default()).await;
    let seen = sides
        .agree("retried", json!(["KeyError"]), options(), RAISED)
        .await;
    assert_eq!(states(&seen), ["RETRY", "RETRY", "FAILURE"]);
    sides
        .agree("retried_without_cause", json!([1]), options(), RAISED)
        .await;
    let seen = sides.agree("unlimited", json!([5]), options(), DONE).await;
    let retried = seen.lines.iter().filter(|line| line.contains(" retry: "));
    assert_eq!(retried.count(), 5);
    assert_eq!(sides.ours.published(&seen), 5 + 1);
    let seen = sides
        .agree("retried_more", json!([]), options(), RAISED)
        .await;
    assert_eq!(states(&seen).len(), 3);
    let seen = sides
        .agree(
            "automatic",
            json!(["ConnectionResetError"]),
            options(),
            RAISED,
        )
        .await;
    assert_eq!(states(&seen), ["RETRY", "FAILURE"]);
    for kind in ["FileNotFoundError", "ValueError"] {
        let seen = sides
            .agree("automatic", json!([kind]), options(), RAISED)
            .await;
        assert_eq!(states(&seen), ["FAILURE"], "{kind}");
    }
    let seen = sides.agree("backoff", json!([]), options(), RAISED).await;
    let waits = ["Retry in 1s", "Retry in 2s", "Retry in 2s"];
    let retried = seen.lines.iter().filter(|line| line.contains(" retry: "));
    for (line, wait) in retried.zip(waits) {
        assert!(line.contains(wait), "{line}");
    }
}

#[tokio::test]
async fn retries_with_something_else() {
    let sides = Sides::told(&Told::default()).await;
    let args = |args: Value| args;
    let seen = sides
        .agree("retried_with_args", args(json!([1, 2, 3])), options(), DONE)
        .await;
    assert_eq!(seen.documents[1]["result"], json!(["new", "newer", null]));
    let seen = sides
        .agree("retried_with_kwargs", args(json!([1, 2])), options(), DONE)
        .await;
    assert_eq!(seen.documents[1]["result"], json!([1, "new"]));
    let headers: Map<String, Value> = [("mine".to_owned(), json!("kept"))].into_iter().collect();
    let with_headers = SendOptions {
        headers,
        priority: Some(6),
        ..options()
    };
    let seen = sides
        .agree("retried_elsewhere", json!([]), with_headers, DONE)
        .await;
    let second = &seen.documents[1]["result"];
    assert_eq!(second, &json!(["celery", 3, [50, 40], {"mine": "kept"}]));
}

#[tokio::test]
async fn what_a_task_can_ask() {
    let sides = Sides::told(&Told::default()).await;
    let asked = SendOptions {
        headers: [("trace".to_owned(), json!("t-1"))].into_iter().collect(),
        priority: Some(3),
        time_limit: Some(Duration::from_secs(30)),
        soft_time_limit: Some(Duration::from_secs(20)),
        expires: Some(clock::now() + TimeDelta::hours(1)),
        eta: Some(clock::now() - TimeDelta::seconds(1)),
        ..options()
    };
    sides.agree("request", json!([1, "a"]), asked, DONE).await;
    sides.agree("request", json!([]), options(), DONE).await;
}

#[tokio::test]
async fn time_limits_of_the_task() {
    let sides = Sides::told(&Told::default()).await;
    let exceeded = "Hard time limit (1s) exceeded";
    let seen = sides.agree("hard", json!([]), options(), exceeded).await;
    assert_eq!(seen.documents[0]["result"]["exc_type"], "TimeLimitExceeded");
    sides
        .agree("hard_late", json!([]), options(), exceeded)
        .await;
    let seen = sides.agree("hard_again", json!([]), options(), DONE).await;
    assert_eq!(states(&seen), ["FAILURE", "SUCCESS"]);
    let seen = sides.agree("soft", json!([]), options(), RAISED).await;
    assert_eq!(
        seen.documents[0]["result"]["exc_type"],
        "SoftTimeLimitExceeded"
    );
    let seen = sides.agree("soft_caught", json!([]), options(), DONE).await;
    assert_eq!(seen.documents[0]["result"], "cleaned up");
}

/// The message wins over the task, the task over the settings, the settings over the command line.
#[tokio::test]
async fn whose_time_limit_holds() {
    let flags = ["--time-limit", "1"];
    let limited = |seconds: u64| SendOptions {
        time_limit: Some(Duration::from_secs(seconds)),
        ..options()
    };
    let by_flag = Sides::told(&told(&json!({}), &flags)).await;
    by_flag
        .agree("naps", json!([5]), options(), "Hard time limit (1")
        .await;
    by_flag.agree("naps", json!([1.5]), limited(30), DONE).await;
    by_flag
        .agree("naps_limited", json!([1.5]), options(), DONE)
        .await;
    by_flag
        .agree("naps_limited", json!([5]), limited(1), "Hard time limit (1")
        .await;
    drop(by_flag);
    let by_setting = Sides::told(&told(&json!({"task_time_limit": 30}), &flags)).await;
    by_setting
        .agree("naps", json!([1.5]), options(), DONE)
        .await;
}

#[tokio::test]
async fn what_becomes_of_the_message() {
    let sides = Sides::told(&Told::default()).await;
    for (task, args, end) in [
        ("late", json!([1]), DONE),
        ("failure_refused", json!([]), RAISED),
        ("rejects_once", json!([]), DONE),
    ] {
        let seen = sides.agree(task, args, options(), end).await;
        assert_eq!(seen.left, (0, 0), "{task}");
    }
}

#[tokio::test]
async fn what_is_rejected_for_good_has_failed_for_what_follows() {
    let sides = Sides::told(&Told::default()).await;
    let (id, errback_id) = ("a-rejected-one", "its-errback");
    let errback = signature("options.plain", ()).set("task_id", errback_id);
    let told = SendOptions {
        task_id: Some(id.to_owned()),
        link_error: vec![errback],
        ..options()
    };
    for side in [&sides.ours, &sides.python] {
        side.send("options.rejects", &json!([]), told.clone()).await;
        side.says(id, " reject requeue=False: for good").await;
        side.says(errback_id, DONE).await;
        side.fleet.holds(0).await;
        let documents = eventually("its document is heard of", PATIENCE, async || {
            let documents = side.seen(errback_id).await.documents;
            (!documents.is_empty()).then_some(documents)
        });
        assert_eq!(documents.await[0]["result"], id);
    }
    // What was stored before that has been heard of as well.
    let seen = sides.same(id).await;
    assert_eq!((states(&seen), seen.left), (vec!["FAILURE"], (0, 0)));
}

#[tokio::test]
async fn what_comes_too_late_does_not_run() {
    let sides = Sides::told(&Told::default()).await;
    let late = SendOptions {
        expires: Some(clock::now() - TimeDelta::seconds(1)),
        ..options()
    };
    let seen = sides
        .agree("plain", json!([1]), late.clone(), "Discarding revoked task")
        .await;
    assert_eq!(states(&seen), ["REVOKED"]);
    let much_later = SendOptions {
        eta: Some(clock::now() + TimeDelta::hours(1)),
        ..late
    };
    sides
        .agree("plain", json!([1]), much_later, "Discarding revoked task")
        .await;
}

#[tokio::test]
async fn a_rate_limit_spaces_the_starts() {
    let sides = Sides::told(&Told::default()).await;
    for side in [&sides.ours, &sides.python] {
        let begun = Instant::now();
        for number in 0..4 {
            let id = format!("limited-{number}");
            let with_id = SendOptions {
                task_id: Some(id),
                ..options()
            };
            side.send("options.rate_limited", &json!([number]), with_id)
                .await;
        }
        // Others pass them by.
        let free = SendOptions {
            task_id: Some("free".to_owned()),
            ..options()
        };
        side.send("options.plain", &json!([0]), free).await;
        side.says("free", DONE).await;
        assert!(
            begun.elapsed() < Duration::from_millis(1500),
            "{}",
            side.worker.log()
        );
        side.says("limited-3", DONE).await;
        assert!(
            begun.elapsed() >= Duration::from_millis(1450),
            "{}",
            side.worker.log()
        );
    }
}

/// A message that comes again, with the result of its first run.
#[tokio::test]
async fn a_task_that_has_succeeded_does_not_run_again() {
    let settings = json!({"worker_deduplicate_successful_tasks": true});
    let sides = Sides::told(&told(&settings, &[])).await;
    sides
        .agree("rejects_once", json!([]), options(), DONE)
        .await;
    let id = "twice";
    for side in [&sides.ours, &sides.python] {
        let with_id = SendOptions {
            task_id: Some(id.to_owned()),
            ..options()
        };
        side.send("options.late", &json!([1]), with_id).await;
        side.says(id, DONE).await;
        again(side, id).await;
        side.says(id, "Task already completed successfully.").await;
    }
    let seen = sides.same(id).await;
    assert_eq!(states(&seen), ["SUCCESS"]);
}

/// Pushes the message that `options.late` had, marked as delivered before.
async fn again(side: &Side, id: &str) {
    let headers = json!({"lang": "py", "task": "options.late", "id": id, "retries": 0, "timelimit": [null, null],
                         "argsrepr": "(1,)", "kwargsrepr": "{}", "redelivered": true});
    let properties = json!({"correlation_id": id, "reply_to": "", "delivery_mode": 2, "priority": 0,
                            "delivery_info": {"exchange": "", "routing_key": "celery", "redelivered": true},
                            "body_encoding": "utf-8", "delivery_tag": "again"});
    let message = json!({"body": "[[1], {}, {}]", "content-encoding": "utf-8", "content-type": "application/json",
                         "headers": headers, "properties": properties});
    side.fleet
        .run::<()>(&["LPUSH", "celery", &message.to_string()])
        .await;
}

/// Ours alone: with Python a child dies, here the whole worker.
#[tokio::test]
async fn a_task_may_forbid_to_run_again_after_a_death() {
    let Side { fleet, .. } = &Side::ours(&Told::default()).await;
    let result = fleet.send("options.dies_once", Vec::new(), options()).await;
    let _next = fleet.worker("next").await;
    let meta = eventually("its result", PATIENCE, async || {
        result.meta().await.expect("redis runs")
    })
    .await;
    assert_eq!(meta.status, State::Failure);
    assert_eq!(meta.result["exc_type"], "WorkerLostError");
}
