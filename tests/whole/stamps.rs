//! Revoking by stamps: our worker and Python's are told the same, and say and do the same.

use celeriac_tests::control::{ask, celery};
use celeriac_tests::eventually::eventually;
use celeriac_tests::fleet::{Fleet, times};
use celeriac_tests::process::PATIENCE;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::control::{ask_both, both};

/// What both workers are told, and what each of them answers.
fn revocations() -> Vec<(Value, Value)> {
    let ok = |text: &str| json!({"ok": text});
    let error = |text: &str| json!({"error": text});
    vec![
        (
            json!({"headers": {"who": ["waiting"]}, "terminate": true, "signal": "SIGTERM"}),
            ok("headers {'who': ['waiting']} were not terminated"),
        ),
        (
            json!({"headers": {"who": "x", "n": [1, 2.5, true, null, {"k": "it's"}]}, "terminate": false}),
            ok(
                r#"headers {'who': 'x', 'n': [1, 2.5, True, None, {'k': "it's"}]} flagged as revoked, but not terminated"#,
            ),
        ),
        (
            json!({"headers": ["a=1=2", "b=x", "a=y"], "signal": null}),
            ok("headers {'a': 'y', 'b': 'x'} flagged as revoked, but not terminated"),
        ),
        (
            json!({"headers": ["a"]}),
            error("IndexError('list index out of range')"),
        ),
        (
            json!({"headers": [1.5]}),
            error(r#"AttributeError("'float' object has no attribute 'split'")"#),
        ),
        (
            json!({"headers": "a=b"}),
            error(r#"AttributeError("'str' object has no attribute 'items'")"#),
        ),
        (
            json!({"headers": {"a": null}}),
            error(r#"TypeError("'NoneType' object is not iterable")"#),
        ),
        (
            json!({"headers": {"a": "z"}, "signal": "term"}),
            error("TypeError('signal name must be uppercase string.')"),
        ),
        (
            json!({}),
            error(
                r#"TypeError("revoke_by_stamped_headers() missing 1 required positional argument: 'headers'")"#,
            ),
        ),
        (
            json!({"headers": ["who=running", "b=x"], "terminate": true, "signal": "SIGTERM"}),
            ok("headers defaultdict(<class 'set'>, {'who': {'running'}}) revoked"),
        ),
    ]
}

/// One stamped task that runs, one that waits behind it, and one with the same names that nobody revokes.
async fn send_stamped(fleet: &Fleet) {
    let mut calls = Vec::new();
    for queue in ["ours", "theirs"] {
        for (name, stamps) in [
            ("running", json!({"who": "running"})),
            ("untouched", json!({"who": ["other", "more"], "n": "1"})),
            ("waiting", json!({"who": ["more", "waiting"]})),
        ] {
            let options = json!({"queue": queue, "task_id": format!("{queue}-{name}")});
            calls.push(json!(["stamped", "proj.nap", [600], stamps, options]));
        }
    }
    ask(fleet, &calls).await;
}

#[tokio::test]
async fn stamped_tasks_are_revoked_by_their_stamps_as_by_pythons_worker() {
    let fleet = Fleet::new("").await;
    let directory = TempDir::new().expect("a directory");
    let [ours, theirs] = both(&fleet, &directory).await;
    send_stamped(&fleet).await;
    eventually("both workers are busy", PATIENCE * 2, async || {
        let answers = ask_both(&fleet, &["active", "reserved"]).await;
        let counts = answers.iter().flatten();
        let counts = counts.map(|answer| answer.as_array().map_or(0, Vec::len));
        (counts.collect::<Vec<_>>() == [2, 2, 1, 1]).then_some(())
    })
    .await;
    let method = "revoke_by_stamped_headers";
    let (mut calls, expected): (Vec<Value>, Vec<Value>) = revocations()
        .into_iter()
        .map(|(arguments, answer)| (json!(["broadcast", method, arguments, null, 2]), answer))
        .unzip();
    calls.push(json!(["broadcast", "revoked", {}, null, 2]));
    let mut answers = ask(&fleet, &calls).await;
    assert_eq!(
        answers.pop(),
        Some(json!({"ours@host": [], "theirs@host": []})),
        "ids only"
    );
    for ((call, answer), expected) in calls.iter().zip(answers).zip(expected) {
        let both = json!({"ours@host": expected, "theirs@host": expected});
        assert_eq!(answer, both, "{call}");
    }

    let ends = ["running", "waiting", "untouched"];
    let expected = json!([
        ["REVOKED", "TaskRevokedError('terminated')"],
        ["REVOKED", "TaskRevokedError('revoked')"],
        ["PENDING", "None"],
    ]);
    for (queue, worker) in [("ours", &ours), ("theirs", &theirs)] {
        let results = ends.map(|name| json!(["result", format!("{queue}-{name}")]));
        eventually("what has a revoked stamp has ended", PATIENCE, async || {
            (json!(ask(&fleet, &results).await) == expected).then_some(())
        })
        .await;
        let line = format!(
            "Discarding revoked task: proj.nap[{queue}-waiting] (revoked by header: {{'who': 'waiting'}})"
        );
        assert_eq!(times(&worker.log(), &line), 1, "{}", worker.log());
    }
    // What was discarded is acknowledged; the others were before they ran.
    fleet.holds(0).await;

    let command = [
        "control",
        "-j",
        "-t",
        "5",
        "-d",
        "ours@host",
        method,
        "who=cli",
    ];
    let answer = celery(&fleet, &command).await;
    let answer: Value = serde_json::from_str(answer.trim()).expect("JSON");
    let text = "headers {'who': 'cli'} flagged as revoked, but not terminated";
    assert_eq!(answer, json!([{"ours@host": {"ok": text}}]));
}
