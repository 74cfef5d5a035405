//! Canvas as a team writes it, with a worker, a broker and results in this process.

#![expect(
    non_local_definitions,
    reason = "the celery crate's macro writes its impl into a const"
)]

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use celeriac::protocol::exception::TaskException;
use celeriac::protocol::state::State;
use celeriac::{
    App, Context, GroupResult, Handler, Invocation, Outcome, ResultError, ResultNode, ResultSet,
    SendError, SendOptions, Settings, Shutdown, TaskSignature, Worker, WorkerOptions, chain, chord,
    clock, group, signature,
};
use celery::task::TaskResult;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

#[celery::task(name = "add")]
fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celery::task(name = "total")]
fn total(values: Vec<i64>) -> TaskResult<i64> {
    Ok(values.into_iter().sum())
}

#[celery::task(name = "boom")]
fn boom(text: String) -> TaskResult<()> {
    let context = Context::current().expect("runs as a task");
    Err(context.raise(TaskException::builtin("ValueError", text)))
}

#[celery::task(name = "identity")]
fn identity(value: Value) -> TaskResult<Value> {
    Ok(value)
}

/// Sends a chord and waits for it.
#[celery::task(name = "parent")]
async fn parent() -> TaskResult<i64> {
    let context = Context::current().expect("runs as a task");
    let sums = chord([add::s((1, 2)), add::s((3, 4))], total::s(()));
    let sent = sums.delay(context.app()).await.expect("memory takes it");
    let refused = sent.get::<i64>(PATIENCE).await.expect_err("it has failed");
    assert!(matches!(refused, ResultError::WouldBlock), "{refused:?}");
    Ok(sent.allow_join().get(PATIENCE).await.expect("it succeeds"))
}

/// Says what it is stamped with.
struct Stamped;

#[async_trait]
impl Handler for Stamped {
    fn name(&self) -> &str {
        "stamped"
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let headers = invocation.context.headers();
        Outcome::Success(json!([headers.stamped_headers, headers.stamps]))
    }
}

/// Is replaced by the sum, and one more.
#[celery::task(name = "replaced")]
fn replaced(x: i64, y: i64) -> TaskResult<i64> {
    let context = Context::current().expect("runs as a task");
    Err(context.replace(chain![add::s((x, y)), add::s((1,))]))
}

fn app(name: &str) -> App {
    let settings = Settings {
        broker_url: format!("memory://{name}"),
        result_backend: Some("cache+memory://".to_owned()),
        ..Settings::default()
    };
    let app = App::builder("test", settings)
        .task::<add>()
        .task::<total>()
        .task::<boom>()
        .task::<identity>()
        .task::<parent>()
        .task::<replaced>()
        .handler(Stamped);
    app.build().expect("the URLs are right")
}

/// Runs a client beside a worker.
async fn with_worker(app: &App, client: impl Future<Output = ()>) {
    let options = WorkerOptions {
        heartbeat: None,
        hostname: "celery@test".to_owned(),
        concurrency: 4,
        queues: vec!["celery".to_owned()],
        time_limit: None,
        soft_time_limit: None,
        succession: celeriac::Succession::default(),
    };
    let shutdown = Shutdown::new();
    let running = Worker::new(app.clone(), options).run(shutdown.clone());
    let client = async {
        client.await;
        shutdown.warm();
    };
    let (ended, ()) = tokio::join!(running, client);
    ended.expect("nothing was in its way");
}

async fn value(app: &App, signature: celeriac::Signature) -> Value {
    let sent = signature.delay(app).await.expect("memory takes it");
    let value = sent.get(PATIENCE).await;
    value.unwrap_or_else(|error| panic!("{signature:?}: {error}"))
}

