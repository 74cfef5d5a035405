//! Results both ways: what either language's worker stores, either language's client reads; and the documents are the same.

use std::fs;
use std::process::Command;
use std::time::Duration;

use celeriac::protocol::state::State;
use celeriac::{App, AsyncResult, ResultError, ResultNode, SendOptions, Settings, clock, join};
use celeriac_tests::eventually::eventually;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::{program, python, python_worker_of, test_worker};
use celeriac_tests::redis::PrivateRedis;
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A Redis with one worker, and settings of the results.
struct World {
    redis: PrivateRedis,
    directory: TempDir,
    results: Value,
    _worker: Process,
}

#[derive(Clone, Copy)]
enum Side {
    Rust,
    Python,
}

impl World {
    /// `results` are the settings of both, under Celery's names.
    async fn new(side: Side, results: Value) -> Self {
        let redis = PrivateRedis::start().await;
        let directory = TempDir::new().expect("a directory");
        let (broker, backend) = (redis.url(0), redis.url(1));
        let mut command = match side {
            Side::Rust => test_worker(&broker, &backend),
            Side::Python => python_worker_of("documents", &broker, &backend),
        };
        match side {
            Side::Rust => {
                let toml = format!("task_track_started = true\n{}", toml(&results));
                fs::write(directory.path().join("celeriac.toml"), toml).expect("room");
                command.current_dir(directory.path());
            }
            Side::Python => {
                command.env("RESULTS", results.to_string());
            }
        }
        let worker = Process::ready(directory.path(), "worker", &mut command).await;
        Self {
            redis,
            directory,
            results,
            _worker: worker,
        }
    }

    /// A Python client with the same settings.
    fn python(&self) -> Command {
        let mut command = python();
        command
            .env("CELERY_BROKER_URL", self.redis.url(0))
            .env("CELERY_RESULT_BACKEND", self.redis.url(1))
            .env("RESULTS", self.results.to_string());
        command
    }

    /// A Rust client.
    fn app(&self, prefix: &str) -> App {
        let mut settings = Settings {
            broker_url: self.redis.url(0),
            result_backend: Some(self.redis.url(1)),
            ..Settings::default()
        };
        let options = &mut settings.result_backend_transport_options;
        prefix.clone_into(&mut options.global_keyprefix);
        App::builder("proj", settings)
            .build()
            .expect("the URLs are right")
    }

    /// `celeriac result` of a prefix of its own.
    fn result(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(program("celeriac"));
        command
            .args(["-A", "worker.tasks", "result"])
            .args(words)
            .current_dir(self.directory.path())
            .env("CELERY_BROKER_URL", self.redis.url(0))
            .env("CELERY_RESULT_BACKEND", self.redis.url(1));
        let output = command.output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }
}

fn toml(results: &Value) -> String {
    let settings = results.as_object().expect("an object");
    let line = |(name, value): (&String, &Value)| match value {
        Value::Object(table) => {
            let inner = table
                .iter()
                .map(|(name, value)| format!("{name} = {value}\n"));
            format!("[{name}]\n{}", inner.collect::<String>())
        }
        value => format!("{name} = {value}\n"),
    };
    settings.iter().map(line).collect()
}

/// Extended results under a prefix.
fn extended() -> Value {
    json!({"result_extended": true, "result_backend_transport_options": {"global_keyprefix": "team"}})
}

async fn documents(side: Side, results: &Value) -> String {
    let world = World::new(side, results.clone()).await;
    let output = world.python().arg("documents.py").output();
    let output = output.expect("python runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn our_documents_are_pythons_byte_for_byte() {
    let plain = json!({});
    for results in [plain, extended()] {
        let (ours, theirs) = tokio::join!(
            documents(Side::Rust, &results),
            documents(Side::Python, &results)
        );
        assert!(ours.lines().count() > 40, "{ours}");
        for (ours, theirs) in ours.lines().zip(theirs.lines()) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours, theirs);
    }
}

