//! kombu's transport options that change the names of keys: what one language sends under them, the other runs.

use std::fs;

use celeriac::settings::BrokerTransportOptions;
use celeriac::{App, SendOptions, Settings};
use celeriac_tests::eventually::eventually;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::{python, python_worker, test_worker};
use celeriac_tests::redis::PrivateRedis;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Sends `proj.add` with priority 4, and says its id.
const PYTHON_SENDS: &str = "from proj import add; print(add.apply_async((1, 2), priority=4).id)";

/// Runs both ways with these options, as kombu's and as ours; a message of priority 4 waits in this list.
async fn both_ways(options: Value, toml: &str, ours: BrokerTransportOptions, list: &str) {
    let redis = PrivateRedis::start().await;
    let urls = [redis.url(0), redis.url(1)];
    let directory = TempDir::new().expect("a directory can be made");
    let text = format!("[broker_transport_options]\n{toml}\n");
    fs::write(directory.path().join("celeriac.toml"), text).expect("it can be written");
    let settings = Settings {
        broker_url: urls[0].clone(),
        result_backend: Some(urls[1].clone()),
        broker_transport_options: ours,
        ..Settings::default()
    };
    let app = App::builder("proj", settings).build();
    let app = app.expect("the URLs are right");
    let options = options.to_string();

    let mut sender = python();
    sender
        .args(["-c", PYTHON_SENDS])
        .env("CELERY_BROKER_URL", &urls[0])
        .env("CELERY_RESULT_BACKEND", &urls[1])
        .env("BROKER_OPTIONS", &options);
    let output = sender.output().expect("Python runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let id = String::from_utf8_lossy(&output.stdout);
    assert_eq!(waiting(&redis, list).await, 1, "Python's message");
    let mut command = test_worker(&urls[0], &urls[1]);
    command.current_dir(directory.path());
    let mut worker = Process::start(directory.path(), "worker", &mut command);
    runs(&redis, id.trim()).await;
    worker.kill();

    let send = SendOptions {
        priority: Some(4),
        ..SendOptions::default()
    };
    let sent = app.send_task("proj.add", vec![json!(1), json!(2)], Map::new(), send);
    let sent = sent.await.expect("redis runs");
    assert_eq!(waiting(&redis, list).await, 1, "our message");
    let mut command = python_worker(&urls[0], &urls[1]);
    command.env("BROKER_OPTIONS", &options);
    let _python = Process::start(directory.path(), "python", &mut command);
    runs(&redis, sent.id()).await;
}

async fn waiting(redis: &PrivateRedis, list: &str) -> usize {
    let mut connection = redis.connect().await;
    let mut command = redis::cmd("LLEN");
    command.arg(list);
    command.query_async(&mut connection).await.expect("it runs")
}

/// Waits until the task's result is stored, and is right.
async fn runs(redis: &PrivateRedis, id: &str) {
    let mut connection = redis.connect_to(1).await;
    let meta = eventually("the task has ended", PATIENCE, async || {
        let mut command = redis::cmd("GET");
        command.arg(format!("celery-task-meta-{id}"));
        let meta: Option<String> = command.query_async(&mut connection).await.ok()?;
        meta
    })
    .await;
    let meta: Value = serde_json::from_str(&meta).expect("a result is JSON");
    assert_eq!(meta["result"], json!(3));
}

#[tokio::test]
async fn priority_steps_are_the_same_lists_for_both() {
    let ours = BrokerTransportOptions {
        priority_steps: vec![0, 2, 5],
        ..BrokerTransportOptions::default()
    };
    let options = json!({"priority_steps": [0, 2, 5]});
    both_ways(
        options,
        "priority_steps = [0, 2, 5]",
        ours,
        "celery\u{6}\u{16}2",
    )
    .await;
}

#[tokio::test]
async fn a_separator_is_the_same_for_both() {
    let ours = BrokerTransportOptions {
        sep: ":".to_owned(),
        ..BrokerTransportOptions::default()
    };
    both_ways(json!({"sep": ":"}), "sep = \":\"", ours, "celery:3").await;
}

#[tokio::test]
async fn a_prefix_stands_before_the_keys_of_both() {
    let ours = BrokerTransportOptions {
        global_keyprefix: "fleet:".to_owned(),
        ..BrokerTransportOptions::default()
    };
    let options = json!({"global_keyprefix": "fleet:"});
    let toml = "global_keyprefix = \"fleet:\"";
    both_ways(options, toml, ours, "fleet:celery\u{6}\u{16}3").await;
}
