//! Our worker and Python's on the same Redis: what either sends, either runs.

use std::time::Duration;

use celeriac::protocol::envelope::Envelope;
use celeriac::protocol::state::State;
use celeriac::{App, Delay, SendOptions, Settings, settings};
use celeriac_tests::eventually::eventually;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::{python, python_worker, test_worker};
use celeriac_tests::redis::PrivateRedis;
use celery::task::TaskResult;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

#[celery::task(name = "worker.tasks.process_file_task")]
fn process_file_task(file_path: String) -> TaskResult<String> {
    Ok(file_path)
}

fn client(redis: &PrivateRedis) -> App {
    let settings = Settings {
        broker_url: redis.url(0),
        result_backend: Some(redis.url(1)),
        ..Settings::default()
    };
    App::builder("proj", settings)
        .task::<process_file_task>()
        .build()
        .expect("the URLs are right")
}

/// The message without what differs from call to call, and from language to language.
fn comparable(raw: &[u8]) -> String {
    let mut envelope = Envelope::parse(raw).expect("an envelope");
    let id = envelope.headers["id"].as_str().expect("an id").to_owned();
    let mut blank = |key: &str| {
        if let Some(value) = envelope.headers.get_mut(key) {
            *value = json!("…");
        }
    };
    blank("origin");
    blank("lang");
    envelope.properties.reply_to = envelope.properties.reply_to.map(|_| "…".to_owned());
    envelope.properties.delivery_tag = envelope.properties.delivery_tag.map(|_| "…".to_owned());
    envelope.to_json().replace(&id, "<id>")
}

async fn pop(redis: &PrivateRedis) -> Vec<u8> {
    let mut connection = redis.connect().await;
    redis::cmd("RPOP")
        .arg("celery")
        .query_async(&mut connection)
        .await
        .expect("a message waits in the queue")
}

async fn bindings(redis: &PrivateRedis) -> [Vec<Vec<u8>>; 2] {
    let mut connection = redis.connect().await;
    let mut found = [Vec::new(), Vec::new()];
    for (members, set) in found.iter_mut().zip(["binding", "binding_permanent"]) {
        *members = redis::cmd("SMEMBERS")
            .arg(format!("_kombu.{set}.celery"))
            .query_async(&mut connection)
            .await
            .expect("a set");
    }
    found
}

#[tokio::test]
async fn delay_writes_what_pythons_delay_writes() {
    let redis = PrivateRedis::start().await;
    let sent = python()
        .args([
            "-c",
            "from proj import *; process_file_task.delay('data/split_1.csv')",
        ])
        .env("CELERY_BROKER_URL", redis.url(0))
        .env("CELERY_RESULT_BACKEND", redis.url(1))
        .status()
        .expect("python runs");
    assert!(sent.success());
    let (theirs, their_bindings) = (pop(&redis).await, bindings(&redis).await);
    let mut connection = redis.connect().await;
    redis::cmd("FLUSHALL")
        .query_async::<()>(&mut connection)
        .await
        .expect("redis runs");

    process_file_task::new("data/split_1.csv".to_owned())
        .delay(&client(&redis))
        .await
        .expect("redis runs");

    assert_eq!(comparable(&pop(&redis).await), comparable(&theirs));
    assert_eq!(bindings(&redis).await, their_bindings);
}

/// Which tasks lie in these queues.
async fn routed(redis: &PrivateRedis, queues: &[&str]) -> Vec<Vec<String>> {
    let mut connection = redis.connect().await;
    let mut found = Vec::new();
    for queue in queues {
        let taken = redis::cmd("LPOP").arg(queue).arg(100).to_owned();
        let taken: Option<Vec<Vec<u8>>> = taken
            .query_async(&mut connection)
            .await
            .expect("redis runs");
        let names = taken.unwrap_or_default().into_iter().map(|raw| {
            let envelope = Envelope::parse(&raw).expect("an envelope");
            envelope.headers["task"]
                .as_str()
                .expect("a name")
                .to_owned()
        });
        found.push(names.collect());
    }
    found
}