#[tokio::test]
async fn pythons_client_reads_what_our_worker_stores() {
    let world = World::new(Side::Rust, extended()).await;
    let mut tests = world.python();
    tests.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "results.py"]);
    let output = tests.output().expect("python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

async fn send(app: &App, task: &str, args: Value) -> AsyncResult {
    send_with(app, task, args, SendOptions::default()).await
}

async fn send_with(app: &App, task: &str, args: Value, options: SendOptions) -> AsyncResult {
    let args = args.as_array().expect("a list").clone();
    let sent = app.send_task(task, args, Map::new(), options).await;
    sent.expect("redis runs")
}

#[tokio::test]
async fn our_client_waits_for_what_pythons_worker_stores() {
    let world = World::new(Side::Python, extended()).await;
    let app = world.app("team");
    let mut many = Vec::new();
    for n in 0..200 {
        many.push(send(&app, "proj.add", json!([n, 1])).await);
    }

    let custom = send(&app, "proj.custom", json!([])).await;
    let failed = custom.get::<Value>(PATIENCE).await.unwrap_err();
    let ResultError::Failed {
        exception,
        traceback,
        ..
    } = &failed
    else {
        panic!("{failed:?}");
    };
    assert_eq!(
        (exception.exc_module.as_deref(), &*exception.exc_type),
        (Some("documents"), "ProjError")
    );
    assert_eq!(exception.exc_message, [json!("bad"), json!(7)]);
    let traceback = traceback.as_deref().expect("Python stores one");
    assert!(traceback.contains("raise ProjError"), "{traceback}");

    let retried = send(&app, "proj.flaky", json!([1, 3])).await;
    assert_eq!(retried.get::<u32>(PATIENCE).await.expect("it succeeds"), 1);

    let options = SendOptions {
        expires: Some(clock::now() - Duration::from_secs(1)),
        ..SendOptions::default()
    };
    let expired = send_with(&app, "proj.add", json!([1, 2]), options).await;
    let revoked = expired.get::<Value>(PATIENCE).await.unwrap_err();
    assert!(
        matches!(revoked, ResultError::Revoked { .. }),
        "{revoked:?}"
    );
    assert_eq!(
        revoked.exception().map(|exception| exception.repr()),
        Some("TaskRevokedError('expired')".to_owned())
    );

    let values: Vec<u32> = join(&many, PATIENCE).await.expect("all succeed");
    assert!(values.into_iter().eq(1..=200));
    let meta = many[0].wait(None).await.expect("it is there");
    assert_eq!(
        (&meta.extra["name"], &meta.extra["args"]),
        (&json!("proj.add"), &json!([0, 1]))
    );

    let parent = send(&app, "proj.parent", json!([])).await;
    let child: String = parent.get(PATIENCE).await.expect("it succeeds");
    let children = parent.children().await.expect("redis runs");
    let [ResultNode::Task(only)] = children.as_slice() else {
        panic!("{children:?}");
    };
    assert_eq!(only.id(), child);
    assert_eq!(only.get::<u32>(PATIENCE).await.expect("it succeeds"), 4);
}

#[tokio::test]
async fn what_does_not_come_is_told_by_its_reason() {
    let mut redis = PrivateRedis::start().await;
    let settings = |backend: Option<String>| Settings {
        broker_url: "memory://what-does-not-come".to_owned(),
        result_backend: backend,
        ..Settings::default()
    };
    let app = |backend| App::builder("proj", settings(backend)).build();
    let none = app(None).expect("no URL is wrong").async_result("x");
    let error = none.get::<Value>(PATIENCE).await.unwrap_err();
    assert!(!error.is_transient());
    assert!(
        error
            .to_string()
            .contains("No result backend is configured."),
        "{error}"
    );
    let unknown = app(Some(redis.url(1))).expect("the URL is right");
    let unknown = unknown.async_result("x");
    assert_eq!(unknown.state().await.expect("redis runs"), State::Pending);
    let short = Duration::from_millis(200);
    let error = unknown.get::<Value>(short).await.unwrap_err();
    assert!(matches!(error, ResultError::Timeout { .. }), "{error:?}");
    redis.kill();
    let error = unknown.get::<Value>(short).await.unwrap_err();
    assert!(matches!(error, ResultError::Backend { .. }), "{error:?}");
    assert!(error.is_transient());
    // An outage is waited out.
    let waiting = unknown.get::<u32>(PATIENCE);
    let back = async {
        redis.restart().await;
        let mut connection = redis.connect_to(1).await;
        let document = r#"{"status": "SUCCESS", "result": 7, "task_id": "x"}"#;
        let key = "celery-task-meta-x";
        redis::pipe()
            .cmd("SET")
            .arg(key)
            .arg(document)
            .cmd("PUBLISH")
            .arg(key)
            .arg(document)
            .query_async::<()>(&mut connection)
            .await
            .expect("redis runs");
    };
    let (value, ()) = tokio::join!(waiting, back);
    assert_eq!(value.expect("it comes"), 7);
}

#[tokio::test]
async fn the_command_prints_what_pythons_prints() {
    let world = World::new(Side::Python, json!({})).await;
    let app = world.app("");
    let echo = send(&app, "proj.python_only", json!([{"a": [1, null, "ü"]}])).await;
    let failed = send(&app, "proj.boom", json!(["ValueError", "bang"])).await;
    for result in [&echo, &failed] {
        result.wait(PATIENCE).await.expect("it ends");
    }
    let (code, stdout, _) = world.result(&[echo.id()]);
    assert_eq!((code, &*stdout), (Some(0), "{'a': [1, None, 'ü']}\n"));
    let (code, stdout, _) = world.result(&[echo.id(), "--traceback"]);
    assert_eq!((code, &*stdout), (Some(0), "None\n"));
    let (code, stdout, stderr) = world.result(&[failed.id()]);
    let line = format!(
        "Error: task {} has failed: ValueError('bang')\n",
        failed.id()
    );
    assert_eq!((code, &*stdout, stderr), (Some(1), "", line));
    let (code, stdout, _) = world.result(&[failed.id(), "--traceback"]);
    assert_eq!(code, Some(0));
    assert!(stdout.ends_with("ValueError: bang\n\n"), "{stdout}");
    let (code, stdout, stderr) = world.result(&["nobody-has-sent-it", "--timeout", "0.3"]);
    let line =
        "Error: The operation timed out: task nobody-has-sent-it is not ready after 300ms.\n";
    assert_eq!((code, &*stdout, &*stderr), (Some(124), "", line));
}

/// How many messages wait, and how many are held.
async fn census(redis: &PrivateRedis) -> (usize, usize) {
    let mut connection = redis.connect().await;
    redis::pipe()
        .cmd("LLEN")
        .arg("celery")
        .cmd("HLEN")
        .arg("unacked")
        .query_async(&mut connection)
        .await
        .expect("redis runs")
}

#[tokio::test]
async fn a_message_is_kept_until_its_result_is_stored() {
    let (broker, mut backend) = (PrivateRedis::start().await, PrivateRedis::start().await);
    let directory = TempDir::new().expect("a directory");
    let mut command = test_worker(&broker.url(0), &backend.url(0));
    command.current_dir(directory.path());
    let mut worker = Process::ready(directory.path(), "worker", &mut command).await;
    let settings = Settings {
        broker_url: broker.url(0),
        result_backend: Some(backend.url(0)),
        ..Settings::default()
    };
    let app = App::builder("proj", settings).build();
    let app = app.expect("the URLs are right");

    backend.kill();
    let late = send(&app, "proj.nap_late", json!([0.0])).await;
    let early = send(&app, "proj.add", json!([1, 2])).await;
    worker.says("cannot store the result of ").await;
    // Both slots have something to store, and nothing else is run meanwhile.
    let waiting = send(&app, "proj.nap_late", json!([0.0])).await;
    eventually("they are held", PATIENCE, async || {
        (census(&broker).await == (0, 2)).then_some(())
    })
    .await;
    backend.restart().await;
    for result in [&late, &early, &waiting] {
        let meta = result.wait(PATIENCE).await.expect("it is stored");
        assert_eq!(meta.status, State::Success);
    }
    eventually("all are acknowledged", PATIENCE, async || {
        (census(&broker).await == (0, 0)).then_some(())
    })
    .await;
    let lines = worker.log().matches("cannot store the result of ").count();
    assert!(lines <= 3, "a line in 10 s:\n{}", worker.log());

    // A stop comes to its end without the backend: what is not acknowledged goes back.
    backend.kill();
    send(&app, "proj.nap_late", json!([0.0])).await;
    send(&app, "proj.add", json!([1, 2])).await;
    worker.says("Task proj.nap_late").await;
    eventually("the late one is held", PATIENCE, async || {
        (census(&broker).await == (0, 1)).then_some(())
    })
    .await;
    worker.signal(Signal::TERM);
    assert!(worker.ends().await.success());
    assert_eq!(census(&broker).await, (1, 0));
    assert!(worker.log().contains("has run, but its result is lost"));
}