#[tokio::test]
async fn every_kind_comes_to_its_value() {
    let app = app("every-kind");
    with_worker(&app, async {
        let double = |n: i64| add::s((n, n));
        for (signature, expected) in [
            (signature("add", (1, 2)), json!(3)),
            (signature("add", (1,)).kwargs(json!({"y": 5})), json!(6)),
            (chain![add::s((2, 2)), add::s((4,)), add::s([8])], json!(16)),
            (add::s((2, 2)) | add::s((4,)) | add::si((1, 1)), json!(2)),
            (group((0..4).map(double)), json!([0, 2, 4, 6])),
            (chord((0..4).map(double), total::s(())), json!(12)),
            (
                group((0..4).map(double)) | total::s(()) | add::s((1,)),
                json!(13),
            ),
            (
                add::s((1, 1)) | group([add::s((1,)), add::si((5, 5))]),
                json!([3, 10]),
            ),
            (
                group([
                    add::s((1, 1)) | group([add::s((1,)), add::s((2,))]),
                    double(3),
                ]),
                json!([[3, 4], 6]),
            ),
            (
                chord(
                    [chord([double(1), double(2)], total::s(())), double(3)],
                    total::s(()),
                ),
                json!(12),
            ),
            (chain([double(1)]), json!(2)),
            (group([add::s((2, 2))]).immutable(), json!([4])),
            (signature("replaced", (2, 3)) | add::s((10,)), json!(16)),
            (signature("parent", ()), json!(10)),
            (
                chain![add::s((1, 1)), signature("stamped", ())].stamp(json!({"release": "7"})),
                json!([["release"], {"release": "7"}]),
            ),
            (
                add::s((1, 1)) | add::s((2, 2)).set("immutable", true),
                json!(4),
            ),
        ] {
            assert_eq!(value(&app, signature).await, expected);
        }
        let partial = add::s((2,));
        assert_eq!(value(&app, partial.clone_with((40,))).await, 42);
        let sent = partial.apply_async(&app, (40,), SendOptions::default());
        let sent = sent.await.expect("memory takes it");
        assert_eq!(sent.get::<i64>(PATIENCE).await.expect("a number"), 42);
    })
    .await;
}

#[tokio::test]
async fn what_comes_before_is_the_parent() {
    let app = app("parents");
    with_worker(&app, async {
        let header = group([add::s((1,)), add::s((2,))]);
        let sent = chain![add::s((1, 1)), header, total::s(()), add::s((10,))];
        let sent = sent.delay(&app).await.expect("memory takes it");
        assert_eq!(sent.get::<i64>(PATIENCE).await.expect("a number"), 17);
        let body = sent.parent().expect("the body of the chord");
        assert_eq!(body.get::<i64>(PATIENCE).await.expect("a number"), 7);
        let header = body.parent().and_then(ResultNode::as_group);
        let header = header.expect("the header of the chord");
        assert_eq!(header.join::<i64>(PATIENCE).await.expect("numbers"), [3, 4]);
        let first = header.parent().expect("the first task");
        assert_eq!(first.get::<i64>(PATIENCE).await.expect("a number"), 2);
        let again = app.result_from_tuple(&sent.as_tuple()).expect("a result");
        assert_eq!(again.as_tuple(), sent.as_tuple());
        sent.forget().await.expect("memory does it");
        for gone in [&sent, first] {
            let gone = gone.as_task().expect("a task");
            assert_eq!(gone.state().await.expect("memory tells"), State::Pending);
        }
        assert!(!header.ready().await.expect("memory tells"));
    })
    .await;
}