#[tokio::test]
async fn task_routes_lead_where_pythons_lead() {
    let redis = PrivateRedis::start().await;
    let queues = ["sums", "feeds", "others", "named", "celery"];
    let names = [
        "proj.add",
        "proj.adder",
        "feed.a",
        "feeds",
        "web.feed.b",
        "web",
        "feed.[x]",
    ];
    let code = format!(
        "from proj import app\n\
         app.conf.task_routes = [{{'proj.add': 'sums', '*.feed.*': {{'queue': 'others'}}, 'feed.?*': 'feeds'}}, {{'we?*': 'others'}}]\n\
         [app.send_task(name) for name in {names:?}]\n\
         app.send_task('proj.add', queue='named')"
    );
    let sent = python()
        .args(["-c", &code])
        .env("CELERY_BROKER_URL", redis.url(0))
        .env("CELERY_RESULT_BACKEND", redis.url(1))
        .status();
    assert!(sent.expect("python runs").success());
    let theirs = routed(&redis, &queues).await;

    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("celeriac.toml");
    let routes = r#"
[[task_routes]]
"proj.add" = "sums"
"*.feed.*" = {queue = "others"}
"feed.?*" = "feeds"
[[task_routes]]
"we?*" = "others"
"#;
    std::fs::write(&file, routes).expect("a file");
    let sources = settings::Sources {
        broker_url: Some(redis.url(0)),
        config: Some(file),
        ..settings::Sources::default()
    };
    let loaded = Settings::load(&sources).expect("the routes are right");
    let app = App::builder("proj", loaded.settings)
        .build()
        .expect("a URL");
    let send = async |name: &str, queue: Option<&str>| {
        let options = SendOptions {
            queue: queue.map(str::to_owned),
            ..SendOptions::default()
        };
        let sent = app.send_task(name, Vec::new(), Map::new(), options).await;
        sent.expect("redis runs");
    };
    for name in names {
        send(name, None).await;
    }
    send("proj.add", Some("named")).await;
    assert_eq!(routed(&redis, &queues).await, theirs);
    assert_eq!(theirs[0], ["proj.add"]);
    assert_eq!(theirs[4].len(), 2, "{theirs:?}");
}

#[tokio::test]
async fn a_signatures_own_options_travel() {
    let redis = PrivateRedis::start().await;
    let options = SendOptions {
        task_id: Some("an-id".to_owned()),
        ..SendOptions::default()
    };
    let signature = process_file_task::new("x".to_owned())
        .with_queue("other")
        .with_time_limit(7);
    signature
        .apply_async(&client(&redis), options)
        .await
        .expect("redis runs");

    let mut connection = redis.connect().await;
    let raw: Vec<u8> = redis::cmd("RPOP")
        .arg("other")
        .query_async(&mut connection)
        .await
        .expect("in its queue");
    let envelope = Envelope::parse(&raw).expect("an envelope");
    assert_eq!(envelope.headers["id"], "an-id");
    assert_eq!(envelope.headers["timelimit"], json!([null, 7]));
}

#[tokio::test]
async fn pythons_calls_run_here_and_get_returns_or_raises() {
    let redis = PrivateRedis::start().await;
    let directory = TempDir::new().expect("a directory");
    let _worker = Process::ready(
        directory.path(),
        "worker",
        test_worker(&redis.url(0), &redis.url(1)).current_dir(directory.path()),
    )
    .await;
    let output = python()
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "calls.py"])
        .env("CELERY_BROKER_URL", redis.url(0))
        .env("CELERY_RESULT_BACKEND", redis.url(1))
        .output()
        .expect("python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[tokio::test]
async fn our_calls_run_in_a_python_worker_without_a_warning() {
    let redis = PrivateRedis::start().await;
    let directory = TempDir::new().expect("a directory");
    let worker = Process::ready(
        directory.path(),
        "python",
        &mut python_worker(&redis.url(0), &redis.url(1)),
    )
    .await;
    let app = client(&redis);
    let by_macro = process_file_task::new("data/split_1.csv".to_owned())
        .delay(&app)
        .await
        .expect("sent");
    let kwargs: Map<String, Value> = [("x".to_owned(), json!(1)), ("y".to_owned(), json!(2))]
        .into_iter()
        .collect();
    let options = SendOptions {
        countdown: Some(Duration::from_millis(500)),
        ..SendOptions::default()
    };
    let by_name = app
        .send_task("proj.add", Vec::new(), kwargs, options)
        .await
        .expect("sent");

    for (result, expected) in [
        (
            by_macro,
            json!({"status": "loaded", "file_path": "data/split_1.csv"}),
        ),
        (by_name, json!(3)),
    ] {
        let meta = eventually("the result is stored", PATIENCE, async || {
            result.meta().await.expect("redis runs")
        })
        .await;
        assert_eq!((meta.status, meta.result), (State::Success, expected));
    }
    for word in ["WARNING", "ERROR", "CRITICAL", "Traceback"] {
        assert!(!worker.log().contains(word), "{word} in\n{}", worker.log());
    }
}
