//! What only Redis has. Redis is the one of `make up`; each test has a key prefix of its own.

use std::time::Duration;

use celeriac_protocol::state::State;
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use super::*;

fn backend(prefix: &str) -> RedisBackend {
    let url = std::env::var("CELERY_RESULT_BACKEND").expect("`make up` runs");
    backend_at(&url, prefix)
}

fn backend_at(url: &str, prefix: &str) -> RedisBackend {
    let mut settings = Settings::default();
    let options = &mut settings.result_backend_transport_options;
    prefix.clone_into(&mut options.global_keyprefix);
    RedisBackend::new(url, &settings).unwrap()
}

fn prefix() -> String {
    format!("backend-{}", Uuid::new_v4())
}

#[tokio::test]
async fn what_is_of_another_type_is_no_result_and_is_replaced() {
    let prefix = prefix();
    let backend = backend(&prefix);
    let key = format!("{prefix}_celery-task-meta-odd");
    let push = redis::cmd("RPUSH").arg(&key).arg("x").to_owned();
    backend.connection.ask::<()>(&push).await.unwrap();
    let error = backend.get("odd").await.unwrap_err();
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    let stores = ["a", "odd", "b"].map(|id| {
        let (backend, meta) = (&backend, TaskMeta::new(id, State::Success, json!(1)));
        async move { backend.store(&[meta]).await.unwrap() }
    });
    join_all(stores).await;
    for id in ["a", "odd", "b"] {
        assert!(backend.get(id).await.unwrap().is_some(), "{id}");
    }
}

/// Written by hand, or by another serializer: the script cannot tell what state they are in.
#[tokio::test]
async fn of_those_that_are_stored_together_each_is_judged_by_what_was_there() {
    let prefix = prefix();
    let backend = backend(&prefix);
    for (id, state) in [("b", "SUCCESS"), ("c", "STARTED"), ("d", "SUCCESS")] {
        let mut set = redis::cmd("SET");
        set.arg(format!("{prefix}_celery-task-meta-{id}"))
            .arg(format!(
                r#"{{"result": 1, "task_id": "{id}", "status": "{state}"}}"#
            ));
        backend.connection.ask::<()>(&set).await.unwrap();
    }
    let ids = ["a", "b", "c", "d", "e"];
    let metas = ids.map(|id| TaskMeta::new(id, State::Failure, json!(2)));
    backend.store(&metas).await.unwrap();
    let mut stored = Vec::new();
    for id in ids {
        stored.push(backend.get(id).await.unwrap().unwrap().result);
    }
    assert_eq!(stored, [2, 1, 2, 1, 2]);
}

