//! Messages in every serializer and compression, both ways; values that JSON has no word for.

use celeriac::protocol::state::State;
use celeriac::protocol::{Accept, Compression, Serializer, tagged::PythonObject};
use celeriac::{App, SendError, SendOptions, Settings};
use celeriac_tests::eventually::eventually;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::{python, python_worker, test_worker};
use celeriac_tests::redis::PrivateRedis;
use serde_json::{Map, json};
use tempfile::TempDir;

#[tokio::test]
async fn python_sends_in_every_serializer_what_json_has_no_word_for() {
    let redis = PrivateRedis::start().await;
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("celeriac.toml");
    std::fs::write(
        file,
        "accept_content = [\"json\", \"application/x-msgpack\", \"yaml\"]\n",
    )
    .expect("a file");
    let _worker = Process::ready(
        directory.path(),
        "worker",
        test_worker(&redis.url(0), &redis.url(1)).current_dir(directory.path()),
    )
    .await;
    let output = python()
        .args([
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "serializers.py",
        ])
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

fn client(redis: &PrivateRedis, serializer: Serializer, compression: Option<Compression>) -> App {
    let settings = Settings {
        broker_url: redis.url(0),
        result_backend: Some(redis.url(1)),
        accept_content: Accept::only(&Serializer::ALL),
        task_serializer: serializer,
        task_compression: compression,
        ..Settings::default()
    };
    App::builder("proj", settings)
        .build()
        .expect("the URLs are right")
}

#[tokio::test]
async fn a_python_worker_runs_what_is_sent_in_any_serializer() {
    let redis = PrivateRedis::start().await;
    let directory = TempDir::new().expect("a directory");
    let worker = Process::ready(
        directory.path(),
        "python",
        &mut python_worker(&redis.url(0), &redis.url(1)),
    )
    .await;
    let bytes = PythonObject::Bytes(vec![0xff, 0].into()).to_value();
    let value = json!([1, -2.5, "größe \u{1f600}", null, true, {"k": [[]]}, "yes", bytes]);
    let mut sent = Vec::new();
    for serializer in Serializer::ALL {
        for compression in [None].into_iter().chain(Compression::ALL.map(Some)) {
            let app = client(&redis, serializer, compression);
            let args = vec![value.clone()];
            let options = SendOptions::default();
            let result = app
                .send_task("proj.python_only", args, Map::new(), options)
                .await;
            sent.push(result.expect("sent"));
        }
    }
    for result in sent {
        let meta = eventually("the result is stored", PATIENCE, async || {
            result.meta().await.expect("redis runs")
        })
        .await;
        assert_eq!((meta.status, &meta.result), (State::Success, &value));
    }
    for word in ["WARNING", "ERROR", "CRITICAL", "Traceback"] {
        assert!(!worker.log().contains(word), "{word} in\n{}", worker.log());
    }
}

#[tokio::test]
async fn what_a_serializer_cannot_write_is_told_to_the_caller() {
    let redis = PrivateRedis::start().await;
    let app = client(&redis, Serializer::Json, None);
    let date = PythonObject::Date("2026-11-23".into()).to_value();
    let send = async |serializer| {
        let options = SendOptions {
            serializer,
            ..SendOptions::default()
        };
        let sent = app.send_task("proj.echo", vec![date.clone()], Map::new(), options);
        sent.await.map(drop)
    };
    let refused = send(Some(Serializer::Msgpack))
        .await
        .expect_err("no form for it");
    assert!(matches!(refused, SendError::Arguments { .. }) && !refused.is_transient());
    let words = "cannot send task proj.echo: its arguments cannot be written: \
                 msgpack cannot write datetime.date(2026, 11, 23)";
    assert_eq!(refused.to_string(), words);
    assert_eq!(waiting(&redis).await, 0);
    send(None).await.expect("JSON has a tag for it");
    send(Some(Serializer::Yaml))
        .await
        .expect("YAML has a form for it");
    assert_eq!(waiting(&redis).await, 2);
}

async fn waiting(redis: &PrivateRedis) -> u64 {
    let mut connection = redis.connect().await;
    let mut length = redis::cmd("LLEN");
    let length = length.arg("celery").query_async(&mut connection);
    length.await.expect("a list")
}