#[tokio::test]
async fn callbacks_and_errbacks_have_the_ids_that_were_fixed() {
    let app = app("links");
    with_worker(&app, async {
        let mut callback = add::s((100,));
        let called = callback.freeze(&app).expect("there is a task");
        let mut errback = identity::s(());
        let told = errback.freeze(&app).expect("there is a task");
        let mut sum = add::s((1, 1)).link(callback).link_error(errback.clone());
        let fixed = sum.freeze(&app).expect("there is a task");
        let sent = sum.delay(&app).await.expect("memory takes it");
        assert_eq!(sent.id(), fixed.id());
        assert_eq!(called.get::<i64>(PATIENCE).await.expect("a number"), 102);
        assert!(!told.ready().await.expect("memory tells"));
        let failing = boom::s(("bad",)).link_error(errback);
        let failing = failing.delay(&app).await.expect("memory takes it");
        let id: String = told.get(PATIENCE).await.expect("an id");
        assert_eq!(id, failing.id());
        let callback = SendOptions {
            link: vec![identity::s(()).set("task_id", "an-id")],
            ..SendOptions::default()
        };
        let sum = add::s(());
        let sent = sum.apply_async(&app, (1, 2), callback);
        sent.await.expect("memory takes it");
        let called = app.async_result("an-id");
        assert_eq!(called.get::<i64>(PATIENCE).await.expect("a number"), 3);
    })
    .await;
}