#[tokio::test]
async fn whoever_carries_the_results_of_others_may_be_dropped() {
    let backend = Arc::new(backend(&prefix()));
    for _ in 0..200 {
        let (first, second) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let metas = [&first, &second].map(|id| TaskMeta::new(id, State::Success, json!(1)));
        let dropped = async {
            tokio::select! {
                biased;
                stored = backend.store(&metas[..1]) => stored.unwrap(),
                () = tokio::task::yield_now() => {}
            }
        };
        let ((), stored) = tokio::join!(dropped, backend.store(&metas[1..2]));
        stored.unwrap();
        assert!(backend.get(&second).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn whoever_waits_outlives_connections_that_break() {
    let (prefix, user) = (prefix(), Uuid::new_v4().to_string());
    let everything = backend(&prefix);
    let acl = |words: &[&str]| redis::cmd("ACL").arg(words).to_owned();
    let all = acl(&["SETUSER", &user, "on", "nopass", "~*", "&*", "+@all"]);
    everything.connection.ask::<()>(&all).await.unwrap();
    let url = everything
        .url
        .replace("redis://", &format!("redis://{user}:x@"));
    let waiter = backend_at(&url, &prefix);
    let stores = async {
        let kill = redis::cmd("CLIENT")
            .arg(&["KILL", "USER", &user])
            .to_owned();
        for _ in 0..3 {
            let mut killed = 0;
            while killed == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                killed = everything.connection.ask(&kill).await.unwrap();
            }
        }
        let meta = TaskMeta::new("a", State::Success, json!(1));
        everything.store(&[meta]).await.unwrap();
    };
    let (heard, ()) = tokio::join!(waiter.wait("a"), stores);
    assert_eq!(heard.unwrap().result, json!(1));
    let gone = acl(&["DELUSER", &user]);
    everything.connection.ask::<()>(&gone).await.unwrap();
}

#[tokio::test]
async fn whoever_may_not_listen_is_told_at_once() {
    let (prefix, user) = (prefix(), Uuid::new_v4().to_string());
    let everything = backend(&prefix);
    let acl = |words: &[&str]| redis::cmd("ACL").arg(words).to_owned();
    let deaf = [
        "SETUSER",
        &user,
        "on",
        "nopass",
        "~*",
        "resetchannels",
        "+@all",
    ];
    everything.connection.ask::<()>(&acl(&deaf)).await.unwrap();
    let url = everything
        .url
        .replace("redis://", &format!("redis://{user}:x@"));
    let error = backend_at(&url, &prefix).wait("a").await.unwrap_err();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    let gone = acl(&["DELUSER", &user]);
    everything.connection.ask::<()>(&gone).await.unwrap();
}

#[tokio::test]
async fn what_comes_while_one_subscribes_is_looked_for() {
    let prefix = prefix();
    let backend = Arc::new(backend(&prefix));
    let ids = || (0..20_000).map(|number| number.to_string());
    let waits = join_all(ids().map(|id| {
        let backend = Arc::clone(&backend);
        async move { backend.wait(&id).await.unwrap().result }
    }));
    let all_at_once = redis::Script::new(
        "for number = 0, ARGV[2] - 1 do
           local key, document = ARGV[1] .. number, '{\"status\": \"SUCCESS\", \"result\": 1}'
           redis.call('SET', key, document)
           redis.call('PUBLISH', key, document)
         end",
    );
    let stores = async {
        // Until all are listened for.
        let channel = format!("{prefix}_celery-task-meta-19999");
        let count = redis::cmd("PUBSUB").arg(&["NUMSUB", &channel]).to_owned();
        let mut listening = 0;
        while listening == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let answer: (String, usize) = backend.connection.ask(&count).await.unwrap();
            listening = answer.1;
        }
        let mut call = all_at_once.prepare_invoke();
        call.arg(format!("{prefix}_celery-task-meta-")).arg(20_000);
        backend.connection.ask::<()>(&call).await.unwrap();
    };
    let (heard, ()) = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(waits, stores)
    })
    .await
    .expect("nothing is missed");
    assert_eq!(heard.len(), 20_000);
}

/// Celery's client looks on another connection than it subscribes on, and the server may see the look first.
#[tokio::test]
async fn who_subscribes_just_after_a_result_came_is_told_of_it() {
    let prefix = prefix();
    let backend = backend(&prefix);
    let url = std::env::var("CELERY_RESULT_BACKEND").expect("`make up` runs");
    let client = redis::Client::open(url).unwrap();
    let mut late = client.get_async_pubsub().await.unwrap();
    let mut early = client.get_async_pubsub().await.unwrap();
    let channel = |id: &str| format!("{prefix}_celery-task-meta-{id}");
    early.subscribe(channel("heard")).await.unwrap();
    let metas = [
        TaskMeta::new("late", State::Success, json!(1)),
        TaskMeta::new("heard", State::Success, json!(1)),
        TaskMeta::new("goes on", State::Started, json!(1)),
    ];
    backend.store(&metas).await.unwrap();
    let first = TaskMeta::new("first", State::Success, json!(1));
    backend.store_first(&first).await.unwrap();
    for id in ["late", "heard", "goes on", "first"] {
        late.subscribe(channel(id)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let heard = async |subscribed: redis::aio::PubSub| {
        let heard = subscribed
            .into_on_message()
            .take_until(Box::pin(tokio::time::sleep(Duration::from_millis(1))));
        let channels = heard.map(|message| message.get_channel_name().to_owned());
        channels.collect::<Vec<_>>().await
    };
    assert_eq!(heard(late).await, ["late", "first"].map(channel));
    assert_eq!(heard(early).await, [channel("heard")]);
}

#[tokio::test]
async fn rubbish_on_the_channel_harms_nobody() {
    let prefix = prefix();
    let backend = Arc::new(backend(&prefix));
    let waiting = backend.wait("a");
    let stores = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let channel = format!("{prefix}_celery-task-meta-a");
        for rubbish in ["rubbish", "", r#"{"status": 1}"#] {
            let publish = redis::cmd("PUBLISH").arg(&channel).arg(rubbish).to_owned();
            backend.connection.ask::<()>(&publish).await.unwrap();
        }
        let meta = TaskMeta::new("a", State::Success, json!(1));
        backend.store(&[meta]).await.unwrap();
    };
    let (heard, ()) = tokio::join!(waiting, stores);
    assert_eq!(heard.unwrap().result, json!(1));
}