/// `ValueError('bad')` of which task
async fn failure(result: &ResultNode) -> (String, String) {
    let failed = result
        .get::<Value>(PATIENCE)
        .await
        .expect_err("it has failed");
    let text = failed.exception().map(TaskException::repr);
    match failed {
        ResultError::Failed { id, .. } | ResultError::Revoked { id, .. } => {
            (id, text.unwrap_or_default())
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_first_failure_is_told() {
    let app = app("failures");
    with_worker(&app, async {
        let sent = chain![boom::s(("bad",)), add::s((1,)), add::s((2,))];
        let sent = sent.delay(&app).await.expect("memory takes it");
        let first = sent.parent().and_then(ResultNode::parent);
        let first = first.expect("three tasks").id().to_owned();
        let bad = (first, "ValueError('bad')".to_owned());
        assert_eq!(failure(&sent).await, bad);

        let header = [add::s((1, 1)), boom::s(("bad",))];
        let sent = chord(header, total::s(())) | add::s((1,));
        let sent = sent.delay(&app).await.expect("memory takes it");
        // As in Celery, the header comes before all of a body that is a chain.
        let header = sent.parent().and_then(ResultNode::as_group);
        let header = header.expect("the header");
        let bad = (header.results()[1].id().to_owned(), bad.1);
        assert_eq!(failure(&sent).await, bad);
        // Whoever only has the id hears of the chord.
        let error = format!("ChordError(\"Dependency {} raised {}\")", bad.0, bad.1);
        let alone = ResultNode::from(app.async_result(sent.id()));
        assert_eq!(failure(&alone).await, (sent.id().to_owned(), error));
        assert!(header.failed().await.expect("memory tells"));
        assert!(!header.successful().await.expect("memory tells"));
        assert!(!header.waiting().await.expect("memory tells"));
        assert_eq!(header.completed_count().await.expect("memory tells"), 1);
    })
    .await;
}

#[tokio::test]
async fn what_follows_a_revoked_task_is_not_waited_for() {
    let app = app("revoked");
    with_worker(&app, async {
        let past = clock::now() - Duration::from_secs(1);
        for next in [add::s((1,)), group([add::s((1,)), add::s((2,))])] {
            let sent = add::s((1, 1)).set("expires", past) | next;
            let sent = sent.delay(&app).await.expect("memory takes it");
            let first = sent.parent().expect("the first").id().to_owned();
            let revoked = (first, "TaskRevokedError('expired')".to_owned());
            assert_eq!(failure(&sent).await, revoked);
        }
    })
    .await;
}

#[tokio::test]
async fn a_group_is_saved_and_restored() {
    let app = app("saved");
    with_worker(&app, async {
        let sent = group([
            add::s((1, 1)),
            add::s((2, 2)) | group([add::s((1,)), add::s((2,))]),
        ]);
        let sent = sent.delay(&app).await.expect("memory takes it");
        let sent = sent.as_group().expect("a group");
        let restore = async || GroupResult::restore(&app, sent.id()).await;
        assert!(restore().await.expect("memory tells").is_none());
        sent.save().await.expect("memory does it");
        let restored = restore().await.expect("memory tells").expect("it is there");
        let values: (i64, Vec<i64>) = ResultNode::from(restored.clone())
            .get(PATIENCE)
            .await
            .expect("a number and a list");
        assert_eq!(values, (2, vec![5, 6]));
        restored.delete().await.expect("memory does it");
        assert!(restore().await.expect("memory tells").is_none());
        restored.forget().await.expect("memory does it");
        assert!(sent.waiting().await.expect("memory tells"));
    })
    .await;
}

#[tokio::test]
async fn a_set_of_results_is_waited_for_together() {
    let app = app("sets");
    let mut set = ResultSet::default();
    assert!(set.ready().await.expect("nothing is asked"));
    assert!(set.join::<i64>(PATIENCE).await.expect("nothing").is_empty());
    set.revoke().await.expect("nothing is asked");
    let one = add::s((1, 2)).delay(&app).await.expect("memory takes it");
    let both = group([add::s((1, 1)), add::s((2, 2))]);
    let both = both.delay(&app).await.expect("memory takes it");
    for result in [&one, &both, &one] {
        set.add(result.clone());
    }
    assert_eq!((set.results().len(), set.tasks().len()), (2, 3));
    assert!(set.waiting().await.expect("memory tells"));
    let early = set.join::<Value>(Duration::from_millis(10)).await;
    assert!(
        matches!(early, Err(ResultError::Timeout { .. })),
        "{early:?}"
    );
    with_worker(&app, async {
        let values: Vec<Value> = set.join(PATIENCE).await.expect("all succeed");
        assert_eq!(values, [json!(3), json!([2, 4])]);
        assert!(set.successful().await.expect("memory tells"));
        assert_eq!(set.completed_count().await.expect("memory tells"), 2);
        let other = ResultSet::new([both.clone(), one.clone()]);
        let strings = other
            .join::<Vec<i64>>(PATIENCE)
            .await
            .expect_err("it has failed");
        assert!(
            matches!(&strings, ResultError::Value { id, .. } if id == one.id()),
            "{strings}"
        );
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_written_is_told_by_whoever_sends_it() {
    let app = app("unwritable");
    let bad = HashMap::from([((1, 2), 3)]);
    for (signature, named) in [
        (signature("add", (1, bad.clone())), "add"),
        (signature("add", 5), "add"),
        (identity::s(()).kwargs(3), "identity"),
        (identity::s(()).stamp(3), "identity"),
        (identity::s(()).clone_with(3), "identity"),
        (identity::s(()).set("queue", bad.clone()), "identity"),
        (
            chain![add::s((1, 1)), identity::s((bad.clone(),))],
            "identity",
        ),
        (
            group([add::s((1, 1)), signature("x", "y")]) | add::s(()),
            "x",
        ),
        (chord([add::s((1, 1))], identity::s(7)), "identity"),
        (add::s((1, 1)).link_error(identity::s(7)), "identity"),
        (
            group([add::s((1, 1))]).kwargs(json!({"x": 1})),
            "celery.group",
        ),
        (chain(Vec::<celeriac::Signature>::new()), "celery.chain"),
    ] {
        let sent = signature.delay(&app).await;
        let Err(SendError::Arguments { task, .. }) = &sent else {
            panic!("{sent:?}");
        };
        assert_eq!(task, named);
        let mut signature = signature;
        assert!(signature.freeze(&app).is_err());
    }
    let sum = add::s(());
    let sent = sum.apply_async(&app, (1, bad), SendOptions::default());
    assert!(matches!(sent.await, Err(SendError::Arguments { .. })));
}

#[tokio::test]
async fn a_call_without_a_result_has_none() {
    let app = app("ignored");
    let none = add::s((1, 1)).set("ignore_result", true);
    let none = none.delay(&app).await.expect("memory takes it");
    assert_eq!(none.get::<Value>(None).await.expect("at once"), Value::Null);
}
